//! `file://` images: a component on this machine's disk, binary or text.

use super::{Found, digest_mismatch, inspect};
use crate::artifact::reference::ImageRef;
use crate::digest::Digest;
use kittiwake_core::artifact::PrepareError;
use kittiwake_core::code::ErrorCode;
use kittiwake_core::unit::ByteCount;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Makes opening a pipe return at once instead of waiting for a writer. It changes nothing for regular files. The value
/// is that of the system's C headers, on the processors that Wasmtime compiles for.
const O_NONBLOCK: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
    0o4000
} else {
    0x4
};

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
        program: Some(wasm.into()),
    })
}

fn text_to_binary(path: &Path, content: &[u8]) -> Result<Vec<u8>, PrepareError> {
    let refused = |why: &str| {
        PrepareError::new(
            ErrorCode::CompileFailed,
            format!("{} is not valid WebAssembly text: {why}", path.display()),
        )
    };
    let text = std::str::from_utf8(content).map_err(|_| refused("it is not UTF-8; correct the file"))?;
    wat::parse_str(text).map_err(|error| match position(&error.to_string()) {
        Some((line, column)) => refused(&format!(
            "it cannot be read from line {line}, column {column}; `wasm-tools parse` shows what is wrong there"
        )),
        None => refused("`wasm-tools parse` shows where"),
    })
}

/// Line and column of a parser's error. Nothing else of it is passed on: it quotes the file, which the server may read
/// and the author of the Service may not.
fn position(error: &str) -> Option<(u32, u32)> {
    const NAME: &str = "<anon>:";
    let place = error
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("--> ")?.strip_prefix(NAME))
        .or_else(|| error.rsplit_once(NAME).map(|(_, place)| place))?;
    let (line, column) = place.split_once(':')?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

/// Reads a file up to a limit, with errors for its owner.
pub(crate) fn read_limited(path: &Path, bytes_max: u64) -> Result<Vec<u8>, PrepareError> {
    let file = open_regular(path)?;
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

/// Opens a regular file and nothing else. What it is gets looked at before, because opening a device can do something,
/// and after, because it can have been exchanged in between.
fn open_regular(path: &Path) -> Result<File, PrepareError> {
    let failed = |error: std::io::Error| unreadable(path, &error);
    refuse_irregular(path, &std::fs::metadata(path).map_err(failed)?)?;
    let file = File::options()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .map_err(failed)?;
    refuse_irregular(path, &file.metadata().map_err(failed)?)?;
    Ok(file)
}

fn refuse_irregular(path: &Path, meta: &std::fs::Metadata) -> Result<(), PrepareError> {
    let why = if meta.is_file() {
        return Ok(());
    } else if meta.is_dir() {
        "is a directory; name a .wasm file, or use oci-layout:// for an OCI layout"
    } else {
        "is not a regular file but a pipe, a socket or a device; name a .wasm file"
    };
    Err(PrepareError::new(
        ErrorCode::NotWasm,
        format!("{} {why}", path.display()),
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_or_device_is_refused_and_does_not_block() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe.wasm");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [pipe.as_path(), Path::new("/dev/zero")] {
            let error = read_limited(path, 10).unwrap_err();
            assert_eq!(error.code, ErrorCode::NotWasm);
            assert!(
                error.message.contains(path.to_str().unwrap()) && error.message.contains("regular file"),
                "{error}"
            );
        }
        // Exchanged between the two looks: opening does not wait for a writer.
        File::options()
            .read(true)
            .custom_flags(O_NONBLOCK)
            .open(&pipe)
            .unwrap();
    }

    #[test]
    fn an_error_in_text_tells_its_place_and_no_content() {
        let long = format!("{}s3cret", " ".repeat(600));
        for (text, place) in [
            ("s3cret".as_bytes(), "line 1, column 1"),
            (b"(module\n  (s3cret))", "line 2, column 4"),
            (b"(module\n (func call $s3cret))", "line 2, column 13"),
            (b"(module)\n\xc3\xa9s3cret", "line 2"),
            (b"(module \"s3cret", "line 1"),
            (long.as_bytes(), "line 1, column 601"),
            (b"\xff s3cret", "not UTF-8"),
        ] {
            let error = text_to_binary(Path::new("x.wat"), text).unwrap_err();
            assert_eq!(error.code, ErrorCode::CompileFailed);
            assert!(
                error.message.contains("x.wat") && error.message.contains(place),
                "{error}"
            );
            assert!(!error.message.contains("s3c"), "{error}");
        }
    }
}
