//! `test/e2e`: names of a Route, who may call them, and how traffic moves between Revisions.

use crate::suite::{
    KUBERNETES_SERVICES, PIZZA_PLANET_1, PIZZA_PLANET_2, Suite, is_ready, service, tag_url, text,
};
use kittiwake_testkit::platform::condition;
use serde_json::{Value, json};
use std::time::Duration;

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

/// Deploys a first and a second image; gives the URL.
async fn two_revisions(suite: &Suite, first: &Value) -> String {
    let ready = suite.create_service_ready(first).await;
    let name = text(&ready, "/metadata/name").to_owned();
    suite.set_image("services", &name, "pizzaplanetv2").await;
    text(&ready, "/status/url").to_owned()
}

/// `TestTagHeaderBasedRouting`
#[tokio::test(flavor = "multi_thread")]
async fn test_tag_header_based_routing() {
    let suite = Suite::start().await;
    let tag_header = json!({"tag-header-based-routing": "enabled"});
    suite.configure("config-features", &tag_header).await;
    let url = two_revisions(&suite, &service("planet", "pizzaplanetv1")).await;
    let second = suite.latest_revision_after("planet", "planet-00001").await;
    let traffic = json!([
        {"tag": "rev1", "revisionName": "planet-00001", "percent": 0},
        {"revisionName": second, "percent": 100},
    ]);
    suite
        .update("services", "planet", |s| s["spec"]["traffic"] = traffic.clone())
        .await
        .unwrap();
    suite.until("services", "planet", is_ready).await;
    for (tag, wanted) in [
        (Some("rev1"), PIZZA_PLANET_1),
        (Some("rev-wrong"), PIZZA_PLANET_2),
        (None, PIZZA_PLANET_2),
    ] {
        let headers: Vec<_> = tag.map(|tag| ("knative-serving-tag", tag)).into_iter().collect();
        let answer = suite.get_with(&url, &headers).await;
        assert!(answer.text().contains(wanted), "{tag:?}: {}", answer.text());
    }
}

/// `TestRevisionGC`
#[tokio::test(flavor = "multi_thread")]
async fn test_revision_gc() {
    let suite = Suite::start().await;
    let at_once = json!({
        "retain-since-create-time": "disabled", "retain-since-last-active-time": "disabled",
        "min-non-active-revisions": "0", "max-non-active-revisions": "0",
    });
    suite.configure("config-gc", &at_once).await;
    let first = service("planet", "pizzaplanetv1");
    suite.create_service_ready(&first).await;
    let state = |r: &Value| r["metadata"]["labels"]["serving.knative.dev/routingState"].clone();
    suite
        .until("revisions", "planet-00001", |r| state(r) == "active")
        .await;
    suite.set_image("services", "planet", "pizzaplanetv2").await;
    suite.latest_revision_after("planet", "planet-00001").await;
    let gone = tokio::time::timeout(Duration::from_secs(60), async {
        while !suite.is_gone("revisions", "planet-00001").await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(gone.await.is_ok(), "the first revision is never collected");
    assert_eq!(suite.names("revisions").await, ["planet-00002"]);
}

/// `TestGradualRollout`
#[tokio::test(flavor = "multi_thread")]
async fn test_gradual_rollout() {
    let suite = Suite::start().await;
    let mut slow = service("planet", "pizzaplanetv1");
    slow["metadata"]["annotations"] = json!({"serving.knative.dev/rollout-duration": "6s"});
    // The host of a tag that follows the latest revision rolls too.
    slow["spec"]["traffic"] = json!([{"tag": "now", "percent": 100}]);
    two_revisions(&suite, &slow).await;
    let shares = |s: &Value| -> Vec<(String, i64)> {
        let traffic = s["status"]["traffic"].as_array().cloned().unwrap_or_default();
        let share = |t: &Value| {
            (
                text(t, "/revisionName").to_owned(),
                t["percent"].as_i64().unwrap_or_default(),
            )
        };
        traffic.iter().map(share).collect()
    };
    let rolling = |s: &Value| condition(s, "RoutesReady").1 == "RolloutInProgress" && shares(s).len() == 2;
    let started = suite.until("services", "planet", rolling).await;
    suite.until_text(&tag_url(&started, "now"), PIZZA_PLANET_1).await;
    suite
        .until("services", "planet", |s| {
            let shares = shares(s);
            assert_eq!(
                shares.iter().map(|(_, percent)| percent).sum::<i64>(),
                100,
                "{shares:?}"
            );
            let (newest, percent) = shares.last().unwrap();
            assert_eq!(newest, "planet-00002");
            assert!(shares.len() <= 2, "{shares:?}");
            is_ready(s) && *percent == 100
        })
        .await;
    let done = suite.object("services", "planet").await;
    assert_eq!(shares(&done), [("planet-00002".to_owned(), 100)]);
    suite
        .check_distribution(&tag_url(&done, "now"), &[PIZZA_PLANET_2])
        .await;
}
