//! The end of namespaces: what is inside is deleted, then the namespace itself.
//!
//! No object outlives its namespace, whatever races with the end. A create asks under the writer's lock whether the
//! namespace is durably marked, so only creates that were decided before the mark was durable can still be on their
//! way to the disk when the namespace looks empty. The namespace is therefore finalized first, as in Kubernetes
//! (`spec.finalizers` goes): writes become durable in the order of their decisions, so when that one is, all of those
//! are, and a second look sees them.

use crate::handler::delete::{DeleteOptions, Propagation, delete_object};
use crate::object;
use crate::registry::Served;
use crate::server::Server;
use kittiwake_store::{Change, Stored};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Pause between two looks at a namespace whose objects wait for finalizers.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Ends namespaces that are marked for deletion, until the server stops.
pub(crate) async fn run(server: Arc<Server>, shutdown: CancellationToken) {
    let namespaces = server.kinds.load().registry.find("", "v1", "namespaces").cloned();
    let Some(namespaces) = namespaces else {
        return;
    };
    let resource = Arc::clone(&namespaces.kind.storage_resource);
    loop {
        let snapshot = server.store.list(&resource, None);
        let ending: Vec<&Stored> = snapshot
            .items
            .iter()
            .filter(|stored| object::is_terminating(&stored.object.tree()))
            .collect();
        if ending.is_empty() {
            // Nothing to do until a namespace changes; a lost watch only means looking again.
            let changed = async {
                if let Ok(mut watcher) = server.store.watch(&resource, snapshot.resource_version) {
                    let _ = watcher.next().await;
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = changed => continue,
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(server.config.namespace_purge_delay) => {}
        }
        let mut waiting = false;
        for namespace in ending {
            waiting |= !end(&server, &namespaces, namespace).await;
        }
        if waiting {
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

/// One step towards the end of a namespace; `true` when it is gone.
async fn end(server: &Server, namespaces: &Served, namespace: &Stored) -> bool {
    if !empty(server, &namespace.key.name).await || !object::finalizers(&namespace.object.tree()).is_empty() {
        return false;
    }
    let finalized = |now: &Stored| {
        let mut object = serde_json::Value::clone(&now.object.tree());
        object::child_mut(&mut object, "spec").shift_remove("finalizers");
        Change::Put(object)
    };
    write_same(server, namespaces, namespace, finalized).await
        && empty(server, &namespace.key.name).await
        && write_same(server, namespaces, namespace, |_| Change::Delete).await
}

/// Deletes what is in a namespace; `true` when nothing is left.
async fn empty(server: &Server, name: &str) -> bool {
    let mut left = 0_usize;
    for served in &one_version_each(server) {
        for stored in server.store.list(&served.kind.storage_resource, Some(name)).items {
            let options = DeleteOptions {
                propagation: Some(Propagation::Background),
                ..DeleteOptions::default()
            };
            // Marked objects wait for their finalizers; deleting them again with a policy would drop those of ours.
            let gone = if object::is_terminating(&stored.object.tree()) {
                false
            } else {
                delete_object(server, served, stored.key, &options)
                    .await
                    .is_ok_and(|deletion| deletion.gone)
            };
            left += usize::from(!gone);
        }
    }
    left == 0
}

/// Changes a namespace if it is still the same one, and still ending; `false` when the store refuses.
async fn write_same(
    server: &Server,
    namespaces: &Served,
    namespace: &Stored,
    change: impl FnOnce(&Stored) -> Change + Send,
) -> bool {
    let name = &namespace.key.name;
    let ending = namespace.object.tree();
    let uid = object::uid(&ending);
    let decide = |now: Option<&Stored>| {
        let same = now.filter(|now| {
            let now = now.object.tree();
            object::uid(&now) == uid && object::is_terminating(&now)
        });
        Ok::<_, Infallible>((same.map_or(Change::Keep, change), ()))
    };
    let key = Server::key(namespaces, "", name);
    if let Err(error) = server.store.write(key, decide).await {
        tracing::warn!(%error, namespace = %name, "a namespace could not be removed");
        return false;
    }
    true
}

/// Every namespaced kind once, in any of its versions.
fn one_version_each(server: &Server) -> Vec<Served> {
    let kinds = server.kinds.load();
    let registry = &kinds.registry;
    let namespaced = registry.kinds().iter().filter(|kind| kind.namespaced);
    let served =
        namespaced.filter_map(|kind| registry.served().find(|served| Arc::ptr_eq(&served.kind, kind)));
    served.cloned().collect()
}
