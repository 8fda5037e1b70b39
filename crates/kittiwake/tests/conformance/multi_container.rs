//! What Knative's suites check of several containers in one Revision. The images are those that listen and stay.

use crate::suite::{HELLO_WORLD, Suite, is_ready, server_image, text};
use kittiwake_testkit::platform::condition;
use serde_json::{Value, json};

/// What `servingcontainer` answers with the words of `sidecarcontainer`.
const MULTI_CONTAINER: &str = "Yay!! multi-container works";

/// A Service of several containers.
fn several(name: &str, containers: &Value) -> Value {
    json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"template": {"spec": {"containers": containers}}}})
}

/// The container that takes the calls, and the one that it asks.
fn pair() -> Value {
    json!([
        {"image": server_image("servingcontainer"), "ports": [{"containerPort": 8881}]},
        {"image": server_image("sidecarcontainer")},
    ])
}

/// `TestMultiContainer`
#[tokio::test(flavor = "multi_thread")]
async fn test_multi_container() {
    let suite = Suite::start().await;
    let ready = suite.create_service_ready(&several("yay", &pair())).await;
    suite
        .until_text(text(&ready, "/status/url"), MULTI_CONTAINER)
        .await;
}

/// `TestServiceCreateWithMultipleContainers`, with what `kubectl` shows of such a pod and its logs.
#[tokio::test(flavor = "multi_thread")]
async fn test_service_create_with_multiple_containers() {
    let suite = Suite::start().await;
    let mut containers = pair();
    containers[0]["env"] = json!([{"name": "FORWARD_PORT", "value": "8882"}]);
    let ready = suite.create_service_ready(&several("yay", &containers)).await;
    let url = text(&ready, "/status/url");
    suite.until_text(url, MULTI_CONTAINER).await;
    let revision = suite.object("revisions", "yay-00001").await;
    assert!(is_ready(&revision), "{revision:#}");
    let statuses = revision["status"]["containerStatuses"].as_array().unwrap();
    let names = ["user-container-0", "user-container-1"];
    for ((status, name), image) in statuses
        .iter()
        .zip(names)
        .zip(["servingcontainer", "sidecarcontainer"])
    {
        assert_eq!(status["name"], name);
        let digest = text(status, "/imageDigest");
        assert!(digest.contains(image) && digest.contains("@sha256:"), "{digest}");
    }
    assert_eq!(statuses.len(), 2);
    let pods = "/api/v1/namespaces/default/pods?labelSelector=app%3Dyay-00001";
    let any = |list: &Value| !list["items"].as_array().unwrap().is_empty();
    let list = suite.platform.until_at(pods, any).await.unwrap();
    let pod = &list["items"][0];
    let states = pod["status"]["containerStatuses"].as_array().unwrap();
    assert_eq!(states.len(), 3, "with queue-proxy");
    assert!(states.iter().all(|state| state["ready"] == true), "{states:?}");
    let log = async |container: &str| {
        let pod = text(pod, "/metadata/name");
        let path = format!("/api/v1/namespaces/default/pods/{pod}/log?container={container}");
        suite.text_at(&path).await
    };
    for (name, own, foreign) in [
        (names[0], "serving container received", "sidecar container"),
        (names[1], "sidecar container received", "serving container"),
    ] {
        let log = log(name).await;
        assert!(log.contains(own) && !log.contains(foreign), "{name}: {log}");
    }
}

/// `TestMultiContainerReadiness`: a chain of containers, each of which is probed.
#[tokio::test(flavor = "multi_thread")]
async fn test_multi_container_readiness() {
    let suite = Suite::start().await;
    suite
        .configure("config-features", &json!({"multi-container-probing": "enabled"}))
        .await;
    let probe = |port: u16| json!({"httpGet": {"path": "/", "port": port}});
    let forwards = |port: u16, to: u16| {
        let env = json!([{"name": "PORT", "value": port.to_string()}, {"name": "FORWARD_PORT", "value": to.to_string()}]);
        json!({"image": server_image("servingcontainer"), "env": env, "readinessProbe": probe(port)})
    };
    let containers = json!([
        {"image": server_image("servingcontainer"), "ports": [{"containerPort": 8881}], "readinessProbe": probe(8881),
         "env": [{"name": "FORWARD_PORT", "value": "8882"}]},
        forwards(8882, 8883),
        {"image": server_image("readiness"), "env": [{"name": "PORT", "value": "8883"}], "readinessProbe": probe(8883)},
    ]);
    let wanted = several("chain", &containers);
    // The settings are followed a moment after they are written.
    let created = async {
        while suite.create("services", &wanted).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let created = tokio::time::timeout(kittiwake_testkit::platform::PATIENCE, created).await;
    created.expect("probes of sidecars are admitted");
    let ready = suite.until("services", "chain", is_ready).await;
    suite.until_text(text(&ready, "/status/url"), HELLO_WORLD).await;
}

/// Not a test of Knative's: what is refused, by admission and when it is made ready, and where it is said.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_together_is_refused_by_name() {
    let suite = Suite::start().await;
    let image = |name: &str| crate::suite::image(name);
    let change = |change: &dyn Fn(&mut Value)| {
        let mut containers = pair();
        change(&mut containers);
        several("refused", &containers)
    };
    for (wanted, words) in [
        (
            change(&|all| all[1]["ports"] = json!([{"containerPort": 8882}])),
            "more than one container port is set: spec.template.spec.containers[*].ports",
        ),
        (
            change(&|all| all[0]["ports"] = json!([])),
            "missing field(s): spec.template.spec.containers[*].ports",
        ),
        (
            change(&|all| (all[0]["name"], all[1]["name"]) = ("same".into(), "same".into())),
            "duplicate container name \"same\"",
        ),
    ] {
        let refused = suite.create("services", &wanted).await.unwrap_err();
        assert!(refused.message.contains(words), "{}", refused.message);
    }
    for (name, wanted, words) in [
        (
            "called",
            json!([{"name": "app", "image": server_image("servingcontainer"), "ports": [{"containerPort": 8881}]},
                {"name": "side", "image": image("helloworld")}]),
            "container \"side\": its image holds a component of wasi:http",
        ),
        (
            "calls",
            json!([{"name": "app", "image": image("helloworld"), "ports": [{"containerPort": 8881}]},
                {"name": "side", "image": server_image("sidecarcontainer")}]),
            "leave out [\"side\"]",
        ),
    ] {
        suite.create("services", &several(name, &wanted)).await.unwrap();
        let failed = |service: &Value| condition(service, "Ready").0 == "False";
        let service = suite.until("services", name, failed).await;
        let (_, reason, message) = condition(&service, "Ready");
        assert_eq!(reason, "RevisionFailed");
        assert!(message.contains(words), "{message}");
    }
}
