//! `poll_oneoff`, and WasmEdge's `epoll_oneoff`, where sockets are among what is waited for.

use super::Guest;
use super::memory::{Errno, Memory, offset};
use super::sockets::Sockets;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// What one call may wait for at most.
const SUBSCRIPTIONS_MAX: u32 = 16_384;
const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: usize = 32;
/// `__wasi_subclockflags_t`: the time is a point in time.
const ABSOLUTE: u16 = 1;
/// `__wasi_eventrwflags_t`: the peer has ended.
const HANGUP: u16 = 1;

/// What a guest waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscription {
    user_data: u64,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Clock { id: u32, time: u64, absolute: bool },
    Read(u32),
    Write(u32),
}

impl Subscription {
    /// Reads all subscriptions of a call.
    pub(crate) fn read_all(memory: &Memory<'_>, at: u32, count: u32) -> Result<Vec<Self>, Errno> {
        if count == 0 || count > SUBSCRIPTIONS_MAX {
            return Err(Errno::INVAL);
        }
        (0..count)
            .map(|index| Self::read(memory, offset(at, index * SUBSCRIPTION_BYTES)?))
            .collect()
    }

    fn read(memory: &Memory<'_>, at: u32) -> Result<Self, Errno> {
        let fd = || memory.u32(offset(at, 16)?);
        let what = match memory.u8(offset(at, 8)?)? {
            0 => What::Clock {
                id: memory.u32(offset(at, 16)?)?,
                time: memory.u64(offset(at, 24)?)?,
                absolute: memory.u16(offset(at, 40)?)? & ABSOLUTE != 0,
            },
            1 => What::Read(fd()?),
            2 => What::Write(fd()?),
            _ => return Err(Errno::INVAL),
        };
        Ok(Self {
            user_data: memory.u64(at)?,
            what,
        })
    }

    /// Whether it is about a socket.
    pub(crate) fn is_of_socket(&self, sockets: &Sockets) -> bool {
        match self.what {
            What::Read(fd) | What::Write(fd) => sockets.owns(fd),
            What::Clock { .. } => false,
        }
    }
}

/// A time that is waited for, or why it cannot be.
type Timer = Result<Pin<Box<Sleep>>, Errno>;

/// All that one call waits for.
pub(crate) struct Wait {
    subscriptions: Vec<Subscription>,
    /// The timers, by the place of their subscriptions.
    timers: Vec<(usize, Timer)>,
}

impl Wait {
    /// Begins to wait.
    pub(crate) fn new(subscriptions: Vec<Subscription>, guest: &mut Guest) -> Self {
        let timers = subscriptions
            .iter()
            .enumerate()
            .filter_map(|(index, subscription)| match subscription.what {
                What::Clock { id, time, absolute } => Some((index, timer(guest, id, time, absolute))),
                _ => None,
            })
            .collect();
        Self {
            subscriptions,
            timers,
        }
    }

    /// The events that have come to pass, once there is one.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        sockets: &mut Sockets,
    ) -> Poll<Vec<[u8; EVENT_BYTES]>> {
        let mut events = Vec::new();
        for subscription in &self.subscriptions {
            let (kind, polled) = match subscription.what {
                What::Clock { .. } => continue,
                What::Read(fd) => (1, poll_file(sockets, fd, |socket| socket.poll_readable(cx))),
                What::Write(fd) => (2, poll_file(sockets, fd, |socket| socket.poll_writable(cx))),
            };
            if let Poll::Ready(result) = polled {
                events.push(event(subscription.user_data, kind, result));
            }
        }
        for (index, timer) in &mut self.timers {
            let fired = match timer {
                Ok(timer) => timer.as_mut().poll(cx).map(Ok),
                Err(error) => Poll::Ready(Err(*error)),
            };
            if let (Poll::Ready(result), Some(subscription)) = (fired, self.subscriptions.get(*index)) {
                events.push(event(subscription.user_data, 0, result.map(|()| (0, false))));
            }
        }
        if events.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(events)
    }
}

/// A file, or an input that has ended, is always ready.
fn poll_file(
    sockets: &mut Sockets,
    fd: u32,
    poll: impl FnOnce(&mut super::sockets::Socket) -> Poll<Result<(u64, bool), Errno>>,
) -> Poll<Result<(u64, bool), Errno>> {
    if !sockets.owns(fd) {
        return Poll::Ready(Ok((1, false)));
    }
    match sockets.get(fd) {
        // A socket that is not connected hangs up, as in Linux; an error would end a guest's whole event loop.
        Ok(socket) => match poll(socket) {
            Poll::Ready(Err(_)) => Poll::Ready(Ok((0, true))),
            other => other,
        },
        Err(error) => Poll::Ready(Err(error)),
    }
}

fn timer(guest: &mut Guest, id: u32, time: u64, absolute: bool) -> Timer {
    let wait = if absolute {
        time.saturating_sub(guest.clock(id)?)
    } else {
        time
    };
    // A time beyond the end of all times is not waited for any longer than this.
    let wait = Duration::from_nanos(wait).min(Duration::from_secs(365 * 24 * 3600));
    Ok(Box::pin(sleep_until(Instant::now() + wait)))
}

/// An event in its binary form.
fn event(user_data: u64, kind: u8, result: Result<(u64, bool), Errno>) -> [u8; EVENT_BYTES] {
    let (errno, bytes, flags) = match result {
        Ok((bytes, hangup)) => (0, bytes, if hangup { HANGUP } else { 0 }),
        Err(error) => (error.0, 0, 0),
    };
    let mut event = [0; EVENT_BYTES];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(place) = event.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    };
    put(0, &user_data.to_le_bytes());
    put(8, &errno.to_le_bytes());
    put(10, &[kind]);
    put(16, &bytes.to_le_bytes());
    put(24, &flags.to_le_bytes());
    event
}

/// Writes events one after the other; returns how many there are.
pub(crate) fn write(memory: &mut Memory<'_>, at: u32, events: &[[u8; EVENT_BYTES]]) -> Result<u32, Errno> {
    let mut at = at;
    for event in events {
        memory.put(at, event)?;
        at = offset(at, 32)?;
    }
    u32::try_from(events.len()).map_err(|_| Errno::INVAL)
}
