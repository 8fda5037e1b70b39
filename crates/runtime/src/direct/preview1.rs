//! What of WASI preview 1 is behind the standard library of most guests that answer HTTP: their environment, output,
//! clocks and randomness. In their components an adapter makes it of WASI 0.2. Files are not here: a guest that asks
//! for them is run as the component that it is.

use super::interface::{Interface, Links};
use super::memory::{Fault, Guest as View, guest};
use super::shape::PREVIEW1;
use crate::host::Host;
use wasmtime::{Caller, Result};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::cli::WasiCliView as _;
use wasmtime_wasi::clocks::WasiClocksView as _;
use wasmtime_wasi::p2::bindings::cli::environment::Host as _;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock::Host as Monotonic;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::{Datetime, Host as Wall};
use wasmtime_wasi::p2::bindings::random::random::Host as _;
use wasmtime_wasi::random::WasiRandomView as _;

type Guest<'a> = Caller<'a, Host>;

/// Error numbers of preview 1 (`typenames.witx`).
const SUCCESS: u32 = 0;
const BAD_DESCRIPTOR: u32 = 8;
const INVALID: u32 = 28;

/// Bytes that are written at a time; guests write the rest with another call.
const WRITE_BYTES_MAX: usize = 64 * 1024;
/// Pieces of one write that are looked at; likewise.
const PIECES_MAX: u32 = 1024;

/// The clocks, by number.
const REALTIME: u32 = 0;
const MONOTONIC: u32 = 1;

/// See the module's documentation.
pub(super) fn add_to_linker(links: &mut Links) -> Result<()> {
    let mut preview1 = Interface::new(links, PREVIEW1);
    preview1.plain(
        "environ_sizes_get",
        |mut caller: Guest<'_>, count: u32, bytes: u32| {
            let mut guest = guest(&mut caller)?;
            let texts = environment(&mut guest)?;
            sizes(&mut guest, &texts, count, bytes)
        },
    )?;
    preview1.plain("environ_get", |mut caller: Guest<'_>, list: u32, texts: u32| {
        let mut guest = guest(&mut caller)?;
        let all = environment(&mut guest)?;
        strings(&mut guest, &all, list, texts)
    })?;
    preview1.plain(
        "args_sizes_get",
        |mut caller: Guest<'_>, count: u32, bytes: u32| {
            let mut guest = guest(&mut caller)?;
            let texts = guest.host.cli().get_arguments()?;
            sizes(&mut guest, &texts, count, bytes)
        },
    )?;
    preview1.plain("args_get", |mut caller: Guest<'_>, list: u32, texts: u32| {
        let mut guest = guest(&mut caller)?;
        let all = guest.host.cli().get_arguments()?;
        strings(&mut guest, &all, list, texts)
    })?;
    preview1.plain(
        "fd_write",
        |mut caller: Guest<'_>, descriptor: u32, pieces: u32, count: u32, to: u32| {
            write(guest(&mut caller)?, descriptor, (pieces, count), to)
        },
    )?;
    preview1.plain("proc_exit", |code: i32| -> Result<()> {
        Err(wasmtime::Error::from(I32Exit(code)))
    })?;
    preview1.plain(
        "clock_time_get",
        |mut caller: Guest<'_>, clock: u32, _precision: u64, to: u32| {
            let mut guest = guest(&mut caller)?;
            let mut clocks = guest.host.clocks();
            let time = match clock {
                REALTIME => nanos(Wall::now(&mut clocks)?),
                MONOTONIC => Monotonic::now(&mut clocks)?,
                _ => return Ok(INVALID),
            };
            guest.write(to, &time.to_le_bytes())?;
            Ok(SUCCESS)
        },
    )?;
    preview1.plain("clock_res_get", |mut caller: Guest<'_>, clock: u32, to: u32| {
        let mut guest = guest(&mut caller)?;
        let mut clocks = guest.host.clocks();
        let resolution = match clock {
            REALTIME => nanos(Wall::resolution(&mut clocks)?),
            MONOTONIC => Monotonic::resolution(&mut clocks)?,
            _ => return Ok(INVALID),
        };
        guest.write(to, &resolution.to_le_bytes())?;
        Ok(SUCCESS)
    })?;
    preview1.plain(
        "random_get",
        |mut caller: Guest<'_>, to: u32, bytes: u32| -> Result<u32> {
            let mut guest = guest(&mut caller)?;
            let random = guest.host.random().get_random_bytes(bytes.into())?;
            guest.write(to, &random)?;
            Ok(SUCCESS)
        },
    )?;
    preview1.plain("sched_yield", || SUCCESS)
}

fn nanos(time: Datetime) -> u64 {
    let seconds = time.seconds.saturating_mul(1_000_000_000);
    seconds.saturating_add(time.nanoseconds.into())
}

fn environment(guest: &mut View<'_>) -> Result<Vec<String>> {
    let all = guest.host.cli().get_environment()?;
    Ok(all
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect())
}

/// How many strings there are, and their bytes, each with a zero at its end.
fn sizes(guest: &mut View<'_>, texts: &[String], count: u32, bytes: u32) -> Result<u32> {
    let sum = texts.iter().map(|text| text.len() + 1).sum();
    for (to, number) in [(count, texts.len()), (bytes, sum)] {
        let number = u32::try_from(number).map_err(|_| Fault::TooMuch)?;
        guest.write(to, &number.to_le_bytes())?;
    }
    Ok(SUCCESS)
}

/// The strings one after the other, and a list of where they are.
fn strings(guest: &mut View<'_>, all: &[String], list: u32, texts: u32) -> Result<u32> {
    let (mut pointer, mut at) = (list, texts);
    for text in all {
        guest.write(pointer, &at.to_le_bytes())?;
        guest.write(at, text.as_bytes())?;
        let length = u32::try_from(text.len()).map_err(|_| Fault::TooMuch)?;
        at = at.checked_add(length).ok_or(Fault::OutOfBounds)?;
        guest.write(at, &[0])?;
        at = at.checked_add(1).ok_or(Fault::OutOfBounds)?;
        pointer = pointer.checked_add(4).ok_or(Fault::OutOfBounds)?;
    }
    Ok(SUCCESS)
}

fn write(mut guest: View<'_>, descriptor: u32, pieces: (u32, u32), to: u32) -> Result<u32> {
    if !matches!(descriptor, 1 | 2) {
        return Ok(BAD_DESCRIPTOR);
    }
    let (at, count) = pieces;
    let mut written = Vec::new();
    for [at, bytes] in guest.words::<2>(at, count.min(PIECES_MAX))? {
        let room = WRITE_BYTES_MAX - written.len();
        let bytes = bytes.min(u32::try_from(room).unwrap_or(u32::MAX));
        written.extend(guest.bytes(at, bytes)?);
    }
    let length = u32::try_from(written.len()).map_err(|_| Fault::TooMuch)?;
    guest.host.print(descriptor == 2, &written);
    guest.write(to, &length.to_le_bytes())?;
    Ok(SUCCESS)
}
