//! Settings about who may use the API.

use crate::cli::AuthArgs;
use anyhow::{Context, bail};
use kittiwake_apiserver::auth::{audit, oidc};
use kittiwake_core::unit::ByteCount;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Size in MiB at which a new audit log is begun, where nothing is said.
const AUDIT_MIB_DEFAULT: u64 = 100;
/// Older audit logs that are kept, where nothing is said; and at most.
const AUDIT_BACKUPS_DEFAULT: u32 = 10;
const AUDIT_BACKUPS_MAX: u32 = 1000;

/// Resolved settings about who may use the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// Whether the API is plain HTTP, open to everybody on this machine.
    pub api_insecure: bool,
    /// More names for the API's certificate.
    pub api_hosts: Vec<String>,
    /// Static tokens.
    pub token_auth_file: Option<PathBuf>,
    /// An OpenID Connect issuer.
    pub oidc: Option<Oidc>,
    /// The audit log.
    pub audit_log: Option<AuditLog>,
}

/// An OpenID Connect issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Oidc {
    /// The issuer.
    pub issuer_url: String,
    /// The audience.
    pub client_id: String,
    /// The claim that is the user name.
    pub username_claim: String,
    /// What is put before user names.
    pub username_prefix: Option<String>,
    /// The claim that lists groups.
    pub groups_claim: Option<String>,
    /// What is put before groups.
    pub groups_prefix: String,
    /// Certificates by which the issuer is believed.
    pub ca_file: Option<PathBuf>,
}

/// The audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLog {
    /// The file.
    pub path: PathBuf,
    /// Size at which a new one is begun.
    pub size: ByteCount,
    /// Older ones that are kept.
    pub backups: u32,
}

/// The same settings in the file of settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct File {
    pub api_insecure: Option<bool>,
    pub api_hosts: Vec<String>,
    pub token_auth_file: Option<PathBuf>,
    pub oidc_issuer_url: Option<String>,
    pub oidc_client_id: Option<String>,
    pub oidc_username_claim: Option<String>,
    pub oidc_username_prefix: Option<String>,
    pub oidc_groups_claim: Option<String>,
    pub oidc_groups_prefix: Option<String>,
    pub oidc_ca_file: Option<PathBuf>,
    pub audit_log_path: Option<PathBuf>,
    pub audit_log_maxsize: Option<u64>,
    pub audit_log_maxbackup: Option<u32>,
}

impl Auth {
    /// Merges flags and file.
    ///
    /// # Errors
    /// When settings contradict each other; the message names them.
    pub(super) fn resolve(args: AuthArgs, file: File, api_listen: SocketAddr) -> anyhow::Result<Self> {
        let api_insecure = args.api_insecure.or(file.api_insecure).unwrap_or(false);
        if api_insecure && !api_listen.ip().is_loopback() {
            bail!(
                "--api-insecure lets everybody who reaches the API deploy code, and --api-listen {api_listen} is not a loopback \
                 address. Leave out --api-insecure: the API speaks TLS and asks who calls; or use 127.0.0.1"
            );
        }
        let issuer = args.oidc_issuer_url.or(file.oidc_issuer_url);
        let client_id = args.oidc_client_id.or(file.oidc_client_id);
        let oidc = match (issuer, client_id) {
            (Some(issuer_url), Some(client_id)) => Some(Oidc {
                issuer_url,
                client_id,
                username_claim: args
                    .oidc_username_claim
                    .or(file.oidc_username_claim)
                    .unwrap_or_else(|| "sub".to_owned()),
                username_prefix: args.oidc_username_prefix.or(file.oidc_username_prefix),
                groups_claim: args.oidc_groups_claim.or(file.oidc_groups_claim),
                groups_prefix: args
                    .oidc_groups_prefix
                    .or(file.oidc_groups_prefix)
                    .unwrap_or_default(),
                ca_file: args.oidc_ca_file.or(file.oidc_ca_file),
            }),
            (None, None) => None,
            (Some(_), None) => {
                bail!("--oidc-issuer-url needs --oidc-client-id: the audience that tokens must be for")
            }
            (None, Some(_)) => {
                bail!("--oidc-client-id needs --oidc-issuer-url: whose tokens are to be believed?")
            }
        };
        let size = args
            .audit_log_maxsize
            .or(file.audit_log_maxsize)
            .unwrap_or(AUDIT_MIB_DEFAULT);
        if size == 0 || size > u64::MAX >> 20 {
            bail!("--audit-log-maxsize {size} is no size of a file; give MiB, at least 1");
        }
        let backups = args
            .audit_log_maxbackup
            .or(file.audit_log_maxbackup)
            .unwrap_or(AUDIT_BACKUPS_DEFAULT);
        if backups > AUDIT_BACKUPS_MAX {
            bail!("--audit-log-maxbackup {backups} is more than {AUDIT_BACKUPS_MAX}");
        }
        let audit_log = args.audit_log_path.or(file.audit_log_path).map(|path| AuditLog {
            path,
            size: ByteCount::mib(size),
            backups,
        });
        let auth = Self {
            api_insecure,
            api_hosts: if args.api_host.is_empty() {
                file.api_hosts
            } else {
                args.api_host
            },
            token_auth_file: args.token_auth_file.or(file.token_auth_file),
            oidc,
            audit_log,
        };
        Ok(auth)
    }

    /// The issuer, for the API server.
    ///
    /// # Errors
    /// When its certificates cannot be read, or a setting cannot work.
    pub fn oidc(&self) -> anyhow::Result<Option<oidc::Config>> {
        let Some(oidc) = self.oidc.clone() else {
            return Ok(None);
        };
        let read = |path: &PathBuf| {
            std::fs::read(path).with_context(|| format!("--oidc-ca-file {} cannot be read", path.display()))
        };
        let config = oidc::Config {
            issuer_url: oidc.issuer_url,
            client_id: oidc.client_id,
            username_claim: oidc.username_claim,
            username_prefix: oidc.username_prefix,
            groups_claim: oidc.groups_claim,
            groups_prefix: oidc.groups_prefix,
            ca_pem: oidc.ca_file.as_ref().map(read).transpose()?,
        };
        config.check().map_err(anyhow::Error::msg)?;
        Ok(Some(config))
    }

    /// The audit log, for the API server.
    #[must_use]
    pub fn audit(&self) -> Option<audit::Config> {
        self.audit_log.clone().map(|log| audit::Config {
            path: log.path,
            bytes_max: log.size,
            backups_max: log.backups,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: AuthArgs, listen: &str) -> anyhow::Result<Auth> {
        Auth::resolve(args, File::default(), listen.parse().unwrap())
    }

    #[test]
    fn contradictions_are_named() {
        let insecure = AuthArgs {
            api_insecure: Some(true),
            ..AuthArgs::default()
        };
        assert!(resolve(insecure.clone(), "[::1]:1").unwrap().api_insecure);
        let issuer = AuthArgs {
            oidc_issuer_url: Some("https://x".to_owned()),
            ..AuthArgs::default()
        };
        let client = AuthArgs {
            oidc_client_id: Some("x".to_owned()),
            ..AuthArgs::default()
        };
        let size = AuthArgs {
            audit_log_maxsize: Some(0),
            ..AuthArgs::default()
        };
        let http = AuthArgs {
            oidc_issuer_url: Some("http://x".to_owned()),
            ..client.clone()
        };
        assert!(
            resolve(http, "127.0.0.1:1")
                .unwrap()
                .oidc()
                .unwrap_err()
                .to_string()
                .contains("https://")
        );
        for (args, listen, part) in [
            (insecure, "0.0.0.0:1", "--api-insecure"),
            (issuer, "127.0.0.1:1", "--oidc-client-id"),
            (client, "127.0.0.1:1", "--oidc-issuer-url"),
            (size, "127.0.0.1:1", "--audit-log-maxsize"),
        ] {
            let error = resolve(args, listen).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
