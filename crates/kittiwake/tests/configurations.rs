//! What every function may rely on, checked in every configuration that the benchmarks use: one process and several,
//! fresh, kept and shared instances, with and without access log and metrics. Speed must not change an answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "support/program.rs"]
mod program;

use http::{HeaderValue, Method};
use http_body_util::BodyExt;
use kittiwake_testkit::guest;
use kittiwake_testkit::http::{Answer, open, open_h2c, request, send};
use kittiwake_testkit::platform::service;
use program::Up;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A component of WASI 0.3: the example `concurrent`.
const SERVICE: &[u8] = include_bytes!("../../../examples/concurrent/concurrent.wasm");
const ISOLATIONS: [&str; 3] = ["request", "serial", "concurrent"];

/// The platform and what is deployed in it: each guest once for every isolation, as `NAME-ISOLATION`.
struct Configuration {
    up: Up,
    gateway: SocketAddr,
    flags: &'static [&'static str],
}

impl Configuration {
    fn start(flags: &'static [&'static str]) -> Self {
        let up = Up::start(flags);
        let gateway = up.address("Functions").parse().unwrap();
        let guests: [(&str, Vec<u8>, &str); 10] = [
            ("echo", guest::echo(), ""),
            ("hello", guest::hello(), ""),
            ("counter", guest::counter(), ""),
            ("residue", guest::residue(), ""),
            ("trap", guest::trap(), ""),
            ("late-trap", guest::trap_after_first_byte(), ""),
            ("spin", guest::spin(), "      timeoutSeconds: 1\n"),
            (
                "grow",
                guest::grow(),
                "          resources: {limits: {memory: 8Mi}}\n",
            ),
            (
                "busy",
                guest::stall(),
                "      containerConcurrency: 1\n      timeoutSeconds: 2\n",
            ),
            ("shared", SERVICE.to_vec(), "      timeoutSeconds: 1\n"),
        ];
        let mut manifest = String::new();
        for (name, component, extra) in guests {
            let path = up.folder.path().join(format!("{name}.wasm"));
            std::fs::write(&path, component).unwrap();
            let image = format!("file://{}", path.display());
            for isolation in ISOLATIONS {
                let one = if name == "busy" {
                    ", autoscaling.knative.dev/max-scale: \"1\""
                } else {
                    ""
                };
                let annotated = format!(
                    "  template:\n    metadata:\n      annotations: {{kittiwake.dev/isolation: {isolation}{one}}}\n"
                );
                let service = service(&format!("{name}-{isolation}"), &image, extra);
                manifest += &service.replace("  template:\n", &annotated);
                manifest += "---\n";
            }
        }
        let file = up.folder.path().join("all.yaml");
        std::fs::write(&file, manifest).unwrap();
        up.ok(&["apply", "-f", &file.display().to_string()]);
        Self { up, gateway, flags }
    }

    async fn get(&self, name: &str, path: &str) -> anyhow::Result<Answer> {
        send(self.gateway, request(Method::GET, &host(name), path, "")).await
    }
}

fn host(name: &str) -> String {
    format!("{name}.default.localhost")
}

#[test]
fn one_process() {
    holds_all(&Configuration::start(&[]));
}

#[test]
fn two_workers() {
    holds_all(&Configuration::start(&["--workers", "2"]));
}

#[test]
fn with_access_log_and_without_metrics() {
    holds_all(&Configuration::start(&[
        "--access-log",
        "--request-metrics=false",
    ]));
}

fn holds_all(configuration: &Configuration) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for isolation in ISOLATIONS {
            let what = format!("{:?}, {isolation}", configuration.flags);
            requests_pass_whole(configuration, isolation, &what).await;
            heads_are_limited(configuration, isolation, &what).await;
            instances_are_shared_as_chosen(configuration, isolation, &what).await;
            failures_are_one_callers(configuration, isolation, &what).await;
            limits_hold(configuration, isolation, &what).await;
        }
        let nobody = configuration.get("nobody", "/").await.unwrap();
        assert_eq!(nobody.status, 404);
    });
    drop(runtime);
    let counts = configuration.up.metrics().contains("\nrevision_request_count{");
    assert_eq!(counts, !configuration.flags.contains(&"--request-metrics=false"));
}

async fn requests_pass_whole(configuration: &Configuration, isolation: &str, what: &str) {
    for name in ["echo", "shared"] {
        let host = host(&format!("{name}-{isolation}"));
        let body: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut asked = request(Method::POST, &host, "/echo", body.clone());
        asked
            .headers_mut()
            .insert("x-bird", HeaderValue::from_static("kittiwake"));
        asked
            .headers_mut()
            .insert("connection", HeaderValue::from_static("x-hop"));
        asked
            .headers_mut()
            .insert("x-hop", HeaderValue::from_static("for the gateway alone"));
        let answer = send(configuration.gateway, asked).await.unwrap();
        assert_eq!(answer.status, 200, "{what}, {name}");
        assert!(answer.body == body, "{what}, {name}");
        if name == "echo" {
            assert_eq!(answer.headers["x-bird"], "kittiwake", "{what}");
            assert_eq!(answer.headers["x-path"], "/echo", "{what}");
            assert!(!answer.headers.contains_key("x-hop"), "{what}");
            assert!(answer.headers.contains_key("x-forwarded-for"), "{what}");
        }
    }
    let host = host(&format!("hello-{isolation}"));
    let asked = request(Method::GET, &host, &format!("http://{host}/"), "");
    let answer = open_h2c(configuration.gateway, asked).await.unwrap();
    assert_eq!(answer.status(), 200, "{what}");
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "Hello from WebAssembly!\n", "{what}");
}

async fn heads_are_limited(configuration: &Configuration, isolation: &str, what: &str) {
    let host = host(&format!("hello-{isolation}"));
    let mut long = request(Method::GET, &host, "/", "");
    long.headers_mut()
        .insert("x-long", HeaderValue::from_bytes(&[b'x'; 70_000]).unwrap());
    let mut many = request(Method::GET, &host, "/", "");
    for number in 0..120 {
        let name: http::HeaderName = format!("x-{number}").parse().unwrap();
        many.headers_mut().insert(name, HeaderValue::from_static("1"));
    }
    for asked in [long, many] {
        let answer = send(configuration.gateway, asked).await.unwrap();
        assert_eq!(answer.status, 431, "{what}");
    }
    // Announced too large: answered before anything of it is sent.
    let mut stream = tokio::net::TcpStream::connect(configuration.gateway)
        .await
        .unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n",
        (64 << 20) + 1
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"HTTP/1.1 413", "{what}");
}

async fn instances_are_shared_as_chosen(configuration: &Configuration, isolation: &str, what: &str) {
    let (mut counted, mut last) = (false, 0);
    for _ in 0..20 {
        let text = configuration
            .get(&format!("counter-{isolation}"), "/")
            .await
            .unwrap()
            .text();
        counted |= text != "11";
        let told = configuration
            .get(&format!("shared-{isolation}"), "/calls")
            .await
            .unwrap()
            .text();
        let number: u32 = told.split(' ').nth(1).unwrap().parse().unwrap();
        last = last.max(number);
        // Slots are used again by other functions all the time; whoever has its instances for itself finds them clean.
        let clean = configuration.get("residue-request", "/").await.unwrap().text();
        assert_eq!(clean.trim_end(), "clean", "{what}");
    }
    let keeps = isolation != "request";
    assert_eq!((counted, last > 1), (keeps, keeps), "{what}");
}

async fn failures_are_one_callers(configuration: &Configuration, isolation: &str, what: &str) {
    let (trap, crash) = (format!("trap-{isolation}"), format!("shared-{isolation}"));
    let hello = format!("hello-{isolation}");
    for _ in 0..5 {
        let (trapped, crashed, fine) = tokio::join!(
            configuration.get(&trap, "/"),
            configuration.get(&crash, "/crash"),
            configuration.get(&hello, "/")
        );
        let (trapped, crashed) = (trapped.unwrap(), crashed.unwrap());
        assert_eq!(trapped.status, 500, "{what}");
        assert_eq!(crashed.status, 500, "{what}: {}", crashed.text());
        assert!(
            trapped.text().contains("KW0201") && crashed.text().contains("KW0201"),
            "{what}"
        );
        assert_eq!(fine.unwrap().status, 200, "{what}");
    }
    for (name, path) in [("late-trap", "/"), ("shared", "/crash-later")] {
        let asked = request(Method::GET, &host(&format!("{name}-{isolation}")), path, "");
        let answer = open(configuration.gateway, asked).await.unwrap();
        assert_eq!(answer.status(), 200, "{what}, {name}");
        let whole = answer.into_body().collect().await;
        assert!(
            whole.is_err(),
            "{what}, {name}: a broken body must not look whole"
        );
    }
}

async fn limits_hold(configuration: &Configuration, isolation: &str, what: &str) {
    let grow = format!("grow-{isolation}");
    assert_eq!(configuration.get(&grow, "/").await.unwrap().status, 500, "{what}");
    let log = configuration.up.ok(&["logs", &grow]);
    assert!(log.contains("memory limit exceeded"), "{what}: {log}");
    let (spin, shared, waits) = (
        format!("spin-{isolation}"),
        format!("shared-{isolation}"),
        format!("hello-{isolation}"),
    );
    let (spun, shared_spun, beside) = tokio::join!(
        configuration.get(&spin, "/"),
        configuration.get(&shared, "/spin"),
        configuration.get(&waits, "/")
    );
    assert_eq!(spun.unwrap().status, 504, "{what}");
    assert_eq!(shared_spun.unwrap().status, 504, "{what}");
    assert_eq!(beside.unwrap().status, 200, "{what}");
    // One call at a time, which lasts as long as a call may: those who wait that long are told to come again. Each process
    // has a queue.
    let busy = host(&format!("busy-{isolation}"));
    let calls = (0..10).map(|_| {
        let asked = request(Method::GET, &busy, "/", "");
        tokio::time::timeout(Duration::from_secs(10), open(configuration.gateway, asked))
    });
    let answers = futures::future::join_all(calls).await;
    let refused = answers
        .iter()
        .flatten()
        .flatten()
        .find(|answer| answer.status() == 503);
    let refused = refused.unwrap_or_else(|| panic!("{what}: nobody was refused"));
    assert!(refused.headers().contains_key("retry-after"), "{what}");
}
