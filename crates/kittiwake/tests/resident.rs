//! Functions that stay, through the whole platform: held by the activator, scaled by the autoscaler, run by the runtime.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/program.rs"]
mod program;

use futures::StreamExt;
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use kittiwake_testkit::guest;
use kittiwake_testkit::http::{open_h2c, request, send};
use kittiwake_testkit::platform::{TestPlatform, condition};
use kube::core::WatchEvent;
use program::{PATIENCE, Up, root};
use serde_json::Value;
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Back to zero as fast as Knative allows, and deployable at zero.
const SETTINGS: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler, namespace: knative-serving}\n\
                        data: {scale-to-zero-grace-period: 1s, allow-zero-initial-scale: 'true'}\n";
/// The shortest window.
const WINDOW: &str = "autoscaling.knative.dev/window: 6s";

/// The image of an example.
fn example(name: &str) -> String {
    let path = root().join(format!("examples/{name}/{name}.wasm"));
    format!("file://{}", path.display())
}

/// A Service with annotations on its template and more in its spec, both in YAML's flow style.
fn manifest(name: &str, image: &str, annotations: &str, spec: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  template:\n    metadata: \
         {{annotations: {{{annotations}}}}}\n    spec: {{{spec} containers: [{{image: '{image}'}}]}}\n---\n"
    )
}

async fn platform() -> Arc<TestPlatform> {
    let platform = TestPlatform::start().await.unwrap();
    platform.apply(SETTINGS).await.unwrap();
    Arc::new(platform)
}

/// The path of the PodAutoscaler of a Service's first Revision.
fn autoscaler(service: &str) -> String {
    format!(
        "/apis/autoscaling.internal.knative.dev/v1alpha1/namespaces/default/podautoscalers/{service}-00001"
    )
}

/// Watches from the start of a Service until its first Revision wants so many instances and has as many: some have them
/// for a moment only, which who looks now and then may miss.
async fn watch_scale(platform: &TestPlatform, service: &str, scale: i64) {
    let path = "/apis/autoscaling.internal.knative.dev/v1alpha1/namespaces/default/podautoscalers?watch=true";
    let watch = http::Request::get(path).body(Vec::new()).unwrap();
    let client = platform.connection().await.unwrap().client;
    let mut events = pin!(client.request_events::<Value>(watch).await.unwrap());
    let name = format!("{service}-00001");
    let mut last = Value::Null;
    let seen = async {
        loop {
            match events.next().await.unwrap().unwrap() {
                WatchEvent::Added(object) | WatchEvent::Modified(object)
                    if object["metadata"]["name"] == name =>
                {
                    last = object["status"].clone();
                }
                _ => continue,
            }
            if last["desiredScale"] == scale && last["actualScale"] == scale {
                return;
            }
        }
    };
    let seen = tokio::time::timeout(kittiwake_testkit::platform::PATIENCE, seen).await;
    assert!(seen.is_ok(), "{service} never had {scale} instances: {last:#}");
}

/// Waits until the first Revision of a Service wants so many instances and has as many.
async fn until_scale(platform: &TestPlatform, service: &str, scale: i64) -> Value {
    // Before anything was decided the wanted scale is -1, as in Knative.
    let is = |object: &Value, field| object["status"][field].as_i64().unwrap_or(0).max(0) == scale;
    platform
        .until_at(&autoscaler(service), |object| {
            is(object, "desiredScale") && is(object, "actualScale")
        })
        .await
        .unwrap()
}

async fn text(platform: &TestPlatform, service: &str, path: &str) -> String {
    let answer = platform.get(&platform.host(service), path).await.unwrap();
    assert_eq!(
        answer.status,
        StatusCode::OK,
        "{service}{path}: {}",
        answer.text()
    );
    answer.text()
}

/// What kubectl prints of an object, by column.
async fn columns(platform: &TestPlatform, path: &str) -> Vec<(String, Value)> {
    let asked = http::Request::get(path)
        .header(header::ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let connection = platform.connection().await.unwrap();
    let table = connection.client.request_text(asked).await.unwrap();
    let table: Value = serde_json::from_str(&table).unwrap();
    let names = table["columnDefinitions"].as_array().unwrap();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    let name = |column: &Value| column["name"].as_str().unwrap().to_owned();
    names.iter().map(name).zip(cells.iter().cloned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_zero_up_with_the_calls_and_back_to_zero() {
    let platform = platform().await;
    let annotations = format!(
        "{WINDOW}, autoscaling.knative.dev/initial-scale: '0', autoscaling.knative.dev/max-scale: '4'"
    );
    let yaml = manifest(
        "elastic",
        &example("wasmedge-server"),
        &annotations,
        "containerConcurrency: 1,",
    );
    platform.deploy_yaml("elastic", &yaml).await.unwrap();
    until_scale(&platform, "elastic", 0).await;
    assert_eq!(
        text(&platform, "elastic", "/").await,
        "Hello World!\n",
        "held until there is an instance"
    );

    // Eight callers, of whom four can be in at a time, until there are four instances.
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (platform, over) = (Arc::clone(&platform), Arc::clone(&over));
        callers.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let answer = text(&platform, "elastic", "/sleep?ms=4000").await;
                assert_eq!(answer, "slept for 4000 ms\n");
            }
        });
    }
    let scaled = until_scale(&platform, "elastic", 4).await;
    assert_eq!(condition(&scaled, "Active").0, "True");
    let shown = columns(&platform, &autoscaler("elastic")).await;
    for wanted in ["DesiredScale", "ActualScale"] {
        let column = shown.iter().find(|(name, _)| name == wanted);
        assert_eq!(column.unwrap().1.as_i64(), Some(4), "{shown:?}");
    }
    over.store(true, Ordering::Relaxed);
    callers.join_all().await;

    let idle = until_scale(&platform, "elastic", 0).await;
    let (active, reason, _) = condition(&idle, "Active");
    assert_eq!((active.as_str(), reason.as_str()), ("False", "NoTraffic"));
    let service = platform.object("services/elastic").await.unwrap();
    assert_eq!(condition(&service, "Ready").0, "True", "at zero it is ready");
    assert_eq!(
        text(&platform, "elastic", "/calls").await,
        "1\n",
        "of another instance"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_listens_goes_from_zero_to_two_and_back() {
    let platform = platform().await;
    let annotations = format!("{WINDOW}, autoscaling.knative.dev/initial-scale: '0'");
    let server = example("component-server");
    let yaml = manifest("sockets", &server, &annotations, "containerConcurrency: 1,");
    platform.deploy_yaml("sockets", &yaml).await.unwrap();
    until_scale(&platform, "sockets", 0).await;
    assert_eq!(text(&platform, "sockets", "/").await, "Hello World!\n");
    // Each waits until it is alone in an instance, so the autoscaler wants a second one.
    let slow = "/sleep?ms=4000";
    let two = async {
        platform
            .until_at(&autoscaler("sockets"), |object| {
                object["status"]["actualScale"].as_i64() >= Some(2)
            })
            .await
            .unwrap()
    };
    let (first, second, _) = tokio::join!(
        text(&platform, "sockets", slow),
        text(&platform, "sockets", slow),
        two
    );
    assert_eq!(
        (first.as_str(), second.as_str()),
        ("slept for 4000 ms\n", "slept for 4000 ms\n")
    );
    until_scale(&platform, "sockets", 0).await;
    assert_eq!(
        text(&platform, "sockets", "/calls").await,
        "1\n",
        "of another instance"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_of_annotations_and_of_a_users_podautoscaler_hold() {
    let platform = platform().await;
    let server = example("wasmedge-server");
    let key = |key: &str, value: u32| format!("{WINDOW}, autoscaling.knative.dev/{key}: '{value}'");
    let burst = format!(
        "{}, autoscaling.knative.dev/initial-scale: '0'",
        key("activation-scale", 3)
    );
    let users = "apiVersion: autoscaling.knative.dev/v1alpha1\nkind: PodAutoscaler\nmetadata: {name: users}\nspec:\n  \
                 scaleTargetRef: {apiVersion: serving.knative.dev/v1, kind: Service, name: users}\n  minScale: 2\n";
    let all = [
        manifest("kept", &server, &key("min-scale", 2), ""),
        manifest("begun", &server, &key("initial-scale", 3), ""),
        manifest("burst", &server, &burst, ""),
        manifest("users", &server, WINDOW, ""),
        users.to_owned(),
    ];
    let at = async |service, scale| until_scale(&platform, service, scale).await;
    let user = "/apis/autoscaling.knative.dev/v1alpha1/namespaces/default/podautoscalers/users";
    let shown = platform.until_at(user, |object| {
        let says = |field| object["status"][field].as_i64() == Some(2);
        says("desiredScale") && says("actualScale")
    });
    let burst = async {
        platform.deploy_yaml("kept", &all.concat()).await.unwrap();
        // It is called until it has them all.
        let mut three = pin!(at("burst", 3));
        loop {
            tokio::select! {
                _ = &mut three => return,
                _ = text(&platform, "burst", "/sleep?ms=1000") => {}
            }
        }
    };
    // What begins with three goes soon, so it is watched from the start.
    let begun = watch_scale(&platform, "begun", 3);
    let (_, (), (), _, shown) = tokio::join!(at("kept", 2), begun, burst, at("users", 2), shown);
    shown.unwrap();
    // Without calls: what has a bound stays, what has none goes.
    let fewer = users.replace("minScale: 2", "minScale: 0");
    platform.apply(&fewer).await.unwrap();
    tokio::join!(at("begun", 0), at("burst", 0), at("users", 0));
    at("kept", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_is_started_again_and_calls_of_others_go_on() {
    let platform = platform().await;
    let server = example("wasmedge-server");
    let both = manifest("crasher", &server, "", "") + &manifest("other", &server, "", "");
    platform.deploy_yaml("crasher", &both).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let others = tokio::spawn({
        let (platform, over) = (Arc::clone(&platform), Arc::clone(&over));
        async move {
            while !over.load(Ordering::Relaxed) {
                assert_eq!(text(&platform, "other", "/").await, "Hello World!\n");
            }
        }
    });
    let crashes = async {
        // Each time it is longer until the next instance is started: 0, 100, 200, 400, 800 ms. Calls wait for it.
        for _ in 0..5 {
            let answer = platform.get(&platform.host("crasher"), "/crash").await.unwrap();
            assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{}", answer.text());
        }
    };
    let healthy = |object: &Value| condition(object, "ContainerHealthy");
    let (failing, ()) = tokio::join!(
        platform.until("revisions/crasher-00001", |object| healthy(object).0 == "False"),
        crashes
    );
    let (_, reason, message) = healthy(&failing.unwrap());
    assert_eq!(reason, "ExitCode1", "{message}");
    assert!(message.contains("exit code 1"), "{message}");
    assert_eq!(text(&platform, "crasher", "/calls").await, "1\n");
    platform
        .until("revisions/crasher-00001", |object| healthy(object).0 == "True")
        .await
        .unwrap();
    over.store(true, Ordering::Relaxed);
    others.await.unwrap();
    let events = platform
        .until_at("/api/v1/namespaces/default/events", |list| {
            let events = list["items"].as_array().cloned().unwrap_or_default();
            events.iter().any(|event| {
                event["involvedObject"]["name"] == "crasher-00001"
                    && event["message"].to_string().contains("exit code 1")
            })
        })
        .await;
    events.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_listens_or_ends_at_once_says_so() {
    let platform = platform().await;
    for (name, wasm, deadline, says) in [
        ("deaf", guest::server_deaf(), 5, "does not listen on port 8080"),
        ("quits", guest::server_quits(), 600, "exited with code 7"),
    ] {
        let image = platform.image(&format!("{name}.wasm"), &wasm).unwrap();
        let deadline = format!("serving.knative.dev/progress-deadline: {deadline}s");
        platform
            .apply(&manifest(name, &image, &deadline, ""))
            .await
            .unwrap();
        let failed = platform
            .until(&format!("services/{name}"), |object| {
                condition(object, "Ready").0 == "False"
            })
            .await
            .unwrap();
        let (_, _, message) = condition(&failed, "Ready");
        assert!(message.contains(says), "{name}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrades_and_http2_reach_a_server() {
    let platform = platform().await;
    let image = platform.image("server.wasm", &guest::server()).unwrap();
    let host = platform.deploy("server", &image).await.unwrap();
    let mut connection = TcpStream::connect(platform.gateway()).await.unwrap();
    let head = format!("GET /u HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(connection.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    for said in [b"ping", b"pong"] {
        connection.write_all(said).await.unwrap();
        let mut heard = [0; 4];
        connection.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, said);
    }
    drop(connection);

    // A caller's HTTP/2 becomes HTTP/1.1 for a server that says nothing, and stays HTTP/2 for one with a port h2c.
    let hyper = platform.image("hyper.wasm", guest::HYPER_ECHO).unwrap();
    for (name, port) in [("plain", "http1"), ("talker", "h2c")] {
        let yaml = manifest(name, &hyper, "", "");
        let port = format!(", ports: [{{name: {port}, containerPort: 3000}}]}}]}}\n");
        platform
            .deploy_yaml(name, &yaml.replace("}]}\n", &port))
            .await
            .unwrap();
        let authority = format!("{}:{}", platform.host(name), platform.gateway().port());
        let mut asked = request(
            Method::POST,
            &authority,
            &format!("http://{authority}/echo"),
            "over HTTP/2",
        );
        asked
            .headers_mut()
            .insert(header::TE, "trailers".parse().unwrap());
        let response = open_h2c(platform.gateway(), asked).await.unwrap();
        assert_eq!(
            (response.status(), response.version()),
            (StatusCode::OK, http::Version::HTTP_2),
            "{name}"
        );
        let echoed = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(echoed, "over HTTP/2", "{name}");
        let answer = platform
            .call(Method::POST, &platform.host(name), "/echo", "over HTTP/1.1")
            .await
            .unwrap();
        assert_eq!(answer.text(), "over HTTP/1.1", "{name}");
    }
}

/// What both import is the same; the template of the one tells that it does not listen.
#[tokio::test(flavor = "multi_thread")]
async fn programs_with_the_sockets_of_the_standard_library_are_servers_or_commands() {
    let mut platform = TestPlatform::start().await.unwrap();
    let image = |name: &str| {
        let path = root().join(format!("guests/std-net/{name}.wasm"));
        format!("file://{}", path.display())
    };
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = upstream.accept().await.unwrap();
            let mut asked = [0; 4];
            connection.read_exact(&mut asked).await.unwrap();
            connection.write_all(b"pong").await.unwrap();
        }
    });
    let listens = manifest("listens", &image("listens"), "", "");
    let annotations = format!("kittiwake.dev/kind: command, kittiwake.dev/allowed-outbound: '{address}'");
    let connects = manifest("connects", &image("connects"), &annotations, "").replace(
        "}]}\n",
        &format!(", env: [{{name: UPSTREAM, value: '{address}'}}]}}]}}\n"),
    );
    platform.deploy_yaml("listens", &listens).await.unwrap();
    platform.deploy_yaml("connects", &connects).await.unwrap();
    for start in ["the first", "another"] {
        assert_eq!(text(&platform, "listens", "/a").await, "/a \n", "{start}");
        assert_eq!(text(&platform, "connects", "/").await, "pong\n", "{start}");
        for (name, kind) in [("listens", "server"), ("connects", "command")] {
            let revision = platform.object(&format!("revisions/{name}-00001")).await.unwrap();
            let told = &revision["status"]["annotations"]["kittiwake.dev/kind"];
            assert_eq!(told, kind, "{start}");
        }
        platform.restart().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_is_split_between_functions_of_every_kind() {
    let platform = platform().await;
    let kinds = [
        ("component", "hello"),
        ("server", "wasmedge-server"),
        ("command", "cgi"),
    ];
    let mut traffic = String::from("  traffic:\n");
    for (index, (kind, image)) in kinds.iter().enumerate() {
        let percent = [30, 30, 40][index];
        traffic += &format!("    - {{revisionName: mixed-{kind}, tag: {kind}, percent: {percent}}}\n");
        let yaml = format!(
            "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {{name: mixed}}\nspec:\n  template:\n    metadata: \
             {{name: mixed-{kind}}}\n    spec:\n      containers:\n        - image: {}\n          env: [{{name: TARGET, value: \
             {kind}}}]\n",
            example(image)
        );
        let last = index + 1 == kinds.len();
        let yaml = if last { yaml + &traffic } else { yaml };
        platform.deploy_yaml("mixed", &yaml).await.unwrap();
    }
    for (kind, _) in kinds {
        let answer = text(&platform, &format!("{kind}-mixed"), "/").await;
        assert!(answer.starts_with(&format!("Hello {kind}!\n")), "{answer}");
        let revision = platform.object(&format!("revisions/mixed-{kind}")).await.unwrap();
        assert_eq!(revision["status"]["annotations"]["kittiwake.dev/kind"], kind);
    }
    let mut seen = BTreeSet::new();
    while seen.len() < kinds.len() {
        let answer = text(&platform, "mixed", "/").await;
        seen.insert(answer.lines().next().unwrap().to_owned());
    }
}

#[test]
fn workers_share_the_instances_and_start_one_with_a_first_call() {
    let up = Up::start(&["--workers", "2"]);
    let deploy = |name: &str, annotations: &str| {
        let file = up.folder.path().join("server.yaml");
        std::fs::write(
            &file,
            manifest(name, &example("wasmedge-server"), annotations, ""),
        )
        .unwrap();
        up.ok(&["apply", "-f", &file.display().to_string()]);
    };
    let live = || -> Vec<u32> {
        let metrics = up.metrics();
        let of = metrics
            .lines()
            .filter(|line| line.starts_with("kittiwake_instances_live{"));
        of.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
            .collect()
    };
    let until = |what: &str, wanted: &dyn Fn(&[u32]) -> bool, meanwhile: &dyn Fn()| {
        let begun = Instant::now();
        while !wanted(&live()) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", live());
            meanwhile();
        }
    };
    // What the autoscaler wants is divided among them, also without any call.
    deploy("spread", "autoscaling.knative.dev/min-scale: '4'");
    until("two each", &|live| live == [2, 2], &|| ());

    let gateway: std::net::SocketAddr = up.address("Functions").parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Each call over a connection of its own, which the kernel gives to either worker.
    let call = || {
        let asked = request(Method::GET, "server.default.localhost", "/", "");
        let answer = runtime.block_on(send(gateway, asked)).unwrap();
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (StatusCode::OK, "Hello World!\n")
        );
    };
    deploy("server", "");
    until("one more each", &|live| live == [3, 3], &call);
}

#[test]
fn a_pod_that_is_deleted_begins_anew_in_its_worker_and_no_other_does() {
    let up = Up::start(&["--workers", "2"]);
    let file = up.folder.path().join("server.yaml");
    let annotations = "autoscaling.knative.dev/min-scale: '2'";
    let yaml = manifest("server", &example("wasmedge-server"), annotations, "");
    std::fs::write(&file, yaml).unwrap();
    up.ok(&["apply", "-f", &file.display().to_string()]);
    let pods = || -> BTreeSet<String> {
        let listed = up.ok(&["get", "pods", "-o", "name"]);
        listed
            .lines()
            .map(|line| line.trim_start_matches("pod/").to_owned())
            .collect()
    };
    let until = |what: &str, done: &dyn Fn(&BTreeSet<String>) -> bool| -> BTreeSet<String> {
        let begun = Instant::now();
        loop {
            let now = pods();
            if done(&now) {
                return now;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {now:?}");
        }
    };
    // One in each worker.
    let before = until("both pods are shown", &|pods| pods.len() == 2);
    let deleted = before.first().unwrap();
    up.ok(&["delete", "pod", deleted]);
    let after = until("the pod is replaced", &|pods| {
        pods.len() == 2 && !pods.contains(deleted)
    });
    assert_eq!(after.intersection(&before).count(), 1, "{before:?} {after:?}");
    let gateway: std::net::SocketAddr = up.address("Functions").parse().unwrap();
    let asked = request(Method::GET, "server.default.localhost", "/", "");
    let answer = tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(send(gateway, asked))
        .unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}
