//! Certificates in files, read again when they change.

use super::Certificates;
use super::pem::CertificateError;
use kittiwake_core::routing_table::Certificate;
use std::io;
use std::path::{Path, PathBuf};

/// Largest file that is read, in bytes; what stands after is cut off, which breaks the PEM.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A chain and its key, each a file in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate of the host, and those between it and the authority.
    pub chain: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why files could not be used at the start.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// One cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// What is in them cannot be used.
    #[error("{path} cannot be used")]
    Unusable {
        /// That of the certificate.
        path: PathBuf,
        /// Why.
        #[source]
        error: CertificateError,
    },
}

/// The files, with what was read last.
#[derive(Debug)]
pub(crate) struct Files {
    files: Vec<(CertificateFiles, Certificate)>,
    /// Whether a file could not be read the last time, which is said once.
    unreadable: bool,
}

impl Files {
    /// Reads all files for the first time. Here a mistake is an error: whoever made it is looking.
    pub(crate) fn open(files: &[CertificateFiles], certificates: &Certificates) -> Result<Self, FilesError> {
        let mut opened = Vec::new();
        for pair in files {
            let read = |path: &Path| {
                read(path).map_err(|error| FilesError::Unreadable {
                    path: path.to_owned(),
                    error,
                })
            };
            let certificate = Certificate {
                chain: read(&pair.chain)?,
                key: read(&pair.key)?,
            };
            let added = certificates.add_file(&pair.chain, &certificate);
            added.map_err(|error| FilesError::Unusable {
                path: pair.chain.clone(),
                error,
            })?;
            opened.push((pair.clone(), certificate));
        }
        Ok(Self {
            files: opened,
            unreadable: false,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What has changed since it was read last.
    pub(crate) async fn read_again(&mut self) -> Vec<(PathBuf, Certificate)> {
        let pairs: Vec<CertificateFiles> = self.files.iter().map(|(pair, _)| pair.clone()).collect();
        let read = tokio::task::spawn_blocking(move || {
            let both = |pair: &CertificateFiles| {
                Ok(Certificate {
                    chain: read(&pair.chain)?,
                    key: read(&pair.key)?,
                })
            };
            pairs.iter().map(both).collect::<Vec<io::Result<Certificate>>>()
        });
        let mut changed = Vec::new();
        let mut unreadable = false;
        for ((pair, last), read) in self.files.iter_mut().zip(read.await.unwrap_or_default()) {
            match read {
                Ok(read) if read != *last => {
                    *last = read.clone();
                    changed.push((pair.chain.clone(), read));
                }
                Ok(_) => {}
                Err(error) => {
                    unreadable = true;
                    if !self.unreadable {
                        tracing::warn!(file = %pair.chain.display(), %error, "a certificate cannot be read; what was read before stays in use");
                    }
                }
            }
        }
        self.unreadable = unreadable;
        changed
    }
}

fn read(path: &Path) -> io::Result<std::sync::Arc<[u8]>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_core::clock::SystemClock;
    use prometheus::{IntGaugeVec, Opts};
    use std::sync::Arc;

    fn made(name: &str) -> Certificate {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        Certificate {
            chain: made.cert.pem().into_bytes().into(),
            key: made.signing_key.serialize_pem().into_bytes().into(),
        }
    }

    #[tokio::test]
    async fn changed_files_are_read_again_and_broken_ones_are_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            chain: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
        };
        let write = |certificate: &Certificate| {
            std::fs::write(&files.chain, &certificate.chain).unwrap();
            std::fs::write(&files.key, &certificate.key).unwrap();
        };
        let gauge = IntGaugeVec::new(Opts::new("a", "b"), &["host"]).unwrap();
        let certificates = Certificates::new(Arc::new(SystemClock::new()), gauge);
        write(&made("old.example"));
        let mut opened = Files::open(std::slice::from_ref(&files), &certificates).unwrap();
        let first = certificates.choose(Some("old.example")).unwrap();
        assert!(opened.read_again().await.is_empty(), "nothing changed");

        std::fs::write(&files.chain, "nonsense").unwrap();
        for (path, certificate) in opened.read_again().await {
            certificates.set_file(&path, &certificate);
        }
        std::fs::remove_file(&files.key).unwrap();
        assert!(
            opened.read_again().await.is_empty(),
            "a missing file is no change"
        );
        let kept = certificates.choose(Some("old.example")).unwrap();
        assert!(Arc::ptr_eq(&first, &kept));

        write(&made("new.example"));
        for (path, certificate) in opened.read_again().await {
            certificates.set_file(&path, &certificate);
        }
        let new = certificates.choose(Some("new.example")).unwrap();
        assert!(!Arc::ptr_eq(&first, &new));
        let default = certificates.choose(Some("old.example")).unwrap();
        assert!(Arc::ptr_eq(&default, &new), "the old name is the default's now");
    }
}
