//! The line of each call, where the routing table asks for one.

use crate::support::{HELLO, Server, routes, start_on, table};
use kittiwake_core::log::LogStream;
use kittiwake_core::request_log::RequestLog;
use kittiwake_core::revision::RevisionKey;
use kittiwake_core::routing_table::RoutingTable;
use kittiwake_gateway::{Config, Listeners};
use std::sync::Arc;

const TEMPLATE: &str = "{{.Request.Method}} {{.Request.Host}}{{.Request.RequestURI}} {{.Request.Proto}} \
                        {{.Request.ContentLength}} {{.Response.Code}} {{.Response.Size}} {{.Revision.Name}}";

fn wanted(probes: bool) -> Arc<RoutingTable> {
    let mut table = RoutingTable::clone(&table(routes()));
    table.request_log = Some(Arc::new(RequestLog::parse(TEMPLATE, probes).unwrap()));
    Arc::new(table)
}

/// The lines of the Revision, once there are so many.
async fn lines(server: &Server, count: usize) -> Vec<String> {
    let log = server.logs.revision(&RevisionKey::new("default", "hello-00001"));
    loop {
        let lines = log.lines();
        if lines.len() >= count {
            assert!(lines.iter().all(|line| line.stream == LogStream::Platform));
            return lines.iter().map(|line| line.text.to_string()).collect();
        }
        tokio::task::yield_now().await;
    }
}

fn call(head: &str, body: &str) -> String {
    format!("{head}\r\nhost: {HELLO}\r\nconnection: close\r\n{body}")
}

#[tokio::test]
async fn a_call_leaves_a_line_and_a_prober_only_where_that_is_wanted() {
    let server = start_on(Config::default(), wanted(false), Listeners::default());
    let probe = call("GET / HTTP/1.1\r\nuser-agent: kube-probe/1.30", "\r\n");
    server.raw(&probe).await;
    server.raw(&call("GET /teapot?x=1 HTTP/1.1", "\r\n")).await;
    server
        .raw(&call("POST / HTTP/1.1\r\ncontent-length: 3", "\r\nabc"))
        .await;
    let told = lines(&server, 2).await;
    assert!(
        told[0].starts_with(&format!("GET {HELLO}/teapot?x=1 HTTP/1.1 0 418 ")),
        "{told:?}"
    );
    assert_eq!(told[1], format!("POST {HELLO}/ HTTP/1.1 3 200 11 hello-00001"));

    server.routes.send_replace(wanted(true));
    let more = async {
        loop {
            server.raw(&probe).await;
            if lines(&server, 2).await.len() > 2 {
                return;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), more)
        .await
        .expect("probes are told too");
}
