//! `test/conformance/api/v1`: what is refused, and what fails with a reason.

use crate::suite::{Suite, container, service, text};
use kittiwake_testkit::platform::condition;
use serde_json::Value;

/// Waits until a Service and all of its parts say that they failed, each with a reason and a message.
async fn check_failed(suite: &Suite, name: &str, revision_reason: &str) {
    let failed = suite
        .until("services", name, |service| {
            ["Ready", "RoutesReady", "ConfigurationsReady"]
                .iter()
                .all(|kind| condition(service, kind).0 == "False")
        })
        .await;
    let explained = |object: &Value, kind: &str| {
        let (status, reason, message) = condition(object, kind);
        assert!(
            status == "False" && !reason.is_empty() && !message.is_empty(),
            "{object:#}"
        );
        reason
    };
    explained(&failed, "Ready");
    let configuration = suite.object("configurations", name).await;
    assert_eq!(explained(&configuration, "Ready"), "RevisionFailed");
    let revision = suite
        .object(
            "revisions",
            text(&configuration, "/status/latestCreatedRevisionName"),
        )
        .await;
    assert_eq!(explained(&revision, "Ready"), revision_reason);
    explained(&suite.object("routes", name).await, "Ready");
}

/// `TestContainerErrorMsg`
#[tokio::test(flavor = "multi_thread")]
async fn test_container_error_msg() {
    // A registry that knows no image.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = listener.local_addr().unwrap();
    let unknown = axum::Router::new().fallback(async || {
        let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        (axum::http::StatusCode::NOT_FOUND, body)
    });
    tokio::spawn(async move { axum::serve(listener, unknown).await });

    let suite = Suite::start().await;
    let mut missing = service("planet", "helloworld");
    container(&mut missing)["image"] = format!("{registry}/invalidhelloworld:latest").into();
    suite.create("services", &missing).await.unwrap();
    check_failed(&suite, "planet", "ContainerMissing").await;
}

/// `TestContainerExitingMsg`
#[tokio::test(flavor = "multi_thread")]
async fn test_container_exiting_msg() {
    let suite = Suite::start().await;
    suite
        .create("services", &service("planet", "failing"))
        .await
        .unwrap();
    // WASI 0.2 knows success and failure; the 5 of Knative's image is a 1 here.
    check_failed(&suite, "planet", "ExitCode1").await;
}

/// `TestServiceAccountValidation`
#[tokio::test(flavor = "multi_thread")]
async fn test_service_account_validation() {
    let suite = Suite::start().await;
    let mut bad = service("planet", "pizzaplanetv1");
    bad["spec"]["template"]["spec"]["serviceAccountName"] = "bad-name@!".into();
    let error = suite.create("services", &bad).await.unwrap_err();
    assert!(
        error.message.contains("spec.template.spec.serviceAccountName")
            && error.message.contains("bad-name@!"),
        "{}",
        error.message
    );
}
