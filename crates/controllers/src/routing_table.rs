//! The routing table: what Routes say and Revisions can do, as one immutable snapshot for the gateway.
//!
//! It is rebuilt when a Route's status or a callable Revision changed, after a short wait for more changes, and
//! published only when it differs. A Revision is in it while its artifact is ready in this process, whatever the
//! conditions say: a function that trapped at its last call may answer the next.

pub mod plan;

use crate::context::Context;
use crate::object::{Meta, ObjectKey};
use crate::route::url;
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
            _ = &mut urls, if awaited.is_empty() && !*synced.borrow() => {
                synced.send_replace(true);
                context.routing_changed.notified().await;
            }
        }
        tokio::time::sleep(pause).await;
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
        let is = route.map(|route| url::url(&route, None, &context.config));
        said.is_some() && is.is_some() && said != is.as_deref()
    }) {
        tokio::time::sleep(URLS_PAUSE).await;
    }
}

/// Builds the table, and where it differs publishes it and has the Routes concerned look at it.
fn publish(context: &Context, sender: &watch::Sender<Arc<RoutingTable>>) {
    let routes = context.stores.routes.all();
    let servable = |key: &ObjectKey| context.servable(key);
    let new = plan::plan(&routes, servable, &context.config);
    let old = Arc::clone(&sender.borrow());
    if new == *old {
        return;
    }
    let changed = changed_routes(&old, &new);
    sender.send_replace(Arc::new(new));
    for route in changed {
        context.queues.route.add(route);
    }
}

/// The Routes of which a host differs between two tables.
fn changed_routes(old: &RoutingTable, new: &RoutingTable) -> HashSet<ObjectKey> {
    let mut changed = HashSet::new();
    for (one, other) in [(old, new), (new, old)] {
        for (host, entry) in one.iter() {
            if other.lookup(host) != Some(entry) {
                changed.insert(ObjectKey::new(
                    Arc::clone(&entry.namespace),
                    Arc::clone(&entry.name),
                ));
            }
        }
    }
    changed
}
