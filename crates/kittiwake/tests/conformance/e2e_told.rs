//! `test/e2e`: what users are told: refusals, failures, and the request log.

use crate::suite::{HELLO_WORLD, Suite, container, service, text};
use axum::http::StatusCode;
use kittiwake_testkit::platform::condition;
use serde_json::{Value, json};
use std::time::Duration;

/// `TestServiceValidationWithInvalidPodSpec`
#[tokio::test(flavor = "multi_thread")]
async fn test_service_validation_with_invalid_pod_spec() {
    let suite = Suite::start().await;
    let mut tried = service("tried", "pizzaplanetv1");
    tried["metadata"]["annotations"] = json!({"features.knative.dev/podspec-dryrun": "strict"});
    suite.create("services", &tried).await.unwrap();
    let refused = |change: fn(&mut Value)| suite.update("services", "tried", change);
    let error = refused(|s| container(s)["name"] = "&InvalidValue".into())
        .await
        .unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("validation callback failed: dry run failed with Pod"),
        "{message}"
    );
    assert!(
        message.contains("spec.containers[0].name: Invalid value"),
        "{message}"
    );
    let error = refused(|s| s["spec"]["template"]["spec"]["serviceAccountName"] = "nobody".into())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("serviceaccount \"nobody\" not found"),
        "{error}"
    );
    refused(|s| s["spec"]["template"]["spec"]["serviceAccountName"] = "default".into())
        .await
        .unwrap();
}

/// `TestImagePullError`: of an image that is named by its digest, from a registry that does not have it.
#[tokio::test(flavor = "multi_thread")]
async fn test_image_pull_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let unknown = r#"{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}"#;
    let empty = axum::Router::new().fallback(move || async move { (StatusCode::NOT_FOUND, unknown) });
    tokio::spawn(async move { axum::serve(listener, empty).await });
    let suite = Suite::start().await;
    let image = format!("{address}/ubuntu@sha256:{}", "dead".repeat(16));
    let configuration = json!({"apiVersion": "serving.knative.dev/v1", "kind": "Configuration",
        "metadata": {"name": "lost"}, "spec": {"template": {"spec": {"containers": [{"image": image}]}}}});
    suite.create("configurations", &configuration).await.unwrap();
    let failed = |c: &Value| condition(c, "Ready").0 == "False";
    let configuration = suite.until("configurations", "lost", failed).await;
    assert_eq!(condition(&configuration, "Ready").1, "RevisionFailed");
    let revision = suite.object("revisions", "lost-00001").await;
    let (status, reason, message) = condition(&revision, "Ready");
    assert_eq!(status, "False");
    assert!(
        ["ErrImagePull", "ImagePullBackOff"].contains(&reason.as_str()),
        "{reason}: {message}"
    );
    let tried_again = |r: &Value| condition(r, "Ready").1 == "ImagePullBackOff";
    let revision = suite.until("revisions", "lost-00001", tried_again).await;
    let message = condition(&revision, "Ready").2;
    assert!(
        message.starts_with(&format!("Back-off pulling image \"{image}\"")),
        "{message}"
    );
}

/// `TestRequestLogs`
#[tokio::test(flavor = "multi_thread")]
async fn test_request_logs() {
    let suite = Suite::start().await;
    let ready = suite.create_service_ready(&service("hello", "helloworld")).await;
    let url = text(&ready, "/status/url");
    // What came before is not told.
    let quiet = suite.get_with(url, &[("user-agent", "too-early")]).await;
    assert!(quiet.text().contains(HELLO_WORLD));
    let on = json!({"logging.enable-request-log": "true", "logging.enable-probe-request-log": "true"});
    suite.configure("config-observability", &on).await;
    let pods = "/api/v1/namespaces/default/pods?labelSelector=app%3Dhello-00001";
    let told = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            for agent in ["stranger \"1\"", "kube-probe/1.28"] {
                suite
                    .get_with(url, &[("user-agent", agent), ("x-b3-traceid", "abc")])
                    .await;
            }
            let list: Value = serde_json::from_str(&suite.text_at(pods).await).unwrap();
            if let Some(pod) = list["items"].as_array().and_then(|all| all.first()) {
                let pod = text(pod, "/metadata/name");
                let path = format!("/api/v1/namespaces/default/pods/{pod}/log?container=queue-proxy");
                let log = suite.text_at(&path).await;
                if log.contains("stranger") && log.contains("kube-probe") {
                    return log;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let log = told.await.expect("the calls are told");
    assert!(!log.contains("too-early"), "{log}");
    let line = log.lines().find(|line| line.contains("stranger")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let call = &line["httpRequest"];
    assert_eq!(call["requestMethod"], "GET");
    assert_eq!(call["requestUrl"], "/");
    assert_eq!(call["status"], 200);
    assert_eq!(call["userAgent"], "stranger \"1\"");
    assert_eq!(call["protocol"], "HTTP/1.1");
    let size: usize = text(call, "/responseSize").parse().unwrap();
    assert!(size >= HELLO_WORLD.len(), "{call}");
    assert_eq!(line["traceId"], "[abc]");
}
