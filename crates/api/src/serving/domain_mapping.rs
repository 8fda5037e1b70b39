//! DomainMapping: a host name of the user's own for a Service (`pkg/apis/serving/v1beta1/domainmapping_*.go`).

use super::Addressable;
use crate::admission::{FieldErrors, Request, json, metadata, syntax};
use crate::condition::ConditionSet;
use crate::duck::{KReference, Status, reference};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Condition types of a DomainMapping (`domainmapping_types.go`).
pub mod condition {
    /// Everything below is True.
    pub const READY: &str = crate::condition::READY;
    /// The object that the name leads to was found.
    pub const REFERENCE_RESOLVED: &str = "ReferenceResolved";
    /// The gateway routes the name.
    pub const INGRESS_READY: &str = "IngressReady";
    /// The name belongs to this namespace.
    pub const DOMAIN_CLAIMED: &str = "DomainClaimed";
    /// The name has the certificate that it needs, if it needs one.
    pub const CERTIFICATE_PROVISIONED: &str = "CertificateProvisioned";
}

/// Reasons of a DomainMapping (`domainmapping_lifecycle.go`).
pub mod reason {
    /// The object that the name leads to cannot be called.
    pub const RESOLVE_FAILED: &str = "ResolveFailed";
    /// The name belongs to another namespace, or to none.
    pub const DOMAIN_ALREADY_CLAIMED: &str = "DomainAlreadyClaimed";
    /// The claim could not be made.
    pub const DOMAIN_CLAIM_FAILED: &str = "DomainClaimFailed";
    /// CertificateProvisioned is True: the user named the Secret.
    pub const CERTIFICATE_EXTERNALLY_PROVIDED: &str = "CertificateExternallyProvided";
}

/// How a DomainMapping's conditions depend on each other.
pub const CONDITIONS: ConditionSet = ConditionSet::living(&[
    condition::REFERENCE_RESOLVED,
    condition::INGRESS_READY,
    condition::DOMAIN_CLAIMED,
    condition::CERTIFICATE_PROVISIONED,
]);

/// Hosts below this are the platform's own.
const LOCAL_DOMAIN: &str = "cluster.local";

/// What the user wants: where the name leads.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "serving.knative.dev",
    version = "v1beta1",
    kind = "DomainMapping",
    plural = "domainmappings",
    singular = "domainmapping",
    namespaced,
    status = "DomainMappingStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "all",
    category = "knative",
    category = "serving",
    shortname = "dm",
    doc = "DomainMapping gives a Service a host name of the user's own: the object's name.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.url"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct DomainMappingSpec {
    /// The object that the name leads to, in the same namespace.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<KReference>,
    /// The certificate for the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<SecretTls>,
}

/// A certificate.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretTls {
    /// The Secret that holds it, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
}

/// What became of a DomainMapping.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DomainMappingStatus {
    /// What every status begins with.
    #[serde(flatten)]
    pub status: Status,
    /// Where it is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The same, for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Addressable>,
}

/// Fills in the namespace of the reference.
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let namespace = metadata::namespace(object).to_owned();
    if let Some(spec) = json::fill(object, "spec") {
        json::remove_nulls(spec);
        if let Some(target) = spec.get_mut("ref") {
            reference::default(target, &namespace);
        }
    }
    metadata::set_user_info(request, object);
}

/// What is wrong with a DomainMapping.
pub(crate) fn validate(request: &Request<'_>, object: &Value) -> FieldErrors {
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let mut errors = FieldErrors::none();
    if !json::text(metadata, "generateName").is_empty() {
        errors.also(FieldErrors::disallowed(&["generateName"]));
    }
    let name = json::text(metadata, "name");
    let wrong = syntax::fully_qualified_domain_name(name);
    if !wrong.is_empty() {
        let message = format!("invalid name {name:?}: {}", syntax::list(&wrong));
        errors.also(FieldErrors::generic(message, &["name"]));
    }
    if name.ends_with(&format!(".{LOCAL_DOMAIN}")) {
        let message = format!(
            "invalid name {name:?}: must not be a subdomain of cluster local domain {LOCAL_DOMAIN:?}"
        );
        errors.also(FieldErrors::generic(message, &["name"]));
    }
    let mut errors = errors.via("metadata");
    let target = object.pointer("/spec/ref").unwrap_or(&Value::Null);
    errors.also(reference::validate(target, Some(metadata::namespace(object))).via("spec.ref"));
    errors.also(metadata::http_protocol(object));
    errors.also(metadata::creator_and_modifier(request, object));
    errors
}
