//! One request: host, route, share of the traffic, headers, call, answer.

pub(crate) mod call;
pub(crate) mod headers;
pub(crate) mod host;

use crate::activator::{Activator, Admission};
use crate::config::Config;
use crate::drain::Drain;
use crate::metrics::{Metrics, Unrouted};
use crate::probe::{self, Probe};
use crate::response;
use crate::router::{Host, Router, Target};
use crate::traffic_split;
use call::{Call, MeteredBody};
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use kittiwake_core::body::{self, Body, BodyError};
use kittiwake_core::clock::Clock;
use kittiwake_core::invoke::{Invoke, InvokeError};
use kittiwake_core::revision::RevisionSpec;
use std::net::SocketAddr;
use std::sync::Arc;

/// Everything a request needs; shared by all connections and never changed, but for the router's snapshot.
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) router: Router,
    pub(crate) activator: Arc<Activator>,
    pub(crate) invoke: Arc<dyn Invoke>,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) drain: Drain,
}

impl Gateway {
    /// Answers one request. Dropping the future, or the body of the answer, cancels the call.
    pub(crate) async fn answer(&self, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
        let in_flight = self.metrics.call();
        match self.route(&request) {
            Ok((host, authority)) => match traffic_split::pick(&host, traffic_split::draw) {
                Some(target) => {
                    let call = Call::new(self, in_flight, target, peer, &authority, &request);
                    self.call(call, authority, request).await
                }
                None => {
                    self.metrics.unrouted(Unrouted::NotReady);
                    response::not_ready(&host.entry, self.config.unready_retry_after)
                }
            },
            Err(answer) => answer,
        }
    }

    /// The host that a request is for, or the answer where there is none to call: probes end here too.
    #[expect(
        clippy::result_large_err,
        reason = "the answer moves once either way; a box would cost an allocation"
    )]
    fn route(&self, request: &Request<Incoming>) -> Result<(Arc<Host>, String), Response<Body>> {
        let probe = probe::probe(request.headers());
        if let Some(probe @ (Probe::Ingress | Probe::Unknown)) = probe {
            return Err(probe::answer(probe, request.headers()));
        }
        if request.method() == Method::CONNECT {
            self.metrics.unrouted(Unrouted::BadRequest);
            return Err(response::no_tunnels());
        }
        let authority =
            host::authority(request.version(), request.uri(), request.headers()).map_err(|why| {
                self.metrics.unrouted(Unrouted::BadRequest);
                response::bad_host(why)
            })?;
        let Some(name) = kittiwake_core::host::normalize_host(&authority) else {
            self.metrics.unrouted(Unrouted::BadRequest);
            return Err(response::bad_host("the host is empty or too long"));
        };
        let Some(host) = self.router.lookup(&name) else {
            self.metrics.unrouted(Unrouted::NoRoute);
            return Err(response::no_route(&name));
        };
        match probe {
            Some(probe) if !host.targets.is_empty() => Err(probe::answer(probe, request.headers())),
            _ => Ok((host, authority)),
        }
    }

    async fn call(&self, mut call: Call, authority: String, request: Request<Incoming>) -> Response<Body> {
        let Target { revision, .. } = call.target.clone();
        let announced = request
            .body()
            .size_hint()
            .exact()
            .or_else(|| content_length(request.headers()));
        if announced.is_some_and(|length| length > revision.limits.request_body.0) {
            return call.answered_by_us(response::too_large(&revision));
        }
        let is_head = request.method() == Method::HEAD;
        let request = forwarded(request, call.peer, &authority);
        match self.invoke(&mut call, &revision, request).await {
            Ok(answer) => self.returned(call, answer, is_head),
            Err(error) => {
                tracing::debug!(revision = %revision.key, error = &error as &dyn std::error::Error, "a call failed");
                call.function_ran = response::function_ran(&error);
                call.answered_by_us(response::failed(
                    &error,
                    &revision,
                    self.config.unready_retry_after,
                ))
            }
        }
    }

    /// Calls the function, once the activator lets the call through.
    async fn invoke(
        &self,
        call: &mut Call,
        revision: &Arc<RevisionSpec>,
        request: Request<Body>,
    ) -> Result<Response<Body>, InvokeError> {
        let admission = call.target.throttle.admit(&self.activator).await?;
        let calling = match &admission {
            Admission::PerCall { .. } => self.invoke.invoke(Arc::clone(revision), request),
            Admission::Resident(seat) => seat.resident().invoke(request, call.accepted()),
        };
        call.admitted(admission);
        calling.await
    }

    /// The function's answer on its way to the caller.
    fn returned(&self, mut call: Call, answer: Response<Body>, is_head: bool) -> Response<Body> {
        let (mut parts, answer_body) = answer.into_parts();
        call.head(parts.status, parts.extensions.remove());
        headers::strip_hop_by_hop(&mut parts.headers);
        if parts.status == StatusCode::NO_CONTENT || parts.status.is_informational() {
            parts.headers.remove(CONTENT_LENGTH);
        }
        let length = answer_body.size_hint().exact().filter(|length| *length > 0);
        if let (true, Some(length)) = (is_head, length) {
            // What GET would say; a body that is not sent cannot say it any more.
            parts
                .headers
                .entry(CONTENT_LENGTH)
                .or_insert_with(|| length.into());
        }
        let metered = MeteredBody::new(answer_body, call);
        if is_head || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            self.run_to_the_end(metered);
            return Response::from_parts(parts, body::empty());
        }
        Response::from_parts(parts, metered.boxed_unsync())
    }

    /// Lets a call finish whose body is not sent, as it would if it were. The revision's time limits bound it.
    fn run_to_the_end(&self, mut answer: MeteredBody) {
        if answer.is_end_stream() {
            return;
        }
        let cut = self.drain.cut.clone();
        self.drain.tasks.spawn(async move {
            let read = async { while let Some(Ok(_)) = answer.frame().await {} };
            tokio::select! {
                () = read => {}
                () = cut.cancelled() => {}
            }
        });
    }
}

fn content_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The request as the function sees it: origin form, with `Host`, and the headers of [`headers`].
fn forwarded(request: Request<Incoming>, peer: SocketAddr, authority: &str) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    headers::prepare(&mut parts.headers, peer.ip(), authority);
    if let Some(path) = parts
        .uri
        .path_and_query()
        .filter(|_| parts.uri.authority().is_some())
    {
        parts.uri = http::Uri::from(path.clone());
    }
    Request::from_parts(parts, body.map_err(BodyError::from).boxed_unsync())
}
