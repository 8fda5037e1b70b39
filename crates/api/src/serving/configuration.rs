//! Configuration: the newest wanted state, and the line of revisions stamped out of it.

use super::revision::RevisionTemplate;
use crate::admission::{FieldErrors, Request, json, metadata, template};
use crate::condition::{Condition, ConditionSet};
use crate::meta;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Condition types of a Configuration (`pkg/apis/serving/v1/configuration_types.go`).
pub mod condition {
    /// The latest created Revision became ready.
    pub const READY: &str = crate::condition::READY;
}

/// Reasons of a Configuration (`pkg/apis/serving/v1/configuration_lifecycle.go`).
pub mod reason {
    /// The latest created Revision failed; the message repeats why.
    pub const REVISION_FAILED: &str = "RevisionFailed";
    /// The latest ready Revision was deleted.
    pub const REVISION_DELETED: &str = "RevisionDeleted";
}

/// How a Configuration's conditions depend on each other.
pub const CONDITIONS: ConditionSet = ConditionSet::living(&[]);

/// What the user wants: the template of the next revision.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "serving.knative.dev",
    version = "v1",
    kind = "Configuration",
    plural = "configurations",
    singular = "configuration",
    namespaced,
    status = "ConfigurationStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "serving",
    shortname = "config",
    shortname = "cfg",
    label("duck.knative.dev/podspecable", "true"),
    doc = "Configuration is the newest wanted state of a function and the owner of its Revisions. A change of spec.template makes a new Revision. Users normally write a Service, which makes its Configuration.",
    printcolumn = r#"{"name":"LatestCreated","type":"string","jsonPath":".status.latestCreatedRevisionName"}"#,
    printcolumn = r#"{"name":"LatestReady","type":"string","jsonPath":".status.latestReadyRevisionName"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationSpec {
    /// The template of the next Revision. A new Revision is made whenever its spec or its metadata changes.
    #[serde(default)]
    pub template: RevisionTemplate,
}

/// What is known about the Configuration.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationStatus {
    /// The `metadata.generation` that the controller processed last. Conditions speak of that generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Free-form facts left by controllers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The Revision that was made last. It may not be ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_created_revision_name: Option<String>,
    /// The newest Revision that became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_ready_revision_name: Option<String>,
}

/// Fills in what the user left out (`configuration_defaults.go`).
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    json::fill(object, "spec")
        .into_iter()
        .for_each(json::remove_nulls);
    template::default(request, object);
    if !metadata::is_owned(object) {
        metadata::set_user_info(request, object);
    }
}

/// What is wrong with a Configuration (`configuration_validation.go`).
pub(crate) fn validate(request: &Request<'_>, object: &Value) -> FieldErrors {
    let mut errors = metadata::object(object);
    errors.also(metadata::not_on_template(object));
    errors.also(metadata::owner_label(object, meta::SERVICE_LABEL, "Service"));
    errors.also(template::validate(request, object));
    if !metadata::is_owned(object) {
        errors.also(metadata::creator_and_modifier(request, object));
    }
    errors
}
