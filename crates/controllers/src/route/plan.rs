//! What a Route's traffic means, and whether the gateway has it (serving `pkg/reconciler/route/traffic/traffic.go`,
//! `pkg/apis/serving/v1/route_lifecycle.go`).

use super::placeholder::{self, Placeholders};
use super::rollout::{ConfigurationRollout, RevisionRollout, Rollout};
use super::tls::{self, CertificateState};
use super::url::{Naming, is_host};
use crate::events::Notice;
use crate::object::{Meta, keep_times};
use crate::runner::Next;
use jiff::Timestamp;
use kittiwake_api::condition::{self, Condition, Conditions, READY};
use kittiwake_api::duration::GoDuration;
use kittiwake_api::meta;
use kittiwake_api::serving::route::condition::{ALL_TRAFFIC_ASSIGNED, INGRESS_READY};
use kittiwake_api::serving::route::{CONDITIONS, reason};
use kittiwake_api::serving::{Addressable, Configuration, Revision, Route, RouteStatus, TrafficTarget};
use kittiwake_core::routing_table::RouteEntry;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// All of the traffic of one name.
const PERCENT_ALL: i64 = 100;

/// What is there already.
#[derive(Clone, Copy)]
pub struct Observed<'a> {
    /// A Configuration of the Route's namespace.
    pub configuration: &'a dyn Fn(&str) -> Option<Arc<Configuration>>,
    /// A Revision of the Route's namespace.
    pub revision: &'a dyn Fn(&str) -> Option<Arc<Revision>>,
    /// What the gateways have for a host.
    pub routed: &'a dyn Fn(&str) -> Option<Arc<RouteEntry>>,
    /// The certificate of a host of the Route, or of a tag of it.
    pub certificate: &'a dyn Fn(&str, Option<&str>) -> CertificateState,
    /// What there is of placeholders.
    pub placeholders: placeholder::Observed<'a>,
    /// What hosts and URLs are made of.
    pub naming: Naming<'a>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What becomes of the placeholders; written before the status.
    pub placeholders: Placeholders,
    /// The new status, when it differs.
    pub status: Option<RouteStatus>,
    /// What to tell once the status is written.
    pub notices: Vec<Notice>,
    /// When to look again.
    pub next: Next,
}

/// Why traffic cannot be assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct BadTarget {
    /// Waiting does not help.
    failed: bool,
    reason: &'static str,
    message: String,
}

/// Decides what a Route's status says.
#[must_use]
pub fn plan(route: &Route, observed: &Observed<'_>, now: Timestamp) -> Plan {
    let naming = observed.naming;
    let old = route.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let mut conditions = std::mem::take(&mut status.conditions);
    let mut manager = CONDITIONS.manage(&mut conditions, now);
    manager.initialize();
    status.address = Some(Addressable {
        url: Some(naming.cluster_url(route, None)),
        ..Addressable::default()
    });
    let https = tls::mark(&mut manager, route, observed);
    status.url = Some(naming.url(route, None, https));
    let mut next = Next::OnChange;
    let mut placeholders = Placeholders::default();
    match resolve(route, observed.configuration, observed.revision) {
        Ok(goal) => {
            manager.mark_true(ALL_TRAFFIC_ASSIGNED);
            let planned = placeholder::plan(route, observed.placeholders, naming);
            let (rollout, pause) = roll_out(route, &old, &goal, observed, now);
            next = pause.map_or(next, Next::After);
            status.traffic = split(route, &goal, &rollout, naming, https);
            status
                .annotations
                .insert(meta::ROLLOUT_ANNOTATION.to_owned(), rollout.write());
            mark_ingress(&mut manager, route, &status, &old, &rollout, observed);
            match planned {
                Ok(planned) => placeholders = planned,
                // The gateway keeps what it has: the name is somebody else's.
                Err(taken) => {
                    let message =
                        format!("There is an existing placeholder Service {taken:?} that we do not own.");
                    manager.mark_false(INGRESS_READY, reason::NOT_OWNED, &message);
                    (status.traffic, status.annotations) = (old.traffic.clone(), old.annotations.clone());
                    next = Next::OnChange;
                }
            }
        }
        // The traffic stays where it is.
        Err(bad) if bad.failed => manager.mark_false(ALL_TRAFFIC_ASSIGNED, bad.reason, &bad.message),
        Err(bad) => manager.mark_unknown(ALL_TRAFFIC_ASSIGNED, bad.reason, &bad.message),
    }
    status.observed_generation = route.metadata.generation;
    keep_times(&old.conditions, &mut conditions);
    status.conditions = conditions;
    let mut notices = std::mem::take(&mut placeholders.notices);
    if status == old {
        return Plan {
            placeholders,
            status: None,
            notices,
            next,
        };
    }
    let ready =
        |status: &RouteStatus| condition::find(&status.conditions, READY).is_some_and(Condition::is_true);
    if ready(&status) && !ready(&old) {
        notices.push(Notice::normal(
            "RouteReady",
            format!("Route is served at {}", status.url.as_deref().unwrap_or_default()),
        ));
    }
    Plan {
        placeholders,
        notices,
        status: Some(status),
        next,
    }
}

/// Says whether the gateways have what the status says.
fn mark_ingress(
    conditions: &mut Conditions<'_>,
    route: &Route,
    status: &RouteStatus,
    old: &RouteStatus,
    rollout: &Rollout,
    observed: &Observed<'_>,
) {
    let tags = route.spec.traffic.iter().filter_map(|target| given(&target.tag));
    let bad = std::iter::once(None).chain(tags.map(Some)).find_map(|tag| {
        let host = observed
            .naming
            .external_host(route, tag)
            .unwrap_or_else(|| observed.naming.label(route, tag));
        (!is_host(&host)).then_some((tag, host))
    });
    if let Some((tag, host)) = bad {
        let message = match tag {
            None => format!(
                "domain-template of config-network gives {host:?}, which is not a host name of at most 253 bytes"
            ),
            Some(tag) => format!(
                "the tag {tag:?} gives {host:?}, which is not a host name of labels of at most 63 bytes; shorten the tag or the name"
            ),
        };
        conditions.mark_false(INGRESS_READY, reason::ERROR_CONFIG, &message);
        return;
    }
    let moved = !same_split(&status.traffic, &old.traffic) || status.url != old.url;
    let was_ready = conditions.get(INGRESS_READY).is_some_and(Condition::is_true);
    if !is_published(route, &status.traffic, rollout, observed) && (moved || !was_ready) {
        let message = "Waiting for load balancer to be ready";
        conditions.mark_unknown(INGRESS_READY, reason::UNINITIALIZED, message);
    } else if rollout.is_under_way() {
        let message = "A gradual rollout of the latest revision(s) is in progress.";
        conditions.mark_unknown(INGRESS_READY, reason::ROLLOUT_IN_PROGRESS, message);
    } else {
        conditions.mark_true(INGRESS_READY);
    }
}

/// How far traffic has come to `goal`, and when to look again.
fn roll_out(
    route: &Route,
    old: &RouteStatus,
    goal: &[Assigned],
    observed: &Observed<'_>,
    now: Timestamp,
) -> (Rollout, Option<Duration>) {
    let mut shares: BTreeMap<&str, (&str, i64)> = BTreeMap::new();
    for Assigned {
        target,
        configuration,
    } in goal
    {
        if let (Some(configuration), Some(revision)) = (configuration, &target.revision_name) {
            shares.entry(configuration).or_insert((revision, 0)).1 += target.percent.unwrap_or(0);
        }
    }
    let own = shares.iter().map(|(configuration, (revision, percent))| {
        ConfigurationRollout::whole(configuration, "", revision, *percent)
    });
    let tags = goal.iter().filter_map(|assigned| {
        let tag = given(&assigned.target.tag)?;
        let revision = assigned.target.revision_name.as_deref()?;
        Some(ConfigurationRollout::whole(
            assigned.configuration.as_deref()?,
            tag,
            revision,
            PERCENT_ALL,
        ))
    });
    let mut configurations: Vec<_> = own.chain(tags).collect();
    configurations.sort_by(|a, b| (&a.tag, &a.configuration_name).cmp(&(&b.tag, &b.configuration_name)));
    let wanted = Rollout { configurations };
    let Some(duration) = rollout_duration(route, observed.naming.settings.network.rollout_duration_seconds)
    else {
        return (wanted, None);
    };
    let mut previous = old
        .annotations
        .get(meta::ROLLOUT_ANNOTATION)
        .and_then(|text| Rollout::read(text));
    if let Some(previous) = &mut previous
        && previous.waits_for_gateways()
        && is_published(route, &old.traffic, previous, observed)
    {
        previous.observe_ready(now, duration);
    }
    Rollout::step(wanted, previous, now)
}

/// How long a rollout takes: as the Route says, else as administrators say. `None` for at once.
fn rollout_duration(route: &Route, default_seconds: u32) -> Option<Duration> {
    let keys = [
        meta::ROLLOUT_DURATION_ANNOTATION,
        meta::ROLLOUT_DURATION_ANNOTATION_CAMEL,
    ];
    let said = keys.iter().find_map(|key| route.annotation(key));
    let said = said.and_then(|text| text.parse::<GoDuration>().ok()?.to_std());
    said.filter(|duration| duration.as_secs() > 0)
        .or_else(|| Some(Duration::from_secs(default_seconds.into())))
        .filter(|duration| !duration.is_zero())
}

/// The traffic as it is split now. While a rollout is under way, what older revisions still have is taken from the
/// targets that follow their Configuration, in order.
fn split(
    route: &Route,
    goal: &[Assigned],
    rollout: &Rollout,
    naming: Naming<'_>,
    https: bool,
) -> Vec<TrafficTarget> {
    let mut older: BTreeMap<&str, Vec<RevisionRollout>> = BTreeMap::new();
    for configuration in rollout.configurations.iter().filter(|c| c.tag.is_empty()) {
        if let [older_ones @ .., _] = configuration.revisions.as_slice() {
            older.insert(&configuration.configuration_name, older_ones.to_vec());
        }
    }
    let mut traffic = Vec::new();
    for Assigned {
        target,
        configuration,
    } in goal
    {
        let mut left = target.percent.unwrap_or(0);
        let shares = configuration.as_deref().and_then(|name| older.get_mut(name));
        for share in shares.into_iter().flatten() {
            let taken = share.percent.min(left);
            if taken > 0 {
                traffic.push(TrafficTarget {
                    tag: None,
                    revision_name: Some(share.revision_name.clone()),
                    percent: Some(taken),
                    ..target.clone()
                });
                share.percent -= taken;
                left -= taken;
            }
        }
        // What only the tag still leads to has no share of the Route's own name, and is routed all the same.
        let of_tag = given(&target.tag)
            .and_then(|tag| rollout.of_tag(tag))
            .unwrap_or_default();
        for older in of_tag.iter().rev().skip(1) {
            if !traffic
                .iter()
                .any(|t: &TrafficTarget| t.revision_name.as_ref() == Some(&older.revision_name))
            {
                traffic.push(TrafficTarget {
                    tag: None,
                    revision_name: Some(older.revision_name.clone()),
                    percent: Some(0),
                    ..target.clone()
                });
            }
        }
        if left > 0 || target.percent.unwrap_or(0) == 0 || given(&target.tag).is_some() {
            traffic.push(TrafficTarget {
                percent: target.percent.map(|_| left),
                url: given(&target.tag).map(|tag| naming.url(route, Some(tag), https)),
                ..target.clone()
            });
        }
    }
    traffic
}

/// A target of the spec with its Revision.
struct Assigned {
    target: TrafficTarget,
    /// The Configuration whose latest ready Revision it follows.
    configuration: Option<String>,
}

fn resolve(
    route: &Route,
    configuration: &dyn Fn(&str) -> Option<Arc<Configuration>>,
    revision: &dyn Fn(&str) -> Option<Arc<Revision>>,
) -> Result<Vec<Assigned>, BadTarget> {
    let assign = |target: &TrafficTarget| {
        let follows = given(&target.configuration_name);
        let name = match (follows, given(&target.revision_name)) {
            (Some(name), _) => latest_ready(name, configuration, revision)?,
            (None, Some(name)) => ready_revision(name, revision)?,
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
        Ok(Assigned {
            target: TrafficTarget {
                tag: target.tag.clone(),
                revision_name: Some(name),
                configuration_name: None,
                latest_revision: Some(follows.is_some()),
                percent: target.percent,
                url: None,
            },
            configuration: follows.map(str::to_owned),
        })
    };
    route.spec.traffic.iter().map(assign).collect()
}

pub(super) fn given(name: &Option<String>) -> Option<&str> {
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

/// Whether both send the same calls, by the same names, to the same revisions.
fn same_split(a: &[TrafficTarget], b: &[TrafficTarget]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a.tag == b.tag
                && a.revision_name == b.revision_name
                && a.url == b.url
                && a.percent.unwrap_or(0) == b.percent.unwrap_or(0)
        })
}

/// Whether the gateways route every host of the Route as its traffic says.
fn is_published(
    route: &Route,
    traffic: &[TrafficTarget],
    rollout: &Rollout,
    observed: &Observed<'_>,
) -> bool {
    let routes = |tag: Option<&str>, shares: &BTreeMap<String, i64>| {
        let hosts = observed.naming.hosts(route, tag);
        hosts
            .iter()
            .all(|(host, _)| published_shares(route, (observed.routed)(host)).as_ref() == Some(shares))
    };
    routes(None, &shares(traffic))
        && traffic.iter().all(|target| {
            let (Some(tag), Some(name)) = (given(&target.tag), given(&target.revision_name)) else {
                return true;
            };
            let wanted = match rollout.of_tag(tag) {
                Some(rolling) => rolling
                    .iter()
                    .map(|r| (r.revision_name.clone(), r.percent))
                    .collect(),
                None => BTreeMap::from([(name.to_owned(), PERCENT_ALL)]),
            };
            routes(Some(tag), &wanted)
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
