//! The controllers against the real API server in process, with artifacts that are made up. Time is virtual.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod artifacts;
mod autoscaling;
mod domain_mappings;
mod garbage;
mod platform;
mod routing;
mod settings;
mod stored_only;
mod volumes;

use k8s_openapi::api::core::v1::{Event, Secret};
use kittiwake_api::autoscaling::pod_autoscaler::PodAutoscaler;
use kittiwake_api::autoscaling::user_pod_autoscaler::PodAutoscaler as UserPodAutoscaler;
use kittiwake_api::serving::{Configuration, Revision, Route, Service};
use kittiwake_core::artifact::{PrepareError, RegistryCredential};
use kittiwake_core::code::ErrorCode;
use kittiwake_core::report::Health;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use platform::{Platform, condition, ready, service};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_service_becomes_ready_with_everything_that_belongs_to_it() {
    let platform = Platform::start().await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    let object = platform.wait::<Service>("hello", ready).await;
    let status = object.status.as_ref().unwrap();
    assert_eq!(status.url.as_deref(), Some("http://hello.default.localhost:8080"));
    assert_eq!(
        status.latest_created_revision_name.as_deref(),
        Some("hello-00001")
    );
    assert_eq!(status.latest_ready_revision_name.as_deref(), Some("hello-00001"));
    assert_eq!(status.observed_generation, object.metadata.generation);
    assert_eq!(status.traffic[0].revision_name.as_deref(), Some("hello-00001"));

    assert_eq!(
        platform.split("hello.default.localhost"),
        "hello-00001:100",
        "Ready means that it is routed"
    );
    let revision = platform.get::<Revision>("hello-00001").await;
    assert_eq!(
        revision.status.unwrap().container_statuses[0]
            .image_digest
            .as_deref(),
        Some("good@sha256:v1"),
        "the tag is pinned"
    );
    let active = |r: &Revision| {
        r.metadata
            .labels
            .as_ref()
            .is_some_and(|l| l["serving.knative.dev/routingState"] == "active")
            && condition(r, "Active") == "True"
    };
    let revision = platform.wait::<Revision>("hello-00001", active).await;
    assert_eq!(
        revision.metadata.annotations.unwrap()["serving.knative.dev/routes"],
        "hello"
    );
    platform.wait::<PodAutoscaler>("hello-00001", ready).await;
    for reason in [
        "Created",
        "RevisionReady",
        "ConfigurationReady",
        "LatestReadyUpdate",
    ] {
        platform.wait_for_event(reason).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_template_makes_a_new_revision_and_metadata_does_not() {
    let platform = Platform::start().await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.wait::<Service>("hello", ready).await;
    platform
        .merge::<Service>("hello", json!({ "metadata": { "annotations": { "note": "x" } } }))
        .await;
    let noted = |c: &Configuration| {
        c.metadata
            .annotations
            .as_ref()
            .is_some_and(|a| a.contains_key("note"))
    };
    platform.wait::<Configuration>("hello", noted).await;

    platform
        .merge::<Service>("hello", platform::image("good:v2"))
        .await;
    let second = |s: &Service| {
        ready(s) && s.status.as_ref().unwrap().latest_ready_revision_name.as_deref() == Some("hello-00002")
    };
    platform.wait::<Service>("hello", second).await;
    assert_eq!(platform.split("hello.default.localhost"), "hello-00002:100");
    let reserve =
        |r: &Revision| r.metadata.labels.as_ref().unwrap()["serving.knative.dev/routingState"] == "reserve";
    platform.wait::<Revision>("hello-00001", reserve).await;
    assert_eq!(platform.names::<Revision>().await, ["hello-00001", "hello-00002"]);
}

#[tokio::test(start_paused = true)]
async fn a_failing_new_revision_leaves_the_old_one_serving_and_heals_by_itself() {
    let platform = Platform::start().await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.wait::<Service>("hello", ready).await;
    let error = PrepareError::new(
        ErrorCode::ArtifactNotFound,
        "broken:v1 was not found; check its name",
    );
    platform.artifacts.fail("broken:v1", error.clone());
    platform
        .merge::<Service>("hello", platform::image("broken:v1"))
        .await;
    let failed = |s: &Service| condition(s, "Ready") == "False";
    let object = platform.wait::<Service>("hello", failed).await;
    let status = object.status.unwrap();
    let message = &kittiwake_api::condition::find(&status.conditions, "Ready")
        .unwrap()
        .message;
    assert_eq!(
        *message,
        format!("Revision \"hello-00002\" failed with message: {error}.")
    );
    assert_eq!(status.latest_ready_revision_name.as_deref(), Some("hello-00001"));
    assert_eq!(platform.split("hello.default.localhost"), "hello-00001:100");
    let revision = platform.get::<Revision>("hello-00002").await;
    assert_eq!(
        platform::reason(&revision, "ContainerHealthy"),
        "ContainerMissing"
    );

    platform.artifacts.repair("broken:v1");
    platform.wait::<Service>("hello", ready).await;
    assert_eq!(platform.split("hello.default.localhost"), "hello-00002:100");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_is_waited_for() {
    let platform = Platform::start().await;
    platform.artifacts.fail(
        "far:v1",
        PrepareError::new(ErrorCode::RegistryUnavailable, "no answer from far"),
    );
    platform.create::<Service>(service("hello", "far:v1")).await;
    let waiting = |r: &Revision| platform::message(r, "Ready").contains("no answer from far");
    let revision = platform.wait::<Revision>("hello-00001", waiting).await;
    assert_eq!(condition(&revision, "Ready"), "Unknown");
    let late = |r: &Revision| platform::reason(r, "ResourcesAvailable") == "ProgressDeadlineExceeded";
    platform.wait::<Revision>("hello-00001", late).await;
    platform.artifacts.repair("far:v1");
    platform.wait::<Service>("hello", ready).await;
}

/// The Secret `pull`, for the registry `r.example`.
fn pull_secret() -> serde_json::Value {
    let config = r#"{"auths":{"r.example":{"username":"me","password":"pw"}}}"#;
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": { "name": "pull" }, "stringData": { ".dockerconfigjson": config },
    })
}

#[tokio::test(start_paused = true)]
async fn pull_secrets_reach_the_registry_as_soon_as_they_are_there() {
    let platform = Platform::start().await;
    platform.artifacts.fail(
        "private:v1",
        PrepareError::new(ErrorCode::RegistryUnauthorized, "login wanted"),
    );
    let mut object = service("hello", "private:v1");
    object["spec"]["template"]["spec"]["imagePullSecrets"] = json!([{ "name": "pull" }]);
    platform.create::<Service>(object).await;
    let named = |r: &Revision| platform::message(r, "Ready").contains("secret \"pull\" not found");
    platform.wait::<Revision>("hello-00001", named).await;
    platform.artifacts.repair("private:v1");
    platform.create::<Secret>(pull_secret()).await;
    platform.wait::<Service>("hello", ready).await;
    let wanted = RegistryCredential {
        registry: "r.example".into(),
        username: "me".into(),
        password: "pw".into(),
    };
    assert_eq!(platform.artifacts.last_request().credentials, [wanted]);
}

#[tokio::test(start_paused = true)]
async fn chosen_revision_names_are_used() {
    let platform = Platform::start().await;
    let mut object = service("hello", "good:v1");
    object["spec"]["template"]["metadata"] = json!({ "name": "hello-mine" });
    platform.create::<Service>(object).await;
    let object = platform.wait::<Service>("hello", ready).await;
    assert_eq!(
        object.status.unwrap().latest_ready_revision_name.as_deref(),
        Some("hello-mine")
    );
}

#[tokio::test(start_paused = true)]
async fn traffic_is_split_and_tagged() {
    let platform = Platform::start().await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.wait::<Service>("hello", ready).await;
    let mut change = platform::image("good:v2");
    change["spec"]["traffic"] = json!([
        { "revisionName": "hello-00001", "percent": 80, "tag": "stable" },
        { "latestRevision": true, "percent": 20 },
        { "latestRevision": true, "percent": 0, "tag": "latest" },
    ]);
    platform.merge::<Service>("hello", change).await;
    let split = |s: &Service| ready(s) && s.status.as_ref().unwrap().traffic.len() == 3;
    let object = platform.wait::<Service>("hello", split).await;
    assert_eq!(
        object.status.unwrap().traffic[0].url.as_deref(),
        Some("http://stable-hello.default.localhost:8080")
    );
    assert_eq!(
        platform.split("hello.default.localhost"),
        "hello-00001:80 hello-00002:20"
    );
    assert_eq!(
        platform.split("stable-hello.default.localhost"),
        "hello-00001:100"
    );
    assert_eq!(
        platform.split("latest-hello.default.svc.cluster.local"),
        "hello-00002:100"
    );
}

#[tokio::test(start_paused = true)]
async fn deleting_a_service_takes_everything_with_it() {
    let platform = Platform::start().await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.wait::<Service>("hello", ready).await;
    platform
        .api::<Service>()
        .delete("hello", &DeleteParams::default())
        .await
        .unwrap();
    platform.wait_until_gone::<Service>("hello").await;
    platform.wait_until_gone::<Configuration>("hello").await;
    platform.wait_until_gone::<Route>("hello").await;
    platform.wait_until_gone::<Revision>("hello-00001").await;
    platform.wait_until_gone::<PodAutoscaler>("hello-00001").await;
    platform.wait_for_table(|table| table.is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_everything_is_served_again_without_flapping() {
    let mut platform = Platform::start().await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.wait::<Service>("hello", ready).await;
    platform.settle().await;
    let before = platform.get::<Revision>("hello-00001").await;
    platform.restart().await;
    assert_eq!(
        platform.split("hello.default.localhost"),
        "hello-00001:100",
        "synced means routed"
    );
    assert_eq!(
        &*platform.artifacts.last_request().revision.image,
        "good@sha256:v1",
        "the digest, not the tag"
    );
    platform.settle().await;
    let after = platform.get::<Revision>("hello-00001").await;
    assert_eq!(
        after.metadata.resource_version, before.metadata.resource_version,
        "nothing was written"
    );
}

#[tokio::test(start_paused = true)]
async fn a_restart_prepares_only_what_is_not_on_disk() {
    let mut platform = Platform::start().await;
    for (name, image) in [("kept", "kept:v1"), ("gone", "gone:v1")] {
        platform.create::<Service>(service(name, image)).await;
        platform.wait::<Service>(name, ready).await;
    }
    platform.settle().await;
    platform.artifacts.leave_on_disk("kept@sha256:v1");
    let before = platform.artifacts.requests();
    platform.restart().await;
    platform.settle().await;
    assert_eq!(platform.artifacts.requests(), before + 1);
    assert_eq!(
        &*platform.artifacts.last_request().revision.image,
        "gone@sha256:v1"
    );
    for name in ["kept", "gone"] {
        assert_eq!(
            platform.split(&format!("{name}.default.localhost")),
            format!("{name}-00001:100")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_on_another_port_is_over_when_services_say_so() {
    let mut platform = Platform::start().await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.wait::<Service>("hello", ready).await;
    platform.settle().await;
    platform.external_port = Some(9090);
    platform.restart().await;
    let service = platform.get::<Service>("hello").await;
    let url = service.status.and_then(|status| status.url);
    assert_eq!(url.as_deref(), Some("http://hello.default.localhost:9090"));
}

#[tokio::test(start_paused = true)]
async fn an_artifact_that_left_the_cache_is_prepared_with_the_revisions_credentials() {
    let platform = Platform::start().await;
    platform.create::<Secret>(pull_secret()).await;
    let mut object = service("hello", "private:v1");
    object["spec"]["template"]["spec"]["imagePullSecrets"] = json!([{ "name": "pull" }]);
    platform.create::<Service>(object).await;
    platform.wait::<Service>("hello", ready).await;
    platform.settle().await;
    let before = platform.artifacts.requests();
    platform.report("hello-00001", Health::ArtifactLost).await;
    platform.settle().await;
    assert_eq!(platform.artifacts.requests(), before + 1);
    assert_eq!(platform.artifacts.last_request().credentials.len(), 1);
    assert_eq!(
        platform.split("hello.default.localhost"),
        "hello-00001:100",
        "it is served again"
    );
    platform.report("hello-00001", Health::Recovered).await;
    platform.settle().await;
    assert_eq!(platform.artifacts.requests(), before + 1, "once is enough");
}

#[tokio::test(start_paused = true)]
async fn traps_are_shown_until_a_call_succeeds() {
    let platform = Platform::start().await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.wait::<Service>("hello", ready).await;
    platform
        .report(
            "hello-00001",
            Health::Failing {
                message: "wasm trap: unreachable".to_owned(),
                exit_code: 134,
            },
        )
        .await;
    let failing = |s: &Service| condition(s, "Ready") == "False";
    platform.wait::<Service>("hello", failing).await;
    let revision = platform.get::<Revision>("hello-00001").await;
    assert_eq!(platform::reason(&revision, "ContainerHealthy"), "ExitCode134");
    assert_eq!(
        platform.split("hello.default.localhost"),
        "hello-00001:100",
        "calls may still succeed"
    );
    platform.report("hello-00001", Health::Recovered).await;
    platform.wait::<Service>("hello", ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_users_pod_autoscaler_sets_the_bounds() {
    let platform = Platform::start().await;
    platform
        .create::<UserPodAutoscaler>(json!({
            "apiVersion": "autoscaling.knative.dev/v1alpha1", "kind": "PodAutoscaler", "metadata": { "name": "hello" },
            "spec": {
                "scaleTargetRef": { "apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "hello" },
                "minScale": 0, "maxScale": 1000, "target": 80,
            },
        }))
        .await;
    let missing = |p: &UserPodAutoscaler| platform::reason(p, "Ready") == "TargetNotFound";
    platform.wait::<UserPodAutoscaler>("hello", missing).await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.wait::<UserPodAutoscaler>("hello", ready).await;
    let bounded = |p: &PodAutoscaler| {
        let annotations = p.metadata.annotations.clone().unwrap_or_default();
        let has = |key: &str, value: &str| annotations.get(key).is_some_and(|v| v == value);
        has("autoscaling.knative.dev/max-scale", "1000") && has("autoscaling.knative.dev/target", "80")
    };
    platform.wait::<PodAutoscaler>("hello-00001", bounded).await;
}

#[tokio::test(start_paused = true)]
async fn a_local_service_has_no_outer_host() {
    let platform = Platform::start().await;
    let mut object = service("hello", "good:v1");
    object["metadata"]["labels"] = json!({ "networking.knative.dev/visibility": "cluster-local" });
    platform.create::<Service>(object).await;
    let object = platform.wait::<Service>("hello", ready).await;
    assert_eq!(
        object.status.unwrap().url.as_deref(),
        Some("http://hello.default.svc.cluster.local")
    );
    assert_eq!(platform.split("hello.default"), "hello-00001:100");
    assert!(platform.table().lookup("hello.default.localhost").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_services_become_ready_with_few_preparations_at_a_time() {
    let platform = Platform::start().await;
    for n in 0..100 {
        platform
            .create::<Service>(service(&format!("hello-{n}"), "good:v1"))
            .await;
    }
    for n in 0..100 {
        platform.wait::<Service>(&format!("hello-{n}"), ready).await;
    }
    assert!(platform.artifacts.running_most() <= 4);
    assert_eq!(platform.table().len(), 400);
    let events = platform
        .api::<Event>()
        .list(&ListParams::default())
        .await
        .unwrap();
    assert!(!events.items.is_empty());
    let api = platform.api::<Service>();
    let patch = Patch::Merge(json!({ "metadata": { "labels": { "a": "b" } } }));
    api.patch("hello-7", &PatchParams::default(), &patch)
        .await
        .unwrap();
    platform
        .wait::<Route>("hello-7", |r| {
            r.metadata.labels.as_ref().is_some_and(|l| l.contains_key("a"))
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn once_all_is_ready_nothing_is_written_any_more() {
    let platform = Platform::start().await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.wait::<Service>("hello", ready).await;
    platform.settle().await;
    let newest = async || {
        platform
            .api::<Service>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .metadata
            .resource_version
    };
    let before = newest().await;
    platform.settle().await;
    assert_eq!(newest().await, before);
}
