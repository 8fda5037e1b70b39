//! One TCP socket, in one state after the other (the states of `wasi:sockets/tcp` and of WASI's
//! `TcpSocketOperationalSemantics.md`).

use super::stream::Link;
use crate::network::pipe::End;
use crate::network::{ListenError, Listener, Network, Port, outgoing};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::net::TcpStream;
use wasmtime_wasi::p2::Pollable;
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;

/// Connections that wait to be accepted where the guest names no number (what Rust's std asks for).
const BACKLOG: usize = 128;
/// The port of the platform's end of an accepted connection, which is of no use to anyone.
const PEER_PORT: u16 = 49_152;
/// The guest's own port of a connection within its instance.
const OWN_PORT: u16 = 49_153;

/// See the module's documentation.
pub(super) struct Socket {
    is_v6: bool,
    /// The port that it is bound to by itself.
    port: Option<Port>,
    local: Option<SocketAddr>,
    peer: Option<SocketAddr>,
    backlog: usize,
    options: Options,
    state: State,
}

/// What was set, to be told again: a connection in memory needs none of it, and the kernel's own values do for others.
#[derive(Debug, Clone)]
pub(super) struct Options {
    pub keep_alive: bool,
    /// Nanoseconds, as the next.
    pub keep_alive_idle: u64,
    pub keep_alive_interval: u64,
    pub keep_alive_count: u32,
    pub hop_limit: u8,
    /// Bytes, as the next.
    pub receive_buffer: u64,
    pub send_buffer: u64,
}

impl Default for Options {
    /// As on Linux; the buffers are those of a connection in memory.
    fn default() -> Self {
        Self {
            keep_alive: false,
            keep_alive_idle: 7_200_000_000_000,
            keep_alive_interval: 75_000_000_000,
            keep_alive_count: 9,
            hop_limit: 64,
            receive_buffer: 64 * 1024,
            send_buffer: 64 * 1024,
        }
    }
}

/// Sets an option that cannot be zero.
pub(super) fn set<T: PartialEq + Default>(option: &mut T, value: T) -> Result<(), ErrorCode> {
    if value == T::default() {
        return Err(ErrorCode::InvalidArgument);
    }
    *option = value;
    Ok(())
}

/// The states by WASI's names. What is started is done, but for connections: only its being told is missing.
enum State {
    Unbound,
    BindInProgress,
    Bound,
    ListenInProgress(Arc<Listener>),
    Listening(Arc<Listener>),
    ConnectInProgress(Connecting),
    Connected(Arc<Link>),
    Closed,
}

enum Connecting {
    /// To the instance itself.
    Own(End),
    /// To another server.
    Outwards(BoxFuture<'static, io::Result<TcpStream>>),
    /// It was made, or could not be.
    Done(io::Result<TcpStream>),
}

fn at_once() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl Socket {
    /// A socket that is nothing yet.
    pub(super) fn new(is_v6: bool) -> Self {
        Self {
            is_v6,
            port: None,
            local: None,
            peer: None,
            backlog: BACKLOG,
            options: Options::default(),
            state: State::Unbound,
        }
    }

    /// Whether it is of IPv6.
    pub(super) fn is_v6(&self) -> bool {
        self.is_v6
    }

    /// Whether connections can be accepted.
    pub(super) fn is_listening(&self) -> bool {
        matches!(self.state, State::Listening(_))
    }

    /// An operation can only begin when no other one is under way.
    fn is_idle(&self) -> Result<(), ErrorCode> {
        match self.state {
            State::BindInProgress | State::ListenInProgress(_) | State::ConnectInProgress(_) => {
                Err(ErrorCode::ConcurrencyConflict)
            }
            _ => Ok(()),
        }
    }

    /// Whether an address is of the socket's family, and of one machine.
    fn check_address(&self, address: SocketAddr) -> Result<(), ErrorCode> {
        let ip = address.ip();
        let of_family = ip.is_ipv6() == self.is_v6;
        let is_one = !ip.is_multicast() && ip != IpAddr::V4(Ipv4Addr::BROADCAST);
        if of_family && is_one && ip.to_canonical() == ip {
            return Ok(());
        }
        Err(ErrorCode::InvalidArgument)
    }

    /// Takes a port of the instance's network.
    pub(super) fn start_bind(&mut self, network: &Arc<Network>, local: SocketAddr) -> Result<(), ErrorCode> {
        self.is_idle()?;
        if !matches!(self.state, State::Unbound) {
            return Err(ErrorCode::InvalidState);
        }
        self.check_address(local)?;
        if !local.ip().is_unspecified() && !local.ip().is_loopback() {
            return Err(ErrorCode::AddressNotBindable);
        }
        // Without a free port it is in use as well.
        let port = network
            .bind(local.port())
            .map_err(|_: ListenError| ErrorCode::AddressInUse)?;
        self.local = Some(SocketAddr::new(local.ip(), port.number));
        self.port = Some(port);
        self.state = State::BindInProgress;
        Ok(())
    }

    /// Tells of the outcome.
    pub(super) fn finish_bind(&mut self) -> Result<(), ErrorCode> {
        if !matches!(self.state, State::BindInProgress) {
            return Err(ErrorCode::NotInProgress);
        }
        self.state = State::Bound;
        Ok(())
    }

    /// Begins to listen.
    pub(super) fn start_listen(&mut self) -> Result<(), ErrorCode> {
        self.is_idle()?;
        let (State::Bound, Some(port)) = (&self.state, &self.port) else {
            return Err(ErrorCode::InvalidState);
        };
        let listener = port
            .listen(self.backlog)
            .map_err(|_: ListenError| ErrorCode::NewSocketLimit)?;
        self.state = State::ListenInProgress(listener);
        Ok(())
    }

    /// Tells of the outcome.
    pub(super) fn finish_listen(&mut self) -> Result<(), ErrorCode> {
        let State::ListenInProgress(listener) = &self.state else {
            return Err(ErrorCode::NotInProgress);
        };
        self.state = State::Listening(Arc::clone(listener));
        Ok(())
    }

    /// The next connection, with a socket of its own.
    pub(super) fn accept(&mut self) -> Result<(Self, Arc<Link>), ErrorCode> {
        let State::Listening(listener) = &self.state else {
            return Err(ErrorCode::InvalidState);
        };
        let Poll::Ready(end) = listener.poll_accept(&at_once()) else {
            return Err(ErrorCode::WouldBlock);
        };
        let link = Link::new(end, None);
        let mut accepted = Self::new(self.is_v6);
        accepted.options = self.options.clone();
        // Connections come from the platform itself.
        let loopback = self.loopback();
        accepted.local = Some(SocketAddr::new(loopback, listener.port));
        accepted.peer = Some(SocketAddr::new(loopback, PEER_PORT));
        accepted.state = State::Connected(Arc::clone(&link));
        Ok((accepted, link))
    }

    fn loopback(&self) -> IpAddr {
        if self.is_v6 {
            Ipv6Addr::LOCALHOST.into()
        } else {
            Ipv4Addr::LOCALHOST.into()
        }
    }

    /// Whether a connection to an address can be begun.
    pub(super) fn check_connect(&self, peer: SocketAddr) -> Result<(), ErrorCode> {
        self.is_idle()?;
        if !matches!(self.state, State::Unbound | State::Bound) {
            return Err(ErrorCode::InvalidState);
        }
        self.check_address(peer)?;
        if peer.ip().is_unspecified() || peer.port() == 0 {
            return Err(ErrorCode::InvalidArgument);
        }
        Ok(())
    }

    /// Begins a connection, which was checked: to the instance itself over `own`, else to another server.
    pub(super) fn start_connect(&mut self, peer: SocketAddr, own: Option<End>) {
        self.peer = Some(peer);
        self.state = State::ConnectInProgress(match own {
            Some(end) => {
                let local = SocketAddr::new(peer.ip(), OWN_PORT);
                self.local = self.local.or(Some(local));
                Connecting::Own(end)
            }
            None => Connecting::Outwards(outgoing::connect(peer).boxed()),
        });
    }

    /// Tells of the outcome. A socket whose connection failed is of no more use.
    pub(super) fn finish_connect(&mut self) -> Result<Arc<Link>, ErrorCode> {
        if !matches!(self.state, State::ConnectInProgress(_)) {
            return Err(ErrorCode::NotInProgress);
        }
        if self.poll_ready(&mut at_once()).is_pending() {
            return Err(ErrorCode::WouldBlock);
        }
        let connected = match std::mem::replace(&mut self.state, State::Closed) {
            State::ConnectInProgress(Connecting::Own(end)) => Ok((end, None)),
            State::ConnectInProgress(Connecting::Done(made)) => made.map(|stream| {
                self.local = stream.local_addr().ok().or(self.local);
                let (end, held) = outgoing::carry(stream);
                (end, Some(held))
            }),
            _ => return Err(ErrorCode::NotInProgress),
        };
        let (end, held) = connected.map_err(|error| ErrorCode::from(&error))?;
        let link = Link::new(end, held);
        self.state = State::Connected(Arc::clone(&link));
        Ok(link)
    }

    /// The guest's own address, once it has one.
    pub(super) fn local_address(&self) -> Result<SocketAddr, ErrorCode> {
        match self.state {
            State::Unbound | State::BindInProgress | State::Closed => Err(ErrorCode::InvalidState),
            _ => self.local.ok_or(ErrorCode::InvalidState),
        }
    }

    /// The address at the other end.
    pub(super) fn remote_address(&self) -> Result<SocketAddr, ErrorCode> {
        match self.state {
            State::Connected(_) => self.peer.ok_or(ErrorCode::InvalidState),
            _ => Err(ErrorCode::InvalidState),
        }
    }

    /// How many connections may wait. It counts from the next time that it begins to listen.
    pub(super) fn set_backlog(&mut self, value: u64) -> Result<(), ErrorCode> {
        if value == 0 {
            return Err(ErrorCode::InvalidArgument);
        }
        match self.state {
            State::ConnectInProgress(_) | State::Connected(_) | State::Closed => Err(ErrorCode::InvalidState),
            _ => {
                self.backlog = usize::try_from(value).unwrap_or(usize::MAX);
                Ok(())
            }
        }
    }

    /// What is set.
    pub(super) fn options(&mut self) -> Result<&mut Options, ErrorCode> {
        match self.state {
            State::Closed => Err(ErrorCode::InvalidState),
            _ => Ok(&mut self.options),
        }
    }

    /// Ends one or both directions of a connection.
    pub(super) fn shut_down(&self, receiving: bool, sending: bool) -> Result<(), ErrorCode> {
        let State::Connected(link) = &self.state else {
            return Err(ErrorCode::InvalidState);
        };
        link.shut_down(receiving, sending);
        Ok(())
    }

    /// Resolves once the next `finish-…` or `accept` does not say `would-block`.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state {
            State::Listening(listener) => listener.poll_waiting(cx).map(drop),
            State::ConnectInProgress(connecting) => {
                if let Connecting::Outwards(making) = connecting {
                    *connecting = Connecting::Done(std::task::ready!(making.as_mut().poll(cx)));
                }
                Poll::Ready(())
            }
            _ => Poll::Ready(()),
        }
    }
}

impl Pollable for Socket {
    /// `async fn ready` as the `async_trait` macro writes it.
    fn ready<'life, 'future>(&'life mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(std::future::poll_fn(|cx| self.poll_ready(cx)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime_wasi::p2::{InputStream as _, OutputStream as _};

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn listening(network: &Arc<Network>, local: &str) -> Socket {
        let mut socket = Socket::new(local.starts_with('['));
        socket.start_bind(network, address(local)).unwrap();
        socket.finish_bind().unwrap();
        socket.start_listen().unwrap();
        socket.finish_listen().unwrap();
        socket
    }

    #[test]
    fn addresses_that_cannot_be_are_told_by_what_is_wrong() {
        let network = Arc::<Network>::default();
        let _taken = network.bind(8080).unwrap();
        for (is_v6, text, wanted) in [
            (false, "[::]:80", ErrorCode::InvalidArgument),
            (true, "0.0.0.0:80", ErrorCode::InvalidArgument),
            (false, "224.0.0.1:80", ErrorCode::InvalidArgument),
            (false, "255.255.255.255:80", ErrorCode::InvalidArgument),
            (true, "[::ffff:127.0.0.1]:80", ErrorCode::InvalidArgument),
            (false, "192.0.2.1:80", ErrorCode::AddressNotBindable),
            (false, "0.0.0.0:8080", ErrorCode::AddressInUse),
            (true, "[::1]:8080", ErrorCode::AddressInUse),
        ] {
            let mut socket = Socket::new(is_v6);
            assert_eq!(socket.start_bind(&network, address(text)), Err(wanted), "{text}");
            assert_eq!(socket.finish_bind(), Err(ErrorCode::NotInProgress));
            assert_eq!(
                socket.start_bind(&network, address(if is_v6 { "[::]:0" } else { "0.0.0.0:0" })),
                Ok(())
            );
        }
        for (text, wanted) in [
            ("0.0.0.0:80", ErrorCode::InvalidArgument),
            ("192.0.2.1:0", ErrorCode::InvalidArgument),
            ("[::1]:80", ErrorCode::InvalidArgument),
        ] {
            assert_eq!(
                Socket::new(false).check_connect(address(text)),
                Err(wanted),
                "{text}"
            );
        }
    }

    #[test]
    fn each_state_allows_what_it_should() {
        let network = Arc::<Network>::default();
        let invalid = Err(ErrorCode::InvalidState);
        let mut socket = Socket::new(false);
        assert_eq!(socket.start_listen(), invalid);
        assert_eq!(
            (socket.local_address().is_err(), socket.remote_address().is_err()),
            (true, true)
        );
        assert_eq!(socket.accept().err(), Some(ErrorCode::InvalidState));
        assert_eq!(socket.shut_down(true, true), invalid);
        assert_eq!(socket.finish_connect().err(), Some(ErrorCode::NotInProgress));
        socket.start_bind(&network, address("0.0.0.0:0")).unwrap();
        assert_eq!(socket.start_listen(), Err(ErrorCode::ConcurrencyConflict));
        assert_eq!(socket.local_address(), Err(ErrorCode::InvalidState), "not yet");
        socket.finish_bind().unwrap();
        let local = socket.local_address().unwrap();
        assert!(local.port() >= 32_768 && network.listening().is_empty());
        assert_eq!(socket.start_bind(&network, address("0.0.0.0:0")), invalid);
        assert_eq!(socket.finish_listen(), Err(ErrorCode::NotInProgress));
        socket.start_listen().unwrap();
        assert_eq!(socket.start_listen(), Err(ErrorCode::ConcurrencyConflict));
        assert!(!socket.is_listening());
        socket.finish_listen().unwrap();
        assert_eq!(socket.start_listen(), invalid);
        assert_eq!(socket.check_connect(address("127.0.0.1:80")), invalid);
        assert_eq!(socket.accept().err(), Some(ErrorCode::WouldBlock));
        assert_eq!(
            (socket.set_backlog(0), socket.set_backlog(5)),
            (Err(ErrorCode::InvalidArgument), Ok(()))
        );
        assert_eq!(network.listening(), [local.port()]);
        drop(socket);
        assert!(network.listening().is_empty());
    }

    #[tokio::test]
    async fn connections_are_accepted_with_what_was_set_on_their_listener() {
        let network = Arc::<Network>::default();
        let mut socket = listening(&network, "[::]:8080");
        set(&mut socket.options().unwrap().hop_limit, 7).unwrap();
        assert_eq!(
            set(&mut socket.options().unwrap().hop_limit, 0),
            Err(ErrorCode::InvalidArgument)
        );
        let waiting = async { socket.ready().await };
        let (_, theirs) = tokio::join!(waiting, network.connect(8080));
        let (mut accepted, _link) = socket.accept().unwrap();
        assert_eq!(accepted.options().unwrap().hop_limit, 7);
        assert!(accepted.is_v6() && !accepted.is_listening());
        assert_eq!(accepted.local_address(), Ok(address("[::1]:8080")));
        assert!(accepted.remote_address().unwrap().ip().is_loopback());
        accepted.ready().await;
        let watch = theirs.unwrap().watch();
        accepted.shut_down(false, true).unwrap();
        assert!(watch.is_ended());
    }

    #[tokio::test]
    async fn a_connection_within_the_instance_is_made_at_once() {
        let network = Arc::<Network>::default();
        let mut server = listening(&network, "127.0.0.1:8080");
        let mut client = Socket::new(false);
        let peer = address("127.0.0.1:8080");
        client.check_connect(peer).unwrap();
        client.start_connect(peer, network.try_connect(8080));
        assert_eq!(client.check_connect(peer), Err(ErrorCode::ConcurrencyConflict));
        let sent = client.finish_connect().unwrap();
        assert_eq!(client.remote_address(), Ok(peer));
        let (_accepted, received) = server.accept().unwrap();
        let mut writer = super::super::stream::Writer::new(&sent);
        writer.check_write().unwrap();
        writer.write("hello".into()).unwrap();
        assert_eq!(super::super::stream::Reader(received).read(9).unwrap(), "hello");
    }

    #[tokio::test]
    async fn a_connection_to_another_server_is_waited_for_and_a_failed_one_closes() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        let mut client = Socket::new(false);
        client.start_connect(peer, None);
        client.ready().await;
        client.finish_connect().unwrap();
        assert!(client.local_address().is_ok());
        drop(listener);
        let mut refused = Socket::new(false);
        refused.start_connect(peer, None);
        refused.ready().await;
        assert_eq!(refused.finish_connect().err(), Some(ErrorCode::ConnectionRefused));
        assert_eq!(refused.options().err(), Some(ErrorCode::InvalidState));
        assert_eq!(refused.check_connect(peer), Err(ErrorCode::InvalidState));
    }
}
