//! Strategic merge patch, for the core kinds that kubectl patches in this way.
//!
//! Maps merge; a list merges when its field is in [`MERGED_LISTS`] and replaces otherwise. The directives `$patch`,
//! `$retainKeys`, `$deleteFromPrimitiveList/…` and `$setElementOrder/…` are Kubernetes' (apimachinery
//! `pkg/util/strategicpatch/patch.go`).

mod order;

use super::PatchError;
use serde_json::{Map, Value};

/// How a list merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListMerge {
    /// Scalars, each at most once.
    Set,
    /// Objects, told apart by this field.
    By(&'static str),
}

/// The lists that merge, by the name of their field (the `patchStrategy` tags of `k8s.io/api/core/v1`).
const MERGED_LISTS: &[(&str, ListMerge)] = &[
    ("finalizers", ListMerge::Set),
    ("ownerReferences", ListMerge::By("uid")),
    ("conditions", ListMerge::By("type")),
    ("containers", ListMerge::By("name")),
    ("initContainers", ListMerge::By("name")),
    ("env", ListMerge::By("name")),
    ("volumes", ListMerge::By("name")),
    ("volumeMounts", ListMerge::By("mountPath")),
    ("imagePullSecrets", ListMerge::By("name")),
    ("secrets", ListMerge::By("name")),
    ("ports", ListMerge::By("containerPort")),
];

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// The document with the patch merged into it.
pub fn apply(document: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed(
            "a strategic merge patch is an object".to_owned(),
        ));
    };
    let empty = Map::new();
    let document = document.as_object().unwrap_or(&empty);
    Ok(merge_maps(document, patch)?.map_or_else(|| Value::Object(Map::new()), Value::Object))
}

fn malformed<T>(text: String) -> Result<T, PatchError> {
    Err(PatchError::Malformed(text))
}

/// The merged map, `None` when the patch deletes it.
fn merge_maps(
    document: &Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<Option<Map<String, Value>>, PatchError> {
    let mut merged = match patch
        .get(PATCH)
        .map(|directive| directive.as_str().unwrap_or_default())
    {
        None | Some("merge") => document.clone(),
        Some("replace") => Map::new(),
        Some("delete") => return Ok(None),
        Some(other) => return malformed(format!("unknown $patch directive {other:?}")),
    };
    if let Some(keys) = patch.get(RETAIN_KEYS) {
        let Value::Array(keys) = keys else {
            return malformed("$retainKeys must be a list".to_owned());
        };
        let kept = |name: &str| keys.iter().any(|key| key == name);
        if patch
            .iter()
            .any(|(name, change)| !name.starts_with('$') && !change.is_null() && !kept(name))
        {
            return malformed(
                "invalid patch format of retainKeys: it must name every field of the patch".to_owned(),
            );
        }
        merged.retain(|name, _| kept(name));
    }
    for (name, change) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
        match change {
            Value::Null => {
                merged.shift_remove(name);
            }
            Value::Object(change) => {
                let empty = Map::new();
                let before = merged.get(name).and_then(Value::as_object).unwrap_or(&empty);
                match merge_maps(before, change)? {
                    Some(map) => merged.insert(name.clone(), Value::Object(map)),
                    None => merged.shift_remove(name),
                };
            }
            Value::Array(change) => {
                let before = merged
                    .get(name)
                    .and_then(Value::as_array)
                    .map_or(&[][..], Vec::as_slice);
                let list = merge_lists(name, before, change)?;
                merged.insert(name.clone(), Value::Array(list));
            }
            scalar => {
                merged.insert(name.clone(), scalar.clone());
            }
        }
    }
    delete_from_lists(&mut merged, patch)?;
    set_orders(&mut merged, document, patch)?;
    Ok(Some(merged))
}

fn list_merge(name: &str) -> Option<ListMerge> {
    MERGED_LISTS
        .iter()
        .find(|(list, _)| *list == name)
        .map(|(_, merge)| *merge)
}

fn merge_lists(name: &str, before: &[Value], change: &[Value]) -> Result<Vec<Value>, PatchError> {
    match list_merge(name) {
        None => Ok(change
            .iter()
            .filter(|item| item.get(PATCH).is_none())
            .cloned()
            .collect()),
        Some(ListMerge::Set) => {
            let mut merged = before.to_vec();
            for item in change {
                if !merged.contains(item) {
                    merged.push(item.clone());
                }
            }
            Ok(merged)
        }
        Some(ListMerge::By(key)) => merge_by_key(name, key, before, change),
    }
}

fn merge_by_key(name: &str, key: &str, before: &[Value], change: &[Value]) -> Result<Vec<Value>, PatchError> {
    let replaces = |item: &&Value| item.get(PATCH).is_some_and(|directive| directive == "replace");
    if change
        .iter()
        .any(|item| replaces(&item) && item.get(key).is_none())
    {
        return Ok(change.iter().filter(|item| !replaces(item)).cloned().collect());
    }
    let mut merged = before.to_vec();
    for item in change {
        let (Value::Object(item), Some(id)) = (item, item.get(key)) else {
            return malformed(format!(
                "an item of {name} does not contain the merge key {key:?}"
            ));
        };
        let position = merged.iter().position(|one| one.get(key) == Some(id));
        let empty = Map::new();
        let old = position
            .and_then(|index| merged.get(index)?.as_object())
            .unwrap_or(&empty);
        match (merge_maps(old, item)?, position) {
            (Some(map), None) => merged.push(Value::Object(map)),
            (Some(map), Some(index)) => {
                if let Some(slot) = merged.get_mut(index) {
                    *slot = Value::Object(map);
                }
            }
            (None, Some(index)) => {
                merged.remove(index);
            }
            (None, None) => {}
        }
    }
    Ok(merged)
}

fn delete_from_lists(merged: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), PatchError> {
    for (directive, gone) in patch {
        let Some(name) = directive.strip_prefix(DELETE_FROM) else {
            continue;
        };
        let Value::Array(gone) = gone else {
            return malformed(format!("{directive} must be a list"));
        };
        if let Some(Value::Array(items)) = merged.get_mut(name) {
            items.retain(|item| !gone.contains(item));
        }
    }
    Ok(())
}

/// What tells the items of a list apart.
fn item_id(name: &str, item: &Value) -> Value {
    match list_merge(name) {
        Some(ListMerge::By(key)) => item.get(key).cloned().unwrap_or_default(),
        _ => item.clone(),
    }
}

fn set_orders(
    merged: &mut Map<String, Value>,
    document: &Map<String, Value>,
    patch: &Map<String, Value>,
) -> Result<(), PatchError> {
    for (directive, order) in patch {
        let Some(name) = directive.strip_prefix(ELEMENT_ORDER) else {
            continue;
        };
        let Value::Array(order) = order else {
            return malformed(format!("{directive} must be a list"));
        };
        let id = |item: &Value| item_id(name, item);
        let list = |map: &Map<String, Value>| {
            map.get(name)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default()
        };
        let order: Vec<Value> = order.iter().map(id).collect();
        let mut patched = list(patch);
        patched.retain(|item| item.get(PATCH).is_none());
        order::check(name, &patched.iter().map(id).collect::<Vec<_>>(), &order)?;
        if let Some(Value::Array(items)) = merged.get_mut(name) {
            *items = order::sort(std::mem::take(items), &list(document), &order, id);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn directives_do_what_kubernetes_says() {
        for (document, patch, wanted) in [
            (
                json!({"data": {"a": "1", "b": "2"}}),
                json!({"data": {"a": null, "c": "3"}}),
                json!({"data": {"b": "2", "c": "3"}}),
            ),
            (
                json!({"data": {"a": "1"}}),
                json!({"data": {"$patch": "replace", "b": "2"}}),
                json!({"data": {"b": "2"}}),
            ),
            (
                json!({"data": {"a": "1"}}),
                json!({"data": {"$patch": "delete"}}),
                json!({}),
            ),
            (
                json!({"a": 1, "b": 2}),
                json!({"$retainKeys": ["b", "c"], "c": 3}),
                json!({"b": 2, "c": 3}),
            ),
            (
                json!({"metadata": {"finalizers": ["a", "b"]}}),
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "$setElementOrder/finalizers": ["c", "b"], "finalizers": ["c"]}}),
                json!({"metadata": {"finalizers": ["c", "b"]}}),
            ),
            (
                json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "x"}, {"uid": "2"}]}}),
                json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "y"}, {"uid": "2", "$patch": "delete"}, {"uid": "3"}]}}),
                json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "y"}, {"uid": "3"}]}}),
            ),
            (
                json!({"metadata": {"ownerReferences": [{"uid": "1"}]}}),
                json!({"metadata": {"ownerReferences": [{"$patch": "replace"}, {"uid": "9"}]}}),
                json!({"metadata": {"ownerReferences": [{"uid": "9"}]}}),
            ),
            (
                json!({"list": [1, 2]}),
                json!({"list": [3]}),
                json!({"list": [3]}),
            ),
            (
                json!({"a": 1}),
                json!({"a": {"b": {"c": null, "d": 1}}}),
                json!({"a": {"b": {"d": 1}}}),
            ),
        ] {
            assert_eq!(apply(&document, &patch).unwrap(), wanted, "{document} {patch}");
        }
    }

    #[test]
    fn bad_patches_are_refused() {
        for patch in [
            json!([]),
            json!({"$patch": "jump"}),
            json!({"$retainKeys": 1}),
            json!({"ownerReferences": [{"name": "x"}]}),
            json!({"$deleteFromPrimitiveList/finalizers": "a"}),
            json!({"$setElementOrder/finalizers": "a"}),
        ] {
            assert!(
                matches!(apply(&json!({}), &patch), Err(PatchError::Malformed(_))),
                "{patch}"
            );
        }
    }

    proptest! {
        #[test]
        fn without_directives_and_merged_lists_it_is_a_merge_patch(document in any_map(), patch in any_map()) {
            prop_assert_eq!(apply(&document, &patch).unwrap(), crate::patch::merge::apply(&document, &patch));
        }
    }

    fn names() -> impl Strategy<Value = Vec<&'static str>> {
        prop::sample::subsequence(vec!["a", "b", "c", "d"], 0..=4).prop_shuffle()
    }

    /// Metadata with both kinds of merged lists.
    fn any_metadata() -> impl Strategy<Value = Value> {
        (names(), names()).prop_map(|(finalizers, owners)| {
            let owners: Vec<Value> = owners
                .iter()
                .map(|uid| json!({"uid": uid, "name": "x"}))
                .collect();
            json!({"metadata": {"finalizers": finalizers, "ownerReferences": owners}})
        })
    }

    /// A patch as kubectl makes it: what is set, what goes, and the order of what is wanted.
    fn any_list_patch() -> impl Strategy<Value = Value> {
        (names(), names(), names()).prop_map(|(set, order, gone)| {
            let order: Vec<&str> = order.into_iter().filter(|name| !gone.contains(name)).collect();
            let set: Vec<&&str> = order.iter().filter(|name| set.contains(name)).collect();
            let mut owners: Vec<Value> = set.iter().map(|uid| json!({"uid": uid, "name": "y"})).collect();
            owners.extend(gone.iter().map(|uid| json!({"uid": uid, "$patch": "delete"})));
            let owners_order: Vec<Value> = order.iter().map(|uid| json!({"uid": uid})).collect();
            json!({"metadata": {
                "finalizers": set, "$deleteFromPrimitiveList/finalizers": gone, "$setElementOrder/finalizers": order,
                "ownerReferences": owners, "$setElementOrder/ownerReferences": owners_order,
            }})
        })
    }

    proptest! {
        #[test]
        fn lists_merged_twice_are_lists_merged_once(document in any_metadata(), patch in any_list_patch()) {
            let once = apply(&document, &patch).unwrap();
            prop_assert_eq!(apply(&once, &patch).unwrap(), once);
        }

        #[test]
        fn what_a_patch_says_of_lists_is_so(document in any_metadata(), patch in any_list_patch()) {
            let patched = apply(&document, &patch).unwrap();
            let list = |value: &Value, name: &str| value["metadata"][name].as_array().cloned().unwrap_or_default();
            let finalizers = list(&patched, "finalizers");
            prop_assert!(list(&patch, "finalizers").iter().all(|set| finalizers.contains(set)));
            prop_assert!(list(&patch, "$deleteFromPrimitiveList/finalizers").iter().all(|gone| !finalizers.contains(gone)));
            let order = list(&patch, "$setElementOrder/finalizers");
            let ordered: Vec<_> = finalizers.iter().filter(|one| order.contains(one)).collect();
            let wanted: Vec<_> = order.iter().filter(|one| finalizers.contains(one)).collect();
            prop_assert_eq!(ordered, wanted);
            let uids: Vec<Value> = list(&patched, "ownerReferences").iter().map(|owner| owner["uid"].clone()).collect();
            for owner in list(&patch, "ownerReferences") {
                prop_assert_eq!(uids.contains(&owner["uid"]), owner.get("$patch").is_none());
            }
        }
    }

    fn any_map() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<u8>().prop_map(Value::from),
            Just(json!([1]))
        ];
        let value = leaf.prop_recursive(3, 12, 3, |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        });
        prop::collection::btree_map("[a-c]", value, 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }
}
