//! A request's body, with an eye on a client that stops sending in the midst of it.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use kittiwake_core::body::{Body, BodyError};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

/// Tells that a client sent nothing for too long while the function waited for it.
pub(crate) type Stall = oneshot::Receiver<()>;

/// The body as the function reads it, and who tells of a stall. Once that is dropped, because the function answered,
/// the client may be silent as long as it likes: the limits of the revision count. `None` where there is nothing to
/// wait for.
pub(crate) fn watched<B>(body: B, limit: Duration) -> (Body, Option<Stall>)
where
    B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static,
{
    if limit.is_zero() || body.is_end_stream() {
        return (body.map_err(Into::into).boxed_unsync(), None);
    }
    let (tell, stall) = oneshot::channel();
    let body = ClientBody {
        body,
        limit,
        tell: Some(tell),
        silence: None,
    };
    (body.boxed_unsync(), Some(stall))
}

struct ClientBody<B> {
    body: B,
    limit: Duration,
    /// `None` once nobody listens.
    tell: Option<oneshot::Sender<()>>,
    /// Made with the first silence.
    silence: Option<Silence>,
}

struct Silence {
    sleep: Pin<Box<Sleep>>,
    /// Whether it began since the last piece.
    running: bool,
}

impl<B> ClientBody<B> {
    /// Whether the silence has lasted too long.
    fn is_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        if self.tell.as_ref().is_none_or(oneshot::Sender::is_closed) {
            self.tell = None;
            self.silence = None;
            return false;
        }
        let limit = self.limit;
        let silence = self.silence.get_or_insert_with(|| Silence {
            sleep: Box::pin(tokio::time::sleep(limit)),
            running: true,
        });
        if !silence.running {
            silence.running = true;
            silence.sleep.as_mut().reset(Instant::now() + limit);
        }
        silence.sleep.as_mut().poll(cx).is_ready()
    }
}

impl<B> http_body::Body for ClientBody<B>
where
    B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some(silence) = &mut self.silence {
                silence.running = false;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if self.is_stalled(cx) {
            // Whoever listens drops the call; so the function is not told, and cannot answer in the last moment.
            if let Some(tell) = self.tell.take() {
                let _ = tell.send(());
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
