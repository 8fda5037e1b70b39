//! What a Deployment and a ServerlessService look like, as pure functions (serving
//! `pkg/reconciler/revision/resources/deploy.go`, `pkg/reconciler/autoscaling/resources/sks.go`).

use crate::object::{self, text};
use crate::pods;
use jiff::Timestamp;
use kittiwake_api::autoscaling::annotations::METRIC;
use kittiwake_api::condition::{Condition, ConditionStatus, SEVERITY_INFO};
use kittiwake_api::meta;
use kittiwake_api::names::child_name;
use kittiwake_api::networking::serverless_service::{CONDITIONS, MODE_PROXY, MODE_SERVE, condition, reason};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Seconds until a cluster says that a Deployment makes no progress, where nothing else is said.
const PROGRESS_DEADLINE_SECONDS: i64 = 600;
/// Labels and annotations of a Revision that a change of its routes changes: not of its Deployment (`deploy.go`,
/// `makeLabels` and `makeAnnotations`).
const NOT_OF_DEPLOYMENTS: [&str; 3] = [
    meta::ROUTING_STATE_LABEL,
    meta::ROUTING_STATE_MODIFIED_ANNOTATION,
    meta::ROUTES_ANNOTATION,
];

/// The name of a Revision's Deployment.
pub(super) fn deployment_name(revision: &str) -> String {
    child_name(revision, "-deployment")
}

/// How far a PodAutoscaler is scaled.
struct Scale {
    /// Instances that there shall be.
    replicas: i64,
    /// Instances that take calls.
    ready: i64,
}

impl Scale {
    fn of(scaler: &Value) -> Self {
        let ready = scaler.pointer("/status/actualScale").and_then(Value::as_i64);
        let replicas = in_status(scaler, meta::REPLICAS_ANNOTATION).parse().ok();
        Self {
            replicas: replicas.unwrap_or(0).max(0),
            ready: ready.unwrap_or(0).max(0),
        }
    }
}

/// How many instances of a PodAutoscaler's Revision take calls.
pub(crate) fn ready(scaler: &Value) -> i64 {
    Scale::of(scaler).ready
}

/// Whether calls pass the activator: where the rules say so, and where there is no instance.
pub(crate) fn is_proxied(scaler: &Value) -> bool {
    !asks_for_instances(scaler) || ready(scaler) == 0
}

/// Whether the rules have calls go to the instances themselves.
fn asks_for_instances(scaler: &Value) -> bool {
    in_status(scaler, meta::MODE_ANNOTATION) == MODE_SERVE
}

/// The uid of the object of a kind that is made for a PodAutoscaler; the same each time.
pub(crate) fn owned_uid(kind: &str, scaler: &Value) -> String {
    pods::uid_of(Sha256::digest(format!("{kind} {}", object::uid(scaler))).as_ref())
}

/// An annotation in the status of a PodAutoscaler.
fn in_status<'v>(scaler: &'v Value, annotation: &str) -> &'v str {
    let annotations = scaler.pointer("/status/annotations");
    let value = annotations.and_then(|annotations| annotations.get(annotation));
    value.and_then(Value::as_str).unwrap_or_default()
}

/// The Deployment of a Revision; `old` is what it was before.
pub(super) fn deployment(revision: &Value, scaler: &Value, old: Option<&Value>) -> Value {
    let (name, uid) = (object::name(revision), object::uid(revision));
    let scale = Scale::of(scaler);
    let mut labels = kept(revision, "/metadata/labels", &NOT_OF_DEPLOYMENTS);
    // Users may have one of their own.
    labels.entry(meta::APP_LABEL).or_insert_with(|| name.into());
    labels.insert(meta::REVISION_LABEL.into(), name.into());
    labels.insert(meta::REVISION_UID_LABEL.into(), uid.into());
    let annotations = kept(revision, "/metadata/annotations", &NOT_OF_DEPLOYMENTS);
    let mut pod_spec = json!({"containers": pods::containers(revision), "restartPolicy": "Always"});
    pods::copy_pod_fields(revision, &mut pod_spec);
    let mut deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(&deployment_name(name), revision, scaler, "Deployment", &labels, &annotations),
        "spec": {
            "replicas": scale.replicas,
            "selector": {"matchLabels": {(meta::REVISION_UID_LABEL): uid}},
            "progressDeadlineSeconds": PROGRESS_DEADLINE_SECONDS,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}},
            "template": {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod_spec},
        },
    });
    let generation = set_generation(&mut deployment, old);
    // Those that finish their last calls are none of its replicas any more.
    let replicas = scale.replicas.max(scale.ready);
    let status = json!({
        "observedGeneration": generation,
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": scale.ready,
        "availableReplicas": scale.ready,
        "unavailableReplicas": replicas - scale.ready,
        "conditions": [
            deployment_condition("Available", scale.ready >= scale.replicas, "MinimumReplicas", old, scaler),
            deployment_condition("Progressing", true, "NewReplicaSet", old, scaler),
        ],
    });
    object::map_mut(&mut deployment).insert("status".into(), status);
    deployment
}

/// A condition in Kubernetes' form; it keeps the times of the old object where it says the same.
fn deployment_condition(kind: &str, is: bool, about: &str, old: Option<&Value>, scaler: &Value) -> Value {
    let status = if is { "True" } else { "False" };
    let reason = match (kind, is) {
        ("Available", false) => format!("{about}Unavailable"),
        _ => format!("{about}Available"),
    };
    let before = old
        .and_then(|old| old.pointer("/status/conditions")?.as_array())
        .and_then(|all| all.iter().find(|one| text(one, "/type") == kind));
    if let Some(before) = before.filter(|before| text(before, "/status") == status) {
        return before.clone();
    }
    // When it changed: the PodAutoscaler tells of its own change of scale.
    let at = text(scaler, "/metadata/creationTimestamp");
    let changed = scaler
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|condition| text(condition, "/lastTransitionTime"))
        .max()
        .unwrap_or(at);
    json!({"type": kind, "status": status, "reason": reason, "lastTransitionTime": changed, "lastUpdateTime": changed})
}

/// The ServerlessService of a PodAutoscaler; `old` is what it was before.
pub(super) fn serverless_service(scaler: &Value, old: Option<&Value>, now: Timestamp) -> Value {
    let name = object::name(scaler);
    let scale = Scale::of(scaler);
    let mode = if asks_for_instances(scaler) {
        MODE_SERVE
    } else {
        MODE_PROXY
    };
    let labels = kept(scaler, "/metadata/labels", &[]);
    let annotations = kept(scaler, "/metadata/annotations", &[METRIC.name()]);
    let mut service = json!({
        "apiVersion": "networking.internal.knative.dev/v1alpha1",
        "kind": "ServerlessService",
        "metadata": metadata(name, scaler, scaler, "ServerlessService", &labels, &annotations),
        "spec": {
            "mode": mode,
            "numActivators": in_status(scaler, meta::ACTIVATORS_ANNOTATION).parse::<i32>().unwrap_or(0),
            "objectRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment_name(name)},
            "protocolType": text(scaler, "/spec/protocolType"),
        },
    });
    let generation = set_generation(&mut service, old);
    let before = old.and_then(|old| old.pointer("/status/conditions"));
    let mut conditions = before
        .and_then(|conditions| Vec::<Condition>::deserialize(conditions).ok())
        .unwrap_or_default();
    let mut manager = CONDITIONS.manage(&mut conditions, now);
    if scale.ready > 0 {
        manager.mark_true(condition::ENDPOINTS_POPULATED);
    } else {
        manager.mark_unknown(
            condition::ENDPOINTS_POPULATED,
            reason::NO_HEALTHY_BACKENDS,
            reason::NO_HEALTHY_BACKENDS_MESSAGE,
        );
    }
    manager.set(Condition {
        type_: condition::ACTIVATOR_ENDPOINTS_POPULATED.to_owned(),
        status: if is_proxied(scaler) {
            ConditionStatus::True
        } else {
            ConditionStatus::False
        },
        severity: SEVERITY_INFO.to_owned(),
        reason: reason::ACTIVATOR_ENDPOINTS_POPULATED.to_owned(),
        message: reason::ACTIVATOR_ENDPOINTS_POPULATED_MESSAGE.to_owned(),
        ..Condition::default()
    });
    let status = json!({
        "observedGeneration": generation,
        "conditions": conditions,
        "serviceName": name,
        "privateServiceName": child_name(name, "-private"),
    });
    object::map_mut(&mut service).insert("status".into(), status);
    service
}

/// Metadata of what is made for `owner` and came with `scaler`.
fn metadata(
    name: &str,
    owner: &Value,
    scaler: &Value,
    kind: &str,
    labels: &Map<String, Value>,
    annotations: &Map<String, Value>,
) -> Value {
    json!({
        "name": name,
        "namespace": object::namespace(owner),
        "uid": owned_uid(kind, scaler),
        "creationTimestamp": text(scaler, "/metadata/creationTimestamp"),
        "labels": labels,
        "annotations": annotations,
        "ownerReferences": [{
            "apiVersion": text(owner, "/apiVersion"), "kind": text(owner, "/kind"),
            "name": object::name(owner), "uid": object::uid(owner), "controller": true, "blockOwnerDeletion": true,
        }],
    })
}

/// Counts the changes of the spec, as the API server does for what clients write.
fn set_generation(new: &mut Value, old: Option<&Value>) -> i64 {
    let before = old.and_then(|old| old.pointer("/metadata/generation")?.as_i64());
    let same = old.and_then(|old| old.get("spec")) == new.get("spec");
    let generation = before.unwrap_or(0) + i64::from(!same || before.is_none());
    object::metadata_mut(new).insert("generation".into(), generation.into());
    generation
}

/// A map of an object without some keys.
fn kept(object: &Value, pointer: &str, without: &[&str]) -> Map<String, Value> {
    let map = object.pointer(pointer).and_then(Value::as_object);
    let mut map = map.cloned().unwrap_or_default();
    map.retain(|key, _| !without.contains(&key.as_str()));
    map
}

#[cfg(test)]
#[path = "object_tests.rs"]
mod tests;
