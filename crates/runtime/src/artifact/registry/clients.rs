//! The HTTP clients for all registries.

use super::redirect;
use crate::artifact::retry::Policy;
use crate::config::Config;
use crate::error::BuildError;
use reqwest::Client;
use reqwest::redirect::Policy as Redirects;

/// The HTTP clients for all registries, and how requests are repeated.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    /// For manifests and blobs.
    content: Pair,
    /// For token servers. They follow no redirect: a 307 would send the credentials on.
    token: Pair,
    /// How requests are repeated.
    pub policy: Policy,
}

#[derive(Debug, Clone)]
struct Pair {
    /// For hosts elsewhere; honours the usual proxy variables.
    remote: Client,
    /// For hosts on loopback; never through a proxy.
    local: Client,
}

impl Pair {
    fn new(config: &Config, redirects: impl Fn() -> Redirects) -> Result<Self, BuildError> {
        let client = || {
            Client::builder()
                .user_agent(concat!("kittiwake/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(config.fetch_silence_timeout)
                .read_timeout(config.fetch_silence_timeout)
                .redirect(redirects())
        };
        Ok(Self {
            remote: client().build().map_err(BuildError::Client)?,
            local: client().no_proxy().build().map_err(BuildError::Client)?,
        })
    }

    fn get(&self, loopback: bool) -> &Client {
        if loopback { &self.local } else { &self.remote }
    }
}

impl Http {
    /// Clients with the limits of `config`.
    pub(crate) fn new(config: &Config) -> Result<Self, BuildError> {
        // Fails only when a provider is installed already, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            content: Pair::new(config, redirect::policy)?,
            token: Pair::new(config, Redirects::none)?,
            policy: Policy {
                retries_max: config.fetch_retries_max,
                delay: config.fetch_retry_delay,
                retry_after_max: config.fetch_retry_after_max,
            },
        })
    }

    /// The client for manifests and blobs of a registry.
    pub(crate) fn content(&self, loopback: bool) -> &Client {
        self.content.get(loopback)
    }

    /// The client for a token server.
    pub(crate) fn token(&self, loopback: bool) -> &Client {
        self.token.get(loopback)
    }
}
