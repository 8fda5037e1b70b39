//! Tables for the plan of a Revision's PodAutoscaler.

use super::*;
use kittiwake_api::condition::find;
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
    match plan(revision, None, user, Timestamp::UNIX_EPOCH).write {
        Write::Create(mut object) => {
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
    let Write::Replace(replaced) = plan(&revision, Some(&bounded), None, Timestamp::UNIX_EPOCH).write else {
        panic!()
    };
    assert_eq!(replaced.annotation("autoscaling.knative.dev/max-scale"), None);
}

#[test]
fn conditions_follow_the_revision() {
    for (state, ready, active, reason, overall) in [
        ("pending", None, "Unknown", "Queued", "Unknown"),
        ("pending", Some("True"), "True", "", "True"),
        ("active", Some("True"), "True", "", "True"),
        ("reserve", Some("True"), "False", "NoTraffic", "False"),
        ("active", Some("False"), "False", "TimedOut", "False"),
    ] {
        let revision = revision(json!({}), state, ready);
        let mut object = created(&revision, None);
        let status = plan(&revision, Some(&object), None, Timestamp::UNIX_EPOCH)
            .status
            .unwrap();
        let says = |type_: &str| find(&status.conditions, type_).unwrap();
        assert_eq!(
            (says("Active").status.as_str(), &*says("Active").reason),
            (active, reason),
            "{state} {ready:?}"
        );
        assert_eq!(says("Ready").status.as_str(), overall, "{state} {ready:?}");
        assert_eq!((status.desired_scale, status.actual_scale), (Some(0), Some(0)));
        object.status = Some(status);
        let again = plan(&revision, Some(&object), None, Timestamp::from_second(9).unwrap());
        assert_eq!(
            again,
            Plan {
                write: Write::Keep,
                status: None
            }
        );
    }
}

#[test]
fn a_foreign_object_is_left_alone() {
    let revision = revision(json!({}), "active", None);
    let mut object = created(&revision, None);
    object.metadata.owner_references = None;
    let plan = plan(&revision, Some(&object), None, Timestamp::UNIX_EPOCH);
    assert_eq!(
        plan,
        Plan {
            write: Write::Keep,
            status: None
        }
    );
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
    assert_eq!(
        plan(&revision, Some(&object), None, Timestamp::UNIX_EPOCH).write,
        Write::Keep
    );
    object
        .metadata
        .annotations
        .get_or_insert_default()
        .insert("own".to_owned(), "2".to_owned());
    assert!(matches!(
        plan(&revision, Some(&object), None, Timestamp::UNIX_EPOCH).write,
        Write::Replace(_)
    ));
}
