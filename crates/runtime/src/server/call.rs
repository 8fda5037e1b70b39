//! One call of an instance that listens by itself.

use super::body::{AnswerBody, CallBody};
use super::connection::{ConnectionError, Sender};
use super::flights::Flight;
use super::instance::Instance;
use super::request;
use crate::gate::Refused;
use crate::invoke::state::{CallFailure, CallState};
use crate::network;
use crate::runtime::Shared;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use kittiwake_core::body::{self, Body};
use kittiwake_core::invoke::{CallReport, InvokeError};
use kittiwake_core::log::LogStream;
use kittiwake_core::resident::ResidentError;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// When a caller that was refused for lack of room may try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a call holds until its answer is whole.
pub(crate) struct Lease {
    /// The instance that it is in.
    pub instance: Arc<Instance>,
    shared: Arc<Shared>,
    flight: Flight,
}

impl Lease {
    /// Says in the log why an answer that had begun was broken off.
    pub(crate) fn tell(&self, failure: &CallFailure) {
        let reason = match failure {
            CallFailure::TimedOut | CallFailure::Idle => "timeout",
            CallFailure::Trapped(_) | CallFailure::BrokenOff(_) => "broken_off",
        };
        self.shared.metrics.failed(reason);
        self.instance.function.log.write(
            LogStream::Platform,
            &format!("an answer was broken off: {failure}"),
        );
    }
}

impl Instance {
    /// See [`kittiwake_core::resident::Resident::invoke`].
    pub(super) async fn call(
        self: Arc<Self>,
        shared: Arc<Shared>,
        request: http::Request<Body>,
        accepted: Instant,
    ) -> Result<http::Response<Body>, ResidentError> {
        let limits = &self.revision.limits;
        if http_body::Body::size_hint(request.body()).lower() > limits.request_body.0 {
            return Err(too_large(&shared).into());
        }
        let deadline = accepted + limits.timeout;
        let head_deadline = accepted + limits.head_limit();
        let mut flight = self.flights.begin();
        let begun = shared.clock.elapsed();
        if let Some(gate) = &self.gate {
            let turn = gate.enter(head_deadline).await;
            flight.turn = Some(turn.map_err(|refused| refuse(&shared, refused))?);
        }
        let start = self.start_awaited(accepted);
        let report = CallReport {
            cold_start: start.map(|start| start.took),
            queued: shared.clock.elapsed().saturating_sub(begun),
            instantiated: start.map_or(Duration::ZERO, |start| start.instantiated),
            reused: start.is_none(),
        };
        let state = Arc::<CallState>::default();
        let request = self.prepare(request, &state);
        let answered = tokio::select! {
            biased;
            () = state.body_too_large() => return Err(too_large(&shared).into()),
            answered = timeout_at(head_deadline, self.exchange(request)) => answered,
        };
        let (sender, response) = match answered {
            Ok(Ok(answered)) => answered,
            Ok(Err(Unanswered::Ended(request))) => {
                return Err(ResidentError::Ended(Box::new(request.map(CallBody::into_inner))));
            }
            Ok(Err(_)) if state.is_body_too_large() => return Err(too_large(&shared).into()),
            Ok(Err(Unanswered::Failed(error))) => return Err(self.bad(&shared, &error).into()),
            Err(_) => return Err(self.timed_out(&shared).into()),
        };
        self.function
            .succeeded(&self.revision, &shared.reporter, &shared.answered);
        let lease = Lease {
            instance: Arc::clone(&self),
            shared,
            flight,
        };
        let mut response = respond(lease, sender, response, deadline);
        response.extensions_mut().insert(report);
        Ok(response)
    }

    fn prepare(&self, request: http::Request<Body>, state: &Arc<CallState>) -> http::Request<CallBody> {
        let (mut parts, body) = request.into_parts();
        request::prepare(&mut parts, self.revision.protocol);
        let expects = parts.headers.get(http::header::EXPECT);
        let waits = expects.is_some_and(|expects| expects.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let mut body = CallBody::new(body, self.revision.limits.request_body.0, Arc::clone(state));
        let wanted = waits.then(|| body.hold_back());
        let mut request = http::Request::from_parts(parts, body);
        if let Some(wanted) = wanted {
            hyper::ext::on_informational(&mut request, move |answer| {
                if answer.status() == http::StatusCode::CONTINUE {
                    wanted.set();
                }
            });
        }
        request
    }

    /// Sends a request. A connection that was kept may have been closed by the guest meanwhile: then a new one is tried,
    /// if nothing was sent, or what was sent can be repeated (RFC 9110 §9.2.2) and has no body.
    async fn exchange(
        &self,
        request: http::Request<CallBody>,
    ) -> Result<(Sender, http::Response<Incoming>), Unanswered> {
        let mut sender = match self.connections.get().await {
            Ok(sender) => sender,
            Err(error) => return Err(Unanswered::new(request, error)),
        };
        let again = (sender.is_reused()
            && http_body::Body::is_end_stream(request.body())
            && request.method().is_idempotent())
        .then(|| copy(&request));
        let not_sent = match sender.send(request).await {
            Ok(response) => return Ok((sender, response)),
            Err(not_sent) => not_sent,
        };
        match not_sent.request.or(again) {
            Some(request) if sender.is_reused() => {
                let mut sender = match self.connections.open().await {
                    Ok(sender) => sender,
                    Err(error) => return Err(Unanswered::new(request, error)),
                };
                match sender.send(request).await {
                    Ok(response) => Ok((sender, response)),
                    Err(not_sent) => Err(Unanswered::Failed(not_sent.error.into())),
                }
            }
            _ => Err(Unanswered::Failed(not_sent.error.into())),
        }
    }

    fn bad(&self, shared: &Shared, error: &ConnectionError) -> InvokeError {
        shared.metrics.failed("bad_answer");
        let message = causes(error);
        self.function.log.write(
            LogStream::Platform,
            &format!("a call got no valid answer: {message}"),
        );
        InvokeError::BadGateway(message)
    }

    fn timed_out(&self, shared: &Shared) -> InvokeError {
        shared.metrics.failed("timeout");
        self.function.log.write(
            LogStream::Platform,
            "a call was given up because it took longer than its time limit (timeoutSeconds, responseStartTimeoutSeconds or idleTimeoutSeconds)",
        );
        InvokeError::TimedOut
    }
}

/// A request that got no answer.
enum Unanswered {
    /// The instance had ended, and nothing of the request was sent.
    Ended(Box<http::Request<CallBody>>),
    Failed(ConnectionError),
}

impl Unanswered {
    /// A request for which there was no connection.
    fn new(request: http::Request<CallBody>, error: ConnectionError) -> Self {
        match error {
            ConnectionError::Refused(network::Refused::Ended) => Self::Ended(Box::new(request)),
            error => Self::Failed(error),
        }
    }
}

/// A request without a body once more.
fn copy(request: &http::Request<CallBody>) -> http::Request<CallBody> {
    let mut copied = http::Request::new(CallBody::new(body::empty(), 0, Arc::default()));
    *copied.method_mut() = request.method().clone();
    *copied.uri_mut() = request.uri().clone();
    *copied.version_mut() = request.version();
    *copied.headers_mut() = request.headers().clone();
    copied
}

fn respond(
    lease: Lease,
    sender: Sender,
    response: http::Response<Incoming>,
    deadline: Instant,
) -> http::Response<Body> {
    let (mut parts, incoming) = response.into_parts();
    let closes = request::closes(&parts.headers);
    if parts.status == http::StatusCode::SWITCHING_PROTOCOLS {
        sender.let_go(lease.flight);
        return http::Response::from_parts(parts, body::empty());
    }
    request::strip(&mut parts.headers);
    parts.version = http::Version::default();
    let idle = lease.instance.revision.limits.idle_timeout;
    let body = AnswerBody::new(incoming, sender, closes, lease, deadline, idle);
    http::Response::from_parts(parts, body.boxed_unsync())
}

fn too_large(shared: &Shared) -> InvokeError {
    shared.metrics.failed("body_too_large");
    InvokeError::BodyTooLarge
}

fn refuse(shared: &Shared, refused: Refused) -> InvokeError {
    shared.metrics.failed(match refused {
        Refused::QueueFull => "queue_full",
        Refused::DeadlinePassed => "no_slot_in_time",
    });
    InvokeError::Overloaded {
        retry_after: RETRY_AFTER,
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    message
}
