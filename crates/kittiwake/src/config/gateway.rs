//! Settings of the gateway: its further sockets, and certificates.

use crate::cli::GatewayArgs;
use anyhow::bail;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Resolved settings of the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// Where it speaks TLS.
    pub https_listen: Option<SocketAddr>,
    /// Where those inside come in.
    pub cluster_local_listen: Option<SocketAddr>,
    /// Certificates, each with its key.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// Who issues certificates of functions' hosts.
    pub acme: Option<Acme>,
}

/// An ACME authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acme {
    /// Its directory.
    pub directory: String,
    /// Where it writes to.
    pub email: Option<String>,
    /// Certificates by which it is believed.
    pub ca_file: Option<PathBuf>,
}

/// The part of the settings file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) https_listen: Option<SocketAddr>,
    pub(super) cluster_local_listen: Option<SocketAddr>,
    pub(super) tls_cert: Vec<PathBuf>,
    pub(super) tls_key: Vec<PathBuf>,
    pub(super) acme_directory: Option<String>,
    pub(super) acme_email: Option<String>,
    pub(super) acme_ca_file: Option<PathBuf>,
}

impl Gateway {
    /// # Errors
    /// When settings contradict each other; the message names them.
    pub(super) fn resolve(args: GatewayArgs, file: File) -> anyhow::Result<Self> {
        let https_listen = args.https_listen.or(file.https_listen);
        let (chains, keys) = if args.tls_cert.is_empty() && args.tls_key.is_empty() {
            (file.tls_cert, file.tls_key)
        } else {
            (args.tls_cert, args.tls_key)
        };
        if chains.len() != keys.len() {
            bail!(
                "--tls-cert is given {} times and --tls-key {} times: give a key for each certificate, in the same order",
                chains.len(),
                keys.len()
            );
        }
        if !chains.is_empty() && https_listen.is_none() {
            bail!("--tls-cert has no use without a socket that speaks TLS: give --https-listen ADDR:PORT");
        }
        let email = args.acme_email.or(file.acme_email);
        let ca_file = args.acme_ca_file.or(file.acme_ca_file);
        let acme = match args.acme_directory.or(file.acme_directory) {
            Some(directory) if !directory.starts_with("https://") => {
                bail!("--acme-directory {directory:?} is not the https:// URL of an authority's directory")
            }
            Some(_) if https_listen.is_none() => {
                bail!(
                    "--acme-directory has no use without a socket that speaks TLS: give --https-listen ADDR:PORT"
                )
            }
            None if email.is_some() || ca_file.is_some() => {
                bail!("--acme-email and --acme-ca-file have no use without --acme-directory URL")
            }
            directory => directory.map(|directory| Acme {
                directory,
                email,
                ca_file,
            }),
        };
        Ok(Self {
            https_listen,
            cluster_local_listen: args.cluster_local_listen.or(file.cluster_local_listen),
            certificates: chains.into_iter().zip(keys).collect(),
            acme,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_come_with_keys_and_a_socket() {
        let args = |cert: &[&str], key: &[&str], listen: Option<&str>| GatewayArgs {
            https_listen: listen.map(|listen| listen.parse().unwrap()),
            tls_cert: cert.iter().map(PathBuf::from).collect(),
            tls_key: key.iter().map(PathBuf::from).collect(),
            ..GatewayArgs::default()
        };
        for (args, wanted) in [
            (
                args(&["a", "b"], &["a"], Some("127.0.0.1:0")),
                "--tls-key 1 times",
            ),
            (args(&["a"], &["a"], None), "--https-listen"),
        ] {
            let message = Gateway::resolve(args, File::default()).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
        for (directory, email, listen, wanted) in [
            (Some("http://a"), None, Some("127.0.0.1:0"), "--acme-directory"),
            (Some("https://a"), None, None, "--https-listen"),
            (None, Some("a@b"), Some("127.0.0.1:0"), "--acme-email"),
        ] {
            let args = GatewayArgs {
                acme_directory: directory.map(str::to_owned),
                acme_email: email.map(str::to_owned),
                ..args(&[], &[], listen)
            };
            let message = Gateway::resolve(args, File::default()).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
        let file = File {
            https_listen: Some("127.0.0.1:1".parse().unwrap()),
            tls_cert: vec!["c".into()],
            tls_key: vec!["k".into()],
            ..File::default()
        };
        let resolved = Gateway::resolve(args(&[], &[], Some("127.0.0.1:2")), file).unwrap();
        assert_eq!(resolved.https_listen.unwrap().port(), 2);
        assert_eq!(resolved.certificates, [("c".into(), "k".into())]);
    }
}
