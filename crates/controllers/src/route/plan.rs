//! What a Route's traffic means, and whether the gateway has it (serving `pkg/reconciler/route/traffic/traffic.go`,
//! `pkg/apis/serving/v1/route_lifecycle.go`).

use super::url;
use crate::Config;
use crate::events::Notice;
use crate::object::{Meta, keep_times};
use jiff::Timestamp;
use kittiwake_api::condition::{self, Condition, READY};
use kittiwake_api::serving::route::condition::{
    ALL_TRAFFIC_ASSIGNED, CERTIFICATE_PROVISIONED, INGRESS_READY,
};
use kittiwake_api::serving::route::{CONDITIONS, reason};
use kittiwake_api::serving::{Addressable, Configuration, Revision, Route, RouteStatus, TrafficTarget};
use kittiwake_core::routing_table::RouteEntry;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The new status, when it differs.
    pub status: Option<RouteStatus>,
    /// What to tell once the status is written.
    pub notices: Vec<Notice>,
}

/// Why traffic cannot be assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BadTarget {
    /// Waiting does not help.
    failed: bool,
    reason: &'static str,
    message: String,
}

/// Decides what a Route's status says. `routed` is what the gateways have for a host.
#[must_use]
pub fn plan(
    route: &Route,
    configuration: &dyn Fn(&str) -> Option<Arc<Configuration>>,
    revision: &dyn Fn(&str) -> Option<Arc<Revision>>,
    routed: &dyn Fn(&str) -> Option<Arc<RouteEntry>>,
    config: &Config,
    now: Timestamp,
) -> Plan {
    let old = route.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let mut conditions = std::mem::take(&mut status.conditions);
    let mut manager = CONDITIONS.manage(&mut conditions, now);
    manager.initialize();
    status.url = Some(url::url(route, None, config));
    status.address = Some(Addressable {
        url: Some(url::cluster_url(route, None)),
        ..Addressable::default()
    });
    manager.mark_true_with_reason(
        CERTIFICATE_PROVISIONED,
        reason::TLS_NOT_ENABLED,
        "external-domain-tls is not enabled",
    );
    match resolve(route, configuration, revision, config) {
        Ok(traffic) => {
            manager.mark_true(ALL_TRAFFIC_ASSIGNED);
            let moved = !same_split(&traffic, &old.traffic) || status.url != old.url;
            status.traffic = traffic;
            let was_ready = manager.get(INGRESS_READY).is_some_and(Condition::is_true);
            if is_published(route, &status.traffic, routed, config) || (was_ready && !moved) {
                manager.mark_true(INGRESS_READY);
            } else {
                let message = "Waiting for load balancer to be ready";
                manager.mark_unknown(INGRESS_READY, reason::UNINITIALIZED, message);
            }
        }
        // The traffic stays where it is.
        Err(bad) if bad.failed => manager.mark_false(ALL_TRAFFIC_ASSIGNED, bad.reason, &bad.message),
        Err(bad) => manager.mark_unknown(ALL_TRAFFIC_ASSIGNED, bad.reason, &bad.message),
    }
    status.observed_generation = route.metadata.generation;
    keep_times(&old.conditions, &mut conditions);
    status.conditions = conditions;
    if status == old {
        return Plan {
            status: None,
            notices: Vec::new(),
        };
    }
    let ready =
        |status: &RouteStatus| condition::find(&status.conditions, READY).is_some_and(Condition::is_true);
    let notices = (ready(&status) && !ready(&old)).then(|| {
        Notice::normal(
            "RouteReady",
            format!("Route is served at {}", status.url.as_deref().unwrap_or_default()),
        )
    });
    Plan {
        notices: notices.into_iter().collect(),
        status: Some(status),
    }
}

fn resolve(
    route: &Route,
    configuration: &dyn Fn(&str) -> Option<Arc<Configuration>>,
    revision: &dyn Fn(&str) -> Option<Arc<Revision>>,
    config: &Config,
) -> Result<Vec<TrafficTarget>, BadTarget> {
    let assign = |target: &TrafficTarget| {
        let (name, latest) = match (given(&target.configuration_name), given(&target.revision_name)) {
            (Some(name), _) => (latest_ready(name, configuration, revision)?, true),
            (None, Some(name)) => (ready_revision(name, revision)?, false),
            (None, None) => {
                let message =
                    "spec.traffic: a target names neither a Configuration nor a Revision.".to_owned();
                return Err(BadTarget {
                    failed: true,
                    reason: reason::CONFIGURATION_MISSING,
                    message,
                });
            }
        };
        Ok(TrafficTarget {
            tag: target.tag.clone(),
            revision_name: Some(name),
            configuration_name: None,
            latest_revision: Some(latest),
            percent: target.percent,
            url: given(&target.tag).map(|tag| url::url(route, Some(tag), config)),
        })
    };
    route.spec.traffic.iter().map(assign).collect()
}

fn given(name: &Option<String>) -> Option<&str> {
    name.as_deref().filter(|name| !name.is_empty())
}

fn latest_ready(
    name: &str,
    configuration: &dyn Fn(&str) -> Option<Arc<Configuration>>,
    revision: &dyn Fn(&str) -> Option<Arc<Revision>>,
) -> Result<String, BadTarget> {
    let missing = |kind: &str, name: &str, reason| BadTarget {
        failed: true,
        reason,
        message: format!("{kind} {name:?} referenced in traffic not found."),
    };
    let object =
        configuration(name).ok_or_else(|| missing("Configuration", name, reason::CONFIGURATION_MISSING))?;
    let status = object.status.clone().unwrap_or_default();
    let Some(latest) = status.latest_ready_revision_name else {
        let failed = condition::find(&status.conditions, READY).is_some_and(Condition::is_false);
        let message = if failed {
            format!("Configuration {name:?} does not have any ready Revision.")
        } else {
            format!("Configuration {name:?} is waiting for a Revision to become ready.")
        };
        return Err(BadTarget {
            failed,
            reason: reason::REVISION_MISSING,
            message,
        });
    };
    match revision(&latest) {
        Some(_) => Ok(latest),
        None => Err(missing("Revision", &latest, reason::REVISION_MISSING)),
    }
}

fn ready_revision(name: &str, revision: &dyn Fn(&str) -> Option<Arc<Revision>>) -> Result<String, BadTarget> {
    let bad = |failed, message| {
        Err(BadTarget {
            failed,
            reason: reason::REVISION_MISSING,
            message,
        })
    };
    let Some(object) = revision(name) else {
        return bad(
            true,
            format!("Revision {name:?} referenced in traffic not found."),
        );
    };
    let conditions = object
        .status
        .as_ref()
        .map(|s| s.conditions.as_slice())
        .unwrap_or_default();
    match condition::find(conditions, READY) {
        Some(ready) if ready.is_true() => Ok(object.name_str().to_owned()),
        Some(ready) if ready.is_false() => bad(true, format!("Revision {name:?} failed to become ready.")),
        _ => bad(false, format!("Revision {name:?} is not yet ready.")),
    }
}

/// Whether both send the same calls to the same revisions.
fn same_split(a: &[TrafficTarget], b: &[TrafficTarget]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a.tag == b.tag
                && a.revision_name == b.revision_name
                && a.percent.unwrap_or(0) == b.percent.unwrap_or(0)
        })
}

/// Whether the gateway routes every host of the Route as its traffic says.
fn is_published(
    route: &Route,
    traffic: &[TrafficTarget],
    routed: &dyn Fn(&str) -> Option<Arc<RouteEntry>>,
    config: &Config,
) -> bool {
    let shares = shares(traffic);
    let main = url::hosts(route, None, config)
        .iter()
        .all(|host| published_shares(route, routed(host)) == Some(shares.clone()));
    main && traffic.iter().all(|target| {
        let (Some(tag), Some(name)) = (given(&target.tag), given(&target.revision_name)) else {
            return true;
        };
        let whole = BTreeMap::from([(name.to_owned(), 100)]);
        url::hosts(route, Some(tag), config)
            .iter()
            .all(|host| published_shares(route, routed(host)).as_ref() == Some(&whole))
    })
}

/// Revision → percent, those without a share left out.
fn shares(traffic: &[TrafficTarget]) -> BTreeMap<String, i64> {
    let mut shares = BTreeMap::new();
    for target in traffic {
        let (Some(name), percent) = (&target.revision_name, target.percent.unwrap_or(0)) else {
            continue;
        };
        if percent > 0 {
            *shares.entry(name.clone()).or_default() += percent;
        }
    }
    shares
}

fn published_shares(route: &Route, entry: Option<Arc<RouteEntry>>) -> Option<BTreeMap<String, i64>> {
    let entry = entry?;
    if *entry.name != *route.name_str() || Some(&*entry.namespace) != route.metadata.namespace.as_deref() {
        return None;
    }
    let mut shares = BTreeMap::new();
    for target in &entry.targets {
        *shares.entry(target.revision.key.name.to_string()).or_default() += i64::from(target.percent);
    }
    Some(shares)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
