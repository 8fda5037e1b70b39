//! Knative's probes: requests about a route, not to a function.

use crate::response::{exactly, plain};
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, Response, StatusCode};
use kittiwake_core::body::Body;

/// Marks a probe and names who should answer it (knative/networking `pkg/http/header`).
const PROBE: HeaderName = HeaderName::from_static("k-network-probe");
/// Sent with an ingress probe and echoed, so that the prober knows which configuration answered.
const HASH: HeaderName = HeaderName::from_static("k-network-hash");
/// `User-Agent`s whose requests reach the function but are not counted (knative/networking `pkg/http/header`).
const USER_AGENTS: [&str; 5] = [
    "kube-probe/",
    "Knative-Activator-Probe",
    "Knative-Autoscaling-Probe",
    "Knative-Queue-Proxy-Probe",
    "Knative-Ingress-Probe",
];

/// A probe that the gateway answers in place of a component of Knative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Ingress: is this gateway's configuration in place?
    Ingress,
    /// Activator: would a call be held and answered?
    Activator,
    /// Queue-proxy: can the revision answer?
    Queue,
    /// No component has this name.
    Unknown,
}

/// The probe that a request is, if it is one.
pub(crate) fn probe(headers: &HeaderMap) -> Option<Probe> {
    Some(match headers.get(PROBE)?.as_bytes() {
        b"probe" => Probe::Ingress,
        b"activator" => Probe::Activator,
        b"queue" => Probe::Queue,
        _ => Probe::Unknown,
    })
}

/// Whether a request comes from a prober, so that it must not count as traffic.
pub(crate) fn is_prober(headers: &HeaderMap) -> bool {
    let Some(agent) = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()) else {
        return false;
    };
    USER_AGENTS.iter().any(|prober| agent.starts_with(prober))
}

/// The answer for a host that is routed to a ready revision.
pub(crate) fn answer(probe: Probe, headers: &HeaderMap) -> Response<Body> {
    match probe {
        Probe::Activator => exactly(StatusCode::OK, "activator"),
        Probe::Queue => exactly(StatusCode::OK, "queue"),
        Probe::Ingress => {
            let Some(hash) = headers.get(HASH).filter(|hash| !hash.is_empty()) else {
                let line = "a probe request must contain a non-empty \"K-Network-Hash\" header";
                return plain(StatusCode::BAD_REQUEST, line);
            };
            let mut response = exactly(StatusCode::OK, "probe");
            response.headers_mut().insert(HASH, hash.clone());
            response
        }
        Probe::Unknown => {
            let line = "unexpected probe header value; K-Network-Probe is one of probe, activator, queue";
            plain(StatusCode::BAD_REQUEST, line)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn probes_are_told_by_their_header() {
        for (value, wanted) in [
            (Some("probe"), Some(Probe::Ingress)),
            (Some("activator"), Some(Probe::Activator)),
            (Some("queue"), Some(Probe::Queue)),
            (Some("else"), Some(Probe::Unknown)),
            (None, None),
        ] {
            let headers = value
                .map(|value| (PROBE, HeaderValue::from_static(value)))
                .into_iter()
                .collect();
            assert_eq!(probe(&headers), wanted);
        }
    }

    #[test]
    fn an_ingress_probe_needs_a_hash_and_gets_it_back() {
        let none = answer(Probe::Ingress, &HeaderMap::new());
        assert_eq!(none.status(), StatusCode::BAD_REQUEST);
        let headers = [(HASH, HeaderValue::from_static("abc"))].into_iter().collect();
        let some = answer(Probe::Ingress, &headers);
        assert_eq!(
            (some.status(), some.headers()[HASH].as_bytes()),
            (StatusCode::OK, b"abc".as_slice())
        );
        assert_eq!(answer(Probe::Unknown, &headers).status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn probers_are_known_by_their_user_agent() {
        for (agent, wanted) in [
            ("kube-probe/1.31", true),
            ("Knative-Ingress-Probe", true),
            ("curl/8", false),
        ] {
            let headers = [(USER_AGENT, HeaderValue::from_static(agent))]
                .into_iter()
                .collect();
            assert_eq!(is_prober(&headers), wanted, "{agent}");
        }
    }
}
