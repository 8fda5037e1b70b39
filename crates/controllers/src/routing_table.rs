//! The routing table: what Routes say and Revisions can do, as one immutable snapshot for the gateway.
//!
//! It is rebuilt when a Route's status or a callable Revision changed, after a short wait for more changes, and
//! published only when it differs. A Revision is in it while its artifact is ready in this process, whatever the
//! conditions say: a function that trapped at its last call may answer the next.

pub mod plan;

use crate::context::Context;
use crate::object::{Meta, ObjectKey};
use kittiwake_core::routing_table::RoutingTable;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::watch;

/// Rebuilds the table for ever. Says `synced` once every Revision that had a digest at the start was tried.
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
    loop {
        // Asked before the table is built: what is decided now is in it.
        awaited.retain(|key| !context.is_decided(key) && context.stores.revisions.by_key(key).is_some());
        publish(&context, &table);
        if awaited.is_empty() {
            synced.send_replace(true);
        }
        context.routing_changed.notified().await;
        tokio::time::sleep(context.config.routing_table_debounce).await;
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
