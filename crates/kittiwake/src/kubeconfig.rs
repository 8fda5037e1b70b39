//! The kubeconfig that `kittiwake up` writes, so that kubectl and kn find the API.

use anyhow::Context;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Name of cluster, user and context in the file.
pub const CONTEXT: &str = "kittiwake";

/// The file's text for an API at `server` (`http://127.0.0.1:6443`).
#[must_use]
pub fn render(server: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {CONTEXT}\n\
         clusters:\n- name: {CONTEXT}\n  cluster:\n    server: {server}\n\
         contexts:\n- name: {CONTEXT}\n  context:\n    cluster: {CONTEXT}\n    user: {CONTEXT}\n    namespace: default\n\
         users:\n- name: {CONTEXT}\n  user: {{}}\n"
    )
}

/// Writes the file whole or not at all, readable by its owner only.
///
/// # Errors
/// When the folder is not writable.
pub fn write(path: &Path, server: &str) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(render(server).as_bytes())?;
        fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kube_rs_reads_what_we_write() {
        let config = kube::config::Kubeconfig::from_yaml(&render("http://127.0.0.1:6443")).unwrap();
        assert_eq!(config.current_context.as_deref(), Some(CONTEXT));
        assert_eq!(
            config.clusters[0].cluster.as_ref().unwrap().server.as_deref(),
            Some("http://127.0.0.1:6443")
        );
    }
}
