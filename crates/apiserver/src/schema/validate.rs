//! Validation, in the words of Kubernetes (apimachinery `field.Error`, kube-openapi `pkg/validation`).

use super::{Additional, Bound, Kind, ListType, Node, Range, Rules, format};
use serde_json::{Map, Number, Value};
use std::collections::HashSet;

/// Causes that are reported for one object; checking stops there.
pub const CAUSES_MAX: usize = 100;

/// One thing that is wrong with an object: a cause of a `Status` with the reason Invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldCause {
    /// The path of the field, for example `spec.traffic[0].percent`; `<nil>` for the object itself.
    pub field: String,
    /// `FieldValueRequired`, `FieldValueInvalid`, `FieldValueTypeInvalid`, …
    pub reason: &'static str,
    /// What is wrong, without the path: `Required value`, `Invalid value: 101: …`.
    pub message: String,
}

/// Checks a value against its schema.
pub(super) fn validate(node: &Node, value: &Value) -> Vec<FieldCause> {
    let mut check = Check {
        path: String::new(),
        causes: Vec::new(),
    };
    check.value(node, value);
    check.causes.truncate(CAUSES_MAX);
    check.causes
}

struct Check {
    path: String,
    causes: Vec<FieldCause>,
}

impl Check {
    fn cause(&mut self, reason: &'static str, message: String) {
        let field = if self.path.is_empty() {
            "<nil>"
        } else {
            self.path.as_str()
        };
        self.causes.push(FieldCause {
            field: field.to_owned(),
            reason,
            message,
        });
    }

    fn invalid(&mut self, value: &Value, detail: &str) {
        let message = format!("Invalid value: {value}: {} in body {detail}", self.path);
        self.cause("FieldValueInvalid", message);
    }

    fn wrong_type(&mut self, shown: &str, wanted: &str) {
        let message = format!(
            "Invalid value: {shown:?}: {} in body must be of type {wanted}: {shown:?}",
            self.path
        );
        self.cause("FieldValueTypeInvalid", message);
    }

    fn within(&mut self, segment: &str, check: impl FnOnce(&mut Self)) {
        if self.causes.len() >= CAUSES_MAX {
            return;
        }
        let length = self.path.len();
        if length > 0 && !segment.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(segment);
        check(self);
        self.path.truncate(length);
    }

    fn value(&mut self, node: &Node, value: &Value) {
        if value.is_null() && (node.nullable || node.kinds.is_empty()) {
            return;
        }
        if !node.kinds.is_empty() && !node.kinds.iter().any(|kind| kind.admits(value)) {
            let wanted: Vec<_> = node.kinds.iter().map(|kind| kind.name()).collect();
            self.wrong_type(type_name(value), &wanted.join(","));
            return;
        }
        self.rules(&node.rules, value);
        match value {
            Value::Object(map) => self.object(node, map),
            Value::Array(items) => self.array(node, items),
            _ => {}
        }
    }

    fn object(&mut self, node: &Node, map: &Map<String, Value>) {
        for name in &node.rules.required {
            if !map.contains_key(name) {
                self.within(name, |check| {
                    check.cause("FieldValueRequired", "Required value".to_owned())
                });
            }
        }
        for (name, field) in map {
            let below = match &node.additional {
                Additional::Like(below) => Some(&**below),
                Additional::Nothing | Additional::Anything => None,
            };
            if let Some(below) = node.properties.get(name).or(below) {
                self.within(name, |check| check.value(below, field));
            }
        }
    }

    fn array(&mut self, node: &Node, items: &[Value]) {
        if let Some(below) = &node.items {
            for (index, item) in items.iter().enumerate() {
                self.within(&format!("[{index}]"), |check| check.value(below, item));
            }
        }
        let identity: Box<dyn Fn(&Value) -> Value> = match &node.list_type {
            ListType::Atomic => return,
            ListType::Set => Box::new(Value::clone),
            ListType::Map(keys) => Box::new(|item| key_of(item, keys)),
        };
        let mut seen = HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let identity = identity(item);
            if !seen.insert(identity.to_string()) {
                self.within(&format!("[{index}]"), |check| {
                    check.cause("FieldValueDuplicate", format!("Duplicate value: {identity}"));
                });
            }
        }
    }

    fn rules(&mut self, rules: &Rules, value: &Value) {
        if !rules.allowed.is_empty() && !rules.allowed.contains(value) {
            let allowed: Vec<_> = rules.allowed.iter().map(Value::to_string).collect();
            let message = format!(
                "Unsupported value: {value}: supported values: {}",
                allowed.join(", ")
            );
            self.cause("FieldValueNotSupported", message);
        }
        if let Some(format) = &rules.format
            && !format::holds(format, value)
        {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.wrong_type(&shown, format);
        }
        match value {
            Value::String(text) => self.text_rules(rules, text, value),
            Value::Number(number) => self.number_rules(rules, number, value),
            Value::Array(items) => self.list_rules(rules, items, value),
            Value::Object(map) => self.map_rules(rules, map, value),
            Value::Null | Value::Bool(_) => {}
        }
        self.combinations(rules, value);
    }

    fn text_rules(&mut self, rules: &Rules, text: &str, value: &Value) {
        let Range { min, max } = rules.length;
        let length = text.chars().count() as u64;
        if let Some(max) = max.filter(|max| length > *max) {
            self.cause(
                "FieldValueTooLong",
                format!("Too long: may not be more than {max} bytes"),
            );
        }
        if let Some(min) = min.filter(|min| length < *min) {
            self.invalid(value, &format!("should be at least {min} chars long"));
        }
        if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            self.invalid(value, &format!("should match '{pattern}'"));
        }
    }

    fn number_rules(&mut self, rules: &Rules, number: &Number, value: &Value) {
        let Some(number) = number.as_f64() else { return };
        if let Some(Bound { at, exclusive }) = rules.maximum
            && (number > at || (exclusive && number == at))
        {
            let words = if exclusive {
                "less than"
            } else {
                "less than or equal to"
            };
            self.invalid(value, &format!("should be {words} {at}"));
        }
        if let Some(Bound { at, exclusive }) = rules.minimum
            && (number < at || (exclusive && number == at))
        {
            let words = if exclusive {
                "greater than"
            } else {
                "greater than or equal to"
            };
            self.invalid(value, &format!("should be {words} {at}"));
        }
        if let Some(step) = rules.multiple_of
            && (number / step).fract() != 0.0
        {
            self.invalid(value, &format!("should be a multiple of {step}"));
        }
    }

    fn list_rules(&mut self, rules: &Rules, items: &[Value], value: &Value) {
        let Range { min, max } = rules.items;
        let count = items.len() as u64;
        self.too_many(count, max);
        if let Some(min) = min.filter(|min| count < *min) {
            self.invalid(value, &format!("should have at least {min} items"));
        }
        if rules.unique_items {
            let distinct: HashSet<_> = items.iter().map(Value::to_string).collect();
            if distinct.len() < items.len() {
                self.invalid(value, "shouldn't contain duplicates");
            }
        }
    }

    fn map_rules(&mut self, rules: &Rules, map: &Map<String, Value>, value: &Value) {
        let Range { min, max } = rules.properties;
        let count = map.len() as u64;
        self.too_many(count, max);
        if let Some(min) = min.filter(|min| count < *min) {
            self.invalid(value, &format!("should have at least {min} properties"));
        }
    }

    fn too_many(&mut self, count: u64, max: Option<u64>) {
        if let Some(max) = max.filter(|max| count > *max) {
            self.cause(
                "FieldValueTooMany",
                format!("Too many: {count}: must have at most {max} items"),
            );
        }
    }

    fn combinations(&mut self, rules: &Rules, value: &Value) {
        for branch in &rules.all_of {
            self.value(branch, value);
        }
        if !rules.any_of.is_empty() && !rules.any_of.iter().any(|branch| passes(branch, value)) {
            self.combination("must validate at least one schema (anyOf)");
        }
        let valid = rules.one_of.iter().filter(|branch| passes(branch, value)).count();
        if !rules.one_of.is_empty() && valid != 1 {
            let found = if valid == 0 {
                "Found none valid".to_owned()
            } else {
                format!("Found {valid} valid alternatives")
            };
            self.combination(&format!("must validate one and only one schema (oneOf). {found}"));
        }
        if rules.not.as_ref().is_some_and(|branch| passes(branch, value)) {
            self.combination("must not validate the schema (not)");
        }
    }

    fn combination(&mut self, detail: &str) {
        let message = format!("Invalid value: \"\": {:?} {detail}", self.path);
        self.cause("FieldValueInvalid", message);
    }
}

fn passes(node: &Node, value: &Value) -> bool {
    validate(node, value).is_empty()
}

/// The part of a list item that tells it apart.
fn key_of(item: &Value, keys: &[String]) -> Value {
    let parts = keys
        .iter()
        .filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
    Value::Object(parts.collect())
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    fn admits(self, value: &Value) -> bool {
        match self {
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::String => value.is_string(),
            Self::Integer => is_integer(value),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
        }
    }
}

/// `1` and `1.0` are integers, `1.5` is not.
fn is_integer(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_integer(value) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use crate::schema::Schema;
    use serde_json::{Value, json};

    /// The one field `x` has this schema and this value: what is wrong?
    fn causes(schema: Value, value: Value) -> Vec<String> {
        let schema = Schema::compile(&json!({"type": "object", "properties": {"x": schema}})).unwrap();
        let causes = schema.validate(&json!({"x": value}));
        causes
            .into_iter()
            .map(|cause| format!("{} {}: {}", cause.reason, cause.field, cause.message))
            .collect()
    }

    #[test]
    fn wrong_values_are_named_in_kubernetes_words() {
        let text = json!({"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^a"});
        let number =
            json!({"type": "integer", "format": "int32", "minimum": 0, "maximum": 100, "multipleOf": 5});
        let open = json!({"type": "number", "minimum": 0, "exclusiveMinimum": true});
        let list = json!({"type": "array", "minItems": 1, "maxItems": 2, "uniqueItems": true});
        for (schema, value, wanted) in [
            (
                number.clone(),
                json!("1"),
                "FieldValueTypeInvalid x: Invalid value: \"string\": x in body must be of type integer: \"string\"",
            ),
            (
                number.clone(),
                json!(null),
                "FieldValueTypeInvalid x: Invalid value: \"null\": x in body must be of type integer: \"null\"",
            ),
            (
                number.clone(),
                json!(105),
                "FieldValueInvalid x: Invalid value: 105: x in body should be less than or equal to 100",
            ),
            (
                number.clone(),
                json!(-5),
                "FieldValueInvalid x: Invalid value: -5: x in body should be greater than or equal to 0",
            ),
            (
                number,
                json!(7),
                "FieldValueInvalid x: Invalid value: 7: x in body should be a multiple of 5",
            ),
            (
                open,
                json!(0),
                "FieldValueInvalid x: Invalid value: 0: x in body should be greater than 0",
            ),
            (
                text.clone(),
                json!("a"),
                "FieldValueInvalid x: Invalid value: \"a\": x in body should be at least 2 chars long",
            ),
            (
                text.clone(),
                json!("aaaa"),
                "FieldValueTooLong x: Too long: may not be more than 3 bytes",
            ),
            (
                text,
                json!("ba"),
                "FieldValueInvalid x: Invalid value: \"ba\": x in body should match '^a'",
            ),
            (
                list.clone(),
                json!([]),
                "FieldValueInvalid x: Invalid value: []: x in body should have at least 1 items",
            ),
            (
                list.clone(),
                json!([1, 2, 3]),
                "FieldValueTooMany x: Too many: 3: must have at most 2 items",
            ),
            (
                list,
                json!([1, 1]),
                "FieldValueInvalid x: Invalid value: [1,1]: x in body shouldn't contain duplicates",
            ),
            (
                json!({"type": "string", "enum": ["a", "b"]}),
                json!("x"),
                "FieldValueNotSupported x: Unsupported value: \"x\": supported values: \"a\", \"b\"",
            ),
            (
                json!({"type": "string", "format": "date-time"}),
                json!("now"),
                "FieldValueTypeInvalid x: Invalid value: \"now\": x in body must be of type date-time: \"now\"",
            ),
            (
                json!({"x-kubernetes-int-or-string": true}),
                json!(true),
                "FieldValueTypeInvalid x: Invalid value: \"boolean\": x in body must be of type integer,string: \"boolean\"",
            ),
            (
                json!({"type": "object", "required": ["y"]}),
                json!({}),
                "FieldValueRequired x.y: Required value",
            ),
            (
                json!({"type": "array", "items": {"type": "object", "required": ["y"]}}),
                json!([{}]),
                "FieldValueRequired x[0].y: Required value",
            ),
            (
                json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
                json!(["a", "a"]),
                "FieldValueDuplicate x[1]: Duplicate value: \"a\"",
            ),
            (
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]}),
                json!([{"n": 1, "v": 1}, {"n": 1, "v": 2}]),
                "FieldValueDuplicate x[1]: Duplicate value: {\"n\":1}",
            ),
            (
                json!({"type": "object", "maxProperties": 1}),
                json!({"a": 1, "b": 1}),
                "FieldValueTooMany x: Too many: 2: must have at most 1 items",
            ),
            (
                json!({"anyOf": [{"type": "string"}, {"type": "boolean"}]}),
                json!(1),
                "FieldValueInvalid x: Invalid value: \"\": \"x\" must validate at least one schema (anyOf)",
            ),
            (
                json!({"oneOf": [{"type": "string"}, {"type": "boolean"}]}),
                json!(1),
                "FieldValueInvalid x: Invalid value: \"\": \"x\" must validate one and only one schema (oneOf). Found none valid",
            ),
            (
                json!({"not": {"type": "integer"}}),
                json!(1),
                "FieldValueInvalid x: Invalid value: \"\": \"x\" must not validate the schema (not)",
            ),
            (
                json!({"allOf": [{"minimum": 5}]}),
                json!(1),
                "FieldValueInvalid x: Invalid value: 1: x in body should be greater than or equal to 5",
            ),
        ] {
            assert_eq!(
                causes(schema.clone(), value.clone()),
                [wanted],
                "{schema} {value}"
            );
        }
    }

    #[test]
    fn right_values_pass() {
        for (schema, value) in [
            (json!({"type": "integer"}), json!(1.0)),
            (json!({"type": "string", "nullable": true}), json!(null)),
            (json!({"x-kubernetes-int-or-string": true}), json!("10%")),
            (json!({"x-kubernetes-int-or-string": true}), json!(10)),
            (
                json!({"x-kubernetes-preserve-unknown-fields": true}),
                json!([1, {"a": null}]),
            ),
            (
                json!({"oneOf": [{"type": "string"}, {"type": "boolean"}]}),
                json!(true),
            ),
        ] {
            assert_eq!(
                causes(schema.clone(), value.clone()),
                Vec::<String>::new(),
                "{schema} {value}"
            );
        }
    }

    #[test]
    fn metadata_is_checked_for_every_kind() {
        let schema = Schema::permissive();
        let wrong =
            schema.validate(&json!({"kind": 1, "metadata": {"labels": {"a": 1}, "finalizers": ["x", "x"]}}));
        let fields: Vec<_> = wrong.iter().map(|cause| cause.field.as_str()).collect();
        assert_eq!(fields, ["kind", "metadata.labels.a", "metadata.finalizers[1]"]);
        assert!(
            schema
                .validate(&json!({"metadata": {"creationTimestamp": null}}))
                .is_empty()
        );
    }

    #[test]
    fn bad_schemas_are_refused() {
        for schema in [
            json!([]),
            json!({"type": "text"}),
            json!({"properties": {"a": {"pattern": "("}}}),
            json!({"x-kubernetes-list-type": "map"}),
            json!({"x-kubernetes-list-type": "bag"}),
        ] {
            assert!(Schema::compile(&schema).is_err(), "{schema}");
        }
    }

    #[test]
    fn causes_are_limited() {
        let schema = json!({"type": "array", "items": {"type": "string"}});
        assert_eq!(causes(schema, json!(vec![1; 1000])).len(), super::CAUSES_MAX);
    }
}
