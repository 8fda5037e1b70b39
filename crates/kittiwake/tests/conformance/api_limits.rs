//! `test/conformance/api/v1`: memory, time and concurrency.

use crate::suite::{Suite, container, service, text};
use http::{Method, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// `TestCustomResourcesLimits`
#[tokio::test(flavor = "multi_thread")]
async fn test_custom_resources_limits() {
    let suite = Suite::start().await;
    let mut limited = service("cow", "autoscale");
    container(&mut limited)["resources"] =
        json!({"limits": {"memory": "350Mi"}, "requests": {"memory": "350Mi"}});
    let ready = suite.create_service_ready(&limited).await;
    let url = text(&ready, "/status/url");
    for mebibytes in [100, 200] {
        let answer = suite
            .call(Method::POST, &format!("{url}/?bloat={mebibytes}"))
            .await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    let answer = suite.call(Method::POST, &format!("{url}/?bloat=500")).await;
    assert_ne!(answer.status, StatusCode::OK, "{}", answer.text());
}

/// `TestRevisionTimeout`, its cases within the time and beyond it before the first byte.
#[tokio::test(flavor = "multi_thread")]
async fn test_revision_timeout() {
    let suite = Suite::start().await;
    let mut timed = service("sleeper", "timeout");
    timed["spec"]["template"]["spec"]["timeoutSeconds"] = 1.into();
    let ready = suite.create_service_ready(&timed).await;
    let url = text(&ready, "/status/url");
    for (milliseconds, status) in [(100, StatusCode::OK), (1500, StatusCode::GATEWAY_TIMEOUT)] {
        let answer = suite.get(&format!("{url}/?initialTimeout={milliseconds}")).await;
        assert_eq!(answer.status, status, "{milliseconds}: {}", answer.text());
    }
}

/// `TestSingleConcurrency`
#[tokio::test(flavor = "multi_thread")]
async fn test_single_concurrency() {
    let suite = Arc::new(Suite::start().await);
    let mut single = service("single", "singlethreaded");
    single["spec"]["template"]["spec"]["containerConcurrency"] = 1.into();
    let ready = suite.create_service_ready(&single).await;
    let url = text(&ready, "/status/url").to_owned();
    let callers: Vec<_> = (0..5)
        .map(|_| {
            let (suite, url) = (Arc::clone(&suite), url.clone());
            tokio::spawn(async move {
                for _ in 0..2 {
                    let answer = suite.get(&url).await;
                    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}
