//! Endpoints and EndpointSlices: where a Revision's calls go, and which instances it has, as Knative's Services of it
//! show that on a cluster. They are made from PodAutoscalers and pods, kept in memory only, and never written by clients.
//!
//! Each Revision has two, as in Knative (serving `pkg/reconciler/serverlessservice`): one by its name, of the activator or
//! of its instances, whichever takes its calls; and one with `-private` behind it, of the instances that take calls.
//! `activator-service` has the activator, which here is the gateway. Nothing is made before somebody first asks.

mod object;

use crate::made::write;
use crate::object::{name, namespace};
use crate::pods::{PODS, REVISIONS};
use crate::scaled::POD_AUTOSCALERS;
use crate::server::Server;
use futures::FutureExt;
use kittiwake_store::{Event, EventKind, Key, Stored, WatchError, Watcher};
use object::{Backend, Facade};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Where Endpoints are in the store of what is made.
pub(crate) const ENDPOINTS: &str = "endpoints";
/// Where EndpointSlices are.
pub(crate) const SLICES: &str = "endpointslices.discovery.k8s.io";
/// All that is made here.
pub(crate) const RESOURCES: [&str; 2] = [ENDPOINTS, SLICES];
/// Changes that are looked at together, at most: many pods that come at once cost few looks.
const CHANGES_TOGETHER_MAX: usize = 1024;

/// A namespace, and the name of a Revision or Service in it.
type Name = (Arc<str>, Arc<str>);

/// What is known of the parts that Endpoints are made from.
#[derive(Default)]
struct Known {
    /// The pods of each Revision, by their names.
    pods: HashMap<Name, BTreeMap<Arc<str>, Backend>>,
    /// How many slices each Service has now.
    slices: HashMap<Name, usize>,
}

/// Makes them once somebody asked, and keeps them up to date until the server stops.
pub(crate) async fn run(server: Arc<Server>, shutdown: CancellationToken) {
    let follow = async {
        server.endpoints.asked().await;
        while follow(&server).await == WatchError::Lagged {}
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follow => {}
    }
}

/// Makes all that there shall be, then follows the changes. Gives why it cannot go on.
async fn follow(server: &Server) -> WatchError {
    let mut known = Known::default();
    let scalers = server.store.list(POD_AUTOSCALERS, None);
    let pods = server.made.list(PODS, None);
    for pod in &pods.items {
        known.set_pod(pod, true);
    }
    let mut wanted = known.publish(server, object::activator(server)).await;
    for scaler in &scalers.items {
        wanted.extend(known.look(server, scaler).await);
    }
    for resource in RESOURCES {
        for stored in server.made.list(resource, None).items {
            if !wanted.contains(&stored.key) {
                write(server, stored.key, |_| None).await;
            }
        }
    }
    server.endpoints.done();
    let (Ok(scalers), Ok(pods)) = (
        server.store.watch(POD_AUTOSCALERS, scalers.resource_version),
        server.made.watch(PODS, pods.resource_version),
    ) else {
        return WatchError::Lagged;
    };
    match known.keep(server, scalers, pods).await {
        Ok(never) => match never {},
        Err(why) => why,
    }
}

impl Known {
    /// Follows the changes, as long as that can be done.
    async fn keep(
        &mut self,
        server: &Server,
        mut scalers: Watcher,
        mut pods: Watcher,
    ) -> Result<std::convert::Infallible, WatchError> {
        loop {
            let mut changed = BTreeSet::new();
            tokio::select! {
                event = scalers.next() => self.scaler_changed(server, &event?, &mut changed).await,
                event = pods.next() => self.pod_changed(&event?, &mut changed),
            }
            for _ in 0..CHANGES_TOGETHER_MAX {
                if let Some(event) = pods.next().now_or_never() {
                    self.pod_changed(&event?, &mut changed);
                } else if let Some(event) = scalers.next().now_or_never() {
                    self.scaler_changed(server, &event?, &mut changed).await;
                } else {
                    break;
                }
            }
            for (namespace, name) in changed {
                if let Some(scaler) = server.store.get(&Key::new(POD_AUTOSCALERS, namespace, name)) {
                    self.look(server, &scaler).await;
                }
            }
        }
    }

    async fn scaler_changed(&mut self, server: &Server, event: &Event, changed: &mut BTreeSet<Name>) {
        let key = &event.object.key;
        if event.kind != EventKind::Deleted {
            changed.insert(name_of(key));
            return;
        }
        changed.remove(&name_of(key));
        for facade in object::of_revision(&event.object.object.tree(), &[]) {
            self.remove(server, &facade).await;
        }
    }

    fn pod_changed(&mut self, event: &Event, changed: &mut BTreeSet<Name>) {
        changed.extend(self.set_pod(&event.object, event.kind != EventKind::Deleted));
    }

    /// Takes note of a pod that is there, or is gone. Tells whose it is.
    fn set_pod(&mut self, pod: &Stored, there: bool) -> Option<Name> {
        let tree = pod.object.tree();
        let revision = object::revision_of(&tree)?;
        let revision: Name = (Arc::clone(&pod.key.namespace), revision.into());
        if there {
            let pods = self.pods.entry(revision.clone()).or_default();
            pods.insert(Arc::clone(&pod.key.name), Backend::of_pod(&tree));
        } else if let Some(pods) = self.pods.get_mut(&revision) {
            pods.remove(&pod.key.name);
            if pods.is_empty() {
                self.pods.remove(&revision);
            }
        }
        Some(revision)
    }

    /// Makes what a PodAutoscaler's Revision has, and tells where that is. One whose Revision is gone goes soon.
    async fn look(&mut self, server: &Server, scaler: &Stored) -> BTreeSet<Key> {
        let revision = name_of(&scaler.key);
        let of_revision = Key::new(REVISIONS, Arc::clone(&revision.0), Arc::clone(&revision.1));
        if server.store.get(&of_revision).is_none() {
            return BTreeSet::new();
        }
        let pods: Vec<Backend> = match self.pods.get(&revision) {
            Some(pods) => pods.values().cloned().collect(),
            None => Vec::new(),
        };
        let mut keys = BTreeSet::new();
        for facade in object::of_revision(&scaler.object.tree(), &pods) {
            keys.extend(self.publish(server, facade).await);
        }
        keys
    }

    /// Writes the objects of one Service, and tells where they are.
    async fn publish(&mut self, server: &Server, facade: Facade) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        let endpoints = facade.endpoints();
        let slices = facade.slices();
        let service: Name = (facade.namespace.as_str().into(), facade.name.as_str().into());
        let before = self.slices.insert(service, slices.len()).unwrap_or(0);
        for number in slices.len()..before {
            write(server, slice_key(&facade, number), |_| None).await;
        }
        for (resource, object) in std::iter::once((ENDPOINTS, endpoints)).chain(slices) {
            let key = key(resource, &object);
            write(server, key.clone(), |_| Some(object)).await;
            keys.insert(key);
        }
        keys
    }

    /// Removes the objects of one Service.
    async fn remove(&mut self, server: &Server, facade: &Facade) {
        let service: Name = (facade.namespace.as_str().into(), facade.name.as_str().into());
        for number in 0..self.slices.remove(&service).unwrap_or(0) {
            write(server, slice_key(facade, number), |_| None).await;
        }
        let key = Key::new(ENDPOINTS, service.0, service.1);
        write(server, key, |_| None).await;
    }
}

fn name_of(key: &Key) -> Name {
    (Arc::clone(&key.namespace), Arc::clone(&key.name))
}

fn slice_key(facade: &Facade, number: usize) -> Key {
    Key::new(SLICES, facade.namespace.as_str(), facade.slice_name(number))
}

fn key(resource: &str, object: &Value) -> Key {
    Key::new(resource, namespace(object), name(object))
}
