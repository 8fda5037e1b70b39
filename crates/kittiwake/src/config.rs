//! Settings of `kittiwake up`: raw flags, environment and file in, one resolved [`Config`] out.

mod auth;
mod gateway;

pub use auth::{AuditLog, Auth, Oidc};
pub use gateway::{Acme, Gateway};

use crate::cli::{LogFormat, UpArgs};
use anyhow::{Context, bail};
use kittiwake_core::unit::ByteCount;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Calls in flight over all functions, where nothing is said.
pub const MAX_CALLS_DEFAULT: u32 = 1000;

/// Resolved settings: every value is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Folder for all state.
    pub data_dir: PathBuf,
    /// File with the keys that Secrets are encrypted with; `None`: the one in the data folder, or the environment's.
    pub encryption_key_file: Option<PathBuf>,
    /// What relative `file://` and `oci-layout://` images are relative to: where `kittiwake up` was started.
    pub working_dir: PathBuf,
    /// Where the Kubernetes API listens.
    pub api_listen: SocketAddr,
    /// Where functions are called.
    pub http_listen: SocketAddr,
    /// What to apply once ready.
    pub apply: Vec<PathBuf>,
    /// Domain of function URLs.
    pub domain: String,
    /// Whether `file://` and `oci-layout://` images are accepted.
    pub allow_file_images: bool,
    /// Registries spoken to over plain HTTP, besides loopback ones.
    pub insecure_registries: Vec<String>,
    /// Docker configuration with registry credentials; `None`: the usual place.
    pub docker_config: Option<PathBuf>,
    /// Bound of the artifact cache.
    pub cache_size: ByteCount,
    /// Memory for programs that no function uses now, of all processes that take calls.
    pub programs_memory: ByteCount,
    /// Calls in flight over all functions.
    pub max_calls: u32,
    /// Worker processes that take the calls; 0 for none, then this process does.
    pub workers: u32,
    /// Time for calls in flight to finish on shutdown.
    pub drain: Duration,
    /// Whether each request is logged.
    pub access_log: bool,
    /// Whether each request is counted and timed in the metrics of its revision.
    pub request_metrics: bool,
    /// Filter of logs, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log: String,
    /// Form of log lines.
    pub log_format: LogFormat,
    /// The gateway's further sockets.
    pub gateway: Gateway,
    /// Who may use the API.
    pub auth: Auth,
}

/// The settings file. Unknown keys are refused: a misspelt setting must not be silently without effect.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct File {
    data_dir: Option<PathBuf>,
    encryption_key_file: Option<PathBuf>,
    api_listen: Option<SocketAddr>,
    http_listen: Option<SocketAddr>,
    apply: Vec<PathBuf>,
    domain: Option<String>,
    allow_file_images: Option<bool>,
    insecure_registries: Vec<String>,
    docker_config: Option<PathBuf>,
    cache_size: Option<String>,
    programs_memory: Option<String>,
    max_calls: Option<u32>,
    workers: Option<u32>,
    drain_seconds: Option<u64>,
    access_log: Option<bool>,
    request_metrics: Option<bool>,
    log: Option<String>,
    log_format: Option<LogFormat>,
    // Listed one by one: serde cannot refuse unknown keys beside a flattened struct.
    https_listen: Option<SocketAddr>,
    cluster_local_listen: Option<SocketAddr>,
    tls_cert: Vec<PathBuf>,
    tls_key: Vec<PathBuf>,
    acme_directory: Option<String>,
    acme_email: Option<String>,
    acme_ca_file: Option<PathBuf>,
    api_insecure: Option<bool>,
    api_hosts: Vec<String>,
    token_auth_file: Option<PathBuf>,
    oidc_issuer_url: Option<String>,
    oidc_client_id: Option<String>,
    oidc_username_claim: Option<String>,
    oidc_username_prefix: Option<String>,
    oidc_groups_claim: Option<String>,
    oidc_groups_prefix: Option<String>,
    oidc_ca_file: Option<PathBuf>,
    audit_log_path: Option<PathBuf>,
    audit_log_maxsize: Option<u64>,
    audit_log_maxbackup: Option<u32>,
}

impl File {
    /// Takes out what is about the gateway's further sockets.
    fn take_gateway(&mut self) -> gateway::File {
        gateway::File {
            https_listen: self.https_listen,
            cluster_local_listen: self.cluster_local_listen,
            tls_cert: std::mem::take(&mut self.tls_cert),
            tls_key: std::mem::take(&mut self.tls_key),
            acme_directory: self.acme_directory.take(),
            acme_email: self.acme_email.take(),
            acme_ca_file: self.acme_ca_file.take(),
        }
    }

    /// Takes out what is about who may use the API.
    fn take_auth(&mut self) -> auth::File {
        auth::File {
            api_insecure: self.api_insecure,
            api_hosts: std::mem::take(&mut self.api_hosts),
            token_auth_file: self.token_auth_file.take(),
            oidc_issuer_url: self.oidc_issuer_url.take(),
            oidc_client_id: self.oidc_client_id.take(),
            oidc_username_claim: self.oidc_username_claim.take(),
            oidc_username_prefix: self.oidc_username_prefix.take(),
            oidc_groups_claim: self.oidc_groups_claim.take(),
            oidc_groups_prefix: self.oidc_groups_prefix.take(),
            oidc_ca_file: self.oidc_ca_file.take(),
            audit_log_path: self.audit_log_path.take(),
            audit_log_maxsize: self.audit_log_maxsize,
            audit_log_maxbackup: self.audit_log_maxbackup,
        }
    }
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Where the API listens by default: Kubernetes' own port.
pub const API_LISTEN: SocketAddr = SocketAddr::new(LOOPBACK, 6443);
/// Where the gateway listens by default.
pub const HTTP_LISTEN: SocketAddr = SocketAddr::new(LOOPBACK, 8080);
/// Folder for state by default, below the working directory.
pub const DATA_DIR: &str = ".kittiwake";
/// Most worker processes; so many sockets can be handed over at once.
const WORKERS_MAX: u32 = 200;
/// Longest time that calls get to finish on shutdown: the longest `timeoutSeconds` Knative allows.
const DRAIN_SECONDS_MAX: u64 = 600;

impl Config {
    /// Merges flags and environment (already merged by clap), the file they name, and the defaults, in this order.
    ///
    /// # Errors
    /// When the file cannot be read or a value is out of its range; the message names the setting.
    pub fn resolve(args: UpArgs) -> anyhow::Result<Self> {
        let mut file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
        let api_listen = args.api_listen.or(file.api_listen).unwrap_or(API_LISTEN);
        let on_loopback = api_listen.ip().is_loopback();
        let auth = Auth::resolve(args.auth, file.take_auth(), api_listen)?;
        let gateway = Gateway::resolve(args.gateway, file.take_gateway())?;
        let cache_size = match (args.cache_size, file.cache_size) {
            (Some(size), _) => size,
            (None, Some(text)) => text.parse().context("cacheSize in the settings file")?,
            (None, None) => ByteCount::gib(10),
        };
        let programs_memory = match (args.programs_memory, file.programs_memory) {
            (Some(size), _) => size,
            (None, Some(text)) => text.parse().context("programsMemory in the settings file")?,
            (None, None) => kittiwake_runtime::PROGRAMS_BYTES_DEFAULT,
        };
        let max_calls = args.max_calls.or(file.max_calls).unwrap_or(MAX_CALLS_DEFAULT);
        if max_calls == 0 {
            bail!("--max-calls is 0: no function could ever be called; give at least 1");
        }
        let workers = args.workers.or(file.workers).unwrap_or(0);
        if workers > WORKERS_MAX {
            bail!("--workers {workers} is more than one machine can use; give at most {WORKERS_MAX}");
        }
        if workers > max_calls {
            bail!(
                "--workers {workers} cannot share {max_calls} calls: give at least as many with --max-calls"
            );
        }
        let drain_seconds = args.drain_seconds.or(file.drain_seconds).unwrap_or(30);
        if drain_seconds > DRAIN_SECONDS_MAX {
            bail!(
                "--drain-seconds {drain_seconds} is more than the longest call can take; give at most {DRAIN_SECONDS_MAX}"
            );
        }
        let access_log = args.access_log.or(file.access_log).unwrap_or(false);
        let domain = args
            .domain
            .or(file.domain)
            .unwrap_or_else(|| "localhost".to_owned());
        check_domain(&domain)?;
        Ok(Self {
            data_dir: args
                .data_dir
                .or(file.data_dir)
                .unwrap_or_else(|| PathBuf::from(DATA_DIR)),
            encryption_key_file: args.encryption_key_file.or(file.encryption_key_file),
            working_dir: std::env::current_dir().context("cannot find the working directory")?,
            api_listen,
            http_listen: args.http_listen.or(file.http_listen).unwrap_or(HTTP_LISTEN),
            apply: if args.apply.is_empty() {
                file.apply
            } else {
                args.apply
            },
            domain,
            allow_file_images: args
                .allow_file_images
                .or(file.allow_file_images)
                .unwrap_or(on_loopback),
            insecure_registries: if args.insecure_registry.is_empty() {
                file.insecure_registries
            } else {
                args.insecure_registry
            },
            docker_config: args.docker_config.or(file.docker_config),
            cache_size,
            programs_memory,
            max_calls,
            workers,
            drain: Duration::from_secs(drain_seconds),
            access_log,
            request_metrics: args.request_metrics.or(file.request_metrics).unwrap_or(true),
            log: log_filter(args.log.or(file.log), access_log),
            log_format: args.log_format.or(file.log_format).unwrap_or_default(),
            gateway,
            auth,
        })
    }
}

/// The filter of logs. Asking for the access log means wanting to see it, whatever else is filtered.
fn log_filter(said: Option<String>, access_log: bool) -> String {
    let filter = said.unwrap_or_else(|| "warn".to_owned());
    if access_log && !filter.contains("access=") {
        return format!("{filter},access=info");
    }
    filter
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the settings file {}", path.display()))?;
    if text.trim().is_empty() {
        return Ok(File::default());
    }
    serde_yaml_ng::from_str(&text).with_context(|| format!("settings file {}", path.display()))
}

/// A domain is DNS-1123 labels joined by dots (RFC 1123 §2.1).
fn check_domain(domain: &str) -> anyhow::Result<()> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if domain.len() > 200 || !domain.split('.').all(label) {
        bail!(
            "--domain {domain:?} is not a domain name: lower-case letters, digits and - in labels joined by dots, such as localhost or apps.example.com"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn with_file(text: &str, args: UpArgs) -> anyhow::Result<Config> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Config::resolve(UpArgs {
            config: Some(file.path().to_owned()),
            ..args
        })
    }

    #[test]
    fn nothing_said_means_a_laptop() {
        let config = Config::resolve(UpArgs::default()).unwrap();
        assert_eq!(config.api_listen.to_string(), "127.0.0.1:6443");
        assert_eq!(config.http_listen.to_string(), "127.0.0.1:8080");
        assert_eq!(config.data_dir, Path::new(".kittiwake"));
        assert!(config.allow_file_images);
    }

    #[test]
    fn flags_win_over_the_file() {
        let args = UpArgs {
            http_listen: Some("127.0.0.1:1".parse().unwrap()),
            ..UpArgs::default()
        };
        let config = with_file(
            "httpListen: 127.0.0.1:2\napiListen: 127.0.0.1:3\ncacheSize: 1Gi\n",
            args,
        )
        .unwrap();
        assert_eq!(config.http_listen.port(), 1);
        assert_eq!(config.api_listen.port(), 3);
        assert_eq!(config.cache_size, ByteCount::gib(1));
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            (
                with_file("httpListn: 127.0.0.1:2", UpArgs::default()),
                "unknown field `httpListn`",
            ),
            (with_file("cacheSize: lots", UpArgs::default()), "cacheSize"),
            (
                with_file("programsMemory: few", UpArgs::default()),
                "programsMemory",
            ),
            (
                with_file("apiListen: 0.0.0.0:6443\napiInsecure: true", UpArgs::default()),
                "--api-insecure",
            ),
            (with_file("maxCalls: 0", UpArgs::default()), "--max-calls"),
            (with_file("workers: 201", UpArgs::default()), "--workers"),
            (
                with_file("workers: 3\nmaxCalls: 2", UpArgs::default()),
                "--max-calls",
            ),
            (
                with_file("drainSeconds: 601", UpArgs::default()),
                "--drain-seconds",
            ),
            (with_file("domain: Not_A_Domain", UpArgs::default()), "--domain"),
            (with_file("- a list", UpArgs::default()), "settings file"),
        ];
        for (result, part) in cases {
            let message = format!("{:#}", result.unwrap_err());
            assert!(message.contains(part), "{message:?} should name {part:?}");
        }
    }

    #[test]
    fn the_access_log_is_seen_when_asked_for() {
        assert_eq!(log_filter(None, false), "warn");
        assert_eq!(log_filter(None, true), "warn,access=info");
        assert_eq!(
            log_filter(Some("info,access=debug".to_owned()), true),
            "info,access=debug"
        );
    }

    #[test]
    fn file_images_are_off_once_others_can_reach_the_api() {
        let config = with_file("apiListen: 0.0.0.0:6443", UpArgs::default()).unwrap();
        assert!(!config.allow_file_images);
    }
}
