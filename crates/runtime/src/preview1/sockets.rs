//! The sockets that an instance has open, and what is at the other end of each: a connection in memory, another server,
//! or nothing yet.

use super::memory::Errno;
use crate::network::pipe::End;
use crate::network::{ListenError, Listener, Network, Reach};
use futures::future::BoxFuture;
use kittiwake_core::outbound::Outbound;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};

/// The first number of a socket. Files have the numbers below: they are limited to fewer than that.
pub(crate) const FIRST_FD: u32 = 512;
/// Sockets that one instance may have open at a time.
const SOCKETS_MAX: usize = 4096;

/// All sockets of one instance.
pub(crate) struct Sockets {
    open: BTreeMap<u32, Socket>,
    pub network: Arc<Network>,
    pub outbound: Outbound,
    pub reach: Reach,
    /// The number of a listening socket that the guest was started with.
    preopened: Option<u32>,
    /// Answers of a name server that are waited for.
    pub resolving: Option<Resolving>,
}

/// The addresses of a host, when they come.
pub(crate) type Resolving = BoxFuture<'static, Result<Vec<IpAddr>, Errno>>;

/// One socket.
pub(crate) struct Socket {
    pub is_stream: bool,
    pub is_v6: bool,
    pub nonblocking: bool,
    pub local: Option<SocketAddr>,
    pub peer: Option<SocketAddr>,
    /// The error that `SO_ERROR` tells next.
    pub error: Option<Errno>,
    /// What was set, by the option's number, in the bytes that were given.
    pub options: BTreeMap<u32, Vec<u8>>,
    pub receive_timeout: Option<Duration>,
    pub send_timeout: Option<Duration>,
    pub state: State,
}

/// What a socket is connected to.
pub(crate) enum State {
    /// Nothing.
    Fresh,
    /// It waits for connections.
    Listening(Arc<Listener>),
    /// A connection in memory.
    Memory(End),
    /// A connection to another server that is being made.
    Connecting(BoxFuture<'static, io::Result<TcpStream>>),
    /// A connection to another server.
    Tcp(TcpStream),
    /// It sends packets to other servers.
    Udp(UdpSocket),
    /// What could not be connected.
    Failed,
}

impl Sockets {
    /// None, in a network.
    pub(crate) fn new(network: Arc<Network>, outbound: Outbound) -> Self {
        Self {
            open: BTreeMap::new(),
            network,
            outbound,
            reach: Reach::default(),
            preopened: None,
            resolving: None,
        }
    }

    /// Opens a listening socket under a number that a guest expects.
    pub(crate) fn preopen_listener(&mut self, fd: u32, port: u16) -> Result<(), ListenError> {
        let listener = self.network.listen(port, usize::MAX)?;
        let mut socket = Socket::new(true, false);
        socket.local = Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), listener.port));
        socket.state = State::Listening(listener);
        self.open.insert(fd, socket);
        self.preopened = Some(fd);
        Ok(())
    }

    /// Whether a number is one of a socket, open or not.
    pub(crate) fn owns(&self, fd: u32) -> bool {
        fd >= FIRST_FD || self.preopened == Some(fd)
    }

    /// Whether a number is that of a socket that the guest was started with.
    pub(crate) fn is_preopened(&self, fd: u32) -> bool {
        self.preopened == Some(fd)
    }

    /// Adds a socket.
    pub(crate) fn add(&mut self, socket: Socket) -> Result<u32, Errno> {
        if self.open.len() >= SOCKETS_MAX {
            return Err(Errno::MFILE);
        }
        // The lowest free number, as POSIX has it.
        let mut free = FIRST_FD;
        for fd in self.open.range(FIRST_FD..).map(|(fd, _)| *fd) {
            if fd != free {
                break;
            }
            free += 1;
        }
        self.open.insert(free, socket);
        Ok(free)
    }

    /// The socket of a number.
    pub(crate) fn get(&mut self, fd: u32) -> Result<&mut Socket, Errno> {
        self.open.get_mut(&fd).ok_or(Errno::BADF)
    }

    /// Closes a socket.
    pub(crate) fn close(&mut self, fd: u32) -> Result<(), Errno> {
        let socket = self.open.remove(&fd).ok_or(Errno::BADF)?;
        if let State::Listening(listener) = &socket.state {
            self.network.unlisten(listener);
        }
        Ok(())
    }
}

impl Drop for Sockets {
    /// The network may outlive this: a command that was run beside an instance leaves nothing that listens.
    fn drop(&mut self) {
        for socket in self.open.values() {
            if let State::Listening(listener) = &socket.state {
                self.network.unlisten(listener);
            }
        }
    }
}

impl Socket {
    /// A socket that is not connected.
    pub(crate) fn new(is_stream: bool, is_v6: bool) -> Self {
        Self {
            is_stream,
            is_v6,
            nonblocking: false,
            local: None,
            peer: None,
            error: None,
            options: BTreeMap::new(),
            receive_timeout: None,
            send_timeout: None,
            state: State::Fresh,
        }
    }

    /// A connection that was accepted.
    pub(crate) fn accepted(end: End, local: SocketAddr) -> Self {
        let mut socket = Self::new(true, local.is_ipv6());
        socket.local = Some(local);
        // Connections come from the platform itself, so there is one peer. Its port is of no use to anyone.
        let peer: IpAddr = if local.is_ipv6() {
            Ipv6Addr::LOCALHOST.into()
        } else {
            Ipv4Addr::LOCALHOST.into()
        };
        socket.peer = Some(SocketAddr::new(peer, 49_152));
        socket.state = State::Memory(end);
        socket
    }

    /// Sees to a connection that is being made.
    fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let State::Connecting(connecting) = &mut self.state else {
            return Poll::Ready(());
        };
        match std::task::ready!(connecting.as_mut().poll(cx)) {
            Ok(stream) => {
                self.local = stream.local_addr().ok().or(self.local);
                self.state = State::Tcp(stream);
            }
            Err(error) => {
                self.error = Some(Errno::from(&error));
                self.state = State::Failed;
            }
        }
        Poll::Ready(())
    }

    /// The same, for one who waits for the outcome.
    pub(crate) fn poll_outcome(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Errno>> {
        std::task::ready!(self.poll_connected(cx));
        Poll::Ready(match self.error.take() {
            Some(error) => Err(error),
            None => Ok(()),
        })
    }

    /// Reads into `buffer`; 0 is the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        peek: bool,
    ) -> Poll<Result<usize, Errno>> {
        std::task::ready!(self.poll_connected(cx));
        match &mut self.state {
            State::Memory(end) => End::poll_read(end, cx, buffer, peek).map(Ok),
            State::Tcp(stream) => {
                let mut buffer = ReadBuf::new(buffer);
                if peek {
                    return stream.poll_peek(cx, &mut buffer).map_err(Errno::from);
                }
                let read = std::task::ready!(Pin::new(stream).poll_read(cx, &mut buffer));
                Poll::Ready(read.map(|()| buffer.filled().len()).map_err(Errno::from))
            }
            State::Udp(socket) => {
                let mut buffer = ReadBuf::new(buffer);
                let read = std::task::ready!(socket.poll_recv(cx, &mut buffer));
                Poll::Ready(read.map(|()| buffer.filled().len()).map_err(Errno::from))
            }
            State::Failed => Poll::Ready(Err(self.error.take().unwrap_or(Errno::NOTCONN))),
            State::Fresh | State::Listening(_) | State::Connecting(_) => Poll::Ready(Err(Errno::NOTCONN)),
        }
    }

    /// Writes as much as there is room for.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Errno>> {
        std::task::ready!(self.poll_connected(cx));
        match &mut self.state {
            State::Memory(end) => End::poll_write(end, cx, bytes).map_err(Errno::from),
            State::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes).map_err(Errno::from),
            State::Udp(socket) => socket.poll_send(cx, bytes).map_err(Errno::from),
            State::Failed => Poll::Ready(Err(self.error.take().unwrap_or(Errno::NOTCONN))),
            State::Fresh if !self.is_stream => Poll::Ready(Err(Errno::DESTADDRREQ)),
            State::Fresh | State::Listening(_) | State::Connecting(_) => Poll::Ready(Err(Errno::NOTCONN)),
        }
    }

    /// What `poll_oneoff` tells of a socket that can be read, or accepted from: bytes, and whether the peer has ended.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(u64, bool), Errno>> {
        std::task::ready!(self.poll_connected(cx));
        match &mut self.state {
            State::Listening(listener) => listener.poll_waiting(cx).map(|count| Ok((count as u64, false))),
            State::Memory(end) => end
                .poll_readable(cx)
                .map(|(bytes, ended)| Ok((bytes as u64, ended))),
            State::Tcp(stream) => {
                let mut byte = [0];
                let mut buffer = ReadBuf::new(&mut byte);
                let peeked = std::task::ready!(stream.poll_peek(cx, &mut buffer));
                Poll::Ready(match peeked {
                    Ok(count) => Ok((count as u64, count == 0)),
                    Err(_) => Ok((0, true)),
                })
            }
            State::Udp(socket) => socket.poll_recv_ready(cx).map(|_| Ok((1, false))),
            State::Failed => Poll::Ready(Ok((0, true))),
            State::Fresh | State::Connecting(_) => Poll::Ready(Err(Errno::NOTCONN)),
        }
    }

    /// What `poll_oneoff` tells of a socket that can be written.
    pub(crate) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<Result<(u64, bool), Errno>> {
        std::task::ready!(self.poll_connected(cx));
        match &mut self.state {
            State::Memory(end) => end.poll_writable(cx).map(|(room, left)| Ok((room as u64, left))),
            State::Tcp(stream) => stream.poll_write_ready(cx).map(|_| Ok((1, false))),
            State::Udp(socket) => socket.poll_send_ready(cx).map(|_| Ok((1, false))),
            State::Failed => Poll::Ready(Ok((0, true))),
            State::Fresh | State::Listening(_) | State::Connecting(_) => Poll::Ready(Err(Errno::NOTCONN)),
        }
    }

    /// Ends one or both directions of a connection.
    pub(crate) fn shut_down(&mut self, reading: bool, writing: bool) -> Result<(), Errno> {
        match &self.state {
            State::Memory(end) => {
                if reading {
                    end.end_reading();
                }
                if writing {
                    end.end_writing();
                }
                Ok(())
            }
            State::Tcp(stream) => {
                use rustix::net::Shutdown;
                let how = match (reading, writing) {
                    (true, true) => Shutdown::Both,
                    (true, false) => Shutdown::Read,
                    (false, _) => Shutdown::Write,
                };
                rustix::net::shutdown(stream, how).map_err(|error| Errno::from(io::Error::from(error)))
            }
            _ => Err(Errno::NOTCONN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_lowest_that_are_free() {
        let mut sockets = Sockets::new(Arc::default(), Outbound::default());
        let mut open = || sockets.add(Socket::new(true, false)).unwrap();
        assert_eq!([open(), open(), open()], [512, 513, 514]);
        sockets.close(513).unwrap();
        assert_eq!(sockets.close(513), Err(Errno::BADF));
        assert_eq!(sockets.add(Socket::new(true, false)), Ok(513));
        assert_eq!(sockets.add(Socket::new(true, false)), Ok(515));
        sockets.preopen_listener(3, 8080).unwrap();
        assert!(sockets.owns(3) && !sockets.owns(4) && sockets.owns(600));
        assert_eq!(sockets.network.listening(), [8080]);
        sockets.close(3).unwrap();
        assert_eq!(sockets.network.listening(), [0_u16; 0]);
    }
}
