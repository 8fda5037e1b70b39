//! What must not change, in the words of Knative eventing (`CheckImmutableFields` of its kinds).

use super::{FieldErrors, Request, diff, metadata};
use serde_json::{Map, Value};

const MESSAGE: &str = "Immutable fields changed (-old +new)";

/// That nothing of the spec changed but the fields `mutable`.
pub(crate) fn spec_but(mutable: &[&str], request: &Request<'_>, object: &Value) -> FieldErrors {
    let Some(old) = request.replaced() else {
        return FieldErrors::none();
    };
    let rest = |object: &Value| {
        let mut spec: Map<String, Value> = object
            .get("spec")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        spec.retain(|field, _| !mutable.contains(&field.as_str()));
        Value::Object(spec)
    };
    changed(&diff::short(&rest(old), &rest(object), "spec"), "spec")
}

/// That the values at `pointers` did not change; `path` names them.
pub(crate) fn fields(pointers: &[&str], path: &str, request: &Request<'_>, object: &Value) -> FieldErrors {
    let Some(old) = request.replaced() else {
        return FieldErrors::none();
    };
    let mut text = String::new();
    for pointer in pointers {
        let value = |object: &Value| object.pointer(pointer).cloned().unwrap_or_default();
        text.push_str(&diff::short(&value(old), &value(object), path));
    }
    changed(&text, path)
}

/// That an annotation did not change.
pub(crate) fn annotation(key: &str, request: &Request<'_>, object: &Value) -> FieldErrors {
    let Some(old) = request.replaced() else {
        return FieldErrors::none();
    };
    let value = |object: &Value| {
        metadata::annotations(object)
            .get(key)
            .cloned()
            .unwrap_or_default()
    };
    let (old, new) = (value(old), value(object));
    if old == new {
        return FieldErrors::none();
    }
    FieldErrors::detailed(
        "Immutable annotations changed (-old +new)",
        &["annotations"],
        format!("{{string}}:\n\t-: {old:?}\n\t+: {new:?}\n"),
    )
}

fn changed(diff: &str, path: &str) -> FieldErrors {
    if diff.is_empty() {
        return FieldErrors::none();
    }
    FieldErrors::detailed(MESSAGE, &[path], diff)
}
