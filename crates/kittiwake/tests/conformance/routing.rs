//! `test/e2e`: names of a Route, who may call them, and how traffic moves between Revisions.

use crate::suite::{KUBERNETES_SERVICES, Suite, is_ready, service, tag_url, text};
use serde_json::{Value, json};

const VISIBILITY: &str = "networking.knative.dev/visibility";

fn is_inside(url: &str) -> bool {
    url.ends_with(".svc.cluster.local")
}

/// Sets or takes away the label that keeps something inside.
async fn keep_inside(suite: &Suite, plural: &str, name: &str, inside: bool) {
    suite
        .update(plural, name, |object| {
            let labels = object["metadata"].as_object_mut().unwrap();
            let labels = labels.entry("labels").or_insert_with(|| json!({}));
            let labels = labels.as_object_mut().unwrap();
            labels.shift_remove(VISIBILITY);
            if inside {
                labels.insert(VISIBILITY.to_owned(), "cluster-local".into());
            }
        })
        .await
        .unwrap();
}

/// Waits until a Route is ready with its own name, and those of its tags, inside or outside as wanted.
async fn until_inside(suite: &Suite, name: &str, own: bool, tags: &[(&str, bool)]) {
    let as_wanted = |route: &Value| {
        let has = |tag: &str| {
            route["status"]["traffic"]
                .as_array()
                .is_some_and(|all| all.iter().any(|t| t["tag"] == tag))
        };
        is_ready(route)
            && is_inside(text(route, "/status/url")) == own
            && tags
                .iter()
                .all(|(tag, inside)| has(tag) && is_inside(&tag_url(route, tag)) == *inside)
    };
    suite.until("routes", name, as_wanted).await;
}

/// `TestSubrouteVisibilityPublicToPrivate`
#[tokio::test(flavor = "multi_thread")]
async fn test_subroute_visibility_public_to_private() {
    let suite = Suite::start().await;
    let mut open = service("open", "helloworld");
    open["spec"]["traffic"] = json!([{"tag": "my-tag", "percent": 100}]);
    suite.create_service_ready(&open).await;
    until_inside(&suite, "open", false, &[("my-tag", false)]).await;
    keep_inside(&suite, KUBERNETES_SERVICES, "my-tag-open", true).await;
    let two = json!([{"tag": "my-tag", "percent": 100}, {"tag": "my-tag2", "latestRevision": true}]);
    suite
        .update("services", "open", |s| s["spec"]["traffic"] = two.clone())
        .await
        .unwrap();
    until_inside(&suite, "open", false, &[("my-tag", true), ("my-tag2", false)]).await;
    let outside = suite.get("http://my-tag-open.default.localhost").await;
    assert_eq!(outside.status, http::StatusCode::NOT_FOUND);
    keep_inside(&suite, "services", "open", true).await;
    until_inside(&suite, "open", true, &[("my-tag", true), ("my-tag2", true)]).await;
}

/// `TestSubrouteVisibilityPrivateToPublic`
#[tokio::test(flavor = "multi_thread")]
async fn test_subroute_visibility_private_to_public() {
    let suite = Suite::start().await;
    let mut shy = service("shy", "helloworld");
    shy["metadata"]["labels"] = json!({VISIBILITY: "cluster-local"});
    shy["spec"]["traffic"] = json!([{"tag": "my-tag", "percent": 50}, {"tag": "my-tag2", "percent": 50}]);
    suite.create_service_ready(&shy).await;
    until_inside(&suite, "shy", true, &[("my-tag", true), ("my-tag2", true)]).await;
    keep_inside(&suite, KUBERNETES_SERVICES, "my-tag-shy", true).await;
    until_inside(&suite, "shy", true, &[("my-tag", true), ("my-tag2", true)]).await;
    keep_inside(&suite, "services", "shy", false).await;
    until_inside(&suite, "shy", false, &[("my-tag", true), ("my-tag2", false)]).await;
    keep_inside(&suite, KUBERNETES_SERVICES, "my-tag-shy", false).await;
    until_inside(&suite, "shy", false, &[("my-tag", false), ("my-tag2", false)]).await;
}
