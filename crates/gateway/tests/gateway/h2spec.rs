//! HTTP/2's conformance test, by others: h2spec, against the gateway with and without TLS.

use crate::secure::{Authority, certified, https, in_use};
use crate::support::{Server, entry, start_on};
use crate::tool::find;
use kittiwake_core::routing_table::RoutingTable;
use kittiwake_gateway::Config;
use std::sync::Arc;

/// Cases that fail, with the reason of each. What does not begin as HTTP/2 is taken for HTTP/1.1, which both sockets
/// speak too, and answered 400 in that.
const FAILING: [&str; 1] = ["http2/3.5: Sends invalid connection preface"];

/// The host that h2spec names: the address that it calls.
const HOST: &str = "127.0.0.1";

fn routes(authority: &Authority) -> Arc<RoutingTable> {
    let certificate = authority.issue(&[HOST, "localhost"], 2100);
    let mut table = Arc::unwrap_or_clone(certified(vec![("localhost", certificate)]));
    table.insert(HOST, entry(&[("hello-00001", 100)], None));
    table.insert("localhost", entry(&[("hello-00001", 100)], None));
    Arc::new(table)
}

/// The cases that failed, by their numbers, such as `http2/5.1.1/2`.
async fn failed(server: &Server, is_secure: bool) -> Option<(usize, Vec<String>)> {
    let program = find("h2spec")?;
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report.xml");
    let address = match is_secure {
        true => server.handle.https_addr().unwrap(),
        false => server.handle.local_addr(),
    };
    let mut command = tokio::process::Command::new(program);
    command
        // This function answers when it has read the whole request. One that answers before may have ended the stream
        // when a faulty frame comes, which is then not looked at.
        .args(["--host", "localhost", "--path", "/whole", "--timeout", "2"])
        .args(["--port", &address.port().to_string()])
        .arg("--junit-report")
        .arg(&report)
        .kill_on_drop(true);
    if is_secure {
        command.args(["--tls", "--insecure"]);
    }
    let output = command.output().await.unwrap();
    let text = std::fs::read_to_string(&report)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)));
    Some(read(&text))
}

/// How many cases there were, and which failed.
fn read(report: &str) -> (usize, Vec<String>) {
    let case =
        regex::Regex::new(r#"(?s)<testcase package="([^"]*)" classname="([^"]*)"[^>]*>(.*?)</testcase>"#)
            .unwrap();
    let cases: Vec<_> = case.captures_iter(report).collect();
    let failed = cases.iter().filter(|case| {
        let outcome = &case[3];
        outcome.contains("<failure") || outcome.contains("<error")
    });
    let failed = failed.map(|case| format!("{}: {}", &case[1], &case[2])).collect();
    (cases.len(), failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_passes_h2spec() {
    let authority = Authority::new();
    let server = start_on(Config::default(), routes(&authority), https());
    in_use(&server, "localhost").await;
    for is_secure in [false, true] {
        let Some((count, failed)) = failed(&server, is_secure).await else {
            return;
        };
        assert!(count > 100, "only {count} cases were run");
        assert_eq!(failed, FAILING, "with TLS: {is_secure}");
    }
}
