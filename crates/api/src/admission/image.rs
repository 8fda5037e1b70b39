//! Image references, checked for their form only: nothing is looked up.
//!
//! A reference to a registry follows go-containerregistry's weak validation, as Knative's webhook does
//! (`pkg/name/{ref,tag,digest,repository}.go`). Beside it Kittiwake takes `file://` (a component on the server's
//! disk) and `oci-layout://` (an OCI layout there); relative paths are relative to the server's working directory.

/// Longest reference, in bytes: that of a path on Linux.
const REFERENCE_BYTES_MAX: usize = 4096;
/// Length of a repository's name, in bytes.
const REPOSITORY_BYTES: std::ops::RangeInclusive<usize> = 2..=255;
/// Longest tag, in bytes.
const TAG_BYTES_MAX: usize = 128;
/// Hexadecimal digits of a sha256 digest.
const SHA256_HEX_DIGITS: usize = 64;

/// Schemes of images on the server's own disk.
const LOCAL_SCHEMES: [&str; 2] = ["file://", "oci-layout://"];

/// What is wrong with an image reference; `Ok` when it may lead to an image.
pub fn check(reference: &str) -> Result<(), String> {
    if reference.len() > REFERENCE_BYTES_MAX {
        return Err(format!("longer than {REFERENCE_BYTES_MAX} bytes"));
    }
    if let Some(path) = LOCAL_SCHEMES
        .iter()
        .find_map(|scheme| reference.strip_prefix(scheme))
    {
        return check_path(path);
    }
    if reference.contains("://") {
        return Err("could not parse reference: write registry/repository:tag without a scheme, or a path after file:// or oci-layout://".to_owned());
    }
    if is_tagged(reference) || is_pinned(reference) {
        return Ok(());
    }
    Err(format!("could not parse reference: {reference}"))
}

fn check_path(path: &str) -> Result<(), String> {
    if path.trim().is_empty() || path.starts_with('@') {
        return Err("the path after the scheme is missing".to_owned());
    }
    if path.chars().any(char::is_control) {
        return Err("the path has control characters".to_owned());
    }
    Ok(())
}

/// `[registry/]repository[:tag]`
fn is_tagged(reference: &str) -> bool {
    match reference.rsplit_once(':') {
        // A colon before a slash belongs to the registry's port.
        Some((base, tag)) if !tag.contains('/') => {
            let good = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
            (1..=TAG_BYTES_MAX).contains(&tag.len()) && tag.bytes().all(good) && is_repository(base)
        }
        _ => is_repository(reference),
    }
}

/// `[registry/]repository[:tag]@sha256:…`
fn is_pinned(reference: &str) -> bool {
    let Some((base, digest)) = reference.split_once('@') else {
        return false;
    };
    digest.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == SHA256_HEX_DIGITS
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    }) && is_tagged(base)
}

fn is_repository(name: &str) -> bool {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("", name),
    };
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-./".contains(&b);
    REPOSITORY_BYTES.contains(&repository.len()) && repository.bytes().all(good) && is_registry(registry)
}

/// Empty (the default registry) or `host[:port]`.
fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (registry, "443"),
    };
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
    (registry.is_empty() || !host.is_empty()) && host.bytes().all(good) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn references_that_may_lead_to_an_image() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for good in [
            "busybox",
            "busybox:1.36",
            "ghcr.io/me/hello:v1",
            "localhost/hello",
            "localhost:5000/hello:latest",
            "127.0.0.1:5000/a/b/c",
            "[::1]:5000/hello",
            "registry.example.com/serverless-function:latest",
            &format!("ghcr.io/me/hello@{digest}"),
            &format!("ghcr.io/me/hello:v1@{digest}"),
            "file:///abs/hello.wasm",
            "file://examples/hello/hello.wasm",
            "file://../x y.wat",
            "oci-layout:///srv/images/hello",
            "oci-layout://layout:v1",
            &format!("file:///abs/hello.wasm@{digest}"),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn references_that_lead_nowhere() {
        for bad in [
            "",
            "a",
            "UPPER/case",
            "hello world",
            "hello:",
            "hello:bad tag",
            &format!("hello:{}", "t".repeat(129)),
            "hello@sha256:abc",
            "hello@sha256:ABC",
            "https://ghcr.io/me/hello",
            "docker://hello",
            "ghcr.io:99999/hello",
            ".:/hello",
            ":5000/hello",
            "file://",
            "oci-layout://",
            "file://  ",
            "file://a\0b",
            &format!("file:///{}", "a".repeat(5000)),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_an_answer(text in "[a-zA-Z0-9:/@.\\[\\] -]{0,80}|.{0,40}") {
            let _ = check(&text);
        }
    }
}
