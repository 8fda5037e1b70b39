//! A connection in memory: two ends, each of which is read and written, as the two of a TCP connection are.
//!
//! Dropping an end ends both directions: the other one reads what is still under way and then the end of the stream;
//! what it writes is refused. So does a real connection, without the race that makes a reset lose the last bytes.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are under way in one direction; who writes more waits. Memory is taken only as it is used.
const UNDER_WAY_BYTES_MAX: usize = 64 * 1024;
/// What an empty buffer may keep.
const KEPT_BYTES_MAX: usize = 4 * 1024;

#[derive(Debug, Default)]
struct Direction(Mutex<Flow>);

#[derive(Debug, Default)]
struct Flow {
    bytes: VecDeque<u8>,
    /// Nothing more will be written.
    ended: bool,
    /// Nobody will read any more.
    unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Direction {
    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        let mut flow = self.flow();
        flow.ended = true;
        wake(flow.reader.take());
        wake(flow.writer.take());
    }

    fn leave_unread(&self) {
        let mut flow = self.flow();
        flow.unread = true;
        flow.bytes = VecDeque::new();
        wake(flow.writer.take());
        wake(flow.reader.take());
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    incoming: Arc<Direction>,
    outgoing: Arc<Direction>,
}

/// Two ends that are connected.
pub(crate) fn pair() -> (End, End) {
    let (one, other) = (Arc::<Direction>::default(), Arc::<Direction>::default());
    let end = |incoming: &Arc<Direction>, outgoing: &Arc<Direction>| End {
        incoming: Arc::clone(incoming),
        outgoing: Arc::clone(outgoing),
    };
    (end(&one, &other), end(&other, &one))
}

impl End {
    /// Reads into `buffer`; 0 is the end of the stream. With `peek` the bytes stay where they are.
    pub(crate) fn poll_read(&self, cx: &Context<'_>, buffer: &mut [u8], peek: bool) -> Poll<usize> {
        let mut flow = self.incoming.flow();
        if flow.bytes.is_empty() && !flow.ended && !flow.unread && !buffer.is_empty() {
            flow.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if peek {
            let (first, second) = flow.bytes.as_slices();
            return Poll::Ready(first.chain(second).read(buffer).unwrap_or(0));
        }
        // Reading from memory never fails.
        let mut count = flow.bytes.read(buffer).unwrap_or(0);
        if let Some(rest) = buffer.get_mut(count..) {
            count += flow.bytes.read(rest).unwrap_or(0);
        }
        if flow.bytes.is_empty() && flow.bytes.capacity() > KEPT_BYTES_MAX {
            flow.bytes = VecDeque::new();
        }
        wake(flow.writer.take());
        Poll::Ready(count)
    }

    /// Writes as much as there is room for.
    pub(crate) fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut flow = self.outgoing.flow();
        if flow.unread || flow.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = UNDER_WAY_BYTES_MAX.saturating_sub(flow.bytes.len());
        let part = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        if part.is_empty() && !bytes.is_empty() {
            flow.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let written = flow.bytes.write(part);
        wake(flow.reader.take());
        Poll::Ready(written)
    }

    /// How much can be read, once there is something or the stream has ended; `true` when it has.
    pub(crate) fn poll_readable(&self, cx: &Context<'_>) -> Poll<(usize, bool)> {
        let mut flow = self.incoming.flow();
        if flow.bytes.is_empty() && !flow.ended && !flow.unread {
            flow.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready((flow.bytes.len(), flow.ended))
    }

    /// How much can be written, once there is room or nobody reads any more; `true` when nobody does.
    pub(crate) fn poll_writable(&self, cx: &Context<'_>) -> Poll<(usize, bool)> {
        let mut flow = self.outgoing.flow();
        let room = UNDER_WAY_BYTES_MAX.saturating_sub(flow.bytes.len());
        if room == 0 && !flow.unread && !flow.ended {
            flow.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready((room, flow.unread))
    }

    /// Says that nothing more will be written.
    pub(crate) fn end_writing(&self) {
        self.outgoing.end();
    }

    /// Says that nothing more will be read.
    pub(crate) fn end_reading(&self) {
        self.incoming.leave_unread();
    }

    /// Tells later whether the other end has gone.
    pub(crate) fn watch(&self) -> Watch {
        Watch(Arc::clone(&self.incoming))
    }
}

/// Looks at a connection from outside.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Direction>);

impl Watch {
    /// Whether the other end is gone, or will write nothing more.
    pub(crate) fn is_ended(&self) -> bool {
        self.0.flow().ended
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.end_writing();
        self.end_reading();
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = std::task::ready!(End::poll_read(&self, cx, buffer.initialize_unfilled(), false));
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        End::poll_write(&self, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end_writing();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn bytes_arrive_in_order_and_writers_wait_for_readers() {
        let (mut one, mut other) = pair();
        let sent: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            one.write_all(&sent).await.unwrap();
            one.shutdown().await.unwrap();
            let mut back = String::new();
            one.read_to_string(&mut back).await.unwrap();
            back
        });
        let mut received = Vec::new();
        other.read_to_end(&mut received).await.unwrap();
        assert!(received == expected);
        other.write_all(b"thanks").await.unwrap();
        drop(other);
        assert_eq!(writer.await.unwrap(), "thanks", "the last bytes are not lost");
    }

    #[tokio::test]
    async fn an_end_that_is_gone_is_seen() {
        let (mut one, other) = pair();
        let cx = Context::from_waker(Waker::noop());
        let watch = one.watch();
        assert!(one.poll_readable(&cx).is_pending() && !watch.is_ended());
        assert_eq!(one.poll_writable(&cx), Poll::Ready((UNDER_WAY_BYTES_MAX, false)));
        drop(other);
        assert_eq!(one.poll_readable(&cx), Poll::Ready((0, true)));
        assert!(watch.is_ended());
        assert_eq!(
            one.write_all(b"x").await.unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        assert_eq!(one.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[test]
    fn looking_takes_nothing_away() {
        let (one, other) = pair();
        let cx = Context::from_waker(Waker::noop());
        let _ = one.poll_write(&cx, b"abc");
        let mut buffer = [0; 2];
        for peek in [true, true, false] {
            assert_eq!(other.poll_read(&cx, &mut buffer, peek), Poll::Ready(2));
            assert_eq!(&buffer, b"ab");
        }
        assert_eq!(other.poll_read(&cx, &mut buffer, false), Poll::Ready(1));
    }
}
