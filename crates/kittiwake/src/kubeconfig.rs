//! The kubeconfig that `kittiwake up` writes, so that kubectl and kn find the API and are let in.

use crate::pki::ClientCredentials;
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Name of cluster, user and context in the file.
pub const CONTEXT: &str = "kittiwake";

/// How a client reaches the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Where it is, for example `https://127.0.0.1:6443`.
    pub server: String,
    /// The authority by which the API is believed, in PEM.
    pub authority_pem: Option<String>,
    /// By what the API believes the client.
    pub credentials: Option<ClientCredentials>,
}

impl Access {
    /// To an API without TLS and authentication.
    #[must_use]
    pub fn plain(server: impl Into<String>) -> Self {
        Self {
            server: server.into(),
            authority_pem: None,
            credentials: None,
        }
    }
}

/// The file's text.
#[must_use]
pub fn render(access: &Access) -> String {
    let encoded = |pem: &str| Value::from(BASE64.encode(pem));
    let mut cluster = Map::new();
    cluster.insert("server".into(), access.server.as_str().into());
    if let Some(pem) = &access.authority_pem {
        cluster.insert("certificate-authority-data".into(), encoded(pem));
    }
    let mut user = Map::new();
    if let Some(credentials) = &access.credentials {
        user.insert(
            "client-certificate-data".into(),
            encoded(&credentials.certificate_pem),
        );
        user.insert("client-key-data".into(), encoded(&credentials.key_pem));
    }
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "clusters": [{"name": CONTEXT, "cluster": cluster}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT, "namespace": "default"}}],
        "users": [{"name": CONTEXT, "user": user}],
    });
    serde_yaml_ng::to_string(&config).unwrap_or_default()
}

/// Writes the file whole or not at all, readable by its owner only.
///
/// # Errors
/// When the folder is not writable.
pub fn write(path: &Path, access: &Access) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(render(access).as_bytes())?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kube_rs_reads_what_we_write() {
        let access = Access {
            authority_pem: Some("ca".to_owned()),
            credentials: Some(ClientCredentials {
                certificate_pem: "certificate".to_owned(),
                key_pem: "key".to_owned(),
            }),
            ..Access::plain("https://127.0.0.1:6443")
        };
        let config = kube::config::Kubeconfig::from_yaml(&render(&access)).unwrap();
        assert_eq!(config.current_context.as_deref(), Some(CONTEXT));
        let cluster = config.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:6443"));
        assert_eq!(cluster.certificate_authority_data.as_deref(), Some("Y2E="));
        let user = config.auth_infos[0].auth_info.as_ref().unwrap();
        assert_eq!(user.client_certificate_data.as_deref(), Some("Y2VydGlmaWNhdGU="));
        let plain = kube::config::Kubeconfig::from_yaml(&render(&Access::plain("http://x"))).unwrap();
        assert!(
            plain.auth_infos[0]
                .auth_info
                .as_ref()
                .unwrap()
                .client_certificate_data
                .is_none()
        );
    }
}
