//! What a pod and its metrics look like, as pure functions.

use super::{Part, QUEUE_PROXY, USER_CONTAINER};
use crate::object::{self, text};
use jiff::Timestamp;
use kittiwake_core::instances::{Instance, InstanceId, Live};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The node that all pods are on.
pub(crate) const NODE: &str = "kittiwake";
/// Where functions are reached, for those who look.
pub(crate) const POD_IP: &str = "127.0.0.1";
/// Labels of a Revision that say nothing of a pod.
const NOT_OF_PODS: [&str; 1] = ["serving.knative.dev/routingState"];

/// Bytes of a pod's digest that its name ends with: no two of a thousand pods have the same.
const ENDING_BYTES: usize = 5;
/// Which container `kubectl logs` shows when it is told none.
const DEFAULT_CONTAINER_ANNOTATION: &str = "kubectl.kubernetes.io/default-container";
/// Which instance a pod stands for: its process and place.
const INSTANCE_ANNOTATION: &str = "kittiwake.dev/instance";

/// What tells the pods of a revision apart, also of one that was in memory several times.
fn digest(part: &Part) -> impl AsRef<[u8]> {
    let live = &part.live;
    match part.instance {
        None => Sha256::digest(format!("{} {}", live.uid, live.since)),
        Some(Instance { id, since, .. }) => {
            Sha256::digest(format!("{} {since} {}/{}", live.uid, id.process, id.place))
        }
    }
}

/// The name of the pod: Knative's, with an ending of its own.
pub(super) fn name(part: &Part) -> String {
    let digest = digest(part);
    let ending: String = digest
        .as_ref()
        .iter()
        .take(ENDING_BYTES)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{}-deployment-{ending}", part.live.revision.name)
}

/// A pod of a revision that is in memory.
pub(super) fn pod(revision: &Value, part: &Part) -> Value {
    let (name, uid) = (object::name(revision), object::uid(revision));
    let since = object::time(part.since());
    let mut labels: Map<String, Value> = revision
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    labels.retain(|label, _| !NOT_OF_PODS.contains(&label.as_str()));
    labels.insert("app".into(), name.into());
    labels.insert("serving.knative.dev/revision".into(), name.into());
    labels.insert("serving.knative.dev/revisionUID".into(), uid.into());
    let containers = containers(revision);
    let default_container = serving(&containers).to_owned();
    let statuses: Vec<Value> = containers
        .iter()
        .map(|container| {
            let name = text(container, "/name");
            json!({
                "name": name,
                "image": text(container, "/image"),
                "imageID": image_id(revision, name),
                "ready": true,
                "started": true,
                "restartCount": 0,
                "state": {"running": {"startedAt": since}},
                "lastState": {},
            })
        })
        .collect();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": since});
    let conditions: Value = ["Initialized", "Ready", "ContainersReady", "PodScheduled"]
        .map(condition)
        .to_vec()
        .into();
    let mut annotations = json!({DEFAULT_CONTAINER_ANNOTATION: default_container});
    if let Some(Instance { id, .. }) = part.instance {
        let text = format!("{}/{}", id.process, id.place);
        object::map_mut(&mut annotations).insert(INSTANCE_ANNOTATION.into(), text.into());
    }
    let mut spec = json!({"containers": containers, "nodeName": NODE, "restartPolicy": "Always"});
    copy_pod_fields(revision, &mut spec);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": self::name(part),
            "namespace": object::namespace(revision),
            "uid": uid_of(digest(part).as_ref()),
            "creationTimestamp": since,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": text(revision, "/apiVersion"), "kind": text(revision, "/kind"),
                "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true,
            }],
        },
        "spec": spec,
        "status": {
            "phase": "Running",
            "conditions": conditions,
            "containerStatuses": statuses,
            "hostIP": POD_IP,
            "podIP": POD_IP,
            "podIPs": [{"ip": POD_IP}],
            "startTime": since,
            "qosClass": "Burstable",
        },
    })
}

/// The container that takes the calls of a pod: the one with a port, else the first.
fn serving(containers: &[Value]) -> &str {
    let has_port = |container: &&Value| {
        let ports = container.get("ports").and_then(Value::as_array);
        ports.is_some_and(|ports| !ports.is_empty())
    };
    let container = containers.iter().find(has_port).or(containers.first());
    container.map_or(USER_CONTAINER, |container| text(container, "/name"))
}

/// The container that a pod says to be looked at first, which takes its calls.
pub(crate) fn default_container(pod: &Value) -> &str {
    let annotations = pod.pointer("/metadata/annotations");
    let named = annotations.and_then(|all| all.get(DEFAULT_CONTAINER_ANNOTATION)?.as_str());
    named.unwrap_or_default()
}

/// The instance that a pod stands for; `None` where it stands for all there is of its revision.
pub(crate) fn instance_of(pod: &Value) -> Option<InstanceId> {
    let annotations = pod.pointer("/metadata/annotations")?;
    let (process, place) = annotations.get(INSTANCE_ANNOTATION)?.as_str()?.split_once('/')?;
    Some(InstanceId {
        process: process.parse().ok()?,
        place: place.parse().ok()?,
    })
}

/// A pod that ends stays until its calls have ended, or their time is up.
pub(crate) fn give_time(pod: &mut Value) {
    let grace = pod.pointer("/spec/terminationGracePeriodSeconds").cloned();
    object::metadata_mut(pod).insert(
        "deletionGracePeriodSeconds".into(),
        grace.unwrap_or_else(|| 0.into()),
    );
}

/// A pod that ends from `now` on, because fewer are wanted; `None` where that is known of it.
pub(super) fn ending(pod: &Value, now: Timestamp) -> Option<Value> {
    if object::is_terminating(pod) {
        return None;
    }
    let mut pod = pod.clone();
    object::metadata_mut(&mut pod).insert("deletionTimestamp".into(), object::time(now).into());
    give_time(&mut pod);
    Some(pod)
}

/// Copies what a Revision says of its pods.
pub(crate) fn copy_pod_fields(revision: &Value, spec: &mut Value) {
    if let Some(seconds) = revision.pointer("/spec/timeoutSeconds") {
        object::map_mut(spec).insert("terminationGracePeriodSeconds".into(), seconds.clone());
    }
    for field in ["runtimeClassName", "serviceAccountName", "volumes"] {
        if let Some(value) = revision.pointer(&format!("/spec/{field}")) {
            object::map_mut(spec).insert(field.into(), value.clone());
        }
    }
}

/// The user's containers, and the one that stands for the platform.
pub(crate) fn containers(revision: &Value) -> Vec<Value> {
    let mut containers = revision
        .pointer("/spec/containers")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for container in &mut containers {
        if text(container, "/name").is_empty() {
            object::map_mut(container).insert("name".into(), USER_CONTAINER.into());
        }
    }
    containers.push(json!({"name": QUEUE_PROXY, "image": concat!("kittiwake:", env!("CARGO_PKG_VERSION"))}));
    containers
}

/// The pinned image of a container.
fn image_id<'r>(revision: &'r Value, container: &str) -> &'r str {
    let statuses = revision
        .pointer("/status/containerStatuses")
        .and_then(Value::as_array);
    statuses
        .into_iter()
        .flatten()
        .find(|status| text(status, "/name") == container)
        .map_or("", |status| text(status, "/imageDigest"))
}

/// A uid made of a digest.
pub(crate) fn uid_of(digest: &[u8]) -> String {
    let mut bytes = [0; 16];
    for (byte, from) in bytes.iter_mut().zip(digest) {
        *byte = *from;
    }
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}

/// What the containers of a pod use: all of it is told of the one that takes the calls.
pub(super) fn metrics(pod: &Value, live: &Live, now: Timestamp) -> Value {
    let window = live.usage.window.max(std::time::Duration::from_millis(1));
    let nanocores = live.usage.cpu.as_nanos() * 1_000_000_000 / window.as_nanos().max(1);
    let kib = live.usage.memory.0.div_ceil(1024);
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let containers: Vec<Value> = containers
        .into_iter()
        .flatten()
        .map(|container| {
            let name = text(container, "/name");
            let (cpu, memory) = if name == default_container(pod) {
                (nanocores, kib)
            } else {
                (0, 0)
            };
            json!({"name": name, "usage": {"cpu": format!("{cpu}n"), "memory": format!("{memory}Ki")}})
        })
        .collect();
    json!({
        "apiVersion": "metrics.k8s.io/v1beta1",
        "kind": "PodMetrics",
        "metadata": {
            "name": object::name(pod),
            "namespace": object::namespace(pod),
            "creationTimestamp": object::time(now),
            "labels": pod.pointer("/metadata/labels"),
        },
        "timestamp": object::time(now),
        "window": format!("{:.3}s", window.as_secs_f64()),
        "containers": containers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_core::instances::Usage;
    use kittiwake_core::revision::RevisionKey;
    use kittiwake_core::unit::ByteCount;
    use std::time::Duration;

    fn part() -> Part {
        let live = Live {
            revision: RevisionKey::new("default", "hello-00001"),
            uid: "u".into(),
            since: Timestamp::from_second(1).unwrap(),
            usage: Usage {
                cpu: Duration::from_millis(50),
                window: Duration::from_secs(1),
                memory: ByteCount::mib(2),
            },
            instances: Vec::new(),
        };
        Part {
            live,
            instance: None,
            count: 1,
        }
    }

    /// The pod of an instance that stays.
    fn staying(process: u64, place: u64) -> Part {
        let instance = Instance {
            id: InstanceId { process, place },
            since: Timestamp::from_second(2).unwrap(),
            ending: false,
        };
        Part {
            instance: Some(instance),
            ..part()
        }
    }

    fn revision() -> Value {
        json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
            "metadata": {"name": "hello-00001", "namespace": "default", "uid": "u", "labels": {
                "serving.knative.dev/service": "hello", "serving.knative.dev/routingState": "active"}},
            "spec": {"runtimeClassName": "wasmedge", "timeoutSeconds": 300, "containers": [{"image": "hello:v1"}]},
            "status": {"containerStatuses": [{"name": "user-container", "imageDigest": "hello@sha256:1"}]},
        })
    }

    #[test]
    fn a_pod_looks_like_one_of_knatives() {
        let pod = pod(&revision(), &part());
        assert!(object::name(&pod).starts_with("hello-00001-deployment-"));
        let labels = &pod["metadata"]["labels"];
        assert_eq!(labels["serving.knative.dev/service"], "hello");
        assert_eq!(labels["serving.knative.dev/revision"], "hello-00001");
        assert!(labels.get("serving.knative.dev/routingState").is_none());
        assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "u");
        assert_eq!(pod["spec"]["containers"][0]["name"], USER_CONTAINER);
        assert_eq!(pod["spec"]["containers"][1]["name"], QUEUE_PROXY);
        assert_eq!(pod["spec"]["runtimeClassName"], "wasmedge");
        assert!(pod["spec"].get("timeoutSeconds").is_none());
        assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 300);
        assert_eq!(pod["status"]["containerStatuses"][0]["imageID"], "hello@sha256:1");
        assert_eq!(pod, super::pod(&revision(), &part()), "the same while it lives");
        let names = [part(), staying(0, 1), staying(0, 2), staying(1, 1)].map(|part| name(&part));
        assert_eq!(std::collections::BTreeSet::from(names).len(), 4);
        assert_eq!(
            uuid::Uuid::parse_str(object::uid(&pod)).unwrap().to_string(),
            object::uid(&pod)
        );
    }

    #[test]
    fn a_pod_tells_which_instance_it_is_and_that_it_ends() {
        assert_eq!(instance_of(&pod(&revision(), &part())), None);
        let part = staying(u64::MAX, 7);
        let pod = pod(&revision(), &part);
        assert_eq!(instance_of(&pod), part.instance.map(|instance| instance.id));
        assert_eq!(pod["metadata"]["creationTimestamp"], "1970-01-01T00:00:02Z");
        let ends = ending(&pod, Timestamp::from_second(9).unwrap()).unwrap();
        assert_eq!(ends["metadata"]["deletionTimestamp"], "1970-01-01T00:00:09Z");
        assert_eq!(ends["metadata"]["deletionGracePeriodSeconds"], 300);
        assert_eq!(ending(&ends, Timestamp::from_second(10).unwrap()), None);
    }

    #[test]
    fn the_container_with_the_port_is_the_one_to_look_at() {
        let mut several = revision();
        several["spec"]["containers"] = json!([{"name": "side", "image": "s"},
            {"name": "app", "image": "a", "ports": [{"containerPort": 8881}]}]);
        let pod = pod(&several, &part());
        assert_eq!(default_container(&pod), "app");
        assert_eq!(pod["status"]["containerStatuses"].as_array().unwrap().len(), 3);
        let metrics = metrics(&pod, &part().live, Timestamp::from_second(2).unwrap());
        let used = |index: usize| metrics["containers"][index]["usage"]["cpu"].clone();
        assert_eq!((used(0), used(1)), (json!("0n"), json!("50000000n")));
    }

    #[test]
    fn metrics_are_in_kubernetes_units() {
        let pod = pod(&revision(), &part());
        let metrics = metrics(&pod, &part().live, Timestamp::from_second(2).unwrap());
        let usage = &metrics["containers"][0]["usage"];
        assert_eq!(
            (&usage["cpu"], &usage["memory"]),
            (&json!("50000000n"), &json!("2048Ki"))
        );
        assert_eq!(metrics["window"], "1.000s");
    }
}
