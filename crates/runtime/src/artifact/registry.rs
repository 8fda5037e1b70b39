//! One registry, spoken to over the OCI distribution protocol with limits on size, silence, and repetitions.
//!
//! `oci-client` parses the references; the requests are our own, because a registry's `Retry-After`, a limit on what
//! is read, and a choice among several credentials are out of that crate's reach.

use super::credentials::Credential;
use super::manifest::ACCEPTED;
use super::retry::{is_transient, retry_after};
use super::{MANIFEST_BYTES_MAX, digest_mismatch};
use crate::digest::Digest;
use kittiwake_core::artifact::PrepareError;
use kittiwake_core::code::ErrorCode;
use kittiwake_core::unit::ByteCount;
use oci_client::Reference;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use std::net::IpAddr;

pub(crate) mod challenge;
pub(crate) mod clients;
mod realm;
mod redirect;

use challenge::Challenge;
use clients::Http;

/// Largest answer of a token server, in bytes.
const TOKEN_BYTES_MAX: u64 = 256 * 1024;
/// Length of a registry's own error text that is passed on, in characters.
const REGISTRY_TEXT_CHARS_MAX: usize = 200;

/// One image's repository in a registry, with what opens it.
#[derive(Debug)]
pub(crate) struct Repository {
    http: Http,
    base: String,
    name: String,
    registry: String,
    insecure: Vec<String>,
    local: bool,
    credential: Credential,
    authorization: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

#[derive(Deserialize)]
struct RegistryErrors {
    errors: Vec<RegistryError>,
}

#[derive(Deserialize)]
struct RegistryError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The host of a registry (`host` or `host:port`); an IPv6 address keeps its brackets, as in a URL.
pub(crate) fn host(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => registry,
    }
}

/// Whether a registry (`host` or `host:port`) is on this machine.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let host = host(registry).trim_end_matches('.');
    let ip = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

impl Repository {
    /// The repository of `image`, to be opened with `credential`.
    pub(crate) fn new(http: &Http, image: &Reference, insecure: &[String], credential: Credential) -> Self {
        let registry = image.registry();
        let local = is_loopback(registry);
        let plain_http = local || insecure.iter().any(|entry| entry == registry);
        let scheme = if plain_http { "http" } else { "https" };
        let host = match registry {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        Self {
            http: http.clone(),
            base: format!("{scheme}://{host}/v2/{}", image.repository()),
            name: format!("{registry}/{}", image.repository()),
            registry: registry.to_owned(),
            insecure: insecure.to_vec(),
            local,
            credential,
            authorization: None,
        }
    }

    /// The manifest that a tag or digest means, with its digest and media type.
    pub(crate) async fn manifest(
        &mut self,
        tag_or_digest: &str,
    ) -> Result<(Vec<u8>, Digest, Option<String>), PrepareError> {
        let url = format!("{}/manifests/{tag_or_digest}", self.base);
        let what = format!("the image {}", name_with(&self.name, tag_or_digest));
        let (content, content_type) = self.get(&url, Some(ACCEPTED), MANIFEST_BYTES_MAX, &what).await?;
        let digest = Digest::of(&content);
        if let Some(promised) = Digest::parse(tag_or_digest)
            && promised != digest
        {
            return Err(digest_mismatch(
                &format!("the manifest of {}", self.name),
                &promised,
                &digest,
            ));
        }
        Ok((content, digest, content_type))
    }

    /// A blob, checked against its digest.
    pub(crate) async fn blob(&mut self, promised: &Digest, bytes_max: u64) -> Result<Vec<u8>, PrepareError> {
        let url = format!("{}/blobs/{promised}", self.base);
        let what = format!("the blob {promised} of the image {}", self.name);
        let (content, _) = self.get(&url, None, bytes_max, &what).await?;
        let digest = Digest::of(&content);
        if digest != *promised {
            return Err(digest_mismatch(
                &format!("a blob of {}", self.name),
                promised,
                &digest,
            ));
        }
        Ok(content)
    }

    /// Fetches `url`, repeating what may be repeated.
    async fn get(
        &mut self,
        url: &str,
        accept: Option<&str>,
        bytes_max: u64,
        what: &str,
    ) -> Result<(Vec<u8>, Option<String>), PrepareError> {
        let mut retry = 0;
        loop {
            let failure = match self.get_once(url, accept, bytes_max, what).await {
                Ok(done) => return Ok(done),
                Err(Failure::Final(error)) => return Err(error),
                Err(failure @ Failure::Transient { .. }) => failure,
            };
            let Failure::Transient { error, asked } = failure else {
                continue;
            };
            let Some(wait) = self.http.policy.wait(retry, asked) else {
                return Err(error);
            };
            tracing::debug!(url, retry, ?wait, error = %error.message, "the registry is asked again");
            tokio::time::sleep(wait).await;
            retry += 1;
        }
    }

    async fn get_once(
        &mut self,
        url: &str,
        accept: Option<&str>,
        bytes_max: u64,
        what: &str,
    ) -> Result<(Vec<u8>, Option<String>), Failure> {
        let mut response = self.send(url, accept).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // The first refusal says how to authorize; the second one means it.
            self.authorize(&response).await?;
            response = self.send(url, accept).await?;
        }
        if !response.status().is_success() {
            return Err(self.refused(response, what).await);
        }
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.to_str().ok())
            .map(str::to_owned);
        let content = self.read(response, bytes_max, what).await?;
        Ok((content, content_type))
    }

    async fn send(&self, url: &str, accept: Option<&str>) -> Result<Response, Failure> {
        let mut request = self.http.content(self.local).get(url);
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    /// Reads a body up to a limit.
    async fn read(&self, mut response: Response, bytes_max: u64, what: &str) -> Result<Vec<u8>, Failure> {
        let too_large = || {
            Failure::Final(PrepareError::new(
                ErrorCode::ArtifactTooLarge,
                format!("{what} is larger than the limit of {}", ByteCount(bytes_max)),
            ))
        };
        if response.content_length().is_some_and(|length| length > bytes_max) {
            return Err(too_large());
        }
        let mut content = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            content.extend_from_slice(&chunk);
            if content.len() as u64 > bytes_max {
                return Err(too_large());
            }
        }
        Ok(content)
    }

    /// Answers a 401: basic credentials, or a token from the server that the registry names.
    async fn authorize(&mut self, refusal: &Response) -> Result<(), Failure> {
        self.authorization = None;
        let challenges: Vec<_> = refusal
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(Challenge::parse)
            .collect();
        // A token is preferred where both are offered: it opens less than the password, and for a shorter time.
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, parameters } => Some((realm, parameters)),
            Challenge::Basic => None,
        });
        let value = match (bearer, &self.credential) {
            (Some((realm, parameters)), _) => {
                format!("Bearer {}", self.token(realm, parameters).await?)
            }
            (_, Credential::Basic { username, password }) => basic(username, password),
            (_, Credential::IdentityToken(token)) => format!("Bearer {token}"),
            (_, Credential::Anonymous) => return Ok(()),
        };
        let mut value = HeaderValue::try_from(value).map_err(|_| {
            Failure::Final(self.unauthorized("the credentials hold characters that HTTP cannot carry"))
        })?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(())
    }

    fn token_request(
        &self,
        realm: &str,
        parameters: &[(String, String)],
    ) -> Result<RequestBuilder, PrepareError> {
        let mut url = Url::parse(realm)
            .map_err(|_| self.unauthorized(&format!("it names a token server that is no URL ({realm})")))?;
        if !realm::is_trusted(&url, &self.registry, &self.insecure) {
            return Err(self.unauthorized(&format!(
                "it names a token server that is not HTTPS ({realm}), and no insecure registry either"
            )));
        }
        let client = self.http.token(url.host_str().is_some_and(is_loopback));
        Ok(match &self.credential {
            Credential::IdentityToken(token) => {
                // A form is encoded as a query is.
                let mut form = url.clone();
                form.query_pairs_mut()
                    .clear()
                    .extend_pairs(parameters)
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("client_id", "kittiwake")
                    .append_pair("refresh_token", token);
                client
                    .post(url)
                    .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(form.query().unwrap_or_default().to_owned())
            }
            Credential::Anonymous => {
                url.query_pairs_mut().extend_pairs(parameters);
                client.get(url)
            }
            Credential::Basic { username, password } => {
                url.query_pairs_mut().extend_pairs(parameters);
                client.get(url).basic_auth(username, Some(password))
            }
        })
    }

    async fn token(&self, realm: &str, parameters: &[(String, String)]) -> Result<String, Failure> {
        let request = self.token_request(realm, parameters).map_err(Failure::Final)?;
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_redirection() {
            let why = format!("its token server {realm} redirects, and credentials are not sent on");
            return Err(Failure::Final(self.unauthorized(&why)));
        }
        if !response.status().is_success() {
            return Err(self.refused(response, "the token").await);
        }
        let content = self.read(response, TOKEN_BYTES_MAX, "the token").await?;
        let token: Token = serde_json::from_slice(&content)
            .map_err(|_| Failure::Final(self.unauthorized("its token server answered without a token")))?;
        Ok(if token.token.is_empty() {
            token.access_token
        } else {
            token.token
        })
    }

    async fn refused(&self, response: Response, what: &str) -> Failure {
        let status = response.status();
        let asked = retry_after(response.headers());
        let said = self
            .read(response, TOKEN_BYTES_MAX, what)
            .await
            .map(|body| registry_text(&body))
            .unwrap_or_default();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Failure::Final(self.unauthorized(&format!("it answered {status}{said}")))
            }
            StatusCode::NOT_FOUND => Failure::Final(PrepareError::new(
                ErrorCode::ArtifactNotFound,
                format!(
                    "{what} was not found in the registry {}{said}; check the name and the tag, and that it was pushed",
                    self.registry
                ),
            )),
            status if is_transient(status) => Failure::Transient {
                error: self.unavailable(&format!("it answered {status}{said}")),
                asked,
            },
            status => Failure::Final(self.unavailable(&format!("it answered {status}{said}"))),
        }
    }

    fn unauthorized(&self, why: &str) -> PrepareError {
        PrepareError::new(
            ErrorCode::RegistryUnauthorized,
            format!(
                "the registry {} does not let {} be read: {why}; add credentials as imagePullSecrets or with `docker login`, or make the image public",
                self.registry, self.name
            ),
        )
    }

    fn unavailable(&self, why: &str) -> PrepareError {
        PrepareError::new(
            ErrorCode::RegistryUnavailable,
            format!(
                "the registry {} cannot be used now: {why}; it is tried again",
                self.registry
            ),
        )
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let why = if error.is_timeout() {
            "it did not answer in time".to_owned()
        } else {
            // reqwest's own text only repeats the URL; the cause is at the end of the chain.
            let mut cause: &dyn std::error::Error = error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            cause.to_string()
        };
        if error.is_redirect() {
            return Failure::Final(self.unavailable(&why));
        }
        Failure::Transient {
            error: self.unavailable(&why),
            asked: None,
        }
    }
}

/// A failed request.
enum Failure {
    /// Asking again gives the same answer.
    Final(PrepareError),
    /// Asking again may help, after the time the registry asked for.
    Transient {
        error: PrepareError,
        asked: Option<std::time::Duration>,
    },
}

fn name_with(name: &str, tag_or_digest: &str) -> String {
    let separator = if tag_or_digest.contains(':') { '@' } else { ':' };
    format!("{name}{separator}{tag_or_digest}")
}

/// The value of a basic `Authorization` header.
fn basic(username: &str, password: &str) -> String {
    use base64::Engine as _;
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"))
    )
}

/// What a registry says in its error body, in brackets; empty when it says nothing readable.
fn registry_text(body: &[u8]) -> String {
    let Ok(errors) = serde_json::from_slice::<RegistryErrors>(body) else {
        return String::new();
    };
    let Some(first) = errors.errors.first() else {
        return String::new();
    };
    let text = if first.message.is_empty() {
        &first.code
    } else {
        &first.message
    };
    format!(
        " ({})",
        text.chars().take(REGISTRY_TEXT_CHARS_MAX).collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_registries_are_known() {
        for (registry, wanted) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("registry.localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("[::1]:5000", true),
            ("[::1]", true),
            ("[2001:db8::1]:5000", false),
            ("ghcr.io", false),
            ("localhost.evil.com", false),
            ("10.0.0.1:5000", false),
        ] {
            assert_eq!(is_loopback(registry), wanted, "{registry}");
        }
    }

    #[test]
    fn registry_errors_are_read_and_cut() {
        assert_eq!(
            registry_text(br#"{"errors":[{"code":"DENIED","message":"no"}]}"#),
            " (no)"
        );
        assert_eq!(registry_text(br#"{"errors":[{"code":"DENIED"}]}"#), " (DENIED)");
        assert_eq!(registry_text(b"<html>"), "");
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "x".repeat(5000));
        assert_eq!(registry_text(long.as_bytes()).len(), REGISTRY_TEXT_CHARS_MAX + 3);
    }
}
