//! Values seen through their schema: which parts are one value, and which are merged piece by piece.
//!
//! The operations of structured-merge-diff: the fields of a value, the difference of two, one merged into another,
//! and a value without some of its fields. Where the schema says nothing, maps are granular and lists atomic.

mod compare;
mod extract;
mod merge;
mod remove;

pub(super) use compare::{Comparison, compare};
pub(super) use extract::extract;
pub(super) use merge::merge;
pub(super) use remove::{remove, with_named_fields};

use super::field_set::{PathElement, canonical_json};
use crate::schema::{ListType, Node};
use serde_json::{Map, Value};

/// How a value is taken apart.
#[derive(Clone, Copy)]
enum Shape<'v, 'n> {
    /// It is one value.
    Leaf,
    /// Field by field.
    Map(&'v Map<String, Value>),
    /// Item by item, each told apart by what the node says.
    Items(&'v [Value], &'n Node),
}

fn shape<'v, 'n>(node: Option<&'n Node>, value: &'v Value) -> Shape<'v, 'n> {
    match (value, node) {
        (Value::Object(_), Some(node)) if node.map_is_atomic => Shape::Leaf,
        (Value::Object(map), _) => Shape::Map(map),
        (Value::Array(items), Some(node)) if node.list_type != ListType::Atomic => Shape::Items(items, node),
        _ => Shape::Leaf,
    }
}

/// The schema of a field.
fn field<'n>(node: Option<&'n Node>, name: &str) -> Option<&'n Node> {
    node.and_then(|node| node.field(name))
}

/// The schema of the items of a list.
fn items(node: &Node) -> Option<&Node> {
    node.items.as_deref()
}

/// The path element of a list item, `None` where the item lacks a key that has no default.
fn item_element(node: &Node, item: &Value) -> Option<PathElement> {
    match &node.list_type {
        ListType::Atomic => None,
        ListType::Set => Some(PathElement::Value(canonical_json(item))),
        ListType::Map(keys) => {
            let mut key = Map::new();
            for name in keys {
                let value = item
                    .get(name)
                    .or_else(|| items(node)?.field(name)?.default.as_ref())?;
                key.insert(name.clone(), value.clone());
            }
            Some(PathElement::Key(canonical_json(&Value::Object(key))))
        }
    }
}

/// The path element of every item; an item that has none of its own, or one that came before, counts by position.
fn item_elements(node: &Node, list: &[Value]) -> Vec<PathElement> {
    let mut seen = std::collections::BTreeSet::new();
    list.iter()
        .zip(0_i64..)
        .map(|(item, index)| {
            let element = item_element(node, item).filter(|element| !seen.contains(element));
            let element = element.unwrap_or(PathElement::Index(index));
            seen.insert(element.clone());
            element
        })
        .collect()
}

/// Whether two values are the same; 1 and 1.0 are.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => left == right || left.as_f64() == right.as_f64(),
        _ => left == right,
    }
}
