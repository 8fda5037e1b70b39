//! Service: one function with its configuration, its revisions and its traffic.

use super::revision::RevisionTemplate;
use super::route::{self, Addressable, TrafficTarget};
use crate::admission::{FieldErrors, Request, json, metadata, template};
use crate::condition::{Condition, ConditionSet};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Condition types of a Service (`pkg/apis/serving/v1/service_types.go`).
pub mod condition {
    /// Everything below is True.
    pub const READY: &str = crate::condition::READY;
    /// The Configuration's `Ready`, copied.
    pub const CONFIGURATIONS_READY: &str = "ConfigurationsReady";
    /// The Route's `Ready`, copied.
    pub const ROUTES_READY: &str = "RoutesReady";
}

/// Reasons that a Service adds to those of its children (`pkg/apis/serving/v1/service_lifecycle.go`).
pub mod reason {
    /// A Configuration or Route of the Service's name belongs to something else.
    pub const NOT_OWNED: &str = "NotOwned";
    /// A child has not yet seen its newest generation.
    pub const OUT_OF_DATE: &str = "OutOfDate";
    /// The Route has not moved to the newest ready revision yet.
    pub const TRAFFIC_NOT_MIGRATED: &str = "TrafficNotMigrated";
    /// The revision name that the user chose is taken by a revision with another spec.
    pub const REVISION_NAME_TAKEN: &str = "RevisionNameTaken";
}

/// How a Service's conditions depend on each other.
pub const CONDITIONS: ConditionSet =
    ConditionSet::living(&[condition::CONFIGURATIONS_READY, condition::ROUTES_READY]);

/// What the user wants: the template of the next revision, and how traffic is split over revisions.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "serving.knative.dev",
    version = "v1",
    kind = "Service",
    plural = "services",
    singular = "service",
    namespaced,
    status = "ServiceStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "serving",
    shortname = "kservice",
    shortname = "ksvc",
    label("duck.knative.dev/addressable", "true"),
    label("duck.knative.dev/podspecable", "true"),
    doc = "Service is one function: it owns a Configuration, whose revisions it stamps out of spec.template, and a Route, which splits traffic over them. A change of spec.template makes a new Revision; a change of spec.traffic does not.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.url"}"#,
    printcolumn = r#"{"name":"LatestCreated","type":"string","jsonPath":".status.latestCreatedRevisionName"}"#,
    printcolumn = r#"{"name":"LatestReady","type":"string","jsonPath":".status.latestReadyRevisionName"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// The template of the next Revision. A new Revision is made whenever its spec or its metadata changes.
    #[serde(default)]
    pub template: RevisionTemplate,
    /// How requests are split over revisions. Default: all to the latest ready one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficTarget>,
}

/// What is known about the Service: its URL, its newest revisions, its conditions.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The `metadata.generation` that the controller processed last. Conditions speak of that generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, ConfigurationsReady, RoutesReady, sorted by type.
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
    /// Where the function is called, such as `http://hello.default.localhost:8080`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The address inside the platform, for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
    /// The traffic as it is split now; each entry names a Revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub traffic: Vec<TrafficTarget>,
}

/// Fills in what the user left out (`service_defaults.go`).
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    if let Some(spec) = json::fill(object, "spec") {
        json::remove_nulls(spec);
        route::default_traffic(spec, true);
    }
    template::default(request, object);
    metadata::set_user_info(request, object);
}

/// What is wrong with a Service (`service_validation.go`).
pub(crate) fn validate(request: &Request<'_>, object: &Value) -> FieldErrors {
    let mut errors = metadata::object(object);
    errors.also(metadata::not_on_template(object));
    errors.also(metadata::routing(object));
    errors.also(template::validate(request, object));
    errors.also(route::validate_traffic(object, true));
    errors.also(metadata::creator_and_modifier(request, object));
    errors
}
