//! Which socket a request comes in by: TLS or not, from inside or not; and what routes say about it.

use crate::support::{HELLO, bind, entry, start_on, table, try_start};
use http_body_util::BodyExt;
use kittiwake_core::routing_table::{HttpOption, RouteEntry, RouteTarget, Visibility};
use kittiwake_gateway::{Config, Listeners};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LOCAL: &str = "hello.default.svc.cluster.local";

fn with(change: impl FnOnce(&mut RouteEntry)) -> Arc<RouteEntry> {
    let mut entry = (*entry(&[("hello-00001", 100)], None)).clone();
    change(&mut entry);
    Arc::new(entry)
}

async fn get(address: std::net::SocketAddr, host: &str, path: &str, header: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn cluster_local_hosts_are_for_those_inside() {
    let routes = || {
        table(vec![
            (HELLO, with(|_| {})),
            (LOCAL, with(|entry| entry.visibility = Visibility::ClusterLocal)),
        ])
    };
    // Whom the main socket is bound for decides, not where a caller is: this one is for all the world.
    let everywhere = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let also = Listeners {
        cluster_local: Some(bind()),
        ..Listeners::default()
    };
    let server = try_start(everywhere, Config::default(), routes(), also).unwrap();
    let (main, inside) = (
        ([127, 0, 0, 1], server.handle.local_addr().port()).into(),
        server.handle.cluster_local_addr().unwrap(),
    );
    for (address, host, wanted) in [
        (main, HELLO, "HTTP/1.1 200"),
        (main, LOCAL, "HTTP/1.1 404"),
        (inside, HELLO, "HTTP/1.1 200"),
        (inside, LOCAL, "HTTP/1.1 200"),
    ] {
        let answer = get(address, host, "/", "").await;
        assert!(answer.starts_with(wanted), "{address} {host}: {answer}");
    }
    let laptop = start_on(Config::default(), routes(), Listeners::default());
    let answer = get(laptop.handle.local_addr(), LOCAL, "/", "").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn functions_call_hosts_of_their_process_without_a_socket() {
    let local = with(|entry| entry.visibility = Visibility::ClusterLocal);
    let everywhere = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let routes = table(vec![(LOCAL, local)]);
    let server = try_start(everywhere, Config::default(), routes, Listeners::default()).unwrap();
    let own_port = server.handle.local_addr().port();
    let inside = server.inside.get().unwrap();
    while !inside.answers(LOCAL, 80) {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    for (host, port, wanted) in [
        (LOCAL, 443, true),
        (LOCAL, own_port, true),
        (LOCAL, 9, false),
        ("gone.default.svc.cluster.local", 80, false),
    ] {
        assert_eq!(inside.answers(host, port), wanted, "{host}:{port}");
    }
    let request = http::Request::get(format!("http://{LOCAL}/head?b"))
        .header("host", LOCAL)
        .header("connection", "close")
        .body(kittiwake_core::body::empty());
    let answer = inside.call(request.unwrap()).await;
    assert_eq!(answer.status(), 200);
    let told = answer.into_body().collect().await.unwrap().to_bytes();
    let told = String::from_utf8(told.to_vec()).unwrap();
    assert!(
        told.starts_with("GET /head?b\n")
            && told.contains(&format!("host: {LOCAL}\n"))
            && told.contains("x-forwarded-for: 127.0.0.1\n")
            && !told.contains("connection:"),
        "{told}"
    );
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert!(server.inside.get().is_none(), "closed with the gateway");
}

#[tokio::test]
async fn a_redirected_host_leads_to_tls() {
    let routes = table(vec![(
        "shop.example",
        with(|entry| entry.http = HttpOption::Redirected),
    )]);
    let config = Config {
        https_port: Some(8443),
        ..Config::default()
    };
    let server = start_on(config, routes, Listeners::default());
    let address = server.handle.local_addr();
    let answer = get(address, "Shop.example:8080", "/a?b=c", "").await;
    assert!(
        answer.starts_with("HTTP/1.1 301 Moved Permanently\r\n")
            && answer.contains("\r\nlocation: https://shop.example:8443/a?b=c\r\n"),
        "{answer}"
    );
    let answer = get(address, "shop.example", "/", "X-Forwarded-Proto: https\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 200"),
        "a proxy before us took it with TLS: {answer}"
    );
    assert!(
        server
            .metrics()
            .contains("kittiwake_gateway_unrouted_requests_total{reason=\"redirected\"} 1")
    );
}

#[tokio::test]
async fn a_tag_is_named_by_a_header() {
    let tagged = entry(&[("hello-00007", 100)], None).targets[0].clone();
    let routes = table(vec![(
        HELLO,
        with(|entry| {
            entry.by_tag.insert("green".into(), RouteTarget { ..tagged });
        }),
    )]);
    let server = start_on(Config::default(), routes, Listeners::default());
    let address = server.handle.local_addr();
    let tagged = get(address, HELLO, "/", "Knative-Serving-Tag: green\r\n").await;
    assert!(tagged.ends_with("hello-00007"), "{tagged}");
    let tagged = get(address, HELLO, "/head", "Knative-Serving-Tag: green\r\n").await;
    assert!(
        tagged.contains("knative-serving-tag: green\n") && !tagged.contains("default-route"),
        "{tagged}"
    );
    for header in ["Knative-Serving-Tag: none\r\n", ""] {
        let answer = get(address, HELLO, "/head", header).await;
        assert!(answer.contains("x-by: hello-00001"), "{answer}");
        assert!(
            answer.contains("knative-serving-default-route: true\n"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn the_function_sees_the_mapped_domain() {
    let routes = table(vec![(
        "shop.example",
        with(|entry| entry.mapped_to = Some(LOCAL.into())),
    )]);
    let server = start_on(Config::default(), routes, Listeners::default());
    let answer = get(server.handle.local_addr(), "shop.example", "/head", "").await;
    assert!(
        answer.contains("\nhost: shop.example\n") && answer.contains("x-forwarded-host: shop.example\n"),
        "{answer}"
    );
}
