//! Functions that stay: what they find of changes while they run, and the time that they have to start.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use kittiwake_testkit::guest;
use kittiwake_testkit::platform::{TestPlatform, condition};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Longest wait for something that takes seconds at most.
const PATIENCE: Duration = Duration::from_secs(60);

fn config_map(text: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: words}}\ndata: {{file: {text}}}\n---\n")
}

/// The mount of the whole ConfigMap.
const MOUNT: &str = ", volumeMounts: [{name: v, mountPath: /etc/words}]";

/// A Service with annotations on its template and more in its container, both in YAML's flow style.
fn service(name: &str, image: &str, annotations: &str, container: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  template:\n    metadata: \
         {{annotations: {{{annotations}}}}}\n    spec:\n      volumes: [{{name: v, configMap: {{name: words}}}}]\n      \
         containers: [{{image: '{image}'{container}}}]\n---\n"
    )
}

/// The Revision of a Service once it is not ready.
async fn until_failed(platform: &TestPlatform, service: &str) -> Value {
    let path = format!("revisions/{service}-00001");
    let failed = |revision: &Value| condition(revision, "Ready").0 == "False";
    platform.until(&path, failed).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_map_that_changes_is_seen_by_instances_that_run() {
    let platform = TestPlatform::start().await.unwrap();
    let image = platform.image("reader.wasm", &guest::server_reader()).unwrap();
    let keep = "autoscaling.knative.dev/min-scale: '1'";
    let yaml = [
        config_map("first"),
        service("whole", &image, keep, MOUNT),
        service(
            "part",
            &image,
            keep,
            ", volumeMounts: [{name: v, mountPath: /etc/file, subPath: file}]",
        ),
    ];
    for (name, yaml) in [("whole", yaml[..2].concat()), ("part", yaml[2].clone())] {
        platform.deploy_yaml(name, &yaml).await.unwrap();
        let answer = platform.get(&platform.host(name), "/").await.unwrap();
        assert_eq!(answer.text(), "first", "{name}");
    }
    platform.apply(&config_map("second")).await.unwrap();
    let begun = Instant::now();
    loop {
        let answer = platform.get(&platform.host("whole"), "/").await.unwrap().text();
        if answer == "second" {
            break;
        }
        assert_eq!(answer, "first", "all of one or all of the other");
        assert!(begun.elapsed() < PATIENCE, "the change is not seen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = platform.get(&platform.host("part"), "/").await.unwrap();
    assert_eq!(
        answer.text(),
        "first",
        "Kubernetes keeps what is mounted by subPath"
    );
}

/// The example of WASI 0.3, whose files are those of 0.3 as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_of_wasi_0_3_finds_its_files_and_the_next_instance_what_became_of_them() {
    let platform = TestPlatform::start().await.unwrap();
    let example = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/concurrent/concurrent.wasm"
    );
    let image = platform
        .image("concurrent.wasm", &std::fs::read(example).unwrap())
        .unwrap();
    for isolation in ["request", "concurrent"] {
        let yaml = [
            config_map("first"),
            service(
                isolation,
                &image,
                &format!("kittiwake.dev/isolation: {isolation}"),
                MOUNT,
            ),
        ];
        platform.deploy_yaml(isolation, &yaml.concat()).await.unwrap();
        let get = async |path| {
            platform
                .get(&platform.host(isolation), path)
                .await
                .unwrap()
                .text()
        };
        assert_eq!(get("/folders").await, "/etc/words\n/tmp\n", "{isolation}");
        assert_eq!(get("/file?file").await, "first", "{isolation}");
        let missing = get("/file?nothing").await;
        assert!(missing.contains("NoEntry"), "{isolation}: {missing}");
        let outside = get("/file?../../etc/passwd").await;
        assert!(outside.contains("cannot be opened"), "{isolation}: {outside}");
        platform.apply(&config_map("second")).await.unwrap();
        let begun = Instant::now();
        while get("/file?file").await != "second" {
            assert!(begun.elapsed() < PATIENCE, "{isolation}: the change is not seen");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_ready_in_time_is_said_in_knatives_words() {
    let platform = TestPlatform::start().await.unwrap();
    platform.apply(&config_map("some")).await.unwrap();
    // What all have that say nothing themselves.
    let all = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-deployment, namespace: knative-serving}\n\
               data: {progress-deadline: 2s}\n";
    platform.apply(all).await.unwrap();
    let deaf = platform.image("deaf.wasm", &guest::server_deaf()).unwrap();
    let check = |revision: &Value, seconds: u32, words: &str| {
        let (status, reason, message) = condition(revision, "ResourcesAvailable");
        assert_eq!(
            (status.as_str(), reason.as_str()),
            ("False", "ProgressDeadlineExceeded"),
            "{message}"
        );
        let beginning =
            format!("Initial scale was never achieved: the function was not ready within {seconds} s: ");
        assert!(message.starts_with(&beginning), "{message}");
        assert!(message.contains(words), "{message}");
    };
    let own = "serving.knative.dev/progress-deadline: 1s";
    platform.apply(&service("deaf", &deaf, own, MOUNT)).await.unwrap();
    check(
        &until_failed(&platform, "deaf").await,
        1,
        "does not listen on port 8080",
    );

    let server = platform.image("server.wasm", &guest::server()).unwrap();
    let unready = format!("{MOUNT}, readinessProbe: {{tcpSocket: {{port: 1}}}}");
    platform
        .apply(&service("unready", &server, "", &unready))
        .await
        .unwrap();
    check(
        &until_failed(&platform, "unready").await,
        2,
        "its readiness probe has not succeeded yet",
    );

    // A startup probe ends an instance sooner, as the kubelet does it.
    let startup =
        format!("{MOUNT}, startupProbe: {{tcpSocket: {{port: 1}}, periodSeconds: 1, failureThreshold: 1}}");
    platform
        .apply(&service(
            "unstarted",
            &server,
            "serving.knative.dev/progress-deadline: 10m",
            &startup,
        ))
        .await
        .unwrap();
    let revision = until_failed(&platform, "unstarted").await;
    let (_, reason, message) = condition(&revision, "ContainerHealthy");
    assert_eq!(reason, "ExitCode137", "{message}");
    assert!(
        message.contains("the startup probe failed: nothing listens on port 1"),
        "{message}"
    );
}
