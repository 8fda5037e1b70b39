//! A value without some of its fields (structured-merge-diff `typed/remove.go`).

use super::{Shape, field, item_elements, items, shape};
use crate::patch::field_set::{FieldSet, PathElement};
use crate::schema::Node;
use serde_json::Value;

/// The value without the fields of the set. What contained them stays, maybe empty, unless it is in the set too.
pub(in crate::patch) fn remove(node: &Node, value: &Value, set: &FieldSet) -> Value {
    without(Some(node), value, set)
}

fn without(node: Option<&Node>, value: &Value, set: &FieldSet) -> Value {
    let child = |node: Option<&Node>, element: &PathElement, value: &Value| {
        if set.has(element) {
            return None;
        }
        Some(
            set.below(element)
                .map_or_else(|| value.clone(), |below| without(node, value, below)),
        )
    };
    match shape(node, value) {
        Shape::Leaf => value.clone(),
        Shape::Map(map) => {
            let kept = map.iter().filter_map(|(name, value)| {
                Some((
                    name.clone(),
                    child(field(node, name), &PathElement::field(name), value)?,
                ))
            });
            Value::Object(kept.collect())
        }
        Shape::Items(list, node) => {
            let elements = item_elements(node, list);
            let kept = elements
                .iter()
                .zip(list)
                .filter_map(|(element, item)| child(items(node), element, item));
            Value::Array(kept.collect())
        }
    }
}

/// The set, with every field that the schema names and that has members below it as a member too: who owned all of
/// `spec.a` owned `spec.a` itself.
pub(in crate::patch) fn with_named_fields(node: &Node, set: &FieldSet) -> FieldSet {
    let mut named = set.clone();
    add_named_fields(Some(node), set, &mut Vec::new(), &mut named);
    named
}

fn add_named_fields(node: Option<&Node>, set: &FieldSet, path: &mut Vec<PathElement>, named: &mut FieldSet) {
    for (element, below) in set.children() {
        path.push(element.clone());
        let below_node = match element {
            PathElement::Field(name) => {
                if node.is_some_and(|node| node.properties.contains_key(name)) {
                    named.insert(path);
                }
                field(node, name)
            }
            _ => node.and_then(items),
        };
        add_named_fields(below_node, below, path, named);
        path.pop();
    }
}
