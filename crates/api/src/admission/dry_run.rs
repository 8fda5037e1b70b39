//! The pod that a template stands for, tried before it is accepted, when the owner or the administrator wants that
//! (serving `pkg/webhook/{validate_unstructured,podspec_dryrun}.go`).
//!
//! Knative has its cluster's API server look at the pod; here the rules of that server are looked at themselves
//! (kubernetes `pkg/apis/core/validation/validation.go`, its admission of ServiceAccounts and RuntimeClasses), as far as
//! they ask for more than the rules for templates do, and the refusal has the same form.

use super::{FieldErrors, Request, json, metadata, syntax};
use crate::config::features;
use crate::meta;
use serde_json::Value;

/// What the annotation may say. `strict` differs in a cluster only, where something may not know dry runs.
const MODES: [&str; 2] = ["enabled", "strict"];
/// The name of the pod that is tried.
const POD: &str = "dry-run-validation";
/// The field that a refusal names.
const PATH: &str = "spec.template";

/// What a pod needs besides its own spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed<'a> {
    /// A ServiceAccount of its namespace.
    ServiceAccount {
        /// The namespace.
        namespace: &'a str,
        /// The name.
        name: &'a str,
    },
    /// A RuntimeClass.
    RuntimeClass {
        /// The name.
        name: &'a str,
    },
}

/// Whether the template of an object is to be tried: a new or changed one of a Service, or of a Configuration that no
/// Service made, when the annotation asks for it or the feature is on for all.
#[must_use]
pub fn is_wanted(request: &Request<'_>, object: &Value) -> bool {
    let flags = &request.settings.features;
    let is_of_service = object
        .pointer("/metadata/labels")
        .is_some_and(|labels| !json::text(labels, meta::SERVICE_LABEL).is_empty());
    let has_template = match request.kind {
        "Service" => true,
        "Configuration" => !is_of_service,
        _ => false,
    };
    if !has_template || !flags.has(features::POD_DRY_RUN) {
        return false;
    }
    let asked = metadata::annotations(object)
        .get(meta::POD_DRY_RUN_ANNOTATION)
        .is_some_and(|mode| MODES.contains(&mode.as_str()));
    let template = |object: &Value| object.pointer("/spec/template").cloned();
    let is_same = request
        .replaced()
        .is_some_and(|old| template(old) == template(object));
    (asked || flags.is_enabled(features::POD_DRY_RUN)) && !is_same
}

/// Tries the pod of an object's template. `exists`: whether what it needs is there.
///
/// # Errors
/// Why a cluster would refuse the pod, in the words of Knative's webhook.
pub fn check(object: &Value, exists: &dyn Fn(Needed<'_>) -> bool) -> Result<(), String> {
    let spec = object.pointer("/spec/template/spec").unwrap_or(&Value::Null);
    let namespace = object
        .get("metadata")
        .map(|metadata| json::text(metadata, "namespace"))
        .unwrap_or_default();
    let wrong = invalid(spec);
    let why = match wrong.as_slice() {
        [] => forbidden(spec, namespace, exists),
        [one] => Some(format!("Pod {POD:?} is invalid: {one}")),
        several => Some(format!("Pod {POD:?} is invalid: [{}]", several.join(", "))),
    };
    match why {
        None => Ok(()),
        Some(why) => Err(format!(
            "validation callback failed: dry run failed with {why}: {PATH}"
        )),
    }
}

/// What the pod's own fields break.
fn invalid(spec: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, container) in json::items(spec, "containers").iter().enumerate() {
        let name = json::text(container, "name");
        let path = format!("spec.containers[{index}].name");
        if name.is_empty() {
            wrong.push(format!("{path}: Required value"));
        }
        let why = if name.is_empty() {
            Vec::new()
        } else {
            syntax::dns_1123_label(name)
        };
        wrong.extend(
            why.iter()
                .map(|why| format!("{path}: Invalid value: {name:?}: {why}")),
        );
    }
    for (index, volume) in json::items(spec, "volumes").iter().enumerate() {
        for (source, field) in [("secret", "secretName"), ("configMap", "name")] {
            if json::object(volume, source).is_some_and(|files| json::text(files, field).is_empty()) {
                wrong.push(format!("spec.volumes[{index}].{source}.{field}: Required value"));
            }
        }
    }
    wrong
}

/// What the pod needs that is not there.
fn forbidden(spec: &Value, namespace: &str, exists: &dyn Fn(Needed<'_>) -> bool) -> Option<String> {
    let missing = |name: &str, needed: Needed<'_>| !name.is_empty() && !exists(needed);
    let name = json::text(spec, "serviceAccountName");
    if missing(name, Needed::ServiceAccount { namespace, name }) {
        return Some(format!(
            "pods {POD:?} is forbidden: error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        ));
    }
    let name = json::text(spec, "runtimeClassName");
    missing(name, Needed::RuntimeClass { name })
        .then(|| format!("pods {POD:?} is forbidden: pod rejected: RuntimeClass {name:?} not found"))
}

/// Names of containers that are no labels, for templates that are not tried: no pod refuses them later.
pub fn container_names(request: &Request<'_>, object: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    if is_wanted(request, object) {
        return errors;
    }
    let containers = object.pointer("/spec/template/spec").unwrap_or(&Value::Null);
    for (index, container) in json::items(containers, "containers").iter().enumerate() {
        let name = json::text(container, "name");
        if name.is_empty() {
            continue;
        }
        for why in syntax::dns_1123_label(name) {
            errors.also(FieldErrors::invalid_because(name, "name", why).via_index("containers", index));
        }
    }
    errors.via("spec")
}

#[cfg(test)]
#[path = "dry_run_tests.rs"]
mod tests;
