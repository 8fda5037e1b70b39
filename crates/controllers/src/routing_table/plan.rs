//! Routes and callable Revisions → the routing table.

use crate::Config;
use crate::object::{Meta, ObjectKey};
use crate::route::url;
use kittiwake_api::serving::{Route, TrafficTarget};
use kittiwake_core::revision::RevisionSpec;
use kittiwake_core::routing_table::{PERCENT_TOTAL, RouteEntry, RouteTarget, RoutingTable};
use std::sync::Arc;

/// Builds the table. Where two Routes claim one host (a tag of one, the name of another), the older Route has it.
pub fn plan(
    routes: &[Arc<Route>],
    servable: impl Fn(&ObjectKey) -> Option<Arc<RevisionSpec>>,
    config: &Config,
) -> RoutingTable {
    let mut routes: Vec<&Route> = routes
        .iter()
        .map(|route| &**route)
        .filter(|r| !r.is_being_deleted())
        .collect();
    routes.sort_by_key(|route| {
        let created = route.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (
            created,
            route.metadata.namespace.clone(),
            route.metadata.name.clone(),
        )
    });
    let mut table = RoutingTable::default();
    for route in routes {
        let Some(status) = route.status.as_ref() else {
            continue;
        };
        let whole = |target: &TrafficTarget| TrafficTarget {
            percent: Some(PERCENT_TOTAL.into()),
            ..target.clone()
        };
        insert(&mut table, route, None, &status.traffic, &servable, config);
        for target in &status.traffic {
            if let Some(tag) = target.tag.as_deref().filter(|tag| !tag.is_empty()) {
                insert(&mut table, route, Some(tag), &[whole(target)], &servable, config);
            }
        }
    }
    table
}

fn insert(
    table: &mut RoutingTable,
    route: &Route,
    tag: Option<&str>,
    traffic: &[TrafficTarget],
    servable: &impl Fn(&ObjectKey) -> Option<Arc<RevisionSpec>>,
    config: &Config,
) {
    let key = ObjectKey::of(route);
    let mut targets: Vec<RouteTarget> = Vec::new();
    let mut lost = Vec::new();
    for target in traffic {
        let percent = u32::try_from(target.percent.unwrap_or(0)).unwrap_or(0);
        let Some(name) = target.revision_name.as_deref().filter(|_| percent > 0) else {
            continue;
        };
        match servable(&key.sibling(name)) {
            Some(revision) => add(&mut targets, revision, percent),
            None => lost.push(name.to_owned()),
        }
    }
    share_out(&mut targets);
    let unready = targets.is_empty().then(|| unready(route, &lost).into());
    let entry = Arc::new(RouteEntry {
        namespace: Arc::clone(&key.namespace),
        name: Arc::clone(&key.name),
        tag: tag.map(Into::into),
        targets,
        unready,
        ..RouteEntry::default()
    });
    for host in url::hosts(route, tag, config) {
        table.insert(host, Arc::clone(&entry));
    }
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
