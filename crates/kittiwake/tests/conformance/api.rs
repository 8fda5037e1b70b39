//! `test/conformance/api/v1`: the objects and what is done to them.

use crate::suite::{
    HELLO_WORLD, PIZZA_PLANET_1, PIZZA_PLANET_2, Suite, container, image, is_ready, service, text,
};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The state of a Service whose newest Revision serves, and of all that was made for it.
async fn check_control_plane(suite: &Suite, name: &str, revision: &str, generation: &str) {
    let made = suite.object("revisions", revision).await;
    assert!(is_ready(&made), "{made:#}");
    assert_eq!(
        made["metadata"]["labels"]["serving.knative.dev/configurationGeneration"],
        generation
    );
    assert!(!text(&made, "/status/containerStatuses/0/imageDigest").is_empty());
    let configuration = suite.object("configurations", name).await;
    assert_eq!(configuration["status"]["latestCreatedRevisionName"], revision);
    assert_eq!(configuration["status"]["latestReadyRevisionName"], revision);
    let route = suite.object("routes", name).await;
    for target in route["status"]["traffic"].as_array().unwrap() {
        assert_eq!(target["revisionName"], revision);
    }
    assert_eq!(
        made["metadata"]["labels"]["serving.knative.dev/configuration"],
        name
    );
    for object in [&made, &configuration, &route] {
        assert_eq!(object["metadata"]["labels"]["serving.knative.dev/service"], name);
    }
}

/// Annotations that are on a Service, its Route and its Configuration.
async fn check_annotations(suite: &Suite, name: &str, more: &[&str]) {
    for plural in ["services", "routes", "configurations"] {
        let object = suite.object(plural, name).await;
        for key in ["serving.knative.dev/creator", "serving.knative.dev/lastModifier"]
            .iter()
            .chain(more)
        {
            let value = object["metadata"]["annotations"][*key]
                .as_str()
                .unwrap_or_default();
            assert!(!value.is_empty(), "{plural} has no {key}");
        }
    }
}

/// `TestServiceCreateListAndDelete`
#[tokio::test(flavor = "multi_thread")]
async fn test_service_create_list_and_delete() {
    let suite = Suite::start().await;
    suite
        .create_service_ready(&service("planet", "pizzaplanetv1"))
        .await;
    check_control_plane(&suite, "planet", "planet-00001", "1").await;
    assert_eq!(suite.names("services").await, ["planet"]);
    suite.delete("services", "planet").await;
    assert!(suite.is_gone("services", "planet").await);
}

/// `TestServiceCreateAndUpdate`
#[tokio::test(flavor = "multi_thread")]
async fn test_service_create_and_update() {
    let suite = Arc::new(Suite::start().await);
    let ready = suite
        .create_service_ready(&service("planet", "pizzaplanetv1"))
        .await;
    let url = text(&ready, "/status/url").to_owned();
    check_control_plane(&suite, "planet", "planet-00001", "1").await;
    check_annotations(&suite, "planet", &[]).await;
    assert_eq!(suite.get(&url).await.text(), PIZZA_PLANET_1);

    // Calls from here to the end; none of them may fail.
    let done = Arc::new(AtomicBool::new(false));
    let prober = tokio::spawn({
        let (suite, done, url) = (Arc::clone(&suite), Arc::clone(&done), url.clone());
        async move {
            let mut calls = 0;
            while !done.load(Ordering::Relaxed) {
                let answer = suite.get(&url).await;
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
                calls += 1;
            }
            calls
        }
    });

    suite.set_image("services", "planet", "pizzaplanetv2").await;
    let revision = suite.latest_revision_after("planet", "planet-00001").await;
    check_control_plane(&suite, "planet", &revision, "2").await;
    suite.until_text(&url, PIZZA_PLANET_2).await;

    let labels = json!({"labels": {"label-x": "abc", "label-y": "def"}});
    suite
        .update("services", "planet", |s| {
            s["spec"]["template"]["metadata"] = labels.clone()
        })
        .await
        .unwrap();
    let revision = suite.latest_revision_after("planet", &revision).await;
    let annotations = json!({"annotations": {"annotation-a": "123", "annotation-b": "456"}});
    suite
        .update("services", "planet", |s| {
            s["spec"]["template"]["metadata"] = annotations.clone()
        })
        .await
        .unwrap();
    let revision = suite.latest_revision_after("planet", &revision).await;
    check_control_plane(&suite, "planet", &revision, "4").await;
    suite.until_text(&url, PIZZA_PLANET_2).await;

    done.store(true, Ordering::Relaxed);
    assert!(prober.await.unwrap() > 0);
}

/// `TestServiceBYOName`
#[tokio::test(flavor = "multi_thread")]
async fn test_service_byo_name() {
    let suite = Suite::start().await;
    let mut named = service("planet", "pizzaplanetv1");
    named["spec"]["template"]["metadata"] = json!({"name": "planet-byoname"});
    let ready = suite.create_service_ready(&named).await;
    check_control_plane(&suite, "planet", "planet-byoname", "1").await;
    check_annotations(&suite, "planet", &[]).await;
    assert_eq!(
        suite.get(text(&ready, "/status/url")).await.text(),
        PIZZA_PLANET_1
    );
    let second = image("pizzaplanetv2");
    let refused = suite
        .update("services", "planet", |s| {
            container(s)["image"] = second.as_str().into()
        })
        .await;
    let error = refused.unwrap_err();
    assert!(
        error.message.contains("spec.template.metadata.name"),
        "{}",
        error.message
    );
}

/// `TestAnnotationPropagation`
#[tokio::test(flavor = "multi_thread")]
async fn test_annotation_propagation() {
    let suite = Suite::start().await;
    suite
        .create_service_ready(&service("planet", "pizzaplanetv1"))
        .await;
    check_annotations(&suite, "planet", &[]).await;
    suite
        .update("services", "planet", |s| {
            s["metadata"]["annotations"]["juicy"] = "jamba".into()
        })
        .await
        .unwrap();
    for plural in ["routes", "configurations"] {
        suite
            .until(plural, "planet", |o| {
                o["metadata"]["annotations"]["juicy"] == "jamba"
            })
            .await;
    }
    check_annotations(&suite, "planet", &["juicy"]).await;
    suite
        .update("services", "planet", |s| {
            s["metadata"]["annotations"]
                .as_object_mut()
                .unwrap()
                .remove("juicy");
        })
        .await
        .unwrap();
    for plural in ["routes", "configurations"] {
        suite
            .until(plural, "planet", |o| {
                o["metadata"]["annotations"].get("juicy").is_none()
            })
            .await;
    }
    // Nothing of that is a reason for a Revision.
    assert_eq!(suite.names("revisions").await, ["planet-00001"]);
}

/// An object that a Service made can be had by its name and in a list.
async fn check_get_and_list(plural: &str, name: &str) {
    let suite = Suite::start().await;
    suite
        .create_service_ready(&service("planet", "pizzaplanetv1"))
        .await;
    assert_eq!(suite.object(plural, name).await["metadata"]["name"], name);
    assert_eq!(suite.names(plural).await, [name]);
}

/// `TestRouteGetAndList`
#[tokio::test(flavor = "multi_thread")]
async fn test_route_get_and_list() {
    check_get_and_list("routes", "planet").await;
}

/// `TestRevisionGetAndList`
#[tokio::test(flavor = "multi_thread")]
async fn test_revision_get_and_list() {
    check_get_and_list("revisions", "planet-00001").await;
}

/// `TestConfigurationGetAndList`
#[tokio::test(flavor = "multi_thread")]
async fn test_configuration_get_and_list() {
    check_get_and_list("configurations", "planet").await;
}

/// `TestUpdateConfigurationMetadata`
#[tokio::test(flavor = "multi_thread")]
async fn test_update_configuration_metadata() {
    let suite = Suite::start().await;
    suite
        .create("configurations", &configuration("planet", "pizzaplanetv1"))
        .await
        .unwrap();
    suite.until("configurations", "planet", is_ready).await;
    for (field, keys) in [
        ("labels", ["label-x", "label-y"]),
        ("annotations", ["annotation-a", "annotation-b"]),
    ] {
        suite
            .update("configurations", "planet", |c| {
                for key in keys {
                    c["metadata"][field][key] = "abc".into();
                }
            })
            .await
            .unwrap();
        let now = suite
            .until("configurations", "planet", |c| {
                c["metadata"][field][keys[0]] == "abc" && is_ready(c)
            })
            .await;
        assert_eq!(now["status"]["latestCreatedRevisionName"], "planet-00001");
        let revision = suite.object("revisions", "planet-00001").await;
        for key in keys {
            assert!(
                revision["metadata"][field].get(key).is_none(),
                "{key} went on to the Revision"
            );
        }
    }
    assert_eq!(suite.names("revisions").await, ["planet-00001"]);
}

/// `TestServiceGenerateName`
#[tokio::test(flavor = "multi_thread")]
async fn test_service_generate_name() {
    let suite = Suite::start().await;
    let mut unnamed = service("", "helloworld");
    unnamed["metadata"] = json!({"generateName": "generated-"});
    let ready = suite.create_service_ready(&unnamed).await;
    let name = text(&ready, "/metadata/name");
    assert!(
        name.starts_with("generated-") && name.len() > "generated-".len(),
        "{name}"
    );
    check_control_plane(&suite, name, &format!("{name}-00001"), "1").await;
    assert!(
        suite
            .get(text(&ready, "/status/url"))
            .await
            .text()
            .contains(HELLO_WORLD)
    );
}

/// `TestRouteAndConfigGenerateName`
#[tokio::test(flavor = "multi_thread")]
async fn test_route_and_config_generate_name() {
    let suite = Suite::start().await;
    let mut unnamed = configuration("", "helloworld");
    unnamed["metadata"] = json!({"generateName": "generated-"});
    let made = suite.create("configurations", &unnamed).await.unwrap();
    let configuration = text(&made, "/metadata/name").to_owned();
    let ready = suite.until("configurations", &configuration, is_ready).await;
    let mut unnamed = route("", &configuration);
    unnamed["metadata"] = json!({"generateName": "generated-"});
    let made = suite.create("routes", &unnamed).await.unwrap();
    let ready_route = suite
        .until("routes", text(&made, "/metadata/name"), is_ready)
        .await;
    assert_eq!(
        ready_route["status"]["traffic"][0]["revisionName"],
        ready["status"]["latestReadyRevisionName"]
    );
    suite
        .until_text(text(&ready_route, "/status/url"), HELLO_WORLD)
        .await;
}

/// `TestRouteCreation`
#[tokio::test(flavor = "multi_thread")]
async fn test_route_creation() {
    let suite = Suite::start().await;
    suite
        .create("configurations", &configuration("planet", "pizzaplanetv1"))
        .await
        .unwrap();
    suite.create("routes", &route("planet", "planet")).await.unwrap();
    let ready = suite.until("routes", "planet", is_ready).await;
    let url = text(&ready, "/status/url");
    suite.until_text(url, PIZZA_PLANET_1).await;
    suite.set_image("configurations", "planet", "pizzaplanetv2").await;
    let is_second = |r: &Value| is_ready(r) && r["status"]["traffic"][0]["revisionName"] == "planet-00002";
    suite.until("routes", "planet", is_second).await;
    suite.until_text(url, PIZZA_PLANET_2).await;
    let revision = suite.object("revisions", "planet-00002").await;
    assert!(
        text(&revision, "/metadata/annotations/serving.knative.dev~1routes").contains("planet"),
        "{revision:#}"
    );
}

fn configuration(name: &str, image_name: &str) -> Value {
    json!({"apiVersion": "serving.knative.dev/v1", "kind": "Configuration", "metadata": {"name": name},
        "spec": {"template": {"spec": {"containers": [{"image": image(image_name)}]}}}})
}

fn route(name: &str, configuration: &str) -> Value {
    json!({"apiVersion": "serving.knative.dev/v1", "kind": "Route", "metadata": {"name": name},
        "spec": {"traffic": [{"configurationName": configuration, "percent": 100}]}})
}
