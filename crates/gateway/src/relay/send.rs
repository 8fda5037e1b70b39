//! Passing a call on.

use super::Relay;
use super::peer::{Peer, Way};
use super::wire::{self, Asked, Back};
use crate::activator::Elsewhere;
use crate::proxy::Gateway;
use crate::proxy::call::Call;
use futures::future::BoxFuture;
use http::header::UPGRADE;
use http::{Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use kittiwake_core::body::{self, Body};
use kittiwake_core::inside::Hops;
use kittiwake_core::invoke::InvokeError;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// How long a process is waited for that does not take the call, before another one is tried.
const PATIENCE: Duration = Duration::from_millis(250);
/// When a caller that found nobody may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const NOBODY: InvokeError = InvokeError::Overloaded {
    retry_after: RETRY_AFTER,
};

/// A call on its way to another process.
struct Passing {
    elsewhere: Elsewhere,
    uid: String,
    /// When it came in.
    accepted: Instant,
    /// Until when somebody has to take it.
    deadline: Instant,
    /// Whether it asks for another protocol.
    may_switch: bool,
}

impl Relay {
    /// The processes to try, in order: each call begins with the next.
    fn owners(&self, elsewhere: Elsewhere) -> impl Iterator<Item = &Peer> {
        let count = elsewhere.count.get();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let start = u32::try_from(turn % usize::try_from(count).unwrap_or(usize::MAX)).unwrap_or(0);
        (0..count).filter_map(move |step| {
            let place = (start + step) % count;
            let index = elsewhere.owners.process(place);
            self.peers.get(usize::try_from(index).ok()?)
        })
    }
}

impl Gateway {
    /// Has another process call the function; `None` when the client stalled before there was an answer. Until somebody has
    /// taken the call it waits, within its time for an answer; nobody takes it twice. In a box, so that no other call is
    /// larger for it.
    pub(crate) fn pass_on<'a>(
        &'a self,
        call: &Call,
        elsewhere: Elsewhere,
        request: Request<Body>,
    ) -> BoxFuture<'a, Option<Result<Response<Body>, InvokeError>>> {
        let revision = Arc::clone(&call.target.revision);
        let accepted = call.accepted();
        Box::pin(async move {
            let Some(relay) = &self.relay else {
                // Whoever has no neighbours is handed no table in which others are owners.
                return Some(Err(InvokeError::Internal(
                    "there are no other workers".to_owned(),
                )));
            };
            self.metrics.passed_on.inc();
            let passing = Passing {
                elsewhere,
                uid: revision.uid.to_string(),
                accepted,
                deadline: accepted + revision.limits.head_limit(),
                may_switch: request.headers().contains_key(UPGRADE),
            };
            let back = match self.send(relay, &passing, request).await {
                Ok(answer) => wire::understand(answer),
                Err(error) => return Some(Err(error)),
            };
            match back {
                Back::Answered(answer) => {
                    Some(Ok(answer.map(|body| body.map_err(Into::into).boxed_unsync())))
                }
                Back::Failed(error) => Some(Err(error)),
                Back::Stalled => None,
                Back::Unswitched => {
                    // What is missing in it makes it no answer, as from a function here.
                    let mut answer = Response::new(body::empty());
                    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                    Some(Ok(answer))
                }
                Back::Refused => {
                    tracing::debug!(revision = %revision.key, "another worker knows nothing of a revision any more, or yet");
                    Some(Err(NOBODY))
                }
            }
        })
    }

    /// Sends the call to one of the owners, and once more as long as nothing of it was sent.
    async fn send(
        &self,
        relay: &Relay,
        passing: &Passing,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, InvokeError> {
        // In the origin form without an authority, which is only for what came as HTTP/1.1; `Host` has the name.
        *request.version_mut() = Version::HTTP_11;
        loop {
            let mut way = self.open(relay, passing).await?;
            let asked = Asked {
                uid: passing.uid.clone(),
                age: passing.accepted.elapsed(),
                hops: Hops::of(&request),
            };
            asked.put(request.headers_mut());
            match way.send(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => request = unsent(error)?,
            }
        }
    }

    /// The way to the first of the owners that is there.
    async fn open(&self, relay: &Relay, passing: &Passing) -> Result<Way, InvokeError> {
        let opening = async {
            loop {
                let mut owners = relay.owners(passing.elsewhere).peekable();
                if owners.peek().is_none() {
                    return Err(NOBODY);
                }
                for peer in owners {
                    if let Ok(way) = timeout(PATIENCE, peer.way(passing.may_switch, &self.config)).await {
                        return Ok(way);
                    }
                }
                // The others end as well: nobody will come.
                if self.drain.is_ending() {
                    return Err(NOBODY);
                }
            }
        };
        timeout_at(passing.deadline, opening).await.unwrap_or(Err(NOBODY))
    }
}

/// The request, where nothing of it was sent, so that it can go to another process.
fn unsent(mut error: TrySendError<Request<Body>>) -> Result<Request<Body>, InvokeError> {
    let unsent = error.take_message();
    unsent.ok_or_else(|| {
        let error = error.into_error();
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a call that was passed on broke off"
        );
        InvokeError::BadGateway("the worker that had the call ended".to_owned())
    })
}
