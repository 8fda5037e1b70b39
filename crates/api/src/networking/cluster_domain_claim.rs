//! ClusterDomainClaim: which namespace may map a host name (networking
//! `pkg/apis/networking/v1alpha1/domainclaim_*.go`).

use crate::admission::{FieldErrors, Request, json};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who may use the name.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "networking.internal.knative.dev",
    version = "v1alpha1",
    kind = "ClusterDomainClaim",
    plural = "clusterdomainclaims",
    singular = "clusterdomainclaim",
    derive = "PartialEq",
    derive = "Default",
    category = "knative-internal",
    category = "networking",
    shortname = "cdc",
    doc = "ClusterDomainClaim reserves a host name, which is the object's name, for DomainMappings of one namespace."
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterDomainClaimSpec {
    /// The namespace whose DomainMapping of this name is served.
    #[serde(default)]
    pub namespace: String,
}

/// Nothing is filled in.
pub(crate) fn default(_: &Request<'_>, object: &mut Value) {
    if let Some(spec) = json::fill(object, "spec") {
        json::remove_nulls(spec);
    }
}

/// What is wrong with a ClusterDomainClaim.
pub(crate) fn validate(_: &Request<'_>, object: &Value) -> FieldErrors {
    let namespace = object.pointer("/spec/namespace").and_then(Value::as_str);
    if namespace.unwrap_or_default().is_empty() {
        return FieldErrors::missing(&["spec.namespace"]);
    }
    FieldErrors::none()
}
