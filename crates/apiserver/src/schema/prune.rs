//! Pruning: fields that the schema does not name are removed (apiextensions-apiserver
//! `pkg/apiserver/schema/pruning/algorithm.go`).

use super::{Additional, Node};
use serde_json::Value;

/// Prunes a value in place and returns the paths of what was removed.
pub(super) fn prune(node: &Node, value: &mut Value) -> Vec<String> {
    let mut removed = Vec::new();
    walk(node, value, &mut String::new(), &mut removed);
    removed
}

fn walk(node: &Node, value: &mut Value, path: &mut String, removed: &mut Vec<String>) {
    let length = path.len();
    match value {
        Value::Object(map) => {
            map.retain(|name, field| {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                let known = keep(node, name);
                if let Keep::Like(below) = known {
                    walk(below, field, path, removed);
                }
                if matches!(known, Keep::Never) {
                    removed.push(path.clone());
                }
                path.truncate(length);
                !matches!(known, Keep::Never)
            });
        }
        Value::Array(items) => {
            let Some(below) = &node.items else { return };
            for (index, item) in items.iter_mut().enumerate() {
                path.push_str(&format!("[{index}]"));
                walk(below, item, path, removed);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// What becomes of a field.
#[derive(Clone, Copy)]
enum Keep<'n> {
    Never,
    AsItIs,
    Like(&'n Node),
}

fn keep<'n>(node: &'n Node, name: &str) -> Keep<'n> {
    match (node.properties.get(name), &node.additional) {
        (Some(below), _) => Keep::Like(below),
        (None, Additional::Like(below)) => Keep::Like(below),
        (None, Additional::Anything) => Keep::AsItIs,
        (None, Additional::Nothing) if node.preserve_unknown_fields => Keep::AsItIs,
        (None, Additional::Nothing) => Keep::Never,
    }
}

#[cfg(test)]
mod tests {
    use crate::schema::Schema;
    use serde_json::json;

    #[test]
    fn unknown_fields_go_and_are_named() {
        let schema = Schema::compile(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "a": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                         "properties": {"known": {"type": "object"}}},
                "map": {"type": "object", "additionalProperties": {"type": "object"}},
                "any": {"type": "object", "additionalProperties": true},
                "inner": {"type": "object", "x-kubernetes-embedded-resource": true},
            }},
        }}))
        .unwrap();
        let mut object = json!({
            "apiVersion": "v1", "kind": "K", "metadata": {"name": "n", "nmae": "n", "labels": {"a.b/c": "d"}},
            "spec": {
                "a": [{"x": "1", "y": 2}], "b": {},
                "free": {"z": {"deep": 1}, "known": {"gone": 1}},
                "map": {"k": {"gone": 1}},
                "any": {"k": {"stays": 1}},
                "inner": {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x"}, "spec": {}},
            },
        });
        let removed = schema.prune(&mut object);
        assert_eq!(
            removed,
            [
                "metadata.nmae",
                "spec.a[0].y",
                "spec.b",
                "spec.free.known.gone",
                "spec.map.k.gone",
                "spec.inner.spec"
            ]
        );
        assert_eq!(object["spec"]["free"], json!({"z": {"deep": 1}, "known": {}}));
        assert_eq!(object["spec"]["any"], json!({"k": {"stays": 1}}));
        assert_eq!(object["metadata"], json!({"name": "n", "labels": {"a.b/c": "d"}}));
        assert_eq!(schema.prune(&mut object), Vec::<String>::new());
    }

    #[test]
    fn a_permissive_schema_prunes_only_metadata() {
        let mut object = json!({"kind": "K", "metadata": {"name": "n", "x": 1}, "data": {"a": [{"b": 1}]}});
        assert_eq!(Schema::permissive().prune(&mut object), ["metadata.x"]);
        assert_eq!(object["data"], json!({"a": [{"b": 1}]}));
    }
}
