//! The end of namespaces: what is inside is deleted, then the namespace itself.

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
    let Some(namespaces) = server.registry.find("", "v1", "namespaces").cloned() else {
        return;
    };
    let resource = Arc::clone(&namespaces.kind.storage_resource);
    loop {
        let snapshot = server.store.list(&resource, None);
        let ending: Vec<&Stored> = snapshot
            .items
            .iter()
            .filter(|stored| object::is_terminating(&stored.object))
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
    let name = &namespace.key.name;
    let mut left = 0_usize;
    for served in one_version_each(server) {
        for stored in server.store.list(&served.kind.storage_resource, Some(name)).items {
            let options = DeleteOptions {
                propagation: Some(Propagation::Background),
                ..DeleteOptions::default()
            };
            // Marked objects wait for their finalizers; deleting them again with a policy would drop those of ours.
            let gone = if object::is_terminating(&stored.object) {
                false
            } else {
                delete_object(server, served, stored.key, &options)
                    .await
                    .is_ok_and(|deletion| deletion.gone)
            };
            left += usize::from(!gone);
        }
    }
    if left > 0 || !object::finalizers(&namespace.object).is_empty() {
        return false;
    }
    let key = Server::key(namespaces, "", name);
    let uid = object::uid(&namespace.object);
    let remove = |now: Option<&Stored>| {
        let same =
            now.is_some_and(|now| object::uid(&now.object) == uid && object::is_terminating(&now.object));
        Ok::<_, Infallible>((if same { Change::Delete } else { Change::Keep }, ()))
    };
    if let Err(error) = server.store.write(key, remove).await {
        tracing::warn!(%error, namespace = %name, "a namespace could not be removed");
        return false;
    }
    true
}

/// Every namespaced kind once, in any of its versions.
fn one_version_each(server: &Server) -> impl Iterator<Item = &Served> {
    let kinds = server.registry.kinds().iter().filter(|kind| kind.namespaced);
    kinds.filter_map(|kind| {
        server
            .registry
            .served()
            .find(|served| Arc::ptr_eq(&served.kind, kind))
    })
}
