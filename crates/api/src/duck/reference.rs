//! A reference to an object (knative/pkg `apis/duck/v1/knative_reference.go`).

use crate::admission::{FieldErrors, json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Names an object.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KReference {
    /// Its kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its namespace. Default: that of the object which holds the reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its group and version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Its group, instead of apiVersion. Not used by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Fills in the namespace.
pub(crate) fn default(reference: &mut Value, namespace: &str) {
    if reference.is_object() && !namespace.is_empty() {
        json::default_unset(reference, "namespace", namespace);
    }
}

/// That a reference names apiVersion, kind and name; with `parent`, that it stays in that namespace.
pub(crate) fn validate(reference: &Value, parent: Option<&str>) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for field in ["name", "apiVersion", "kind"] {
        if json::text(reference, field).is_empty() {
            errors.also(FieldErrors::missing(&[field]));
        }
    }
    let namespace = json::text(reference, "namespace");
    if let Some(parent) = parent.filter(|parent| !parent.is_empty())
        && !namespace.is_empty()
        && namespace != parent
    {
        let why = format!("parent namespace: {parent:?} does not match ref: {namespace:?}");
        errors.also(FieldErrors::detailed(
            "mismatched namespaces",
            &["namespace"],
            why,
        ));
    }
    errors
}
