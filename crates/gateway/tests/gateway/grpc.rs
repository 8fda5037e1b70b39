//! gRPC calls that the gateway answers itself.

use crate::support::{HELLO, start};
use http::Request;
use http_body_util::BodyExt;
use kittiwake_core::body;

#[tokio::test]
async fn errors_of_the_gateway_are_grpcs() {
    let server = start();
    let mut client = server.http2().await;
    for (uri, status, message) in [
        (format!("http://{HELLO}/trap"), "2", "the function failed"),
        (format!("http://{HELLO}/timeout"), "14", "request timeout"),
        (format!("http://{HELLO}/busy"), "14", "all instances are busy"),
        (
            "http://unready.default.localhost/x".to_owned(),
            "14",
            "no revision of hello is ready",
        ),
        (
            "http://nobody.default.localhost/x".to_owned(),
            "12",
            "no route for host",
        ),
    ] {
        let call = Request::post(&uri)
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .header("grpc-timeout", "5S")
            .body(body::full(&[0, 0, 0, 0, 0][..]))
            .unwrap();
        let answer = client.send_request(call).await.unwrap();
        assert_eq!(answer.status(), 200, "{uri}");
        assert_eq!(answer.headers()["grpc-status"], status, "{uri}");
        let said = answer.headers()["grpc-message"].to_str().unwrap();
        assert!(said.contains(message), "{uri}: {said}");
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        let collected = answer.into_body().collect().await.unwrap();
        assert!(collected.trailers().is_none() && collected.to_bytes().is_empty());
    }
    assert!(
        server.metrics().contains("response_code=\"503\""),
        "metrics tell what happened, not how it was said"
    );
}

#[tokio::test]
async fn the_head_of_a_call_passes() {
    let server = start();
    let mut client = server.http2().await;
    let call = Request::post(format!("http://{HELLO}/head"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "5S")
        .body(body::empty())
        .unwrap();
    let answer = client.send_request(call).await.unwrap();
    let seen = answer.into_body().collect().await.unwrap().to_bytes();
    let seen = String::from_utf8(seen.to_vec()).unwrap();
    for line in [
        "te: trailers\n",
        "grpc-timeout: 5S\n",
        "content-type: application/grpc\n",
    ] {
        assert!(seen.contains(line), "{line} is not in\n{seen}");
    }
}
