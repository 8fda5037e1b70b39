//! From the JSON of an `openAPIV3Schema` to [`Node`]s.

use super::{Additional, Bound, Kind, ListType, Node, Range, Rules, SCHEMA_DEPTH_MAX, SchemaError};
use regex::Regex;
use serde_json::{Map, Value};

/// Compiles the schema of one value and of all below it.
pub(super) fn node(schema: &Value, path: &str, depth: usize) -> Result<Node, SchemaError> {
    if depth > SCHEMA_DEPTH_MAX {
        return Err(fault(
            path,
            format!("it is nested more than {SCHEMA_DEPTH_MAX} levels deep"),
        ));
    }
    let Value::Object(schema) = schema else {
        return Err(fault(path, "an object is expected"));
    };
    let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or_default();
    let mut compiled = Node {
        kinds: kinds(schema, path)?,
        nullable: flag("nullable"),
        preserve_unknown_fields: flag("x-kubernetes-preserve-unknown-fields"),
        embedded_resource: flag("x-kubernetes-embedded-resource"),
        default: schema.get("default").cloned(),
        list_type: list_type(schema, path)?,
        map_is_atomic: schema
            .get("x-kubernetes-map-type")
            .is_some_and(|kind| kind == "atomic"),
        rules: rules(schema, path, depth)?,
        ..Node::default()
    };
    if let Some(properties) = schema.get("properties") {
        let Value::Object(properties) = properties else {
            return Err(fault(&format!("{path}.properties"), "an object is expected"));
        };
        for (name, property) in properties {
            let property = node(property, &format!("{path}.properties.{name}"), depth + 1)?;
            compiled.properties.insert(name.clone(), property);
        }
    }
    compiled.additional = match schema.get("additionalProperties") {
        None | Some(Value::Null | Value::Bool(false)) => Additional::Nothing,
        Some(Value::Bool(true)) => Additional::Anything,
        Some(like) => Additional::Like(Box::new(node(
            like,
            &format!("{path}.additionalProperties"),
            depth + 1,
        )?)),
    };
    if let Some(items) = schema.get("items") {
        compiled.items = Some(Box::new(node(items, &format!("{path}.items"), depth + 1)?));
    }
    if compiled.embedded_resource {
        compiled.add_object_fields();
    }
    Ok(compiled)
}

fn fault(path: &str, fault: impl Into<String>) -> SchemaError {
    SchemaError {
        path: path.to_owned(),
        fault: fault.into(),
    }
}

fn kinds(schema: &Map<String, Value>, path: &str) -> Result<Vec<Kind>, SchemaError> {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return Ok(vec![Kind::Integer, Kind::String]);
    }
    match schema.get("type") {
        None => Ok(Vec::new()),
        Some(Value::String(name)) => Kind::named(name).map(|kind| vec![kind]).ok_or_else(|| {
            fault(
                path,
                format!("{name:?} is not a type that a structural schema may have"),
            )
        }),
        Some(_) => Err(fault(path, "type must be a string")),
    }
}

impl Kind {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "object" => Self::Object,
            "array" => Self::Array,
            "string" => Self::String,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "boolean" => Self::Boolean,
            _ => return None,
        })
    }
}

fn list_type(schema: &Map<String, Value>, path: &str) -> Result<ListType, SchemaError> {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        None | Some("atomic") => Ok(ListType::Atomic),
        Some("set") => Ok(ListType::Set),
        Some("map") => {
            let keys = texts(schema, "x-kubernetes-list-map-keys");
            if keys.is_empty() {
                return Err(fault(
                    path,
                    "x-kubernetes-list-type map needs x-kubernetes-list-map-keys",
                ));
            }
            Ok(ListType::Map(keys))
        }
        Some(other) => Err(fault(
            path,
            format!("{other:?} is not a list type; use atomic, set or map"),
        )),
    }
}

fn texts(schema: &Map<String, Value>, name: &str) -> Vec<String> {
    let list = schema.get(name).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn rules(schema: &Map<String, Value>, path: &str, depth: usize) -> Result<Rules, SchemaError> {
    let number = |name: &str| schema.get(name).and_then(Value::as_f64);
    let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or_default();
    let bound = |name: &str, exclusive: &str| {
        number(name).map(|at| Bound {
            at,
            exclusive: flag(exclusive),
        })
    };
    let count = |name: &str| schema.get(name).and_then(Value::as_u64);
    let range = |min: &str, max: &str| Range {
        min: count(min),
        max: count(max),
    };
    let pattern = match schema.get("pattern").and_then(Value::as_str) {
        Some(pattern) => Some(Regex::new(pattern).map_err(|error| fault(path, format!("pattern: {error}")))?),
        None => None,
    };
    Ok(Rules {
        required: texts(schema, "required"),
        allowed: schema
            .get("enum")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default(),
        pattern,
        format: schema.get("format").and_then(Value::as_str).map(str::to_owned),
        minimum: bound("minimum", "exclusiveMinimum"),
        maximum: bound("maximum", "exclusiveMaximum"),
        multiple_of: number("multipleOf").filter(|step| *step > 0.0),
        length: range("minLength", "maxLength"),
        items: range("minItems", "maxItems"),
        properties: range("minProperties", "maxProperties"),
        unique_items: flag("uniqueItems"),
        all_of: branches(schema, "allOf", path, depth)?,
        any_of: branches(schema, "anyOf", path, depth)?,
        one_of: branches(schema, "oneOf", path, depth)?,
        not: match schema.get("not") {
            Some(not) => Some(Box::new(node(not, &format!("{path}.not"), depth + 1)?)),
            None => None,
        },
    })
}

fn branches(
    schema: &Map<String, Value>,
    name: &str,
    path: &str,
    depth: usize,
) -> Result<Vec<Node>, SchemaError> {
    let list = schema.get(name).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .enumerate()
        .map(|(index, branch)| node(branch, &format!("{path}.{name}[{index}]"), depth + 1))
        .collect()
}
