//! Calls that another process of this platform answers, because `max-scale` leaves this one no instance of their
//! revision: passed on once, to a process that may have one, and answered there as if they had come in there.
//!
//! ```text
//! client → gateway (route, headers, records) → send ──Unix socket──▶ door → answer (activator → instance)
//! ```
//! The process that the client is connected to does all that is done once for each call: it routes, sets headers, counts
//! and logs, carries what was upgraded. The one with the instance holds the call to the revision's limits and tells the
//! autoscaler of it. Between them a call is an HTTP/2 request on a connection that all calls share, or an HTTP/1.1
//! request on one of its own where it asks for another protocol; [`wire`] has what they say beside it.
//!
//! Architecture invariant: a call that was passed on is never passed on again. Whoever may have no instance refuses it.

mod answer;
mod door;
mod peer;
mod send;
mod wire;

pub(crate) use door::serve;

use peer::Peer;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;

/// The other processes that answer calls on the same port.
#[derive(Debug)]
pub struct Neighbours {
    /// Where this process takes calls that others pass on. Someone else keeps it open too, so that calls wait in it while
    /// this process is replaced.
    pub door: UnixListener,
    /// The doors of all, this one's too, by their index. Only those who are trusted with any call may open them.
    pub doors: Vec<PathBuf>,
}

/// The way to the others.
pub(crate) struct Relay {
    peers: Vec<Peer>,
    /// Counts calls, so that they spread over several owners.
    turn: AtomicUsize,
}

/// Makes the way to the others, and opens the door. Must be called within a tokio runtime.
pub(crate) fn join(neighbours: Neighbours) -> io::Result<(Relay, tokio::net::UnixListener)> {
    let Neighbours { door, doors } = neighbours;
    door.set_nonblocking(true)?;
    let relay = Relay {
        peers: doors.into_iter().map(Peer::new).collect(),
        turn: AtomicUsize::new(0),
    };
    Ok((relay, tokio::net::UnixListener::from_std(door)?))
}
