//! Rollouts and names, with virtual time.

use crate::platform::{Platform, image, message, ready, reason, service};
use k8s_openapi::api::core::v1::Service as KubernetesService;
use kittiwake_api::serving::{Configuration, Revision, Route, Service};
use kittiwake_core::artifact::PrepareError;
use kittiwake_core::code::ErrorCode;
use kube::api::DeleteParams;
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
    let error = PrepareError::new(ErrorCode::UnsupportedKind, "it does not stay");
    platform.artifacts.fail("ends:v1", error);
    let sidecars: Value = json!({ "spec": { "template": { "spec": { "containers": [
        { "name": "a", "image": "server:v2", "ports": [{ "containerPort": 8080 }] },
        { "name": "b", "image": "ends:v1" },
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
    assert_eq!(reason(&revision, "Ready"), "ContainerMissing");
    assert_eq!(
        message(&revision, "Ready"),
        "container \"b\": it does not stay [KW0112]"
    );
    assert_eq!(platform.split(HOST), "hello-00001:100");
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_follows_the_latest_revision_rolls_too() {
    let platform = Platform::start().await;
    let mut object = service("hello", "good:v1");
    object["metadata"]["annotations"] = json!({ "serving.knative.dev/rollout-duration": "20s" });
    object["spec"]["traffic"] = json!([
        { "tag": "first", "revisionName": "hello-00001", "percent": 100 },
        { "tag": "latest", "latestRevision": true },
    ]);
    platform.create::<Service>(object).await;
    platform.wait::<Service>("hello", ready).await;
    platform.merge::<Service>("hello", image("good:v2")).await;
    let rolling = |route: &Route| reason(route, "IngressReady") == "RolloutInProgress";
    platform.wait::<Route>("hello", rolling).await;
    let of_tag = |tag: &str| platform.split(&format!("{tag}-{HOST}"));
    assert_eq!(of_tag("latest"), "hello-00001:99 hello-00002:1");
    assert_eq!(
        (of_tag("first"), platform.split(HOST)),
        ("hello-00001:100".to_owned(), "hello-00001:100".to_owned())
    );
    platform.wait::<Service>("hello", ready).await;
    assert_eq!(of_tag("latest"), "hello-00002:100");
    assert_eq!(platform.split(HOST), "hello-00001:100");
}

fn tag_url(route: &Route, tag: &str) -> String {
    let traffic = route
        .status
        .as_ref()
        .map(|status| status.traffic.as_slice())
        .unwrap_or_default();
    let target = traffic.iter().find(|target| target.tag.as_deref() == Some(tag));
    target.and_then(|target| target.url.clone()).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn each_name_of_a_route_has_a_placeholder_that_may_keep_it_inside() {
    let platform = Platform::start().await;
    let mut object = service("hello", "good:v1");
    object["metadata"]["labels"] = json!({ "team": "a" });
    object["spec"]["traffic"] =
        json!([{ "tag": "blue", "percent": 100 }, { "tag": "green", "latestRevision": true }]);
    platform.create::<Service>(object).await;
    platform.wait::<Service>("hello", ready).await;
    assert_eq!(
        platform.names::<KubernetesService>().await,
        ["blue-hello", "green-hello", "hello"]
    );
    let placeholder = platform.get::<KubernetesService>("blue-hello").await;
    let labels = placeholder.metadata.labels.clone().unwrap();
    assert_eq!(
        (
            labels["serving.knative.dev/route"].as_str(),
            labels["team"].as_str()
        ),
        ("hello", "a")
    );
    let version = placeholder.metadata.resource_version;
    platform.settle().await;
    let later = platform.get::<KubernetesService>("blue-hello").await;
    assert_eq!(later.metadata.resource_version, version, "written once");

    let local = json!({ "metadata": { "labels": { "networking.knative.dev/visibility": "cluster-local" } } });
    platform.merge::<KubernetesService>("blue-hello", local).await;
    let inside = |route: &Route| {
        tag_url(route, "blue") == "http://blue-hello.default.svc.cluster.local" && ready(route)
    };
    let route = platform.wait::<Route>("hello", inside).await;
    assert_eq!(
        tag_url(&route, "green"),
        "http://green-hello.default.localhost:8080"
    );
    platform.settle().await;
    assert!(platform.table().lookup("blue-hello.default.localhost").is_none());
    assert!(
        platform
            .table()
            .lookup("blue-hello.default.svc.cluster.local")
            .is_some()
    );
    assert!(platform.table().lookup(HOST).is_some());

    // A tag that goes takes its placeholder along.
    let fewer = json!({ "spec": { "traffic": [{ "tag": "blue", "percent": 100 }] } });
    platform.merge::<Service>("hello", fewer).await;
    platform.settle().await;
    assert_eq!(
        platform.names::<KubernetesService>().await,
        ["blue-hello", "hello"]
    );
    // And so does the Route.
    let params = DeleteParams::background();
    platform.api::<Service>().delete("hello", &params).await.unwrap();
    platform.settle().await;
    assert!(platform.names::<KubernetesService>().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_service_of_the_users_own_keeps_its_name_until_it_goes() {
    let platform = Platform::start().await;
    let own = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "hello" },
        "spec": { "type": "ExternalName", "externalName": "example.com" },
    });
    platform.create::<KubernetesService>(own).await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    let taken = |route: &Route| reason(route, "IngressReady") == "NotOwned";
    platform.wait::<Route>("hello", taken).await;
    let told = |service: &Service| reason(service, "RoutesReady") == "NotOwned";
    platform.wait::<Service>("hello", told).await;
    assert!(
        platform
            .table()
            .lookup(HOST)
            .is_none_or(|entry| entry.targets.is_empty())
    );
    let params = DeleteParams::background();
    platform
        .api::<KubernetesService>()
        .delete("hello", &params)
        .await
        .unwrap();
    platform.wait::<Service>("hello", ready).await;
}
