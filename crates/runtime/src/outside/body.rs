//! The bodies of requests that go out, and of the responses to them.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

/// A request's body; who waits for its end is told when it is dropped.
pub(super) struct RequestBody {
    inner: WasiBody,
    _done: oneshot::Sender<()>,
}

impl RequestBody {
    /// `done` is dropped with it.
    pub(super) fn new(inner: WasiBody, done: oneshot::Sender<()>) -> Self {
        Self { inner, _done: done }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body. It keeps its function's place among the requests under way.
pub(super) struct ResponseBody<B: Body> {
    inner: B,
    broken: fn(B::Error) -> Error,
    limit: Duration,
    /// Made with the first silence.
    silence: Option<Pin<Box<Sleep>>>,
    /// Whether it began since the last piece.
    silent: bool,
    _place: OwnedSemaphorePermit,
}

impl<B: Body> ResponseBody<B> {
    /// The body, with at most `limit` between its pieces.
    pub(super) fn new(
        inner: B,
        broken: fn(B::Error) -> Error,
        limit: Duration,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            inner,
            broken,
            limit,
            silence: None,
            silent: false,
            _place: place,
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.silent = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(this.broken)));
        }
        let limit = this.limit;
        let silence = this
            .silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !std::mem::replace(&mut this.silent, true) {
            silence.as_mut().reset(Instant::now() + limit);
        }
        std::task::ready!(silence.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
