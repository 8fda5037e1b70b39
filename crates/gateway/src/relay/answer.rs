//! Answering a call that another process passed on.

use super::wire::{self, Asked};
use crate::activator::Throttle;
use crate::proxy::call::Call;
use crate::proxy::{Gateway, client_body, headers, unless_stalled};
use crate::upgrade;
use http::header::UPGRADE;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kittiwake_core::body::{self, Body};
use kittiwake_core::invoke::CallReport;
use std::sync::Arc;

impl Gateway {
    /// Calls the function. Dropping the future, or the body of the answer, cancels the call.
    pub(super) async fn answer_passed_on(self: Arc<Self>, mut request: Request<Incoming>) -> Response<Body> {
        if wire::is_watch(request.headers()) {
            self.drain.stop.cancelled().await;
            return wire::leaving();
        }
        let in_flight = self.metrics.call();
        let Some(asked) = Asked::take(request.headers_mut()) else {
            return wire::refused();
        };
        let Some(target) = self.router.owned(&asked.uid) else {
            return wire::refused();
        };
        let throttle = Arc::clone(&target.throttle);
        // From here on the call counts, which keeps what leaves the routing table.
        let call = Call::passed_on(&self, in_flight, target, asked.age, &request);
        if !Throttle::takes_passed_on(&throttle) {
            return wire::refused();
        }
        request.extensions_mut().insert(asked.hops);
        self.answer_here(call, request).await
    }

    async fn answer_here(&self, mut call: Call, mut request: Request<Incoming>) -> Response<Body> {
        let revision = Arc::clone(&call.target.revision);
        let is_head = request.method() == Method::HEAD;
        let client = match request.headers().contains_key(UPGRADE) {
            true => request.extensions_mut().remove::<OnUpgrade>(),
            false => None,
        };
        let patience = self.patience(&call);
        let (parts, body) = request.into_parts();
        let (body, stall) = client_body::watched(body, patience);
        let calling = self.invoke(&mut call, &revision, Request::from_parts(parts, body));
        let Some(answer) = unless_stalled(calling, stall).await else {
            return wire::stalled();
        };
        match answer {
            Err(error) => wire::failed(&error),
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                self.switched_for_another(call, answer, client)
            }
            Ok(answer) => {
                let report = report(&call, &answer);
                let mut answer = self.returned(call, answer, is_head);
                wire::answered(answer.headers_mut(), report);
                answer
            }
        }
    }

    /// The function goes on with another protocol: so does the connection to the other process, which holds what is carried
    /// to the revision's limits.
    fn switched_for_another(
        &self,
        call: Call,
        mut answer: Response<Body>,
        client: Option<OnUpgrade>,
    ) -> Response<Body> {
        let report = report(&call, &answer);
        let function = answer.extensions_mut().remove::<OnUpgrade>();
        let protocol = answer.headers().get(UPGRADE).cloned();
        let (Some(client), Some(function), Some(protocol)) = (client, function, protocol) else {
            return wire::unswitched();
        };
        let (mut parts, _nothing) = answer.into_parts();
        headers::strip_hop_by_hop(&mut parts.headers);
        wire::answered(&mut parts.headers, report);
        upgrade::confirm(&mut parts.headers, protocol);
        let drain = self.drain.clone();
        let end_max = self.config.upgraded_end_max;
        self.drain.tasks.spawn(async move {
            let carried = async {
                let (client, function) = tokio::try_join!(client, function).map_err(std::io::Error::other)?;
                let (mut client, mut function) = (TokioIo::new(client), TokioIo::new(function));
                tokio::io::copy_bidirectional(&mut client, &mut function).await
            };
            let ending = async {
                drain.stop.cancelled().await;
                tokio::time::sleep(end_max).await;
            };
            tokio::select! {
                // Whichever side broke it off: the process that has the client tells of it.
                _ = carried => {}
                () = ending => {}
                () = drain.cut.cancelled() => {}
            }
            drop(call);
        });
        Response::from_parts(parts, body::empty())
    }
}

/// Where the time of a call went, the wait for an instance included.
fn report(call: &Call, answer: &Response<Body>) -> CallReport {
    let mut report: CallReport = answer.extensions().get().copied().unwrap_or_default();
    report.queued = report.queued.saturating_add(call.waited());
    report
}
