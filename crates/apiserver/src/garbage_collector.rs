//! Garbage collection by `metadata.ownerReferences`
//! (kubernetes.io/docs/concepts/architecture/garbage-collection).
//!
//! An object whose owners are all gone is deleted. An owner in foreground deletion waits until its dependents are gone;
//! one with the `orphan` finalizer lets them go first. Whether an owner is gone is asked of the store itself, so the
//! order in which events of different kinds arrive does not matter.

use crate::handler::delete::{DeleteOptions, FOREGROUND, ORPHAN, Propagation, delete_object};
use crate::object::{self, OwnerReference};
use crate::registry::Served;
use crate::server::Server;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kittiwake_store::{Change, EventKind, Key, ObjectStore, Stored};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Changes that may wait for the collector before the readers of changes wait for it.
const CHANGES_WAITING_MAX: usize = 1024;

/// What the collector is told.
enum Fact {
    /// The object is there, in this state.
    Present(Stored),
    /// The object is gone.
    Gone(Stored),
}

/// Who depends on whom, by uid.
#[derive(Default)]
struct Graph {
    keys: HashMap<String, Key>,
    dependents: HashMap<String, HashSet<String>>,
    owners: HashMap<String, Vec<String>>,
}

impl Graph {
    fn insert(&mut self, stored: &Stored) {
        let object = stored.object.tree();
        let uid = object::uid(&object).to_owned();
        let owners: Vec<String> = object::owners(&object)
            .into_iter()
            .map(|owner| owner.uid)
            .collect();
        self.unlink(&uid);
        for owner in &owners {
            self.dependents
                .entry(owner.clone())
                .or_default()
                .insert(uid.clone());
        }
        self.owners.insert(uid.clone(), owners);
        self.keys.insert(uid, stored.key.clone());
    }

    fn remove(&mut self, uid: &str) {
        self.unlink(uid);
        self.keys.remove(uid);
    }

    fn unlink(&mut self, uid: &str) {
        for owner in self.owners.remove(uid).unwrap_or_default() {
            if let Some(dependents) = self.dependents.get_mut(&owner) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner);
                }
            }
        }
    }

    fn dependents(&self, uid: &str) -> Vec<Key> {
        let dependents = self.dependents.get(uid).into_iter().flatten();
        dependents.filter_map(|uid| self.keys.get(uid).cloned()).collect()
    }
}

/// Collects until the server stops.
pub(crate) async fn run(server: Arc<Server>, shutdown: CancellationToken) {
    let (sender, facts) = mpsc::channel(CHANGES_WAITING_MAX);
    let mut changes = server.kinds.changes();
    let (mut readers, mut read_already) = (FuturesUnordered::new(), HashSet::new());
    let mut collecting = std::pin::pin!(collect(&server, facts));
    loop {
        for kind in server.kinds.load().registry.kinds() {
            // The reader of a kind that went away stays: the kind may come back.
            if read_already.insert(Arc::clone(&kind.storage_resource)) {
                let (store, resource) = (server.store_of(kind), Arc::clone(&kind.storage_resource));
                readers.push(read(&server, store, resource, sender.clone()));
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = readers.next() => return,
            () = &mut collecting => return,
            _ = changes.changed() => {}
        }
    }
}

/// Passes on everything that happens to one kind. A watch that cannot go on starts again from the whole state.
async fn read(server: &Server, store: &ObjectStore, resource: Arc<str>, facts: mpsc::Sender<Fact>) {
    let mut known: HashMap<Key, Stored> = HashMap::new();
    loop {
        let snapshot = store.list(&resource, None);
        let present: HashMap<Key, Stored> = snapshot
            .items
            .into_iter()
            .map(|stored| (stored.key.clone(), stored))
            .collect();
        let gone: Vec<Stored> = known
            .iter()
            .filter(|(key, _)| !present.contains_key(key))
            .map(|(_, stored)| stored.clone())
            .collect();
        let all = gone
            .into_iter()
            .map(Fact::Gone)
            .chain(present.values().cloned().map(Fact::Present));
        for fact in all {
            if facts.send(fact).await.is_err() {
                return;
            }
        }
        known = present;
        let Ok(mut watcher) = store.watch(&resource, snapshot.resource_version) else {
            continue;
        };
        while let Ok(event) = watcher.next().await {
            let stored = event.object;
            let fact = if event.kind == EventKind::Deleted {
                known.remove(&stored.key);
                Fact::Gone(stored)
            } else {
                known.insert(stored.key.clone(), stored.clone());
                Fact::Present(stored)
            };
            if facts.send(fact).await.is_err() {
                return;
            }
        }
        if server.shutdown.is_cancelled() {
            return;
        }
        // A closed store ends every watch at once; do not spin until shutdown arrives.
        tokio::task::yield_now().await;
    }
}

async fn collect(server: &Server, mut facts: mpsc::Receiver<Fact>) {
    let mut graph = Graph::default();
    while let Some(fact) = facts.recv().await {
        match fact {
            Fact::Present(stored) => {
                graph.insert(&stored);
                check_dependent(server, &stored.key).await;
                finish_owner(server, &graph, &stored.key).await;
            }
            Fact::Gone(stored) => {
                let object = stored.object.tree();
                let uid = object::uid(&object);
                graph.remove(uid);
                for dependent in graph.dependents(uid) {
                    check_dependent(server, &dependent).await;
                }
                for owner in object::owners(&object) {
                    if let Some(key) = graph.keys.get(&owner.uid) {
                        finish_owner(server, &graph, key).await;
                    }
                }
            }
        }
    }
}

/// What an owner reference points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnerState {
    /// It is there, or of a kind that is not served here and so never gone.
    Solid,
    /// It is there, waiting for its dependents to go.
    WaitsForDependents,
    /// It is gone.
    Gone,
}

fn owner_state(server: &Server, dependent: &Key, owner: &OwnerReference) -> OwnerState {
    let kinds = server.kinds.load();
    let Some(served) = kinds.registry.find_kind(&owner.api_version, &owner.kind) else {
        return OwnerState::Solid;
    };
    // A cluster-wide object cannot say in which namespace its owner would be: it is never collected, as in Kubernetes.
    if served.kind.namespaced && dependent.namespace.is_empty() {
        return OwnerState::Solid;
    }
    let namespace = if served.kind.namespaced {
        &*dependent.namespace
    } else {
        ""
    };
    let store = server.store_of(&served.kind);
    let stored = store.get(&Server::key(served, namespace, &owner.name));
    match stored.map(|stored| stored.object.tree()) {
        Some(object) if object::uid(&object) == owner.uid => {
            let terminating = object::is_terminating(&object);
            if terminating && object::finalizers(&object).contains(&FOREGROUND) {
                OwnerState::WaitsForDependents
            } else {
                OwnerState::Solid
            }
        }
        _ => OwnerState::Gone,
    }
}

/// Deletes an object that no owner holds any more; forgets owners that are gone when another one is left.
async fn check_dependent(server: &Server, key: &Key) {
    let Some(object) = server.store.get(key).map(|stored| stored.object.tree()) else {
        return;
    };
    let owners = object::owners(&object);
    if owners.is_empty() || object::is_terminating(&object) {
        return;
    }
    let states: Vec<(OwnerState, &OwnerReference)> = owners
        .iter()
        .map(|owner| (owner_state(server, key, owner), owner))
        .collect();
    let with = |wanted: OwnerState| states.iter().filter(move |(state, _)| *state == wanted);
    if with(OwnerState::Solid).next().is_some() {
        let gone: Vec<&str> = states
            .iter()
            .filter(|(state, _)| *state != OwnerState::Solid)
            .map(|(_, owner)| owner.uid.as_str())
            .collect();
        if !gone.is_empty() {
            drop_owners(server, key, &gone).await;
        }
        return;
    }
    let foreground = with(OwnerState::WaitsForDependents).next().is_some();
    let held = object::finalizers(&object).contains(&ORPHAN);
    let propagation = match (held, foreground) {
        (true, _) => Propagation::Orphan,
        (false, true) => Propagation::Foreground,
        (false, false) => Propagation::Background,
    };
    delete(server, key, &object, propagation).await;
}

async fn delete(server: &Server, key: &Key, object: &Value, propagation: Propagation) {
    let Some(served) = served_of(server, key) else {
        return;
    };
    let options = DeleteOptions {
        propagation: Some(propagation),
        uid: Some(object::uid(object).to_owned()),
        resource_version: Some(object::resource_version(object).to_owned()),
        dry_run: false,
    };
    match delete_object(server, &served, key.clone(), &options).await {
        Ok(_) => {
            tracing::debug!(resource = %key.resource, namespace = %key.namespace, name = %key.name, "collected")
        }
        // It changed meanwhile; the event of that change leads here again.
        Err(error) if error.code == 409 || error.code == 404 => {}
        Err(error) => tracing::warn!(%error, resource = %key.resource, name = %key.name, "not collected"),
    }
}

fn served_of(server: &Server, key: &Key) -> Option<Served> {
    let kinds = server.kinds.load();
    let mut served = kinds.registry.served();
    served
        .find(|served| served.kind.storage_resource == key.resource)
        .cloned()
}

/// Finishes the deletion of an owner: orphans its dependents, or waits until those that block it are gone.
async fn finish_owner(server: &Server, graph: &Graph, key: &Key) {
    let stored = server.store.get(key).map(|stored| stored.object.tree());
    let Some(owner) = stored.filter(|owner| object::is_terminating(owner)) else {
        return;
    };
    let finalizers = object::finalizers(&owner);
    let uid = object::uid(&owner);
    if finalizers.contains(&ORPHAN) {
        for dependent in &dependents_in_store(server, uid) {
            drop_owners(server, dependent, &[uid]).await;
        }
        remove_finalizer(server, key, uid, ORPHAN).await;
    } else if finalizers.contains(&FOREGROUND) {
        let blocked = collect_dependents(server, uid, graph.dependents(uid)).await;
        if !blocked && !collect_dependents(server, uid, dependents_in_store(server, uid)).await {
            remove_finalizer(server, key, uid, FOREGROUND).await;
        }
    }
}

/// Deletes dependents of an owner that waits for them; `true` while one of them blocks it.
async fn collect_dependents(server: &Server, owner: &str, dependents: Vec<Key>) -> bool {
    let mut blocked = false;
    for dependent in &dependents {
        check_dependent(server, dependent).await;
        blocked |= blocks(server, dependent, owner);
    }
    blocked
}

/// Who depends on an owner, asked of the store: the graph may not know the newest objects of other kinds yet. Looks at
/// every object, so it is asked only before an owner is let go.
fn dependents_in_store(server: &Server, owner: &str) -> Vec<Key> {
    let kinds = server.kinds.load();
    let kinds = kinds.registry.kinds().iter();
    let stored = kinds.flat_map(|kind| server.store.list(&kind.storage_resource, None).items);
    let dependents = stored.filter(|stored| {
        // Most objects do not have the uid anywhere, which their text tells without being read.
        stored.object.json().contains(owner)
            && object::owners(&stored.object.tree())
                .iter()
                .any(|reference| reference.uid == owner)
    });
    dependents.map(|stored| stored.key).collect()
}

/// Whether a dependent is still there and says that its owner must wait for it.
fn blocks(server: &Server, dependent: &Key, owner: &str) -> bool {
    let Some(stored) = server.store.get(dependent) else {
        return false;
    };
    object::owners(&stored.object.tree())
        .iter()
        .any(|reference| reference.uid == owner && reference.block_owner_deletion)
}

/// Removes references to these owners.
async fn drop_owners(server: &Server, key: &Key, uids: &[&str]) {
    edit(server, key, None, |object| {
        let metadata = object::metadata_mut(object);
        if let Some(Value::Array(owners)) = metadata.get_mut("ownerReferences") {
            owners.retain(|owner| !uids.contains(&object::text(owner, "/uid")));
            if owners.is_empty() {
                metadata.shift_remove("ownerReferences");
            }
        }
    })
    .await;
}

/// Removes a finalizer; the object goes when it was the last.
async fn remove_finalizer(server: &Server, key: &Key, uid: &str, finalizer: &str) {
    edit(server, key, Some(uid), |object| {
        let left: Vec<String> = object::finalizers(object)
            .into_iter()
            .filter(|name| *name != finalizer)
            .map(str::to_owned)
            .collect();
        let left: Vec<&str> = left.iter().map(String::as_str).collect();
        object::set_finalizers(object, &left);
    })
    .await;
}

/// Changes the metadata of an object in the store, if it still has this uid.
async fn edit(server: &Server, key: &Key, uid: Option<&str>, change: impl FnOnce(&mut Value) + Send) {
    let decide = |now: Option<&Stored>| {
        let now = now.map(|now| now.object.tree());
        let Some(now) = now.filter(|now| uid.is_none_or(|uid| object::uid(now) == uid)) else {
            return Ok::<_, Infallible>((Change::Keep, ()));
        };
        let mut object = Value::clone(&now);
        change(&mut object);
        let last_finalizer_gone = object::is_terminating(&object) && object::finalizers(&object).is_empty();
        let change = match (last_finalizer_gone, object == *now) {
            (true, _) => Change::Delete,
            (false, true) => Change::Keep,
            (false, false) => Change::Put(object),
        };
        Ok((change, ()))
    };
    if let Err(error) = server.store.write(key.clone(), decide).await {
        tracing::warn!(%error, resource = %key.resource, name = %key.name, "the garbage collector could not write");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_store::Document;
    use serde_json::json;

    fn stored(uid: &str, owners: &[&str]) -> Stored {
        let owners: Vec<Value> = owners.iter().map(|uid| json!({"uid": uid})).collect();
        Stored {
            key: Key {
                resource: "things".into(),
                namespace: "a".into(),
                name: uid.into(),
            },
            resource_version: 1,
            object: Document::new(&Arc::new(
                json!({"metadata": {"uid": uid, "ownerReferences": owners}}),
            )),
        }
    }

    #[test]
    fn the_graph_forgets_what_it_is_told_to_forget() {
        let mut graph = Graph::default();
        graph.insert(&stored("child", &["owner", "other"]));
        assert_eq!(graph.dependents("owner").len(), 1);
        graph.insert(&stored("child", &["other"]));
        assert!(graph.dependents("owner").is_empty());
        graph.remove("child");
        assert!(graph.dependents.is_empty() && graph.owners.is_empty() && graph.keys.is_empty());
    }
}
