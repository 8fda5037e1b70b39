//! What a program prints, on its way to the client.

use crate::invoke::Call;
use crate::invoke::state::{CallFailure, CallState};
use crate::network::pipe::End;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use kittiwake_core::body::BodyError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes of one piece.
const PIECE_BYTES: usize = 32 * 1024;

/// The output of a program that may still run. Dropping it before its end ends the program.
pub(super) struct Output {
    end: End,
    /// What was read already.
    begun: Vec<u8>,
    task: AbortHandle,
    state: Arc<CallState>,
    idle: Option<(Duration, Pin<Box<Sleep>>)>,
    ended: bool,
}

impl Output {
    /// The output that comes out of `end`.
    pub(super) fn new(end: End, task: AbortHandle, call: &Call) -> Self {
        Self {
            end,
            begun: Vec::new(),
            task,
            state: Arc::clone(&call.state),
            idle: call
                .revision
                .limits
                .idle_timeout
                .map(|limit| (limit, Box::pin(sleep_until(Instant::now() + limit)))),
            ended: false,
        }
    }

    /// Reads some; 0 is the end.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> usize {
        let count = std::future::poll_fn(|cx| self.end.poll_read(cx, buffer, false)).await;
        self.ended = count == 0;
        count
    }

    /// Puts back what was read of the body.
    pub(super) fn begin_with(&mut self, begun: Vec<u8>) {
        self.begun = begun;
    }

    /// The whole body, where the program has ended well and what is left of it is short: it can then be sent with its
    /// length, in one piece.
    pub(super) fn take_whole(&mut self, begun: &[u8]) -> Option<Bytes> {
        let mut rest = vec![0; PIECE_BYTES];
        // Nobody writes any more once the task has ended, so there is nothing to be woken for.
        if !self.task.is_finished() || self.state.failure().is_some() {
            return None;
        }
        let cx = Context::from_waker(Waker::noop());
        let (Poll::Ready(count), false) = (self.end.poll_read(&cx, &mut rest, true), self.ended) else {
            return None;
        };
        if count == rest.len() {
            return None;
        }
        self.ended = true;
        rest.truncate(count);
        Some([begun, &rest].concat().into())
    }
}

impl HttpBody for Output {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.begun.is_empty() {
            let begun = std::mem::take(&mut self.begun);
            return Poll::Ready(Some(Ok(Frame::data(begun.into()))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let mut piece = vec![0; PIECE_BYTES];
        match self.end.poll_read(cx, &mut piece, false) {
            Poll::Ready(0) => {
                self.ended = true;
                Poll::Ready(
                    self.state
                        .failure()
                        .map(|failure| Err(failure.clone().into_body_error())),
                )
            }
            Poll::Ready(count) => {
                piece.truncate(count);
                if let Some((limit, timer)) = &mut self.idle {
                    let next = Instant::now() + *limit;
                    timer.as_mut().reset(next);
                }
                Poll::Ready(Some(Ok(Frame::data(piece.into()))))
            }
            Poll::Pending => {
                let Some((_, timer)) = &mut self.idle else {
                    return Poll::Pending;
                };
                std::task::ready!(timer.as_mut().poll(cx));
                self.state.fail(CallFailure::Idle);
                self.task.abort();
                self.ended = true;
                Poll::Ready(Some(Err(CallFailure::Idle.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.begun.is_empty()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if !self.ended {
            self.task.abort();
        }
    }
}
