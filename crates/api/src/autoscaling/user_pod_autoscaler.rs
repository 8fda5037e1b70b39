//! PodAutoscaler of group `autoscaling.knative.dev`: the one that users write, one per Service.
//!
//! Not one of Knative's kinds. It sets the bounds and the target of its Service's revisions, unless a revision's own
//! annotations say otherwise.

use super::annotations;
use super::pod_autoscaler::ScaleTargetRef;
use crate::admission::{FieldErrors, Request, json, metadata, reference};
use crate::condition::{Condition, ConditionSet};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Condition types of a user's PodAutoscaler.
pub mod condition {
    /// The target exists and is scaled by this object.
    pub const READY: &str = crate::condition::READY;
    /// The Service named by `spec.scaleTargetRef` exists.
    pub const TARGET_FOUND: &str = "TargetFound";
}

/// Reasons of a user's PodAutoscaler.
pub mod reason {
    /// `spec.scaleTargetRef` names a Service that does not exist.
    pub const TARGET_NOT_FOUND: &str = "TargetNotFound";
    /// Another PodAutoscaler, made earlier, scales the same Service.
    pub const TARGET_TAKEN: &str = "TargetTaken";
}

/// The only kind that can be scaled, and its group and version.
pub const TARGET_KIND: &str = "Service";
/// See [`TARGET_KIND`].
pub const TARGET_API_VERSION: &str = "serving.knative.dev/v1";

/// How its conditions depend on each other.
pub const CONDITIONS: ConditionSet = ConditionSet::living(&[condition::TARGET_FOUND]);

/// Bounds and target for the revisions of one Service.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "autoscaling.knative.dev",
    version = "v1alpha1",
    kind = "PodAutoscaler",
    plural = "podautoscalers",
    singular = "podautoscaler",
    namespaced,
    status = "PodAutoscalerStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "knative",
    category = "autoscaling",
    doc = "PodAutoscaler sets how far a Service's Revisions are scaled: the bounds and the wanted calls in flight per instance. Annotations on a Revision win over it.",
    printcolumn = r#"{"name":"Target","type":"string","jsonPath":".spec.scaleTargetRef.name"}"#,
    printcolumn = r#"{"name":"MinScale","type":"integer","jsonPath":".spec.minScale"}"#,
    printcolumn = r#"{"name":"MaxScale","type":"integer","jsonPath":".spec.maxScale"}"#,
    printcolumn = r#"{"name":"DesiredScale","type":"integer","jsonPath":".status.desiredScale"}"#,
    printcolumn = r#"{"name":"ActualScale","type":"integer","jsonPath":".status.actualScale"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PodAutoscalerSpec {
    /// The Service to scale, in the same namespace.
    #[serde(default)]
    pub scale_target_ref: ScaleTargetRef,
    /// Instances that are kept also without traffic. 0, the default, allows scale to zero.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_scale: Option<i32>,
    /// Instances that are never exceeded. 0, the default, is no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_scale: Option<i32>,
    /// Wanted value of the metric per instance: calls in flight, unless the revision's metric annotation says
    /// otherwise. At least 0.01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<serde_json::Number>,
}

/// What became of it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodAutoscalerStatus {
    /// The `metadata.generation` that the controller processed last. Conditions speak of that generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, TargetFound, sorted by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Free-form facts left by controllers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Instances wanted, of all Revisions of the Service together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_scale: Option<i32>,
    /// Instances that are ready, of all Revisions of the Service together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_scale: Option<i32>,
}

/// Nothing is filled in: what is not set leaves the platform's default in force.
pub(crate) fn default(_request: &Request<'_>, object: &mut Value) {
    json::fill(object, "spec")
        .into_iter()
        .for_each(json::remove_nulls);
}

/// What is wrong with a user's PodAutoscaler. The bounds are those of the annotations that it stands for.
pub(crate) fn validate(_request: &Request<'_>, object: &Value) -> FieldErrors {
    let mut errors = metadata::object(object);
    let spec = object.get("spec").unwrap_or(&Value::Null);
    if spec.as_object().is_none_or(Map::is_empty) {
        errors.also(FieldErrors::missing(&["spec"]));
        return errors;
    }
    let target = spec.get("scaleTargetRef").unwrap_or(&Value::Null);
    let mut wrong = reference::validate(target);
    for (field, only) in [("apiVersion", TARGET_API_VERSION), ("kind", TARGET_KIND)] {
        let value = json::text(target, field);
        if !value.is_empty() && value != only {
            let why = format!("only {TARGET_KIND} of {TARGET_API_VERSION} can be scaled");
            wrong.also(FieldErrors::invalid_because(value, field, why));
        }
    }
    errors.also(wrong.via("scaleTargetRef").via("spec"));
    errors.also(bounds(spec).via("spec"));
    errors
}

fn bounds(spec: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let scale = |field: &str| json::integer(spec, field).unwrap_or_default();
    for field in ["minScale", "maxScale"] {
        if !(0..=i64::from(i32::MAX)).contains(&scale(field)) {
            errors.also(FieldErrors::out_of_bounds(scale(field), 0, i32::MAX, field));
        }
    }
    let (min, max) = (scale("minScale"), scale("maxScale"));
    if max != 0 && max < min {
        let message = format!("maxScale={max} is less than minScale={min}");
        errors.also(FieldErrors::generic(message, &["maxScale", "minScale"]));
    }
    if let Some(target) = spec
        .get("target")
        .and_then(Value::as_f64)
        .filter(|t| *t < annotations::TARGET_MIN)
    {
        let message = format!("target {target} should be at least {}", annotations::TARGET_MIN);
        errors.also(FieldErrors::generic(message, &["target"]));
    }
    errors
}
