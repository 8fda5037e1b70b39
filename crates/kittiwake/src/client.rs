//! The client side's connection to an API server: which kubeconfig, which namespace, and raw requests.

use crate::cli::ConnectArgs;
use crate::config::DATA_DIR;
use anyhow::{Context, anyhow};
use http::{Method, Request, header};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;
use std::path::PathBuf;

/// Content type of a server-side apply.
const APPLY: &str = "application/apply-patch+yaml";
/// How often a request that may be repeated is sent when its connection ends: more than that many connections that were
/// kept do not end at a time.
const ATTEMPTS_MAX: u32 = 3;

/// A connection to an API server.
#[derive(Clone)]
pub struct Connection {
    /// The Kubernetes client.
    pub client: kube::Client,
    /// Namespace to use where none is said.
    pub namespace: String,
    /// Address of the server, for messages.
    pub server: String,
}

/// An answer of the API server that is not a success.
#[derive(Debug, thiserror::Error)]
#[error("Error from server ({reason}): {message}")]
pub struct ApiError {
    /// HTTP status.
    pub code: u16,
    /// `reason` of the Status, for example `NotFound`.
    pub reason: String,
    /// `message` of the Status.
    pub message: String,
}

impl Connection {
    /// Finds the kubeconfig and makes a client. Connects to nothing yet.
    ///
    /// # Errors
    /// When there is no kubeconfig or it cannot be used; says what to do.
    pub async fn open(args: &ConnectArgs) -> anyhow::Result<Self> {
        let kubeconfig = find(args)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .context("the kubeconfig cannot be used")?;
        let namespace = args
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = kube::Client::try_from(config).context("the kubeconfig cannot be used")?;
        Ok(Self {
            client,
            namespace,
            server,
        })
    }

    /// A connection over a client that exists already: `up` uses it to reach its own API server.
    #[must_use]
    pub fn over(client: kube::Client, server: String) -> Self {
        Self {
            client,
            namespace: "default".to_owned(),
            server,
        }
    }

    /// Sends a request and reads a JSON answer.
    ///
    /// # Errors
    /// [`ApiError`] when the server refuses; otherwise that the server cannot be reached.
    pub async fn json(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        accept: &str,
        body: Vec<u8>,
    ) -> anyhow::Result<Answer> {
        let request = || {
            Request::builder()
                .method(&method)
                .uri(path)
                .header(header::ACCEPT, accept)
                .header(header::CONTENT_TYPE, content_type)
                .body(Body::from(body.clone()))
                .context("cannot make the request")
        };
        // A connection that was kept may end at the very moment when it is used again. What changes nothing the second
        // time is then sent once more, as Go's clients do it.
        let mut attempts = match (&method, content_type) {
            (&Method::GET, _) | (&Method::PATCH, APPLY) => ATTEMPTS_MAX,
            _ => 1,
        };
        let response = loop {
            attempts -= 1;
            match self.client.send(request()?).await {
                Err(kube::Error::Service(_) | kube::Error::HyperError(_)) if attempts > 0 => {}
                sent => break sent.map_err(|error| self.unreachable(error))?,
            }
        };
        let status = response.status();
        let warnings = warnings(response.headers());
        let bytes = http_body_util::BodyExt::collect(response.into_body())
            .await
            .context("the answer broke off")?
            .to_bytes();
        let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(Answer {
                value,
                created: status == http::StatusCode::CREATED,
                warnings,
            });
        }
        let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        Err(anyhow!(ApiError {
            code: status.as_u16(),
            reason: text("reason")
                .unwrap_or_else(|| status.canonical_reason().unwrap_or("Unknown").replace(' ', "")),
            message: text("message").unwrap_or_else(|| String::from_utf8_lossy(&bytes).trim().to_owned()),
        }))
    }

    /// A GET of plain JSON.
    ///
    /// # Errors
    /// As [`Connection::json`].
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self
            .json(
                Method::GET,
                path,
                "application/json",
                "application/json",
                Vec::new(),
            )
            .await?
            .value)
    }

    fn unreachable(&self, error: kube::Error) -> anyhow::Error {
        anyhow::Error::new(error).context(format!(
            "cannot reach the API server at {}; is it running (kittiwake up), and is KUBECONFIG the one it printed?",
            self.server
        ))
    }
}

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    /// The JSON.
    pub value: Value,
    /// Whether the status was 201.
    pub created: bool,
    /// Texts of `Warning` headers.
    pub warnings: Vec<String>,
}

/// The texts of Kubernetes' `Warning: 299 - "text"` headers.
fn warnings(headers: &http::HeaderMap) -> Vec<String> {
    let text = |value: &http::HeaderValue| {
        let value = value.to_str().ok()?;
        let (_, rest) = value.split_once('"')?;
        let (text, _) = rest.rsplit_once('"')?;
        Some(text.replace("\\\"", "\"").replace("\\\\", "\\"))
    };
    headers.get_all(header::WARNING).iter().filter_map(text).collect()
}

/// True for an [`ApiError`] with this HTTP status.
#[must_use]
pub fn is_status(error: &anyhow::Error, code: u16) -> bool {
    error
        .downcast_ref::<ApiError>()
        .is_some_and(|error| error.code == code)
}

fn find(args: &ConnectArgs) -> anyhow::Result<Kubeconfig> {
    if let Some(path) = &args.kubeconfig {
        return Kubeconfig::read_from(path).with_context(|| format!("--kubeconfig {}", path.display()));
    }
    if let Some(kubeconfig) = Kubeconfig::from_env().context("KUBECONFIG")? {
        return Ok(kubeconfig);
    }
    let local = PathBuf::from(DATA_DIR).join("kubeconfig");
    if local.is_file() {
        return Kubeconfig::read_from(&local).with_context(|| local.display().to_string());
    }
    Kubeconfig::read().map_err(|_| {
        anyhow!(
            "no kubeconfig: neither --kubeconfig, nor $KUBECONFIG, nor {}, nor ~/.kube/config. \
             Start the platform with `kittiwake up`, then run this in the same folder or with the KUBECONFIG that it prints",
            local.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A server that ends its first connection when it has read a request, and answers on all others.
    async fn ends_its_first_connection() -> Connection {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for nth in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                if nth > 0 {
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
                    let _ = stream.write_all(answer).await;
                }
            }
        });
        let client = kube::Client::try_from(kube::Config::new(server.parse().unwrap())).unwrap();
        Connection::over(client, server)
    }

    #[tokio::test]
    async fn what_changes_nothing_is_sent_again_when_its_connection_ends() {
        let connection = ends_its_first_connection().await;
        connection.get("/api").await.unwrap();
        let connection = ends_its_first_connection().await;
        let json = "application/json";
        let created = connection
            .json(Method::POST, "/api", json, json, b"{}".to_vec())
            .await;
        let error = created.unwrap_err().to_string();
        assert!(error.starts_with("cannot reach the API server"), "{error}");
    }

    #[test]
    fn warning_headers_are_read() {
        let mut headers = http::HeaderMap::new();
        headers.append(
            header::WARNING,
            r#"299 - "unknown field \"spec.x\"""#.parse().unwrap(),
        );
        headers.append(header::WARNING, "299 nonsense".parse().unwrap());
        assert_eq!(warnings(&headers), [r#"unknown field "spec.x""#]);
    }
}
