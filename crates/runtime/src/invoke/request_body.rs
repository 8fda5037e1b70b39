//! The request body on its way to the guest, counted.

use super::state::CallState;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use kittiwake_core::body::Body;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use wasmtime_wasi_http::Error as HttpError;

/// A body that ends with an error when it is longer than the limit.
pub(crate) struct RequestBody {
    inner: Body,
    left: u64,
    limit: u64,
    state: Arc<CallState>,
}

impl RequestBody {
    /// At most `limit` bytes of `inner`.
    pub(crate) fn new(inner: Body, limit: u64, state: Arc<CallState>) -> Self {
        Self {
            inner,
            left: limit,
            limit,
            state,
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let frame = match std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Poll::Ready(Some(Err(HttpError::ConnectionTerminated))),
            None => return Poll::Ready(None),
        };
        if let Some(data) = frame.data_ref() {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.state.set_body_too_large();
                    return Poll::Ready(Some(Err(HttpError::HttpRequestBodySize(Some(self.limit)))));
                }
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
