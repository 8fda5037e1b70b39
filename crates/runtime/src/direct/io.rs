//! `wasi:io` 0.2, for core modules: streams, and what a guest waits with.

use super::interface::{Interface, Links};
use super::memory::{
    ByteList, Guest as View, Layout, Place, Stored, answer_in_room, begin, go_on, guest, handle, lent, owned,
    store_case,
};
use crate::host::Host;
use wasmtime::{Caller, Result};
use wasmtime_wasi::p2::bindings::io::error::HostError;
use wasmtime_wasi::p2::bindings::io::poll::{Host as _, HostPollable};
use wasmtime_wasi::p2::bindings::io::streams::{
    Host as _, HostInputStream, HostOutputStream, StreamError as StreamFailure,
};
use wasmtime_wasi::p2::{DynPollable, StreamError};

type Guest<'a> = Caller<'a, Host>;

/// All of `wasi:io`.
pub(super) fn add_to_linker(links: &mut Links) -> Result<()> {
    let mut error = Interface::new(links, "wasi:io/error");
    error.in_room(
        "[method]error.to-debug-string",
        |mut caller: Guest<'_>, error: u32, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                guest.host.table().to_debug_string(lent(error))
            })
        },
    )?;
    error.plain("[resource-drop]error", |mut caller: Guest<'_>, error: u32| {
        HostError::drop(caller.data_mut().table(), owned(error))
    })?;
    add_poll(&mut Interface::new(links, "wasi:io/poll"))?;
    let mut streams = Interface::new(links, "wasi:io/streams");
    add_input(&mut streams)?;
    add_output(&mut streams)?;
    add_splice(&mut streams)
}

/// The error that a guest is told, unless it is one that ends it.
fn told<T>(
    host: &mut Host,
    result: std::result::Result<T, StreamError>,
) -> Result<std::result::Result<T, StreamFailure>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(error) => host.table().convert_stream_error(error).map(Err),
    }
}

/// Answers what may have failed.
fn answer<T: Stored>(guest: View<'_>, to: u32, result: std::result::Result<T, StreamError>) -> Result<()> {
    let result = told(guest.host, result)?;
    guest.answer(to, result)
}

fn add_poll(poll: &mut Interface<'_>) -> Result<()> {
    poll.waiting(
        "[method]pollable.block",
        |mut caller: Guest<'_>, (pollable,): (u32,)| {
            Box::new(async move { caller.data_mut().table().block(lent(pollable)).await })
        },
    )?;
    poll.waiting(
        "[method]pollable.ready",
        |mut caller: Guest<'_>, (pollable,): (u32,)| {
            Box::new(async move {
                let ready = caller.data_mut().table().ready(lent(pollable)).await?;
                Ok::<u32, wasmtime::Error>(ready.into())
            })
        },
    )?;
    poll.plain(
        "[resource-drop]pollable",
        |mut caller: Guest<'_>, pollable: u32| HostPollable::drop(caller.data_mut().table(), owned(pollable)),
    )?;
    poll.waiting_in_room(
        "poll",
        |mut caller: Guest<'_>, (list, pollables, to, room): (u32, u32, u32, i64)| {
            Box::new(async move {
                if room >= 0 {
                    return go_on(&mut caller, room);
                }
                let mut guest = guest(&mut caller)?;
                let pollables = guest.words::<1>(list, pollables)?;
                let pollables = pollables
                    .into_iter()
                    .map(|[pollable]| lent::<DynPollable>(pollable));
                let ready = guest.host.table().poll(pollables.collect()).await?;
                begin(guest, to, ready)
            })
        },
    )
}

fn add_input(streams: &mut Interface<'_>) -> Result<()> {
    streams.in_room(
        "[method]input-stream.read",
        |mut caller: Guest<'_>, stream: u32, bytes: u64, to: u32, room: i64| {
            answer_in_room(&mut caller, room, to, |guest| {
                let read = HostInputStream::read(guest.host.table(), lent(stream), bytes);
                told(guest.host, read.map(ByteList))
            })
        },
    )?;
    streams.waiting_in_room(
        "[method]input-stream.blocking-read",
        |mut caller: Guest<'_>, (stream, bytes, to, room): (u32, u64, u32, i64)| {
            Box::new(async move {
                if room >= 0 {
                    return go_on(&mut caller, room);
                }
                let guest = guest(&mut caller)?;
                let read = guest.host.table().blocking_read(lent(stream), bytes).await;
                let read = told(guest.host, read.map(ByteList))?;
                begin(guest, to, read)
            })
        },
    )?;
    streams.plain(
        "[method]input-stream.skip",
        |mut caller: Guest<'_>, stream: u32, bytes: u64, to: u32| {
            let guest = guest(&mut caller)?;
            let skipped = HostInputStream::skip(guest.host.table(), lent(stream), bytes);
            answer(guest, to, skipped)
        },
    )?;
    streams.waiting(
        "[method]input-stream.blocking-skip",
        |mut caller: Guest<'_>, (stream, bytes, to): (u32, u64, u32)| {
            Box::new(async move {
                let guest = guest(&mut caller)?;
                let skipped = guest.host.table().blocking_skip(lent(stream), bytes).await;
                answer(guest, to, skipped)
            })
        },
    )?;
    streams.plain(
        "[method]input-stream.subscribe",
        |mut caller: Guest<'_>, stream: u32| -> Result<u32> {
            let ready = HostInputStream::subscribe(caller.data_mut().table(), lent(stream))?;
            Ok(handle(&ready))
        },
    )?;
    streams.waiting(
        "[resource-drop]input-stream",
        |mut caller: Guest<'_>, (stream,): (u32,)| {
            Box::new(async move { HostInputStream::drop(caller.data_mut().table(), owned(stream)).await })
        },
    )
}

fn add_output(streams: &mut Interface<'_>) -> Result<()> {
    streams.plain(
        "[method]output-stream.check-write",
        |mut caller: Guest<'_>, stream: u32, to: u32| {
            let guest = guest(&mut caller)?;
            let bytes = guest.host.table().check_write(lent(stream));
            answer(guest, to, bytes)
        },
    )?;
    streams.plain(
        "[method]output-stream.write",
        |mut caller: Guest<'_>, stream: u32, list: u32, bytes: u32, to: u32| {
            let mut guest = guest(&mut caller)?;
            let bytes = guest.bytes(list, bytes)?;
            let written = HostOutputStream::write(guest.host.table(), lent(stream), bytes);
            answer(guest, to, written)
        },
    )?;
    streams.waiting(
        "[method]output-stream.blocking-write-and-flush",
        |mut caller: Guest<'_>, (stream, list, bytes, to): (u32, u32, u32, u32)| {
            Box::new(async move {
                let mut guest = guest(&mut caller)?;
                let bytes = guest.bytes(list, bytes)?;
                let table = guest.host.table();
                let written = table.blocking_write_and_flush(lent(stream), bytes).await;
                answer(guest, to, written)
            })
        },
    )?;
    streams.plain(
        "[method]output-stream.flush",
        |mut caller: Guest<'_>, stream: u32, to: u32| {
            let guest = guest(&mut caller)?;
            let flushed = HostOutputStream::flush(guest.host.table(), lent(stream));
            answer(guest, to, flushed)
        },
    )?;
    streams.waiting(
        "[method]output-stream.blocking-flush",
        |mut caller: Guest<'_>, (stream, to): (u32, u32)| {
            Box::new(async move {
                let guest = guest(&mut caller)?;
                let flushed = guest.host.table().blocking_flush(lent(stream)).await;
                answer(guest, to, flushed)
            })
        },
    )?;
    streams.plain(
        "[method]output-stream.subscribe",
        |mut caller: Guest<'_>, stream: u32| -> Result<u32> {
            let ready = HostOutputStream::subscribe(caller.data_mut().table(), lent(stream))?;
            Ok(handle(&ready))
        },
    )?;
    streams.plain(
        "[method]output-stream.write-zeroes",
        |mut caller: Guest<'_>, stream: u32, bytes: u64, to: u32| {
            let guest = guest(&mut caller)?;
            let written = guest.host.table().write_zeroes(lent(stream), bytes);
            answer(guest, to, written)
        },
    )?;
    streams.waiting(
        "[method]output-stream.blocking-write-zeroes-and-flush",
        |mut caller: Guest<'_>, (stream, bytes, to): (u32, u64, u32)| {
            Box::new(async move {
                let guest = guest(&mut caller)?;
                let table = guest.host.table();
                let written = table.blocking_write_zeroes_and_flush(lent(stream), bytes).await;
                answer(guest, to, written)
            })
        },
    )?;
    streams.waiting(
        "[resource-drop]output-stream",
        |mut caller: Guest<'_>, (stream,): (u32,)| {
            Box::new(async move { HostOutputStream::drop(caller.data_mut().table(), owned(stream)).await })
        },
    )
}

fn add_splice(streams: &mut Interface<'_>) -> Result<()> {
    streams.plain(
        "[method]output-stream.splice",
        |mut caller: Guest<'_>, into: u32, from: u32, bytes: u64, to: u32| {
            let guest = guest(&mut caller)?;
            let table = guest.host.table();
            let spliced = HostOutputStream::splice(table, lent(into), lent(from), bytes);
            answer(guest, to, spliced)
        },
    )?;
    streams.waiting(
        "[method]output-stream.blocking-splice",
        |mut caller: Guest<'_>, (into, from, bytes, to): (u32, u32, u64, u32)| {
            Box::new(async move {
                let guest = guest(&mut caller)?;
                let table = guest.host.table();
                let spliced = table.blocking_splice(lent(into), lent(from), bytes).await;
                answer(guest, to, spliced)
            })
        },
    )
}

impl Stored for StreamFailure {
    const SIZE: usize = 8;
    const ALIGN: usize = 4;

    fn store(self, layout: &mut Layout, place: Place) {
        match self {
            Self::LastOperationFailed(error) => store_case(layout, place, 0, error, Self::ALIGN),
            Self::Closed => store_case(layout, place, 1, (), Self::ALIGN),
        }
    }
}
