//! What a DomainMapping's status says, and whether its name has to be claimed.

use super::target_host;
use crate::events::Notice;
use crate::object::{Meta, keep_times};
use crate::route::tls::{self, CertificateState};
use crate::route::url::{CLUSTER_DOMAIN, Naming};
use jiff::Timestamp;
use kittiwake_api::condition::{Condition, Conditions};
use kittiwake_api::config::network::HttpProtocol;
use kittiwake_api::meta;
use kittiwake_api::networking::ClusterDomainClaim;
use kittiwake_api::serving::domain_mapping::condition::{
    CERTIFICATE_PROVISIONED, DOMAIN_CLAIMED, INGRESS_READY, REFERENCE_RESOLVED,
};
use kittiwake_api::serving::domain_mapping::{CONDITIONS, DomainMappingStatus, reason};
use kittiwake_api::serving::route::reason as route_reason;
use kittiwake_api::serving::{Addressable, DomainMapping};
use kittiwake_core::routing_table::RouteEntry;

/// What is there already.
pub struct Observed<'a> {
    /// The claim of the name.
    pub claim: Option<&'a ClusterDomainClaim>,
    /// The Route that the reference leads to, or why there is none.
    pub target: Result<String, String>,
    /// What the gateways have for the name.
    pub routed: Option<&'a RouteEntry>,
    /// Its certificate.
    pub certificate: CertificateState,
    /// What URLs are made of.
    pub naming: Naming<'a>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Whether to claim the name.
    pub claim: bool,
    /// The new status, when it differs.
    pub status: Option<DomainMappingStatus>,
    /// What to tell once the status is written.
    pub notices: Vec<Notice>,
}

/// The Secret with the certificate of a mapping: the one that the user named, or the one of its own name.
#[must_use]
pub fn secret(mapping: &DomainMapping) -> String {
    own_secret(mapping)
        .unwrap_or_else(|| mapping.name_str())
        .to_owned()
}

fn own_secret(mapping: &DomainMapping) -> Option<&str> {
    let name = mapping.spec.tls.as_ref()?.secret_name.as_deref();
    name.filter(|name| !name.is_empty())
}

/// Whether a mapping is to have a certificate.
#[must_use]
pub fn wants_certificate(mapping: &DomainMapping, naming: Naming<'_>) -> bool {
    own_secret(mapping).is_some()
        || tls::is_wanted(&naming.settings.network, mapping.metadata.annotations.as_ref())
}

/// The Route whose address `url` is.
///
/// # Errors
/// Why it is none of `namespace`.
pub fn route_of_url(url: &str, namespace: &str) -> Result<String, String> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() {
        return Err(format!("resolved URI {url:?} contains a path"));
    }
    let parts = host
        .strip_suffix(CLUSTER_DOMAIN)
        .and_then(|host| host.strip_suffix('.')?.split_once('.'));
    match parts {
        Some((name, of)) if !of.contains('.') && of == namespace => Ok(name.to_owned()),
        Some((_, of)) if !of.contains('.') => Err(format!(
            "resolved URI {url:?} must be in same namespace as DomainMapping"
        )),
        _ => Err(format!(
            "resolved URI {url:?} must be of the form {{name}}.{{namespace}}.{CLUSTER_DOMAIN}"
        )),
    }
}

/// Decides what a DomainMapping needs.
#[must_use]
pub fn plan(mapping: &DomainMapping, observed: &Observed<'_>, now: Timestamp) -> Plan {
    let old = mapping.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let mut conditions = std::mem::take(&mut status.status.conditions);
    let mut manager = CONDITIONS.manage(&mut conditions, now);
    manager.initialize();
    let mut plan = Plan {
        claim: false,
        status: None,
        notices: Vec::new(),
    };
    let claimed = mark_claim(&mut plan, &mut manager, mapping, observed);
    let https = mark_certificate(&mut manager, mapping, observed);
    let target = if claimed {
        mark_reference(&mut manager, observed)
    } else {
        None
    };
    mark_ingress(&mut manager, mapping, target, observed);
    let url = observed.naming.external_url(mapping.name_str(), https);
    status.url = Some(url.clone());
    status.address = Some(Addressable {
        url: Some(url),
        ..Addressable::default()
    });
    match target {
        Some(route) => status
            .status
            .annotations
            .insert(meta::MAPPED_ROUTE_ANNOTATION.to_owned(), route.to_owned()),
        None => status.status.annotations.remove(meta::MAPPED_ROUTE_ANNOTATION),
    };
    status.status.observed_generation = mapping.metadata.generation;
    keep_times(&old.status.conditions, &mut conditions);
    status.status.conditions = conditions;
    if status == old {
        plan.notices.clear();
    } else {
        plan.status = Some(status);
    }
    plan
}

/// Says whether the name belongs to this namespace; gives that.
fn mark_claim(
    plan: &mut Plan,
    conditions: &mut Conditions<'_>,
    mapping: &DomainMapping,
    observed: &Observed<'_>,
) -> bool {
    let namespace = mapping.metadata.namespace.as_deref().unwrap_or_default();
    let name = mapping.name_str();
    let why = match observed.claim {
        Some(claim) if claim.spec.namespace == namespace => {
            conditions.mark_true(DOMAIN_CLAIMED);
            return true;
        }
        Some(_) => format!("namespace {namespace:?} does not own ClusterDomainClaim for {name:?}"),
        None if observed.naming.settings.network.autocreate_cluster_domain_claims => {
            plan.claim = true;
            conditions.mark_unknown(DOMAIN_CLAIMED, "", "");
            return false;
        }
        None => format!(
            "no ClusterDomainClaim found for domain {name:?} (and autocreate-cluster-domain-claims property is not true)"
        ),
    };
    let message = "The domain name is already in use by another DomainMapping";
    conditions.mark_false(DOMAIN_CLAIMED, reason::DOMAIN_ALREADY_CLAIMED, message);
    plan.notices.push(Notice::warning("InternalError", why));
    false
}

/// Says whether the name has the certificate that it needs; gives whether its URL begins with https.
fn mark_certificate(
    conditions: &mut Conditions<'_>,
    mapping: &DomainMapping,
    observed: &Observed<'_>,
) -> bool {
    if !wants_certificate(mapping, observed.naming) {
        conditions.mark_true_with_reason(
            CERTIFICATE_PROVISIONED,
            route_reason::TLS_NOT_ENABLED,
            tls::NOT_ENABLED,
        );
        return false;
    }
    let annotations = mapping.metadata.annotations.as_ref();
    match &observed.certificate {
        CertificateState::Ready if own_secret(mapping).is_some() => {
            conditions.mark_true_with_reason(
                CERTIFICATE_PROVISIONED,
                reason::CERTIFICATE_EXTERNALLY_PROVIDED,
                "TLS certificate was provided externally",
            );
            true
        }
        CertificateState::Ready => {
            conditions.mark_true(CERTIFICATE_PROVISIONED);
            true
        }
        CertificateState::Missing { name, why }
            if own_secret(mapping).is_none()
                && tls::http_protocol(observed.naming.settings, annotations) == HttpProtocol::Enabled =>
        {
            let message = format!("Certificate {name} is not ready downgrade HTTP. ({why})");
            conditions.mark_true_with_reason(CERTIFICATE_PROVISIONED, route_reason::HTTP_DOWNGRADE, &message);
            false
        }
        CertificateState::Missing { name, why } => {
            let message = format!("Certificate {name} is not ready: {why}");
            conditions.mark_unknown(
                CERTIFICATE_PROVISIONED,
                route_reason::CERTIFICATE_NOT_READY,
                &message,
            );
            true
        }
    }
}

fn mark_reference<'a>(conditions: &mut Conditions<'_>, observed: &'a Observed<'_>) -> Option<&'a str> {
    match &observed.target {
        Ok(route) => {
            conditions.mark_true(REFERENCE_RESOLVED);
            Some(route)
        }
        Err(why) => {
            conditions.mark_false(REFERENCE_RESOLVED, reason::RESOLVE_FAILED, why);
            None
        }
    }
}

fn mark_ingress(
    conditions: &mut Conditions<'_>,
    mapping: &DomainMapping,
    target: Option<&str>,
    observed: &Observed<'_>,
) {
    let Some(route) = target else {
        let message = "Ingress has not yet been reconciled.";
        conditions.mark_unknown(INGRESS_READY, route_reason::INGRESS_NOT_CONFIGURED, message);
        return;
    };
    let namespace = mapping.metadata.namespace.as_deref().unwrap_or_default();
    let wanted = target_host(route, namespace);
    let is_routed = observed.routed.is_some_and(|entry| {
        entry.mapped_to.as_deref() == Some(&wanted)
            && *entry.namespace == *namespace
            && !entry.targets.is_empty()
    });
    let was_ready = conditions.get(INGRESS_READY).is_some_and(Condition::is_true);
    let same = mapping.status.as_ref().is_some_and(|status| {
        status
            .status
            .annotations
            .get(meta::MAPPED_ROUTE_ANNOTATION)
            .map(String::as_str)
            == Some(route)
    });
    if is_routed || (was_ready && same) {
        conditions.mark_true(INGRESS_READY);
    } else {
        let message = "Waiting for load balancer to be ready";
        conditions.mark_unknown(INGRESS_READY, route_reason::UNINITIALIZED, message);
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
