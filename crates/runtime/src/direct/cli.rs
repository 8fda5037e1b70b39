//! `wasi:cli`, `wasi:clocks` and `wasi:random` 0.2, for core modules.

use super::interface::{Interface, Links};
use super::memory::{ByteList, Layout, Place, Stored, answer_in_room, guest, handle, maybe};
use crate::host::Host;
use wasmtime::{Caller, Result};
use wasmtime_wasi::cli::WasiCliView as _;
use wasmtime_wasi::clocks::WasiClocksView as _;
use wasmtime_wasi::p2::bindings::cli::environment::Host as _;
use wasmtime_wasi::p2::bindings::cli::exit::Host as _;
use wasmtime_wasi::p2::bindings::cli::stderr::Host as _;
use wasmtime_wasi::p2::bindings::cli::stdin::Host as _;
use wasmtime_wasi::p2::bindings::cli::stdout::Host as _;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock::Host as Monotonic;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::{Datetime, Host as Wall};
use wasmtime_wasi::p2::bindings::random::insecure::Host as _;
use wasmtime_wasi::p2::bindings::random::insecure_seed::Host as _;
use wasmtime_wasi::p2::bindings::random::random::Host as _;
use wasmtime_wasi::random::WasiRandomView as _;

type Guest<'a> = Caller<'a, Host>;

/// What a program finds around it. Standard streams are never terminals.
pub(super) fn add_to_linker(links: &mut Links) -> Result<()> {
    add_environment(&mut Interface::new(links, "wasi:cli/environment"))?;
    let mut exit = Interface::new(links, "wasi:cli/exit");
    exit.plain("exit", |mut caller: Guest<'_>, failed: u32| {
        let status = if maybe(failed)? { Err(()) } else { Ok(()) };
        caller.data_mut().cli().exit(status)
    })?;
    exit.plain("exit-with-code", |mut caller: Guest<'_>, code: u32| {
        caller.data_mut().cli().exit_with_code((code & 0xff) as u8)
    })?;
    Interface::new(links, "wasi:cli/stdin").plain("get-stdin", |mut caller: Guest<'_>| -> Result<u32> {
        Ok(handle(&caller.data_mut().cli().get_stdin()?))
    })?;
    Interface::new(links, "wasi:cli/stdout").plain("get-stdout", |mut caller: Guest<'_>| -> Result<u32> {
        Ok(handle(&caller.data_mut().cli().get_stdout()?))
    })?;
    Interface::new(links, "wasi:cli/stderr").plain("get-stderr", |mut caller: Guest<'_>| -> Result<u32> {
        Ok(handle(&caller.data_mut().cli().get_stderr()?))
    })?;
    for (interface, function) in [
        ("wasi:cli/terminal-stdin", "get-terminal-stdin"),
        ("wasi:cli/terminal-stdout", "get-terminal-stdout"),
        ("wasi:cli/terminal-stderr", "get-terminal-stderr"),
    ] {
        Interface::new(links, interface).plain(function, |mut caller: Guest<'_>, to: u32| {
            guest(&mut caller)?.answer(to, None::<u32>)
        })?;
    }
    add_monotonic(&mut Interface::new(links, "wasi:clocks/monotonic-clock"))?;
    let mut wall = Interface::new(links, "wasi:clocks/wall-clock");
    wall.plain("now", |mut caller: Guest<'_>, to: u32| {
        let guest = guest(&mut caller)?;
        let now = Wall::now(&mut guest.host.clocks())?;
        guest.answer(to, now)
    })?;
    wall.plain("resolution", |mut caller: Guest<'_>, to: u32| {
        let guest = guest(&mut caller)?;
        let resolution = Wall::resolution(&mut guest.host.clocks())?;
        guest.answer(to, resolution)
    })?;
    add_random(links)
}

fn add_environment(environment: &mut Interface<'_>) -> Result<()> {
    environment.in_room("get-environment", |mut caller: Guest<'_>, to: u32, room: i64| {
        answer_in_room(&mut caller, room, to, |guest| guest.host.cli().get_environment())
    })?;
    environment.in_room("get-arguments", |mut caller: Guest<'_>, to: u32, room: i64| {
        answer_in_room(&mut caller, room, to, |guest| guest.host.cli().get_arguments())
    })?;
    environment.in_room("initial-cwd", |mut caller: Guest<'_>, to: u32, room: i64| {
        answer_in_room(&mut caller, room, to, |guest| guest.host.cli().initial_cwd())
    })
}

fn add_monotonic(clock: &mut Interface<'_>) -> Result<()> {
    clock.plain("now", |mut caller: Guest<'_>| {
        Monotonic::now(&mut caller.data_mut().clocks())
    })?;
    clock.plain("resolution", |mut caller: Guest<'_>| {
        Monotonic::resolution(&mut caller.data_mut().clocks())
    })?;
    clock.plain(
        "subscribe-instant",
        |mut caller: Guest<'_>, when: u64| -> Result<u32> {
            Ok(handle(&caller.data_mut().clocks().subscribe_instant(when)?))
        },
    )?;
    clock.plain(
        "subscribe-duration",
        |mut caller: Guest<'_>, nanos: u64| -> Result<u32> {
            Ok(handle(&caller.data_mut().clocks().subscribe_duration(nanos)?))
        },
    )
}

fn add_random(links: &mut Links) -> Result<()> {
    let mut random = Interface::new(links, "wasi:random/random");
    random.in_room(
        "get-random-bytes",
        |mut caller: Guest<'_>, bytes: u64, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                guest.host.random().get_random_bytes(bytes).map(ByteList)
            })
        },
    )?;
    random.plain("get-random-u64", |mut caller: Guest<'_>| {
        caller.data_mut().random().get_random_u64()
    })?;
    let mut insecure = Interface::new(links, "wasi:random/insecure");
    insecure.in_room(
        "get-insecure-random-bytes",
        |mut caller: Guest<'_>, bytes: u64, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                guest.host.random().get_insecure_random_bytes(bytes).map(ByteList)
            })
        },
    )?;
    insecure.plain("get-insecure-random-u64", |mut caller: Guest<'_>| {
        caller.data_mut().random().get_insecure_random_u64()
    })?;
    let mut seed = Interface::new(links, "wasi:random/insecure-seed");
    seed.plain("insecure-seed", |mut caller: Guest<'_>, to: u32| {
        let guest = guest(&mut caller)?;
        let seed = guest.host.random().insecure_seed()?;
        guest.answer(to, seed)
    })
}

impl Stored for Datetime {
    const SIZE: usize = 16;
    const ALIGN: usize = 8;

    fn store(self, layout: &mut Layout, place: Place) {
        (self.seconds, self.nanoseconds).store(layout, place);
    }
}
