//! The command line, in the manner of kubectl and kn: verbs, `-n`, `-o`, `-f`, `-w`, `-l`.

mod auth;
mod gateway;
pub mod objects;
pub mod simulate;

pub use auth::AuthArgs;
pub use gateway::GatewayArgs;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kittiwake_core::unit::ByteCount;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Knative's API, WebAssembly's speed, no cluster needed until you want one.
#[derive(Debug, Parser)]
#[command(
    name = "kittiwake",
    version,
    about,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = "Start with:  kittiwake up --apply examples/\nThen:        kittiwake get ksvc   or, with its KUBECONFIG, kubectl and kn as usual."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the whole platform on this machine: API server, controllers, gateway, runtime
    Up(Box<UpArgs>),
    /// Create or update objects from YAML or JSON files
    Apply(ApplyArgs),
    /// List objects, or show some
    Get(GetArgs),
    /// Explain one object: its conditions, revisions and recent events
    Describe(DescribeArgs),
    /// Delete objects
    Delete(DeleteArgs),
    /// Call a function and print its answer
    Invoke(InvokeArgs),
    /// Print what a function has written, and why calls of it failed
    Logs(LogsArgs),
    /// Try settings on a load before production
    #[command(subcommand)]
    Simulate(simulate::Simulate),
    /// Check this machine's limits, and say what to set where they are in the way
    Doctor(DoctorArgs),
    /// Write all objects of a running server into one file
    Backup(objects::BackupArgs),
    /// Put a backup into the folder of a server that is not running
    Restore(objects::RestoreArgs),
    /// Check the objects on this machine's disk, of a server that is not running
    Check(objects::CheckArgs),
    /// One worker of `up --workers`; started by it, not by hand
    #[command(hide = true)]
    Worker,
    /// Print the version of this program and of the server
    Version(VersionArgs),
    /// Print a completion script for a shell
    #[command(after_help = "For bash:  source <(kittiwake completion bash)")]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Which server to talk to, and in which namespace.
#[derive(Debug, Clone, Args)]
pub struct ConnectArgs {
    /// Kubeconfig to use. Default: the files of $KUBECONFIG, else ./.kittiwake/kubeconfig, else ~/.kube/config
    #[arg(long, value_name = "FILE", global = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace. Default: that of the kubeconfig's context, else "default"
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
}

/// `kittiwake up`.
#[derive(Debug, Clone, Default, Args)]
pub struct UpArgs {
    /// File with the same settings (YAML, keys in camelCase such as `httpListen`); flags and environment win over it
    #[arg(long, value_name = "FILE", env = "KITTIWAKE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Folder for all state: objects, compiled functions, kubeconfig [default: ./.kittiwake]
    #[arg(long, value_name = "DIR", env = "KITTIWAKE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// File with keys, one a line; Secrets are encrypted with the first [default: encryption.key in the data folder, made at the
    /// first start; $KITTIWAKE_ENCRYPTION_KEY may hold the keys themselves]
    #[arg(long, value_name = "FILE", env = "KITTIWAKE_ENCRYPTION_KEY_FILE")]
    pub encryption_key_file: Option<PathBuf>,
    /// Address of the Kubernetes API; port 0 takes a free one [default: 127.0.0.1:6443]
    #[arg(long, value_name = "ADDR:PORT", env = "KITTIWAKE_API_LISTEN")]
    pub api_listen: Option<SocketAddr>,
    /// Address of the gateway, where functions are called; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT", env = "KITTIWAKE_HTTP_LISTEN")]
    pub http_listen: Option<SocketAddr>,
    /// File, folder or kustomization to apply once ready; may be repeated
    #[arg(long, value_name = "PATH")]
    pub apply: Vec<PathBuf>,
    /// Domain of function URLs: http://NAME.NAMESPACE.DOMAIN [default: localhost]
    #[arg(long, value_name = "DOMAIN", env = "KITTIWAKE_DOMAIN")]
    pub domain: Option<String>,
    /// Accept images from this machine's disk (file://, oci-layout://) [default: only if the API is on loopback]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", env = "KITTIWAKE_ALLOW_FILE_IMAGES")]
    pub allow_file_images: Option<bool>,
    /// Registry (HOST[:PORT]) to talk to over plain HTTP; loopback ones are anyway; may be repeated
    #[arg(
        long,
        value_name = "HOST",
        env = "KITTIWAKE_INSECURE_REGISTRIES",
        value_delimiter = ','
    )]
    pub insecure_registry: Vec<String>,
    /// Docker configuration with registry credentials [default: $DOCKER_CONFIG or ~/.docker/config.json]
    #[arg(long, value_name = "FILE", env = "KITTIWAKE_DOCKER_CONFIG")]
    pub docker_config: Option<PathBuf>,
    /// Largest size of the cache of fetched and compiled functions, such as 10Gi [default: 10Gi]
    #[arg(long, value_name = "BYTES", env = "KITTIWAKE_CACHE_SIZE")]
    pub cache_size: Option<ByteCount>,
    /// Memory for programs of functions at zero, so that a first call need not load them again; workers share it. 0: none
    /// stay [default: 384Mi]
    #[arg(long, value_name = "BYTES", env = "KITTIWAKE_PROGRAMS_MEMORY")]
    pub programs_memory: Option<ByteCount>,
    /// Calls in flight over all functions; more are answered 503 with Retry-After [default: 1000]
    #[arg(long, value_name = "N", env = "KITTIWAKE_MAX_CALLS")]
    pub max_calls: Option<u32>,
    /// Processes that take the calls; a crash then costs only the calls of one. 0: this process does [default: 0]
    #[arg(long, value_name = "N", env = "KITTIWAKE_WORKERS")]
    pub workers: Option<u32>,
    /// Seconds that calls in flight get to finish after Ctrl-C [default: 30]
    #[arg(long, value_name = "SECONDS", env = "KITTIWAKE_DRAIN_SECONDS")]
    pub drain_seconds: Option<u64>,
    /// Log each request (target "access"). Lines are written together, each within a tenth of a second
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", env = "KITTIWAKE_ACCESS_LOG")]
    pub access_log: Option<bool>,
    /// Count and time each request in the metrics of its revision [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", env = "KITTIWAKE_REQUEST_METRICS")]
    pub request_metrics: Option<bool>,
    /// What to log: error, warn, info, debug, trace, or a filter such as "warn,access=info" [default: warn]
    #[arg(long, value_name = "FILTER", env = "KITTIWAKE_LOG")]
    pub log: Option<String>,
    /// Take over the sockets of the program before this one
    #[arg(long, hide = true)]
    pub take_over: bool,
    /// Form of log lines [default: text]
    #[arg(long, value_name = "FORMAT", env = "KITTIWAKE_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// The gateway's further sockets.
    #[command(flatten)]
    pub gateway: GatewayArgs,
    /// Who may use the API.
    #[command(flatten)]
    pub auth: AuthArgs,
}

/// `kittiwake doctor`.
#[derive(Debug, Clone, Args)]
pub struct DoctorArgs {
    /// Calls in flight that the machine is to bear, as of `up`
    #[arg(long, value_name = "N", env = "KITTIWAKE_MAX_CALLS", default_value_t = crate::config::MAX_CALLS_DEFAULT)]
    pub max_calls: u32,
    /// Worker processes that share them, as of `up`
    #[arg(long, value_name = "N", env = "KITTIWAKE_WORKERS", default_value_t = 0)]
    pub workers: u32,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How objects are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table with the columns that the server chooses.
    #[default]
    Table,
    /// The table with all columns.
    Wide,
    /// The objects as YAML.
    Yaml,
    /// The objects as JSON.
    Json,
    /// `kind/name`, a line each.
    Name,
}

/// `kittiwake apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    /// File, folder (all YAML and JSON below it), kustomization folder, or - for standard input; may be repeated
    #[arg(short, long = "filename", value_name = "PATH", required = true)]
    pub filename: Vec<PathBuf>,
    /// Return as soon as the objects are stored
    #[arg(long)]
    pub no_wait: bool,
    /// Seconds to wait for the objects to become ready
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub wait_timeout: u64,
    /// Ask the server what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the resulting objects in this form instead of a line each
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
    /// Which server, which namespace.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// `kittiwake get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Kinds (ksvc, rev, rt, cfg, or several with commas), or KIND/NAME
    #[arg(value_name = "KIND", required = true)]
    pub kinds: String,
    /// Names; all when none is given
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Output,
    /// Only objects with these labels, such as app=shop,tier!=test
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<String>,
    /// In all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// After listing, print changes as they happen
    #[arg(short, long)]
    pub watch: bool,
    /// Which server, which namespace.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// `kittiwake describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// Kind, or KIND/NAME; a name alone means a Service
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// Name
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Which server, which namespace.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// `kittiwake delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Kind, or KIND/NAME
    #[arg(value_name = "KIND", required_unless_present = "filename")]
    pub kind: Option<String>,
    /// Names
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Delete the objects that these files name
    #[arg(short, long = "filename", value_name = "PATH", conflicts_with = "kind")]
    pub filename: Vec<PathBuf>,
    /// Delete all objects of the kind in the namespace
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// A missing object is no error
    #[arg(long)]
    pub ignore_not_found: bool,
    /// Which server, which namespace.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// `kittiwake invoke`.
#[derive(Debug, Args)]
pub struct InvokeArgs {
    /// Name of the Service
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Body to send; @FILE reads a file, @- standard input
    #[arg(short, long, value_name = "DATA")]
    pub data: Option<String>,
    /// Method [default: GET, or POST with --data]
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub request: Option<String>,
    /// Header to send; may be repeated
    #[arg(short = 'H', long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// Path and query
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub path: String,
    /// Call this tag of the Service instead of its main URL
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// Print the status line and headers of the answer as well
    #[arg(short, long)]
    pub include: bool,
    /// Address of the gateway, where it is not the host of the Service's URL
    #[arg(long, value_name = "ADDR:PORT")]
    pub gateway: Option<String>,
    /// Which server, which namespace.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// `kittiwake logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Name of the Service, or revision/NAME
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Go on printing new lines as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Only the newest lines
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
    /// Only lines not older than this, such as 30s, 5m or 2h
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub since: Option<u64>,
    /// Begin each line with its time
    #[arg(long)]
    pub timestamps: bool,
    /// Which server, which namespace.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// `kittiwake version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Do not ask the server
    #[arg(long)]
    pub client: bool,
    /// Form of the output
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<Output>,
    /// Which server, which namespace.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// Seconds of a duration as Go writes it (`5m`, `1h30m`), or of a plain number.
fn seconds(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let duration: kittiwake_api::duration::GoDuration = text
        .parse()
        .map_err(|_| "write a duration such as 30s, 5m or 2h".to_owned())?;
    let duration = duration
        .to_std()
        .ok_or_else(|| "it must not be negative".to_owned())?;
    Ok(duration.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_and_flag_is_explained() {
        fn check(command: &clap::Command) {
            assert!(
                command.get_about().is_some() || command.get_name() == "kittiwake",
                "{}",
                command.get_name()
            );
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
