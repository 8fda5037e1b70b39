//! kubectl: the oldest that people still have, the one most have, and the newest.

use crate::flow;
use crate::program::Program;
use kittiwake_testkit::guest;
use kittiwake_testkit::platform::{TestPlatform, service};

async fn session(name: &str, version: f64) {
    let platform = TestPlatform::start().await.unwrap();
    let Some(kubectl) = Program::new(name, &platform) else {
        return;
    };
    let image = platform.image("hello.wasm", &guest::hello()).unwrap();
    let changed = "          env: [{name: A, value: b}]\n";
    for (file, text) in [
        ("hello.yaml", service("hello", &image, "")),
        ("changed.yaml", service("hello", &image, changed)),
        ("misspelt.yaml", service("hello", &image, "").replace("template:", "tempalte:")),
        (
            "map.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, labels: {a: b}}\ndata: {x: \"1\"}\n".to_owned(),
        ),
        (
            "both.yaml",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: both}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: both}\n"
                .to_owned(),
        ),
    ] {
        std::fs::write(kubectl.folder().join(file), text).unwrap();
    }
    let transcript = flow::run(&kubectl, &platform, &flow::read("kubectl.flow"), version).await;
    insta::assert_snapshot!(name, transcript);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_1_20() {
    session("kubectl-1.20", 1.20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_1_32() {
    session("kubectl-1.32", 1.32).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_1_37() {
    session("kubectl-1.37", 1.37).await;
}
