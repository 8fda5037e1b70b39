//! kn, Knative's own client: every command that Serving has.

use crate::flow;
use crate::program::Program;
use kittiwake_testkit::guest;
use kittiwake_testkit::platform::{TestPlatform, condition, service};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn kn_1_12() {
    let platform = TestPlatform::start().await.unwrap();
    let Some(kn) = Program::new("kn", &platform) else {
        return;
    };
    let image = platform.image("hello.wasm", &guest::hello()).unwrap();
    std::fs::write(kn.folder().join("hello.yaml"), service("filed", &image, "")).unwrap();
    let commands = flow::read("kn.flow").replace("IMAGE", &image);
    let transcript = flow::run(&kn, &platform, &commands, 1.12).await;
    insta::assert_snapshot!("kn", transcript);
    let host = |name: &str| format!("{name}.default.localhost");
    assert_eq!(platform.get(&host("filed"), "/").await.unwrap().status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn kn_1_12_with_scale_traffic_and_domains() {
    let platform = TestPlatform::start().await.unwrap();
    let Some(kn) = Program::new("kn", &platform) else {
        return;
    };
    let claims = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-network, namespace: knative-serving}\n\
                  data: {autocreate-cluster-domain-claims: \"true\"}\n";
    platform.apply(claims).await.unwrap();
    let image = platform.image("hello.wasm", &guest::hello()).unwrap();
    let commands = flow::read("kn-scaling.flow").replace("IMAGE", &image);
    let mut transcript = String::new();
    for part in commands.split("--- until ") {
        let (wanted, part) = match part.split_once('\n') {
            Some((wanted, part)) if wanted.contains(" is ") => (Some(wanted), part),
            _ => (None, part),
        };
        if let Some((what, state)) = wanted.and_then(|wanted| wanted.split_once(" is ")) {
            until(&platform, what, state).await;
        }
        transcript += &flow::run(&kn, &platform, part, 1.12).await;
    }
    insta::assert_snapshot!("kn-scaling", transcript);
}

/// Waits until an object is in a state that has a name in the flow.
async fn until(platform: &TestPlatform, what: &str, state: &str) {
    let version = if what.starts_with("domain") {
        "v1beta1"
    } else {
        "v1"
    };
    let path = format!("/apis/serving.knative.dev/{version}/namespaces/default/{what}");
    let as_wanted = |object: &Value| {
        let is_inside = object["status"]["url"]
            .as_str()
            .is_some_and(|url| url.ends_with(".svc.cluster.local"));
        condition(object, "Ready").0 == "True"
            && match state {
                "inside" => is_inside,
                "outside" => !is_inside,
                _ => true,
            }
    };
    platform.until_at(&path, as_wanted).await.unwrap();
}
