//! Bytes on their way from a guest to whoever sends them: gathered while nobody takes them, up to a limit.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::body::StreamContext;

/// Bytes of one body that wait to be sent. A guest that writes more waits until they are taken, all at once.
pub(super) const WAITING_BYTES_MAX: usize = 256 * 1024;
/// Room that is made when a second piece comes before the first one was taken.
const GATHER_BYTES: usize = 16 * 1024;

/// How a body ends.
pub(super) enum End {
    /// As it should.
    Whole,
    /// With these.
    Trailers(HeaderMap),
    /// Too early.
    Aborted,
}

#[derive(Default)]
struct State {
    waiting: Waiting,
    /// All that was ever written.
    written: u64,
    end: Option<End>,
    /// Nobody will write any more.
    writer_gone: bool,
    /// Nobody will take any more.
    reader_gone: bool,
    /// Who waits for bytes, or the end.
    reader: Option<Waker>,
    /// Who waits for room.
    writer: Option<Waker>,
}

/// What was written and not taken yet: mostly one piece, which then is never copied.
#[derive(Default)]
enum Waiting {
    #[default]
    Nothing,
    Piece(Bytes),
    Gathered(BytesMut),
}

impl Waiting {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Piece(piece) => piece.len(),
            Self::Gathered(bytes) => bytes.len(),
        }
    }

    fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        *self = match std::mem::take(self) {
            Self::Nothing => Self::Piece(piece),
            Self::Piece(first) => {
                let mut bytes = BytesMut::with_capacity(GATHER_BYTES.max(first.len() + piece.len()));
                bytes.extend_from_slice(&first);
                bytes.extend_from_slice(&piece);
                Self::Gathered(bytes)
            }
            Self::Gathered(mut bytes) => {
                bytes.extend_from_slice(&piece);
                Self::Gathered(bytes)
            }
        };
    }

    fn take(&mut self) -> Option<Bytes> {
        match std::mem::take(self) {
            Self::Nothing => None,
            Self::Piece(piece) => Some(piece),
            Self::Gathered(bytes) => Some(bytes.freeze()),
        }
    }
}

#[derive(Default)]
struct Shared(Mutex<State>);

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both ends of a new pipe.
pub(super) fn pipe() -> (Writer, Reader) {
    let shared = Arc::<Shared>::default();
    (Writer(Arc::clone(&shared)), Reader(shared))
}

/// The end at which a body is ended. Dropped before that, it ends the body as if it were whole.
pub(super) struct Writer(Arc<Shared>);

impl Writer {
    /// Where its bytes are written.
    pub(super) fn stream(&self, context: StreamContext, expected: Option<u64>) -> Stream {
        Stream {
            shared: Arc::clone(&self.0),
            context,
            expected,
        }
    }

    /// How many bytes were written.
    pub(super) fn written(&self) -> u64 {
        self.0.state().written
    }

    /// Ends the body, after what was written.
    pub(super) fn end(self, end: End) {
        self.0.state().end = Some(end);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.writer_gone = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The stream that a guest writes.
pub(super) struct Stream {
    shared: Arc<Shared>,
    context: StreamContext,
    expected: Option<u64>,
}

impl Stream {
    fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.shared.state();
        if state.reader_gone || state.waiting.len() < WAITING_BYTES_MAX {
            return Poll::Ready(());
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        let mut state = self.shared.state();
        if state.reader_gone {
            return Err(StreamError::Closed);
        }
        if bytes.len() > WAITING_BYTES_MAX.saturating_sub(state.waiting.len()) {
            return Err(StreamError::trap("write exceeded budget"));
        }
        state.written += bytes.len() as u64;
        let written = state.written;
        state.waiting.push(bytes);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
        match self.expected {
            Some(expected) if written > expected => Err(StreamError::LastOperationFailed(
                self.context.as_body_size_error(written).into(),
            )),
            _ => Ok(()),
        }
    }

    /// Everything is on its way already.
    fn flush(&mut self) -> Result<(), StreamError> {
        match self.shared.state().reader_gone {
            true => Err(StreamError::Closed),
            false => Ok(()),
        }
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        let state = self.shared.state();
        match state.reader_gone {
            true => Err(StreamError::Closed),
            false => Ok(WAITING_BYTES_MAX.saturating_sub(state.waiting.len())),
        }
    }
}

impl Pollable for Stream {
    /// `async fn ready` as the `async_trait` macro writes it.
    fn ready<'life, 'future>(&'life mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        // A future of no size needs no memory, and mostly there is room.
        if self.poll_room(&Context::from_waker(Waker::noop())).is_ready() {
            return Box::pin(std::future::ready(()));
        }
        Box::pin(poll_fn(|cx| self.poll_room(cx)))
    }
}

/// The end at which the body is taken.
pub(super) struct Reader(Arc<Shared>);

impl Body for Reader {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut state = self.0.state();
        if let Some(bytes) = state.waiting.take() {
            let writer = state.writer.take();
            drop(state);
            if let Some(writer) = writer {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        match state.end.take() {
            Some(End::Whole) => Poll::Ready(None),
            Some(End::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Some(End::Aborted) => Poll::Ready(Some(Err(Error::HttpProtocolError))),
            None if state.writer_gone => Poll::Ready(None),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.reader_gone = true;
        let writer = state.writer.take();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        drop(waiting);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use http_body_util::BodyExt;

    fn written(expected: Option<u64>) -> (Writer, Stream, Reader) {
        let (writer, reader) = pipe();
        let stream = writer.stream(StreamContext::Response, expected);
        (writer, stream, reader)
    }

    fn data(frame: Option<Option<Result<Frame<Bytes>, Error>>>) -> Bytes {
        frame.unwrap().unwrap().unwrap().into_data().unwrap()
    }

    #[test]
    fn pieces_are_gathered_until_they_are_taken() {
        let (writer, mut stream, mut reader) = written(None);
        assert!(reader.frame().now_or_never().is_none());
        for piece in ["a", "", "bc", "d"] {
            stream.write(Bytes::from(piece)).unwrap();
        }
        assert_eq!(data(reader.frame().now_or_never()), "abcd");
        stream.write(Bytes::from("e")).unwrap();
        assert_eq!(writer.written(), 5);
        drop(stream);
        writer.end(End::Whole);
        assert_eq!(data(reader.frame().now_or_never()), "e");
        assert!(reader.frame().now_or_never().unwrap().is_none());
    }

    #[test]
    fn a_writer_waits_for_room_and_a_reader_for_bytes() {
        let (_writer, mut stream, mut reader) = written(None);
        let room = stream.check_write().unwrap();
        assert_eq!(room, WAITING_BYTES_MAX);
        stream.write(Bytes::from(vec![1; room])).unwrap();
        assert_eq!(stream.check_write().unwrap(), 0);
        assert!(matches!(
            stream.write(Bytes::from("x")),
            Err(StreamError::Trap(_))
        ));
        let mut ready = waits_for(&mut stream);
        assert!(!ready.poll());
        assert_eq!(data(reader.frame().now_or_never()).len(), room);
        assert!(ready.woken() && ready.poll());
        drop(ready);
        drop(reader);
        assert!(matches!(stream.check_write(), Err(StreamError::Closed)));
        assert!(matches!(stream.write(Bytes::from("x")), Err(StreamError::Closed)));
        assert!(stream.ready().now_or_never().is_some());
    }

    #[test]
    fn bodies_end_as_they_are_ended() {
        let trailers = HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
        let (writer, stream, mut reader) = written(None);
        drop(stream);
        writer.end(End::Trailers(trailers.clone()));
        let frame = reader.frame().now_or_never().unwrap().unwrap().unwrap();
        assert_eq!(frame.into_trailers().unwrap(), trailers);
        assert!(reader.frame().now_or_never().unwrap().is_none());
        let (writer, _stream, mut reader) = written(None);
        writer.end(End::Aborted);
        assert!(reader.frame().now_or_never().unwrap().unwrap().is_err());
        let (writer, _stream, mut reader) = written(None);
        drop(writer);
        assert!(reader.frame().now_or_never().unwrap().is_none());
    }

    #[test]
    fn more_than_was_announced_is_an_error() {
        let (_writer, mut stream, _reader) = written(Some(2));
        stream.write(Bytes::from("ab")).unwrap();
        let error = stream.write(Bytes::from("c"));
        assert!(matches!(error, Err(StreamError::LastOperationFailed(_))));
    }

    /// A stream that is waited for, and whether whoever waits was woken.
    struct Waits<'a> {
        ready: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
        woken: Arc<Woken>,
    }

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    fn waits_for(stream: &mut Stream) -> Waits<'_> {
        Waits {
            ready: stream.ready(),
            woken: Arc::default(),
        }
    }

    impl Waits<'_> {
        fn poll(&mut self) -> bool {
            let waker = Waker::from(Arc::clone(&self.woken));
            self.ready
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
        }

        fn woken(&self) -> bool {
            self.woken.0.load(std::sync::atomic::Ordering::SeqCst)
        }
    }
}
