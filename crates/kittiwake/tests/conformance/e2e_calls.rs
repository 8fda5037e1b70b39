//! `test/e2e`: functions that call others, from inside.

use crate::suite::{HELLO_WORLD, PIZZA_PLANET_1, Suite, annotate, container, server, service, text};
use http::StatusCode;
use kittiwake_testkit::platform::PATIENCE;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The label that keeps a Service from the outside.
const VISIBILITY: &str = "networking.knative.dev/visibility";

/// A Service of the image `httpproxy` that asks `target`, and may ask those that `allowed` names.
fn proxy(name: &str, target: &str, allowed: &str) -> Value {
    let mut proxy = service(name, "httpproxy");
    container(&mut proxy)["env"] = json!([{"name": "TARGET_HOST", "value": target}]);
    proxy["spec"]["template"]["metadata"] =
        json!({"annotations": {"kittiwake.dev/allowed-outbound": allowed}});
    proxy
}

fn host(url: &str) -> &str {
    url.split_once("://").unwrap().1
}

/// `TestServiceToServiceCall`: by each of the three names that a Service has inside, also where the caller is not to be
/// seen from the outside.
#[tokio::test(flavor = "multi_thread")]
async fn test_service_to_service_call() {
    let suite = Suite::start().await;
    let mut hello = service("helloworld", "helloworld");
    hello["metadata"]["labels"] = json!({VISIBILITY: "cluster-local"});
    let ready = suite.create_service_ready(&hello).await;
    assert_eq!(
        text(&ready, "/status/url"),
        "http://helloworld.default.svc.cluster.local"
    );
    for (kind, target) in [
        ("fqdn", "helloworld.default.svc.cluster.local"),
        ("short", "helloworld.default.svc"),
        ("shortest", "helloworld.default"),
    ] {
        let name = format!("proxy-{kind}");
        let ready = suite
            .create_service_ready(&proxy(&name, target, "*.svc.cluster.local:80"))
            .await;
        suite.until_text(text(&ready, "/status/url"), HELLO_WORLD).await;
    }
    // The proxy itself can be one that only those inside may call.
    let mut hidden = proxy(
        "proxy-hidden",
        "helloworld.default.svc.cluster.local",
        "*.svc.cluster.local:80",
    );
    hidden["metadata"]["labels"] = json!({VISIBILITY: "cluster-local"});
    suite.create_service_ready(&hidden).await;
    let outer = proxy(
        "proxy-outer",
        "proxy-hidden.default.svc.cluster.local",
        "*.svc.cluster.local:80",
    );
    let ready = suite.create_service_ready(&outer).await;
    suite.until_text(text(&ready, "/status/url"), HELLO_WORLD).await;
}

/// What Knative leaves to network policies: nobody is called whom the template does not name.
#[tokio::test(flavor = "multi_thread")]
async fn services_are_called_only_by_those_who_name_them() {
    let suite = Suite::start().await;
    suite
        .create_service_ready(&service("helloworld", "helloworld"))
        .await;
    let denied = proxy(
        "proxy",
        "helloworld.default.svc.cluster.local",
        "api.example.com:443",
    );
    let ready = suite.create_service_ready(&denied).await;
    let url = text(&ready, "/status/url");
    let denied = async {
        loop {
            let answer = suite.get(url).await;
            if answer.status == StatusCode::BAD_GATEWAY && answer.text() == "ErrorCode::HttpRequestDenied" {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, denied).await.unwrap();
}

/// `TestCallToPublicService`: by the URL that those outside use.
#[tokio::test(flavor = "multi_thread")]
async fn test_call_to_public_service() {
    let suite = Suite::start().await;
    let ready = suite
        .create_service_ready(&service("helloworld", "helloworld"))
        .await;
    let target = host(text(&ready, "/status/url")).to_owned();
    let allowed = format!("{},*.svc.cluster.local:80", with_port(&target));
    for (name, target) in [
        ("public", target.as_str()),
        ("local", "helloworld.default.svc.cluster.local"),
    ] {
        let ready = suite.create_service_ready(&proxy(name, target, &allowed)).await;
        suite.until_text(text(&ready, "/status/url"), HELLO_WORLD).await;
    }
}

fn with_port(host: &str) -> String {
    match host.contains(':') {
        true => host.to_owned(),
        false => format!("{host}:80"),
    }
}

/// `TestSubrouteLocalSTS`: a tag of a Service that is kept from the outside, called from inside.
#[tokio::test(flavor = "multi_thread")]
async fn test_subroute_local_sts() {
    let suite = Suite::start().await;
    let mut target = service("target", "pizzaplanetv1");
    target["metadata"]["labels"] = json!({VISIBILITY: "cluster-local"});
    target["spec"]["traffic"] = json!([{"latestRevision": true, "percent": 100, "tag": "tag"}]);
    let ready = suite.create_service_ready(&target).await;
    let url = text(&ready, "/status/traffic/0/url");
    assert_eq!(url, "http://tag-target.default.svc.cluster.local");
    let ready = suite
        .create_service_ready(&proxy("proxy", host(url), "*.svc.cluster.local:80"))
        .await;
    suite
        .until_text(text(&ready, "/status/url"), PIZZA_PLANET_1)
        .await;
}

/// `TestSvcToSvcViaActivator`: what is called listens and stays, and the activator is never left out.
#[tokio::test(flavor = "multi_thread")]
async fn test_svc_to_svc_via_activator() {
    let suite = Suite::start().await;
    let mut hello = server("helloworld", "helloworld");
    hello["metadata"]["labels"] = json!({VISIBILITY: "cluster-local"});
    annotate(&mut hello, "autoscaling.knative.dev/target-burst-capacity", "-1");
    let ready = suite.create_service_ready(&hello).await;
    let revision = text(&ready, "/status/latestReadyRevisionName");
    let endpoints = format!(
        "/apis/networking.internal.knative.dev/v1alpha1/namespaces/default/serverlessservices/{revision}"
    );
    let in_between = |object: &Value| text(object, "/spec/mode") == "Proxy";
    suite.platform.until_at(&endpoints, in_between).await.unwrap();
    let target = host(text(&ready, "/status/url"));
    let ready = suite
        .create_service_ready(&proxy("proxy", target, "*.svc.cluster.local:80"))
        .await;
    suite.until_text(text(&ready, "/status/url"), HELLO_WORLD).await;
}

/// `TestEgressTraffic`: a server that is not of the platform. Knative's asks one of the Internet.
#[tokio::test(flavor = "multi_thread")]
async fn test_egress_traffic() {
    let outside = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("localhost:{}", outside.local_addr().unwrap().port());
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = outside.accept().await.unwrap();
            let mut head = [0; 1024];
            let _ = connection.read(&mut head).await;
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\noutside\n";
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    let suite = Suite::start().await;
    let ready = suite
        .create_service_ready(&proxy("proxy", &target, &target))
        .await;
    suite.until_text(text(&ready, "/status/url"), "outside").await;
}
