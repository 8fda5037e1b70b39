//! Tables for the plan of a Revision's PodAutoscaler.

use super::*;
use serde_json::{Value, json};

fn revision(annotations: Value, state: &str, ready: Option<&str>) -> Revision {
    let healthy = ready.map(|ready| if ready == "False" { "False" } else { "True" });
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
        "metadata": { "name": "r", "namespace": "default", "uid": "u", "annotations": annotations,
            "labels": { "serving.knative.dev/routingState": state } },
        "spec": { "containers": [{ "name": "c", "ports": [{ "name": "h2c", "containerPort": 80 }] }], "containerConcurrency": 5 },
        "status": { "conditions": ready.map(|ready| json!([
            { "type": "Ready", "status": ready }, { "type": "ContainerHealthy", "status": healthy }])).unwrap_or(json!([])) },
    }))
    .unwrap()
}

fn user() -> UserPodAutoscaler {
    serde_json::from_value(json!({
        "apiVersion": "autoscaling.knative.dev/v1alpha1", "kind": "PodAutoscaler", "metadata": { "name": "s" },
        "spec": { "scaleTargetRef": { "name": "s" }, "minScale": 0, "maxScale": 1000, "target": 80 },
    }))
    .unwrap()
}

fn created(revision: &Revision, user: Option<&UserPodAutoscaler>) -> PodAutoscaler {
    match plan(revision, None, user) {
        Plan::Write(Write::Create(mut object)) => {
            object.metadata.generation = Some(1);
            object
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_is_made_from_its_revision() {
    let object = created(
        &revision(
            json!({ "autoscaling.knative.dev/minScale": "2" }),
            "pending",
            None,
        ),
        None,
    );
    assert_eq!(object.spec.scale_target_ref.name.as_deref(), Some("r"));
    assert_eq!(
        (object.spec.container_concurrency, &*object.spec.protocol_type),
        (Some(5), "h2c")
    );
    assert_eq!(object.annotation("autoscaling.knative.dev/minScale"), Some("2"));
    assert_eq!(
        (
            object.label("app"),
            object.label("serving.knative.dev/revisionUID")
        ),
        (Some("r"), Some("u"))
    );
}

#[test]
fn the_users_bounds_fill_what_the_revision_leaves_open() {
    let own = json!({ "autoscaling.knative.dev/minScale": "3" });
    let object = created(&revision(own, "active", None), Some(&user()));
    let get = |key: &str| {
        object
            .annotation(&format!("autoscaling.knative.dev/{key}"))
            .map(str::to_owned)
    };
    assert_eq!(get("minScale").as_deref(), Some("3"));
    assert_eq!(get("min-scale"), None, "one spelling is enough");
    assert_eq!(
        (get("max-scale").as_deref(), get("target").as_deref()),
        (Some("1000"), Some("80"))
    );
    // Without the user's object its bounds go away again.
    let revision = revision(json!({}), "active", None);
    let bounded = created(&revision, Some(&user()));
    let Plan::Write(Write::Replace(replaced)) = plan(&revision, Some(&bounded), None) else {
        panic!()
    };
    assert_eq!(replaced.annotation("autoscaling.knative.dev/max-scale"), None);
}

#[test]
fn a_foreign_object_is_left_alone() {
    let revision = revision(json!({}), "active", None);
    let mut object = created(&revision, None);
    object.metadata.owner_references = None;
    assert_eq!(plan(&revision, Some(&object), None), Plan::Foreign);
}

#[test]
fn what_admission_adds_is_no_reason_to_write_again() {
    let revision = revision(json!({ "own": "1" }), "active", None);
    let mut object = created(&revision, None);
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert(
        "autoscaling.knative.dev/class".to_owned(),
        "kpa.autoscaling.knative.dev".to_owned(),
    );
    assert_eq!(plan(&revision, Some(&object), None), Plan::Follow);
    object
        .metadata
        .annotations
        .get_or_insert_default()
        .insert("own".to_owned(), "2".to_owned());
    assert!(matches!(
        plan(&revision, Some(&object), None),
        Plan::Write(Write::Replace(_))
    ));
}
