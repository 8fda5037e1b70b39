//! The words of the store: keys, stored objects, changes to them and events about them.

use crate::document::Document;
use serde_json::{Map, Value};
use std::fmt;
use std::sync::Arc;

/// Where an object lives. Keys sort by resource, then namespace, then name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Plural name and group, for example `services.serving.knative.dev`; the core group has no dot: `namespaces`.
    pub resource: Arc<str>,
    /// The namespace; empty when the resource is cluster scoped.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of `name` in `namespace` (empty when cluster scoped).
    #[must_use]
    pub fn new(
        resource: impl Into<Arc<str>>,
        namespace: impl Into<Arc<str>>,
        name: impl Into<Arc<str>>,
    ) -> Self {
        Self {
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.resource, self.name)
        } else {
            write!(f, "{}/{}/{}", self.resource, self.namespace, self.name)
        }
    }
}

/// One version of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Where it lives.
    pub key: Key,
    /// The version: unique in the store, rising with every write to any object.
    pub resource_version: u64,
    /// The object; its `metadata.resourceVersion` is the text of `resource_version`.
    pub object: Document,
}

/// What a writer decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Create or replace the object. The store sets `metadata.resourceVersion`.
    Put(Value),
    /// Remove the object; nothing happens when there is none.
    Delete,
    /// Leave everything as it is: no new resource version, no event.
    Keep,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was not there before.
    Added,
    /// It replaced an older version.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change, as watchers see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The object after the change. For [`EventKind::Deleted`]: its last state, with the deletion's resource version.
    pub object: Stored,
    /// The object before the change, so that a selector that stops matching can be told as a deletion.
    pub previous: Option<Document>,
}

/// A consistent list.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// The objects, sorted by namespace and name.
    pub items: Vec<Stored>,
    /// The store's version at the moment of the list; watch from here to miss nothing.
    pub resource_version: u64,
}

/// Writes `version` into `metadata.resourceVersion`, making `metadata` where it is missing. `false` when the value is
/// no object, or its metadata is something else.
#[must_use]
pub(crate) fn set_resource_version(object: &mut Value, version: u64) -> bool {
    let Some(fields) = object.as_object_mut() else {
        return false;
    };
    let metadata = fields
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    let Some(metadata) = metadata.as_object_mut() else {
        return false;
    };
    metadata.insert("resourceVersion".to_owned(), Value::String(version.to_string()));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_resource_version_is_written_as_text() {
        for (given, wanted) in [
            (json!({}), Some(json!({"metadata": {"resourceVersion": "7"}}))),
            (
                json!({"metadata": {"name": "a", "resourceVersion": "3"}, "spec": 1}),
                Some(json!({"metadata": {"name": "a", "resourceVersion": "7"}, "spec": 1})),
            ),
            (json!([]), None),
            (json!("text"), None),
            (json!({"metadata": []}), None),
            (json!({"metadata": null}), None),
        ] {
            let mut object = given.clone();
            let done = set_resource_version(&mut object, 7);
            assert_eq!(done.then_some(object), wanted, "{given}");
        }
    }

    #[test]
    fn keys_sort_by_resource_namespace_name_and_print_as_a_path() {
        let mut keys = [
            Key::new("b", "", "x"),
            Key::new("a", "z", "a"),
            Key::new("a", "", "z"),
            Key::new("a", "z", "A"),
        ];
        keys.sort();
        let printed: Vec<_> = keys.iter().map(Key::to_string).collect();
        assert_eq!(printed, ["a/z", "a/z/A", "a/z/a", "b/x"]);
    }
}
