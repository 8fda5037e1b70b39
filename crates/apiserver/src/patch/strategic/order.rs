//! `$setElementOrder/…` of a strategic merge patch: where the items of a merged list stand (apimachinery
//! `pkg/util/strategicpatch/patch.go`, `normalizeElementOrder`).

use crate::patch::PatchError;
use serde_json::Value;

/// Checks that a patched list names its items in the order that the directive gives. Items that it deletes are not in it.
pub(super) fn check(name: &str, items: &[Value], order: &[Value]) -> Result<(), PatchError> {
    let mut rest = order.iter();
    if items.iter().all(|item| rest.any(|one| one == item)) {
        return Ok(());
    }
    Err(PatchError::Malformed(format!(
        "The order in patch list:\n{}\n doesn't match $setElementOrder/{name} list:\n{}\n",
        Value::from(items),
        Value::from(order)
    )))
}

/// The items with those that the order names in that order. The others keep their order too; each goes before the first
/// named one that it stood before in `live`, and to the end when there is none.
pub(super) fn sort(
    items: Vec<Value>,
    live: &[Value],
    order: &[Value],
    id: impl Fn(&Value) -> Value,
) -> Vec<Value> {
    let position = |list: &[Value], item: &Value| list.iter().position(|one| *one == id(item));
    let live: Vec<Value> = live.iter().map(&id).collect();
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| order.contains(&id(item)));
    named.sort_by_key(|item| position(order, item));
    let mut sorted = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in named {
        let here = position(&live, &item);
        while let Some(other) = others.next_if(|other| {
            here.zip(position(&live, other))
                .is_some_and(|(here, there)| there < here)
        }) {
            sorted.push(other);
        }
        sorted.push(item);
    }
    sorted.extend(others);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn list(text: &str) -> Vec<Value> {
        text.chars().map(|letter| json!(letter.to_string())).collect()
    }

    #[test]
    fn items_that_the_order_does_not_name_keep_their_neighbors() {
        // The merged list, the list before, the order, and what comes out.
        for (items, live, order, wanted) in [
            ("abc", "abc", "cba", "cba"),
            ("abx", "abx", "ab", "abx"),
            ("xab", "xab", "ab", "xab"),
            ("axb", "axb", "ab", "axb"),
            ("axb", "axb", "ba", "xba"),
            ("axbn", "axb", "anb", "anxb"),
            ("xyan", "xya", "na", "nxya"),
            ("ab", "ab", "", "ab"),
        ] {
            let sorted = sort(list(items), &list(live), &list(order), Clone::clone);
            assert_eq!(sorted, list(wanted), "{items} {live} {order}");
        }
    }

    #[test]
    fn a_patch_must_keep_its_own_order() {
        assert!(check("x", &list("ac"), &list("abc")).is_ok());
        assert!(check("x", &list("ca"), &list("abc")).is_err());
        assert!(check("x", &list("d"), &list("abc")).is_err());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_both_orders_hold(
            items in Just("abcdef".chars().collect::<Vec<_>>()).prop_shuffle(),
            order in prop::sample::subsequence(vec!['f', 'b', 'd', 'a', 'c', 'e'], 0..=6),
        ) {
            let items: Vec<Value> = items.iter().map(|c| json!(c.to_string())).collect();
            let order: Vec<Value> = order.iter().map(|c| json!(c.to_string())).collect();
            let sorted = sort(items.clone(), &items, &order, Clone::clone);
            let named: Vec<_> = sorted.iter().filter(|item| order.contains(item)).cloned().collect();
            let others = |list: &[Value]| list.iter().filter(|item| !order.contains(item)).cloned().collect::<Vec<_>>();
            prop_assert_eq!(&named, &order);
            prop_assert_eq!(others(&sorted), others(&items));
            prop_assert_eq!(sort(sorted.clone(), &sorted, &order, Clone::clone), sorted);
        }
    }
}
