//! `file://` images: a component on this machine's disk, binary or text.

use super::{Found, digest_mismatch, inspect};
use crate::artifact::reference::ImageRef;
use crate::digest::Digest;
use kittiwake_core::artifact::PrepareError;
use kittiwake_core::code::ErrorCode;
use kittiwake_core::unit::ByteCount;
use std::io::Read;
use std::path::Path;

/// Reads the file that `image` names; text (`.wat`) is turned into a binary. The pin is the digest of the binary.
pub(crate) fn read(
    image: &ImageRef,
    path: &Path,
    pin: Option<&Digest>,
    bytes_max: ByteCount,
) -> Result<Found, PrepareError> {
    let content = read_limited(path, bytes_max.0)?;
    let wasm = if inspect::is_text(path, &content) {
        text_to_binary(path, &content)?
    } else {
        content
    };
    let digest = Digest::of(&wasm);
    if let Some(pin) = pin
        && *pin != digest
    {
        return Err(digest_mismatch(
            &format!(
                "{} was edited since the revision was made: the file",
                path.display()
            ),
            pin,
            &digest,
        ));
    }
    Ok(Found {
        pinned: image.pinned(&digest),
        wasm: Some(wasm),
    })
}

fn text_to_binary(path: &Path, content: &[u8]) -> Result<Vec<u8>, PrepareError> {
    wat::parse_bytes(content)
        .map(std::borrow::Cow::into_owned)
        .map_err(|error| {
            PrepareError::new(
                ErrorCode::CompileFailed,
                format!("{} is not valid WebAssembly text: {error}", path.display()),
            )
        })
}

/// Reads a file up to a limit, with errors for its owner.
pub(crate) fn read_limited(path: &Path, bytes_max: u64) -> Result<Vec<u8>, PrepareError> {
    let file = std::fs::File::open(path).map_err(|error| unreadable(path, &error))?;
    if file.metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err(PrepareError::new(
            ErrorCode::NotWasm,
            format!(
                "{} is a directory; name a .wasm file, or use oci-layout:// for an OCI layout",
                path.display()
            ),
        ));
    }
    let mut content = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|error| unreadable(path, &error))?;
    if content.len() as u64 > bytes_max {
        return Err(PrepareError::new(
            ErrorCode::ArtifactTooLarge,
            format!(
                "{} is larger than the limit of {}",
                path.display(),
                ByteCount(bytes_max)
            ),
        ));
    }
    Ok(content)
}

fn unreadable(path: &Path, error: &std::io::Error) -> PrepareError {
    let advice = match error.kind() {
        std::io::ErrorKind::NotFound => {
            "build it first, or correct the path (a relative path starts where the server was started)"
        }
        std::io::ErrorKind::PermissionDenied => "let the server's user read it",
        _ => "check the disk",
    };
    PrepareError::new(
        ErrorCode::ArtifactNotFound,
        format!("{} cannot be read: {error}; {advice}", path.display()),
    )
}
