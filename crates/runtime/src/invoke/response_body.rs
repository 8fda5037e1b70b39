//! The response body on its way from the guest.

use super::Held;
use super::state::{CallFailure, CallState};
use crate::service::Seated;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use kittiwake_core::body::BodyError;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::Error as HttpError;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// What is known of the body of a guest that has ended.
pub(crate) enum Collapsed {
    /// It is these bytes, and no trailers.
    Whole(Bytes),
    /// It has more than one frame, or ends with an error: what was taken out of it, and what is left.
    Partly(Taken, HyperOutgoingBody),
}

/// Frames that were taken out of a body to look at them, in order.
pub(crate) type Taken = VecDeque<Result<Frame<Bytes>, HttpError>>;

/// Takes a short body out of its channel: it can then be sent with its length, in one piece.
pub(crate) fn collapse(mut body: HyperOutgoingBody) -> Collapsed {
    // Whoever wrote has ended, so there is nothing to be woken for.
    let mut cx = Context::from_waker(Waker::noop());
    let mut taken = Taken::new();
    while taken.len() < 2 {
        match Pin::new(&mut body).poll_frame(&mut cx) {
            Poll::Ready(Some(frame)) => taken.push_back(frame),
            Poll::Pending => break,
            Poll::Ready(None) => {
                if taken.is_empty() {
                    return Collapsed::Whole(Bytes::new());
                }
                if let Some(Ok(frame)) = taken.front()
                    && let Some(data) = frame.data_ref()
                    && taken.len() == 1
                {
                    return Collapsed::Whole(data.clone());
                }
                break;
            }
        }
    }
    Collapsed::Partly(taken, body)
}

/// Streams what the guest writes. Ends with an error when the guest failed; dropping it before its end cancels the
/// guest.
pub(crate) struct ResponseBody {
    /// What was taken out of `inner` already.
    taken: Taken,
    inner: HyperOutgoingBody,
    state: Arc<CallState>,
    /// Set while the guest still runs.
    guest: Option<Guest>,
    idle: Option<Idle>,
    /// Bytes that `Content-Length` announced and that did not come yet.
    expected: Option<u64>,
    ended: bool,
}

/// The guest that writes a body.
pub(crate) enum Guest {
    /// A task of its own, which ends by itself at the call's time limit.
    Task(AbortHandle),
    /// One that may serve others as well: the call leaves it, and at its time limit.
    Seated {
        seated: Seated,
        deadline: Pin<Box<Sleep>>,
        held: Held,
    },
}

impl Guest {
    fn stop(self, whole: bool) {
        match self {
            Self::Task(task) if !whole => task.abort(),
            Self::Task(_) => {}
            Self::Seated { mut seated, held, .. } => {
                if whole {
                    seated.set_whole();
                }
                drop(seated);
                drop(held);
            }
        }
    }
}

/// The limit on silence, armed while the guest is waited for.
struct Idle {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl ResponseBody {
    /// The body `taken`, then `inner`. `guest` still writes it; `idle` is the longest silence.
    pub(crate) fn new(
        taken: Taken,
        inner: HyperOutgoingBody,
        state: Arc<CallState>,
        guest: Option<Guest>,
        idle: Option<Duration>,
        expected: Option<u64>,
    ) -> Self {
        let idle = idle.filter(|_| guest.is_some()).map(|limit| Idle {
            limit,
            timer: Box::pin(sleep_until(Instant::now() + limit)),
            waiting: false,
        });
        Self {
            taken,
            inner,
            state,
            guest,
            idle,
            expected,
            ended: false,
        }
    }

    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.ended = true;
        let failure = self.state.failure();
        Poll::Ready(failure.map(|failure| Err(failure.clone().into_body_error())))
    }

    /// Whether the call took too long; a guest that is a task of its own sees to that itself.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.guest {
            Some(Guest::Seated { deadline, .. }) => deadline.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    }

    /// Whether the guest was silent for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(idle) = &mut self.idle else {
            return Poll::Pending;
        };
        if !idle.waiting {
            idle.waiting = true;
            idle.timer.as_mut().reset(Instant::now() + idle.limit);
        }
        idle.timer.as_mut().poll(cx)
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = match self.taken.pop_front() {
            Some(taken) => Poll::Ready(Some(taken)),
            None => Pin::new(&mut self.inner).poll_frame(cx),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(idle) = &mut self.idle {
                    idle.waiting = false;
                }
                if let (Some(expected), Some(data)) = (self.expected, frame.data_ref()) {
                    self.expected = Some(expected.saturating_sub(data.len() as u64));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => self.end(),
            Poll::Ready(Some(Err(error))) => {
                self.ended = true;
                let why = self.state.failure().map_or_else(
                    || format!("the function broke off its response: {error:?}"),
                    ToString::to_string,
                );
                Poll::Ready(Some(Err(why.into())))
            }
            Poll::Pending => {
                if self.poll_deadline(cx).is_ready() {
                    self.state.fail(CallFailure::TimedOut);
                } else {
                    std::task::ready!(self.poll_idle(cx));
                    self.state.fail(CallFailure::Idle);
                }
                if let Some(guest) = self.guest.take() {
                    guest.stop(false);
                }
                self.end()
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.expected.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for ResponseBody {
    /// A guest that has sent all it announced may go on within its time limit; one whose client left is stopped.
    fn drop(&mut self) {
        let complete = self.ended || self.expected == Some(0);
        if let Some(guest) = self.guest.take() {
            guest.stop(complete);
        }
    }
}
