//! Where WebAssembly comes from: registries, OCI layouts on disk, files. Everything that leaves this module was
//! checked against its digest.

pub(crate) mod credentials;
pub(crate) mod file;
pub(crate) mod inspect;
pub(crate) mod layers;
pub(crate) mod layout;
pub(crate) mod manifest;
pub(crate) mod pull;
pub(crate) mod reference;
pub(crate) mod registry;
pub(crate) mod retry;
pub(crate) mod slots;

use crate::digest::Digest;
use kittiwake_core::artifact::PrepareError;
use kittiwake_core::code::ErrorCode;

/// Largest manifest or image configuration, in bytes (the limit that registries themselves keep).
pub(crate) const MANIFEST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// WebAssembly that was found, and the image name that always means exactly it.
#[derive(Debug)]
pub(crate) struct Found {
    /// The image pinned to a digest.
    pub pinned: String,
    /// The program; `None` when the caller said that it has what the pinned name means.
    pub program: Option<Program>,
}

/// The program that an image holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// The binary.
    pub wasm: Vec<u8>,
    /// What the image calls it, besides its own name: see [`kittiwake_core::program`].
    pub names: Vec<String>,
}

impl From<Vec<u8>> for Program {
    /// One that has no name of its own.
    fn from(wasm: Vec<u8>) -> Self {
        let names = Vec::new();
        Self { wasm, names }
    }
}

/// A content that turned out not to be what its digest promises.
pub(crate) fn digest_mismatch(what: &str, promised: &Digest, received: &Digest) -> PrepareError {
    PrepareError::new(
        ErrorCode::DigestMismatch,
        format!(
            "{what} has the digest {received}, but {promised} was promised; it was changed on the way or the source is damaged: push the image again"
        ),
    )
}
