//! Rules of `metadata` that hold for every kind (k8s.io/apimachinery/pkg/api/validation).

use crate::handler::delete::{FOREGROUND, ORPHAN};
use crate::object;
use crate::status::Cause;
use serde_json::{Value, json};

/// Longest name of most kinds, in bytes (a DNS subdomain).
const SUBDOMAIN_BYTES_MAX: usize = 253;
/// Longest DNS label, in bytes; also the longest label value and the longest name part of a label key.
const LABEL_BYTES_MAX: usize = 63;
/// All annotations of one object, in bytes.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;
/// Longest field manager, in bytes.
pub(crate) const MANAGER_BYTES_MAX: usize = 128;
/// Length of the suffix that `generateName` adds.
const SUFFIX_CHARS: usize = 5;
/// The letters of generated names: no vowels and no look-alikes, as in Kubernetes.
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// A name from a prefix: the prefix, cut so that all fits a DNS label, and five random letters.
pub(crate) fn generate_name(prefix: &str) -> String {
    let mut name = prefix.to_owned();
    name.truncate(name.floor_char_boundary(LABEL_BYTES_MAX - SUFFIX_CHARS));
    for _ in 0..SUFFIX_CHARS {
        let index = rand::random_range(0..SUFFIX_LETTERS.len());
        name.push(char::from(SUFFIX_LETTERS.get(index).copied().unwrap_or(b'x')));
    }
    name
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    text.bytes().all(|b| inner(b) || b == b'-')
        && text.bytes().next().is_some_and(inner)
        && text.bytes().last().is_some_and(inner)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

/// Letters, digits, `-`, `_`, `.`; a letter or digit at both ends.
fn is_word(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().last().is_some_and(|b| b.is_ascii_alphanumeric())
}

fn invalid(field: &str, value: &str, why: &str) -> Cause {
    Cause::new(
        field,
        "FieldValueInvalid",
        format!("Invalid value: {}: {why}", json!(value)),
    )
}

/// What is wrong with a name.
pub(crate) fn check_name(field: &str, name: &str, label_names: bool) -> Vec<Cause> {
    let (bytes_max, fits, rule) = if label_names {
        (LABEL_BYTES_MAX, is_label(name), LABEL)
    } else {
        (SUBDOMAIN_BYTES_MAX, is_subdomain(name), SUBDOMAIN)
    };
    let mut causes = Vec::new();
    if !fits {
        causes.push(invalid(field, name, rule));
    }
    if name.len() > bytes_max {
        causes.push(invalid(
            field,
            name,
            &format!("must be no more than {bytes_max} bytes"),
        ));
    }
    causes
}

/// What is wrong with the name of a field manager (apimachinery `ValidateFieldManager`).
pub(crate) fn check_manager(field: &str, manager: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    if manager.len() > MANAGER_BYTES_MAX {
        let message = format!("Too long: may not be more than {MANAGER_BYTES_MAX} bytes");
        causes.push(Cause::new(field, "FieldValueTooLong", message));
    }
    if let Some((at, letter)) = manager.char_indices().find(|(_, letter)| letter.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(letter));
        causes.push(invalid(field, manager, &why));
    }
    causes
}

/// What is wrong with `metadata.managedFields`, which clients may write (apimachinery `ValidateManagedFields`).
pub(crate) fn check_managed_fields(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let entries = object
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array);
    // One empty entry asks to forget all managers.
    let entries = entries.filter(|entries| **entries != [json!({})]);
    for (index, entry) in entries.into_iter().flatten().enumerate() {
        let field = |key: &str| format!("metadata.managedFields[{index}].{key}");
        let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
        if !matches!(text("operation"), "Apply" | "Update") {
            let why = "must be `Apply` or `Update`";
            causes.push(invalid(&field("operation"), text("operation"), why));
        }
        if !matches!(text("fieldsType"), "" | "FieldsV1") {
            causes.push(invalid(
                &field("fieldsType"),
                text("fieldsType"),
                "must be `FieldsV1`",
            ));
        }
        causes.extend(check_manager(&field("manager"), text("manager")));
    }
    causes
}

/// At most one owner is the controller, and Events own nothing (apimachinery `ValidateOwnerReferences`).
fn check_owners_together(object: &Value, causes: &mut Vec<Cause>) {
    const FIELD: &str = "metadata.ownerReferences";
    let list = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    let mut first: Option<String> = None;
    for owner in list.into_iter().flatten() {
        let text = |pointer: &str| object::text(owner, pointer);
        if text("/apiVersion") == "v1" && text("/kind") == "Event" {
            causes.push(invalid(
                FIELD,
                text("/name"),
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if owner.get("controller") != Some(&Value::Bool(true)) {
            continue;
        }
        let this = format!("{}/{}", text("/kind"), text("/name"));
        match &first {
            Some(first) => {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                causes.push(invalid(FIELD, &this, &why));
            }
            None => first = Some(this),
        }
    }
}

/// What is wrong with the labels, annotations, finalizers and owner references of an object.
pub(crate) fn check(object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let map = |key: &str| {
        object
            .pointer(key)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    };
    for (key, value) in map("/metadata/labels") {
        check_key("metadata.labels", key, &mut causes);
        match value.as_str() {
            Some(text) if text.is_empty() || (text.len() <= LABEL_BYTES_MAX && is_word(text)) => {}
            Some(text) if text.len() > LABEL_BYTES_MAX => {
                causes.push(invalid(
                    "metadata.labels",
                    text,
                    &format!("must be no more than {LABEL_BYTES_MAX} bytes"),
                ));
            }
            Some(text) => causes.push(invalid("metadata.labels", text, LABEL_VALUE)),
            None => causes.push(not_text("metadata.labels", key)),
        }
    }
    let mut annotations_bytes = 0_usize;
    for (key, value) in map("/metadata/annotations") {
        check_key("metadata.annotations", key, &mut causes);
        annotations_bytes += key.len() + value.as_str().map_or(0, str::len);
        if !value.is_string() {
            causes.push(not_text("metadata.annotations", key));
        }
    }
    if annotations_bytes > ANNOTATIONS_BYTES_MAX {
        let message = format!("Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes");
        causes.push(Cause::new("metadata.annotations", "FieldValueTooLong", message));
    }
    for finalizer in object::finalizers(object) {
        check_key("metadata.finalizers", finalizer, &mut causes);
    }
    let finalizers = object::finalizers(object);
    if [FOREGROUND, ORPHAN].iter().all(|both| finalizers.contains(both)) {
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        causes.push(invalid("metadata.finalizers", &finalizers.join(","), &why));
    }
    check_owners_together(object, &mut causes);
    for (index, owner) in object::owners(object).iter().enumerate() {
        let parts = [
            ("apiVersion", &owner.api_version),
            ("kind", &owner.kind),
            ("name", &owner.name),
            ("uid", &owner.uid),
        ];
        for (key, value) in parts {
            if value.is_empty() {
                let field = format!("metadata.ownerReferences[{index}].{key}");
                causes.push(Cause::new(
                    field,
                    "FieldValueInvalid",
                    format!("Invalid value: \"\": {key} must not be empty"),
                ));
            }
        }
    }
    causes
}

fn not_text(field: &str, key: &str) -> Cause {
    Cause::new(
        format!("{field}.{key}"),
        "FieldValueInvalid",
        "Invalid value: must be a string",
    )
}

/// Label and annotation keys: `[prefix/]name`.
fn check_key(field: &str, key: &str, causes: &mut Vec<Cause>) {
    let (prefix, name) = key
        .split_once('/')
        .map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_some_and(|prefix| prefix.len() > SUBDOMAIN_BYTES_MAX || !is_subdomain(prefix)) {
        causes.push(invalid(field, key, &format!("prefix part {SUBDOMAIN}")));
    }
    if name.len() > LABEL_BYTES_MAX {
        causes.push(invalid(
            field,
            key,
            &format!("name part must be no more than {LABEL_BYTES_MAX} bytes"),
        ));
    } else if !is_word(name) {
        causes.push(invalid(field, key, QUALIFIED_NAME));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in ["a", "a-b", "a.b", "9"] {
            assert!(check_name("metadata.name", name, false).is_empty(), "{name}");
        }
        for name in ["", "A", "-a", "a-", "a..b", "ä", &"a".repeat(254)] {
            assert!(!check_name("metadata.name", name, false).is_empty(), "{name}");
        }
        assert!(!check_name("metadata.name", "a.b", true).is_empty());
    }

    #[test]
    fn generated_names_fit_a_label() {
        let name = generate_name(&"é".repeat(60));
        assert!(name.len() <= LABEL_BYTES_MAX && name.is_char_boundary(name.len() - SUFFIX_CHARS));
        assert!(is_label(&generate_name("hello-")));
    }

    #[test]
    fn labels_and_annotations_are_checked() {
        let good = json!({"metadata": {"labels": {"app.kubernetes.io/name": "x", "a": ""}, "annotations": {"b": "ü"}}});
        assert_eq!(check(&good), []);
        let bad = json!({"metadata": {"labels": {"a b": "x", "c": "-", "d": 1}, "annotations": {"/x": "y"}}});
        let fields: Vec<String> = check(&bad).into_iter().map(|cause| cause.field).collect();
        assert_eq!(
            fields,
            [
                "metadata.labels",
                "metadata.labels",
                "metadata.labels.d",
                "metadata.annotations"
            ]
        );
    }
}
