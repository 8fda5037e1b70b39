//! `node.k8s.io/v1` RuntimeClass: the names by which users say what runs their code.

use super::{AGE, NAME, core_kind, created, schema_of, version};
use crate::object::{self, text};
use crate::registry::{Column, Columns, Hooks, Kind, RegistryError};
use crate::status::Cause;
use jiff::Timestamp;
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::Value;

const API_VERSION: &str = "node.k8s.io/v1";
/// The plural, for those who make the objects.
pub(crate) const PLURAL: &str = "runtimeclasses";
/// What they are stored under.
pub(crate) const STORAGE: &str = "runtimeclasses.node.k8s.io";
/// Classes that are there from the start; each is its own handler.
pub(crate) const NAMES: [&str; 3] = ["wasmedge", "wasmtime", "crun"];
/// Longest name of a handler, in bytes: it is a DNS label.
const HANDLER_BYTES_MAX: usize = 63;

pub(super) fn kind() -> Result<Kind, RegistryError> {
    const COLUMNS: &[Column] = &[
        NAME,
        Column {
            name: "Handler",
            kind: "string",
            priority: 0,
        },
        AGE,
    ];
    let cells = |object: &Value, now: Timestamp| {
        vec![
            object::name(object).into(),
            text(object, "/handler").into(),
            created(object, now),
        ]
    };
    let v1 = version(
        API_VERSION,
        schema_of::<RuntimeClass>(),
        Columns::HandMade(COLUMNS, cells),
    )?;
    Ok(Kind {
        group: "node.k8s.io".into(),
        namespaced: false,
        storage_resource: STORAGE.into(),
        storage_api_version: API_VERSION.into(),
        hooks: Hooks {
            validate: Some(check),
            ..Hooks::default()
        },
        ..core_kind(PLURAL, "runtimeclass", "RuntimeClass", "", vec![v1])
    })
}

/// The handler is a DNS label and never changes (kubernetes `pkg/apis/node/validation`).
fn check(old: Option<&Value>, new: &Value) -> Vec<Cause> {
    let handler = text(new, "/handler");
    let mut causes = Vec::new();
    if handler.is_empty() {
        causes.push(Cause::new("handler", "FieldValueRequired", "Required value"));
    } else if !is_label(handler) {
        let message = format!(
            "Invalid value: {handler:?}: a handler is at most {HANDLER_BYTES_MAX} lower case letters, digits and '-', and begins and ends with a letter or digit"
        );
        causes.push(Cause::new("handler", "FieldValueInvalid", message));
    }
    if let Some(old) = old.filter(|old| text(old, "/handler") != handler) {
        let message = format!(
            "Invalid value: {handler:?}: field is immutable: it is {:?}",
            text(old, "/handler")
        );
        causes.push(Cause::new("handler", "FieldValueInvalid", message));
    }
    causes
}

fn is_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= HANDLER_BYTES_MAX
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_handler_has_rules() {
        let class = |handler: &str| json!({"handler": handler});
        assert!(check(None, &class("wasmedge")).is_empty());
        assert_eq!(check(None, &class(""))[0].reason, "FieldValueRequired");
        for bad in ["A", "-a", "a-", "a.b", &"a".repeat(64)] {
            assert_eq!(check(None, &class(bad))[0].reason, "FieldValueInvalid", "{bad}");
        }
        assert!(
            check(Some(&class("a")), &class("b"))[0]
                .message
                .contains("immutable")
        );
    }
}
