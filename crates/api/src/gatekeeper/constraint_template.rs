//! ConstraintTemplate: a policy in Rego or CEL, and the kind that says where it holds (frameworks
//! `constraint/pkg/apis/templates/v1/constrainttemplate_types.go`, `constraint/pkg/client/crds`).

use crate::admission::{FieldErrors, Request, json};
use crate::duck::{any_object, any_objects};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The only target: admission of Kubernetes objects.
pub const TARGET: &str = "admission.k8s.gatekeeper.sh";
/// The languages of policies.
pub const ENGINES: [&str; 2] = ["Rego", "K8sNativeValidation"];
/// Longest name of a kind, in bytes: it is the first label of a definition's name.
const KIND_BYTES_MAX: usize = 63;

/// What the user wants: the kind and the policy.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "templates.gatekeeper.sh",
    version = "v1",
    kind = "ConstraintTemplate",
    plural = "constrainttemplates",
    singular = "constrainttemplate",
    status = "ConstraintTemplateStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "ConstraintTemplate is a policy. It makes a kind in constraints.gatekeeper.sh, whose objects say where the policy holds.",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ConstraintTemplateSpec {
    /// The kind that is made.
    #[serde(default)]
    pub crd: Crd,
    /// The policy: exactly one, for the target admission.k8s.gatekeeper.sh.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
}

/// The kind that is made.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct Crd {
    /// Its definition.
    #[serde(default)]
    pub spec: CrdSpec,
}

/// Its definition.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct CrdSpec {
    /// Its names.
    #[serde(default)]
    pub names: Names,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
}

/// The names of a kind.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Names {
    /// The kind. The template's name is the same in lower case.
    #[serde(default)]
    pub kind: String,
    /// Short names for kubectl.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub short_names: Vec<String>,
}

/// The parameters of a kind.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// The schema of spec.parameters.
    #[serde(default, rename = "openAPIV3Schema", skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub open_api_v3_schema: Option<Value>,
    /// Whether the schema may leave out types, and unknown parameters are kept. Default: true in v1beta1 and v1alpha1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy_schema: Option<bool>,
}

/// A policy.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct Target {
    /// admission.k8s.gatekeeper.sh.
    #[serde(default)]
    pub target: String,
    /// The policy in Rego: a package that defines `violation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rego: Option<String>,
    /// Packages `lib.…` that the policy imports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub libs: Vec<String>,
    /// The policy in languages that are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub code: Vec<Code>,
    /// Operations that the policy is asked about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<String>,
}

/// A policy in one language.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
pub struct Code {
    /// Rego or K8sNativeValidation.
    #[serde(default)]
    pub engine: String,
    /// What the language needs.
    #[serde(default)]
    #[schemars(schema_with = "any_object")]
    pub source: Value,
}

/// What became of a template.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConstraintTemplateStatus {
    /// Whether its kind is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<bool>,
    /// What each enforcing program says of it: id, observedGeneration, errors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "any_objects")]
    pub by_pod: Vec<Value>,
}

/// Fills in `legacySchema`, which the older versions have on.
pub(crate) fn default(request: &Request<'_>, object: &mut Value) {
    let legacy = !request.api_version.ends_with("/v1");
    if let Some(spec) = json::fill(object, "spec")
        && let Some(validation) = spec
            .pointer_mut("/crd/spec/validation")
            .filter(|validation| validation.is_object())
    {
        json::default(validation, "legacySchema", legacy);
    }
}

/// What is wrong with a ConstraintTemplate, but for its schema, which the API server compiles.
pub(crate) fn validate(request: &Request<'_>, object: &Value) -> FieldErrors {
    let name = object
        .get("metadata")
        .map(|metadata| json::text(metadata, "name"))
        .unwrap_or_default();
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let names = spec.pointer("/crd/spec/names").unwrap_or(&Value::Null);
    let mut errors = validate_kind(name, json::text(names, "kind")).via("spec.crd.spec.names.kind");
    if let Some(old) = request.replaced() {
        let kind = "/spec/crd/spec/names/kind";
        if old.pointer(kind) != object.pointer(kind) && errors.is_empty() {
            errors.also(FieldErrors::generic(
                "the kind of a template cannot change: delete the template and make a new one",
                &["spec.crd.spec.names.kind"],
            ));
        }
    }
    let targets = json::items(spec, "targets");
    match targets {
        [target] => errors.also(validate_target(target).via("spec.targets[0]")),
        _ => {
            let message = format!("expected exactly 1 item in targets, got {}", targets.len());
            errors.also(FieldErrors::generic(message, &["spec.targets"]));
        }
    }
    errors
}

fn validate_kind(name: &str, kind: &str) -> FieldErrors {
    if kind.is_empty() {
        return FieldErrors::missing(&[""]);
    }
    let letters = kind.starts_with(|c: char| c.is_ascii_alphabetic())
        && kind.bytes().all(|b| b.is_ascii_alphanumeric());
    if !letters || kind.len() > KIND_BYTES_MAX {
        let why = format!("a kind is at most {KIND_BYTES_MAX} letters and digits, and begins with a letter");
        return FieldErrors::invalid_because(kind, "", why);
    }
    if kind.to_lowercase() != name {
        let message = format!(
            "template's name {name} is not equal to the lowercase of CRD's Kind: {}",
            kind.to_lowercase()
        );
        return FieldErrors::generic(message, &[""]);
    }
    FieldErrors::none()
}

fn validate_target(target: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let name = json::text(target, "target");
    if name.is_empty() {
        errors.also(FieldErrors::missing(&["target"]));
    } else if name != TARGET {
        let why = format!("the only target is {TARGET}");
        errors.also(FieldErrors::invalid_because(name, "target", why));
    }
    let rego = json::text(target, "rego");
    let code = json::items(target, "code");
    if rego.is_empty() && code.is_empty() {
        errors.also(FieldErrors::missing_one_of(&["rego", "code"]));
    }
    if !rego.is_empty() {
        errors.also(validate_rego(rego).via("rego"));
        errors.also(validate_libs(target));
    }
    for (index, code) in code.iter().enumerate() {
        errors.also(validate_code(code).via_index("code", index));
    }
    errors
}

fn validate_code(code: &Value) -> FieldErrors {
    let engine = json::text(code, "engine");
    if !ENGINES.contains(&engine) {
        let why = format!("must be one of: {}", ENGINES.join(", "));
        return FieldErrors::invalid_because(engine, "engine", why);
    }
    let Some(source) = json::object(code, "source") else {
        return FieldErrors::missing(&["source"]);
    };
    let mut errors = FieldErrors::none();
    if engine == "Rego" {
        match json::text(source, "rego") {
            "" => errors.also(FieldErrors::missing(&["rego"])),
            rego => errors.also(validate_rego(rego).via("rego")),
        }
        errors.also(validate_libs(source));
    } else if json::items(source, "validations").is_empty() {
        errors.also(FieldErrors::missing(&["validations"]));
    }
    errors.via("source")
}

/// What can be seen without a compiler: a package, and a rule `violation` (Gatekeeper refuses a template without).
fn validate_rego(rego: &str) -> FieldErrors {
    let mut lines = code_lines(rego);
    if !lines.next().is_some_and(|line| line.starts_with("package ")) {
        return FieldErrors::generic(
            "the policy must begin with its package, such as: package policy",
            &[""],
        );
    }
    if !lines.any(|line| line.starts_with("violation")) {
        return FieldErrors::generic("the policy must define the rule violation", &[""]);
    }
    FieldErrors::none()
}

fn validate_libs(source: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for (index, lib) in json::items(source, "libs").iter().enumerate() {
        let package = code_lines(lib.as_str().unwrap_or_default())
            .next()
            .unwrap_or_default();
        if !package.starts_with("package lib.") {
            let message = "a library's package must begin with lib, such as: package lib.helpers";
            errors.also(FieldErrors::generic(message, &[&format!("libs[{index}]")]));
        }
    }
    errors
}

/// Lines that are neither empty nor comments.
fn code_lines(rego: &str) -> impl Iterator<Item = &str> {
    rego.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}
