//! JSON patch (RFC 6902), with the habits of Kubernetes' Go implementation.

use super::PatchError;
use crate::decode::{self, NESTING_DEPTH_MAX};
use crate::object::{self, Extent};
use json_patch::{PatchOperation, jsonptr::Pointer};
use serde_json::Value;

/// Operations in one patch (apiserver `pkg/endpoints/handlers/patch.go`).
pub const OPERATIONS_MAX: usize = 10_000;
/// What all `copy` operations of one patch may add, in bytes of JSON.
pub const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Values that one patch may make us visit to measure how deep its results are: some times the largest object, since
/// ten thousand moves of a large list into a deeper place would otherwise hold the writer's lock for minutes.
pub const MEASURED_VALUES_MAX: usize = 10_000_000;

/// The document after all operations. Either all are applied or none.
pub fn apply(document: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let operations = parse(patch)?;
    let mut patched = document.clone();
    let (mut copied_bytes, mut measured_values) = (0_usize, 0_usize);
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
        // Before anything is cloned, printed or dropped: all of these recurse, and a stack overflow ends the process.
        if let Some(result) = deeper(&patched, &operation) {
            measured_values = measured_values.saturating_add(result.values);
            if result.depth > NESTING_DEPTH_MAX {
                return Err(refuse(&format!(
                    "the result is nested too deeply: at most {NESTING_DEPTH_MAX} levels are allowed"
                )));
            }
            if measured_values > MEASURED_VALUES_MAX {
                return Err(refuse(&format!(
                    "the operations touch more than {MEASURED_VALUES_MAX} values"
                )));
            }
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

/// The value that an operation puts somewhere, with its depth counted from the root of the document. `None` when the
/// operation cannot deepen the document.
fn deeper(document: &Value, operation: &PatchOperation) -> Option<Extent> {
    let resolve = |from: &Pointer| from.resolve(document).ok().map(object::extent);
    let (path, extent) = match operation {
        PatchOperation::Add(add) => (&add.path, object::extent(&add.value)),
        PatchOperation::Replace(replace) => (&replace.path, object::extent(&replace.value)),
        PatchOperation::Copy(copy) => (&copy.path, resolve(&copy.from)?),
        PatchOperation::Move(moved) if moved.path.count() > moved.from.count() => {
            (&moved.path, resolve(&moved.from)?)
        }
        PatchOperation::Move(_) | PatchOperation::Remove(_) | PatchOperation::Test(_) => return None,
    };
    Some(Extent {
        depth: path.count().saturating_add(extent.depth),
        ..extent
    })
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

    /// A list in a list, and so on.
    fn nested(depth: usize) -> Value {
        (1..depth).fold(json!([]), |inner, _| json!([inner]))
    }

    #[test]
    fn results_are_nested_no_deeper_than_bodies() {
        let fits = nested(NESTING_DEPTH_MAX - 10);
        let document = json!({"a": {}, "deep": fits, "list": []});
        let at = |extra: usize| format!("/a{}", "/a".repeat(extra));
        let mut grow: Vec<Value> = (1..9)
            .map(|n| json!({"op": "add", "path": at(n), "value": {}}))
            .collect();
        for (operation, fault) in [
            (json!({"op": "copy", "from": "/deep", "path": at(9)}), false),
            (
                json!({"op": "copy", "from": "/deep", "path": at(8) + "/x/y"}),
                true,
            ),
            (json!({"op": "copy", "from": "/deep", "path": at(9) + "/x"}), true),
            (json!({"op": "move", "from": "/deep", "path": at(9)}), false),
            (json!({"op": "move", "from": "/deep", "path": at(9) + "/x"}), true),
            (
                json!({"op": "add", "path": at(8), "value": nested(NESTING_DEPTH_MAX - 9)}),
                false,
            ),
            (
                json!({"op": "add", "path": at(9), "value": nested(NESTING_DEPTH_MAX - 9)}),
                true,
            ),
            (
                json!({"op": "replace", "path": at(8), "value": nested(NESTING_DEPTH_MAX - 8)}),
                true,
            ),
        ] {
            grow.push(operation.clone());
            let result = patched(document.clone(), json!(grow));
            grow.pop();
            match result {
                Ok(value) => {
                    assert!(!fault, "{operation}");
                    assert_eq!(object::extent(&value).depth, NESTING_DEPTH_MAX, "{operation}");
                }
                Err(PatchError::Unprocessable(text)) => {
                    assert!(
                        fault && text.contains("at most 100 levels"),
                        "{operation}: {text}"
                    );
                }
                Err(other) => panic!("{operation}: {other}"),
            }
        }
    }

    #[test]
    fn copies_into_themselves_cannot_overflow_the_stack() {
        let mut operations = vec![json!({"op": "add", "path": "/x", "value": nested(95)})];
        for doublings in 0..12 {
            let inner = "/0".repeat(94 << doublings);
            operations.push(json!({"op": "copy", "from": "/x", "path": format!("/x{inner}/0")}));
        }
        assert!(matches!(
            patched(json!({}), json!(operations)),
            Err(PatchError::Unprocessable(text)) if text.contains("operation 1 (copy") && text.contains("100 levels")
        ));
    }

    #[test]
    fn moves_of_a_large_value_cannot_take_for_ever() {
        let document = json!({"a": vec![0; 50_000], "b": {}});
        let mut operations = Vec::new();
        for _ in 0..400 {
            operations.push(json!({"op": "move", "from": "/a", "path": "/b/a"}));
            operations.push(json!({"op": "move", "from": "/b/a", "path": "/a"}));
        }
        assert!(matches!(
            patched(document, json!(operations)),
            Err(PatchError::Unprocessable(text)) if text.contains("values")
        ));
    }

    fn any_document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<u8>().prop_map(Value::from),
            "[a-c/~]{0,3}".prop_map(Value::from)
        ];
        let value = leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
                prop::collection::btree_map("[a-c/~]{1,2}", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        prop::collection::btree_map("[a-c/~]{1,2}", value, 0..4)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #[test]
        fn the_difference_of_two_documents_leads_from_one_to_the_other(from in any_document(), to in any_document()) {
            let difference = serde_json::to_value(json_patch::diff(&from, &to)).unwrap();
            prop_assert_eq!(patched(from, difference), Ok(to));
        }

        #[test]
        fn what_is_added_can_be_taken_away(document in any_document(), value in any_document()) {
            let there_and_back = json!([
                {"op": "add", "path": "/new", "value": value}, {"op": "test", "path": "/new", "value": value},
                {"op": "copy", "from": "/new", "path": "/copy"}, {"op": "move", "from": "/copy", "path": "/moved"},
                {"op": "test", "path": "/moved", "value": value}, {"op": "remove", "path": "/moved"}, {"op": "remove", "path": "/new"},
            ]);
            prop_assert_eq!(patched(document.clone(), there_and_back), Ok(document));
        }
    }

    proptest! {
        #[test]
        fn any_operation_is_answered(op in "add|remove|replace|move|copy|test", path in "(/[a-c0-2~-]{0,2}){0,3}", from in "(/[a-c0-2]){0,3}") {
            let patch = json!([{"op": op, "path": path, "from": from, "value": 1}]);
            let _ = patched(json!({"a": [1, {"b": 2}], "c": {}}), patch);
        }
    }
}
