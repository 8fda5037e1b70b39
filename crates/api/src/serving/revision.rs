//! Revision: one immutable snapshot of code and configuration.

use crate::admission::{FieldErrors, Request, json, metadata, template};
use crate::condition::{Condition, ConditionSet};
use crate::meta;
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Condition types of a Revision (`pkg/apis/serving/v1/revision_types.go`).
pub mod condition {
    /// The Revision can be called.
    pub const READY: &str = crate::condition::READY;
    /// What it needs was set up.
    pub const RESOURCES_AVAILABLE: &str = "ResourcesAvailable";
    /// Its artifact was found, and started.
    pub const CONTAINER_HEALTHY: &str = "ContainerHealthy";
    /// It receives traffic. Informational: a Revision at zero is still ready.
    pub const ACTIVE: &str = "Active";
}

/// Reasons of a Revision (`pkg/apis/serving/v1/revision_lifecycle.go` and `pkg/reconciler/revision`). A program that
/// ended by itself has the reason `ExitCode<N>` instead.
pub mod reason {
    /// The artifact cannot be had, or is nothing that can be run.
    pub const CONTAINER_MISSING: &str = "ContainerMissing";
    /// The tag of the image is being turned into a digest.
    pub const RESOLVING_DIGESTS: &str = "ResolvingDigests";
    /// It is being set up.
    pub const DEPLOYING: &str = "Deploying";
    /// Something that it needs belongs to something else.
    pub const NOT_OWNED: &str = "NotOwned";
    /// It did not become ready within its progress deadline.
    pub const PROGRESS_DEADLINE_EXCEEDED: &str = "ProgressDeadlineExceeded";
    /// Active is False: nobody calls it.
    pub const NO_TRAFFIC: &str = "NoTraffic";
    /// Active is Unknown: calls wait while it is brought up.
    pub const QUEUED: &str = "Queued";
    /// Active is False: it was being brought up and did not come.
    pub const TIMED_OUT: &str = "TimedOut";
}

/// How a Revision's conditions depend on each other.
pub const CONDITIONS: ConditionSet =
    ConditionSet::living(&[condition::RESOURCES_AVAILABLE, condition::CONTAINER_HEALTHY]);

/// The template that a Configuration stamps revisions out of.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct RevisionTemplate {
    /// Labels and annotations of the Revision, and, when the user wants to choose it, its name
    /// (`<configuration>-<something>`). Autoscaling annotations belong here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<ObjectMeta>,
    /// The code to run and what it may use.
    #[serde(default)]
    pub spec: RevisionSpec,
}

/// What one Revision runs and may use: a pod's spec and the limits of a call. It never changes.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "serving.knative.dev",
    version = "v1",
    kind = "Revision",
    plural = "revisions",
    singular = "revision",
    namespaced,
    status = "RevisionStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "serving",
    shortname = "rev",
    doc = "Revision is an immutable snapshot of a function's code and configuration. Revisions are made by Configurations; old ones stay so that traffic can go back to them.",
    printcolumn = r#"{"name":"Config Name","type":"string","jsonPath":".metadata.labels['serving\\.knative\\.dev/configuration']"}"#,
    printcolumn = r#"{"name":"Generation","type":"string","jsonPath":".metadata.labels['serving\\.knative\\.dev/configurationGeneration']"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Actual Replicas","type":"integer","jsonPath":".status.actualReplicas"}"#,
    printcolumn = r#"{"name":"Desired Replicas","type":"integer","jsonPath":".status.desiredReplicas"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct RevisionSpec {
    /// Calls that one instance takes at a time, 0 to 1000. 0, the default, is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_concurrency: Option<i64>,
    /// Seconds that one call may take in all. Default 300, at most 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<i64>,
    /// Seconds until the first byte of the answer must be sent. At most timeoutSeconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_start_timeout_seconds: Option<i64>,
    /// Seconds of silence after which a call is ended. 0, the default, is no such limit. At most timeoutSeconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_seconds: Option<i64>,
    /// Containers, volumes, service account and so on, as in a pod.
    #[serde(flatten)]
    pub pod_spec: PodSpec,
}

/// What is known about the Revision.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// The `metadata.generation` that the controller processed last. Conditions speak of that generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, ResourcesAvailable, ContainerHealthy, Active, sorted by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Free-form facts left by controllers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Where the logs of this Revision are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_url: Option<String>,
    /// Per container the image, pinned to a digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub container_statuses: Vec<ContainerStatus>,
    /// Per init container the image, pinned to a digest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Instances that are ready now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual_replicas: Option<i32>,
    /// Instances that the autoscaler wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
}

/// One container and the image it runs, pinned.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Name of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its image with the digest that the tag had when the Revision was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
}

/// Fills in what was left out, at create only: the spec never changes (`revision_defaults.go`).
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    if request.replaced().is_some() {
        return;
    }
    if let Some(spec) = json::fill(object, "spec") {
        template::default_spec(request, spec, &Value::Null);
    }
}

/// What is wrong with a Revision (`revision_validation.go`).
pub(crate) fn validate(request: &Request<'_>, object: &Value) -> FieldErrors {
    if let Some(old) = request.replaced() {
        let changed = template::immutable(old, object);
        if !changed.is_empty() {
            return changed;
        }
    }
    let mut errors = metadata::object(object);
    let annotations = metadata::annotations(object);
    errors.also(
        metadata::template_annotations(&annotations, &request.settings.autoscaler)
            .via("metadata.annotations"),
    );
    errors.also(metadata::owner_label(
        object,
        meta::CONFIGURATION_LABEL,
        "Configuration",
    ));
    if request.replaced().is_none() {
        errors.also(
            template::validate_spec(request.settings, object.get("spec").unwrap_or(&Value::Null)).via("spec"),
        );
    }
    errors
}
