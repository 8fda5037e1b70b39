//! The request log: where administrators want it, a line for each call in the log of the Revision that it went to, as
//! what Knative's queue-proxy prints (`kubectl logs … -c queue-proxy`).

use crate::probe;
use crate::router::Target;
use arc_swap::ArcSwapOption;
use http::header::{CONTENT_LENGTH, HeaderName, REFERER, TRANSFER_ENCODING, USER_AGENT};
use http::{Method, Request, Version};
use kittiwake_core::log::{LogHub, LogStream, RevisionLog};
use kittiwake_core::request_log::{self, Known, RequestLog};
use kittiwake_core::routing_table::RoutingTable;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Where functions are reached, as their pods say it.
const POD_IP: &str = "127.0.0.1";

/// What is wanted of each call now, and where it goes.
pub(crate) struct RequestLogs {
    wanted: ArcSwapOption<RequestLog>,
    hub: Arc<LogHub>,
}

/// The line of a call under way.
pub(crate) struct Line {
    line: request_log::Line,
    log: Arc<RevisionLog>,
}

impl RequestLogs {
    pub(crate) fn new(hub: Arc<LogHub>) -> Self {
        Self {
            wanted: ArcSwapOption::empty(),
            hub,
        }
    }

    /// Takes over what is wanted.
    pub(crate) fn follow(&self, table: &RoutingTable) {
        self.wanted.store(table.request_log.clone());
    }

    /// Takes note of a call that begins, if its line is wanted.
    pub(crate) fn begin<B>(
        &self,
        target: &Target,
        peer: SocketAddr,
        authority: &str,
        request: &Request<B>,
    ) -> Option<Box<Line>> {
        let wanted = self.wanted.load();
        let wanted = wanted.as_ref()?;
        if !wanted.probes && probe::is_prober(request.headers()) {
            return None;
        }
        let call = Begun {
            target,
            peer,
            authority,
            request,
        };
        Some(Box::new(Line {
            line: wanted.begin(&call),
            log: self.hub.revision(&target.revision.key),
        }))
    }
}

impl Line {
    /// Writes the line of a call that has ended.
    pub(crate) fn end(&self, status: u16, sent: u64, latency: Duration) {
        let line = self.line.end(status, sent, latency.as_secs_f64());
        self.log.write(LogStream::Platform, &line);
    }
}

struct Begun<'a, B> {
    target: &'a Target,
    peer: SocketAddr,
    authority: &'a str,
    request: &'a Request<B>,
}

impl<B> Begun<'_, B> {
    fn first(&self, name: HeaderName) -> String {
        let value = self.request.headers().get(name);
        value.map_or_else(String::new, |value| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        })
    }

    /// As Go's server has it: what is announced, nothing where there is no body, -1 where its end is not known yet.
    fn content_length(&self) -> String {
        let announced = self.first(CONTENT_LENGTH);
        if !announced.is_empty() {
            return announced;
        }
        let is_framed = self.request.version() == Version::HTTP_2
            && ![Method::GET, Method::HEAD].contains(self.request.method());
        let open = is_framed || self.request.headers().contains_key(TRANSFER_ENCODING);
        if open { "-1" } else { "0" }.to_owned()
    }
}

impl<B> request_log::Source for Begun<'_, B> {
    fn known(&self, value: Known) -> String {
        let (uri, revision) = (self.request.uri(), &self.target.revision);
        match value {
            Known::Method => self.request.method().to_string(),
            Known::RequestUri => uri
                .path_and_query()
                .map_or_else(|| uri.path().to_owned(), ToString::to_string),
            Known::Path => uri.path().to_owned(),
            Known::RawQuery => uri.query().unwrap_or_default().to_owned(),
            Known::Host => self.authority.to_owned(),
            Known::Proto => match self.request.version() {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2.0",
                Version::HTTP_3 => "HTTP/3.0",
                _ => "HTTP/1.1",
            }
            .to_owned(),
            Known::RemoteAddr => self.peer.to_string(),
            Known::ContentLength => self.content_length(),
            Known::UserAgent => self.first(USER_AGENT),
            Known::Referer => self.first(REFERER),
            Known::RevisionName => revision.key.name.to_string(),
            Known::RevisionNamespace => revision.key.namespace.to_string(),
            Known::Service => revision.service.to_string(),
            Known::Configuration => revision.configuration.to_string(),
            // Any number of pods answer for it; this is what they are called but for their ending.
            Known::PodName => format!("{}-deployment", revision.key.name),
            Known::PodIp => POD_IP.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Vec<String> {
        let values = self.request.headers().get_all(name);
        values
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    }
}
