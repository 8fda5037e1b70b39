//! Deployments and ServerlessServices: what a cluster shows of how far a Revision is scaled. They are made from
//! PodAutoscalers and Revisions, kept in memory only, and never written by clients.
//!
//! On a cluster they are objects of their own, each written at every change of scale. Here they would say again what the
//! PodAutoscaler says, so writing them would double the writes of the autoscaler. Instead they are views: nothing is made
//! before somebody first asks for one, and from then on they follow.

mod object;

pub(crate) use object::{is_proxied, owned_uid, ready};

use crate::made::write;
use crate::pods;
use crate::server::Server;
use kittiwake_store::{EventKind, Key, Stored, WatchError};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Where Deployments are in the store of what is made.
pub(crate) const DEPLOYMENTS: &str = "deployments.apps";
/// Where ServerlessServices are.
const SERVERLESS_SERVICES: &str = "serverlessservices.networking.internal.knative.dev";
/// All that is made here.
pub(crate) const RESOURCES: [&str; 2] = [DEPLOYMENTS, SERVERLESS_SERVICES];
/// The kind that they are made from.
pub(crate) const POD_AUTOSCALERS: &str = "podautoscalers.autoscaling.internal.knative.dev";

/// Makes them once somebody asked, and keeps them up to date until the server stops.
pub(crate) async fn run(server: Arc<Server>, shutdown: CancellationToken) {
    let follow = async {
        server.scaled.asked().await;
        while follow(&server).await == WatchError::Lagged {}
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow => {}
    }
}

/// Makes all that there shall be, then follows the changes. Gives why it cannot go on.
async fn follow(server: &Server) -> WatchError {
    let from = server.store.resource_version();
    let scalers = server.store.list(POD_AUTOSCALERS, None).items;
    let mut wanted: Vec<Key> = Vec::with_capacity(scalers.len() * 2);
    for scaler in &scalers {
        look(server, scaler).await;
        wanted.extend(keys(&scaler.key));
    }
    wanted.sort_unstable();
    for resource in RESOURCES {
        for stored in server.made.list(resource, None).items {
            if wanted.binary_search(&stored.key).is_err() {
                write(server, stored.key, |_| None).await;
            }
        }
    }
    server.scaled.done();
    let Ok(mut watcher) = server.store.watch(POD_AUTOSCALERS, from) else {
        return WatchError::Lagged;
    };
    loop {
        match watcher.next().await {
            Ok(event) if event.kind == EventKind::Deleted => {
                for key in keys(&event.object.key) {
                    write(server, key, |_| None).await;
                }
            }
            Ok(event) => look(server, &event.object).await,
            Err(why) => return why,
        }
    }
}

/// Where the objects of a PodAutoscaler are.
fn keys(scaler: &Key) -> [Key; 2] {
    let deployment = object::deployment_name(&scaler.name);
    let (namespace, name) = (&scaler.namespace, &scaler.name);
    [
        Key::new(DEPLOYMENTS, Arc::clone(namespace), deployment),
        Key::new(SERVERLESS_SERVICES, Arc::clone(namespace), Arc::clone(name)),
    ]
}

/// Makes the objects of one PodAutoscaler. One whose Revision is gone goes soon.
async fn look(server: &Server, scaler: &Stored) {
    let (namespace, name) = (&scaler.key.namespace, &scaler.key.name);
    let revision = server.store.get(&Key::new(
        pods::REVISIONS,
        Arc::clone(namespace),
        Arc::clone(name),
    ));
    let Some(revision) = revision else { return };
    let (revision, tree) = (revision.object.tree(), scaler.object.tree());
    let now = server.clock.now();
    let [deployment, service] = keys(&scaler.key);
    write(server, deployment, |old| {
        Some(object::deployment(&revision, &tree, old))
    })
    .await;
    write(server, service, |old| {
        Some(object::serverless_service(&tree, old, now))
    })
    .await;
}
