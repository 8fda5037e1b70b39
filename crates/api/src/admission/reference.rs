//! References to objects in the same namespace (serving `pkg/apis/serving/k8s_validation.go`,
//! `ValidateNamespacedObjectReference`).

use super::{FieldErrors, json, syntax};
use serde_json::Value;

/// Says what is wrong with a text; nothing when it is good.
type Rule = fn(&str) -> Vec<String>;

/// That a reference names apiVersion, kind and name, and nothing else.
pub fn validate(reference: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let beyond = json::set_beyond(reference, &["apiVersion", "kind", "name"]);
    if !beyond.is_empty() {
        errors.also(FieldErrors::disallowed(&beyond));
    }
    let rules: [(&str, Rule); 3] = [
        ("apiVersion", syntax::qualified_name),
        ("kind", syntax::c_identifier),
        ("name", syntax::dns_1123_label),
    ];
    for (field, rule) in rules {
        let value = json::text(reference, field);
        let wrong = rule(value);
        if value.is_empty() {
            errors.also(FieldErrors::missing(&[field]));
        } else if !wrong.is_empty() {
            errors.also(FieldErrors::invalid(wrong.join(", "), field));
        }
    }
    errors
}
