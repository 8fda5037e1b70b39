//! The routing table: what Routes say and Revisions can do, as one immutable snapshot for the gateway.
//!
//! It is rebuilt when a Route's status or a callable Revision changed, after a short wait for more changes, and when a
//! certificate expires, and published only when it differs. A Revision is in it while its artifact is ready in this process, whatever the
//! conditions say: a function that trapped at its last call may answer the next.

pub mod plan;

use crate::context::Context;
use crate::object::{Meta, ObjectKey};
use crate::route::url::{Naming, said_inside};
use kittiwake_core::routing_table::RoutingTable;
use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Pause after a table was built, in times of what building it took.
const BUILD_PAUSES: u32 = 4;
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Pause between two looks at URLs that are not up to date yet.
const URLS_PAUSE: Duration = Duration::from_millis(20);

/// How long a start waits for URLs: one that cannot be written must not keep everything else from being served.
const URLS_TIMEOUT: Duration = Duration::from_secs(10);

/// Rebuilds the table for ever. Says `synced` once every Revision that had a digest at the start was tried, and every
/// Service says the URL at which it is called now: the port or the domain may have changed since the last start.
pub async fn run(
    context: Arc<Context>,
    table: watch::Sender<Arc<RoutingTable>>,
    synced: watch::Sender<bool>,
) {
    let mut awaited: Vec<ObjectKey> = Vec::new();
    for revision in context.stores.revisions.all() {
        if revision
            .status
            .as_ref()
            .is_some_and(|s| !s.container_statuses.is_empty())
            && !revision.is_being_deleted()
        {
            awaited.push(ObjectKey::of(&*revision));
        }
    }
    let mut urls = pin!(tokio::time::timeout(URLS_TIMEOUT, urls_are_current(&context)));
    loop {
        // Asked before the table is built: what is decided now is in it.
        awaited.retain(|key| !context.is_decided(key) && context.stores.revisions.by_key(key).is_some());
        let began = Instant::now();
        publish(&context, &table);
        let pause = pause(context.config.routing_table_debounce, began.elapsed());
        tokio::select! {
            () = context.routing_changed.notified() => {}
            () = tokio::time::sleep(context.certificates.next_end(context.now())) => look_at_all(&context),
            _ = &mut urls, if awaited.is_empty() && !*synced.borrow() => {
                synced.send_replace(true);
                context.routing_changed.notified().await;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Has all Routes and DomainMappings look at their certificates, one of which may have expired.
fn look_at_all(context: &Context) {
    for route in context.stores.routes.all() {
        context.queues.route.add(ObjectKey::of(&*route));
    }
    for mapping in context.stores.domain_mappings.all() {
        context.queues.domain_mapping.add(ObjectKey::of(&*mapping));
    }
}

/// How long to wait for more changes: longer where a table takes longer to build, so that a burst of changes to
/// thousands of Routes costs a small part of one core.
pub(crate) fn pause(debounce: Duration, build: Duration) -> Duration {
    debounce.max(build.saturating_mul(BUILD_PAUSES).min(PAUSE_MAX))
}

/// Resolves once every Service that has a URL has the one of its Route.
async fn urls_are_current(context: &Context) {
    while context.stores.services.all().iter().any(|service| {
        let said = service.status.as_ref().and_then(|status| status.url.as_deref());
        let route = context.stores.routes.by_key(&ObjectKey::of(&**service));
        let settings = context.settings();
        let naming = Naming {
            config: &context.config,
            settings: &settings,
            kept_inside: &|route, tag| context.keeps_inside(&settings, route, tag),
        };
        said.is_some()
            && route.is_some_and(|route| {
                [true, false]
                    .iter()
                    .all(|https| said != Some(&naming.url(&route, None, *https)))
            })
    }) {
        tokio::time::sleep(URLS_PAUSE).await;
    }
}

/// Builds the table, and where it differs publishes it and has the Routes concerned look at it.
fn publish(context: &Context, sender: &watch::Sender<Arc<RoutingTable>>) {
    let settings = context.settings();
    let new = plan::plan(&plan::Sources {
        routes: &context.stores.routes.all(),
        mappings: &context.stores.domain_mappings.all(),
        revisions: &context.stores.revisions.all(),
        servable: &|key| context.servable(key),
        secret: &|key| context.stores.secrets.by_key(key),
        namespace: &|name| context.stores.namespaces.by_key(&ObjectKey::new("", name)),
        certificates: &context.certificates,
        naming: Naming {
            config: &context.config,
            settings: &settings,
            kept_inside: &said_inside,
        },
        now: context.now(),
    });
    let old = Arc::clone(&sender.borrow());
    if new == *old {
        return;
    }
    let changed = changed_hosts(&old, &new);
    sender.send_replace(Arc::new(new));
    for (host, route) in changed {
        context
            .queues
            .domain_mapping
            .add(ObjectKey::new(Arc::clone(&route.namespace), host));
        context.queues.route.add(route);
    }
}

/// The hosts that differ between two tables, with their Routes.
fn changed_hosts(old: &RoutingTable, new: &RoutingTable) -> HashSet<(String, ObjectKey)> {
    let mut changed = HashSet::new();
    for (one, other) in [(old, new), (new, old)] {
        for (host, entry) in one.iter() {
            if other.lookup(host) != Some(entry) {
                let route = ObjectKey::new(Arc::clone(&entry.namespace), Arc::clone(&entry.name));
                changed.insert((host.to_owned(), route));
            }
        }
    }
    changed
}
