//! The difference of two values (structured-merge-diff `typed/compare.go`).

use super::{Shape, field, item_elements, items, same, shape};
use crate::patch::field_set::{FieldSet, Path, PathElement};
use crate::schema::Node;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The fields in which two values differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::patch) struct Comparison {
    /// Only the new value has them.
    pub added: FieldSet,
    /// Both have them, with different values.
    pub modified: FieldSet,
    /// Only the old value has them.
    pub removed: FieldSet,
}

impl Comparison {
    /// What the new value sets differently from the old.
    pub fn changed(&self) -> FieldSet {
        self.added.union(&self.modified)
    }

    /// The comparison of only those fields that `part` keeps of a set.
    pub fn map(&self, part: impl Fn(&FieldSet) -> FieldSet) -> Self {
        Self {
            added: part(&self.added),
            modified: part(&self.modified),
            removed: part(&self.removed),
        }
    }
}

/// Compares an old value with a new one.
pub(in crate::patch) fn compare(node: &Node, old: &Value, new: &Value) -> Comparison {
    let mut walk = Walk {
        comparison: Comparison::default(),
        path: Path::new(),
    };
    walk.both(Some(node), old, new);
    walk.comparison
}

/// Which of the two values has something alone.
#[derive(Clone, Copy)]
enum Only {
    Old,
    New,
}

struct Walk {
    comparison: Comparison,
    path: Path,
}

impl Walk {
    fn both(&mut self, node: Option<&Node>, old: &Value, new: &Value) {
        match (shape(node, old), shape(node, new)) {
            (Shape::Map(old), Shape::Map(new)) => self.maps(node, old, new),
            (Shape::Items(old, node), Shape::Items(new, _)) => self.lists(node, old, new),
            (Shape::Leaf, Shape::Leaf) => {
                if !same(old, new) {
                    self.comparison.modified.insert(&self.path);
                }
            }
            _ => {
                self.alone(node, old, Only::Old);
                self.alone(node, new, Only::New);
            }
        }
    }

    fn within(&mut self, element: PathElement, walk: impl FnOnce(&mut Self)) {
        self.path.push(element);
        walk(self);
        self.path.pop();
    }

    fn maps(&mut self, node: Option<&Node>, old: &Map<String, Value>, new: &Map<String, Value>) {
        for (name, old) in old {
            self.within(PathElement::field(name), |walk| match new.get(name) {
                Some(new) => walk.both(field(node, name), old, new),
                None => walk.alone(field(node, name), old, Only::Old),
            });
        }
        for (name, new) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
            self.within(PathElement::field(name), |walk| {
                walk.alone(field(node, name), new, Only::New)
            });
        }
    }

    fn lists(&mut self, node: &Node, old: &[Value], new: &[Value]) {
        let by_element = |list| {
            item_elements(node, list)
                .into_iter()
                .zip(list)
                .collect::<BTreeMap<_, _>>()
        };
        let (old, new) = (by_element(old), by_element(new));
        for (element, old) in &old {
            self.within(element.clone(), |walk| match new.get(element) {
                Some(new) => walk.both(items(node), old, new),
                None => walk.alone(items(node), old, Only::Old),
            });
        }
        for (element, new) in new.iter().filter(|(element, _)| !old.contains_key(*element)) {
            self.within(element.clone(), |walk| walk.alone(items(node), new, Only::New));
        }
    }

    fn alone(&mut self, node: Option<&Node>, value: &Value, only: Only) {
        match shape(node, value) {
            Shape::Leaf => {}
            Shape::Map(map) => {
                for (name, child) in map {
                    self.within(PathElement::field(name), |walk| {
                        walk.alone(field(node, name), child, only)
                    });
                }
            }
            Shape::Items(list, node) => {
                for (element, item) in item_elements(node, list).into_iter().zip(list) {
                    self.within(element, |walk| walk.alone(items(node), item, only));
                }
            }
        }
        match only {
            Only::Old => self.comparison.removed.insert(&self.path),
            Only::New => self.comparison.added.insert(&self.path),
        }
    }
}
