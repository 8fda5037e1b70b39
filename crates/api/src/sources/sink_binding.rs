//! SinkBinding: tells programs that exist where to send events (eventing `pkg/apis/sources/v1/sinkbinding_*.go`).

use super::{default_sink, validate_sink};
use crate::admission::{FieldErrors, Request, json, metadata};
use crate::duck::{CloudEventOverrides, Destination, SourceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the user wants: who is told which sink.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "sources.knative.dev",
    version = "v1",
    kind = "SinkBinding",
    plural = "sinkbindings",
    singular = "sinkbinding",
    namespaced,
    status = "SinkBindingStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "sources",
    category = "bindings",
    doc = "SinkBinding tells programs the URL of a sink, in the environment variable K_SINK.",
    printcolumn = r#"{"name":"Sink","type":"string","jsonPath":".status.sinkUri"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SinkBindingSpec {
    /// Who is told, by name or by labels, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// Where events go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<Destination>,
    /// What is added to events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// Who is told (knative/pkg `tracker.Reference`).
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Group and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// The kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name. Not together with selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The labels. Not together with name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// What became of a SinkBinding.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkBindingStatus {
    /// What the status of a source holds.
    #[serde(flatten)]
    pub source: SourceStatus,
}

/// Fills in namespaces.
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let namespace = metadata::namespace(object).to_owned();
    if let Some(spec) = json::fill(object, "spec") {
        default_sink(spec, &namespace);
        if let Some(subject) = spec.get_mut("subject").filter(|subject| subject.is_object()) {
            json::default_unset(subject, "namespace", namespace.as_str());
        }
    }
    metadata::set_user_info_of(super::GROUP, request, object);
}

/// What is wrong with a SinkBinding.
pub(crate) fn validate(_request: &Request<'_>, object: &Value) -> FieldErrors {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let subject = spec.get("subject").unwrap_or(&Value::Null);
    let mut errors = validate_subject(subject).via("subject");
    errors.also(validate_sink(spec));
    let mut errors = errors.via("spec");
    let namespace = json::text(subject, "namespace");
    if !namespace.is_empty() && namespace != metadata::namespace(object) {
        errors.also(FieldErrors::invalid(namespace, "spec.subject.namespace"));
    }
    errors
}

/// That a subject has apiVersion, kind, namespace, and exactly one of name and selector.
fn validate_subject(subject: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for field in ["apiVersion", "kind", "namespace"] {
        if json::text(subject, field).is_empty() {
            errors.also(FieldErrors::missing(&[field]));
        }
    }
    let named = !json::text(subject, "name").is_empty();
    let selected = json::object(subject, "selector").is_some();
    if named && selected {
        errors.also(FieldErrors::multiple_one_of(&["name", "selector"]));
    } else if !named && !selected {
        errors.also(FieldErrors::missing_one_of(&["name", "selector"]));
    }
    errors
}
