//! OCI layout directories (OCI image spec, image-layout.md): `index.json` and `blobs/sha256/…`.

use super::file::read_limited;
use super::manifest::Descriptor;
use super::{MANIFEST_BYTES_MAX, digest_mismatch};
use crate::digest::Digest;
use kittiwake_core::artifact::PrepareError;
use kittiwake_core::code::ErrorCode;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The annotation that holds a tag in a layout's index.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

/// An OCI layout on disk.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    path: PathBuf,
}

impl Layout {
    /// The layout in the directory `path`.
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// The digest of the image that `tag` means: without a tag the only image, or the one tagged `latest`.
    pub(crate) fn resolve(&self, tag: Option<&str>) -> Result<Digest, PrepareError> {
        let path = self.path.join("index.json");
        let content = read_limited(&path, MANIFEST_BYTES_MAX)?;
        let index: Index = serde_json::from_slice(&content).map_err(|error| {
            self.not_found(&format!(
                "its index.json cannot be read (line {}, column {}); it is no OCI layout directory",
                error.line(),
                error.column()
            ))
        })?;
        let named = |name: &str| {
            index
                .manifests
                .iter()
                .find(|entry| entry.annotations.get(REF_NAME).is_some_and(|t| t == name))
        };
        let entry = match (tag, index.manifests.as_slice()) {
            (Some(tag), _) => named(tag),
            (None, [only]) => Some(only),
            (None, _) => named("latest"),
        };
        let entry = entry.ok_or_else(|| {
            let tags: Vec<_> = index
                .manifests
                .iter()
                .filter_map(|entry| entry.annotations.get(REF_NAME).map(String::as_str))
                .collect();
            self.not_found(&format!(
                "it has no image tagged {:?}, only [{}]",
                tag.unwrap_or("latest"),
                tags.join(", ")
            ))
        })?;
        entry.digest()
    }

    /// Reads a blob (manifests are blobs too) and checks its digest.
    pub(crate) fn blob(&self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, PrepareError> {
        let content = read_limited(&self.path.join("blobs/sha256").join(digest.hex()), bytes_max)?;
        let received = Digest::of(&content);
        if received != *digest {
            return Err(digest_mismatch(
                &format!("a blob of {}", self.path.display()),
                digest,
                &received,
            ));
        }
        Ok(content)
    }

    fn not_found(&self, why: &str) -> PrepareError {
        PrepareError::new(
            ErrorCode::ArtifactNotFound,
            format!("the OCI layout {} cannot be used: {why}", self.path.display()),
        )
    }
}
