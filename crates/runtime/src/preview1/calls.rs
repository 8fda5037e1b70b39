//! The socket functions: those of WASI preview 1 and those that WasmEdge added to its module, in both of its versions.
//!
//! A function is asked again and again until it is done, as a future is: a guest that waits holds no thread. What takes
//! longer than one look (a connection that is being made, a name that is being asked for) is kept with its socket.
//!
//! WasmEdge has two versions of some functions under one name (its `lib/host/wasi/wasimodule.cpp`); the number of
//! arguments tells them apart.

use super::memory::{Errno, Memory, offset};
use super::sockets::{Socket, Sockets, State};
use super::{address, names};
use crate::network::{ListenError, outgoing};
use kittiwake_core::log::RevisionLog;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// Buffers of one call (WasmEdge's own limit).
const IOVECS_MAX: u32 = 1024;
/// Longest value of a socket option.
const OPTION_BYTES_MAX: u32 = 256;
/// Socket type numbers (WasmEdge `__wasi_sock_type_t`).
const DATAGRAM: u32 = 1;
const STREAM: u32 = 2;
/// `__wasi_riflags_t`: leave what was read where it is.
const PEEK: u32 = 1;
/// `__wasi_roflags_t`: a packet did not fit.
const TRUNCATED: u16 = 1;
/// `__wasi_fdflags_t`: calls do not wait.
pub(crate) const NONBLOCK: u16 = 4;

/// A function, in one of its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Bind,
    Listen,
    Accept,
    /// With flags: WASI's own.
    AcceptFlags,
    Connect,
    Recv,
    /// `fd_read`: tells no flags.
    Read,
    RecvFrom,
    /// Tells the port as well.
    RecvFromPort,
    Send,
    SendTo,
    Shutdown,
    GetOption,
    SetOption,
    LocalAddress,
    /// Tells the family as well.
    LocalAddressFamily,
    PeerAddress,
    /// Tells the family as well.
    PeerAddressFamily,
    AddressInfo,
}

/// Every function by name and number of arguments.
const CALLS: [(&str, usize, Call); 19] = [
    ("sock_open", 3, Call::Open),
    ("sock_bind", 3, Call::Bind),
    ("sock_listen", 2, Call::Listen),
    ("sock_accept", 2, Call::Accept),
    ("sock_accept", 3, Call::AcceptFlags),
    ("sock_connect", 3, Call::Connect),
    ("sock_recv", 6, Call::Recv),
    ("sock_recv_from", 7, Call::RecvFrom),
    ("sock_recv_from", 8, Call::RecvFromPort),
    ("sock_send", 5, Call::Send),
    ("sock_send_to", 7, Call::SendTo),
    ("sock_shutdown", 2, Call::Shutdown),
    ("sock_getsockopt", 5, Call::GetOption),
    ("sock_setsockopt", 5, Call::SetOption),
    ("sock_getlocaladdr", 3, Call::LocalAddress),
    ("sock_getlocaladdr", 4, Call::LocalAddressFamily),
    ("sock_getpeeraddr", 3, Call::PeerAddress),
    ("sock_getpeeraddr", 4, Call::PeerAddressFamily),
    ("sock_getaddrinfo", 8, Call::AddressInfo),
];

impl Call {
    /// The function that a module means by a name with so many arguments. Every one is also there as `…_v2`.
    pub(crate) fn find(name: &str, arguments: usize) -> Option<Self> {
        let name = name.strip_suffix("_v2").unwrap_or(name);
        let mut all = CALLS.iter();
        all.find(|(known, count, _)| *known == name && *count == arguments)
            .map(|(_, _, call)| *call)
    }

    /// Whether a name is that of one of the functions, whatever its arguments.
    pub(crate) fn is_known(name: &str) -> bool {
        let name = name.strip_suffix("_v2").unwrap_or(name);
        CALLS.iter().any(|(known, _, _)| *known == name)
    }

    /// How long the guest wants to wait for it at most.
    pub(crate) fn time_limit(self, sockets: &mut Sockets, arguments: &Arguments) -> Option<Duration> {
        let socket = sockets.get(arguments.at(0)).ok()?;
        match self {
            Self::Recv
            | Self::Read
            | Self::RecvFrom
            | Self::RecvFromPort
            | Self::Accept
            | Self::AcceptFlags => socket.receive_timeout,
            Self::Send | Self::SendTo | Self::Connect => socket.send_timeout,
            _ => None,
        }
    }
}

/// The arguments of a call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Arguments(pub [u32; 8]);

impl Arguments {
    fn at(&self, index: usize) -> u32 {
        self.0.get(index).copied().unwrap_or_default()
    }
}

/// What a call works on.
pub(crate) struct Scene<'a, 'm> {
    pub memory: Memory<'m>,
    pub sockets: &'a mut Sockets,
    pub log: &'a RevisionLog,
}

type Done = Poll<Result<(), Errno>>;

/// Lets a call go on.
pub(crate) fn poll(
    call: Call,
    arguments: &Arguments,
    scene: &mut Scene<'_, '_>,
    cx: &mut Context<'_>,
) -> Done {
    let a = |index| arguments.at(index);
    match call {
        Call::Open => Poll::Ready(scene.open(a(0), a(1), a(2))),
        Call::Bind => Poll::Ready(scene.bind(a(0), a(1), a(2))),
        Call::Listen => Poll::Ready(scene.listen(a(0), a(1))),
        Call::Accept => scene.poll_accept(cx, a(0), 0, a(1)),
        Call::AcceptFlags => scene.poll_accept(cx, a(0), a(1), a(2)),
        Call::Connect => scene.poll_connect(cx, a(0), a(1), a(2)),
        Call::Recv => scene.poll_receive(
            cx,
            &Receive {
                fd: a(0),
                iovs: a(1),
                count: a(2),
                flags: a(3),
                length_out: a(4),
                flags_out: Some(a(5)),
                from: None,
            },
        ),
        Call::Read => scene.poll_receive(
            cx,
            &Receive {
                fd: a(0),
                iovs: a(1),
                count: a(2),
                flags: 0,
                length_out: a(4),
                flags_out: None,
                from: None,
            },
        ),
        Call::RecvFrom => scene.poll_receive(
            cx,
            &Receive {
                fd: a(0),
                iovs: a(1),
                count: a(2),
                flags: a(4),
                length_out: a(5),
                flags_out: Some(a(6)),
                from: Some((a(3), None)),
            },
        ),
        Call::RecvFromPort => scene.poll_receive(
            cx,
            &Receive {
                fd: a(0),
                iovs: a(1),
                count: a(2),
                flags: a(4),
                length_out: a(6),
                flags_out: Some(a(7)),
                from: Some((a(3), Some(a(5)))),
            },
        ),
        Call::Send => scene.poll_send(cx, a(0), a(1), a(2), a(4)),
        Call::SendTo => scene.poll_send_to(cx, arguments),
        Call::Shutdown => Poll::Ready(
            scene
                .sockets
                .get(a(0))
                .and_then(|socket| socket.shut_down(a(1) & 1 != 0, a(1) & 2 != 0)),
        ),
        Call::GetOption => Poll::Ready(scene.get_option(a(0), a(1), a(2), a(3), a(4))),
        Call::SetOption => Poll::Ready(scene.set_option(a(0), a(1), a(2), a(3), a(4))),
        Call::LocalAddress => Poll::Ready(scene.tell_address(a(0), false, a(1), None, a(2))),
        Call::LocalAddressFamily => Poll::Ready(scene.tell_address(a(0), false, a(1), Some(a(2)), a(3))),
        Call::PeerAddress => Poll::Ready(scene.tell_address(a(0), true, a(1), None, a(2))),
        Call::PeerAddressFamily => Poll::Ready(scene.tell_address(a(0), true, a(1), Some(a(2)), a(3))),
        Call::AddressInfo => names::poll(arguments, scene, cx),
    }
}

/// What a socket that does not wait gets instead of waiting.
fn at_once<T>(polled: Poll<Result<T, Errno>>, nonblocking: bool) -> Poll<Result<T, Errno>> {
    match polled {
        Poll::Pending if nonblocking => Poll::Ready(Err(Errno::AGAIN)),
        other => other,
    }
}

struct Receive {
    fd: u32,
    iovs: u32,
    count: u32,
    flags: u32,
    length_out: u32,
    flags_out: Option<u32>,
    /// Where the sender's address goes, and where its port.
    from: Option<(u32, Option<u32>)>,
}

impl Scene<'_, '_> {
    fn open(&mut self, family: u32, kind: u32, out: u32) -> Result<(), Errno> {
        let is_v6 = match u16::try_from(family) {
            Ok(0 | address::INET4) => false,
            Ok(address::INET6) => true,
            _ => return Err(Errno::AFNOSUPPORT),
        };
        let is_stream = match kind {
            0 | STREAM => true,
            DATAGRAM => false,
            _ => return Err(Errno::INVAL),
        };
        self.memory.put_u32(out, 0)?;
        let fd = self.sockets.add(Socket::new(is_stream, is_v6))?;
        self.memory.put_u32(out, fd)
    }

    fn bind(&mut self, fd: u32, at: u32, port: u32) -> Result<(), Errno> {
        let ip = address::read(&self.memory, at)?;
        let port = u16::try_from(port).map_err(|_| Errno::INVAL)?;
        let socket = self.sockets.get(fd)?;
        if socket.local.is_some() || !matches!(socket.state, State::Fresh) {
            return Err(Errno::INVAL);
        }
        socket.local = Some(SocketAddr::new(ip, port));
        Ok(())
    }

    fn listen(&mut self, fd: u32, backlog: u32) -> Result<(), Errno> {
        let network = std::sync::Arc::clone(&self.sockets.network);
        let socket = self.sockets.get(fd)?;
        if !socket.is_stream {
            return Err(Errno::NOTSUP);
        }
        match socket.state {
            State::Fresh => {}
            State::Listening(_) => return Ok(()),
            _ => return Err(Errno::ISCONN),
        }
        let local = socket.local.unwrap_or_else(|| any_address(socket.is_v6));
        let backlog = usize::try_from(backlog).unwrap_or(usize::MAX);
        let listener = network
            .listen(local.port(), backlog)
            .map_err(|error| match error {
                ListenError::InUse => Errno::ADDRINUSE,
                ListenError::TooMany => Errno::MFILE,
            })?;
        socket.local = Some(SocketAddr::new(local.ip(), listener.port));
        socket.state = State::Listening(listener);
        Ok(())
    }

    fn poll_accept(&mut self, cx: &Context<'_>, fd: u32, flags: u32, out: u32) -> Done {
        // Before a connection is taken: one that has nowhere to go must stay.
        self.memory.put_u32(out, 0)?;
        let socket = self.sockets.get(fd)?;
        let (nonblocking, local) = (socket.nonblocking, socket.local);
        let State::Listening(listener) = &socket.state else {
            return Poll::Ready(Err(Errno::INVAL));
        };
        let polled = listener.poll_accept(cx).map(Ok);
        let end = std::task::ready!(at_once(polled, nonblocking))?;
        let local = local.unwrap_or_else(|| any_address(false));
        let mut accepted = Socket::accepted(end, local);
        accepted.nonblocking = flags & u32::from(NONBLOCK) != 0;
        let fd = self.sockets.add(accepted)?;
        Poll::Ready(self.memory.put_u32(out, fd))
    }

    fn poll_connect(&mut self, cx: &mut Context<'_>, fd: u32, at: u32, port: u32) -> Done {
        let ip = address::read(&self.memory, at)?;
        let port = u16::try_from(port).map_err(|_| Errno::INVAL)?;
        let (state, is_stream, nonblocking) = {
            let socket = self.sockets.get(fd)?;
            let state = match &socket.state {
                State::Fresh => 0,
                State::Connecting(_) => 1,
                State::Failed => return Poll::Ready(Err(socket.error.take().unwrap_or(Errno::CONNABORTED))),
                _ => return Poll::Ready(Err(Errno::ISCONN)),
            };
            (state, socket.is_stream, socket.nonblocking)
        };
        let peer = SocketAddr::new(ip, port);
        if !is_stream {
            return Poll::Ready(self.connect_packets(fd, peer));
        }
        if state == 0 {
            self.begin_connection(fd, peer)?;
        }
        let socket = self.sockets.get(fd)?;
        match socket.poll_outcome(cx) {
            Poll::Pending if nonblocking && state == 1 => Poll::Ready(Err(Errno::ALREADY)),
            Poll::Pending if nonblocking => Poll::Ready(Err(Errno::INPROGRESS)),
            other => other,
        }
    }

    fn begin_connection(&mut self, fd: u32, peer: SocketAddr) -> Result<(), Errno> {
        let is_own = peer.ip().is_loopback() || peer.ip().is_unspecified();
        let own = is_own
            .then(|| self.sockets.network.try_connect(peer.port()))
            .flatten();
        if own.is_none() {
            if self.sockets.network.refuses(peer, &self.sockets.outbound) {
                return Err(Errno::CONNREFUSED);
            }
            self.check_reach(peer)?;
        }
        let socket = self.sockets.get(fd)?;
        socket.peer = Some(peer);
        socket.state = match own {
            Some(end) => {
                socket.local = socket.local.or(Some(SocketAddr::new(peer.ip(), 49_153)));
                State::Memory(end)
            }
            None => State::Connecting(Box::pin(outgoing::connect(peer))),
        };
        Ok(())
    }

    /// Whether the list of allowed servers has an address.
    fn check_reach(&mut self, peer: SocketAddr) -> Result<(), Errno> {
        let Sockets { outbound, reach, .. } = &mut *self.sockets;
        if reach.may_connect(outbound, peer, self.log) {
            return Ok(());
        }
        Err(Errno::ACCES)
    }

    /// Makes sure that a socket can send packets.
    fn packets(&mut self, fd: u32, peer: SocketAddr) -> Result<&mut UdpSocket, Errno> {
        self.check_reach(peer)?;
        let socket = self.sockets.get(fd)?;
        if let State::Fresh = socket.state {
            let any: IpAddr = if peer.is_ipv6() {
                Ipv6Addr::UNSPECIFIED.into()
            } else {
                Ipv4Addr::UNSPECIFIED.into()
            };
            // Any free port, whatever the guest asked for: it can only get answers to what it sent.
            let made = StdUdpSocket::bind((any, 0))?;
            made.set_nonblocking(true)?;
            socket.state = State::Udp(UdpSocket::from_std(made)?);
        }
        match &mut socket.state {
            State::Udp(udp) => Ok(udp),
            _ => Err(Errno::PROTOTYPE),
        }
    }

    fn connect_packets(&mut self, fd: u32, peer: SocketAddr) -> Result<(), Errno> {
        let udp = self.packets(fd, peer)?;
        rustix::net::connect(&*udp, &peer).map_err(|error| Errno::from(std::io::Error::from(error)))?;
        self.sockets.get(fd)?.peer = Some(peer);
        Ok(())
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>, call: &Receive) -> Done {
        let socket = self.sockets.get(call.fd)?;
        let nonblocking = socket.nonblocking;
        let peek = call.flags & PEEK != 0;
        if let State::Udp(_) = socket.state {
            return self.poll_receive_packet(cx, call, nonblocking);
        }
        let mut total = 0_u32;
        for (at, len) in iovecs(&self.memory, call.iovs, call.count)? {
            let buffer = self.memory.bytes_mut(at, len)?;
            if buffer.is_empty() {
                continue;
            }
            let wanted = buffer.len();
            match socket.poll_read(cx, buffer, peek) {
                Poll::Ready(Ok(count)) => {
                    total = total.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
                    if count < wanted || peek {
                        break;
                    }
                }
                Poll::Ready(Err(error)) if total == 0 => return Poll::Ready(Err(error)),
                Poll::Pending if total == 0 => return at_once(Poll::Pending, nonblocking),
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        let peer = socket.peer;
        self.tell_received(call, total, 0, peer)
    }

    fn tell_received(&mut self, call: &Receive, count: u32, flags: u16, peer: Option<SocketAddr>) -> Done {
        self.memory.put_u32(call.length_out, count)?;
        if let Some(out) = call.flags_out {
            self.memory.put_u16(out, flags)?;
        }
        if let (Some((address, port)), Some(peer)) = (call.from, peer) {
            address::write(&mut self.memory, address, peer.ip())?;
            if let Some(port) = port {
                self.memory.put_u16(port, peer.port())?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_receive_packet(&mut self, cx: &mut Context<'_>, call: &Receive, nonblocking: bool) -> Done {
        /// Largest packet.
        const PACKET_BYTES_MAX: usize = 65_535;
        let State::Udp(udp) = &self.sockets.get(call.fd)?.state else {
            return Poll::Ready(Err(Errno::NOTCONN));
        };
        let mut packet = vec![0; PACKET_BYTES_MAX];
        let mut buffer = ReadBuf::new(&mut packet);
        let received = if call.flags & PEEK == 0 {
            udp.poll_recv_from(cx, &mut buffer)
        } else {
            udp.poll_peek_from(cx, &mut buffer)
        };
        let peer = std::task::ready!(at_once(received.map_err(Errno::from), nonblocking))?;
        let mut rest = buffer.filled();
        let mut total = 0;
        for (at, len) in iovecs(&self.memory, call.iovs, call.count)? {
            let part = rest.get(..rest.len().min(len as usize)).unwrap_or_default();
            self.memory.put(at, part)?;
            total += u32::try_from(part.len()).unwrap_or_default();
            rest = rest.get(part.len()..).unwrap_or_default();
        }
        let flags = if rest.is_empty() { 0 } else { TRUNCATED };
        self.tell_received(call, total, flags, Some(peer))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, fd: u32, iovs: u32, count: u32, out: u32) -> Done {
        let socket = self.sockets.get(fd)?;
        let nonblocking = socket.nonblocking;
        let vectors = iovecs(&self.memory, iovs, count)?;
        if let State::Udp(udp) = &socket.state {
            let packet = gather(&self.memory, &vectors)?;
            let sent = at_once(udp.poll_send(cx, &packet).map_err(Errno::from), nonblocking);
            let sent = std::task::ready!(sent)?;
            return Poll::Ready(self.memory.put_u32(out, u32::try_from(sent).unwrap_or(u32::MAX)));
        }
        let mut total = 0_u32;
        for (at, len) in vectors {
            let bytes = self.memory.bytes(at, len)?;
            if bytes.is_empty() {
                continue;
            }
            match socket.poll_write(cx, bytes) {
                Poll::Ready(Ok(count)) => {
                    total = total.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
                    if count < bytes.len() {
                        break;
                    }
                }
                Poll::Ready(Err(error)) if total == 0 => return Poll::Ready(Err(error)),
                Poll::Pending if total == 0 => return at_once(Poll::Pending, nonblocking),
                Poll::Ready(Err(_)) | Poll::Pending => break,
            }
        }
        Poll::Ready(self.memory.put_u32(out, total))
    }

    fn poll_send_to(&mut self, cx: &mut Context<'_>, arguments: &Arguments) -> Done {
        let [fd, iovs, count, at, port, _flags, out, _] = arguments.0;
        if self.sockets.get(fd)?.is_stream {
            return self.poll_send(cx, fd, iovs, count, out);
        }
        let port = u16::try_from(port).map_err(|_| Errno::INVAL)?;
        let peer = SocketAddr::new(address::read(&self.memory, at)?, port);
        let nonblocking = self.sockets.get(fd)?.nonblocking;
        let packet = gather(&self.memory, &iovecs(&self.memory, iovs, count)?)?;
        let sent = self.packets(fd, peer)?.poll_send_to(cx, &packet, peer);
        let sent = std::task::ready!(at_once(sent.map_err(Errno::from), nonblocking))?;
        Poll::Ready(self.memory.put_u32(out, u32::try_from(sent).unwrap_or(u32::MAX)))
    }

    fn tell_address(
        &mut self,
        fd: u32,
        peer: bool,
        at: u32,
        family_out: Option<u32>,
        port_out: u32,
    ) -> Result<(), Errno> {
        let socket = self.sockets.get(fd)?;
        let told = if peer {
            socket.peer.ok_or(Errno::NOTCONN)?
        } else {
            socket.local.unwrap_or_else(|| any_address(socket.is_v6))
        };
        address::write(&mut self.memory, at, told.ip())?;
        if let Some(out) = family_out {
            // Not the number of the family, here.
            self.memory.put_u32(out, if told.is_ipv4() { 4 } else { 6 })?;
        }
        self.memory.put_u32(port_out, u32::from(told.port()))
    }

    fn get_option(&mut self, fd: u32, level: u32, name: u32, at: u32, len_at: u32) -> Result<(), Errno> {
        let socket = self.sockets.get(fd)?;
        check_option(level, name)?;
        let value = match name {
            option::TYPE => number(if socket.is_stream { STREAM } else { DATAGRAM }),
            option::ERROR => number(socket.error.take().map_or(0, |error| u32::from(error.0))),
            option::ACCEPTCONN => number(u32::from(matches!(socket.state, State::Listening(_)))),
            other => socket.options.get(&other).cloned().unwrap_or_else(|| number(0)),
        };
        let room = self.memory.u32(len_at)? as usize;
        let value = value.get(..room.min(value.len())).unwrap_or_default();
        self.memory.put(at, value)?;
        self.memory
            .put_u32(len_at, u32::try_from(value.len()).unwrap_or_default())
    }

    fn set_option(&mut self, fd: u32, level: u32, name: u32, at: u32, len: u32) -> Result<(), Errno> {
        let socket = self.sockets.get(fd)?;
        check_option(level, name)?;
        if matches!(name, option::TYPE | option::ERROR | option::ACCEPTCONN) || len > OPTION_BYTES_MAX {
            return Err(Errno::INVAL);
        }
        let value = self.memory.bytes(at, len)?.to_vec();
        match name {
            option::RCVTIMEO => socket.receive_timeout = time(&value),
            option::SNDTIMEO => socket.send_timeout = time(&value),
            _ => {}
        }
        // The rest changes nothing for a connection in memory; a guest that asks gets back what it set.
        socket.options.insert(name, value);
        Ok(())
    }
}

/// Numbers of socket options (WasmEdge `__wasi_sock_opt_so_t`).
mod option {
    pub(super) const TYPE: u32 = 1;
    pub(super) const ERROR: u32 = 2;
    pub(super) const RCVTIMEO: u32 = 11;
    pub(super) const SNDTIMEO: u32 = 12;
    pub(super) const ACCEPTCONN: u32 = 13;
    pub(super) const BINDTODEVICE: u32 = 14;
}

fn check_option(level: u32, name: u32) -> Result<(), Errno> {
    if level != 0 || name >= option::BINDTODEVICE {
        return Err(Errno::NOPROTOOPT);
    }
    Ok(())
}

fn number(value: u32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

/// A `timeval` of seconds and microseconds, of 64 bits each; zero means no limit.
fn time(value: &[u8]) -> Option<Duration> {
    let part = |from: usize| {
        let bytes = value.get(from..from.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    let time = Duration::from_secs(part(0)?).saturating_add(Duration::from_micros(part(8)?));
    (!time.is_zero()).then_some(time)
}

fn any_address(is_v6: bool) -> SocketAddr {
    let ip: IpAddr = if is_v6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    };
    SocketAddr::new(ip, 0)
}

/// Where the buffers of a call are, and how long.
pub(crate) fn iovecs(memory: &Memory<'_>, at: u32, count: u32) -> Result<Vec<(u32, u32)>, Errno> {
    if count > IOVECS_MAX {
        return Err(Errno::INVAL);
    }
    (0..count)
        .map(|index| {
            let at = offset(at, index * 8)?;
            Ok((memory.u32(at)?, memory.u32(offset(at, 4)?)?))
        })
        .collect()
}

fn gather(memory: &Memory<'_>, vectors: &[(u32, u32)]) -> Result<Vec<u8>, Errno> {
    let mut all = Vec::new();
    for (at, len) in vectors {
        let bytes = memory.bytes(*at, *len)?;
        if all.len().saturating_add(bytes.len()) > 65_535 {
            return Err(Errno::INVAL);
        }
        all.extend_from_slice(bytes);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart_by_their_arguments() {
        assert_eq!(Call::find("sock_accept", 2), Some(Call::Accept));
        assert_eq!(Call::find("sock_accept", 3), Some(Call::AcceptFlags));
        assert_eq!(Call::find("sock_accept_v2", 3), Some(Call::AcceptFlags));
        assert_eq!(Call::find("sock_recv_from", 7), Some(Call::RecvFrom));
        assert_eq!(Call::find("sock_recv_from_v2", 8), Some(Call::RecvFromPort));
        assert_eq!(Call::find("sock_getpeeraddr", 3), Some(Call::PeerAddress));
        assert_eq!(Call::find("sock_open", 2), None);
        assert!(Call::is_known("sock_bind_v2") && !Call::is_known("fd_read"));
    }

    #[test]
    fn time_limits_are_read() {
        let value: Vec<u8> = [1_u64, 500_000].iter().flat_map(|n| n.to_le_bytes()).collect();
        assert_eq!(time(&value), Some(Duration::from_millis(1500)));
        assert_eq!(time(&[0; 16]), None);
        assert_eq!(time(&[1; 4]), None);
    }
}
