//! Schemas of old templates, which leave out types: made structural, keeping what they do not name (frameworks
//! `constraint/pkg/schema/schema.go`, `AddPreserveUnknownFields`).

use serde_json::{Value, json};

/// Schemas within schemas that are looked at; deeper ones are left as they are, and refused by the API server if they
/// are not structural.
const DEPTH_MAX: usize = 64;

/// Makes a schema structural.
pub(super) fn make_structural(schema: &mut Value) {
    walk(schema, DEPTH_MAX);
}

fn walk(schema: &mut Value, depth: usize) {
    let Some(fields) = schema.as_object_mut().filter(|_| depth > 0) else {
        return;
    };
    if !fields.get("type").is_some_and(Value::is_string) && !fields.contains_key("x-kubernetes-int-or-string")
    {
        let kind = if fields.contains_key("items") {
            Some("array")
        } else if fields.contains_key("properties") || fields.contains_key("additionalProperties") {
            Some("object")
        } else {
            None
        };
        match kind {
            Some(kind) => fields.insert("type".to_owned(), kind.into()),
            None => fields.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into()),
        };
    }
    let kind = fields
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    if kind == "object" && !fields.contains_key("additionalProperties") {
        fields.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
    }
    if kind == "array" && !fields.contains_key("items") {
        fields.insert(
            "items".to_owned(),
            json!({"x-kubernetes-preserve-unknown-fields": true}),
        );
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(|inner| walk(inner, depth - 1));
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(keyword).filter(|inner| inner.is_object()) {
            walk(inner, depth - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_added_and_unknown_fields_stay() {
        let mut schema = json!({"properties": {"labels": {"items": {"type": "string"}}, "any": {}, "list": {"type": "array"}}});
        make_structural(&mut schema);
        assert_eq!(
            schema,
            json!({
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {
                    "labels": {"type": "array", "items": {"type": "string"}},
                    "any": {"x-kubernetes-preserve-unknown-fields": true},
                    "list": {"type": "array", "items": {"x-kubernetes-preserve-unknown-fields": true}},
                },
            })
        );
    }
}
