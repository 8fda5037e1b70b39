//! ApiServerSource: an event for each change of objects (eventing `pkg/apis/sources/v1/apiserver_*.go`).

use super::{default_sink, validate_sink};
use crate::admission::{FieldErrors, Request, json, metadata};
use crate::duck::{CloudEventOverrides, Destination, SourceStatus, any_objects};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the user wants: the changes of which objects.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "sources.knative.dev",
    version = "v1",
    kind = "ApiServerSource",
    plural = "apiserversources",
    singular = "apiserversource",
    namespaced,
    status = "ApiServerSourceStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "sources",
    doc = "ApiServerSource sends an event for each change of objects.",
    printcolumn = r#"{"name":"Sink","type":"string","jsonPath":".status.sinkUri"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ApiServerSourceSpec {
    /// The kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<ResourceSelector>,
    /// Objects that are owned by this kind only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ResourceOwner>,
    /// What an event holds: a Reference to the object (the default) or the whole Resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The account that objects are read as. Default: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_name: Option<String>,
    /// The namespaces that are looked at. Default: that of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Filters. Behind a flag of Knative that is off by default, so refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_objects")]
    pub filters: Vec<Value>,
    /// Where events go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<Destination>,
    /// What is added to events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// Objects of one kind.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceSelector {
    /// Group and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Labels that the objects must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// A kind of owner.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceOwner {
    /// Group and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// What became of an ApiServerSource.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiServerSourceStatus {
    /// What the status of a source holds.
    #[serde(flatten)]
    pub source: SourceStatus,
    /// The namespaces that are looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
}

/// Fills in the mode, the account and the sink's namespace.
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let namespace = metadata::namespace(object).to_owned();
    if let Some(spec) = json::fill(object, "spec") {
        default_sink(spec, &namespace);
        json::default_unset(spec, "mode", "Reference");
        json::default_unset(spec, "serviceAccountName", "default");
    }
    metadata::set_user_info_of(super::GROUP, request, object);
}

/// What is wrong with an ApiServerSource.
pub(crate) fn validate(_request: &Request<'_>, object: &Value) -> FieldErrors {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut errors = FieldErrors::none();
    let mode = json::text(spec, "mode");
    if !matches!(mode, "Reference" | "Resource") {
        errors.also(FieldErrors::invalid(mode, "mode"));
    }
    errors.also(validate_sink(spec));
    let resources = json::items(spec, "resources");
    if resources.is_empty() {
        errors.also(FieldErrors::missing(&["resources"]));
    }
    for (index, resource) in resources.iter().enumerate() {
        errors.also(kind(resource).via_index("resources", index));
    }
    if let Some(owner) = json::object(spec, "owner") {
        errors.also(kind(owner).via("owner"));
    }
    if !json::items(spec, "filters").is_empty() {
        let message = "Filters is not empty but the NewAPIServerFilters feature is disabled.";
        errors.also(FieldErrors::generic(message, &["filters"]));
    }
    errors.via("spec")
}

fn kind(resource: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let api_version = json::text(resource, "apiVersion");
    if api_version.matches('/').count() > 1 {
        errors.also(FieldErrors::invalid(api_version, "apiVersion"));
    }
    if json::text(resource, "kind").trim().is_empty() {
        errors.also(FieldErrors::missing(&["kind"]));
    }
    errors
}
