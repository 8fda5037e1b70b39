//! JSON patch (RFC 6902), with the habits of Kubernetes' Go implementation.

use super::PatchError;
use crate::decode;
use json_patch::{PatchOperation, jsonptr::Pointer};
use serde_json::Value;

/// Operations in one patch (apiserver `pkg/endpoints/handlers/patch.go`).
pub const OPERATIONS_MAX: usize = 10_000;
/// What all `copy` operations of one patch may add, in bytes of JSON.
pub const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// The document after all operations. Either all are applied or none.
pub fn apply(document: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let operations = parse(patch)?;
    let mut patched = document.clone();
    let mut copied_bytes = 0_usize;
    for (index, operation) in operations.into_iter().enumerate() {
        let refuse = |fault: &str| {
            PatchError::Unprocessable(format!(
                "the JSON patch cannot be applied: operation {index} ({} {}): {fault}",
                name(&operation),
                operation.path()
            ))
        };
        if passes_anyway(&patched, &operation) {
            continue;
        }
        if let PatchOperation::Copy(copy) = &operation {
            let bytes = copy
                .from
                .resolve(&patched)
                .map_or(0, |value| value.to_string().len());
            copied_bytes = copied_bytes.saturating_add(bytes);
            if copied_bytes > COPIED_BYTES_MAX {
                return Err(refuse(&format!(
                    "the copies take more than {COPIED_BYTES_MAX} bytes"
                )));
            }
        }
        json_patch::patch(&mut patched, std::slice::from_ref(&operation))
            .map_err(|error| refuse(&error.kind.to_string()))?;
    }
    Ok(patched)
}

fn parse(patch: &[u8]) -> Result<Vec<PatchOperation>, PatchError> {
    let malformed = |fault: &str| PatchError::Malformed(format!("error decoding patch: {fault}"));
    let decoded = decode::json(patch).map_err(|error| malformed(&error.to_string()))?;
    let Value::Array(operations) = decoded.value else {
        return Err(malformed("a JSON patch is a list of operations"));
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooManyOperations {
            count: operations.len(),
        });
    }
    operations
        .into_iter()
        .enumerate()
        .map(|(index, operation)| {
            serde_json::from_value(operation)
                .map_err(|error| malformed(&format!("operation {index}: {error}")))
        })
        .collect()
}

/// `test` for null where nothing is: Go says yes, and clients (kube-rs finalizers) rely on it.
fn passes_anyway(document: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else {
        return false;
    };
    test.value.is_null() && Pointer::resolve(&test.path, document).is_err()
}

fn name(operation: &PatchOperation) -> &'static str {
    match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn patched(document: Value, patch: Value) -> Result<Value, PatchError> {
        apply(&document, patch.to_string().as_bytes())
    }

    #[test]
    fn operations_are_applied_in_order() {
        let document = json!({"metadata": {"name": "x"}, "list": [1, 2]});
        let patch = json!([
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["f"]},
            {"op": "add", "path": "/list/-", "value": 3},
            {"op": "remove", "path": "/list/0"},
            {"op": "copy", "from": "/metadata/name", "path": "/metadata/a~1b"},
            {"op": "move", "from": "/list", "path": "/moved"},
            {"op": "replace", "path": "/metadata/name", "value": "y"},
        ]);
        assert_eq!(
            patched(document, patch).unwrap(),
            json!({"metadata": {"name": "y", "finalizers": ["f"], "a/b": "x"}, "moved": [2, 3]})
        );
    }

    #[test]
    fn a_failed_operation_is_named() {
        for patch in [
            json!([{"op": "test", "path": "/a", "value": 2}]),
            json!([{"op": "test", "path": "/missing", "value": 2}]),
            json!([{"op": "remove", "path": "/missing"}]),
            json!([{"op": "replace", "path": "/missing", "value": 1}]),
            json!([{"op": "add", "path": "/missing/deep", "value": 1}]),
        ] {
            let error = patched(json!({"a": 1}), patch.clone()).unwrap_err();
            assert!(
                matches!(&error, PatchError::Unprocessable(text) if text.contains("operation 0 (")),
                "{patch}"
            );
        }
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        for patch in [
            "{}",
            "[1]",
            "[{\"op\":\"jump\",\"path\":\"/a\"}]",
            "[{\"op\":\"add\",\"path\":\"a\",\"value\":1}]",
            "x",
        ] {
            assert!(
                matches!(apply(&json!({}), patch.as_bytes()), Err(PatchError::Malformed(_))),
                "{patch}"
            );
        }
        let many = json!(vec![
            json!({"op": "test", "path": "/x", "value": null});
            OPERATIONS_MAX + 1
        ]);
        assert_eq!(
            patched(json!({}), many),
            Err(PatchError::TooManyOperations {
                count: OPERATIONS_MAX + 1
            })
        );
    }

    #[test]
    fn copies_cannot_fill_the_memory() {
        let mut operations = vec![json!({"op": "add", "path": "/a", "value": ["xxxxxxxxxxxxxxxx"]})];
        operations.extend(vec![json!({"op": "copy", "from": "/a", "path": "/a/-"}); 40]);
        assert!(matches!(
            patched(json!({}), json!(operations)),
            Err(PatchError::Unprocessable(_))
        ));
    }

    proptest! {
        #[test]
        fn any_operation_is_answered(op in "add|remove|replace|move|copy|test", path in "(/[a-c0-2~-]{0,2}){0,3}", from in "(/[a-c0-2]){0,3}") {
            let patch = json!([{"op": op, "path": path, "from": from, "value": 1}]);
            let _ = patched(json!({"a": [1, {"b": 2}], "c": {}}), patch);
        }
    }
}
