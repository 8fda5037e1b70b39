//! Pods: one for each revision that is in memory now, none for a revision at zero, with what it uses. They are made from
//! Revisions and from what those who run functions tell, kept in memory only, and never written by clients.
//!
//! A call to a function has an instance of its own that lives for milliseconds; nobody could list those. A pod stands
//! for what stays between calls: the revision's compiled code, linked and ready.

mod object;

use crate::server::Server;
use kittiwake_store::{Change, Key, ObjectStore};
use serde_json::Value;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Where pods are in the store of what is made.
pub(crate) const PODS: &str = "pods";
/// Where their metrics are.
pub(crate) const METRICS: &str = "pods.metrics.k8s.io";
/// The kind that pods are made from.
const REVISIONS: &str = "revisions.serving.knative.dev";
/// Names of the two containers: the user's by default, and the one by Knative's name for its proxy, which stands for the
/// platform here.
pub(crate) const USER_CONTAINER: &str = "user-container";
/// See [`USER_CONTAINER`].
pub(crate) const QUEUE_PROXY: &str = "queue-proxy";
/// Pause between two looks: many revisions that come at once are looked at together.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How often metrics are brought up to date without anything having come or gone.
const METRICS_PERIOD: Duration = Duration::from_secs(5);

/// Keeps pods up to date until the server stops.
pub(crate) async fn run(server: Arc<Server>, shutdown: CancellationToken) {
    let mut changes = server.instances.changes();
    loop {
        changes.borrow_and_update();
        let from = server.store.resource_version();
        look(&server).await;
        // A revision that is deleted takes its pod with it. Without a watch, the next period sees it.
        let revision_changed = async {
            match server.store.watch(REVISIONS, from) {
                Ok(mut watcher) if server.has_pods() => drop(watcher.next().await),
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = changes.changed() => {}
            () = revision_changed => {}
            () = tokio::time::sleep(METRICS_PERIOD) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_PAUSE) => {}
        }
    }
}

/// Makes the pods of what lives now, and removes the others.
async fn look(server: &Server) {
    let now = server.clock.now();
    let mut wanted: BTreeMap<Key, Value> = BTreeMap::new();
    for live in server.instances.live().values() {
        let (namespace, name) = (&live.revision.namespace, &live.revision.name);
        let Some(stored) = server
            .store
            .get(&Key::new(REVISIONS, Arc::clone(namespace), Arc::clone(name)))
        else {
            continue;
        };
        let revision = stored.object.tree();
        if crate::object::uid(&revision) != &*live.uid {
            continue;
        }
        let pod = object::pod(&revision, live);
        let name = crate::object::name(&pod).to_owned();
        let metrics = object::metrics(&pod, live, now);
        wanted.insert(Key::new(METRICS, Arc::clone(namespace), name.as_str()), metrics);
        wanted.insert(Key::new(PODS, Arc::clone(namespace), name), pod);
    }
    for resource in [PODS, METRICS] {
        for stored in server.made.list(resource, None).items {
            if !wanted.contains_key(&stored.key) {
                write(&server.made, stored.key, None).await;
            }
        }
    }
    for (key, object) in wanted {
        write(&server.made, key, Some(object)).await;
    }
}

/// Puts or deletes one object, if that changes anything.
async fn write(made: &ObjectStore, key: Key, object: Option<Value>) {
    let decide = |old: Option<&kittiwake_store::Stored>| {
        let change = match (object, old) {
            (None, _) => Change::Delete,
            (Some(object), Some(old)) if same(&old.object.tree(), &object) => Change::Keep,
            (Some(object), _) => Change::Put(object),
        };
        Ok::<_, Infallible>((change, ()))
    };
    if let Err(error) = made.write(key, decide).await {
        tracing::debug!(%error, "a pod is not shown");
    }
}

/// Whether two objects differ in nothing but the resource version.
fn same(old: &Value, new: &Value) -> bool {
    let mut old = old.clone();
    crate::object::metadata_mut(&mut old).shift_remove("resourceVersion");
    old == *new
}
