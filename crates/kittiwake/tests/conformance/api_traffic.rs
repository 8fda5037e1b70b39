//! `test/conformance/api/v1`: traffic between Revisions.

use crate::suite::{HELLO_WORLD, PIZZA_PLANET_1, PIZZA_PLANET_2, Suite, is_ready, service, tag_url, text};
use serde_json::{Value, json};

/// `TestBlueGreenRoute`
#[tokio::test(flavor = "multi_thread")]
async fn test_blue_green_route() {
    let suite = Suite::start().await;
    suite
        .create_service_ready(&service("planet", "pizzaplanetv1"))
        .await;
    suite.set_image("services", "planet", "pizzaplanetv2").await;
    let green = suite.latest_revision_after("planet", "planet-00001").await;
    let traffic = json!([
        {"tag": "blue", "revisionName": "planet-00001", "percent": 50},
        {"tag": "green", "revisionName": green, "percent": 50},
    ]);
    suite
        .update("services", "planet", |s| s["spec"]["traffic"] = traffic.clone())
        .await
        .unwrap();
    let ready = suite.until("services", "planet", is_ready).await;
    suite
        .check_distribution(text(&ready, "/status/url"), &[PIZZA_PLANET_1, PIZZA_PLANET_2])
        .await;
    suite
        .check_distribution(&tag_url(&ready, "blue"), &[PIZZA_PLANET_1])
        .await;
    suite
        .check_distribution(&tag_url(&ready, "green"), &[PIZZA_PLANET_2])
        .await;
}

/// Waits for a shape of traffic in the status, without URLs, and checks what each URL answers.
async fn check_shape(suite: &Suite, shape: &Value, main: &[&str], by_tag: [(&str, &str); 3]) {
    let ready = suite
        .until("services", "planet", |service| {
            let Some(mut traffic) = service["status"]["traffic"].as_array().cloned() else {
                return false;
            };
            for target in &mut traffic {
                target.as_object_mut().unwrap().shift_remove("url");
            }
            is_ready(service) && Value::Array(traffic) == *shape
        })
        .await;
    suite.check_distribution(text(&ready, "/status/url"), main).await;
    for (tag, answer) in by_tag {
        suite.check_distribution(&tag_url(&ready, tag), &[answer]).await;
    }
}

/// `TestServiceWithTrafficSplit`
#[tokio::test(flavor = "multi_thread")]
async fn test_service_with_traffic_split() {
    let suite = Suite::start().await;
    suite
        .create_service_ready(&service("planet", "pizzaplanetv1"))
        .await;

    // 1. One Revision named, and it is the latest.
    let one = json!([
        {"tag": "current", "revisionName": "planet-00001", "percent": 100},
        {"tag": "latest", "latestRevision": true},
    ]);
    suite
        .update("services", "planet", |s| s["spec"]["traffic"] = one.clone())
        .await
        .unwrap();
    let shape = |second: &str| {
        json!([
            {"tag": "current", "revisionName": "planet-00001", "percent": 100, "latestRevision": false},
            {"tag": "latest", "revisionName": second, "percent": 0, "latestRevision": true},
        ])
    };
    let current = ("current", PIZZA_PLANET_1);
    check_shape(
        &suite,
        &shape("planet-00001"),
        &[PIZZA_PLANET_1],
        [current, ("latest", PIZZA_PLANET_1), current],
    )
    .await;

    // 2. The latest is another one now; the main URL stays.
    suite.set_image("services", "planet", "pizzaplanetv2").await;
    suite.latest_revision_after("planet", "planet-00001").await;
    check_shape(
        &suite,
        &shape("planet-00002"),
        &[PIZZA_PLANET_1],
        [current, ("latest", PIZZA_PLANET_2), current],
    )
    .await;

    // 3. Two Revisions by half, and the candidate is the latest.
    let split = |candidate: Value| {
        json!([
            {"tag": "current", "revisionName": "planet-00001", "percent": 50},
            candidate,
            {"tag": "latest", "latestRevision": true},
        ])
    };
    let shape = |candidate: &str, is_latest: bool, latest: &str| {
        json!([
            {"tag": "current", "revisionName": "planet-00001", "percent": 50, "latestRevision": false},
            {"tag": "candidate", "revisionName": candidate, "percent": 50, "latestRevision": is_latest},
            {"tag": "latest", "revisionName": latest, "percent": 0, "latestRevision": true},
        ])
    };
    let traffic = split(json!({"tag": "candidate", "revisionName": "planet-00002", "percent": 50}));
    suite
        .update("services", "planet", |s| s["spec"]["traffic"] = traffic.clone())
        .await
        .unwrap();
    let both = [PIZZA_PLANET_1, PIZZA_PLANET_2];
    let by_tag = [current, ("candidate", PIZZA_PLANET_2), ("latest", PIZZA_PLANET_2)];
    check_shape(
        &suite,
        &shape("planet-00002", false, "planet-00002"),
        &both,
        by_tag,
    )
    .await;

    // 4. The latest is a third one.
    suite.set_image("services", "planet", "helloworld").await;
    suite.latest_revision_after("planet", "planet-00002").await;
    let by_tag = [current, ("candidate", PIZZA_PLANET_2), ("latest", HELLO_WORLD)];
    check_shape(
        &suite,
        &shape("planet-00002", false, "planet-00003"),
        &both,
        by_tag,
    )
    .await;

    // 5. The candidate is whatever is the latest.
    let traffic = split(json!({"tag": "candidate", "percent": 50}));
    suite
        .update("services", "planet", |s| s["spec"]["traffic"] = traffic.clone())
        .await
        .unwrap();
    let by_tag = [current, ("candidate", HELLO_WORLD), ("latest", HELLO_WORLD)];
    check_shape(
        &suite,
        &shape("planet-00003", true, "planet-00003"),
        &[PIZZA_PLANET_1, HELLO_WORLD],
        by_tag,
    )
    .await;
}
