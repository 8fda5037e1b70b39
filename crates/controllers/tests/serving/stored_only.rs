//! Kinds that nothing carries out yet say so.

use crate::platform::Platform;
use kittiwake_api::eventing::Broker;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_broker_says_that_nothing_serves_it_yet() {
    let platform = Platform::start().await;
    let broker =
        json!({"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "metadata": {"name": "default"}});
    platform.create::<Broker>(with_spec(broker)).await;
    let told = |broker: &Broker| {
        broker
            .status
            .as_ref()
            .is_some_and(|s| !s.status.conditions.is_empty())
    };
    let broker = platform.wait::<Broker>("default", told).await;
    let status = broker.status.unwrap().status;
    assert_eq!(status.observed_generation, broker.metadata.generation);
    assert!(status.conditions[0].is_false());
    assert_eq!(status.conditions[0].reason, "NotServedYet");

    let patch = json!({"spec": {"delivery": {"retry": 1}}});
    platform.merge::<Broker>("default", patch).await;
    let seen = |broker: &Broker| {
        broker.status.as_ref().and_then(|s| s.status.observed_generation) == broker.metadata.generation
            && broker.metadata.generation == Some(2)
    };
    platform.wait::<Broker>("default", seen).await;
}

fn with_spec(mut object: Value) -> Value {
    object["spec"] = json!({});
    object
}

#[tokio::test(start_paused = true)]
async fn templates_and_their_constraints_say_that_nothing_is_enforced() {
    let platform = Platform::start().await;
    let api = |group: &str, version: &str, kind: &str, plural: &str| -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk(group, version, kind);
        Api::all_with(
            platform.client.clone(),
            &ApiResource::from_gvk_with_plural(&gvk, plural),
        )
    };
    let templates = api(
        "templates.gatekeeper.sh",
        "v1",
        "ConstraintTemplate",
        "constrainttemplates",
    );
    let constraints = api("constraints.gatekeeper.sh", "v1beta1", "DenyAll", "denyall");
    let template = json!({
        "apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate", "metadata": {"name": "denyall"},
        "spec": {
            "crd": {"spec": {"names": {"kind": "DenyAll"}}},
            "targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": "package denyall\nviolation[{\"msg\": \"no\"}] { true }"}],
        },
    });
    let constraint = json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "DenyAll", "metadata": {"name": "all"}, "spec": {}});
    for round in 0..2 {
        for (api, object) in [(&templates, &template), (&constraints, &constraint)] {
            let object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
            api.create(&PostParams::default(), &object).await.unwrap();
        }
        assert_eq!(
            told(&templates, "denyall").await["created"],
            true,
            "round {round}"
        );
        let status = told(&constraints, "all").await;
        assert_eq!(status["byPod"][0]["enforced"], false, "round {round}");
        templates.delete("denyall", &Default::default()).await.unwrap();
    }
}

/// The status of an object, once it has one. Time is virtual.
async fn told(api: &Api<DynamicObject>, name: &str) -> Value {
    for _ in 0..1000 {
        if let Some(status) = api.get(name).await.unwrap().data.get("status") {
            return status.clone();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{name} was told nothing");
}
