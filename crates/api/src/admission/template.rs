//! The template of a Service and a Configuration, and the spec of a Revision: defaults and rules (serving
//! `pkg/apis/serving/v1/revision_{defaults,validation}.go`).

use super::{FieldErrors, Operation, Request, container, diff, dry_run, json, metadata, pod_spec, syntax};
use crate::config::{Defaults, Settings};
use serde_json::Value;

/// Fills in `spec.template` of an object.
///
/// Where the user chose the revision's name and it did not change, the template must not change either. It is then
/// left as it is, unless defaults alone make it what is stored.
pub fn default(request: &Request<'_>, object: &mut Value) {
    let parent = object.get("metadata").cloned().unwrap_or_default();
    let Some(template) = json::fill(object, "spec").and_then(|spec| json::fill(spec, "template")) else {
        return;
    };
    let stored = request.replaced().and_then(|old| old.pointer("/spec/template"));
    let keeps_name = stored.is_some_and(|old| !name(template).is_empty() && name(old) == name(template));
    if !keeps_name {
        if let Some(spec) = json::fill(template, "spec") {
            default_spec(request, spec, &parent);
        }
        return;
    }
    let mut as_new = template.clone();
    if let Some(spec) = json::fill(&mut as_new, "spec") {
        let as_new = Request {
            operation: Operation::Create,
            ..*request
        };
        default_spec(&as_new, spec, &parent);
    }
    if stored == Some(&as_new) {
        *template = as_new;
    } else if let Some(spec) = json::fill(template, "spec") {
        container::write_quantities_as_text(spec);
    }
}

fn name(template: &Value) -> &str {
    template
        .get("metadata")
        .map(|metadata| json::text(metadata, "name"))
        .unwrap_or_default()
}

/// Fills in the spec of a Revision or of a template; `parent` is the metadata of the object that has the template.
pub fn default_spec(request: &Request<'_>, spec: &mut Value, parent: &Value) {
    let defaults = &request.settings.defaults;
    json::remove_nulls(spec);
    json::default_unset(spec, "timeoutSeconds", defaults.revision_timeout_seconds);
    let timeout = json::integer(spec, "timeoutSeconds").unwrap_or_default();
    let response_start = defaults.revision_response_start_timeout_seconds;
    if response_start < timeout {
        json::default(spec, "responseStartTimeoutSeconds", response_start);
    }
    let idle = defaults.revision_idle_timeout_seconds;
    if (1..timeout).contains(&idle) {
        json::default(spec, "idleTimeoutSeconds", idle);
    }
    json::default(spec, "containerConcurrency", defaults.container_concurrency);
    pod_spec::default(request, spec, parent);
}

/// What is wrong with `spec.template` of an object.
pub fn validate(request: &Request<'_>, object: &Value) -> FieldErrors {
    let nothing = Value::Null;
    let template = object.pointer("/spec/template").unwrap_or(&nothing);
    let mut errors = validate_spec(request.settings, template.get("spec").unwrap_or(&nothing)).via("spec");
    errors.also(dry_run::container_names(request, object));
    let annotations = metadata::annotations(template);
    errors.also(
        metadata::template_annotations(&annotations, &request.settings.autoscaler)
            .via("metadata.annotations"),
    );
    errors.also(metadata::networking_annotations(&annotations).via("metadata.annotations"));
    errors.also(metadata::texts(template.get("metadata").unwrap_or(&nothing)).via("metadata"));
    errors.also(revision_name(
        template,
        object.get("metadata").unwrap_or(&nothing),
    ));
    if let Some(old) = request.replaced().and_then(|old| old.pointer("/spec/template")) {
        errors.also(name_change(old, template));
    }
    errors.via("spec.template")
}

/// A name that the user chose for the revision: a label that begins with the parent's name.
fn revision_name(template: &Value, parent: &Value) -> FieldErrors {
    let metadata = template.get("metadata").unwrap_or(&Value::Null);
    let generate_name = json::text(metadata, "generateName");
    if !generate_name.is_empty() {
        let wrong = syntax::dns_1035_prefix(generate_name);
        if !wrong.is_empty() {
            let value = format!("not a DNS 1035 label prefix: {}", syntax::list(&wrong));
            return FieldErrors::invalid(value, "metadata.generateName");
        }
    }
    let name = json::text(metadata, "name");
    if name.is_empty() {
        return FieldErrors::none();
    }
    let wrong = syntax::dns_1035_label(name);
    if !wrong.is_empty() {
        let value = format!("not a DNS 1035 label: {}", syntax::list(&wrong));
        return FieldErrors::invalid(value, "metadata.name");
    }
    let parent_name = json::text(parent, "name");
    if parent_name.is_empty() {
        // With generateName the parent's name is not known yet.
        return FieldErrors::disallowed(&["metadata.name"]);
    }
    let prefix = format!("{parent_name}-");
    if name.starts_with(&prefix) {
        return FieldErrors::none();
    }
    FieldErrors::invalid(format!("{name:?} must have prefix {prefix:?}"), "metadata.name")
}

fn name_change(old: &Value, new: &Value) -> FieldErrors {
    if name(new).is_empty() || name(new) != name(old) || new == old {
        return FieldErrors::none();
    }
    let message = "Saw the following changes without a name change (-old +new)";
    FieldErrors::detailed(message, &["metadata.name"], diff::short(old, new, "template"))
}

/// That a Revision's spec stays what it was.
pub fn immutable(old: &Value, new: &Value) -> FieldErrors {
    let spec = |object: &Value| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        json::remove_nulls(&mut spec);
        container::write_quantities_as_text(&mut spec);
        spec
    };
    let (old, new) = (spec(old), spec(new));
    if old == new {
        return FieldErrors::none();
    }
    FieldErrors::detailed(
        "Immutable fields changed (-old +new)",
        &["spec"],
        diff::short(&old, &new, "spec"),
    )
}

/// What is wrong with the spec of a Revision or of a template.
pub fn validate_spec(settings: &Settings, spec: &Value) -> FieldErrors {
    let mut errors = pod_spec::validate(&settings.features, spec);
    errors.also(timeouts(spec, &settings.defaults));
    errors.also(container_concurrency(spec, &settings.defaults));
    errors
}

fn timeouts(spec: &Value, defaults: &Defaults) -> FieldErrors {
    let max = defaults.max_revision_timeout_seconds;
    let mut errors = FieldErrors::none();
    let mut bound = |field: &str, max: i64| {
        if let Some(seconds) = json::integer(spec, field).filter(|seconds| !(0..=max).contains(seconds)) {
            errors.also(FieldErrors::out_of_bounds(seconds, 0, max, field));
        }
    };
    bound("timeoutSeconds", max);
    let timeout = json::integer(spec, "timeoutSeconds").unwrap_or(defaults.revision_timeout_seconds);
    if (0..=max).contains(&timeout) {
        bound("responseStartTimeoutSeconds", timeout);
        bound("idleTimeoutSeconds", timeout);
    }
    errors
}

/// The calls that one instance takes at a time.
pub fn container_concurrency(spec: &Value, defaults: &Defaults) -> FieldErrors {
    let least = i64::from(!defaults.allow_container_concurrency_zero);
    let most = defaults.container_concurrency_max_limit;
    match json::integer(spec, "containerConcurrency") {
        Some(concurrency) if !(least..=most).contains(&concurrency) => {
            FieldErrors::out_of_bounds(concurrency, least, most, "containerConcurrency")
        }
        _ => FieldErrors::none(),
    }
}
