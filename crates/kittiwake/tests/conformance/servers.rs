//! What Knative's suites check of a program that listens and stays; the other files here have the same of components.

use crate::suite::{HELLO_WORLD, Suite, annotate, container, is_ready, server, text};
use http::{Method, StatusCode};
use kittiwake_testkit::platform::{PATIENCE, condition};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// `TestProtocols`
#[tokio::test(flavor = "multi_thread")]
async fn test_protocols() {
    for (port, version) in [
        (json!({"name": "h2c"}), (2, 0)),
        (json!({"name": "http1"}), (1, 1)),
        (json!({}), (1, 1)),
    ] {
        let suite = Suite::start().await;
        let mut wanted = server("runtime", "runtime");
        container(&mut wanted)["ports"] = json!([port]);
        let info = suite.info_of(&wanted, &[]).await;
        assert_eq!(
            (&info["request"]["protoMajor"], &info["request"]["protoMinor"]),
            (&json!(version.0), &json!(version.1)),
            "{port}"
        );
    }
}

/// `TestMustEnvVars`, with a program that listens on the port that it is told.
#[tokio::test(flavor = "multi_thread")]
async fn test_must_env_vars() {
    let suite = Suite::start().await;
    let mut wanted = server("runtime", "runtime");
    container(&mut wanted)["ports"] = json!([{"containerPort": 8801}]);
    let info = suite.info_of(&wanted, &[]).await;
    assert_eq!(info["host"]["envs"]["PORT"], "8801");
    assert_eq!(info["host"]["stdin"], json!({"eof": true}));
}

/// `TestWorkingDirService`
#[tokio::test(flavor = "multi_thread")]
async fn test_working_dir_service() {
    let suite = Suite::start().await;
    let mut wanted = server("runtime", "runtime");
    container(&mut wanted)["workingDir"] = "/tmp".into();
    let info = suite.info_of(&wanted, &[]).await;
    assert_eq!(
        info["host"]["user"]["cwd"],
        json!({"directory": "/tmp", "error": ""})
    );
}

/// `TestHelloHTTP2WithPortNameH2C`
#[tokio::test(flavor = "multi_thread")]
async fn test_hello_http2_with_port_name_h2c() {
    let suite = Suite::start().await;
    let mut wanted = server("donuts", "hellohttp2");
    container(&mut wanted)["ports"] = json!([{"name": "h2c", "containerPort": 8080}]);
    let ready = suite.create_service_ready(&wanted).await;
    let answer = suite.get(text(&ready, "/status/url")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.text(), "Hello, New World! How about donuts and coffee?\n");
}

/// `TestHelloHTTP2WithEmptyPortName`
#[tokio::test(flavor = "multi_thread")]
async fn test_hello_http2_with_empty_port_name() {
    let suite = Suite::start().await;
    let mut wanted = server("donuts", "hellohttp2");
    container(&mut wanted)["ports"] = json!([{"name": "", "containerPort": 8080}]);
    let ready = suite.create_service_ready(&wanted).await;
    let answer = suite.get(text(&ready, "/status/url")).await;
    assert_eq!(answer.status, StatusCode::UPGRADE_REQUIRED);
}

/// `TestProbeRuntime`: a program that listens late, or is healthy late, gets no call before.
#[tokio::test(flavor = "multi_thread")]
async fn test_probe_runtime() {
    let suite = Arc::new(Suite::start().await);
    let cases = [
        ("http", "READY_DELAY", json!({"httpGet": {"path": "/healthz"}})),
        ("tcp", "LISTEN_DELAY", json!({"tcpSocket": {}})),
        (
            "exec",
            "READY_DELAY",
            json!({"exec": {"command": ["/ko-app/readiness", "probe"]}}),
        ),
    ];
    let mut calls = tokio::task::JoinSet::new();
    for (name, variable, probe) in cases {
        for period in [0, 1] {
            let (suite, mut probe) = (Arc::clone(&suite), probe.clone());
            probe["periodSeconds"] = period.into();
            calls.spawn(async move {
                let mut late = server(&format!("late-{name}-{period}"), "readiness");
                container(&mut late)["env"] = json!([{"name": variable, "value": "3s"}]);
                container(&mut late)["readinessProbe"] = probe;
                let ready = suite.create_service_ready(&late).await;
                let url = format!("{}/healthz", text(&ready, "/status/url"));
                let answer = suite.get(&url).await;
                assert_eq!(
                    (answer.status, answer.text().as_str()),
                    (StatusCode::OK, HELLO_WORLD)
                );
            });
        }
    }
    calls.join_all().await;
}

/// `TestProbeRuntime`, where the command of the probe fails, or is none of the image's: neither is ever ready.
#[tokio::test(flavor = "multi_thread")]
async fn test_probe_runtime_of_commands_that_fail() {
    let suite = Suite::start().await;
    for (name, command, condition_type, reason, words) in [
        (
            "never",
            json!(["/ko-app/readiness", "probe"]),
            "ResourcesAvailable",
            "ProgressDeadlineExceeded",
            "\"/ko-app/readiness probe\" exited with code 1",
        ),
        (
            "nobody",
            json!(["cat", "/tmp/healthy"]),
            "ContainerHealthy",
            "ExitCode127",
            "(spec.containers[0].readinessProbe.exec.command)",
        ),
    ] {
        let mut failing = server(name, "readiness");
        container(&mut failing)["env"] = json!([{"name": "READY_DELAY", "value": "3600s"}]);
        container(&mut failing)["readinessProbe"] = json!({"exec": {"command": command}, "periodSeconds": 1});
        annotate(&mut failing, "serving.knative.dev/progress-deadline", "3s");
        suite.create("services", &failing).await.unwrap();
        suite
            .until("services", name, |service| {
                condition(service, "Ready").0 == "False"
            })
            .await;
        let revision = suite.object("revisions", &format!("{name}-00001")).await;
        let (status, found, message) = condition(&revision, condition_type);
        assert_eq!((status.as_str(), found.as_str()), ("False", reason), "{message}");
        assert!(message.contains(words), "{message}");
    }
}

/// `TestLivenessWithFail`: a program that says it is not well any more is started again. Also by a command.
#[tokio::test(flavor = "multi_thread")]
async fn test_liveness_with_fail() {
    let suite = Suite::start().await;
    for (name, mut probe) in [
        ("asked", json!({"httpGet": {"path": "/healthz"}})),
        (
            "commanded",
            json!({"exec": {"command": ["/ko-app/readiness", "probe"]}}),
        ),
    ] {
        probe["periodSeconds"] = 1.into();
        let mut failing = server(name, "readiness");
        container(&mut failing)["livenessProbe"] = probe;
        let ready = suite.create_service_ready(&failing).await;
        let url = text(&ready, "/status/url").to_owned();
        suite.until_text(&format!("{url}/healthz"), HELLO_WORLD).await;
        let answer = suite.call(Method::POST, &format!("{url}/start-failing")).await;
        assert_eq!(answer.text(), "will now fail readiness");
        suite.until_text(&format!("{url}/healthz"), HELLO_WORLD).await;
    }
}

/// `TestProbeRuntimeAfterStartup`: once the only instance is not ready any more, calls wait for one that is.
#[tokio::test(flavor = "multi_thread")]
async fn test_probe_runtime_after_startup() {
    let suite = Arc::new(Suite::start().await);
    let mut calls = tokio::task::JoinSet::new();
    // Without a period it is Kubernetes', of ten seconds; three failures count.
    for period in [0, 1] {
        let suite = Arc::clone(&suite);
        calls.spawn(async move {
            let mut failing = server(&format!("failing-{period}"), "readiness");
            container(&mut failing)["readinessProbe"] = json!({
                "httpGet": {"path": "/healthz"}, "periodSeconds": period});
            let ready = suite.create_service_ready(&failing).await;
            let url = text(&ready, "/status/url").to_owned();
            suite.until_text(&format!("{url}/healthz"), HELLO_WORLD).await;
            let answer = suite.call(Method::POST, &format!("{url}/start-failing")).await;
            assert_eq!(answer.text(), "will now fail readiness");
            let unready = async {
                loop {
                    match tokio::time::timeout(Duration::from_secs(5), suite.get(&url)).await {
                        Err(_) => return,
                        Ok(answer) => assert_eq!(answer.status, StatusCode::OK, "{}", answer.text()),
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            };
            let unready = tokio::time::timeout(PATIENCE, unready).await;
            assert!(unready.is_ok(), "it is called although it is not ready");
        });
    }
    calls.join_all().await;
}

/// `TestReadinessPathAndQuery`
#[tokio::test(flavor = "multi_thread")]
async fn test_readiness_path_and_query() {
    let suite = Suite::start().await;
    for (name, query, answers) in [("good", "ok", true), ("bad", "no", false)] {
        let mut probed = server(name, "readiness");
        container(&mut probed)["readinessProbe"] =
            json!({"httpGet": {"path": format!("/query?probe={query}")}});
        if answers {
            let ready = suite.create_service_ready(&probed).await;
            suite.until_text(text(&ready, "/status/url"), HELLO_WORLD).await;
        } else {
            probed["spec"]["template"]["metadata"] =
                json!({"annotations": {"serving.knative.dev/progress-deadline": "2s"}});
            suite.create("services", &probed).await.unwrap();
            let failed = |service: &serde_json::Value| {
                kittiwake_testkit::platform::condition(service, "Ready").0 == "False"
            };
            suite.until("services", name, failed).await;
        }
    }
}

/// `TestReadinessAlternatePort`
#[tokio::test(flavor = "multi_thread")]
async fn test_readiness_alternate_port() {
    let suite = Suite::start().await;
    let mut probed = server("probed", "readiness");
    container(&mut probed)["env"] = json!([{"name": "HEALTHCHECK_PORT", "value": "8077"}]);
    container(&mut probed)["readinessProbe"] = json!({"httpGet": {"port": 8077, "path": "/"}});
    let ready = suite.create_service_ready(&probed).await;
    suite.until_text(text(&ready, "/status/url"), HELLO_WORLD).await;
}

/// `TestSingleConcurrency`, of an instance that would answer 500 to a second call at a time.
#[tokio::test(flavor = "multi_thread")]
async fn test_single_concurrency() {
    let suite = Arc::new(Suite::start().await);
    let mut single = server("single", "singlethreaded");
    single["spec"]["template"]["spec"]["containerConcurrency"] = 1.into();
    let ready = suite.create_service_ready(&single).await;
    let url = text(&ready, "/status/url").to_owned();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let (suite, url) = (Arc::clone(&suite), url.clone());
        callers.spawn(async move {
            for _ in 0..2 {
                let answer = suite.get(&url).await;
                assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            }
        });
    }
    callers.join_all().await;
}

/// `TestServiceCreateWithEmptyDir`: written when the instance starts, read by each call of it.
#[tokio::test(flavor = "multi_thread")]
async fn test_service_create_with_empty_dir() {
    let suite = Suite::start().await;
    let mut wanted = server("folder", "volumes");
    container(&mut wanted)["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    wanted["spec"]["template"]["spec"]["volumes"] =
        json!([{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}]);
    let ready = suite.create_service_ready(&wanted).await;
    for _ in 0..2 {
        let answer = suite.get(text(&ready, "/status/url")).await;
        assert_eq!(answer.text(), "From file in empty dir!");
    }
    assert!(is_ready(&ready));
}
