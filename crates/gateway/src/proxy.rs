//! One request: host, route, share of the traffic, headers, call, answer.

pub(crate) mod call;
pub(crate) mod called;
pub(crate) mod client_body;
pub(crate) mod headers;
pub(crate) mod host;

use crate::acme::challenge;
use crate::activator::{Activator, Admission};
use crate::config::Config;
use crate::connection::Connection;
use crate::drain::Drain;
use crate::grpc;
use crate::metrics::{Metrics, Unrouted};
use crate::probe::{self, Probe};
use crate::relay::Relay;
use crate::request_log::RequestLogs;
use crate::response;
use crate::router::{Host, Router, Target};
use crate::traffic_split;
use crate::upgrade::{self, Wanted};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use call::{Call, MeteredBody};
use called::Called;
use client_body::Stall;
use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use kittiwake_core::body::{self, Body, BodyError};
use kittiwake_core::clock::Clock;
use kittiwake_core::invoke::{Invoke, InvokeError};
use kittiwake_core::resident::ResidentError;
use kittiwake_core::revision::RevisionSpec;
use kittiwake_core::routing_table::{HttpOption, Visibility};
use std::sync::Arc;
use std::time::Duration;

/// The port that an https URL means without saying so.
const HTTPS_PORT: u16 = 443;

/// Everything a request needs; shared by all connections and never changed, but for the router's snapshot.
pub(crate) struct Gateway {
    pub(crate) config: Config,
    pub(crate) router: Router,
    pub(crate) activator: Arc<Activator>,
    pub(crate) invoke: Arc<dyn Invoke>,
    /// The way to the other processes that answer calls, where there are any.
    pub(crate) relay: Option<Relay>,
    pub(crate) metrics: Metrics,
    pub(crate) request_logs: RequestLogs,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) drain: Drain,
    /// Where redirects to TLS lead; `None` for 443.
    pub(crate) https_port: Option<u16>,
    /// Where it listens.
    pub(crate) ports: Vec<u16>,
    /// Of the account with the ACME authority, where there is one.
    pub(crate) thumbprint: Arc<ArcSwapOption<Box<str>>>,
}

/// A request on its way to a host.
struct Routed {
    host: Arc<Host>,
    called: Arc<Called>,
}

impl Gateway {
    /// Answers one request. Dropping the future, or the body of the answer, cancels the call.
    pub(crate) async fn answer<B>(&self, connection: &Arc<Connection>, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static,
    {
        let in_flight = self.metrics.call();
        let is_grpc = request.method() == Method::POST && grpc::is_call(request.headers());
        let refused = match self.route(connection, &request) {
            Ok(Routed { host, called }) => match pick(&host, request.headers()) {
                Some((target, is_default_route)) => {
                    let authority = called.authority();
                    let call = Call::new(self, in_flight, target, connection.peer, authority, &request);
                    return self
                        .call(call, connection, (&called, is_default_route), request)
                        .await;
                }
                None => {
                    self.metrics.unrouted(Unrouted::NotReady);
                    response::not_ready(&host.entry, self.config.unready_retry_after)
                }
            },
            Err(answer) => answer,
        };
        if is_grpc {
            grpc::trailers_only(refused)
        } else {
            refused
        }
    }

    /// The host that a request is for, or the answer where there is none to call: probes end here too.
    #[expect(
        clippy::result_large_err,
        reason = "the answer moves once either way; a box would cost an allocation"
    )]
    fn route<B>(&self, connection: &Connection, request: &Request<B>) -> Result<Routed, Response<Body>> {
        let bad_request = |answer| {
            self.metrics.unrouted(Unrouted::BadRequest);
            Err(answer)
        };
        let target_bytes_max = self.config.target_bytes_max.as_usize();
        let target = request
            .uri()
            .path_and_query()
            .map_or("", |target| target.as_str());
        if target.len() > target_bytes_max {
            return bad_request(response::target_too_long(target_bytes_max));
        }
        if request.headers().len() > self.config.headers_max {
            return bad_request(response::too_many_headers(self.config.headers_max));
        }
        let probe = probe::probe(request.headers());
        if let Some(probe @ (Probe::Ingress | Probe::Unknown)) = probe {
            return Err(probe::answer(probe, request.headers()));
        }
        // Whoever holds the account's key answers, so that no function is asked.
        if let Some(token) = challenge::token(target)
            && let Some(thumbprint) = &*self.thumbprint.load()
        {
            return Err(challenge::answer(token, thumbprint));
        }
        let is_tunnel = || request.extensions().get::<Protocol>().is_none();
        if request.method() == Method::CONNECT && is_tunnel() {
            return bad_request(response::no_tunnels());
        }
        let head = (request.version(), request.uri(), request.headers());
        let (peer, is_secure) = (connection.peer.ip(), connection.is_secure);
        let called = match connection.last_called.of(head, peer, is_secure) {
            Ok(called) => called,
            Err(why) => return bad_request(response::bad_host(why)),
        };
        let name = &*called.name;
        let may_call =
            |host: &Arc<Host>| connection.is_inside || host.entry.visibility == Visibility::External;
        let Some(host) = self.router.lookup(name).filter(may_call) else {
            self.metrics.unrouted(Unrouted::NoRoute);
            return Err(response::no_route(name));
        };
        if host.entry.http == HttpOption::Redirected
            && !connection.is_secure
            && !headers::came_with_tls(request.headers())
        {
            self.metrics.unrouted(Unrouted::Redirected);
            return Err(response::redirect(&secure_url(name, self.https_port, target)));
        }
        match probe {
            Some(probe) if !host.targets.is_empty() => Err(probe::answer(probe, request.headers())),
            _ => Ok(Routed { host, called }),
        }
    }

    async fn call<B>(
        &self,
        mut call: Call,
        connection: &Arc<Connection>,
        (called, is_default_route): (&Called, bool),
        mut request: Request<B>,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static,
    {
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
        let wanted = upgrade::take(&mut request);
        let patience = self.patience(&call);
        let (request, stall) = forwarded(request, (called, is_default_route), wanted.as_ref(), patience);
        let answer = match call.elsewhere {
            None => unless_stalled(self.invoke(&mut call, &revision, request), stall).await,
            Some(elsewhere) => self.pass_on(&call, elsewhere, request).await,
        };
        let Some(answer) = answer else {
            return call.answered_by_us(response::client_stalled());
        };
        match answer {
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                self.switched(call, connection, answer, wanted)
            }
            Ok(answer) if answer.status().is_success() && wanted.is_some_and(|wanted| wanted.is_connect) => {
                // Success would mean that the protocol has changed.
                call.function_ran = true;
                call.answered_by_us(response::bad_switch())
            }
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

    /// How long the client may be silent while the function waits for it; zero where that is not looked at here.
    pub(crate) fn patience(&self, call: &Call) -> Duration {
        if call.is_grpc || call.elsewhere.is_some() {
            // Where it is passed on to, it is known when the function waits for the client.
            Duration::ZERO
        } else {
            self.config.body_idle_timeout
        }
    }

    /// Calls the function, once the activator lets the call through. Where an instance has ended before it got anything,
    /// another one is waited for.
    pub(crate) async fn invoke(
        &self,
        call: &mut Call,
        revision: &Arc<RevisionSpec>,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, InvokeError> {
        loop {
            let admitted = call.target.throttle.admit(&self.activator, || call.accepted());
            let (admission, waited) = admitted.await?;
            let seat = match admission {
                Admission::PerCall { .. } => {
                    call.admitted(admission, waited);
                    return self.invoke.invoke(Arc::clone(revision), request).await;
                }
                Admission::Resident(seat) => seat,
            };
            let calling = seat.resident().invoke(request, call.accepted());
            call.admitted(Admission::Resident(seat), waited);
            match calling.await {
                Ok(answer) => return Ok(answer),
                Err(ResidentError::Failed(error)) => return Err(error),
                Err(ResidentError::Ended(same)) => {
                    request = *same;
                    call.instance_ended();
                }
            }
        }
    }

    /// The function goes on with another protocol: so does the connection, once this answer is sent.
    fn switched(
        &self,
        mut call: Call,
        connection: &Arc<Connection>,
        mut answer: Response<Body>,
        wanted: Option<Wanted>,
    ) -> Response<Body> {
        let function = answer.extensions_mut().remove::<OnUpgrade>();
        let protocol = answer.headers().get(UPGRADE).cloned();
        let (Some(wanted), Some(function), Some(protocol)) = (wanted, function, protocol) else {
            call.function_ran = true;
            return call.answered_by_us(response::bad_switch());
        };
        let (mut parts, _nothing) = answer.into_parts();
        call.head(parts.status, parts.extensions.remove());
        headers::strip_hop_by_hop(&mut parts.headers);
        if wanted.is_connect {
            parts.status = StatusCode::OK;
            parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
            parts.headers.remove(CONTENT_LENGTH);
        } else {
            upgrade::confirm(&mut parts.headers, protocol);
        }
        upgrade::join(self, connection, wanted, function, call);
        Response::from_parts(parts, body::empty())
    }

    /// The function's answer on its way to the caller.
    pub(crate) fn returned(&self, mut call: Call, answer: Response<Body>, is_head: bool) -> Response<Body> {
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

/// Who answers: the tag that the request names on a main host, else one by lot. And whether the function is to be told
/// that none of the tags answers (knative/serving `pkg/reconciler/route/resources/ingress.go`).
fn pick<'a>(host: &'a Host, headers: &http::HeaderMap) -> Option<(&'a Target, bool)> {
    if host.by_tag.is_empty() {
        return traffic_split::pick(host, traffic_split::draw).map(|target| (target, false));
    }
    let tag = headers.get(headers::TAG).and_then(|tag| tag.to_str().ok());
    match tag.and_then(|tag| host.by_tag.get(tag)) {
        Some(target) => Some((target, false)),
        None => traffic_split::pick(host, traffic_split::draw).map(|target| (target, true)),
    }
}

/// Where a request that came without TLS has to go.
fn secure_url(host: &str, port: Option<u16>, target: &str) -> String {
    let target = if target.starts_with('/') { target } else { "/" };
    match port.filter(|port| *port != HTTPS_PORT) {
        Some(port) => format!("https://{host}:{port}{target}"),
        None => format!("https://{host}{target}"),
    }
}

/// The answer, or `None` when the client stalled before there was one.
pub(crate) async fn unless_stalled<T>(answer: impl Future<Output = T>, stall: Option<Stall>) -> Option<T> {
    let Some(stall) = stall else {
        return Some(answer.await);
    };
    let stalled = async {
        if stall.await.is_err() {
            // The body was read to its end.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        answer = answer => Some(answer),
        () = stalled => None,
    }
}

/// The request as the function sees it: origin form, with `Host`, and the headers of [`headers`].
fn forwarded<B>(
    request: Request<B>,
    (called, is_default_route): (&Called, bool),
    wanted: Option<&Wanted>,
    patience: Duration,
) -> (Request<Body>, Option<Stall>)
where
    B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + Unpin + 'static,
{
    let (mut parts, body) = request.into_parts();
    headers::prepare(&mut parts.headers, called, is_default_route);
    if let Some(wanted) = wanted {
        wanted.ask(&mut parts.headers);
    }
    if let Some(path) = parts
        .uri
        .path_and_query()
        .filter(|_| parts.uri.authority().is_some())
    {
        parts.uri = http::Uri::from(path.clone());
    }
    let (body, stall) = client_body::watched(body, patience);
    (Request::from_parts(parts, body), stall)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::tests::{entry, router};
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn a_tag_is_picked_by_its_header_on_main_hosts() {
        let mut with_tags = entry(&[("default", 100)]);
        let tagged = entry(&[("green", 100)]).targets.remove(0);
        with_tags.by_tag.insert("green".into(), tagged);
        let router = router(&[("on", with_tags), ("off", entry(&[("default", 100)]))]);
        for (host, tag, wanted) in [
            ("on", Some("green"), ("green", false)),
            ("on", Some("blue"), ("default", true)),
            ("on", None, ("default", true)),
            ("off", Some("green"), ("default", false)),
        ] {
            let host = router.lookup(host).unwrap();
            let headers: HeaderMap = tag
                .map(|tag| (headers::TAG, HeaderValue::from_static(tag)))
                .into_iter()
                .collect();
            let (target, is_default) = pick(&host, &headers).unwrap();
            assert_eq!((&*target.revision.key.name, is_default), wanted, "{tag:?}");
        }
    }

    #[test]
    fn a_redirect_names_the_port_unless_it_is_the_usual_one() {
        for (port, target, wanted) in [
            (None, "/a?b", "https://h/a?b"),
            (Some(443), "/", "https://h/"),
            (Some(8443), "/x", "https://h:8443/x"),
            (None, "*", "https://h/"),
        ] {
            assert_eq!(secure_url("h", port, target), wanted);
        }
    }
}
