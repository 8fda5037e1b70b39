//! Routes, DomainMappings and callable Revisions → the routing table.

use crate::certificates::{self, Certificates};
use crate::domain_mapping::{self, target_host};
use crate::object::{Meta, ObjectKey};
use crate::revision::spec;
use crate::route::rollout::{RevisionRollout, Rollout};
use crate::route::tls;
use crate::route::url::Naming;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kittiwake_api::config::features;
use kittiwake_api::meta;
use kittiwake_api::serving::{DomainMapping, Revision, Route, RouteStatus, TrafficTarget};
use kittiwake_core::revision::RevisionSpec;
use kittiwake_core::routing_table::{
    Certificate, PERCENT_TOTAL, RouteEntry, RouteTarget, RoutingTable, Visibility,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the table is made of.
pub struct Sources<'a> {
    /// Every Route.
    pub routes: &'a [Arc<Route>],
    /// Every DomainMapping.
    pub mappings: &'a [Arc<DomainMapping>],
    /// Every Revision.
    pub revisions: &'a [Arc<Revision>],
    /// A Revision, when it can be called.
    pub servable: &'a dyn Fn(&ObjectKey) -> Option<Arc<RevisionSpec>>,
    /// A Secret.
    pub secret: &'a dyn Fn(&ObjectKey) -> Option<Arc<Secret>>,
    /// A namespace.
    pub namespace: &'a dyn Fn(&str) -> Option<Arc<Namespace>>,
    /// What Secrets held before.
    pub certificates: &'a Certificates,
    /// What hosts are made of.
    pub naming: Naming<'a>,
    /// Which certificates have expired.
    pub now: Timestamp,
}

/// Builds the table. Where two Routes claim one host (a tag of one, the name of another), the older Route has it; a
/// Route's own hosts come before mapped ones.
pub fn plan(sources: &Sources<'_>) -> RoutingTable {
    let mut table = RoutingTable::default();
    table
        .request_log
        .clone_from(&sources.naming.settings.observability.request_log);
    for route in by_age(sources.routes) {
        let Some(status) = route.status.as_ref() else {
            continue;
        };
        insert(&mut table, sources, route, None, &status.traffic);
        let rollout = rollout_of_tags(status);
        for target in &status.traffic {
            if let Some(tag) = target.tag.as_deref().filter(|tag| !tag.is_empty()) {
                let rolling = rollout.as_ref().and_then(|rollout| rollout.of_tag(tag));
                let traffic = rolling.map_or_else(|| vec![whole(target)], rolling_traffic);
                insert(&mut table, sources, route, Some(tag), &traffic);
            }
        }
    }
    for mapping in by_age(sources.mappings) {
        insert_mapping(&mut table, sources, mapping);
    }
    stand_by(&mut table, sources);
    table
}

/// Instances that stay are started before a Route leads to their Revision, as Knative's Deployment is made with the
/// Revision. They go when no Route does any more.
fn stand_by(table: &mut RoutingTable, sources: &Sources<'_>) {
    let may_be_reached = |revision: &&Arc<Revision>| {
        revision.label(meta::ROUTING_STATE_LABEL) != Some(meta::ROUTING_STATE_RESERVE)
            && spec::kind(revision).is_resident()
    };
    let revisions = sources.revisions.iter().filter(may_be_reached);
    let mut keys: Vec<ObjectKey> = revisions.map(|revision| ObjectKey::of(&**revision)).collect();
    // Equal tables are equal.
    keys.sort_unstable();
    for revision in keys.iter().filter_map(|key| (sources.servable)(key)) {
        table.stand_by(revision);
    }
}

fn by_age<K: kube::Resource>(objects: &[Arc<K>]) -> Vec<&K> {
    let mut objects: Vec<&K> = objects
        .iter()
        .map(|object| &**object)
        .filter(|object| !object.is_being_deleted())
        .collect();
    objects.sort_by_key(|object| {
        let meta = object.meta();
        let created = meta.creation_timestamp.as_ref().map(|time| time.0);
        (created, meta.namespace.clone(), meta.name.clone())
    });
    objects
}

/// The rollouts of a Route, if it may have one of a tag: few have.
fn rollout_of_tags(status: &RouteStatus) -> Option<Rollout> {
    let text = status.annotations.get(meta::ROLLOUT_ANNOTATION)?;
    text.contains("\"tag\"").then(|| Rollout::read(text)).flatten()
}

fn rolling_traffic(revisions: &[RevisionRollout]) -> Vec<TrafficTarget> {
    let target = |revision: &RevisionRollout| TrafficTarget {
        revision_name: Some(revision.revision_name.clone()),
        percent: Some(revision.percent),
        ..TrafficTarget::default()
    };
    revisions.iter().map(target).collect()
}

fn whole(target: &TrafficTarget) -> TrafficTarget {
    TrafficTarget {
        percent: Some(PERCENT_TOTAL.into()),
        ..target.clone()
    }
}

fn insert(
    table: &mut RoutingTable,
    sources: &Sources<'_>,
    route: &Route,
    tag: Option<&str>,
    traffic: &[TrafficTarget],
) {
    let entry = entry(sources, route, tag, traffic);
    for (host, visibility) in sources.naming.hosts(route, tag) {
        let certificate = (visibility == Visibility::External)
            .then(|| certificate_of_route(sources, route, &host, tag))
            .flatten();
        let annotations = route.metadata.annotations.as_ref();
        let protocol = tls::http_protocol(sources.naming.settings, annotations);
        let entry = Arc::new(RouteEntry {
            visibility,
            http: tls::http_option(protocol, certificate.is_some()),
            ..entry.clone()
        });
        put(table, host, entry, certificate);
    }
}

/// A certificate goes with its host: who came too late for the one does not get the other.
fn put(table: &mut RoutingTable, host: String, entry: Arc<RouteEntry>, certificate: Option<Certificate>) {
    if table.insert(host.as_str(), entry)
        && let Some(certificate) = certificate
    {
        table.insert_certificate(host, certificate);
    }
}

fn entry(sources: &Sources<'_>, route: &Route, tag: Option<&str>, traffic: &[TrafficTarget]) -> RouteEntry {
    let key = ObjectKey::of(route);
    let (targets, lost) = targets(sources, &key, traffic);
    let unready = targets.is_empty().then(|| unready(route, &lost).into());
    RouteEntry {
        namespace: Arc::clone(&key.namespace),
        name: Arc::clone(&key.name),
        tag: tag.map(Into::into),
        targets,
        unready,
        by_tag: match tag {
            None => by_tag(sources, &key, traffic),
            Some(_) => BTreeMap::new(),
        },
        ..RouteEntry::default()
    }
}

/// Who answers, and the names of those who should but cannot.
fn targets(
    sources: &Sources<'_>,
    key: &ObjectKey,
    traffic: &[TrafficTarget],
) -> (Vec<RouteTarget>, Vec<String>) {
    let mut targets: Vec<RouteTarget> = Vec::new();
    let mut lost = Vec::new();
    for target in traffic {
        let percent = u32::try_from(target.percent.unwrap_or(0)).unwrap_or(0);
        let Some(name) = target.revision_name.as_deref().filter(|_| percent > 0) else {
            continue;
        };
        match (sources.servable)(&key.sibling(name)) {
            Some(revision) => add(&mut targets, revision, percent),
            None => lost.push(name.to_owned()),
        }
    }
    share_out(&mut targets);
    (targets, lost)
}

/// Who answers calls that name a tag in a header, where that is switched on.
fn by_tag(
    sources: &Sources<'_>,
    key: &ObjectKey,
    traffic: &[TrafficTarget],
) -> BTreeMap<Arc<str>, RouteTarget> {
    if !sources.naming.settings.features.is_enabled(features::TAG_HEADER) {
        return BTreeMap::new();
    }
    let tagged = traffic.iter().filter_map(|target| {
        let tag = target.tag.as_deref().filter(|tag| !tag.is_empty())?;
        let revision = (sources.servable)(&key.sibling(target.revision_name.as_deref()?))?;
        let target = RouteTarget {
            revision,
            percent: PERCENT_TOTAL,
        };
        Some((tag.into(), target))
    });
    tagged.collect()
}

fn certificate_of_route(
    sources: &Sources<'_>,
    route: &Route,
    host: &str,
    tag: Option<&str>,
) -> Option<Certificate> {
    let annotations = route.metadata.annotations.as_ref();
    if !tls::is_wanted(&sources.naming.settings.network, annotations) {
        return None;
    }
    let namespace = (sources.namespace)(route.metadata.namespace.as_deref().unwrap_or_default());
    let names = certificates::secrets_of_route(route, host, tag, namespace.as_deref(), sources.naming);
    let key = ObjectKey::of(route);
    certificate(sources, &key, &names, host)
}

/// The first certificate for a host in the Secrets `names` beside `key`.
fn certificate(sources: &Sources<'_>, key: &ObjectKey, names: &[String], host: &str) -> Option<Certificate> {
    sources.naming.config.https_external_port?;
    names.iter().find_map(|name| {
        let key = key.sibling(name.as_str());
        let found = sources
            .certificates
            .find(&key, (sources.secret)(&key), host, sources.now);
        found.certificate
    })
}

/// A mapped name answers as the Route's own host does, once the mapping's controller says where it leads.
fn insert_mapping(table: &mut RoutingTable, sources: &Sources<'_>, mapping: &DomainMapping) {
    let key = ObjectKey::of(mapping);
    let route = mapping
        .status
        .as_ref()
        .and_then(|status| status.status.annotations.get(meta::MAPPED_ROUTE_ANNOTATION));
    let Some(route) = route else { return };
    let inside = target_host(route, &key.namespace);
    let Some(target) = table.lookup(&inside).cloned() else {
        return;
    };
    let names = [domain_mapping::plan::secret(mapping)];
    let certificate = domain_mapping::plan::wants_certificate(mapping, sources.naming)
        .then(|| certificate(sources, &key, &names, &key.name))
        .flatten();
    let annotations = mapping.metadata.annotations.as_ref();
    let protocol = tls::http_protocol(sources.naming.settings, annotations);
    let entry = Arc::new(RouteEntry {
        visibility: Visibility::External,
        http: tls::http_option(protocol, certificate.is_some()),
        mapped_to: Some(inside.into()),
        ..(*target).clone()
    });
    put(table, key.name.to_string(), entry, certificate);
}

/// Two shares of one Revision are one.
fn add(targets: &mut Vec<RouteTarget>, revision: Arc<RevisionSpec>, percent: u32) {
    match targets
        .iter_mut()
        .find(|target| target.revision.key == revision.key)
    {
        Some(target) => target.percent += percent,
        None => targets.push(RouteTarget { revision, percent }),
    }
}

/// Raises shares in proportion until they sum to the whole, for when a Revision cannot be called in this process: its
/// calls are better answered by the others than not at all. The last one takes what rounding leaves.
fn share_out(targets: &mut [RouteTarget]) {
    let total: u32 = targets.iter().map(|target| target.percent).sum();
    if total == PERCENT_TOTAL || total == 0 {
        return;
    }
    let mut left = PERCENT_TOTAL;
    for target in targets.iter_mut() {
        target.percent = target.percent * PERCENT_TOTAL / total;
        left = left.saturating_sub(target.percent);
    }
    if let Some(last) = targets.last_mut() {
        last.percent += left;
    }
}

/// What a caller is told when nobody can answer.
fn unready(route: &Route, lost: &[String]) -> String {
    if !lost.is_empty() {
        return format!("revision {} is not ready", lost.join(", "));
    }
    let conditions = route
        .status
        .as_ref()
        .map(|s| s.conditions.as_slice())
        .unwrap_or_default();
    let ready = kittiwake_api::condition::find(conditions, kittiwake_api::condition::READY);
    match ready.filter(|ready| !ready.message.is_empty()) {
        Some(ready) => ready.message.clone(),
        None => "no revision is ready yet".to_owned(),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
