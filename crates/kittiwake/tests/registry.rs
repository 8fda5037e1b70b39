//! From a private registry to an answer: a pull Secret, a tag resolved to a digest, a call.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http::Method;
use kittiwake_testkit::guest;
use kittiwake_testkit::platform::{TestPlatform, condition, service};
use serde_json::json;
use std::net::SocketAddr;
use std::process::Command;

/// What the registry holds: one artifact in the form of the CNCF, behind a password.
#[derive(Clone)]
struct Registry {
    manifest: Vec<u8>,
    blobs: Vec<(String, Vec<u8>)>,
}

/// `bird:secret`, as a browser would send it.
const AUTHORIZATION: &str = "Basic YmlyZDpzZWNyZXQ=";

/// The digest of some bytes, by the machine's own tool: this test shares no code with what it tests.
fn digest(bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let output = Command::new("sha256sum").arg(file.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    format!("sha256:{}", text.split_whitespace().next().unwrap())
}

impl Registry {
    fn new(wasm: Vec<u8>) -> Self {
        let config = br#"{"created":"2026-01-01T00:00:00Z","architecture":"wasm","os":"wasip2"}"#.to_vec();
        let blob = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob("application/vnd.wasm.config.v0+json", &config),
            "layers": [blob("application/wasm", &wasm)],
        });
        Self {
            manifest: serde_json::to_vec(&manifest).unwrap(),
            blobs: vec![(digest(&config), config), (digest(&wasm), wasm)],
        }
    }

    async fn start(self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(
            async move { axum::serve(listener, Router::new().fallback(answer).with_state(self)).await },
        );
        address
    }
}

async fn answer(State(registry): State<Registry>, request: Request) -> Response {
    if request
        .headers()
        .get(header::AUTHORIZATION)
        .is_none_or(|given| given != AUTHORIZATION)
    {
        return (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Basic realm=\"birds\"")],
        )
            .into_response();
    }
    let path = request.uri().path().to_owned();
    let manifest_digest = digest(&registry.manifest);
    if path == "/v2/team/hello/manifests/v1" || path == format!("/v2/team/hello/manifests/{manifest_digest}")
    {
        let headers = [
            ("content-type", "application/vnd.oci.image.manifest.v1+json"),
            ("docker-content-digest", &manifest_digest),
        ];
        return (headers, registry.manifest).into_response();
    }
    let blob = registry
        .blobs
        .iter()
        .find(|(digest, _)| path == format!("/v2/team/hello/blobs/{digest}"));
    match blob {
        Some((_, bytes)) => Body::from(bytes.clone()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_needs_its_pull_secret() {
    let registry = Registry::new(guest::hello()).start().await;
    let platform = TestPlatform::start().await.unwrap();
    let image = format!("{registry}/team/hello:v1");

    platform.apply(&service("hello", &image, "")).await.unwrap();
    let refused = platform
        .until("services/hello", |s| condition(s, "Ready").1 == "RevisionFailed")
        .await
        .unwrap();
    let message = condition(&refused, "Ready").2;
    assert!(
        message.contains("KW0102") && message.contains("imagePullSecrets"),
        "{message}"
    );

    // The same credentials as `kubectl create secret docker-registry` would store.
    let config =
        json!({"auths": {registry.to_string(): {"username": "bird", "password": "secret"}}}).to_string();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "birds"},
        "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": config}});
    platform.apply(&secret.to_string()).await.unwrap();
    let with_secret = service("hello", &image, "      imagePullSecrets: [{name: birds}]\n");
    let host = platform.deploy_yaml("hello", &with_secret).await.unwrap();
    assert_eq!(
        platform.call(Method::GET, &host, "/", "").await.unwrap().status,
        StatusCode::OK
    );
    let revision = platform.object("revisions/hello-00002").await.unwrap();
    let pinned = revision["status"]["containerStatuses"][0]["imageDigest"]
        .as_str()
        .unwrap();
    assert!(
        pinned.starts_with(&format!("{registry}/team/hello@sha256:")),
        "{pinned}"
    );
}
