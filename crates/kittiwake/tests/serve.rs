//! Calls through the whole platform: what passes both ways, what limits do, and that one call harms no other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use kittiwake_testkit::guest;
use kittiwake_testkit::http::{open_h2c, request, send};
use kittiwake_testkit::platform::{TestPlatform, condition, service};

/// What `kittiwake logs` would print for a revision.
async fn log_of(platform: &TestPlatform, revision: &str) -> String {
    let connection = platform.connection().await.unwrap();
    let path = format!("/apis/serving.knative.dev/v1/namespaces/default/revisions/{revision}/log");
    connection
        .client
        .request_text(http::Request::get(path).body(Vec::new()).unwrap())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_headers_and_paths_reach_the_function() {
    let platform = TestPlatform::start().await.unwrap();
    let host = platform
        .deploy("echo", &platform.image("echo.wasm", &guest::echo()).unwrap())
        .await
        .unwrap();
    let mut asked = request(Method::PUT, &host, "/a/b?c=d&e", "the body");
    asked
        .headers_mut()
        .insert("x-bird", HeaderValue::from_static("kittiwake"));
    let answer = send(platform.gateway(), asked).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.text(), "the body");
    assert_eq!(answer.headers["x-bird"], "kittiwake");
    assert_eq!(answer.headers["x-path"], "/a/b?c=d&e");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_with_prior_knowledge_works_on_the_same_port() {
    let platform = TestPlatform::start().await.unwrap();
    platform
        .deploy("hello", &platform.image("hello.wasm", &guest::hello()).unwrap())
        .await
        .unwrap();
    let host = format!("hello.default.localhost:{}", platform.gateway().port());
    let asked = request(Method::GET, &host, &format!("http://{host}/"), "");
    let response = open_h2c(platform.gateway(), asked).await.unwrap();
    assert_eq!(
        (response.version(), response.status()),
        (http::Version::HTTP_2, StatusCode::OK)
    );
    assert!(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .starts_with(b"Hello")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_has_an_instance_of_its_own() {
    let platform = TestPlatform::start().await.unwrap();
    let host = platform
        .deploy(
            "counter",
            &platform.image("counter.wasm", &guest::counter()).unwrap(),
        )
        .await
        .unwrap();
    for _ in 0..20 {
        assert_eq!(
            platform.get(&host, "/").await.unwrap().text(),
            "11",
            "something of an earlier call was left"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_knatives() {
    let platform = TestPlatform::start().await.unwrap();
    let image = platform.image("env.wasm", &guest::env()).unwrap();
    let yaml = service(
        "env",
        &image,
        "          args: [one, two]\n          env: [{name: COLOR, value: blue}]\n",
    );
    let host = platform.deploy_yaml("env", &yaml).await.unwrap();
    let text = platform.get(&host, "/").await.unwrap().text();
    for line in [
        "one",
        "two",
        "COLOR=blue",
        "PORT=8080",
        "K_SERVICE=env",
        "K_CONFIGURATION=env",
        "K_REVISION=env-00001",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line} is missing in:\n{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_is_one_callers_500_and_in_the_log() {
    let platform = TestPlatform::start().await.unwrap();
    let host = platform
        .deploy(
            "fussy",
            &platform.image("x.wasm", &guest::trap_once_told()).unwrap(),
        )
        .await
        .unwrap();
    let answer = platform.call(Method::POST, &host, "/", "now").await.unwrap();
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        answer.text().contains("KW0201") && !answer.text().contains("backtrace"),
        "{}",
        answer.text()
    );
    assert!(log_of(&platform, "fussy-00001").await.contains("unreachable"));

    // It had answered nothing yet, so the owner sees it where they look …
    let failing = platform
        .until("revisions/fussy-00001", |r| {
            condition(r, "ContainerHealthy").0 == "False"
        })
        .await
        .unwrap();
    assert_eq!(condition(&failing, "ContainerHealthy").1, "ExitCode134");
    // … until it answers.
    assert_eq!(platform.get(&host, "/").await.unwrap().status, StatusCode::OK);
    platform
        .until("revisions/fussy-00001", |r| {
            condition(r, "ContainerHealthy").0 == "True"
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_is_ended_and_holds_up_nobody() {
    let platform = TestPlatform::start().await.unwrap();
    let spin = service(
        "spin",
        &platform.image("spin.wasm", &guest::spin()).unwrap(),
        "      timeoutSeconds: 1\n",
    );
    let spinning = platform.deploy_yaml("spin", &spin).await.unwrap();
    let hello = platform
        .deploy("hello", &platform.image("hello.wasm", &guest::hello()).unwrap())
        .await
        .unwrap();
    // More loops than cores: if they did not yield, nothing else would run.
    let loops: Vec<_> = (0..4).map(|_| platform.get(&spinning, "/")).collect();
    let (ended, answered) = tokio::join!(futures::future::join_all(loops), platform.get(&hello, "/"));
    assert_eq!(answered.unwrap().status, StatusCode::OK);
    for answer in ended {
        let answer = answer.unwrap();
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        assert!(answer.text().contains("request timeout"), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_limit_holds() {
    let platform = TestPlatform::start().await.unwrap();
    let image = platform.image("grow.wasm", &guest::grow()).unwrap();
    let limit = "          resources: {limits: {memory: 16Mi}}\n";
    let host = platform
        .deploy_yaml("grow", &service("grow", &image, limit))
        .await
        .unwrap();
    let answer = platform.get(&host, "/").await.unwrap();
    assert_eq!(
        answer.status,
        StatusCode::INTERNAL_SERVER_ERROR,
        "{}",
        answer.text()
    );
    let log = log_of(&platform, "grow-00001").await;
    assert!(log.contains("16Mi"), "the limit is named: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_function_writes_is_in_its_log() {
    let platform = TestPlatform::start().await.unwrap();
    let host = platform
        .deploy("lines", &platform.image("lines.wasm", &guest::lines()).unwrap())
        .await
        .unwrap();
    assert_eq!(platform.get(&host, "/").await.unwrap().status, StatusCode::OK);
    let log = log_of(&platform, "lines-00001").await;
    for line in ["one", "two", "unfinished", "oh no"] {
        assert!(
            log.lines().any(|found| found == line),
            "{line:?} is missing in {log:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_that_cannot_run_say_why_in_conditions() {
    let platform = TestPlatform::start().await.unwrap();
    let cut: Vec<u8> = guest::hello().into_iter().take(600).collect();
    for (name, bytes, reason, parts) in [
        (
            "elf",
            b"\x7fELF\x02\x01\x01 a program".to_vec(),
            "ContainerMissing",
            ["KW0105", "ELF"],
        ),
        (
            "module",
            b"\0asm\x01\0\0\0".to_vec(),
            "ContainerMissing",
            ["KW0112", "module"],
        ),
        (
            "oracle",
            guest::not_http(),
            "ContainerMissing",
            ["KW0106", "wasi:http/incoming-handler"],
        ),
        (
            "shopper",
            guest::missing_import(),
            "ContainerMissing",
            ["KW0107", "acme:store/shelf@1.2.0"],
        ),
        ("cut", cut, "ContainerMissing", ["KW0108", "truncated"]),
        (
            "starter",
            guest::start_trap(),
            "ExitCode134",
            ["KW0109", "unreachable"],
        ),
    ] {
        let image = platform.image(&format!("{name}.wasm"), &bytes).unwrap();
        platform.apply(&service(name, &image, "")).await.unwrap();
        let revision = platform
            .until(&format!("revisions/{name}-00001"), |r| {
                condition(r, "Ready").0 == "False"
            })
            .await
            .unwrap();
        let (_, found, message) = condition(&revision, "Ready");
        assert_eq!(found, reason, "{name}: {message}");
        for part in parts {
            assert!(message.contains(part), "{name}: {message:?} should name {part:?}");
        }
        let failed = platform
            .until(&format!("services/{name}"), |s| {
                condition(s, "Ready").0 == "False"
            })
            .await
            .unwrap();
        let (_, reason, message) = condition(&failed, "Ready");
        assert_eq!(reason, "RevisionFailed");
        assert!(
            message.starts_with(&format!("Revision \"{name}-00001\" failed with message: ")),
            "{message}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_new_revision_leaves_the_old_one_serving() {
    let platform = TestPlatform::start().await.unwrap();
    let host = platform
        .deploy("hello", &platform.image("hello.wasm", &guest::hello()).unwrap())
        .await
        .unwrap();
    let broken = platform.image("broken.wasm", b"nonsense").unwrap();
    platform.apply(&service("hello", &broken, "")).await.unwrap();
    let failed = platform
        .until("services/hello", |s| condition(s, "Ready").0 == "False")
        .await
        .unwrap();
    assert_eq!(condition(&failed, "Ready").1, "RevisionFailed");
    assert_eq!(failed["status"]["latestReadyRevisionName"], "hello-00001");
    assert_eq!(platform.get(&host, "/").await.unwrap().status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_functions_serve_from_the_cache() {
    let mut platform = TestPlatform::start().await.unwrap();
    let image = platform.image("hello.wasm", &guest::hello()).unwrap();
    let host = platform.deploy("hello", &image).await.unwrap();
    let before = platform.object("services/hello").await.unwrap();
    std::fs::remove_file(image.strip_prefix("file://").unwrap()).unwrap();
    platform.restart().await.unwrap();
    assert_eq!(platform.get(&host, "/").await.unwrap().status, StatusCode::OK);
    let after = platform.object("services/hello").await.unwrap();
    assert_eq!(
        condition(&after, "Ready"),
        condition(&before, "Ready"),
        "Ready must not flap over a restart"
    );
    let metrics = platform.metrics().await.unwrap();
    assert!(
        metrics.contains("kittiwake_cold_start_seconds_count"),
        "{metrics}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_finish_when_the_platform_stops() {
    let platform = TestPlatform::start().await.unwrap();
    let host = platform
        .deploy(
            "delayed",
            &platform.image("delayed.wasm", &guest::delayed()).unwrap(),
        )
        .await
        .unwrap();
    let address = platform.gateway();
    let call = tokio::spawn(async move { send(address, request(Method::GET, &host, "/", "")).await });
    // The call is in flight once the gateway says so (or has already ended, which is as good).
    while !call.is_finished()
        && !platform
            .metrics()
            .await
            .unwrap()
            .contains("kittiwake_gateway_in_flight 1")
    {
        tokio::task::yield_now().await;
    }
    assert_eq!(platform.stop(std::time::Duration::from_secs(30)).await, 0);
    assert_eq!(call.await.unwrap().unwrap().text(), "late\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_clear_answers() {
    let platform = TestPlatform::start_with(|config| config.auth.api_insecure = true)
        .await
        .unwrap();
    let answer = platform.get("nobody.default.localhost", "/").await.unwrap();
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert!(
        answer.text().contains("nobody.default.localhost") && answer.text().contains("KW0206"),
        "{}",
        answer.text()
    );

    // A web page must not reach the API of this machine.
    let mut asked = request(Method::GET, "127.0.0.1", "/version", "");
    asked
        .headers_mut()
        .insert("origin", HeaderValue::from_static("http://evil.example"));
    assert_eq!(
        send(platform.api(), asked).await.unwrap().status,
        StatusCode::FORBIDDEN
    );
    let rebound = send(
        platform.api(),
        request(Method::GET, "evil.example", "/version", ""),
    )
    .await
    .unwrap();
    assert_eq!(rebound.status, StatusCode::FORBIDDEN);
    assert_eq!(
        send(platform.api(), request(Method::GET, "127.0.0.1", "/version", ""))
            .await
            .unwrap()
            .status,
        StatusCode::OK
    );
    for path in ["/healthz", "/readyz", "/livez"] {
        assert_eq!(
            send(platform.api(), request(Method::GET, "localhost", path, ""))
                .await
                .unwrap()
                .status,
            StatusCode::OK
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_refuses_bad_input_as_kubernetes_does() {
    let platform = TestPlatform::start_with(|config| config.auth.api_insecure = true)
        .await
        .unwrap();
    let path = "/apis/serving.knative.dev/v1/namespaces/default/services";
    let post = |query: &str, body: String| {
        let mut asked = request(Method::POST, "127.0.0.1", &format!("{path}{query}"), body);
        asked
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/json"));
        send(platform.api(), asked)
    };
    let with_unknown = r#"{"apiVersion":"serving.knative.dev/v1","kind":"Service","metadata":{"name":"x"},"spec":{"bird":1,"template":{"spec":{"containers":[{"image":"busybox"}]}}}}"#;
    let strict = post("?fieldValidation=Strict", with_unknown.to_owned())
        .await
        .unwrap();
    assert_eq!(strict.status, StatusCode::BAD_REQUEST);
    assert!(
        strict.text().contains(r#"unknown field \"spec.bird\""#),
        "{}",
        strict.text()
    );
    let warn = post("?fieldValidation=Warn&dryRun=All", with_unknown.to_owned())
        .await
        .unwrap();
    assert_eq!(warn.status, StatusCode::CREATED, "{}", warn.text());
    assert!(warn.headers["warning"].to_str().unwrap().contains("spec.bird"));
    let ignore = post("?fieldValidation=Ignore&dryRun=All", with_unknown.to_owned())
        .await
        .unwrap();
    assert_eq!(
        (ignore.status, ignore.headers.get("warning")),
        (StatusCode::CREATED, None)
    );

    assert_eq!(
        post("", "{".to_owned()).await.unwrap().status,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        post("", "x".repeat(10 << 20))
            .await
            .map(|answer| answer.status)
            .unwrap_or(StatusCode::PAYLOAD_TOO_LARGE),
        StatusCode::PAYLOAD_TOO_LARGE
    );
    let long = with_unknown
        .replace("\"x\"", &format!("{:?}", "x".repeat(64)))
        .replace("\"bird\":1,", "");
    let answer = post("", long).await.unwrap();
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert!(answer.text().contains("metadata.name"), "{}", answer.text());
}
