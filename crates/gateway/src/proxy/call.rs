//! One call from its head to the end of its answer, and the record it leaves.

use super::Gateway;
use crate::activator::{Admission, Elsewhere};
use crate::grpc;
use crate::metrics::{Counted, Finished};
use crate::probe;
use crate::request_log::Line;
use crate::response;
use crate::router::Target;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use kittiwake_core::body::{Body, BodyError, TimeLimitPassed};
use kittiwake_core::clock::Clock;
use kittiwake_core::invoke::CallReport;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The status that is recorded when the client went away before there was one (as nginx does).
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// A call under way. It is recorded when it is dropped, however it ends.
pub(crate) struct Call {
    pub(crate) target: Target,
    pub(crate) peer: SocketAddr,
    /// Whether the function took part, although it did not answer.
    pub(crate) function_ran: bool,
    clock: Arc<dyn Clock>,
    started: Duration,
    status: Option<StatusCode>,
    report: Option<CallReport>,
    /// Off for probers, whose calls must not count as traffic.
    counted: bool,
    /// Off for probers too: they must not keep an instance alive.
    metered: bool,
    /// Set where another process has the instances of the revision: the call is passed on to it.
    pub(crate) elsewhere: Option<Elsewhere>,
    /// What the call holds until it ends.
    admission: Option<Admission>,
    /// How long it waited for that.
    waited: Duration,
    /// Whether it is a gRPC call, to which errors are told in its own form.
    pub(crate) is_grpc: bool,
    access: Option<Access>,
    /// Its line of the request log, where one is wanted, and the bytes that were sent of the answer's body.
    line: Option<Box<Line>>,
    sent: u64,
    _in_flight: Counted,
    /// Held for its drop alone, as `_in_flight` is.
    queue_depth: Option<Counted>,
}

/// What the access log tells of a request.
struct Access {
    method: http::Method,
    path: String,
    host: String,
}

impl Call {
    pub(crate) fn new<B>(
        gateway: &Gateway,
        in_flight: Counted,
        target: &Target,
        peer: SocketAddr,
        authority: &str,
        request: &Request<B>,
    ) -> Self {
        let is_traffic = !probe::is_prober(request.headers());
        let elsewhere = target.throttle.elsewhere(&target.revision);
        // Who has the instance tells the autoscaler of the call.
        let metered = is_traffic && elsewhere.is_none();
        let started = gateway.clock.elapsed();
        let mut call = Self::begin(gateway, in_flight, target.clone(), (started, metered), request);
        call.peer = peer;
        call.elsewhere = elsewhere;
        call.access = gateway.config.access_log.then(|| Access {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            host: authority.to_owned(),
        });
        call.line = gateway.request_logs.begin(target, peer, authority, request);
        call.counted = gateway.config.request_metrics && is_traffic;
        if call.counted {
            call.queue_depth = target.metrics.call();
        }
        call
    }

    /// A call that another process passed on, which came in there `age` ago. That one counts it, and writes what is to be
    /// written of it; here it is held to the revision's limits, and the autoscaler hears of it.
    pub(crate) fn passed_on<B>(
        gateway: &Gateway,
        in_flight: Counted,
        target: Target,
        age: Duration,
        request: &Request<B>,
    ) -> Self {
        let metered = !probe::is_prober(request.headers());
        let now = gateway.clock.elapsed();
        let mut call = Self::begin(gateway, in_flight, target, (now, metered), request);
        call.started = now.saturating_sub(age);
        call
    }

    /// A call that begins `now`, and of which nothing is counted or written but, if it is `metered`, for the autoscaler.
    fn begin<B>(
        gateway: &Gateway,
        in_flight: Counted,
        target: Target,
        (now, metered): (Duration, bool),
        request: &Request<B>,
    ) -> Self {
        if metered {
            target.throttle.begin(now);
        }
        Self {
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            function_ran: false,
            clock: Arc::clone(&gateway.clock),
            started: now,
            metered,
            elsewhere: None,
            admission: None,
            waited: Duration::ZERO,
            status: None,
            report: None,
            counted: false,
            is_grpc: grpc::is_call(request.headers()),
            access: None,
            line: None,
            sent: 0,
            _in_flight: in_flight,
            queue_depth: None,
            target,
        }
    }

    /// How long it waited for an instance.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// The head of the function's answer is known.
    pub(crate) fn head(&mut self, status: StatusCode, report: Option<CallReport>) {
        self.status = Some(status);
        let mut report = report.unwrap_or_default();
        report.queued = report.queued.saturating_add(self.waited);
        self.report = Some(report);
    }

    /// When the request came in, by tokio's clock.
    pub(crate) fn accepted(&self) -> Instant {
        Instant::now() - self.clock.elapsed().saturating_sub(self.started)
    }

    /// The activator let it through; the clock is read only where that took a wait.
    pub(crate) fn admitted(&mut self, admission: Admission, waited: bool) {
        if waited {
            self.waited = self.age();
        }
        self.admission = Some(admission);
    }

    /// The instance that was to take it has ended.
    pub(crate) fn instance_ended(&mut self) {
        if let Some(Admission::Resident(seat)) = self.admission.take() {
            seat.ended();
        }
    }

    /// Time since its head came in.
    pub(crate) fn age(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.started)
    }

    /// The gateway answers in the function's place; the call lasts until that answer is sent.
    pub(crate) fn answered_by_us(mut self, answer: Response<Body>) -> Response<Body> {
        self.status = Some(answer.status());
        self.report = self.function_ran.then(CallReport::default);
        let answer = if self.is_grpc {
            grpc::trailers_only(answer)
        } else {
            answer
        };
        answer.map(|body| MeteredBody::new(body, self).boxed_unsync())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let now = self.clock.elapsed();
        let latency = now.saturating_sub(self.started);
        if self.metered {
            self.target.throttle.end(now);
        }
        let status = self
            .status
            .map_or(CLIENT_CLOSED_REQUEST, |status| status.as_u16());
        if self.counted {
            self.target.metrics.record(&Finished {
                status,
                latency,
                report: self.report,
            });
        }
        if let Some(line) = &self.line {
            line.end(status, self.sent, latency);
        }
        if let Some(access) = &self.access {
            tracing::info!(
                target: crate::config::ACCESS_LOG,
                peer = %self.peer,
                method = %access.method,
                path = access.path,
                host = access.host,
                revision = %self.target.revision.key,
                status,
                latency_us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX),
                "call"
            );
        }
    }
}

/// An answer's body that keeps its [`Call`] until it ends or is dropped.
pub(crate) struct MeteredBody {
    body: Body,
    /// `None` once the body ended.
    call: Option<Call>,
}

impl MeteredBody {
    pub(crate) fn new(body: Body, call: Call) -> Self {
        Self {
            body,
            call: Some(call),
        }
    }
}

impl http_body::Body for MeteredBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.call.is_none() {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let Poll::Ready(None | Some(Err(_))) = polled else {
            if let (Poll::Ready(Some(Ok(frame))), Some(call)) = (&polled, &mut self.call) {
                let sent = frame.data_ref().map_or(0, Bytes::len);
                call.sent += u64::try_from(sent).unwrap_or(u64::MAX);
            }
            return polled;
        };
        let call = self.call.take();
        // As queue-proxy does (serving `pkg/http/handler/timeout.go`): what was sent stays, the text is added, and the
        // body ends as a whole one does. Where a length was announced or trailers tell how it went, it is cut instead.
        match polled {
            Poll::Ready(Some(Err(error)))
                if error.is::<TimeLimitPassed>()
                    && self.body.size_hint().exact().is_none()
                    && !call.is_some_and(|call| call.is_grpc) =>
            {
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(
                    response::TIMEOUT_BODY.as_bytes(),
                )))))
            }
            _ => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.call.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
