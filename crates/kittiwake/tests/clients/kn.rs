//! kn, Knative's own client: every command that Serving has.

use crate::flow;
use crate::program::Program;
use kittiwake_testkit::guest;
use kittiwake_testkit::platform::{TestPlatform, service};

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
