//! ContainerSource: a container that sends events to a sink (eventing `pkg/apis/sources/v1/container_*.go`).

use super::{default_sink, validate_sink};
use crate::admission::{FieldErrors, Request, json, metadata};
use crate::duck::{CloudEventOverrides, Destination, SourceStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the user wants: which container.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "sources.knative.dev",
    version = "v1",
    kind = "ContainerSource",
    plural = "containersources",
    singular = "containersource",
    namespaced,
    status = "ContainerSourceStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "sources",
    doc = "ContainerSource runs a container that sends events to a sink.",
    printcolumn = r#"{"name":"Sink","type":"string","jsonPath":".status.sinkUri"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSourceSpec {
    /// The container; it finds the sink's URL in K_SINK.
    #[serde(default)]
    pub template: PodTemplateSpec,
    /// Where events go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<Destination>,
    /// What is added to events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// What became of a ContainerSource.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSourceStatus {
    /// What the status of a source holds.
    #[serde(flatten)]
    pub source: SourceStatus,
}

/// Fills in names of containers and the sink's namespace.
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let namespace = metadata::namespace(object).to_owned();
    let name = object
        .get("metadata")
        .map(|metadata| json::text(metadata, "name"))
        .unwrap_or_default()
        .to_owned();
    if let Some(spec) = json::fill(object, "spec") {
        default_sink(spec, &namespace);
        let containers = spec
            .pointer_mut("/template/spec/containers")
            .and_then(Value::as_array_mut);
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let number = if index == 0 {
                String::new()
            } else {
                format!("-{index}")
            };
            json::default_unset(container, "name", format!("{name}{number}"));
        }
    }
    metadata::set_user_info_of(super::GROUP, request, object);
}

/// What is wrong with a ContainerSource.
pub(crate) fn validate(_request: &Request<'_>, object: &Value) -> FieldErrors {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let mut errors = validate_sink(spec);
    let pod = spec.pointer("/template/spec").unwrap_or(&Value::Null);
    let containers = json::items(pod, "containers");
    if containers.is_empty() {
        errors.also(FieldErrors::missing(&["containers"]));
    }
    for (index, container) in containers.iter().enumerate() {
        for field in ["name", "image"] {
            if json::text(container, field).is_empty() {
                errors.also(FieldErrors::missing(&[field]).via_index("containers", index));
            }
        }
    }
    errors.via("spec")
}
