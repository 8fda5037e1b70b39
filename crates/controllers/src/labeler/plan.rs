//! The routing labels of a Revision.

use crate::configuration::plan::whole_seconds;
use crate::object::Meta;
use jiff::Timestamp;
use kittiwake_api::meta;
use kittiwake_api::serving::Revision;
use serde_json::{Map, Value, json};

/// The merge patch that brings the labels up to date; `None` when they are. `routes` are the names of the Routes that
/// lead to the Revision, in order. One that no Route has led to yet stays pending.
#[must_use]
pub fn plan(revision: &Revision, routes: &[&str], now: Timestamp) -> Option<Value> {
    let current = revision.label(meta::ROUTING_STATE_LABEL);
    let wanted = match (routes.is_empty(), current) {
        (false, _) => meta::ROUTING_STATE_ACTIVE,
        (true, Some(meta::ROUTING_STATE_PENDING)) => meta::ROUTING_STATE_PENDING,
        (true, _) => meta::ROUTING_STATE_RESERVE,
    };
    let names = (!routes.is_empty()).then(|| routes.join(","));
    if current == Some(wanted) && revision.annotation(meta::ROUTES_ANNOTATION) == names.as_deref() {
        return None;
    }
    let mut annotations = Map::from_iter([(meta::ROUTES_ANNOTATION.to_owned(), Value::from(names))]);
    if current != Some(wanted) {
        annotations.insert(
            meta::ROUTING_STATE_MODIFIED_ANNOTATION.to_owned(),
            whole_seconds(now).into(),
        );
    }
    Some(json!({
        "metadata": {
            "labels": { meta::ROUTING_STATE_LABEL: wanted },
            "annotations": annotations,
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn revision(state: &str, routes: Option<&str>) -> Revision {
        let mut revision = Revision::new("a-00001", Default::default());
        revision.metadata.labels = Some(BTreeMap::from([(
            meta::ROUTING_STATE_LABEL.to_owned(),
            state.to_owned(),
        )]));
        revision.metadata.annotations =
            routes.map(|routes| BTreeMap::from([(meta::ROUTES_ANNOTATION.to_owned(), routes.to_owned())]));
        revision
    }

    #[test]
    fn routes_make_active_and_their_loss_makes_reserve() {
        for (state, annotation, routes, wanted) in [
            ("pending", None, &[][..], None),
            ("pending", None, &["a"], Some(("active", json!("a")))),
            ("active", Some("a"), &["a"], None),
            ("active", Some("a"), &["a", "b"], Some(("active", json!("a,b")))),
            ("active", Some("a"), &[], Some(("reserve", Value::Null))),
            ("reserve", None, &[], None),
            ("reserve", None, &["b"], Some(("active", json!("b")))),
        ] {
            let patch = plan(&revision(state, annotation), routes, Timestamp::UNIX_EPOCH);
            let got = patch.as_ref().map(|patch| {
                let meta = &patch["metadata"];
                let state = meta["labels"][meta::ROUTING_STATE_LABEL].as_str().unwrap();
                (state, meta["annotations"][meta::ROUTES_ANNOTATION].clone())
            });
            assert_eq!(got, wanted, "{state} {annotation:?} {routes:?}");
        }
    }

    #[test]
    fn the_time_moves_with_the_state_only() {
        let time = |state: &str, annotation, routes: &[&str]| {
            plan(&revision(state, annotation), routes, Timestamp::UNIX_EPOCH).unwrap()["metadata"]["annotations"]
                .get(meta::ROUTING_STATE_MODIFIED_ANNOTATION)
                .cloned()
        };
        assert_eq!(time("pending", None, &["a"]), Some(json!("1970-01-01T00:00:00Z")));
        assert_eq!(time("active", Some("a"), &["b"]), None);
    }
}
