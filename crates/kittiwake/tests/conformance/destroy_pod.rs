//! `test/e2e/destroypod_test.go`: pods and Configurations that go while calls are answered.

use crate::suite::{Suite, image, is_ready, server, server_image, service, text};
use http::StatusCode;
use kittiwake_testkit::platform::PATIENCE;
use serde_json::{Value, json};
use std::sync::Arc;

/// The pods of a Revision.
async fn pods(suite: &Suite, revision: &str) -> Vec<Value> {
    let path =
        format!("/api/v1/namespaces/default/pods?labelSelector=serving.knative.dev/revision%3D{revision}");
    let any = |list: &Value| {
        list["items"].as_array().is_some_and(|items| {
            items
                .iter()
                .any(|pod| pod["metadata"].get("deletionTimestamp").is_none())
        })
    };
    let list = suite.platform.until_at(&path, any).await.unwrap();
    list["items"].as_array().unwrap().clone()
}

/// Deletes the first pod of a Revision and returns its name.
async fn delete_pod(suite: &Suite, revision: &str) -> String {
    let pods = pods(suite, revision).await;
    let name = text(&pods[0], "/metadata/name").to_owned();
    suite.delete("pods", &name).await;
    name
}

async fn until_gone(suite: &Suite, pod: &str) {
    let gone = async {
        while !suite.is_gone("pods", pod).await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let gone = tokio::time::timeout(PATIENCE, gone).await;
    assert!(gone.is_ok(), "the pod {pod} is still there");
}

/// `TestDestroyPodInflight`: a call goes on when its Configuration is deleted, of a component and of a server.
#[tokio::test(flavor = "multi_thread")]
async fn test_destroy_pod_inflight() {
    let suite = Arc::new(Suite::start().await);
    let images = [
        ("component", image("timeout")),
        ("server", server_image("timeout")),
    ];
    let calls: Vec<_> = images
        .into_iter()
        .map(|(name, image)| {
            let suite = Arc::clone(&suite);
            tokio::spawn(async move {
                let configuration = json!({"apiVersion": "serving.knative.dev/v1", "kind": "Configuration",
                    "metadata": {"name": name},
                    "spec": {"template": {"spec": {"timeoutSeconds": 45, "containers": [{"image": image}]}}}});
                let route = json!({"apiVersion": "serving.knative.dev/v1", "kind": "Route", "metadata": {"name": name},
                    "spec": {"traffic": [{"configurationName": name, "percent": 100}]}});
                suite.create("configurations", &configuration).await.unwrap();
                suite.create("routes", &route).await.unwrap();
                let ready = suite.until("routes", name, is_ready).await;
                let url = text(&ready, "/status/url").to_owned();
                suite.until_text(&url, "Slept for 0 milliseconds").await;

                let long = tokio::spawn({
                    let (suite, url) = (Arc::clone(&suite), format!("{url}/?timeout=3000"));
                    async move { suite.get(&url).await }
                });
                // Half of its time, as in Knative's test.
                tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
                suite.delete("configurations", name).await;
                let answer = long.await.unwrap();
                assert_eq!(
                    (answer.status, answer.text().as_str()),
                    (StatusCode::OK, "Slept for 3000 milliseconds"),
                    "{name}"
                );
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
}

/// `TestDestroyPodTimely`: a pod that nobody calls goes long before the time that its calls might have, and the Service
/// goes on.
#[tokio::test(flavor = "multi_thread")]
async fn test_destroy_pod_timely() {
    let suite = Suite::start().await;
    let kinds = [service("component", "helloworld"), server("server", "readiness")];
    for mut wanted in kinds {
        wanted["spec"]["template"]["spec"]["timeoutSeconds"] = 300.into();
        let ready = suite.create_service_ready(&wanted).await;
        let (name, url) = (text(&ready, "/metadata/name"), text(&ready, "/status/url"));
        suite.until_text(url, "Hello World!").await;
        let revision = format!("{name}-00001");
        let deleted = delete_pod(&suite, &revision).await;
        until_gone(&suite, &deleted).await;
        suite.until_text(url, "Hello World!").await;
        let pods = pods(&suite, &revision).await;
        assert!(pods.iter().all(|pod| text(pod, "/metadata/name") != deleted));
    }
}

/// `TestDestroyPodWithRequests`: calls that a pod has when it is deleted are answered; so are those that come then.
#[tokio::test(flavor = "multi_thread")]
async fn test_destroy_pod_with_requests() {
    let suite = Arc::new(Suite::start().await);
    let mut wanted = server("busy", "autoscale");
    wanted["spec"]["template"]["spec"]["timeoutSeconds"] = 300.into();
    let ready = suite.create_service_ready(&wanted).await;
    let url = text(&ready, "/status/url").to_owned();
    suite.until_text(&url, "").await;
    let call = |milliseconds: u32| {
        let (suite, url) = (Arc::clone(&suite), format!("{url}/?sleep={milliseconds}"));
        tokio::spawn(async move {
            let answer = suite.get(&url).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            assert_eq!(answer.text(), format!("Slept for {milliseconds} milliseconds.\n"));
        })
    };
    let mut calls = Vec::new();
    for _ in 0..6 {
        calls.push(call(3000));
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let deleted = delete_pod(&suite, "busy-00001").await;
    calls.push(call(100));
    until_gone(&suite, &deleted).await;
    calls.push(call(100));
    for call in calls {
        call.await.unwrap();
    }
}
