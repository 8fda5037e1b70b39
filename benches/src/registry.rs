//! An OCI registry in this process that holds components, each with a name of its own.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// What is answered at each path.
#[derive(Default)]
pub struct Registry {
    contents: HashMap<String, Content>,
}

#[derive(Clone)]
struct Content {
    media_type: &'static str,
    digest: String,
    bytes: Vec<u8>,
}

impl Registry {
    /// Adds a component as `bench/NAME:v1`, in the form of the CNCF's Wasm artifacts.
    pub fn push(&mut self, name: &str, wasm: Vec<u8>) {
        let config = br#"{"created":"2026-01-01T00:00:00Z","architecture":"wasm","os":"wasip2"}"#.to_vec();
        let blob = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": blob("application/vnd.wasm.config.v0+json", &config),
            "layers": [blob("application/wasm", &wasm)],
        });
        let manifest = manifest.to_string().into_bytes();
        let base = format!("/v2/bench/{name}");
        for tag in ["v1", &digest(&manifest)] {
            self.put(format!("{base}/manifests/{tag}"), MANIFEST_TYPE, manifest.clone());
        }
        for bytes in [config, wasm] {
            let path = format!("{base}/blobs/{}", digest(&bytes));
            self.put(path, "application/octet-stream", bytes);
        }
    }

    fn put(&mut self, path: String, media_type: &'static str, bytes: Vec<u8>) {
        let digest = digest(&bytes);
        let content = Content {
            media_type,
            digest,
            bytes,
        };
        self.contents.insert(path, content);
    }

    /// Serves it on a free port until this program ends.
    pub async fn serve(self) -> anyhow::Result<SocketAddr> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state(Arc::new(self));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(address)
    }
}

async fn answer(State(registry): State<Arc<Registry>>, request: Request) -> Response {
    match registry.contents.get(request.uri().path()) {
        Some(content) => {
            let headers = [
                (header::CONTENT_TYPE.as_str(), content.media_type),
                ("docker-content-digest", &content.digest),
            ];
            (headers, content.bytes.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn digest(bytes: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
