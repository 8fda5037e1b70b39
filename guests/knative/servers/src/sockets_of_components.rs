//! The sockets of a component, `wasi:sockets`, with the face of WasmEdge's, so that one source is both.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::os::fd::{AsRawFd, RawFd};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

/// What is behind a number. The streams of a connection go before the socket that they are of.
enum Open {
    Listener(TcpSocket),
    Connection { input: InputStream, output: OutputStream, socket: TcpSocket },
}

/// All that is open, by its number.
#[derive(Default)]
struct Table {
    last: RawFd,
    open: HashMap<RawFd, Open>,
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::default();
}

/// A number for what is open; closed when it is dropped.
struct Handle(RawFd);

impl Handle {
    fn new(open: Open) -> Self {
        TABLE.with_borrow_mut(|table| {
            table.last += 1;
            table.open.insert(table.last, open);
            Self(table.last)
        })
    }

    fn with<T>(&self, look: impl FnOnce(&Open) -> io::Result<T>) -> io::Result<T> {
        TABLE.with_borrow(|table| look(table.open.get(&self.0).ok_or(ErrorKind::NotConnected)?))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        TABLE.with_borrow_mut(|table| table.open.remove(&self.0));
    }
}

/// A socket that listens.
pub struct TcpListener(Handle);

impl TcpListener {
    /// Listens on an IPv4 address. All sockets here are such that do not block.
    pub fn bind((address, port): (&str, u16), _nonblocking: bool) -> io::Result<Self> {
        let address: Ipv4Addr = address.parse().map_err(io::Error::other)?;
        let [a, b, c, d] = address.octets();
        let listen = || {
            let socket = create_tcp_socket(IpAddressFamily::Ipv4)?;
            let at = IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address: (a, b, c, d) });
            socket.start_bind(&instance_network(), at)?;
            finished(&socket, TcpSocket::finish_bind)?;
            socket.start_listen()?;
            finished(&socket, TcpSocket::finish_listen)?;
            Ok(socket)
        };
        listen().map(|socket| Self(Handle::new(Open::Listener(socket)))).map_err(from_code)
    }

    /// The next connection that came.
    pub fn accept(&self, _nonblocking: bool) -> io::Result<(TcpStream, ())> {
        let (socket, input, output) = self.0.with(|open| match open {
            Open::Listener(socket) => socket.accept().map_err(from_code),
            Open::Connection { .. } => Err(ErrorKind::InvalidInput.into()),
        })?;
        Ok((TcpStream(Handle::new(Open::Connection { input, output, socket })), ()))
    }
}

impl AsRawFd for TcpListener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0
    }
}

/// A connection.
pub struct TcpStream(Handle);

impl TcpStream {
    /// Says that nothing more is sent, or read.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => ShutdownType::Receive,
            Shutdown::Write => ShutdownType::Send,
            Shutdown::Both => ShutdownType::Both,
        };
        self.with(|_, _, socket| socket.shutdown(how).map_err(from_code))
    }

    fn with<T>(&self, look: impl FnOnce(&InputStream, &OutputStream, &TcpSocket) -> io::Result<T>) -> io::Result<T> {
        self.0.with(|open| match open {
            Open::Connection { input, output, socket } => look(input, output, socket),
            Open::Listener(_) => Err(ErrorKind::NotConnected.into()),
        })
    }
}

impl AsRef<TcpStream> for TcpStream {
    fn as_ref(&self) -> &TcpStream {
        self
    }
}

impl AsRawFd for TcpStream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0
    }
}

impl Read for TcpStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|input, _, _| match input.read(buffer.len() as u64) {
            Ok(bytes) if bytes.is_empty() => Err(ErrorKind::WouldBlock.into()),
            Ok(bytes) => {
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
            Err(StreamError::Closed) => Ok(0),
            Err(error) => Err(io::Error::other(error)),
        })
    }
}

impl Write for TcpStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|_, output, _| {
            let room = output.check_write().map_err(io::Error::other)?;
            let count = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            if count == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            output.write(&bytes[..count]).map_err(io::Error::other)?;
            Ok(count)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for the end of what was started.
fn finished<T>(socket: &TcpSocket, finish: impl Fn(&TcpSocket) -> Result<T, ErrorCode>) -> Result<T, ErrorCode> {
    let changes = socket.subscribe();
    loop {
        match finish(socket) {
            Err(ErrorCode::WouldBlock) => changes.block(),
            other => return other,
        }
    }
}

fn from_code(code: ErrorCode) -> io::Error {
    match code {
        ErrorCode::WouldBlock => ErrorKind::WouldBlock.into(),
        other => io::Error::other(other),
    }
}

pub mod poll {
    //! Waiting for many sockets at a time.

    use super::{Open, TABLE};
    use std::io::{self, ErrorKind};
    use std::os::fd::RawFd;
    use std::time::SystemTime;
    use wasip2::clocks::monotonic_clock::subscribe_duration;
    use wasip2::io::poll::Pollable;

    /// What to wait for.
    pub enum Subscription {
        /// A point in time.
        Timeout { userdata: u64, timeout: SystemTime },
        /// A socket.
        IO { userdata: u64, fd: RawFd, read_event: bool, write_event: bool },
    }

    /// What came.
    pub struct Event {
        pub userdata: u64,
    }

    impl Subscription {
        /// A point in time.
        pub fn timeout(userdata: u64, timeout: SystemTime) -> Self {
            Self::Timeout { userdata, timeout }
        }

        fn pollable(&self) -> io::Result<(u64, Pollable)> {
            match *self {
                Self::Timeout { userdata, timeout } => {
                    let left = timeout.duration_since(SystemTime::now()).unwrap_or_default();
                    Ok((userdata, subscribe_duration(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))))
                }
                Self::IO { userdata, fd, read_event, write_event } => TABLE.with_borrow(|table| {
                    let pollable = match table.open.get(&fd).ok_or(ErrorKind::NotConnected)? {
                        Open::Listener(socket) => socket.subscribe(),
                        Open::Connection { output, .. } if write_event && !read_event => output.subscribe(),
                        Open::Connection { input, .. } => input.subscribe(),
                    };
                    Ok((userdata, pollable))
                }),
            }
        }
    }

    /// Waits until something of it came.
    pub fn poll(all: &[Subscription]) -> io::Result<Vec<Event>> {
        let waits: Vec<(u64, Pollable)> = all.iter().map(Subscription::pollable).collect::<io::Result<_>>()?;
        let pollables: Vec<&Pollable> = waits.iter().map(|(_, pollable)| pollable).collect();
        let ready = wasip2::io::poll::poll(&pollables);
        Ok(ready.into_iter().filter_map(|place| waits.get(place as usize)).map(|(userdata, _)| Event { userdata: *userdata }).collect())
    }
}
