//! Sets of fields, as `metadata.managedFields` keeps them (structured-merge-diff `fieldpath`).
//!
//! A set is a tree: at each level are the path elements that are members themselves and those that have members
//! below them. Its JSON form is FieldsV1: `f:name` a field, `k:{…}` a list item by its keys, `v:…` a list item by its
//! value, `i:n` by its index, and `.` inside an element that is a member and has children too.

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    /// A field of an object.
    Field(String),
    /// An item of a list, by the canonical JSON of its key fields.
    Key(String),
    /// An item of a list, by its canonical JSON.
    Value(String),
    /// An item of a list, by its position.
    Index(i64),
}

/// A path from the object down.
pub type Path = Vec<PathElement>;

/// A set of fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSet {
    members: BTreeSet<PathElement>,
    children: BTreeMap<PathElement, FieldSet>,
}

/// Why a text is not a field set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fieldsV1: {0:?} is not a path element")]
pub struct FieldSetError(String);

impl FieldSet {
    /// A set of these paths.
    #[must_use]
    pub fn of<'p>(paths: impl IntoIterator<Item = &'p [PathElement]>) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(path);
        }
        set
    }

    /// Adds a path. The empty path, the object itself, cannot be a member.
    pub fn insert(&mut self, path: &[PathElement]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Self::is_empty)
    }

    /// Whether this very element is a member of the top level.
    #[must_use]
    pub fn has(&self, element: &PathElement) -> bool {
        self.members.contains(element)
    }

    /// What is in the set below an element.
    #[must_use]
    pub fn below(&self, element: &PathElement) -> Option<&Self> {
        self.children.get(element).filter(|set| !set.is_empty())
    }

    /// The elements that have members below them, with those.
    pub fn children(&self) -> impl Iterator<Item = (&PathElement, &Self)> {
        self.children.iter()
    }

    /// What is in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.members.extend(other.members.iter().cloned());
        for (element, below) in &other.children {
            let mine = union.children.entry(element.clone()).or_default();
            *mine = mine.union(below);
        }
        union
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, below)| {
            let both = below.intersection(other.children.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self {
            members: self.members.intersection(&other.members).cloned().collect(),
            children: children.collect(),
        }
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, below)| {
            let rest = other
                .children
                .get(element)
                .map_or_else(|| below.clone(), |minus| below.difference(minus));
            (!rest.is_empty()).then(|| (element.clone(), rest))
        });
        Self {
            members: self.members.difference(&other.members).cloned().collect(),
            children: children.collect(),
        }
    }

    /// What is in this set and neither in the other nor below a member of the other.
    #[must_use]
    pub fn difference_with_descendants(&self, other: &Self) -> Self {
        let children = self
            .children
            .iter()
            .filter(|(element, _)| !other.members.contains(element));
        let children = children.filter_map(|(element, below)| {
            let rest = other
                .children
                .get(element)
                .map_or_else(|| below.clone(), |minus| below.difference_with_descendants(minus));
            (!rest.is_empty()).then(|| (element.clone(), rest))
        });
        Self {
            members: self.members.difference(&other.members).cloned().collect(),
            children: children.collect(),
        }
    }

    /// The members that have no members below them.
    #[cfg(test)]
    #[must_use]
    pub fn leaves(&self) -> Self {
        let is_leaf = |element: &&PathElement| self.below(element).is_none();
        let children = self.children.iter().filter(|(_, below)| !below.is_empty());
        Self {
            members: self.members.iter().filter(is_leaf).cloned().collect(),
            children: children
                .map(|(element, below)| (element.clone(), below.leaves()))
                .collect(),
        }
    }

    /// All paths, parents before what is below them.
    #[must_use]
    pub fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        self.collect_paths(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect_paths(&self, prefix: &mut Path, paths: &mut Vec<Path>) {
        let elements: BTreeSet<_> = self.members.iter().chain(self.children.keys()).collect();
        for element in elements {
            prefix.push(element.clone());
            if self.members.contains(element) {
                paths.push(prefix.clone());
            }
            if let Some(below) = self.children.get(element) {
                below.collect_paths(prefix, paths);
            }
            prefix.pop();
        }
    }

    /// The FieldsV1 form.
    #[must_use]
    pub fn to_fields_v1(&self) -> Value {
        Value::Object(self.to_map())
    }

    fn to_map(&self) -> Map<String, Value> {
        let elements: BTreeSet<_> = self.members.iter().chain(self.children.keys()).collect();
        let mut map = Map::new();
        for element in elements {
            let below = self.below(element).map(Self::to_map);
            let is_member = self.members.contains(element);
            let value = match (is_member, below) {
                (true, Some(below)) => {
                    let mut value = Map::from_iter([(".".to_owned(), json!({}))]);
                    value.extend(below);
                    value
                }
                (true, None) => Map::new(),
                (false, Some(below)) => below,
                (false, None) => continue,
            };
            map.insert(element.to_string(), Value::Object(value));
        }
        map
    }

    /// Reads the FieldsV1 form.
    pub fn from_fields_v1(fields: &Value) -> Result<Self, FieldSetError> {
        let Value::Object(map) = fields else {
            return Err(FieldSetError(fields.to_string()));
        };
        let mut set = Self::default();
        for (text, below) in map.iter().filter(|(text, _)| *text != ".") {
            let element = PathElement::parse(text).ok_or_else(|| FieldSetError(text.clone()))?;
            let children = Self::from_fields_v1(below)?;
            if children.is_empty() || below.get(".").is_some() {
                set.members.insert(element.clone());
            }
            if !children.is_empty() {
                set.children.insert(element, children);
            }
        }
        Ok(set)
    }
}

impl PathElement {
    /// The field of this name.
    #[must_use]
    pub fn field(name: &str) -> Self {
        Self::Field(name.to_owned())
    }

    /// Reads the FieldsV1 form of one element.
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let canonical = |text: &str| {
            serde_json::from_str::<Value>(text)
                .ok()
                .map(|value| canonical_json(&value))
        };
        match kind {
            "f" => Some(Self::field(rest)),
            "k" => canonical(rest).filter(|key| key.starts_with('{')).map(Self::Key),
            "v" => canonical(rest).map(Self::Value),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }
}

impl fmt::Display for PathElement {
    /// Writes the FieldsV1 form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, "f:{name}"),
            Self::Key(key) => write!(f, "k:{key}"),
            Self::Value(value) => write!(f, "v:{value}"),
            Self::Index(index) => write!(f, "i:{index}"),
        }
    }
}

/// The path as Kubernetes shows it to people: `.spec.containers[name="user"].image`.
#[must_use]
pub fn display_path(path: &[PathElement]) -> String {
    let mut text = String::new();
    for element in path {
        match element {
            PathElement::Field(name) => text.push_str(&format!(".{name}")),
            PathElement::Value(value) => text.push_str(&format!("[={value}]")),
            PathElement::Index(index) => text.push_str(&format!("[{index}]")),
            PathElement::Key(key) => {
                let keys: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let keys: Vec<_> = keys
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                text.push_str(&format!("[{}]", keys.join(",")));
            }
        }
    }
    text
}

/// JSON with the keys of every object sorted, so that equal values have equal texts.
#[must_use]
pub fn canonical_json(value: &Value) -> String {
    sorted(value).to_string()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted_map: BTreeMap<_, _> = map.iter().map(|(name, value)| (name, sorted(value))).collect();
            Value::Object(
                sorted_map
                    .into_iter()
                    .map(|(name, value)| (name.clone(), value))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        // One number, one text: 1.0 and 1 name the same list item.
        Value::Number(number) if number.is_f64() => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 1e15 => json!(float as i64),
            _ => value.clone(),
        },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_v1_is_read_and_written() {
        let fields = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:finalizers": {"v:\"x\"": {}}},
            "f:spec": {"f:list": {"k:{\"name\":\"a\",\"port\":1}": {".": {}, "f:v": {}}, "i:3": {}}},
        });
        let set = FieldSet::from_fields_v1(&fields).unwrap();
        assert_eq!(set.to_fields_v1(), fields);
        let paths: Vec<_> = set.paths().iter().map(|path| display_path(path)).collect();
        assert_eq!(
            paths,
            [
                ".metadata.finalizers[=\"x\"]",
                ".metadata.labels",
                ".metadata.labels.app",
                ".spec.list[name=\"a\",port=1]",
                ".spec.list[name=\"a\",port=1].v",
                ".spec.list[3]",
            ]
        );
        // Keys in another order name the same item.
        let other = FieldSet::from_fields_v1(&json!({"f:l": {"k:{\"b\":1,\"a\":2}": {}}})).unwrap();
        assert_eq!(other.to_fields_v1(), json!({"f:l": {"k:{\"a\":2,\"b\":1}": {}}}));
    }

    #[test]
    fn what_is_no_field_set_is_refused() {
        for fields in [
            json!([]),
            json!({"spec": {}}),
            json!({"x:spec": {}}),
            json!({"f:a": 1}),
            json!({"k:1": {}}),
            json!({"i:x": {}}),
        ] {
            assert!(FieldSet::from_fields_v1(&fields).is_err(), "{fields}");
        }
    }

    #[test]
    fn difference_with_descendants_takes_all_below() {
        let set = FieldSet::from_fields_v1(&json!({"f:status": {"f:a": {}}, "f:spec": {"f:a": {}}})).unwrap();
        let minus = FieldSet::from_fields_v1(&json!({"f:status": {}})).unwrap();
        assert_eq!(
            set.difference_with_descendants(&minus).to_fields_v1(),
            json!({"f:spec": {"f:a": {}}})
        );
        assert_eq!(set.difference(&minus), set);
    }

    fn any_path() -> impl Strategy<Value = Path> {
        let element = prop_oneof![
            "[a-c]".prop_map(PathElement::Field),
            (0..2_i64).prop_map(PathElement::Index),
            "[a-b]".prop_map(|text| PathElement::Value(json!(text).to_string())),
            "[a-b]".prop_map(|text| PathElement::Key(json!({"name": text}).to_string())),
        ];
        prop::collection::vec(element, 1..4)
    }

    fn any_set() -> impl Strategy<Value = FieldSet> {
        prop::collection::vec(any_path(), 0..8)
            .prop_map(|paths| FieldSet::of(paths.iter().map(Vec::as_slice)))
    }

    proptest! {
        #[test]
        fn the_algebra_of_sets_holds(a in any_set(), b in any_set(), c in any_set()) {
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert_eq!(a.intersection(&b), b.intersection(&a));
            prop_assert_eq!(a.union(&b).union(&c), a.union(&b.union(&c)));
            prop_assert_eq!(a.union(&a), a.clone());
            prop_assert!(a.difference(&a).is_empty());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
            prop_assert_eq!(a.union(&b).difference(&c), a.difference(&c).union(&b.difference(&c)));
            prop_assert_eq!(a.leaves().leaves(), a.leaves());
            prop_assert!(a.leaves().difference(&a).is_empty());
        }

        #[test]
        fn the_json_form_keeps_everything(a in any_set()) {
            prop_assert_eq!(FieldSet::from_fields_v1(&a.to_fields_v1()).unwrap(), a.clone());
            let paths = a.paths();
            prop_assert_eq!(FieldSet::of(paths.iter().map(Vec::as_slice)), a);
        }
    }
}
