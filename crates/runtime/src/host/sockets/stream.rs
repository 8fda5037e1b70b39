//! The two streams of a connection.

use crate::network::outgoing::Held;
use crate::network::pipe::End;
use bytes::{Bytes, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// Bytes that are read at a time.
const READ_BYTES_MAX: usize = 64 * 1024;

/// A connection, which its socket and its streams share.
pub(super) struct Link {
    end: End,
    /// Of a connection to another server.
    held: Option<Held>,
    /// What was shut down here.
    reads_no_more: AtomicBool,
    writes_no_more: AtomicBool,
    /// Whether the guest was told that it broke.
    break_told: AtomicBool,
}

impl Link {
    /// A connection to what is at the other end.
    pub(super) fn new(end: End, held: Option<Held>) -> Arc<Self> {
        Arc::new(Self {
            end,
            held,
            reads_no_more: AtomicBool::new(false),
            writes_no_more: AtomicBool::new(false),
            break_told: AtomicBool::new(false),
        })
    }

    /// Ends one or both directions; doing it again changes nothing.
    pub(super) fn shut_down(&self, reading: bool, writing: bool) {
        if reading {
            self.reads_no_more.store(true, Ordering::Relaxed);
            self.end.end_reading();
        }
        if writing {
            self.writes_no_more.store(true, Ordering::Relaxed);
            self.end.end_writing();
        }
    }

    /// What a stream that has come to its end tells: once why the connection broke, if it did.
    fn ending(&self) -> StreamError {
        let broken = self.held.as_ref().and_then(Held::broken);
        match broken {
            Some(kind) if !self.break_told.swap(true, Ordering::Relaxed) => {
                StreamError::LastOperationFailed(io::Error::from(kind).into())
            }
            _ => StreamError::Closed,
        }
    }
}

fn at_once() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// What the guest reads.
pub(super) struct Reader(pub Arc<Link>);

impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let link = &self.0;
        if link.reads_no_more.load(Ordering::Relaxed) {
            return Err(StreamError::Closed);
        }
        let Poll::Ready((there, ended)) = link.end.poll_readable(&at_once()) else {
            return Ok(Bytes::new());
        };
        if there == 0 && ended {
            return Err(link.ending());
        }
        let mut bytes = BytesMut::zeroed(there.min(size).min(READ_BYTES_MAX));
        if let Poll::Ready(count) = link.end.poll_read(&at_once(), &mut bytes, false) {
            bytes.truncate(count);
        }
        Ok(bytes.freeze())
    }
}

impl Pollable for Reader {
    /// `async fn ready` as the `async_trait` macro writes it.
    fn ready<'life, 'future>(&'life mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(std::future::poll_fn(|cx| self.0.end.poll_readable(cx).map(drop)))
    }
}

/// What the guest writes.
pub(super) struct Writer {
    link: Arc<Link>,
    /// Bytes that may be written now.
    permit: usize,
}

impl Writer {
    /// The stream of a connection.
    pub(super) fn new(link: &Arc<Link>) -> Self {
        Self {
            link: Arc::clone(link),
            permit: 0,
        }
    }
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if self.link.writes_no_more.load(Ordering::Relaxed) {
            return Err(StreamError::Closed);
        }
        if bytes.len() > self.permit {
            return Err(StreamError::trap("more was written than check-write allowed"));
        }
        self.permit -= bytes.len();
        if bytes.is_empty() {
            return Ok(());
        }
        // There is room: nobody else writes.
        match self.link.end.poll_write(&at_once(), &bytes) {
            Poll::Ready(Ok(count)) if count == bytes.len() => Ok(()),
            Poll::Ready(Ok(_)) | Poll::Pending => Err(StreamError::trap("there was less room than told")),
            Poll::Ready(Err(_)) => Err(self.link.ending()),
        }
    }

    fn flush(&mut self) -> StreamResult<()> {
        // What was written is on its way.
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.link.writes_no_more.load(Ordering::Relaxed) {
            return Err(StreamError::Closed);
        }
        self.permit = match self.link.end.poll_writable(&at_once()) {
            Poll::Ready((_, true)) => return Err(self.link.ending()),
            Poll::Ready((room, false)) => room,
            Poll::Pending => 0,
        };
        Ok(self.permit)
    }
}

impl Pollable for Writer {
    /// `async fn ready` as the `async_trait` macro writes it.
    fn ready<'life, 'future>(&'life mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(std::future::poll_fn(|cx| {
            self.link.end.poll_writable(cx).map(drop)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::pipe;
    use futures::FutureExt;

    fn streams() -> (Reader, Writer, End) {
        let (ours, theirs) = pipe::pair();
        let link = Link::new(ours, None);
        (Reader(Arc::clone(&link)), Writer::new(&link), theirs)
    }

    fn write(end: &End, bytes: &[u8]) {
        assert!(matches!(end.poll_write(&at_once(), bytes), Poll::Ready(Ok(count)) if count == bytes.len()));
    }

    #[tokio::test]
    async fn bytes_are_read_until_the_end() {
        let (mut reader, _writer, theirs) = streams();
        assert!(reader.read(10).unwrap().is_empty());
        assert!(reader.ready().now_or_never().is_none());
        write(&theirs, b"abcdef");
        reader.ready().await;
        assert!(reader.read(0).unwrap().is_empty());
        assert_eq!(reader.read(4).unwrap(), "abcd");
        drop(theirs);
        assert_eq!(reader.read(100).unwrap(), "ef");
        reader.ready().await;
        assert!(matches!(reader.read(1), Err(StreamError::Closed)));
    }

    #[tokio::test]
    async fn writers_wait_for_room_and_hear_of_the_end() {
        let (_reader, mut writer, theirs) = streams();
        assert!(
            matches!(writer.write(Bytes::from_static(b"x")), Err(StreamError::Trap(_))),
            "not asked"
        );
        let room = writer.check_write().unwrap();
        writer.write(vec![1; room].into()).unwrap();
        writer.flush().unwrap();
        assert_eq!(writer.check_write().unwrap(), 0);
        assert!(writer.ready().now_or_never().is_none());
        let mut some = [0; 100];
        assert_eq!(theirs.poll_read(&at_once(), &mut some, false), Poll::Ready(100));
        writer.ready().await;
        assert_eq!(writer.check_write().unwrap(), 100);
        drop(theirs);
        assert!(matches!(writer.check_write(), Err(StreamError::Closed)));
        writer.ready().await;
    }

    #[tokio::test]
    async fn each_direction_is_shut_down_by_itself() {
        let (mut reader, mut writer, theirs) = streams();
        let link = Arc::clone(&reader.0);
        link.shut_down(false, true);
        link.shut_down(false, true);
        assert!(matches!(writer.check_write(), Err(StreamError::Closed)));
        assert!(matches!(writer.write(Bytes::new()), Err(StreamError::Closed)));
        writer.ready().await;
        assert_eq!(theirs.poll_readable(&at_once()), Poll::Ready((0, true)));
        write(&theirs, b"still");
        assert_eq!(reader.read(9).unwrap(), "still");
        link.shut_down(true, false);
        assert!(matches!(reader.read(9), Err(StreamError::Closed)));
        reader.ready().await;
    }
}
