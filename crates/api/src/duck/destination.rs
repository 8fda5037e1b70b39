//! Where events go: an object, a URI, or a URI below an object's (knative/pkg `apis/duck/v1/destination.go`).

use super::{KReference, reference};
use crate::admission::{FieldErrors, json};
use http::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where events go.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct Destination {
    /// An object that has an address.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<KReference>,
    /// An absolute URI; together with ref one that is relative to the object's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// PEM certificates of the authorities that the destination's certificate is checked against.
    #[serde(default, rename = "CACerts", skip_serializing_if = "Option::is_none")]
    pub ca_certs: Option<String>,
    /// The audience that tokens for the destination must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
}

/// Fills in the namespace of the reference in `object[field]`.
pub(crate) fn default(object: &mut Value, field: &str, namespace: &str) {
    if let Some(reference) = object.get_mut(field).and_then(|d| d.get_mut("ref")) {
        reference::default(reference, namespace);
    }
}

/// Whether nothing at all is said (Go's zero value).
pub(crate) fn is_empty(destination: &Value) -> bool {
    destination.as_object().is_none_or(|fields| {
        ["ref", "uri", "CACerts", "audience"]
            .iter()
            .all(|field| fields.get(*field).is_none_or(Value::is_null))
    })
}

/// What is wrong with a destination that has to be there (`ValidateDestination`). `parent`: see
/// [`reference::validate`].
pub(crate) fn validate(destination: &Value, parent: Option<&str>) -> FieldErrors {
    let reference = destination.get("ref").filter(|value| !value.is_null());
    let uri = destination.get("uri").and_then(Value::as_str);
    match (reference, uri) {
        (None, None) => FieldErrors::generic("expected at least one, got none", &["ref", "uri"]),
        (Some(_), Some(uri)) if has_scheme(uri) => FieldErrors::generic(
            "Absolute URI is not allowed when Ref or [apiVersion, kind, name] is present",
            &["[apiVersion, kind, name]", "ref", "uri"],
        ),
        (None, Some(uri)) if !is_absolute(uri) => FieldErrors::invalid(
            "Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent",
            "uri",
        ),
        (Some(reference), _) => reference::validate(reference, parent).via("ref"),
        (None, Some(_)) => FieldErrors::none(),
    }
}

/// The same for `object[field]`, which may be left out.
pub(crate) fn validate_optional(object: &Value, field: &str, parent: Option<&str>) -> FieldErrors {
    match object.get(field).filter(|value| !value.is_null()) {
        Some(destination) => validate(destination, parent).via(field),
        None => FieldErrors::none(),
    }
}

/// The same for `object[field]`, which must be there.
pub(crate) fn validate_required(object: &Value, field: &str, parent: Option<&str>) -> FieldErrors {
    let destination = json::object(object, field).unwrap_or(&Value::Null);
    validate(destination, parent).via(field)
}

/// Whether a URI begins with a scheme, as Go's `URL.IsAbs`.
fn has_scheme(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

/// Whether a URI has a scheme and a host.
fn is_absolute(uri: &str) -> bool {
    has_scheme(uri)
        && uri
            .parse::<Uri>()
            .is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_destination_is_an_object_or_a_uri() {
        let reference = json!({"apiVersion": "v1", "kind": "Service", "name": "a", "namespace": "other"});
        for (destination, parent, wanted) in [
            (json!(null), None, "expected at least one, got none: ref, uri"),
            (
                json!({"ref": {"kind": "K"}}),
                None,
                "missing field(s): ref.apiVersion, ref.name",
            ),
            (json!({"ref": reference}), None, ""),
            (json!({"ref": reference, "uri": "/path"}), None, ""),
            (
                json!({"ref": reference}),
                Some("default"),
                "mismatched namespaces: ref.namespace\nparent namespace: \"default\" does not match ref: \"other\"",
            ),
            (
                json!({"ref": reference, "uri": "http://a"}),
                None,
                "Absolute URI is not allowed when Ref or [apiVersion, kind, name] is present: [apiVersion, kind, name], ref, uri",
            ),
            (json!({"uri": "http://a.b/c"}), None, ""),
            (
                json!({"uri": "/c"}),
                None,
                "invalid value: Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent: uri",
            ),
            (
                json!({"uri": "http:///c"}),
                None,
                "invalid value: Relative URI is not allowed when Ref and [apiVersion, kind, name] is absent: uri",
            ),
        ] {
            let errors = validate(&destination, parent).to_string();
            let errors = errors.trim_start_matches("validation failed: ");
            assert_eq!(errors, wanted, "{destination}");
        }
    }
}
