//! Tests of server-side apply: tables of requests in a row, and what everybody owns after them.

use super::*;
use crate::patch::managed_fields::record_update;
use proptest::prelude::*;

fn schema() -> Schema {
    Schema::compile(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "a": {"type": "string"},
            "b": {"type": "string"},
            "group": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "tags": {"type": "object", "additionalProperties": {"type": "string"}},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
            "atomic": {"type": "array", "items": {"type": "string"}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {
                    "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}, "name": {"type": "string"}}}},
        }},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }}))
    .unwrap()
}

struct By<'a> {
    manager: &'a str,
    force: bool,
    second: i64,
}

fn by(manager: &str, second: i64) -> By<'_> {
    By {
        manager,
        force: false,
        second,
    }
}

fn object(spec: Value) -> Value {
    json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n"}, "spec": spec})
}

fn apply_by(by: By<'_>, live: Option<&Value>, applied: Value) -> Result<Value, ApplyError> {
    apply(ApplyRequest {
        schema: &schema(),
        live,
        applied,
        manager: by.manager,
        force: by.force,
        api_version: "g/v1",
        subresource: None,
        now: Timestamp::from_second(by.second).unwrap(),
    })
}

fn update_by(manager: &str, second: i64, live: Option<&Value>, mut new: Value) -> Value {
    if let Some(fields) = live.and_then(|live| live.pointer("/metadata/managedFields")) {
        new["metadata"]["managedFields"] = fields.clone();
    }
    let now = Timestamp::from_second(second).unwrap();
    record_update(&schema(), live, &mut new, manager, "g/v1", None, now);
    new
}

fn spec_owned_by(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    entries
        .iter()
        .find(|entry| entry["manager"] == manager)
        .map_or(Value::Null, |entry| entry["fieldsV1"]["f:spec"].clone())
}

#[test]
fn an_object_is_created_and_owned() {
    let created = apply_by(
        by("m", 1),
        None,
        object(json!({"a": "1", "atomic": ["x"], "ports": [{"port": 80}]})),
    )
    .unwrap();
    assert_eq!(
        created["spec"],
        json!({"a": "1", "atomic": ["x"], "ports": [{"port": 80}]})
    );
    assert_eq!(
        created["metadata"]["managedFields"],
        json!([{
            "manager": "m", "operation": "Apply", "apiVersion": "g/v1", "time": "1970-01-01T00:00:01Z", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:a": {}, "f:atomic": {},
                "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}},
        }])
    );
}

#[test]
fn the_same_again_changes_nothing_not_even_times() {
    let wanted = object(json!({"a": "1", "tags": {"t": "1"}, "set": ["x"]}));
    let created = apply_by(by("m", 1), None, wanted.clone()).unwrap();
    assert_eq!(apply_by(by("m", 9), Some(&created), wanted).unwrap(), created);
}

#[test]
fn what_is_dropped_goes_unless_another_owns_it() {
    let one = apply_by(
        by("one", 1),
        None,
        object(
            json!({"a": "1", "b": "1", "group": {"x": 1}, "tags": {"p": "1", "q": "1"}, "set": ["s", "t"]}),
        ),
    )
    .unwrap();
    let two = apply_by(
        by("two", 2),
        Some(&one),
        object(json!({"b": "1", "tags": {"q": "1"}})),
    )
    .unwrap();
    assert_eq!(two["spec"], one["spec"]);
    let three = apply_by(by("one", 3), Some(&two), object(json!({"set": ["t"]}))).unwrap();
    assert_eq!(three["spec"], json!({"b": "1", "tags": {"q": "1"}, "set": ["t"]}));
    assert_eq!(spec_owned_by(&three, "one"), json!({"f:set": {"v:\"t\"": {}}}));
    assert_eq!(
        spec_owned_by(&three, "two"),
        json!({"f:b": {}, "f:tags": {"f:q": {}}})
    );
}

#[test]
fn other_values_conflict_unless_forced() {
    let one = apply_by(
        by("one", 1),
        None,
        object(json!({"a": "1", "b": "1", "group": {"x": 1}})),
    )
    .unwrap();
    let wanted = object(json!({"a": "2", "b": "1", "group": {"y": 1}}));
    let error = apply_by(by("two", 2), Some(&one), wanted.clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.a"
    );
    let forced = apply_by(
        By {
            force: true,
            ..by("two", 2)
        },
        Some(&one),
        wanted,
    )
    .unwrap();
    assert_eq!(
        forced["spec"],
        json!({"a": "2", "b": "1", "group": {"x": 1, "y": 1}})
    );
    assert_eq!(
        spec_owned_by(&forced, "one"),
        json!({"f:b": {}, "f:group": {"f:x": {}}})
    );
    assert_eq!(
        spec_owned_by(&forced, "two"),
        json!({"f:a": {}, "f:b": {}, "f:group": {"f:y": {}}})
    );
}

#[test]
fn conflicts_with_updates_name_their_version_and_subresource() {
    let one = update_by(
        "one",
        1,
        None,
        object(json!({"a": "1", "b": "1", "whole": {"x": "1"}})),
    );
    let error = apply_by(
        by("two", 2),
        Some(&one),
        object(json!({"a": "2", "b": "2", "whole": {"x": "2"}})),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"one\" using g/v1:\n- .spec.a\n- .spec.b\n- .spec.whole"
    );
    let ApplyError::Conflict(conflicts) = error else {
        panic!("a conflict is expected")
    };
    assert_eq!(conflicts[0].message(), "conflict with \"one\" using g/v1");
    let by_status = Conflict {
        subresource: Some("status".into()),
        ..conflicts[0].clone()
    };
    assert_eq!(
        by_status.message(),
        "conflict with \"one\" with subresource \"status\" using g/v1"
    );
}

#[test]
fn an_unrecorded_object_belongs_to_before_first_apply() {
    let live = object(json!({"a": "1", "b": "1"}));
    assert!(matches!(
        apply_by(by("m", 1), Some(&live), object(json!({"a": "2"}))),
        Err(ApplyError::Conflict(_))
    ));
    let applied = apply_by(by("m", 1), Some(&live), object(json!({"a": "1"}))).unwrap();
    assert_eq!(
        spec_owned_by(&applied, "before-first-apply"),
        json!({".": {}, "f:a": {}, "f:b": {}})
    );
    assert_eq!(spec_owned_by(&applied, "m"), json!({"f:a": {}}));
}

#[test]
fn kubectl_takes_over_what_it_applied_from_the_client_side() {
    let mut wanted = object(json!({"a": "1", "b": "1"}));
    let last_applied = wanted.to_string();
    wanted["metadata"]["annotations"] = json!({LAST_APPLIED_ANNOTATION: last_applied});
    let live = update_by("kubectl-client-side-apply", 1, None, wanted);

    let next = object(json!({"a": "2", "b": "1"}));
    assert!(apply_by(by("somebody", 2), Some(&live), next.clone()).is_err());
    let taken = apply_by(by("kubectl", 2), Some(&live), next.clone()).unwrap();
    assert_eq!(taken["spec"]["a"], "2");
    let annotation = taken["metadata"]["annotations"][LAST_APPLIED_ANNOTATION]
        .as_str()
        .unwrap();
    assert_eq!(serde_json::from_str::<Value>(annotation).unwrap(), next);
    assert_eq!(
        apply_by(by("kubectl", 3), Some(&taken), next.clone()).unwrap(),
        taken
    );

    // What somebody changed since is a conflict again.
    let mut changed = live.clone();
    changed["spec"]["a"] = json!("3");
    let changed = update_by("editor", 2, Some(&live), changed);
    let error = apply_by(by("kubectl", 3), Some(&changed), next).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"editor\" using g/v1: .spec.a"
    );
}

#[test]
fn kubectl_takes_over_a_list_that_only_gained_defaults() {
    let mut wanted = object(json!({"free": {"list": [{"image": "i"}]}}));
    wanted["metadata"]["annotations"] = json!({LAST_APPLIED_ANNOTATION: wanted.to_string()});
    wanted["spec"]["free"]["list"][0]["name"] = json!("defaulted");
    let live = update_by("kubectl-client-side-apply", 1, None, wanted);
    let next = object(json!({"free": {"list": [{"image": "j"}]}}));
    assert!(apply_by(by("somebody", 2), Some(&live), next.clone()).is_err());
    let taken = apply_by(by("kubectl", 2), Some(&live), next.clone()).unwrap();
    assert_eq!(taken["spec"]["free"]["list"], json!([{"image": "j"}]));

    let mut changed = live.clone();
    changed["spec"]["free"]["list"][0]["image"] = json!("k");
    let changed = update_by("editor", 2, Some(&live), changed);
    assert!(apply_by(by("kubectl", 3), Some(&changed), next).is_err());
}

#[test]
fn lists_keep_what_others_put_there() {
    let one = apply_by(
        by("one", 1),
        None,
        object(json!({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "b"}], "set": ["a", "c"]})),
    )
    .unwrap();
    let two = apply_by(
        by("two", 2),
        Some(&one),
        object(json!({"ports": [{"port": 3}, {"port": 1}], "set": ["b"]})),
    )
    .unwrap();
    assert_eq!(
        two["spec"],
        json!({"ports": [{"port": 3}, {"port": 1, "name": "a"}, {"port": 2, "name": "b"}], "set": ["b", "a", "c"]})
    );
    let three = apply_by(
        by("one", 3),
        Some(&two),
        object(json!({"ports": [{"port": 2, "name": "b"}]})),
    )
    .unwrap();
    assert_eq!(
        three["spec"],
        json!({"ports": [{"port": 3}, {"port": 1}, {"port": 2, "name": "b"}], "set": ["b"]})
    );
}

#[test]
fn free_form_fields_are_granular() {
    let one = apply_by(
        by("one", 1),
        None,
        object(json!({"free": {"p": {"q": 1, "list": [1]}}})),
    )
    .unwrap();
    let two = apply_by(by("two", 2), Some(&one), object(json!({"free": {"p": {"r": 1}}}))).unwrap();
    assert_eq!(two["spec"]["free"], json!({"p": {"q": 1, "list": [1], "r": 1}}));
    let three = apply_by(by("one", 3), Some(&two), object(json!({"free": {"p": {"q": 1}}}))).unwrap();
    assert_eq!(three["spec"]["free"], json!({"p": {"q": 1, "r": 1}}));
    let four = apply_by(by("two", 4), Some(&three), object(json!({}))).unwrap();
    assert_eq!(four["spec"]["free"], json!({"p": {"q": 1}}));
}

#[test]
fn status_is_applied_through_its_subresource_only() {
    let schema = schema();
    let mut wanted = object(json!({"a": "1"}));
    wanted["status"] = json!({"ready": true});
    let created = apply_by(by("m", 1), None, wanted.clone()).unwrap();
    assert_eq!(created.get("status"), None);
    wanted["spec"]["a"] = json!("changed");
    let request = ApplyRequest {
        schema: &schema,
        live: Some(&created),
        applied: wanted,
        manager: "m",
        force: false,
        api_version: "g/v1",
        subresource: Some("status"),
        now: Timestamp::from_second(2).unwrap(),
    };
    let with_status = apply(request).unwrap();
    assert_eq!(with_status["status"], json!({"ready": true}));
    assert_eq!(with_status["spec"]["a"], "1");
    let entries = with_status["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["subresource"], "status");
    // The main resource neither sees nor loses it.
    let again = apply_by(by("m", 3), Some(&with_status), object(json!({"b": "1"}))).unwrap();
    assert_eq!(again["status"], json!({"ready": true}));
    assert_eq!(again["spec"], json!({"b": "1"}));
}

#[test]
fn what_cannot_be_applied_is_explained() {
    for (applied, wanted) in [
        (json!([]), "an object is expected"),
        (json!({"spec": {}}), "metadata is missing"),
        (
            json!({"metadata": {"managedFields": [{}]}}),
            "metadata.managedFields must be nil",
        ),
        (
            object(json!({"set": ["a", "a"]})),
            ".spec.set[=\"a\"]: duplicate entries",
        ),
        (
            object(json!({"ports": [{"name": "x"}]})),
            ".spec.ports: element 0: associative list with keys has an element that omits key field \"port\" (and \
             doesn't have default value)",
        ),
    ] {
        assert_eq!(
            apply_by(by("m", 1), None, applied),
            Err(ApplyError::Invalid(wanted.into()))
        );
    }
}

fn any_spec() -> impl Strategy<Value = Value> {
    let text = prop::option::of("[x-z]");
    let group = prop::option::of((prop::option::of(0..2), prop::option::of(0..2)));
    let set = prop::collection::btree_set("[p-r]", 0..3);
    let ports = prop::collection::btree_map(1..4_u8, prop::option::of("[m-n]"), 0..3);
    let tags = prop::collection::btree_map("[a-c]", "[x-y]", 0..3);
    (text.clone(), text, group, set, ports, tags).prop_map(|(a, b, group, set, ports, tags)| {
        let ports: Vec<_> = ports
            .into_iter()
            .map(|(port, name)| json!({"port": port, "name": name}))
            .collect();
        let group = group.map(|(x, y)| json!({"x": x, "y": y}));
        let mut spec = json!({"a": a, "b": b, "group": group, "set": set, "ports": ports, "tags": tags});
        drop_nulls(&mut spec);
        spec
    })
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(first in any_spec(), second in any_spec(), other in any_spec()) {
        let live = apply_by(by("one", 1), None, object(first)).unwrap();
        let live = apply_by(By { force: true, ..by("two", 2) }, Some(&live), object(other)).unwrap();
        let force = |second| By { force: true, ..by("one", second) };
        let once = apply_by(force(3), Some(&live), object(second.clone())).unwrap();
        let twice = apply_by(force(4), Some(&once), object(second)).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn what_is_applied_is_there(first in any_spec(), second in any_spec()) {
        let live = apply_by(by("one", 1), None, object(first)).unwrap();
        let applied = object(second);
        let result = apply_by(By { force: true, ..by("two", 2) }, Some(&live), applied.clone()).unwrap();
        let schema = schema();
        let wanted = extract(schema.root(), &applied).0;
        let difference = compare(schema.root(), &applied, &result);
        prop_assert!(wanted.intersection(&difference.modified.union(&difference.removed)).is_empty());
    }

    #[test]
    fn a_lone_manager_gets_exactly_what_it_wants(first in any_spec(), second in any_spec()) {
        let live = apply_by(by("one", 1), None, object(first)).unwrap();
        let result = apply_by(by("one", 2), Some(&live), object(second.clone())).unwrap();
        let schema = schema();
        let wanted = extract(schema.root(), &object(second)).0;
        let found = extract(schema.root(), &without_managed_fields(&result)).0;
        prop_assert_eq!(found.leaves(), wanted.leaves());
    }

    #[test]
    fn updates_leave_every_field_with_an_owner(first in any_spec(), second in any_spec()) {
        let live = update_by("one", 1, None, object(first));
        let next = update_by("two", 2, Some(&live), object(second));
        let owned = Managers::read(&next).unwrap().0.values().fold(FieldSet::default(), |all, owned| all.union(&owned.fields));
        let there = strip(&extract(schema().root(), &without_managed_fields(&next)).0);
        prop_assert!(there.difference(&owned).is_empty());
    }
}
