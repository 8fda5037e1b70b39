//! A connection, as hyper wants it.

use crate::executor::{self, Direction};
use crate::sockets::TcpStream;
use hyper::rt::ReadBufCursor;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// See the module's documentation.
pub struct Stream(TcpStream);

impl Stream {
    /// A connection that does not block.
    pub fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// Goes on once the socket has what it waits for.
    fn settle<T>(&self, cx: &Context<'_>, direction: Direction, outcome: io::Result<T>) -> Poll<io::Result<T>> {
        match outcome {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                executor::wake_when(self.0.as_raw_fd(), direction, cx);
                Poll::Pending
            }
            outcome => Poll::Ready(outcome),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        executor::forget(self.0.as_raw_fd());
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK_BYTES];
        let room = buffer.remaining().min(CHUNK_BYTES);
        let outcome = self.0.read(&mut chunk[..room]);
        self.settle(cx, Direction::Read, outcome).map_ok(|count| buffer.put_slice(&chunk[..count]))
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = self.0.write(bytes);
        self.settle(cx, Direction::Write, outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.as_ref().shutdown(std::net::Shutdown::Write))
    }
}
