//! Pods: one for each revision that is in memory now, none for a revision at zero, with what it uses. They are made from
//! Revisions and from what those who run functions tell, kept in memory only, and never written by clients. What one
//! that a client deletes stands for begins anew, and the pod goes once its calls are answered.
//!
//! A call to a function has an instance of its own that lives for milliseconds; nobody could list those. A pod stands
//! for what stays between calls: the revision's compiled code, linked and ready. Of a function whose instances stay
//! there is a pod for each instance that takes calls; one that finishes its last calls is shown as terminating.

mod object;

pub(crate) use object::{
    NODE, POD_IP, containers, copy_pod_fields, default_container, give_time, instance_of, uid_of,
};

use crate::server::Server;
use jiff::Timestamp;
use kittiwake_core::instances::{Instance, Live};
use kittiwake_store::{Change, Key, ObjectStore, Stored};
use serde_json::Value;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Where pods are in the store of what is made.
pub(crate) const PODS: &str = "pods";
/// Where their metrics are.
pub(crate) const METRICS: &str = "pods.metrics.k8s.io";
/// The kind that pods are made from.
pub(crate) const REVISIONS: &str = "revisions.serving.knative.dev";
/// Names of the two containers: the user's by default, and the one by Knative's name for its proxy, which stands for the
/// platform here.
pub(crate) const USER_CONTAINER: &str = "user-container";
/// See [`USER_CONTAINER`].
pub(crate) const QUEUE_PROXY: &str = "queue-proxy";
/// Pause between two looks: many revisions that come at once are looked at together.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How often metrics are brought up to date, and how much longer it takes for each pod, so that many of them are no work
/// to speak of.
const METRICS_PERIOD: Duration = Duration::from_secs(5);
const METRICS_PERIOD_PER_POD: Duration = Duration::from_millis(5);
/// What the text of a Revision has whose instances stay ([`kittiwake_api::meta::KIND_ANNOTATION`]).
const RESIDENT: &str = "\"kittiwake.dev/kind\":\"server\"";
/// Pods of one revision, at most.
const PODS_PER_REVISION_MAX: usize = 1000;

/// One pod of a revision.
#[derive(Debug, Clone)]
struct Part {
    /// The revision, with the pod's part of what the revision uses.
    live: Live,
    /// The instance that it stands for; `None` where none stays.
    instance: Option<Instance>,
    /// How many pods there are.
    count: usize,
}

impl Part {
    fn since(&self) -> Timestamp {
        self.instance.map_or(self.live.since, |instance| instance.since)
    }
}

/// Keeps pods up to date until the server stops.
pub(crate) async fn run(server: Arc<Server>, shutdown: CancellationToken) {
    let mut changes = server.instances.changes();
    let mut measured = Instant::now();
    loop {
        changes.borrow_and_update();
        let from = server.store.resource_version();
        let pods = look(&server).await;
        let count = u32::try_from(pods.len()).unwrap_or(u32::MAX);
        let period = METRICS_PERIOD.max(METRICS_PERIOD_PER_POD.saturating_mul(count));
        // One that is deleted takes its pods with it. Without a watch, the next period sees it.
        let revision_changed = async {
            match server.store.watch(REVISIONS, from) {
                Ok(mut watcher) => drop(watcher.next().await),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = changes.changed() => {}
            () = revision_changed => {}
            () = tokio::time::sleep_until(measured + period) => {
                measure(&server, &pods).await;
                measured = Instant::now();
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK_PAUSE) => {}
        }
    }
}

/// Makes the pods of what lives now, each with its first metrics, and removes the others. Tells which there are.
async fn look(server: &Server) -> BTreeMap<Key, Part> {
    let mut pods: BTreeMap<Key, Part> = BTreeMap::new();
    for (_, live) in server.instances.live() {
        let (namespace, name) = (&live.revision.namespace, &live.revision.name);
        let revision = server
            .store
            .get(&Key::new(REVISIONS, Arc::clone(namespace), Arc::clone(name)));
        // Its text tells whether it is still that revision, without being read.
        let Some(revision) = revision.filter(|stored| stored.object.json().contains(&*live.uid)) else {
            continue;
        };
        for part in parts(&live, stays(&revision)) {
            let key = Key::new(PODS, Arc::clone(namespace), object::name(&part));
            let ends = part.instance.is_some_and(|instance| instance.ending);
            match server.made.get(&key) {
                // It came and went between two looks.
                None if ends => continue,
                None => {
                    let pod = object::pod(&revision.object.tree(), &part);
                    let metrics = object::metrics(&pod, &part.live, server.clock.now());
                    write(&server.made, metrics_key(&key), Some(metrics)).await;
                    write(&server.made, key.clone(), Some(pod)).await;
                }
                Some(pod) if ends => {
                    let ending = object::ending(&pod.object.tree(), server.clock.now());
                    if ending.is_some() {
                        write(&server.made, key.clone(), ending).await;
                    }
                }
                // A pod does not change while it lives.
                Some(_) => {}
            }
            pods.insert(key, part);
        }
    }
    for stored in server.made.list(PODS, None).items {
        if !pods.contains_key(&stored.key) {
            write(&server.made, metrics_key(&stored.key), None).await;
            write(&server.made, stored.key, None).await;
        }
    }
    pods
}

/// Whether the instances of a revision stay. Its text tells that, without being read.
fn stays(revision: &Stored) -> bool {
    revision.object.json().contains(RESIDENT)
}

/// The pods of a revision that is in memory: where instances stay one for each, else one.
fn parts(live: &Live, stays: bool) -> Vec<Part> {
    let instances: Vec<Option<Instance>> = if stays {
        let all = live.instances.iter().copied();
        all.take(PODS_PER_REVISION_MAX).map(Some).collect()
    } else {
        vec![None]
    };
    let count = instances.len();
    instances
        .into_iter()
        .map(|instance| part(live, instance, count))
        .collect()
}

/// A pod with its part of what its revision uses.
fn part(live: &Live, instance: Option<Instance>, count: usize) -> Part {
    let mut usage = live.usage;
    usage.cpu /= u32::try_from(count).unwrap_or(u32::MAX).max(1);
    usage.memory.0 /= u64::try_from(count).unwrap_or(u64::MAX).max(1);
    let live = Live {
        revision: live.revision.clone(),
        uid: Arc::clone(&live.uid),
        since: live.since,
        usage,
        instances: Vec::new(),
    };
    Part {
        live,
        instance,
        count,
    }
}

/// Brings the metrics of all pods up to date.
async fn measure(server: &Server, pods: &BTreeMap<Key, Part>) {
    let (live, now) = (server.instances.live(), server.clock.now());
    for (key, known) in pods {
        let (Some(pod), Some(live)) = (server.made.get(key), live.get(&known.live.uid)) else {
            continue;
        };
        let part = part(live, known.instance, known.count);
        let metrics = object::metrics(&pod.object.tree(), &part.live, now);
        write(&server.made, metrics_key(key), Some(metrics)).await;
    }
}

fn metrics_key(pod: &Key) -> Key {
    Key::new(METRICS, Arc::clone(&pod.namespace), Arc::clone(&pod.name))
}

/// Puts or deletes one object.
async fn write(made: &ObjectStore, key: Key, object: Option<Value>) {
    let decide = |_: Option<&Stored>| {
        let change = match object {
            None => Change::Delete,
            Some(object) => Change::Put(object),
        };
        Ok::<_, Infallible>((change, ()))
    };
    if let Err(error) = made.write(key, decide).await {
        tracing::debug!(%error, "a pod is not shown");
    }
}
