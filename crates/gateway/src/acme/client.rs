//! HTTPS to the authority.

use super::{BuildError, Config};
use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Longest time for one request to the authority.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer of the authority, in bytes; a larger one is an error.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A client of the authority. Clones share connections.
#[derive(Debug, Clone)]
pub(super) struct Client(reqwest::Client);

impl Client {
    pub(super) fn new(config: &Config) -> Result<Self, BuildError> {
        // One provider for every TLS client of the process; a second call is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .timeout(REQUEST_TIMEOUT)
            .user_agent(concat!("kittiwake/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &config.ca_file {
            let wrong = |why: String| BuildError::Authority {
                path: path.clone(),
                why,
            };
            let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
            let certificates =
                reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong(error.to_string()))?;
            if certificates.is_empty() {
                return Err(wrong("there is no certificate in it".to_owned()));
            }
            builder = builder.tls_certs_only(certificates);
        }
        builder.build().map(Self).map_err(BuildError::Client)
    }

    /// For an account with the authority.
    pub(super) fn account(&self) -> instant_acme::AccountBuilder {
        instant_acme::Account::builder_with_http(Box::new(self.clone()))
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let other = |error: reqwest::Error| Error::Other(Box::new(error));
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(never) => match never {},
        };
        let request = self
            .0
            .request(parts.method, parts.uri.to_string())
            .headers(parts.headers)
            .body(body);
        let answer: http::Response<reqwest::Body> = request.send().await.map_err(other)?.into();
        let (parts, body) = answer.into_parts();
        let body = http_body_util::Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(Error::Other)?
            .to_bytes();
        Ok(BytesResponse {
            parts,
            body: Box::new(body),
        })
    }
}

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().send(request))
    }
}
