//! Flags of `up` about who may use the API, named as kube-apiserver names them.

use clap::Args;
use std::path::PathBuf;

/// Who may use the API, and what is written down of it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Who may use the API")]
pub struct AuthArgs {
    /// Serve the API as plain HTTP without authentication: whoever reaches it may do everything. Only on loopback
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", env = "KITTIWAKE_API_INSECURE")]
    pub api_insecure: Option<bool>,
    /// Name or address under which the API is reached, for its certificate, besides this machine's own; may be repeated
    #[arg(long, value_name = "HOST", env = "KITTIWAKE_API_HOSTS", value_delimiter = ',')]
    pub api_host: Vec<String>,
    /// File of tokens, a line each: token,user,uid,"group1,group2"
    #[arg(long, value_name = "FILE", env = "KITTIWAKE_TOKEN_AUTH_FILE")]
    pub token_auth_file: Option<PathBuf>,
    /// OpenID Connect issuer whose tokens are believed (https://…)
    #[arg(long, value_name = "URL", env = "KITTIWAKE_OIDC_ISSUER_URL")]
    pub oidc_issuer_url: Option<String>,
    /// Audience that tokens of the issuer must be for
    #[arg(long, value_name = "ID", env = "KITTIWAKE_OIDC_CLIENT_ID")]
    pub oidc_client_id: Option<String>,
    /// Claim that is the user name [default: sub]
    #[arg(long, value_name = "CLAIM", env = "KITTIWAKE_OIDC_USERNAME_CLAIM")]
    pub oidc_username_claim: Option<String>,
    /// What is put before user names; - for nothing [default: the issuer and #, nothing for the claim email]
    #[arg(
        long,
        value_name = "PREFIX",
        env = "KITTIWAKE_OIDC_USERNAME_PREFIX",
        allow_hyphen_values = true
    )]
    pub oidc_username_prefix: Option<String>,
    /// Claim that lists groups [default: none]
    #[arg(long, value_name = "CLAIM", env = "KITTIWAKE_OIDC_GROUPS_CLAIM")]
    pub oidc_groups_claim: Option<String>,
    /// What is put before groups
    #[arg(long, value_name = "PREFIX", env = "KITTIWAKE_OIDC_GROUPS_PREFIX")]
    pub oidc_groups_prefix: Option<String>,
    /// Certificates (PEM) by which the issuer's server is believed [default: those of this machine]
    #[arg(long, value_name = "FILE", env = "KITTIWAKE_OIDC_CA_FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// Log each request to the API to this file, a JSON object (audit.k8s.io/v1) a line [default: none]
    #[arg(long, value_name = "FILE", env = "KITTIWAKE_AUDIT_LOG_PATH")]
    pub audit_log_path: Option<PathBuf>,
    /// Size in MiB at which a new audit log is begun [default: 100]
    #[arg(long, value_name = "MIB", env = "KITTIWAKE_AUDIT_LOG_MAXSIZE")]
    pub audit_log_maxsize: Option<u64>,
    /// Older audit logs that are kept [default: 10]
    #[arg(long, value_name = "N", env = "KITTIWAKE_AUDIT_LOG_MAXBACKUP")]
    pub audit_log_maxbackup: Option<u32>,
}
