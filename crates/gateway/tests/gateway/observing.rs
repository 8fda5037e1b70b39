//! Probes and metrics.

use crate::support::{HELLO, start, start_with, table};
use kittiwake_gateway::Config;
use std::sync::atomic::Ordering;

#[tokio::test]
async fn probes_are_answered_in_the_functions_place() {
    let server = start();
    for (host, headers, status, end) in [
        (HELLO, "K-Network-Probe: queue", 200, "\r\n\r\nqueue"),
        (HELLO, "K-Network-Probe: activator", 200, "\r\n\r\nactivator"),
        (
            "any.host",
            "K-Network-Probe: probe\r\nK-Network-Hash: abc",
            200,
            "\r\n\r\nprobe",
        ),
        ("any.host", "K-Network-Probe: probe", 400, "header\n"),
        (HELLO, "K-Network-Probe: nobody", 400, "queue\n"),
        (
            "none.default.localhost",
            "K-Network-Probe: queue",
            404,
            "[KW0206]\n",
        ),
        (
            "unready.default.localhost",
            "K-Network-Probe: queue",
            503,
            "[KW0207]\n",
        ),
    ] {
        let answer = server
            .raw(&format!(
                "GET / HTTP/1.1\r\nHost: {host}\r\n{headers}\r\nConnection: close\r\n\r\n"
            ))
            .await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(end),
            "{headers}: {answer}"
        );
        assert_eq!(
            answer.contains("k-network-hash: abc"),
            headers.ends_with("abc"),
            "{answer}"
        );
    }
    assert_eq!(server.function.calls.load(Ordering::SeqCst), 0);
    assert!(
        !server.metrics().contains("revision_request_count{"),
        "probes are not traffic"
    );
}

#[tokio::test]
async fn calls_show_in_knatives_metrics_until_their_revision_has_left() {
    let server = start_with(Config {
        series_lingering_max: 0,
        ..Config::default()
    });
    server.get(HELLO, "/").await;
    server.get(HELLO, "/trap").await;
    server.get(HELLO, "/busy").await;
    server.get("none.default.localhost", "/").await;
    server
        .raw(&format!(
            "GET / HTTP/1.1\r\nHost: {HELLO}\r\nUser-Agent: kube-probe/1.31\r\nConnection: close\r\n\r\n"
        ))
        .await;
    let labels = |code: &str| {
        let class = code.split_at(1).0;
        format!(
            "{{configuration_name=\"hello\",container_name=\"user-container\",namespace_name=\"default\",\
             response_code=\"{code}\",response_code_class=\"{class}xx\",revision_name=\"hello-00001\",service_name=\"hello\"}}"
        )
    };
    let shown = server.metrics();
    for line in [
        format!("revision_request_count{} 1", labels("200")),
        format!("revision_request_count{} 1", labels("500")),
        format!("revision_request_count{} 1", labels("503")),
        format!("revision_request_latencies_count{} 1", labels("200")),
        format!("revision_app_request_count{} 1", labels("200")),
        format!("revision_app_request_count{} 1", labels("500")),
        format!("revision_app_request_count{} 0", labels("503")),
        format!("revision_app_request_latencies_count{} 1", labels("200")),
        "kittiwake_cold_start_seconds_count{".to_owned(),
        "kittiwake_instantiate_seconds_count{".to_owned(),
        "kittiwake_queue_seconds_count{".to_owned(),
        "revision_queue_depth{".to_owned(),
        "kittiwake_gateway_in_flight 0".to_owned(),
        "kittiwake_gateway_unrouted_requests_total{reason=\"no_route\"} 1".to_owned(),
    ] {
        assert!(shown.contains(&line), "{line}\nis not in\n{shown}");
    }
    server.routes.send(table(vec![])).unwrap();
    while !server.get(HELLO, "/").await.contains(" 404 ") {
        tokio::task::yield_now().await;
    }
    assert!(
        !server.metrics().contains("revision_name=\"hello-00001\""),
        "{}",
        server.metrics()
    );
}
