//! PodAutoscaler of Knative's internal group: one per Revision, made by the Revision's controller.

use super::annotations;
use crate::admission::{FieldErrors, Request, json, metadata, reference, template};
use crate::condition::{Condition, ConditionSet};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Condition types of a PodAutoscaler (`pkg/apis/autoscaling/v1alpha1/pa_types.go`).
pub mod condition {
    /// Everything below is True.
    pub const READY: &str = crate::condition::READY;
    /// The target receives traffic.
    pub const ACTIVE: &str = "Active";
    /// The target reached its initial scale once.
    pub const SCALE_TARGET_INITIALIZED: &str = "ScaleTargetInitialized";
    /// The way to the target is set up.
    pub const SKS_READY: &str = "SKSReady";
}

/// Reasons and messages of a PodAutoscaler (`pkg/apis/autoscaling/v1alpha1/pa_lifecycle.go`, `kpa/kpa.go`).
pub mod reason {
    /// Active is Unknown while calls wait for instances.
    pub const QUEUED: &str = "Queued";
    /// The message with [`QUEUED`].
    pub const QUEUED_MESSAGE: &str =
        "Requests to the target are being buffered as resources are provisioned.";
    /// Active is False: no traffic.
    pub const NO_TRAFFIC: &str = "NoTraffic";
    /// The message with [`NO_TRAFFIC`].
    pub const NO_TRAFFIC_MESSAGE: &str = "The target is not receiving traffic.";
    /// Active is False: it never came up.
    pub const TIMED_OUT: &str = "TimedOut";
    /// The message with [`TIMED_OUT`].
    pub const TIMED_OUT_MESSAGE: &str = "The target could not be activated.";
    /// SKSReady is False or Unknown.
    pub const NOT_READY: &str = "NotReady";
    /// Something that it needs belongs to something else.
    pub const NOT_OWNED: &str = "NotOwned";
    /// Something that it needs could not be made.
    pub const FAILED_CREATE: &str = "FailedCreate";
}

/// How a PodAutoscaler's conditions depend on each other.
pub const CONDITIONS: ConditionSet = ConditionSet::living(&[
    condition::ACTIVE,
    condition::SCALE_TARGET_INITIALIZED,
    condition::SKS_READY,
]);

/// What is to be scaled.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "autoscaling.internal.knative.dev",
    version = "v1alpha1",
    kind = "PodAutoscaler",
    plural = "podautoscalers",
    singular = "podautoscaler",
    namespaced,
    status = "PodAutoscalerStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "knative-internal",
    category = "autoscaling",
    shortname = "kpa",
    shortname = "pa",
    doc = "PodAutoscaler holds how one Revision is scaled and how far it is scaled now. It is made by the platform, one per Revision; users set autoscaling annotations on spec.template.metadata of their Service instead.",
    printcolumn = r#"{"name":"DesiredScale","type":"integer","jsonPath":".status.desiredScale"}"#,
    printcolumn = r#"{"name":"ActualScale","type":"integer","jsonPath":".status.actualScale"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PodAutoscalerSpec {
    /// Calls that one instance takes at a time, 0 to 1000; 0 is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_concurrency: Option<i64>,
    /// What is scaled, in the same namespace.
    #[serde(default)]
    pub scale_target_ref: ScaleTargetRef,
    /// Whether a Route leads to the Revision: empty when not known, Reachable, or Unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachability: Option<String>,
    /// The protocol of the target: http1 or h2c.
    #[serde(default)]
    pub protocol_type: String,
}

/// The Revision can be reached through a Route.
pub const REACHABILITY_REACHABLE: &str = "Reachable";
/// No Route leads to the Revision.
pub const REACHABILITY_UNREACHABLE: &str = "Unreachable";
/// HTTP/1.1, the protocol of a port named `http1` or not named.
pub const PROTOCOL_HTTP1: &str = "http1";
/// HTTP/2 with prior knowledge, the protocol of a port named `h2c`.
pub const PROTOCOL_H2C: &str = "h2c";

/// What a PodAutoscaler scales. Namespace, uid and the rest of an object reference are refused by validation, but
/// kept in the type so that the refusal can name them.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleTargetRef {
    /// Group and version of the target, such as `serving.knative.dev/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Kind of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Not allowed: the target is in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Not allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_path: Option<String>,
    /// Not allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    /// Not allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// How far it is scaled.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodAutoscalerStatus {
    /// The `metadata.generation` that the controller processed last. Conditions speak of that generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Active, ScaleTargetInitialized, SKSReady, sorted by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Free-form facts left by controllers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The service through which the target is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// The service from which the target's metrics are read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_service_name: Option<String>,
    /// Instances wanted; -1 before there is data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_scale: Option<i32>,
    /// Instances that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_scale: Option<i32>,
}

/// Fills in class and metric (`pa_defaults.go`).
pub(crate) fn default(_request: &Request<'_>, object: &mut Value) {
    json::fill(object, "spec")
        .into_iter()
        .for_each(json::remove_nulls);
    let Some(metadata) = json::fill(object, "metadata") else {
        return;
    };
    let Some(annotations) = json::fill(metadata, "annotations") else {
        return;
    };
    json::default(annotations, annotations::CLASS.name(), annotations::CLASS_KPA);
    let metric = match json::text(annotations, annotations::CLASS.name()) {
        annotations::CLASS_KPA => annotations::METRIC_CONCURRENCY,
        annotations::CLASS_HPA => annotations::METRIC_CPU,
        _ => "",
    };
    json::default(annotations, annotations::METRIC.name(), metric);
}

/// What is wrong with a PodAutoscaler (`pa_validation.go`).
pub(crate) fn validate(request: &Request<'_>, object: &Value) -> FieldErrors {
    let mut errors = metadata::object(object);
    errors.also(
        annotations::validate(&metadata::annotations(object), &request.settings.autoscaler)
            .via("metadata.annotations"),
    );
    let spec = object.get("spec").unwrap_or(&Value::Null);
    if spec.as_object().is_none_or(Map::is_empty) {
        errors.also(FieldErrors::missing(&["spec"]));
        return errors;
    }
    let target = spec.get("scaleTargetRef").unwrap_or(&Value::Null);
    errors.also(reference::validate(target).via("spec.scaleTargetRef"));
    errors.also(template::container_concurrency(spec, &request.settings.defaults).via("spec"));
    match json::text(spec, "protocolType") {
        PROTOCOL_HTTP1 | PROTOCOL_H2C => {}
        "" => errors.also(FieldErrors::missing(&["spec.protocolType"])),
        other => errors.also(FieldErrors::invalid(other, "spec.protocolType")),
    }
    errors
}
