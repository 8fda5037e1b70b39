//! Reading and writing the parts that every Kubernetes object has, on plain JSON.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// The text at a JSON pointer, empty when there is none.
pub(crate) fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// `metadata.name`.
pub(crate) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// `metadata.namespace`.
pub(crate) fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// `metadata.uid`.
pub(crate) fn uid(object: &Value) -> &str {
    text(object, "/metadata/uid")
}

/// `metadata.resourceVersion`.
pub(crate) fn resource_version(object: &Value) -> &str {
    text(object, "/metadata/resourceVersion")
}

/// Whether the object waits for its finalizers.
pub(crate) fn is_terminating(object: &Value) -> bool {
    object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|at| !at.is_null())
}

/// `metadata.finalizers`.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

/// How far a value reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Lists and maps around the innermost value: 0 for a scalar, 1 for `[]`.
    pub depth: usize,
    /// Values in it, with itself.
    pub values: usize,
}

/// Measures a value. It walks without recursion, since it is asked whether the rest of the program may recurse.
pub(crate) fn extent(value: &Value) -> Extent {
    let mut extent = Extent { depth: 0, values: 1 };
    let mut containers = vec![(value, 1)];
    while let Some((container, depth)) = containers.pop() {
        let mut visit = |child| {
            extent.values += 1;
            if matches!(child, &Value::Array(_) | &Value::Object(_)) {
                containers.push((child, depth + 1));
            }
        };
        match container {
            Value::Array(list) => list.iter().for_each(&mut visit),
            Value::Object(map) => map.values().for_each(&mut visit),
            _ => continue,
        }
        extent.depth = extent.depth.max(depth);
    }
    extent
}

/// Replaces `metadata.finalizers`; an empty list removes the field.
pub(crate) fn set_finalizers(object: &mut Value, finalizers: &[&str]) {
    let metadata = metadata_mut(object);
    if finalizers.is_empty() {
        metadata.shift_remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.iter().copied().collect());
    }
}

/// The map at `value`, made when it is something else.
pub(crate) fn map_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("it was just made a map"),
    }
}

/// The map at `key` of the map `value`, made when it is missing.
pub(crate) fn child_mut<'v>(value: &'v mut Value, key: &str) -> &'v mut Map<String, Value> {
    map_mut(map_mut(value).entry(key).or_insert(Value::Null))
}

/// `metadata`, made when it is missing.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    child_mut(object, "metadata")
}

/// Removes a key of the object itself.
pub(crate) fn remove(object: &mut Value, key: &str) {
    if let Some(map) = object.as_object_mut() {
        map.shift_remove(key);
    }
}

/// A time as Kubernetes writes it: RFC 3339, whole seconds, UTC.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// One entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    pub block_owner_deletion: bool,
}

/// `metadata.ownerReferences`.
pub(crate) fn owners(object: &Value) -> Vec<OwnerReference> {
    let Some(list) = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array)
    else {
        return Vec::new();
    };
    let field = |entry: &Value, key: &str| {
        entry
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    list.iter()
        .map(|entry| OwnerReference {
            api_version: field(entry, "apiVersion"),
            kind: field(entry, "kind"),
            name: field(entry, "name"),
            uid: field(entry, "uid"),
            block_owner_deletion: entry
                .get("blockOwnerDeletion")
                .and_then(Value::as_bool)
                .unwrap_or(false),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn depth_counts_lists_and_maps() {
        for (value, depth, values) in [
            (json!(1), 0, 1),
            (json!([]), 1, 1),
            (json!({"a": 1, "b": [{}, 2]}), 3, 5),
            (json!([[[]], 1, {"a": null}]), 3, 6),
        ] {
            assert_eq!(extent(&value), Extent { depth, values }, "{value}");
        }
    }

    #[test]
    fn parts_of_an_object() {
        let mut object = json!({"metadata": {"name": "a", "finalizers": ["x"], "ownerReferences": [
            {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u", "blockOwnerDeletion": true}]}});
        assert_eq!((name(&object), namespace(&object)), ("a", ""));
        assert_eq!(finalizers(&object), ["x"]);
        assert!(owners(&object)[0].block_owner_deletion);
        set_finalizers(&mut object, &[]);
        assert!(object.pointer("/metadata/finalizers").is_none());
        assert_eq!(time(Timestamp::UNIX_EPOCH), "1970-01-01T00:00:00Z");
    }
}
