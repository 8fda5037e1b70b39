//! `test/conformance/runtime`: the runtime contract, from the program's point of view.

use crate::suite::{HELLO_WORLD, Suite, container, service, text};
use serde_json::{Value, json};

/// `TestMustEnvVars`
#[tokio::test(flavor = "multi_thread")]
async fn test_must_env_vars() {
    let suite = Suite::start().await;
    let info = suite
        .runtime_info(|s| container(s)["ports"] = json!([{"containerPort": 8801}]), &[])
        .await;
    assert_eq!(info["host"]["envs"]["PORT"], "8801");
}

/// `TestShouldEnvVars`
#[tokio::test(flavor = "multi_thread")]
async fn test_should_env_vars() {
    let suite = Suite::start().await;
    let info = suite.runtime_info(|_| {}, &[]).await;
    let envs = &info["host"]["envs"];
    assert_eq!(envs["K_SERVICE"], "runtime");
    assert_eq!(envs["K_CONFIGURATION"], "runtime");
    assert_eq!(envs["K_REVISION"], "runtime-00001");
}

/// `TestMustHaveHeadersSet`
#[tokio::test(flavor = "multi_thread")]
async fn test_must_have_headers_set() {
    let suite = Suite::start().await;
    let info = suite.runtime_info(|_| {}, &[]).await;
    assert!(!text(&info, "/request/host").is_empty());
    let forwarded = text(&info, "/request/headers/Forwarded/0");
    let token = regex::Regex::new(r#"^(for|by|host|proto)=([0-9a-zA-Z!#$%&'*+.^_|~-]+|"[^"]*")$"#).unwrap();
    assert!(!forwarded.is_empty());
    for pair in forwarded.split([';', ',']).map(str::trim) {
        assert!(token.is_match(pair), "{forwarded}");
    }
}

/// `TestShouldHaveHeadersSet`
#[tokio::test(flavor = "multi_thread")]
async fn test_should_have_headers_set() {
    let suite = Suite::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let sent = [
        ("x-custom-user", "the value"),
        ("traceparent", trace),
        ("x-b3-spanid", "b7ad6b7169203331"),
    ];
    let info = suite.runtime_info(|_| {}, &sent).await;
    let header = |name: &str| text(&info, &format!("/request/headers/{name}/0")).to_owned();
    assert_eq!(header("X-Custom-User"), "the value");
    assert_eq!(header("X-B3-Spanid"), "b7ad6b7169203331");
    assert_eq!(header("X-Forwarded-Proto"), "http");
    for address in header("X-Forwarded-For").split(',') {
        address.trim().parse::<std::net::IpAddr>().unwrap();
    }
    assert!(
        header("Traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c-"),
        "{}",
        header("Traceparent")
    );
}

/// `TestProtocols`, its cases `http1` and `default`; a component is not told the version of HTTP (`docs/conformance.md`).
#[tokio::test(flavor = "multi_thread")]
async fn test_protocols() {
    for port in [
        json!({"containerPort": 8080, "name": "http1"}),
        json!({"containerPort": 8080}),
    ] {
        let suite = Suite::start().await;
        let info = suite
            .runtime_info(|s| container(s)["ports"] = json!([port]), &[])
            .await;
        assert_eq!(
            (&info["request"]["protoMajor"], &info["request"]["protoMinor"]),
            (&json!(1), &json!(1))
        );
    }
}

/// `TestShouldHaveStdinEOF`
#[tokio::test(flavor = "multi_thread")]
async fn test_should_have_stdin_eof() {
    let suite = Suite::start().await;
    let info = suite.runtime_info(|_| {}, &[]).await;
    assert_eq!(info["host"]["stdin"], json!({"eof": true}));
}

/// `TestCmdArgs`
#[tokio::test(flavor = "multi_thread")]
async fn test_cmd_args() {
    let suite = Suite::start().await;
    let change = |s: &mut Value| {
        container(s)["command"] = json!(["/ko-app/runtime", "abra"]);
        container(s)["args"] = json!(["cadabra", "do"]);
    };
    let info = suite.runtime_info(change, &[]).await;
    assert_eq!(
        info["host"]["args"],
        json!(["/ko-app/runtime", "abra", "cadabra", "do"])
    );
}

/// `TestWorkingDirService`
#[tokio::test(flavor = "multi_thread")]
async fn test_working_dir_service() {
    let suite = Suite::start().await;
    let info = suite
        .runtime_info(|s| container(s)["workingDir"] = json!("/tmp"), &[])
        .await;
    assert_eq!(info["host"]["user"]["cwd"]["directory"], "/tmp");
}

/// A value reaches the environment by name (`valueFrom`) and with all others of its source (`envFrom`).
async fn check_via_env(plural: &str, source: &Value, key_ref: &str, all_ref: &str) {
    let one = json!([{"name": "testKey", "valueFrom": {key_ref: {"name": "conformance", "key": "testKey"}}}]);
    let all = json!([{all_ref: {"name": "conformance"}}]);
    for (field, value) in [("env", one), ("envFrom", all)] {
        let suite = Suite::start().await;
        suite.create(plural, source).await.unwrap();
        let info = suite
            .runtime_info(|s| container(s)[field] = value.clone(), &[])
            .await;
        assert_eq!(info["host"]["envs"]["testKey"], "testValue", "{field}");
    }
}

/// `TestSecretsViaEnv`
#[tokio::test(flavor = "multi_thread")]
async fn test_secrets_via_env() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "conformance"},
        "stringData": {"testKey": "testValue"}});
    check_via_env("secrets", &secret, "secretKeyRef", "secretRef").await;
}

/// `TestConfigsViaEnv`
#[tokio::test(flavor = "multi_thread")]
async fn test_configs_via_env() {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conformance"},
        "data": {"testKey": "testValue"}});
    check_via_env("configmaps", &map, "configMapKeyRef", "configMapRef").await;
}

/// `TestProbeRuntime`, with an image that is always ready; delays need a resident one (`docs/conformance.md`).
#[tokio::test(flavor = "multi_thread")]
async fn test_probe_runtime() {
    let suite = Suite::start().await;
    let handlers = [
        ("httpGet", json!({"path": "/healthz"})),
        ("tcpSocket", json!({})),
        ("exec", json!({"command": ["/ko-app/readiness", "probe"]})),
    ];
    for (index, (handler, action)) in handlers.into_iter().enumerate() {
        for period in [0, 1] {
            let mut probed = service(&format!("probed-{index}-{period}"), "readiness");
            container(&mut probed)["readinessProbe"] = json!({handler: action, "periodSeconds": period});
            let ready = suite.create_service_ready(&probed).await;
            let answer = suite
                .get(&format!("{}/healthz", text(&ready, "/status/url")))
                .await;
            assert!(
                answer.text().contains(HELLO_WORLD),
                "{handler}: {}",
                answer.text()
            );
        }
    }
}

/// Every change makes a Service that is refused.
async fn check_refused(cases: &[(&str, Value)]) {
    let suite = Suite::start().await;
    for (name, change) in cases {
        let mut bad = service("bad", "runtime");
        let fields = container(&mut bad).as_object_mut().unwrap();
        fields.extend(change.as_object().unwrap().clone());
        let refused = suite.create("services", &bad).await;
        assert!(refused.is_err(), "{name} was accepted");
    }
}

/// `TestMustNotContainerConstraints`
#[tokio::test(flavor = "multi_thread")]
async fn test_must_not_container_constraints() {
    check_refused(&[
        ("TestArbitraryPortName", json!({"ports": [{"name": "arbitrary", "containerPort": 8080}]})),
        (
            "TestMountPropagation",
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v", "mountPropagation": "HostToContainer"}]}),
        ),
    ])
    .await;
}

/// `TestShouldNotContainerConstraints`
#[tokio::test(flavor = "multi_thread")]
async fn test_should_not_container_constraints() {
    let hook = json!({"exec": {"command": ["/bin/sh"]}});
    check_refused(&[
        ("TestPoststartHook", json!({"lifecycle": {"postStart": hook}})),
        ("TestPrestopHook", json!({"lifecycle": {"preStop": hook}})),
        (
            "TestMultiplePorts",
            json!({"ports": [{"containerPort": 80}, {"containerPort": 81}]}),
        ),
        (
            "TestHostPort",
            json!({"ports": [{"containerPort": 80, "hostPort": 80}]}),
        ),
        ("TestStdin", json!({"stdin": true})),
        ("TestStdinOnce", json!({"stdinOnce": true})),
        ("TestTTY", json!({"tty": true})),
        ("TestInvalidUID", json!({"securityContext": {"runAsUser": -10}})),
    ])
    .await;
}
