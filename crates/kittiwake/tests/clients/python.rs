//! Kubernetes' Python client: typed, for custom objects, and the dynamic one.

use crate::program::{Program, root};
use kittiwake_testkit::guest;
use kittiwake_testkit::platform::TestPlatform;

#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_python() {
    let platform = TestPlatform::start().await.unwrap();
    let Some(python) = Program::new("python-kubernetes", &platform) else {
        return;
    };
    let image = platform.image("hello.wasm", &guest::hello()).unwrap();
    let flow = root().join("tests/tools/python/flow.py").display().to_string();
    let output = python.run(&[flow, python.kubeconfig(), image]).await;
    assert!(output.ok, "{}", output.text);
    insta::assert_snapshot!("python", output.text);
}
