//! One value merged into another (structured-merge-diff `typed/merge.go`).

use super::{Shape, field, item_elements, items, shape};
use crate::patch::field_set::PathElement;
use crate::schema::Node;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The live value with what is applied merged into it; where both have a leaf, the applied one stands.
pub(in crate::patch) fn merge(node: &Node, live: &Value, applied: &Value) -> Value {
    both(Some(node), live, applied)
}

fn both(node: Option<&Node>, live: &Value, applied: &Value) -> Value {
    match (shape(node, live), shape(node, applied)) {
        (Shape::Map(live), Shape::Map(applied)) => Value::Object(maps(node, live, applied)),
        (Shape::Items(live, node), Shape::Items(applied, _)) => Value::Array(lists(node, live, applied)),
        _ => applied.clone(),
    }
}

fn maps(node: Option<&Node>, live: &Map<String, Value>, applied: &Map<String, Value>) -> Map<String, Value> {
    let mut merged = live.clone();
    for (name, applied) in applied {
        let value = match live.get(name) {
            Some(live) => both(field(node, name), live, applied),
            None => applied.clone(),
        };
        merged.insert(name.clone(), value);
    }
    merged
}

/// Items of both lists stand in the applied order; items of only the live list stay behind what they followed.
fn lists(node: &Node, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let live: Vec<_> = item_elements(node, live).into_iter().zip(live).collect();
    let applied: Vec<_> = item_elements(node, applied).into_iter().zip(applied).collect();
    let live_by_element: BTreeMap<&PathElement, &Value> =
        live.iter().map(|(element, item)| (element, *item)).collect();
    let applied_elements: std::collections::BTreeSet<&PathElement> =
        applied.iter().map(|(element, _)| element).collect();
    let mut merged = Vec::with_capacity(live.len().max(applied.len()));
    let mut live_rest = live.iter().peekable();
    for (element, item) in &applied {
        let Some(live_item) = live_by_element.get(element) else {
            merged.push((*item).clone());
            continue;
        };
        while let Some((_, only_live)) = live_rest.next_if(|(element, _)| !applied_elements.contains(element))
        {
            merged.push((*only_live).clone());
        }
        // The live head is shared; it is passed here or, out of order, with another shared item.
        live_rest.next_if(|(element, _)| applied_elements.contains(element));
        merged.push(both(items(node), live_item, item));
    }
    for (_, only_live) in live_rest.filter(|(element, _)| !applied_elements.contains(element)) {
        merged.push((*only_live).clone());
    }
    merged
}
