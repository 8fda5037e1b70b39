//! Whether a Route's hosts have the certificates that they need (serving `pkg/reconciler/route/route.go`, `tls`).

use super::plan::{Observed, given};
use crate::object::Map;
use kittiwake_api::condition::Conditions;
use kittiwake_api::config::network::{HTTP_PROTOCOLS, HttpProtocol};
use kittiwake_api::config::{Network, Settings};
use kittiwake_api::meta;
use kittiwake_api::serving::Route;
use kittiwake_api::serving::route::condition::CERTIFICATE_PROVISIONED;
use kittiwake_api::serving::route::reason;
use kittiwake_core::routing_table::HttpOption;

/// The message where nobody asked for certificates.
pub const NOT_ENABLED: &str = "external-domain-tls is not enabled";

/// What became of a host's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateState {
    /// It is served.
    Ready,
    /// It is not.
    Missing {
        /// The Secret that should hold it.
        name: String,
        /// Why not.
        why: String,
    },
}

/// Whether the hosts of something with these annotations are to have certificates.
#[must_use]
pub fn is_wanted(network: &Network, annotations: Option<&Map>) -> bool {
    let disabled = meta::DISABLE_TLS_ANNOTATIONS
        .iter()
        .find_map(|key| annotations?.get(*key))
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    network.external_domain_tls && !disabled
}

/// What is done with HTTP without TLS: as the annotations say, else as administrators say.
#[must_use]
pub fn http_protocol(settings: &Settings, annotations: Option<&Map>) -> HttpProtocol {
    let said = meta::HTTP_PROTOCOL_ANNOTATIONS
        .iter()
        .find_map(|key| annotations?.get(*key));
    said.and_then(|said| {
        HTTP_PROTOCOLS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(said))
    })
    .map_or(settings.network.http_protocol, |(_, protocol)| *protocol)
}

/// What the gateway does with HTTP without TLS on a host: it is sent to HTTPS only where there is some.
#[must_use]
pub fn http_option(protocol: HttpProtocol, has_certificate: bool) -> HttpOption {
    match protocol {
        HttpProtocol::Redirected | HttpProtocol::Disabled if has_certificate => HttpOption::Redirected,
        _ => HttpOption::Enabled,
    }
}

/// Marks the condition; gives whether URLs begin with https.
pub(super) fn mark(conditions: &mut Conditions<'_>, route: &Route, observed: &Observed<'_>) -> bool {
    let naming = observed.naming;
    let not_enabled = |conditions: &mut Conditions<'_>, message| {
        conditions.mark_true_with_reason(CERTIFICATE_PROVISIONED, reason::TLS_NOT_ENABLED, message);
        false
    };
    let tags = route.spec.traffic.iter().filter_map(|target| given(&target.tag));
    let names: Vec<_> = std::iter::once(None).chain(tags.map(Some)).collect();
    if names.iter().all(|tag| naming.is_cluster_local(route, *tag)) {
        return not_enabled(conditions, "TLS is not enabled for cluster-local");
    }
    let annotations = route.metadata.annotations.as_ref();
    if !is_wanted(&naming.settings.network, annotations) {
        return not_enabled(conditions, NOT_ENABLED);
    }
    for tag in names {
        let Some(host) = naming.external_host(route, tag) else {
            continue;
        };
        if let CertificateState::Missing { name, why } = (observed.certificate)(&host, tag) {
            if http_protocol(naming.settings, annotations) == HttpProtocol::Enabled {
                let message = format!("Certificate {name} is not ready downgrade HTTP. ({host}: {why})");
                conditions.mark_true_with_reason(CERTIFICATE_PROVISIONED, reason::HTTP_DOWNGRADE, &message);
                return false;
            }
            let message = format!("Certificate {name} is not ready: {why}");
            conditions.mark_unknown(CERTIFICATE_PROVISIONED, reason::CERTIFICATE_NOT_READY, &message);
            return true;
        }
    }
    conditions.mark_true(CERTIFICATE_PROVISIONED);
    true
}
