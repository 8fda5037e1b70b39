//! Flags of `up` about the gateway: its further sockets, and certificates.

use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where functions are called, besides --http-listen.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Where functions are called")]
pub struct GatewayArgs {
    /// Address where the gateway speaks TLS; port 0 takes a free one [default: none]
    #[arg(long, value_name = "ADDR:PORT", env = "KITTIWAKE_HTTPS_LISTEN")]
    pub https_listen: Option<SocketAddr>,
    /// Address where cluster-local hosts are answered too; they always are on loopback addresses [default: none]
    #[arg(long, value_name = "ADDR:PORT", env = "KITTIWAKE_CLUSTER_LOCAL_LISTEN")]
    pub cluster_local_listen: Option<SocketAddr>,
    /// Certificate chain in PEM, read again when it changes; may be repeated, each with its --tls-key. The first is for clients that
    /// name no host, or an unknown one
    #[arg(long, value_name = "FILE", env = "KITTIWAKE_TLS_CERT", value_delimiter = ',')]
    pub tls_cert: Vec<PathBuf>,
    /// Private key in PEM of the --tls-cert in the same place
    #[arg(long, value_name = "FILE", env = "KITTIWAKE_TLS_KEY", value_delimiter = ',')]
    pub tls_key: Vec<PathBuf>,
    /// Directory of an ACME authority that certificates of functions' hosts are ordered from, such as
    /// https://acme-v02.api.letsencrypt.org/directory; it must reach --http-listen as port 80 of those hosts. Its terms of service
    /// are agreed to
    #[arg(long, value_name = "URL", env = "KITTIWAKE_ACME_DIRECTORY")]
    pub acme_directory: Option<String>,
    /// Where the ACME authority writes when something is wrong with a certificate
    #[arg(long, value_name = "ADDRESS", env = "KITTIWAKE_ACME_EMAIL")]
    pub acme_email: Option<String>,
    /// Certificates in PEM by which the ACME authority itself is believed [default: this machine's own]
    #[arg(long, value_name = "FILE", env = "KITTIWAKE_ACME_CA_FILE")]
    pub acme_ca_file: Option<PathBuf>,
}
