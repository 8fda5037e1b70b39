//! The bodies of a call: the request's on its way to the instance, the response's on its way back.

use super::call::Lease;
use super::connection::Sender;
use crate::invoke::state::{CallFailure, CallState};
use bytes::Bytes;
use futures::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use kittiwake_core::body::{Body, BodyError};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// How long a body is held back that the instance has not asked for (Go's `ExpectContinueTimeout`, which Knative's
/// queue-proxy has).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// A request body that is counted, and held back until the instance wants it where the client said that it would wait.
pub(crate) struct CallBody {
    inner: Body,
    left: u64,
    state: Arc<CallState>,
    held_back: Option<HeldBack>,
}

struct HeldBack {
    wanted: Arc<Wanted>,
    wait: Pin<Box<Sleep>>,
}

/// Whether the instance has asked for the body: with `100 Continue`.
#[derive(Default)]
pub(crate) struct Wanted {
    is_wanted: AtomicBool,
    waker: AtomicWaker,
}

impl Wanted {
    /// It has.
    pub(crate) fn set(&self) {
        self.is_wanted.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl CallBody {
    /// At most `limit` bytes of `inner`.
    pub(crate) fn new(inner: Body, limit: u64, state: Arc<CallState>) -> Self {
        Self {
            inner,
            left: limit,
            state,
            held_back: None,
        }
    }

    /// What was made into it, for a request of which nothing was sent.
    pub(crate) fn into_inner(self) -> Body {
        self.inner
    }

    /// Holds it back until it is wanted.
    pub(crate) fn hold_back(&mut self) -> Arc<Wanted> {
        let wanted = Arc::<Wanted>::default();
        self.held_back = Some(HeldBack {
            wanted: Arc::clone(&wanted),
            wait: Box::pin(sleep(CONTINUE_WAIT)),
        });
        wanted
    }
}

impl HttpBody for CallBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(held_back) = &mut self.held_back {
            held_back.wanted.waker.register(cx.waker());
            if !held_back.wanted.is_wanted.load(Ordering::Acquire) {
                std::task::ready!(held_back.wait.as_mut().poll(cx));
            }
            self.held_back = None;
        }
        let frame = match std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        if let Some(data) = frame.data_ref() {
            match self.left.checked_sub(data.len() as u64) {
                Some(left) => self.left = left,
                None => {
                    self.state.set_body_too_large();
                    return Poll::Ready(Some(Err("the request body is larger than the limit".into())));
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

/// Streams what the instance sends, within the call's limits. Dropping it before its end ends the connection, or the
/// stream of HTTP/2, which the instance sees.
pub(crate) struct AnswerBody {
    inner: Incoming,
    /// Given back at the end, unless the connection `closes` then.
    sender: Option<Sender>,
    closes: bool,
    lease: Option<Lease>,
    deadline: Pin<Box<Sleep>>,
    idle: Option<Idle>,
}

struct Idle {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl AnswerBody {
    /// The body `inner` of a call that must have ended at `deadline`.
    pub(crate) fn new(
        inner: Incoming,
        sender: Sender,
        closes: bool,
        lease: Lease,
        deadline: Instant,
        idle: Option<Duration>,
    ) -> Self {
        Self {
            inner,
            sender: Some(sender),
            closes,
            lease: Some(lease),
            deadline: Box::pin(sleep_until(deadline)),
            idle: idle.map(|limit| Idle {
                limit,
                timer: Box::pin(sleep_until(Instant::now() + limit)),
                waiting: false,
            }),
        }
    }

    /// Everything came: the connection can take the next call.
    fn finish(&mut self) {
        if let (Some(sender), Some(lease)) = (self.sender.take(), self.lease.take())
            && !self.closes
        {
            lease.instance.connections.give_back(sender);
        }
    }

    fn break_off(&mut self, failure: CallFailure) -> BodyError {
        if let Some(lease) = self.lease.take() {
            lease.tell(&failure);
        }
        self.sender = None;
        failure.into_body_error()
    }

    fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<CallFailure> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(CallFailure::TimedOut);
        }
        let Some(idle) = &mut self.idle else {
            return Poll::Pending;
        };
        if !idle.waiting {
            idle.waiting = true;
            idle.timer.as_mut().reset(Instant::now() + idle.limit);
        }
        idle.timer.as_mut().poll(cx).map(|()| CallFailure::Idle)
    }
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.lease.is_none() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(idle) = &mut self.idle {
                    idle.waiting = false;
                }
                if self.inner.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let failure = CallFailure::BrokenOff(error.to_string());
                Poll::Ready(Some(Err(self.break_off(failure))))
            }
            Poll::Pending => {
                let failure = std::task::ready!(self.poll_limits(cx));
                Poll::Ready(Some(Err(self.break_off(failure))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.lease.is_none() || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // A body that never had anything is not asked for its end.
        if self.inner.is_end_stream() {
            self.finish();
        }
    }
}
