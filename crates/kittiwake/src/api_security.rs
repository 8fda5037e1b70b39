//! How the API is protected, out of the settings and the data directory: who is believed, what it shows, what clients
//! are handed.

use crate::api_listener;
use crate::config::Config;
use crate::kubeconfig::Access;
use crate::pki::{self, Pki};
use anyhow::Context;
use jiff::Timestamp;
use kittiwake_apiserver::auth::{self, PrivateKey, TokenFile};
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// The folder of keys and certificates, in the data directory.
const FOLDER: &str = "pki";
/// Name of the processes that answer calls.
const WORKER: &str = "system:kittiwake:worker";

/// How the API is protected.
pub struct ApiSecurity {
    /// Who is believed, for the API server.
    pub auth: auth::Config,
    /// How its socket speaks TLS; `None` for `--api-insecure`.
    pub tls: Option<Arc<ServerConfig>>,
    /// How the administrator reaches it.
    pub administrator: Access,
    /// How workers reach it.
    pub worker: Access,
}

impl ApiSecurity {
    /// Opens or makes the keys. `listens` is where the API listens, `reached` the address at which this machine
    /// reaches it.
    ///
    /// # Errors
    /// When a file cannot be read or written, or is malformed; the message names it.
    pub fn prepare(
        config: &Config,
        data_dir: &Path,
        listens: SocketAddr,
        reached: SocketAddr,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let settings = &config.auth;
        let names = pki::names(listens, &settings.api_hosts);
        let pki = Pki::open(&data_dir.join(FOLDER), &names, now).context("the keys of the API")?;
        let tokens = settings
            .token_auth_file
            .as_deref()
            .map(TokenFile::read)
            .transpose();
        let auth = auth::Config {
            client_authorities: vec![pki.authority_der.clone()],
            tokens: tokens
                .map_err(|error| anyhow::anyhow!("--token-auth-file: {error}"))?
                .unwrap_or_default(),
            service_account_key: Some(PrivateKey::from_pkcs8(pki.service_account_key.clone())),
            oidc: settings.oidc()?,
            audit: settings.audit(),
            everyone_is_administrator: settings.api_insecure,
        };
        if settings.api_insecure {
            let plain = Access::plain(format!("http://{reached}"));
            return Ok(Self {
                auth,
                tls: None,
                administrator: plain.clone(),
                worker: plain,
            });
        }
        let access = |credentials| Access {
            server: format!("https://{reached}"),
            authority_pem: Some(pki.authority_pem.clone()),
            credentials: Some(credentials),
        };
        let (administrator, worker) = (
            access(pki.administrator.clone()),
            access(pki.client(WORKER, auth::WORKERS)?),
        );
        let tls = api_listener::tls(pki.server, pki.server_key, &pki.authority_der);
        Ok(Self {
            auth,
            tls: Some(tls.context("the certificate of the API and its key do not fit; remove both")?),
            administrator,
            worker,
        })
    }
}
