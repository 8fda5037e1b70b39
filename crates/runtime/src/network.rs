//! The network of one resident instance, with all of its containers: ports that it listens on and connections to them, in
//! memory. Nothing of it is known to the kernel, so any number of instances can listen on the same port.

use kittiwake_core::outbound::Outbound;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::{Notify, watch};

mod names;
pub(crate) mod outgoing;
pub(crate) mod pipe;
mod reach;

pub(crate) use names::{ResolveError, resolve};
use pipe::End;
pub(crate) use reach::{Reach, may_resolve};

/// Connections that wait to be accepted at one port, whatever the guest asks for.
const BACKLOG_MAX: usize = 1024;
/// Ports that one instance listens on at a time.
const LISTENERS_MAX: usize = 64;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Network {
    ports: Mutex<Ports>,
    changes: watch::Sender<()>,
    /// See [`Network::of_several`].
    several: bool,
}

#[derive(Debug, Default)]
struct Ports {
    listeners: BTreeMap<u16, Arc<Listener>>,
    /// Those that a socket is bound to, whether it listens or not.
    bound: BTreeSet<u16>,
    /// Some port was listened on.
    listened: bool,
    /// Set once the guest has ended: nobody will ever listen again.
    closed: bool,
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Nothing listens on the port.
    #[error("connection refused: nothing listens on the port")]
    NotListening,
    /// The instance has ended.
    #[error("connection refused: the instance has ended")]
    Ended,
}

/// Why a port cannot be listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenError {
    /// Another socket of the instance has it.
    InUse,
    /// The instance listens on as many as it may.
    TooMany,
}

impl Ports {
    /// Whether a port belongs to no socket.
    fn is_free(&self, port: u16) -> bool {
        !self.listeners.contains_key(&port) && !self.bound.contains(&port)
    }

    /// The port, if it is free; for 0 any that is, from the range that the kernel would take it from.
    fn choose(&self, port: u16) -> Result<u16, ListenError> {
        const EPHEMERAL: std::ops::RangeInclusive<u16> = 32_768..=60_999;
        match port {
            0 => {
                let mut free = EPHEMERAL.filter(|port| self.is_free(*port));
                free.next().ok_or(ListenError::TooMany)
            }
            port if self.is_free(port) => Ok(port),
            _ => Err(ListenError::InUse),
        }
    }
}

impl Network {
    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// That of an instance with several containers: on loopback each of them means the others, so nobody who is not there
    /// (yet) is looked for on the machine itself, unless the template allows that.
    pub(crate) fn of_several() -> Self {
        Self {
            several: true,
            ..Self::default()
        }
    }

    /// Whether a connection to a loopback address, where nothing listens, is refused as it would be in a pod: it is meant
    /// for another container, which may be there in a moment.
    pub(crate) fn refuses(&self, peer: SocketAddr, allowed: &Outbound) -> bool {
        self.several && peer.ip().is_loopback() && !allowed.allows(peer.ip(), peer.port(), [])
    }

    /// Starts listening on a port; 0 means any that is free.
    pub(crate) fn listen(&self, port: u16, backlog: usize) -> Result<Arc<Listener>, ListenError> {
        let ports = self.ports();
        let port = ports.choose(port)?;
        self.open(ports, port, backlog)
    }

    /// Takes a port for a socket, which may listen on it later; 0 means any that is free.
    pub(crate) fn bind(self: &Arc<Self>, port: u16) -> Result<Port, ListenError> {
        let mut ports = self.ports();
        let number = ports.choose(port)?;
        ports.bound.insert(number);
        Ok(Port {
            network: Arc::clone(self),
            number,
        })
    }

    fn open(
        &self,
        mut ports: MutexGuard<'_, Ports>,
        port: u16,
        backlog: usize,
    ) -> Result<Arc<Listener>, ListenError> {
        if ports.listeners.len() >= LISTENERS_MAX {
            return Err(ListenError::TooMany);
        }
        let listener = Arc::new(Listener {
            port,
            backlog: backlog.clamp(1, BACKLOG_MAX),
            queue: Mutex::default(),
            taken: Notify::new(),
        });
        ports.listeners.insert(port, Arc::clone(&listener));
        ports.listened = true;
        drop(ports);
        self.changes.send_replace(());
        Ok(listener)
    }

    /// Stops listening: connections that were not accepted break.
    pub(crate) fn unlisten(&self, listener: &Arc<Listener>) {
        let mut ports = self.ports();
        if ports
            .listeners
            .get(&listener.port)
            .is_some_and(|found| Arc::ptr_eq(found, listener))
        {
            ports.listeners.remove(&listener.port);
        }
        drop(ports);
        listener.close();
        self.changes.send_replace(());
    }

    /// The guest has ended.
    pub(crate) fn close(&self) {
        let mut ports = self.ports();
        ports.closed = true;
        let listeners = std::mem::take(&mut ports.listeners);
        drop(ports);
        for listener in listeners.into_values() {
            listener.close();
        }
        self.changes.send_replace(());
    }

    /// Whether the guest has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.ports().closed
    }

    /// The ports that are listened on.
    pub(crate) fn listening(&self) -> Vec<u16> {
        self.ports().listeners.keys().copied().collect()
    }

    /// Whether any port was ever listened on.
    pub(crate) fn has_listened(&self) -> bool {
        self.ports().listened
    }

    /// Resolves once a port is listened on; `false` when that can never be.
    pub(crate) async fn until_listening(&self, port: u16) -> bool {
        self.until(|ports| ports.listeners.contains_key(&port)).await
    }

    async fn until(&self, is_met: impl Fn(&Ports) -> bool) -> bool {
        let mut changes = self.changes.subscribe();
        loop {
            {
                let ports = self.ports();
                if is_met(&ports) {
                    return true;
                }
                if ports.closed {
                    return false;
                }
            }
            if changes.changed().await.is_err() {
                return false;
            }
        }
    }

    /// Resolves once as many ports are listened on; `false` when that can never be.
    pub(crate) async fn until_listeners(&self, count: usize) -> bool {
        self.until(|ports| ports.listeners.len() >= count).await
    }

    /// A connection to a port, at once unless its backlog is full.
    pub(crate) async fn connect(&self, port: u16) -> Result<End, Refused> {
        loop {
            let listener = {
                let ports = self.ports();
                match ports.listeners.get(&port) {
                    Some(listener) => Arc::clone(listener),
                    None if ports.closed => return Err(Refused::Ended),
                    None => return Err(Refused::NotListening),
                }
            };
            let taken = listener.taken.notified();
            if let Some(end) = listener.try_connect() {
                return Ok(end);
            }
            taken.await;
        }
    }

    /// A connection to a port where there is room for it right now.
    pub(crate) fn try_connect(&self, port: u16) -> Option<End> {
        let listener = self.ports().listeners.get(&port).map(Arc::clone)?;
        listener.try_connect()
    }
}

/// A port that belongs to one socket. When this is dropped nobody listens on it any more, and it is free again.
#[derive(Debug)]
pub(crate) struct Port {
    network: Arc<Network>,
    /// The port.
    pub number: u16,
}

impl Port {
    /// Starts listening on it.
    pub(crate) fn listen(&self, backlog: usize) -> Result<Arc<Listener>, ListenError> {
        self.network.open(self.network.ports(), self.number, backlog)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let listener = {
            let mut ports = self.network.ports();
            ports.bound.remove(&self.number);
            ports.listeners.get(&self.number).map(Arc::clone)
        };
        if let Some(listener) = listener {
            self.network.unlisten(&listener);
        }
    }
}

/// A port that is listened on.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The port.
    pub port: u16,
    backlog: usize,
    queue: Mutex<Queue>,
    /// Rings when a connection was accepted, and when the port is closed.
    taken: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<End>,
    guest: Option<Waker>,
    closed: bool,
}

impl Listener {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_connect(&self) -> Option<End> {
        let mut queue = self.queue();
        if queue.closed || queue.waiting.len() >= self.backlog {
            return None;
        }
        let (ours, theirs) = pipe::pair();
        queue.waiting.push_back(theirs);
        if let Some(guest) = queue.guest.take() {
            guest.wake();
        }
        Some(ours)
    }

    /// The next connection.
    pub(crate) fn poll_accept(&self, cx: &Context<'_>) -> Poll<End> {
        let mut queue = self.queue();
        match queue.waiting.pop_front() {
            Some(end) => {
                drop(queue);
                self.taken.notify_waiters();
                Poll::Ready(end)
            }
            None => {
                queue.guest = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// How many connections wait, once there are any.
    pub(crate) fn poll_waiting(&self, cx: &Context<'_>) -> Poll<usize> {
        let mut queue = self.queue();
        if queue.waiting.is_empty() {
            queue.guest = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(queue.waiting.len())
    }

    fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        drop(waiting);
        self.taken.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn ports_belong_to_one_socket_and_can_be_chosen() {
        let network = Network::default();
        let one = network.listen(8080, 10).unwrap();
        assert_eq!(network.listen(8080, 10).unwrap_err(), ListenError::InUse);
        assert!(network.listen(0, 10).unwrap().port >= 32_768);
        network.unlisten(&one);
        network.listen(8080, 10).unwrap();
        assert_eq!(network.listening()[0], 8080);
    }

    #[test]
    fn a_bound_port_is_taken_until_its_socket_is_gone() {
        let network = Arc::<Network>::default();
        let bound = network.bind(8080).unwrap();
        assert!(network.listening().is_empty() && network.try_connect(8080).is_none());
        assert_eq!(network.listen(8080, 10).unwrap_err(), ListenError::InUse);
        assert_eq!(network.bind(8080).unwrap_err(), ListenError::InUse);
        let any = network.bind(0).unwrap();
        assert_ne!(network.bind(0).unwrap().number, any.number);
        bound.listen(10).unwrap();
        assert_eq!(network.listening(), [8080]);
        let waiting = network.try_connect(8080).unwrap();
        drop(bound);
        assert!(waiting.watch().is_ended(), "nobody will accept it");
        assert!(network.listening().is_empty());
        network.bind(8080).unwrap();
    }

    #[test]
    fn whoever_is_not_there_yet_is_not_looked_for_outside() {
        let (alone, several) = (Network::default(), Network::of_several());
        let of = |network: &Network, peer: &str, allowed: &str| {
            network.refuses(peer.parse().unwrap(), &allowed.parse().unwrap())
        };
        assert!(of(&several, "127.0.0.1:8882", "") && of(&several, "[::1]:8882", "*:8882"));
        assert!(!of(&several, "127.0.0.1:8882", "127.0.0.1:8882"));
        assert!(!of(&several, "192.0.2.1:8882", "") && !of(&alone, "127.0.0.1:8882", ""));
    }

    #[tokio::test]
    async fn a_full_backlog_makes_wait_and_the_end_refuses() {
        let network = Network::default();
        assert_eq!(network.connect(80).await.unwrap_err(), Refused::NotListening);
        let listener = network.listen(80, 1).unwrap();
        let first = network.connect(80).await.unwrap();
        let second = network.connect(80);
        let mut second = std::pin::pin!(second);
        assert!(second.as_mut().now_or_never().is_none());
        let accepted = std::future::poll_fn(|cx| listener.poll_accept(cx)).await;
        let _second = second.await.unwrap();
        drop((first, accepted));
        network.close();
        assert_eq!(network.connect(80).await.unwrap_err(), Refused::Ended);
        assert!(!network.until_listening(80).await);
    }
}
