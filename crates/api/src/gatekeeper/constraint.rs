//! Constraints: the kinds that ConstraintTemplates make. Where a policy holds, what follows, and its parameters
//! (frameworks `constraint/pkg/client/crds`, gatekeeper `pkg/target/matchcrd_constant.go`).

use super::constraint_template::ConstraintTemplate;
use super::{CONSTRAINTS_GROUP, legacy_schema};
use crate::admission::{FieldErrors, Request, json};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

/// What may follow when a policy is violated.
pub const ENFORCEMENT_ACTIONS: [&str; 4] = ["deny", "dryrun", "warn", "scoped"];
/// Longest name of a constraint, in bytes: it becomes the value of labels.
const NAME_BYTES_MAX: usize = 63;

/// The definition of the kind that a template makes.
///
/// # Errors
/// When its schema is not in the form of a schema at all. What else is wrong with it shows when it is compiled.
pub fn definition(template: &ConstraintTemplate) -> Result<CustomResourceDefinition, serde_json::Error> {
    let names = &template.spec.crd.spec.names;
    let plural = names.kind.to_lowercase();
    let validation = template.spec.crd.spec.validation.clone().unwrap_or_default();
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let parameters = match validation.open_api_v3_schema {
        Some(mut schema) => {
            if validation.legacy_schema == Some(true) {
                legacy_schema::make_structural(&mut schema);
            }
            schema
        }
        None => any.clone(),
    };
    let schema = json!({
        "type": "object",
        "description": format!("{} says where the policy of the ConstraintTemplate {plural} holds, and with which parameters.", names.kind),
        "properties": {
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": NAME_BYTES_MAX}}},
            "spec": {
                "type": "object",
                "properties": {
                    "enforcementAction": {"type": "string", "description": "What follows when the policy is violated: deny (the default), warn, dryrun or scoped."},
                    "scopedEnforcementActions": {
                        "type": "array",
                        "description": "With enforcementAction scoped: what follows where.",
                        "items": {"type": "object", "properties": {
                            "action": {"type": "string"},
                            "enforcementPoints": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
                        }},
                    },
                    "match": match_schema(),
                    "parameters": parameters,
                },
            },
            "status": any,
        },
    });
    let version = |name: &str, storage: bool| {
        json!({
            "name": name,
            "served": true,
            "storage": storage,
            "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": schema},
            "additionalPrinterColumns": [
                {"name": "enforcement-action", "type": "string", "jsonPath": ".spec.enforcementAction", "description": "Type of enforcement action"},
                {"name": "total-violations", "type": "integer", "jsonPath": ".status.totalViolations", "description": "Total number of violations"},
            ],
        })
    };
    serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{CONSTRAINTS_GROUP}"), "labels": {"gatekeeper.sh/constraint": "yes"}},
        "spec": {
            "group": CONSTRAINTS_GROUP,
            "scope": "Cluster",
            "names": {
                "kind": names.kind, "listKind": format!("{}List", names.kind), "plural": plural, "singular": plural,
                "shortNames": names.short_names, "categories": ["constraint", "constraints"],
            },
            "versions": [version("v1beta1", true), version("v1alpha1", false)],
        },
    }))
}

/// The schema of `spec.match`: all of it must hold, what is left out holds always.
fn match_schema() -> Value {
    let texts =
        |description: &str| json!({"type": "array", "items": {"type": "string"}, "description": description});
    let selector = |description: &str| {
        json!({
            "type": "object",
            "description": description,
            "properties": {
                "matchLabels": {"type": "object", "additionalProperties": {"type": "string"}},
                "matchExpressions": {"type": "array", "items": {"type": "object", "properties": {
                    "key": {"type": "string"},
                    "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]},
                    "values": {"type": "array", "items": {"type": "string"}},
                }}},
            },
        })
    };
    json!({
        "type": "object",
        "description": "The objects that the policy is asked about: all of this must hold, what is left out holds always.",
        "properties": {
            "kinds": {"type": "array", "items": {"type": "object", "properties": {
                "apiGroups": texts("Groups, \"*\" for all."),
                "kinds": texts("Kinds, \"*\" for all."),
            }}},
            "scope": {"type": "string", "enum": ["*", "Cluster", "Namespaced"]},
            "namespaces": texts("Namespaces; a name may begin or end with *."),
            "excludedNamespaces": texts("Namespaces that are left out; a name may begin or end with *."),
            "labelSelector": selector("Labels of the object."),
            "namespaceSelector": selector("Labels of the object's namespace."),
            "name": {"type": "string", "description": "The object's name; it may begin or end with *."},
            "source": {"type": "string", "enum": ["All", "Generated", "Original"]},
        },
    })
}

/// Fills in what follows when the policy is violated.
pub(crate) fn default(_request: &Request<'_>, object: &mut Value) {
    if let Some(spec) = json::fill(object, "spec") {
        json::default_unset(spec, "enforcementAction", "deny");
    }
}

/// What is wrong with a constraint that no schema can say.
pub(crate) fn validate(_request: &Request<'_>, object: &Value) -> FieldErrors {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let action = json::text(spec, "enforcementAction");
    let mut errors = FieldErrors::none();
    if !ENFORCEMENT_ACTIONS.contains(&action) {
        let why = format!("supported: {}", ENFORCEMENT_ACTIONS.join(", "));
        errors.also(FieldErrors::invalid_because(action, "enforcementAction", why));
    }
    let scoped = json::items(spec, "scopedEnforcementActions");
    if action == "scoped" && scoped.is_empty() {
        errors.also(FieldErrors::missing(&["scopedEnforcementActions"]));
    }
    errors.via("spec")
}
