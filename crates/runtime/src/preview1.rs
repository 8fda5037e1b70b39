//! WASI preview 1 for core modules: wasmtime's own, with the sockets of WasmEdge beside it.
//!
//! Files, clocks and the rest are wasmtime's. Numbers from [`sockets::FIRST_FD`] on are sockets, which live here; a
//! function that takes a number looks whose it is. A listening socket that the guest expects to be started with (as
//! servers of plain WASI do) has the number 3 and lies over the first folder, which is there for that alone.

use crate::engine::WasmEngine;
use crate::files::Files;
use crate::host::Limiter;
use crate::host::output::Output;
use crate::network::Network;
use kittiwake_core::log::{LogStream, RevisionLog};
use kittiwake_core::revision::RevisionSpec;
use std::sync::Arc;
use std::task::{Context, Poll};
use wasmtime::{Caller, Engine, Extern, Linker, Store, UpdateDeadline};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as wasi, WasiSnapshotPreview1 as _};
use wasmtime_wasi::p1::{WasiP1Ctx, types};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiView as _};
use wiggle::GuestMemory;

mod address;
mod calls;
#[cfg(test)]
mod hostile;
mod memory;
mod names;
mod poll;
mod sockets;

pub(crate) use calls::Call;
use calls::{Arguments, NONBLOCK, Scene};
use memory::{Errno, Memory};
use poll::{Subscription, Wait};
use sockets::Sockets;

/// The module that all of it is imported from.
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";
/// The number of the listening socket that a server of plain WASI is started with.
const LISTENER_FD: u32 = 3;
/// Files that may be open at a time, folders included: their numbers stay below those of sockets.
const FILES_MAX: usize = 480;
/// Bytes that a guest may hand over in one call to the host, which copies them first.
const HOST_CALL_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Random bytes that a guest may ask for at a time.
const RANDOM_BYTES_MAX: u64 = 1024 * 1024;

/// The state of one instance of a module.
pub(crate) struct Guest {
    wasi: WasiP1Ctx,
    pub sockets: Sockets,
    log: Arc<RevisionLog>,
    /// Counts what the instance allocates.
    pub limiter: Limiter,
    /// Goes with the instance.
    _files: Files,
}

/// What a program is started with.
pub(crate) struct Program {
    /// Its name, then its arguments.
    pub arguments: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Whether it expects a listening socket.
    pub expects_listener: bool,
}

/// What an instance reads and writes besides sockets and files.
pub(crate) enum Streams {
    /// Nothing to read; what it writes goes to the log.
    Log,
    /// What this sets; what it says on its error stream goes to the log.
    Given(Box<dyn FnOnce(&mut WasiCtxBuilder) + Send>),
}

impl Guest {
    /// The state of a fresh instance with its network. `listener` says that it expects a listening socket.
    pub(crate) fn new(
        revision: &RevisionSpec,
        program: &Program,
        streams: Streams,
        network: Arc<Network>,
        files: Files,
        log: &Arc<RevisionLog>,
    ) -> wasmtime::Result<Self> {
        let mut builder = WasiCtx::builder();
        builder
            .args(&program.arguments)
            .envs(&program.env)
            .stderr(Output::new(log, LogStream::Stderr))
            .max_random_size(RANDOM_BYTES_MAX);
        let names_folder = program.env.iter().any(|(name, _)| name == "PWD");
        if let Some(folder) = revision.working_dir.as_ref().filter(|_| !names_folder) {
            // There is no other way to say it in preview 1; runc and crun set it as well.
            builder.env("PWD", folder);
        }
        match streams {
            Streams::Log => {
                builder.stdout(Output::new(log, LogStream::Stdout));
            }
            Streams::Given(set) => set(&mut builder),
        }
        if program.expects_listener {
            files.cover(&mut builder)?;
            // What systemd's way of handing over sockets says (sd_listen_fds), and wasmtime's.
            builder.env("LISTEN_FDS", "1");
        }
        files.open(&mut builder)?;
        let mut wasi = builder.build_p1();
        wasi.ctx().table.set_max_capacity(FILES_MAX);
        let mut sockets = Sockets::new(network, revision.outbound.clone());
        if program.expects_listener {
            let made = sockets.preopen_listener(LISTENER_FD, revision.port);
            made.map_err(|_| wasmtime::Error::msg("the listening socket cannot be made"))?;
        }
        Ok(Self {
            wasi,
            sockets,
            log: Arc::clone(log),
            limiter: Limiter::new(revision.limits.memory),
            _files: files,
        })
    }

    /// The store of a fresh instance, held to all its limits and made to yield at every tick.
    pub(crate) fn into_store(self, engine: &Engine) -> Store<Self> {
        let mut store = Store::new(engine, self);
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(HOST_CALL_BYTES_MAX);
        WasmEngine::begin_turn(&mut store);
        // See `Host::into_store`.
        store.epoch_deadline_callback(|_| {
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store
    }

    /// The time of one of the guest's clocks, in nanoseconds.
    fn clock(&mut self, id: u32) -> Result<u64, Errno> {
        let id = types::Clockid::try_from(id).map_err(|_| Errno::INVAL)?;
        let memory = &mut GuestMemory::Unshared(&mut []);
        self.wasi.clock_time_get(memory, id, 0).map_err(|_| Errno::NOTSUP)
    }
}

/// Everything that modules may import, but for what depends on the module: see [`link_sockets`].
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |guest: &mut Guest| &mut guest.wasi)?;
    wasmtime_wasi::p0::add_to_linker_async(&mut linker, |guest: &mut Guest| &mut guest.wasi)?;
    Ok(linker)
}

/// Adds the socket functions that a module imports, in the versions that it means, and lets the others know of sockets.
pub(crate) fn link_sockets(linker: &mut Linker<Guest>, module: &wasmtime::Module) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    for import in module.imports() {
        let wasmtime::ExternType::Func(kind) = import.ty() else {
            continue;
        };
        if import.module() != MODULE {
            continue;
        }
        let Some(call) = Call::find(import.name(), kind.params().len()) else {
            continue;
        };
        linker.func_new_async(MODULE, import.name(), kind, move |mut caller, params, results| {
            let mut arguments = Arguments::default();
            for (place, param) in arguments.0.iter_mut().zip(params.iter()) {
                *place = param.i32().unwrap_or_default().cast_unsigned();
            }
            Box::new(async move {
                let outcome = run(call, &arguments, &mut caller).await?;
                if let Some(result) = results.first_mut() {
                    *result = wasmtime::Val::I32(i32::from(errno_of(outcome)));
                }
                Ok(())
            })
        })?;
    }
    link_files(linker)?;
    for name in ["poll_oneoff", "epoll_oneoff"] {
        linker.func_wrap_async(
            MODULE,
            name,
            |mut caller: Caller<'_, Guest>, (subscriptions, events, count, out): (i32, i32, i32, i32)| {
                Box::new(async move { poll_oneoff(&mut caller, subscriptions, events, count, out).await })
            },
        )?;
    }
    Ok(())
}

fn errno_of(outcome: Result<(), Errno>) -> u16 {
    outcome.err().map_or(0, |error| error.0)
}

/// The guest's memory and its state.
fn parts<'a>(caller: &'a mut Caller<'_, Guest>) -> wasmtime::Result<(&'a mut [u8], &'a mut Guest)> {
    match caller.get_export("memory") {
        Some(Extern::Memory(memory)) => Ok(memory.data_and_store_mut(caller)),
        _ => Err(wasmtime::Error::msg("the module exports no memory")),
    }
}

/// Lets a socket function go on until it is done.
async fn run(
    call: Call,
    arguments: &Arguments,
    caller: &mut Caller<'_, Guest>,
) -> wasmtime::Result<Result<(), Errno>> {
    let limit = call.time_limit(&mut caller.data_mut().sockets, arguments);
    let poll = |cx: &mut Context<'_>| {
        let (memory, guest) = match parts(caller) {
            Ok(parts) => parts,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let mut scene = Scene {
            memory: Memory(memory),
            sockets: &mut guest.sockets,
            log: &guest.log,
        };
        calls::poll(call, arguments, &mut scene, cx).map(Ok)
    };
    let done = std::future::poll_fn(poll);
    match limit {
        None => done.await,
        Some(limit) => match tokio::time::timeout(limit, done).await {
            Ok(done) => done,
            Err(_) => Ok(Err(Errno::AGAIN)),
        },
    }
}

/// A function of wasmtime's, with what it works on.
macro_rules! wasmtimes {
    ($caller:expr, $function:ident, $($argument:expr),+) => {{
        let fuel = wasmtime::AsContextMut::as_context_mut($caller).hostcall_fuel();
        let (memory, guest) = parts($caller)?;
        guest.wasi.set_hostcall_fuel(fuel);
        wasi::$function(&mut guest.wasi, &mut GuestMemory::Unshared(memory), $($argument),+).await
    }};
}

/// Lets the functions that take a file's number take a socket's as well.
fn link_files(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "fd_close",
        |mut caller: Caller<'_, Guest>, (fd,): (i32,)| {
            Box::new(async move {
                let sockets = &mut caller.data_mut().sockets;
                if sockets.owns(fd.cast_unsigned()) {
                    return Ok(i32::from(errno_of(sockets.close(fd.cast_unsigned()))));
                }
                wasmtimes!(&mut caller, fd_close, fd)
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_read",
        |mut caller: Caller<'_, Guest>, (fd, iovs, count, out): (i32, i32, i32, i32)| {
            Box::new(async move {
                if caller.data().sockets.owns(fd.cast_unsigned()) {
                    return transfer(Call::Read, &mut caller, [fd, iovs, count, out]).await;
                }
                wasmtimes!(&mut caller, fd_read, fd, iovs, count, out)
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_write",
        |mut caller: Caller<'_, Guest>, (fd, iovs, count, out): (i32, i32, i32, i32)| {
            Box::new(async move {
                if caller.data().sockets.owns(fd.cast_unsigned()) {
                    return transfer(Call::Send, &mut caller, [fd, iovs, count, out]).await;
                }
                wasmtimes!(&mut caller, fd_write, fd, iovs, count, out)
            })
        },
    )?;
    type About = fn(&mut Memory<'_>, &mut Sockets, u32, u32) -> Result<(), Errno>;
    linker.func_wrap_async(
        MODULE,
        "fd_fdstat_get",
        |mut caller: Caller<'_, Guest>, (fd, out): (i32, i32)| {
            Box::new(async move {
                if caller.data().sockets.owns(fd.cast_unsigned()) {
                    let about: About = tell_state;
                    return about_socket(&mut caller, about, fd, out);
                }
                wasmtimes!(&mut caller, fd_fdstat_get, fd, out)
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_filestat_get",
        |mut caller: Caller<'_, Guest>, (fd, out): (i32, i32)| {
            Box::new(async move {
                if caller.data().sockets.owns(fd.cast_unsigned()) {
                    return about_socket(&mut caller, tell_file_state, fd, out);
                }
                wasmtimes!(&mut caller, fd_filestat_get, fd, out)
            })
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_fdstat_set_flags",
        |mut caller: Caller<'_, Guest>, fd: i32, flags: i32| -> wasmtime::Result<i32> {
            if caller.data().sockets.owns(fd.cast_unsigned()) {
                return about_socket(&mut caller, set_flags, fd, flags);
            }
            let (memory, guest) = parts(&mut caller)?;
            wasi::fd_fdstat_set_flags(&mut guest.wasi, &mut GuestMemory::Unshared(memory), fd, flags)
        },
    )?;
    linker.func_wrap(
        MODULE,
        "fd_prestat_get",
        |mut caller: Caller<'_, Guest>, fd: i32, out: i32| -> wasmtime::Result<i32> {
            if caller.data().sockets.is_preopened(fd.cast_unsigned()) {
                return about_socket(&mut caller, tell_preopened, fd, out);
            }
            let (memory, guest) = parts(&mut caller)?;
            wasi::fd_prestat_get(&mut guest.wasi, &mut GuestMemory::Unshared(memory), fd, out)
        },
    )?;
    Ok(())
}

fn about_socket(
    caller: &mut Caller<'_, Guest>,
    about: impl FnOnce(&mut Memory<'_>, &mut Sockets, u32, u32) -> Result<(), Errno>,
    fd: i32,
    argument: i32,
) -> wasmtime::Result<i32> {
    let (memory, guest) = parts(caller)?;
    let outcome = about(
        &mut Memory(memory),
        &mut guest.sockets,
        fd.cast_unsigned(),
        argument.cast_unsigned(),
    );
    Ok(i32::from(errno_of(outcome)))
}

/// `fd_read` and `fd_write` of a socket.
async fn transfer(
    call: Call,
    caller: &mut Caller<'_, Guest>,
    [fd, iovs, count, out]: [i32; 4],
) -> wasmtime::Result<i32> {
    let [fd, iovs, count, out] = [fd, iovs, count, out].map(i32::cast_unsigned);
    let arguments = Arguments([fd, iovs, count, 0, out, 0, 0, 0]);
    Ok(i32::from(errno_of(run(call, &arguments, caller).await?)))
}

const STREAM_TYPE: u8 = 6;
const DATAGRAM_TYPE: u8 = 5;

/// `__wasi_fdstat_t`: type, flags, and rights, which nobody looks at any more.
fn tell_state(memory: &mut Memory<'_>, sockets: &mut Sockets, fd: u32, out: u32) -> Result<(), Errno> {
    let socket = sockets.get(fd)?;
    let mut state = [0; 24];
    state[0] = if socket.is_stream {
        STREAM_TYPE
    } else {
        DATAGRAM_TYPE
    };
    state[2] = if socket.nonblocking { NONBLOCK as u8 } else { 0 };
    state[8..].fill(0xff);
    memory.put(out, &state)
}

/// `__wasi_filestat_t`, of which only the type means anything.
fn tell_file_state(memory: &mut Memory<'_>, sockets: &mut Sockets, fd: u32, out: u32) -> Result<(), Errno> {
    let mut state = [0; 64];
    state[16] = if sockets.get(fd)?.is_stream {
        STREAM_TYPE
    } else {
        DATAGRAM_TYPE
    };
    memory.put(out, &state)
}

fn set_flags(_: &mut Memory<'_>, sockets: &mut Sockets, fd: u32, flags: u32) -> Result<(), Errno> {
    sockets.get(fd)?.nonblocking = flags & u32::from(NONBLOCK) != 0;
    Ok(())
}

/// `__wasi_prestat_t` of something that is no folder: who looks for folders goes on to the next.
fn tell_preopened(memory: &mut Memory<'_>, _: &mut Sockets, _: u32, out: u32) -> Result<(), Errno> {
    memory.put(out, &[1, 0, 0, 0, 0, 0, 0, 0])
}

async fn poll_oneoff(
    caller: &mut Caller<'_, Guest>,
    at: i32,
    events_at: i32,
    count: i32,
    out: i32,
) -> wasmtime::Result<i32> {
    let (memory, guest) = parts(caller)?;
    let read = Subscription::read_all(&Memory(memory), at.cast_unsigned(), count.cast_unsigned());
    let subscriptions = match read {
        Ok(subscriptions) => subscriptions,
        Err(error) => return Ok(i32::from(error.0)),
    };
    if !subscriptions.iter().any(|one| one.is_of_socket(&guest.sockets)) {
        return wasmtimes!(caller, poll_oneoff, at, events_at, count, out);
    }
    let mut wait = Wait::new(subscriptions, guest);
    let events = std::future::poll_fn(|cx| wait.poll(cx, &mut caller.data_mut().sockets)).await;
    let (memory, _) = parts(caller)?;
    let mut memory = Memory(memory);
    let written = poll::write(&mut memory, events_at.cast_unsigned(), &events)
        .and_then(|count| memory.put_u32(out.cast_unsigned(), count));
    Ok(i32::from(errno_of(written)))
}
