//! `test/e2e`: what Knative checks beyond conformance.

use crate::suite::{
    HELLO_WORLD, PIZZA_PLANET_1, PIZZA_PLANET_2, Suite, container, image, is_ready, service, text,
};
use http::StatusCode;
use kittiwake_testkit::platform::condition;
use serde_json::{Value, json};
use std::sync::Arc;

/// `TestHelloWorld`
#[tokio::test(flavor = "multi_thread")]
async fn test_hello_world() {
    let suite = Suite::start().await;
    let ready = suite.create_service_ready(&service("hello", "helloworld")).await;
    suite.until_text(text(&ready, "/status/url"), HELLO_WORLD).await;
    let revision = suite.object("revisions", "hello-00001").await;
    let labels = &revision["metadata"]["labels"];
    assert_eq!(labels["serving.knative.dev/configuration"], "hello");
    assert_eq!(labels["serving.knative.dev/service"], "hello");
}

/// `TestActivatorOverload`: a hundred calls at once of a Service that may take ten at a time; none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn test_activator_overload() {
    let suite = Arc::new(Suite::start().await);
    let mut narrow = service("narrow", "timeout");
    let template = &mut narrow["spec"]["template"];
    template["spec"]["containerConcurrency"] = 1.into();
    template["metadata"] = json!({"annotations": {
        "autoscaling.knative.dev/max-scale": "10", "autoscaling.knative.dev/target-burst-capacity": "-1"}});
    let ready = suite.create_service_ready(&narrow).await;
    let url = format!("{}/?timeout=100", text(&ready, "/status/url"));
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let (suite, url) = (Arc::clone(&suite), url.clone());
            tokio::spawn(async move { suite.get(&url).await })
        })
        .collect();
    for call in calls {
        let answer = call.await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        assert_eq!(answer.text(), "Slept for 100 milliseconds");
    }
}

/// `TestReadinessPathAndQuery`
#[tokio::test(flavor = "multi_thread")]
async fn test_readiness_path_and_query() {
    let suite = Suite::start().await;
    let mut probed = service("probed", "readiness");
    container(&mut probed)["readinessProbe"] = json!({"httpGet": {"path": "/query?probe=ok"}});
    let ready = suite.create_service_ready(&probed).await;
    suite.until_text(text(&ready, "/status/url"), HELLO_WORLD).await;
}

/// `TestReadinessAlternatePort`
#[tokio::test(flavor = "multi_thread")]
async fn test_readiness_alternate_port() {
    let suite = Suite::start().await;
    let mut probed = service("probed", "readiness");
    container(&mut probed)["env"] = json!([{"name": "HEALTHCHECK_PORT", "value": "8077"}]);
    container(&mut probed)["readinessProbe"] = json!({"httpGet": {"port": 8077, "path": "/"}});
    let ready = suite.create_service_ready(&probed).await;
    suite.until_text(text(&ready, "/status/url"), HELLO_WORLD).await;
}

/// `TestRoutesNotReady`
#[tokio::test(flavor = "multi_thread")]
async fn test_routes_not_ready() {
    let suite = Suite::start().await;
    let mut lost = service("lost", "pizzaplanetv1");
    lost["spec"]["traffic"] = json!([{"revisionName": "foobar", "percent": 100}]);
    suite.create("services", &lost).await.unwrap();
    let failed = |s: &Value| {
        condition(s, "Ready").0 == "False" && s["status"]["observedGeneration"] == s["metadata"]["generation"]
    };
    let service = suite.until("services", "lost", failed).await;
    assert_eq!(condition(&service, "RoutesReady").0, "False");
    assert_eq!(
        condition(&suite.object("routes", "lost").await, "Ready").0,
        "False"
    );
}

/// `TestRouteVisibilityChanges`
#[tokio::test(flavor = "multi_thread")]
async fn test_route_visibility_changes() {
    let suite = Suite::start().await;
    let shapes = [
        json!([{"percent": 100}]),
        json!([{"percent": 100, "tag": "cow"}]),
        json!([{"percent": 60}, {"percent": 40, "tag": "cow"}]),
    ];
    for (index, traffic) in shapes.into_iter().enumerate() {
        let name = format!("shy-{index}");
        let mut shy = service(&name, "pizzaplanetv1");
        shy["spec"]["traffic"] = traffic;
        let ready = suite.create_service_ready(&shy).await;
        assert!(!text(&ready, "/status/url").contains(".svc.cluster.local"));
        suite
            .update("services", &name, |s| {
                s["metadata"]["labels"]["networking.knative.dev/visibility"] = "cluster-local".into();
            })
            .await
            .unwrap();
        let is_local = |r: &Value| text(r, "/status/url").ends_with(".local") && is_ready(r);
        suite.until("routes", &name, is_local).await;
    }
}

/// `TestRollbackBYOName`
#[tokio::test(flavor = "multi_thread")]
async fn test_rollback_byo_name() {
    let suite = Suite::start().await;
    let shape = |revision: &str, image_name: &str| {
        let mut wanted = service("planet", image_name);
        wanted["spec"]["template"]["metadata"] = json!({"name": revision});
        wanted["spec"]["traffic"] = json!([{"revisionName": revision, "percent": 100}]);
        wanted["spec"].take()
    };
    let (old, new) = (
        shape("planet-old", "pizzaplanetv1"),
        shape("planet-new", "pizzaplanetv2"),
    );
    let mut first = service("planet", "pizzaplanetv1");
    first["spec"] = old.clone();
    let ready = suite.create_service_ready(&first).await;
    let url = text(&ready, "/status/url");
    suite
        .update("services", "planet", |s| s["spec"] = new.clone())
        .await
        .unwrap();
    let revision = suite.latest_revision_after("planet", "planet-old").await;
    assert_eq!(revision, "planet-new");
    suite.until_text(url, PIZZA_PLANET_2).await;
    suite
        .update("services", "planet", |s| s["spec"] = old.clone())
        .await
        .unwrap();
    let back = |s: &Value| {
        let traffic = &s["status"]["traffic"];
        traffic.as_array().is_some_and(|all| all.len() == 1)
            && traffic[0]["revisionName"] == "planet-old"
            && traffic[0]["percent"] == 100
            && s["status"]["observedGeneration"] == s["metadata"]["generation"]
    };
    suite.until("services", "planet", back).await;
    suite.until_text(url, PIZZA_PLANET_1).await;
}

/// `TestMultipleNamespace`
#[tokio::test(flavor = "multi_thread")]
async fn test_multiple_namespace() {
    let suite = Suite::start().await;
    suite
        .create_service_ready(&service("planet", "pizzaplanetv1"))
        .await;
    let yaml = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: other}}\n---\napiVersion: serving.knative.dev/v1\nkind: Service\n\
         metadata: {{name: planet, namespace: other}}\nspec: {{template: {{spec: {{containers: [{{image: '{}'}}]}}}}}}\n",
        image("pizzaplanetv2")
    );
    suite.platform.apply_and_wait(&yaml).await.unwrap();
    suite
        .until_text("http://planet.default.localhost", PIZZA_PLANET_1)
        .await;
    suite
        .until_text("http://planet.other.localhost", PIZZA_PLANET_2)
        .await;
}

/// `TestRevisionTimeout` of the end-to-end suite: total, until the first byte, and without a byte.
#[tokio::test(flavor = "multi_thread")]
async fn test_revision_timeout() {
    let suite = Suite::start().await;
    let (ok, timeout) = (StatusCode::OK, StatusCode::GATEWAY_TIMEOUT);
    // Seconds in total, until the first byte and between two bytes; milliseconds before and after the first byte.
    let cases = [
        ("within", 10, None, None, 200, 0, ok),
        ("beyond", 1, None, None, 1500, 0, timeout),
        ("starts", 10, Some(2), None, 200, 0, ok),
        ("starts-late", 10, Some(1), None, 1500, 0, timeout),
        ("busy", 10, None, Some(2), 0, 200, ok),
        ("idle", 10, None, Some(1), 1500, 0, timeout),
    ];
    for (name, total, start, idle, before, after, status) in cases {
        let mut timed = service(name, "timeout");
        let spec = &mut timed["spec"]["template"]["spec"];
        spec["timeoutSeconds"] = total.into();
        if let Some(seconds) = start {
            spec["responseStartTimeoutSeconds"] = seconds.into();
        }
        if let Some(seconds) = idle {
            spec["idleTimeoutSeconds"] = seconds.into();
        }
        let ready = suite.create_service_ready(&timed).await;
        let url = text(&ready, "/status/url");
        let answer = suite
            .get(&format!("{url}/?initialTimeout={before}&timeout={after}"))
            .await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
    }
}

/// `TestConflictingRouteService`: a Service of Kubernetes in another namespace that names the Route is nobody's business.
#[tokio::test(flavor = "multi_thread")]
async fn test_conflicting_route_service() {
    let suite = Suite::start().await;
    let yaml = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n---\napiVersion: v1\nkind: Service\n\
        metadata: {name: conflicting, namespace: other, labels: {serving.knative.dev/route: planet}}\n\
        spec: {type: ExternalName, externalName: some-internal-addr}\n";
    suite.platform.apply(yaml).await.unwrap();
    suite
        .create_service_ready(&service("planet", "pizzaplanetv1"))
        .await;
}
