//! `test/e2e/{minscale_readiness,initial_scale}_test.go`, `test/e2e/initscale` and `test/scale`: bounds, what a Revision
//! begins with, and many Services at once.

use crate::scaling::{self, Image, hold_ready, template, until_pods, until_ready};
use crate::suite::{Suite, is_ready, text};
use futures::{StreamExt, stream};
use http::StatusCode;
use kittiwake_testkit::platform::PATIENCE;
use kube::core::WatchEvent;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

const MIN_SCALE: i64 = 4;

/// A Configuration of a template.
fn configuration(name: &str, template: &Value) -> Value {
    json!({"apiVersion": "serving.knative.dev/v1", "kind": "Configuration", "metadata": {"name": name},
        "spec": {"template": template}})
}

/// A Route to the latest Revision of a Configuration.
fn route(name: &str, configuration: &str) -> Value {
    json!({"apiVersion": "serving.knative.dev/v1", "kind": "Route", "metadata": {"name": name},
        "spec": {"traffic": [{"configurationName": configuration, "percent": 100}]}})
}

/// Waits until a Revision is ready.
async fn until_revision_ready(suite: &Suite, revision: &str) {
    suite.until("revisions", revision, is_ready).await;
}

/// Has a Configuration make another Revision.
async fn change_environment(suite: &Suite, name: &str) {
    let change = |object: &mut Value| {
        let container = object.pointer_mut("/spec/template/spec/containers/0").unwrap();
        container["env"] = json!([{"name": "FOO", "value": "BAR"}]);
    };
    suite.update("configurations", name, change).await.unwrap();
}

/// `TestMinScale`
#[tokio::test(flavor = "multi_thread")]
async fn test_min_scale() {
    let suite = scaling::start().await;
    let stories = [("stays", Image::Autoscale), ("percall", Image::HelloWorld)].map(|(name, image)| {
        let suite = &suite;
        async move {
            // Route and Configuration have different names to avoid false positives.
            let route_name = format!("{name}-route");
            suite.create("routes", &route(&route_name, name)).await.unwrap();
            let template = template(image, &[("min-scale", "4")]);
            suite
                .create("configurations", &configuration(name, &template))
                .await
                .unwrap();
            let revisions = [1, 2].map(|number| format!("{name}-0000{number}"));
            for (index, revision) in revisions.iter().enumerate() {
                if index > 0 {
                    change_environment(suite, name).await;
                }
                let enough = |ready| ready >= MIN_SCALE;
                let path = format!("revisions/{revision}");
                let ready = suite.platform.until(&path, is_ready);
                let (_, ready) = tokio::join!(until_ready(suite, revision, enough), ready);
                if image.stays() {
                    // It was not ready before.
                    let ready = ready.unwrap();
                    assert_eq!(ready["status"]["actualReplicas"], MIN_SCALE, "{revision}");
                }
                hold_ready(suite, revision, enough).await;
                let now = suite.object("revisions", revision).await;
                assert_eq!(now["status"]["actualReplicas"], MIN_SCALE, "{revision}");
            }
            let fewer = |ready| ready < MIN_SCALE;
            until_ready(suite, &revisions[0], fewer).await;
            suite.delete("routes", &route_name).await;
            until_ready(suite, &revisions[1], fewer).await;
        }
    });
    futures::future::join_all(stories).await;
}

/// `TestMinScaleTransition`: an old Revision keeps its minimum until the new one has its own. Knative makes the new
/// instances ready one after the other, through a file of each; here all wait for the first look of their probe, longer
/// than the old Revision would need to go.
#[tokio::test(flavor = "multi_thread")]
async fn test_min_scale_transition() {
    let suite = scaling::start().await;
    suite
        .create("routes", &route("transit-route", "transit"))
        .await
        .unwrap();
    let mut template = template(Image::Autoscale, &[("min-scale", "4")]);
    let first = configuration("transit", &template);
    suite.create("configurations", &first).await.unwrap();
    let (old, new) = ("transit-00001", "transit-00002");
    until_revision_ready(&suite, old).await;
    let enough = |ready| ready >= MIN_SCALE;
    hold_ready(&suite, old, enough).await;
    template["spec"]["containers"][0]["readinessProbe"] =
        json!({"httpGet": {"path": "/", "port": 8080}, "initialDelaySeconds": 15});
    let change = |object: &mut Value| object["spec"]["template"] = template.clone();
    suite.update("configurations", "transit", change).await.unwrap();
    suite
        .platform
        .until(&format!("revisions/{new}"), |_| true)
        .await
        .unwrap();
    loop {
        let count = until_ready(&suite, old, |_| true).await;
        // Asked afterwards: while the new one is not ready the old one was not let go.
        if is_ready(&suite.object("revisions", new).await) {
            break;
        }
        assert!(enough(count), "{old}: {count}");
        tokio::time::sleep(scaling::LOOK).await;
    }
    hold_ready(&suite, new, enough).await;
    until_ready(&suite, old, |ready| ready == 0).await;
}

/// `TestInitScaleZero`: deployed without an instance, and answering nevertheless.
#[tokio::test(flavor = "multi_thread")]
async fn test_init_scale_zero() {
    let suite = scaling::start().await;
    let template = template(Image::Autoscale, &[("initial-scale", "0")]);
    suite
        .create("configurations", &configuration("none", &template))
        .await
        .unwrap();
    suite.until("configurations", "none", is_ready).await;
    until_revision_ready(&suite, "none-00001").await;
    let revision = suite.object("revisions", "none-00001").await;
    assert_eq!(revision["status"]["actualReplicas"].as_i64().unwrap_or(0), 0);
    until_pods(&suite, "none-00001", |count| count == 0).await;
    let ready = suite.create("routes", &route("none", "none")).await;
    ready.unwrap();
    let routed = suite.until("routes", "none", is_ready).await;
    let answer = suite.get(text(&routed, "/status/url")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

/// `TestInitScalePositive`
#[tokio::test(flavor = "multi_thread")]
async fn test_init_scale_positive() {
    let suite = scaling::start().await;
    // It may have three for a moment only, so each state of its PodAutoscaler is looked at.
    let path = "/apis/autoscaling.internal.knative.dev/v1alpha1/namespaces/default/podautoscalers?watch=true";
    let watch = http::Request::get(path).body(Vec::new()).unwrap();
    let client = suite.platform.connection().await.unwrap().client;
    let states = client.request_events::<Value>(watch).await.unwrap();
    let mut states = std::pin::pin!(states.filter_map(async |event| match event.unwrap() {
        WatchEvent::Added(state) | WatchEvent::Modified(state) => state["status"]["actualScale"].as_i64(),
        _ => None,
    }));
    let template = template(Image::Autoscale, &[("initial-scale", "3")]);
    suite
        .create("configurations", &configuration("three", &template))
        .await
        .unwrap();
    let three = async { while states.next().await.unwrap() != 3 {} };
    tokio::time::timeout(PATIENCE, three).await.unwrap();
    suite.until("configurations", "three", is_ready).await;
    until_pods(&suite, "three-00001", |count| count < 3).await;
}

/// `TestScaleToN`: many Services at once, each called as soon as it is ready, while the others come. No call fails.
#[tokio::test(flavor = "multi_thread")]
async fn test_scale_to_n() {
    let suite = scaling::start().await;
    for (count, image) in [(10, Image::Autoscale), (100, Image::HelloWorld)] {
        scale_to(&suite, count, image).await;
    }
}

/// Calls that each Service gets at least (`minProbes`).
const PROBES_MIN: usize = 20;
/// Services that are created at a time.
const CREATING_MAX: usize = 50;

async fn scale_to(suite: &Arc<Suite>, count: usize, image: Image) {
    let name = |number: usize| format!("of-{count}-{number:03}");
    let create = stream::iter(0..count).map(|number| async move {
        let mut template = template(image, &[("max-scale", "1")]);
        let spec = &mut template["spec"];
        spec["containers"][0]["readinessProbe"] = json!({"httpGet": {"path": "/"}});
        let service = json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service",
            "metadata": {"name": name(number)}, "spec": {"template": template}});
        suite.create("services", &service).await.unwrap();
    });
    create.buffer_unordered(CREATING_MAX).collect::<Vec<()>>().await;
    let mut calls = JoinSet::new();
    let mut called = HashSet::new();
    let path = "/apis/serving.knative.dev/v1/namespaces/default/services";
    // As long as it goes on: how fast is the machine's affair.
    let mut last_one_came = Instant::now();
    while called.len() < count {
        let list = suite.platform.until_at(path, |_| true).await.unwrap();
        for service in list["items"].as_array().unwrap() {
            let name = text(service, "/metadata/name").to_owned();
            let of_these = name.starts_with(&format!("of-{count}-"));
            if of_these && is_ready(service) && called.insert(name) {
                calls.spawn(probe(Arc::clone(suite), text(service, "/status/url").to_owned()));
                last_one_came = Instant::now();
            }
        }
        assert!(last_one_came.elapsed() < PATIENCE, "{} of {count}", called.len());
        tokio::time::sleep(scaling::LOOK).await;
    }
    calls.join_all().await;
}

async fn probe(suite: Arc<Suite>, url: String) {
    for _ in 0..PROBES_MIN {
        let answer = suite.get(&url).await;
        assert_eq!(answer.status, StatusCode::OK, "{url}: {}", answer.text());
    }
}
