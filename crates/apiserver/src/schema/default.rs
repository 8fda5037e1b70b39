//! Defaulting (apiextensions-apiserver `pkg/apiserver/schema/defaulting/algorithm.go`).

use super::{Additional, Node};
use serde_json::Value;

/// Fills the defaults of a value in place.
pub(super) fn default(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, field| !field.is_null() || keeps_null(node, name));
            for (name, below) in &node.properties {
                if let Some(default) = &below.default
                    && !map.contains_key(name)
                {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, field) in map.iter_mut() {
                if let Some(below) = node.field(name) {
                    self::default(below, field);
                }
            }
        }
        Value::Array(items) => {
            let Some(below) = &node.items else { return };
            for item in items {
                if item.is_null()
                    && !below.nullable
                    && let Some(default) = &below.default
                {
                    *item = default.clone();
                }
                self::default(below, item);
            }
        }
        _ => {}
    }
}

/// Whether a null field stays: where null is allowed, and where the schema says nothing.
fn keeps_null(node: &Node, name: &str) -> bool {
    match (node.properties.get(name), &node.additional) {
        (Some(below), _) => below.nullable,
        (None, Additional::Like(below)) => below.nullable,
        (None, _) => true,
    }
}

#[cfg(test)]
mod tests {
    use crate::schema::Schema;
    use serde_json::json;

    #[test]
    fn defaults_are_filled_at_every_depth() {
        let schema = Schema::compile(&json!({"type": "object", "properties": {
            "spec": {"type": "object", "default": {}, "properties": {
                "size": {"type": "integer", "default": 3},
                "maybe": {"type": "string", "nullable": true, "default": "x"},
                "plain": {"type": "string"},
                "ports": {"type": "array", "items": {"type": "object", "properties": {
                    "protocol": {"type": "string", "default": "TCP"}}}},
                "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {
                    "on": {"type": "boolean", "default": true}}}},
            }},
        }}))
        .unwrap();
        let mut object = json!({"kind": "K"});
        schema.default(&mut object);
        assert_eq!(object, json!({"kind": "K", "spec": {"size": 3, "maybe": "x"}}));

        let mut object = json!({"spec": {
            "size": null, "maybe": null, "plain": null, "ports": [{}, {"protocol": "UDP"}], "map": {"a": {}},
        }});
        schema.default(&mut object);
        let wanted = json!({"spec": {
            "size": 3, "maybe": null, "ports": [{"protocol": "TCP"}, {"protocol": "UDP"}], "map": {"a": {"on": true}},
        }});
        assert_eq!(object, wanted);
        schema.default(&mut object);
        assert_eq!(object, wanted);
    }
}
