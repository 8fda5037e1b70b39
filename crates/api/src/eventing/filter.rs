//! Filters of Triggers (eventing `pkg/apis/eventing/v1/trigger_validation.go`).

use crate::admission::{FieldErrors, json};
use serde_json::{Map, Value};

/// What a filter can be; each holds one of them.
pub const DIALECTS: [&str; 7] = ["exact", "prefix", "suffix", "all", "any", "not", "cesql"];
/// Filters within filters that are looked at.
const DEPTH_MAX: usize = 16;

/// What is wrong with a list of filters. Paths begin with the index.
pub(crate) fn validate_all(filters: &[Value]) -> FieldErrors {
    validate_list(filters, DEPTH_MAX)
}

fn validate_list(filters: &[Value], depth: usize) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for (index, filter) in filters.iter().enumerate() {
        errors.also(validate(filter, depth).via(&format!("[{index}]")));
    }
    errors
}

fn validate(filter: &Value, depth: usize) -> FieldErrors {
    let Some(depth) = depth.checked_sub(1) else {
        return FieldErrors::generic(format!("filters are nested deeper than {DEPTH_MAX}"), &[""]);
    };
    let mut errors = FieldErrors::none();
    let set = |dialect: &&&str| filter.get(**dialect).is_some_and(json::is_set);
    if DIALECTS.iter().filter(set).count() > 1 {
        let message = "multiple dialects found, filters can have only one dialect";
        errors.also(FieldErrors::generic(message, &[""]));
    }
    let unknown = filter.as_object().into_iter().flatten();
    for (name, _) in unknown.filter(|(name, _)| !DIALECTS.contains(&name.as_str())) {
        let why = format!("a filter is one of: {}", DIALECTS.join(", "));
        errors.also(FieldErrors::invalid_key(name, "", why));
    }
    for dialect in ["exact", "prefix", "suffix"] {
        if let Some(attributes) = filter.get(dialect) {
            errors.also(attribute_names(attributes).via(dialect));
        }
    }
    for dialect in ["all", "any"] {
        errors.also(validate_list(json::items(filter, dialect), depth).via(dialect));
    }
    if let Some(inner) = json::object(filter, "not") {
        errors.also(validate(inner, depth).via("not"));
    }
    errors
}

/// Attributes whose name no CloudEvent can have, and values that are no text.
pub(crate) fn attribute_names(attributes: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for (name, value) in attributes.as_object().unwrap_or(&Map::new()) {
        let key = format!("[{name}]");
        if !is_attribute_name(name) {
            let why = "Attribute name must start with a letter and can only contain lowercase alphanumeric";
            errors.also(FieldErrors::invalid_key(name, &key, why));
        }
        if !value.is_string() {
            errors.also(FieldErrors::invalid_because(
                value,
                &key,
                "must be a string; put it in quotes",
            ));
        }
    }
    errors
}

/// `^[a-z][a-z0-9]*$`
fn is_attribute_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}
