//! Tokens of an OpenID Connect issuer (k8s.io/apiserver/plugin/pkg/authenticator/token/oidc): a user of a company's
//! directory is a user here.
//!
//! The issuer's keys are fetched when they are first needed, kept, and fetched again when a token names one that is not
//! known or when they are old. While the issuer cannot be reached, the keys that are there go on counting.

use super::identity::Identity;
use super::jwt::{PublicKey, Token};
use kittiwake_core::clock::Clock;
use serde_json::Value;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Longest time that one request to the issuer takes.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer of the issuer, in bytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Most keys of an issuer that are kept.
const KEYS_MAX: usize = 256;
/// Shortest time between two fetches: tokens with made-up key names must not become a flood at the issuer.
const FETCH_PAUSE: Duration = Duration::from_secs(10);
/// Age at which keys are fetched again although all are known.
const KEYS_AGE_MAX: Duration = Duration::from_secs(15 * 60);

/// What users and groups of the platform itself begin with: an issuer must not make anybody one of `system:masters`.
const OWN_NAMES: &str = "system:";

/// Which issuer is believed, and how its users are named here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The issuer, exactly as it names itself; must be https.
    pub issuer_url: String,
    /// The audience that tokens must be for.
    pub client_id: String,
    /// The claim that is the user name. Kubernetes' default: `sub`.
    pub username_claim: String,
    /// What is put before user names. `None`: the issuer and `#`, unless the claim is `email`; `-`: nothing.
    pub username_prefix: Option<String>,
    /// The claim that lists groups; `None` for no groups.
    pub groups_claim: Option<String>,
    /// What is put before groups.
    pub groups_prefix: String,
    /// Certificates in PEM that the issuer's server is believed by; `None`: those of this machine.
    pub ca_pem: Option<Vec<u8>>,
}

impl Config {
    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<(), String> {
        if !self.issuer_url.starts_with("https://") {
            return Err(format!(
                "the OIDC issuer {:?} must be an https:// URL",
                self.issuer_url
            ));
        }
        if self.client_id.is_empty() {
            return Err(
                "an OIDC issuer needs a client ID: the audience that its tokens must be for".to_owned(),
            );
        }
        if self.username_claim.is_empty() {
            return Err("the OIDC user name claim is empty; Kubernetes' default is \"sub\"".to_owned());
        }
        Ok(())
    }

    fn username_prefix(&self) -> String {
        match &self.username_prefix {
            Some(prefix) if prefix == "-" => String::new(),
            Some(prefix) => prefix.clone(),
            None if self.username_claim == "email" => String::new(),
            None => format!("{}#", self.issuer_url),
        }
    }
}

/// The issuer's keys, and when they came.
#[derive(Default)]
struct Keys {
    all: Vec<(String, PublicKey)>,
    /// When they were fetched last with success.
    fetched: Option<Duration>,
    /// When they were asked for last.
    tried: Option<Duration>,
}

/// An issuer whose tokens are believed.
pub(crate) struct Issuer {
    config: Config,
    clock: Arc<dyn Clock>,
    client: reqwest::Client,
    keys: RwLock<Keys>,
    /// Held by the one who fetches.
    fetching: tokio::sync::Mutex<()>,
}

impl Issuer {
    /// Makes it; nothing is fetched yet.
    ///
    /// # Errors
    /// When settings or certificates cannot be used.
    pub(crate) fn new(config: Config, clock: Arc<dyn Clock>) -> Result<Self, String> {
        config.check()?;
        // One provider for every TLS client of the process; a second call is no error.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder()
            .https_only(true)
            .timeout(FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(pem) = &config.ca_pem {
            let wrong =
                |error: reqwest::Error| format!("the OIDC CA file holds no usable certificate: {error}");
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(wrong)?;
            if certificates.is_empty() {
                return Err("the OIDC CA file holds no certificate".to_owned());
            }
            client = client.tls_certs_only(certificates);
        }
        Ok(Self {
            config,
            clock,
            client: client
                .build()
                .map_err(|error| format!("the OIDC client: {error}"))?,
            keys: RwLock::default(),
            fetching: tokio::sync::Mutex::default(),
        })
    }

    /// Who a token of this issuer proves somebody to be; `None` for tokens of others.
    ///
    /// # Errors
    /// When it is one of the issuer's but worth nothing; for the log, not for who shows it.
    pub(crate) async fn identify(&self, token: &Token<'_>) -> Result<Option<Identity>, String> {
        if token.text("/iss") != self.config.issuer_url {
            return Ok(None);
        }
        // What needs no key is looked at first: the issuer is not asked for the sake of an old token.
        let now = self.clock.now().as_second();
        if token.seconds("exp").ok_or("the token has no expiry")? <= now {
            return Err("the token has expired".to_owned());
        }
        if token.seconds("nbf").is_some_and(|start| start > now) {
            return Err("the token is not valid yet".to_owned());
        }
        if !token.audiences().contains(&self.config.client_id.as_str()) {
            return Err(format!("the token is for {:?}", token.audiences()));
        }
        if !self.is_signed(token).await? {
            return Err("no key of the issuer has signed the token".to_owned());
        }
        self.user(token).map(Some)
    }

    async fn is_signed(&self, token: &Token<'_>) -> Result<bool, String> {
        if self.keys_are_old() {
            let fetched = self.fetch().await;
            if let Err(error) = fetched {
                tracing::warn!(issuer = self.config.issuer_url, %error, "the keys of the OIDC issuer cannot be fetched");
            }
        }
        if self.verified_by_known(token) {
            return Ok(true);
        }
        self.fetch().await?;
        Ok(self.verified_by_known(token))
    }

    fn verified_by_known(&self, token: &Token<'_>) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.all
            .iter()
            .filter(|(id, _)| token.key_id.is_empty() || id.is_empty() || *id == token.key_id)
            .any(|(_, key)| token.verify(key))
    }

    fn keys_are_old(&self) -> bool {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let old = |at: Duration| self.clock.elapsed().saturating_sub(at) > KEYS_AGE_MAX;
        keys.fetched.is_none_or(old)
    }

    /// Fetches the keys, unless that was tried a moment ago.
    async fn fetch(&self) -> Result<(), String> {
        let _fetching = self.fetching.lock().await;
        let now = self.clock.elapsed();
        {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            if keys.tried.is_some_and(|at| now.saturating_sub(at) < FETCH_PAUSE) {
                return Ok(());
            }
            keys.tried = Some(now);
        }
        let issuer = &self.config.issuer_url;
        let about = self
            .get(&format!(
                "{}/.well-known/openid-configuration",
                issuer.trim_end_matches('/')
            ))
            .await?;
        let text = |key: &str| about.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("issuer") != issuer {
            return Err(format!("the issuer calls itself {:?}", text("issuer")));
        }
        let set = self.get(text("jwks_uri")).await?;
        let listed = set.get("keys").and_then(Value::as_array).into_iter().flatten();
        let all: Vec<(String, PublicKey)> = listed
            .filter_map(|jwk| {
                let id = jwk.get("kid").and_then(Value::as_str).unwrap_or_default();
                Some((id.to_owned(), PublicKey::from_jwk(jwk)?))
            })
            .take(KEYS_MAX)
            .collect();
        if all.is_empty() {
            return Err("the issuer has no key that can be used".to_owned());
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.all = all;
        keys.fetched = Some(now);
        Ok(())
    }

    async fn get(&self, url: &str) -> Result<Value, String> {
        let wrong = |error: reqwest::Error| format!("{}", Chain(&error));
        let mut response = self.client.get(url).send().await.map_err(wrong)?;
        if !response.status().is_success() {
            return Err(format!("{url} answers {}", response.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(wrong)? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(format!("{url} answers more than {ANSWER_BYTES_MAX} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&bytes).map_err(|error| format!("{url} answers no JSON: {error}"))
    }

    /// The user that verified claims name.
    fn user(&self, token: &Token<'_>) -> Result<Identity, String> {
        let config = &self.config;
        let claim = |name: &str| token.claims.get(name);
        let name = claim(&config.username_claim)
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty())
            .ok_or_else(|| format!("the claim {:?} is no text", config.username_claim))?;
        if config.username_claim == "email"
            && claim("email_verified").is_some_and(|is| *is != Value::Bool(true))
        {
            return Err("the email address is not verified".to_owned());
        }
        let groups = match config.groups_claim.as_deref().and_then(claim) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            Some(_) => return Err("the groups claim is neither a text nor a list".to_owned()),
        };
        let name = format!("{}{name}", config.username_prefix());
        if name.starts_with(OWN_NAMES) {
            return Err(format!("the user {name:?} has a name of the platform's own"));
        }
        let groups = groups
            .into_iter()
            .map(|group| format!("{}{group}", config.groups_prefix));
        Ok(Identity {
            name,
            groups: groups.filter(|group| !group.starts_with(OWN_NAMES)).collect(),
            ..Identity::default()
        })
    }
}

/// An error with its causes in one line.
struct Chain<'e>(&'e dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
