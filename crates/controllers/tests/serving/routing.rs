//! Rollouts and names, with virtual time.

use crate::platform::{Platform, image, ready, reason, service};
use kittiwake_api::serving::{Configuration, Revision, Route, Service};
use serde_json::{Value, json};
use std::time::Duration;

const HOST: &str = "hello.default.localhost";

#[tokio::test(start_paused = true)]
async fn a_new_revision_gets_its_traffic_step_by_step() {
    let platform = Platform::start().await;
    let mut object = service("hello", "good:v1");
    object["metadata"]["annotations"] = json!({ "serving.knative.dev/rollout-duration": "20s" });
    platform.create::<Service>(object).await;
    platform.wait::<Service>("hello", ready).await;
    platform.merge::<Service>("hello", image("good:v2")).await;
    let rolling = |route: &Route| reason(route, "IngressReady") == "RolloutInProgress";
    platform.wait::<Route>("hello", rolling).await;
    assert_eq!(platform.split(HOST), "hello-00001:99 hello-00002:1");
    let service_ = platform.get::<Service>("hello").await;
    assert!(!ready(&service_), "not before all traffic moved");
    assert_eq!(service_.status.unwrap().traffic.len(), 2, "users see the split");
    // 20 s, of which the first percent took one: 19 steps of 5 %.
    let mut shares = Vec::new();
    for _ in 0..230 {
        let table = platform.table();
        let share = table
            .lookup(HOST)
            .unwrap()
            .targets
            .iter()
            .find(|t| &*t.revision.key.name == "hello-00002")
            .unwrap()
            .percent;
        if shares.last() != Some(&share) {
            shares.push(share);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let wanted: Vec<u32> = (0..20).map(|step| 1 + 5 * step).chain([100]).collect();
    assert_eq!(shares, wanted);
    platform.wait::<Service>("hello", ready).await;
    assert_eq!(platform.split(HOST), "hello-00002:100");
    let reserve =
        |r: &Revision| r.metadata.labels.as_ref().unwrap()["serving.knative.dev/routingState"] == "reserve";
    platform.wait::<Revision>("hello-00001", reserve).await;
}

#[tokio::test(start_paused = true)]
async fn a_rollout_survives_a_restart_and_a_way_back_ends_it() {
    let mut platform = Platform::start().await;
    platform
        .set("config-network", json!({ "rollout-duration": "100" }))
        .await
        .unwrap();
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.wait::<Service>("hello", ready).await;
    platform.merge::<Service>("hello", image("good:v2")).await;
    platform.settle().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    platform.restart().await;
    let before = platform.split(HOST);
    assert!(before.starts_with("hello-00001:6"), "{before}");
    let back = json!({ "spec": { "traffic": [{ "revisionName": "hello-00001", "percent": 100 }] } });
    platform.merge::<Service>("hello", back).await;
    platform.wait::<Service>("hello", ready).await;
    assert_eq!(
        platform.split(HOST),
        "hello-00001:100",
        "named revisions move at once"
    );
}

#[tokio::test(start_paused = true)]
async fn names_of_the_users_own_are_kept_and_never_given_twice() {
    let platform = Platform::start().await;
    let named = |name: &str, image: &str| {
        json!({ "spec": { "template": {
            "metadata": { "name": name },
            "spec": { "containers": [{ "name": "user-container", "image": image }] },
        } } })
    };
    let mut object = service("hello", "good:v1");
    object["spec"]["template"]["metadata"] = json!({ "name": "hello-blue" });
    platform.create::<Service>(object).await;
    platform.wait::<Service>("hello", ready).await;
    assert_eq!(platform.split(HOST), "hello-blue:100");
    platform
        .merge::<Service>("hello", named("hello-green", "good:v2"))
        .await;
    let on_green = |s: &Service| {
        ready(s) && s.status.as_ref().unwrap().latest_ready_revision_name.as_deref() == Some("hello-green")
    };
    platform.wait::<Service>("hello", on_green).await;
    // The name of the first one with another spec.
    platform
        .merge::<Service>("hello", named("hello-blue", "good:v3"))
        .await;
    let taken = |s: &Service| reason(s, "RoutesReady") == "RevisionNameTaken";
    platform.wait::<Service>("hello", taken).await;
    assert_eq!(platform.split(HOST), "hello-green:100", "traffic stays");
    // Back to the very spec that a name had.
    platform
        .merge::<Service>("hello", named("hello-red", "good:v4"))
        .await;
    platform.wait::<Service>("hello", ready).await;
    platform
        .merge::<Service>("hello", named("hello-blue", "good:v1"))
        .await;
    platform.wait::<Service>("hello", ready).await;
    assert_eq!(platform.split(HOST), "hello-blue:100");
}

#[tokio::test(start_paused = true)]
async fn a_failing_revision_gets_no_traffic() {
    let platform = Platform::start().await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.wait::<Service>("hello", ready).await;
    let sidecars: Value = json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "a", "image": "good:v2", "ports": [{ "containerPort": 8080 }] },
        { "name": "b", "image": "good:v2" },
    ] } } } });
    platform.merge::<Service>("hello", sidecars).await;
    let failed = |c: &Configuration| reason(c, "Ready") == "RevisionFailed";
    let configuration = platform.wait::<Configuration>("hello", failed).await;
    let status = configuration.status.unwrap();
    assert_eq!(
        status.latest_created_revision_name.as_deref(),
        Some("hello-00002")
    );
    assert_eq!(status.latest_ready_revision_name.as_deref(), Some("hello-00001"));
    let revision = platform.get::<Revision>("hello-00002").await;
    assert_eq!(reason(&revision, "Ready"), "SidecarsNotSupported");
    assert_eq!(platform.split(HOST), "hello-00001:100");
}
