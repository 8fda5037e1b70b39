//! The fields that a value sets (structured-merge-diff `typed/tofieldset.go`).

use super::{Shape, field, item_element, items, shape};
use crate::patch::field_set::{FieldSet, Path, PathElement, display_path};
use crate::schema::{ListType, Node};
use serde_json::Value;

/// What is wrong with a list whose items are told apart by keys or value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(in crate::patch) struct Fault(String);

/// The fields of a value, and what is wrong with its lists.
pub(in crate::patch) fn extract(node: &Node, value: &Value) -> (FieldSet, Vec<Fault>) {
    let mut walk = Walk {
        set: FieldSet::default(),
        path: Path::new(),
        faults: Vec::new(),
    };
    walk.value(Some(node), value);
    (walk.set, walk.faults)
}

struct Walk {
    set: FieldSet,
    path: Path,
    faults: Vec<Fault>,
}

impl Walk {
    fn value(&mut self, node: Option<&Node>, value: &Value) {
        match shape(node, value) {
            Shape::Leaf => self.set.insert(&self.path),
            Shape::Map(map) => {
                for (name, child) in map {
                    self.path.push(PathElement::field(name));
                    self.value(field(node, name), child);
                    let is_named = node.is_some_and(|node| node.properties.contains_key(name));
                    // An empty list is owned too: otherwise dropping its items would take the list along, and the
                    // same request again would bring it back.
                    let is_empty = match child {
                        Value::Null => true,
                        Value::Object(map) => map.is_empty(),
                        Value::Array(items) => items.is_empty(),
                        _ => false,
                    };
                    if is_empty || !is_named {
                        self.set.insert(&self.path);
                    }
                    self.path.pop();
                }
            }
            Shape::Items(list, node) => self.items(node, list),
        }
    }

    fn items(&mut self, node: &Node, list: &[Value]) {
        let mut seen = std::collections::BTreeSet::new();
        for (index, item) in list.iter().enumerate() {
            let Some(element) = item_element(node, item) else {
                self.missing_key(node, index, item);
                continue;
            };
            self.path.push(element.clone());
            if seen.insert(element) {
                self.value(items(node), item);
                self.set.insert(&self.path);
            } else {
                self.faults
                    .push(Fault(format!("{}: duplicate entries", display_path(&self.path))));
            }
            self.path.pop();
        }
    }

    fn missing_key(&mut self, node: &Node, index: usize, item: &Value) {
        let ListType::Map(keys) = &node.list_type else {
            return;
        };
        let missing = keys.iter().find(|key| item.get(key.as_str()).is_none());
        let missing = missing.map_or("", String::as_str);
        self.faults.push(Fault(format!(
            "{}: element {index}: associative list with keys has an element that omits key field {missing:?} (and \
             doesn't have default value)",
            display_path(&self.path)
        )));
    }
}
