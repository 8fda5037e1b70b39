//! How users name images.

use crate::digest::Digest;
use kittiwake_core::artifact::PrepareError;
use kittiwake_core::code::ErrorCode;
use oci_client::Reference;
use std::path::{Path, PathBuf};

/// A parsed image name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ImageRef {
    /// An image in a registry; the registry, the tag and Docker Hub's `library/` are filled in as docker does.
    Registry(Reference),
    /// A file of this machine. The digest is that of the file.
    File {
        /// Absolute path.
        path: PathBuf,
        /// Set when pinned.
        digest: Option<Digest>,
    },
    /// An image in an OCI layout directory of this machine.
    Layout {
        /// Absolute path of the directory.
        path: PathBuf,
        /// Which of its images; none means the only one, or `latest`.
        tag: Option<String>,
        /// Set when pinned: digest of the manifest.
        digest: Option<Digest>,
    },
}

impl ImageRef {
    /// Reads an image name. Relative paths (`file://a/b.wasm`) are relative to `working_dir`.
    pub(crate) fn parse(image: &str, working_dir: &Path) -> Result<Self, PrepareError> {
        if let Some(rest) = image.strip_prefix("file://") {
            let (path, digest) = split_digest(image, rest)?;
            return Ok(Self::File {
                path: absolute(image, path, working_dir)?,
                digest,
            });
        }
        if let Some(rest) = image.strip_prefix("oci-layout://") {
            let (rest, digest) = split_digest(image, rest)?;
            let (path, tag) = split_tag(rest);
            let tag = tag.map(str::to_owned);
            return Ok(Self::Layout {
                path: absolute(image, path, working_dir)?,
                tag,
                digest,
            });
        }
        let reference: Reference = image.parse().map_err(|error| {
            invalid(
                image,
                &format!("{error}; write registry/repository:tag, file:///path.wasm or oci-layout:///path"),
            )
        })?;
        if reference.repository().bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid(image, "the repository name must be lower case"));
        }
        if reference
            .digest()
            .is_some_and(|digest| Digest::parse(digest).is_none())
        {
            return Err(invalid(image, "only sha256 digests are supported"));
        }
        Ok(Self::Registry(reference))
    }

    /// The digest that the name pins, if it does.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match self {
            Self::Registry(reference) => reference.digest().and_then(Digest::parse),
            Self::File { digest, .. } | Self::Layout { digest, .. } => digest.clone(),
        }
    }

    /// The name that means exactly the content `digest`.
    pub(crate) fn pinned(&self, digest: &Digest) -> String {
        match self {
            Self::Registry(reference) => {
                format!("{}/{}@{digest}", reference.registry(), reference.repository())
            }
            Self::File { path, .. } => format!("file://{}@{digest}", path.display()),
            Self::Layout { path, .. } => format!("oci-layout://{}@{digest}", path.display()),
        }
    }

    /// Whether it names something on this machine's disk.
    pub(crate) fn is_local(&self) -> bool {
        !matches!(self, Self::Registry(_))
    }
}

fn invalid(image: &str, why: &str) -> PrepareError {
    PrepareError::new(
        ErrorCode::ArtifactNotFound,
        format!("the image name {image:?} cannot be read: {why}"),
    )
}

/// Splits `rest@sha256:…`. An `@` that does not start a digest belongs to the path.
fn split_digest<'a>(image: &str, rest: &'a str) -> Result<(&'a str, Option<Digest>), PrepareError> {
    let Some((path, digest)) = rest
        .rsplit_once('@')
        .filter(|(_, digest)| digest.starts_with("sha256:"))
    else {
        return Ok((rest, None));
    };
    let digest = Digest::parse(digest).ok_or_else(|| {
        invalid(
            image,
            "its digest is not sha256: followed by 64 lower-case hexadecimal digits",
        )
    })?;
    Ok((path, Some(digest)))
}

/// Splits `path:tag`; a colon before the last slash belongs to the path.
fn split_tag(rest: &str) -> (&str, Option<&str>) {
    match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') && !tag.is_empty() => (path, Some(tag)),
        _ => (rest, None),
    }
}

fn absolute(image: &str, path: &str, working_dir: &Path) -> Result<PathBuf, PrepareError> {
    if path.is_empty() {
        return Err(invalid(image, "the path is missing"));
    }
    let joined = working_dir.join(path);
    std::path::absolute(&joined).map_err(|error| invalid(image, &error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn parse(image: &str) -> Result<ImageRef, PrepareError> {
        ImageRef::parse(image, Path::new("/srv"))
    }

    fn pinned(image: &str) -> String {
        parse(image).unwrap().pinned(&Digest::from_hex(HEX).unwrap())
    }

    #[test]
    fn names_are_normalized_and_pinned() {
        for (image, wanted) in [
            ("hello", "docker.io/library/hello"),
            ("me/hello:v1", "docker.io/me/hello"),
            ("ghcr.io/me/hello", "ghcr.io/me/hello"),
            ("localhost:5000/hello:v1", "localhost:5000/hello"),
            ("file:///a/b.wasm", "file:///a/b.wasm"),
            ("file://a/b.wasm", "file:///srv/a/b.wasm"),
            ("oci-layout:///a/b:v1", "oci-layout:///a/b"),
            ("oci-layout://b", "oci-layout:///srv/b"),
        ] {
            assert_eq!(pinned(image), format!("{wanted}@sha256:{HEX}"), "{image}");
            let again = parse(&pinned(image)).unwrap();
            assert_eq!(again.digest().unwrap().hex(), HEX, "{image}");
        }
    }

    #[test]
    fn a_missing_tag_is_latest() {
        let ImageRef::Registry(reference) = parse("ghcr.io/me/hello").unwrap() else {
            panic!("not a registry")
        };
        assert_eq!(reference.tag(), Some("latest"));
    }

    #[test]
    fn layouts_have_tags_and_paths_may_have_colons() {
        assert_eq!(
            parse("oci-layout:///a:b/c:v1").unwrap(),
            ImageRef::Layout {
                path: "/a:b/c".into(),
                tag: Some("v1".into()),
                digest: None
            }
        );
        assert_eq!(
            parse("oci-layout:///a:b/c").unwrap(),
            ImageRef::Layout {
                path: "/a:b/c".into(),
                tag: None,
                digest: None
            }
        );
    }

    #[test]
    fn wrong_names_are_refused_with_the_name() {
        for image in [
            "",
            "UPPER/case",
            "a b",
            "file://",
            "file://x@sha256:12",
            "oci-layout://",
            "a@sha512:00",
        ] {
            let error = parse(image).unwrap_err();
            assert_eq!(error.code, ErrorCode::ArtifactNotFound, "{image}");
            assert!(error.message.contains(image), "{}", error.message);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(image in ".{0,80}") {
            let _ = parse(&image);
        }

        #[test]
        fn pinned_names_read_back(path in "[a-z@:/.]{1,20}") {
            let digest = Digest::from_hex(HEX).unwrap();
            if let Ok(file) = parse(&format!("file://{path}")) {
                prop_assert_eq!(parse(&file.pinned(&digest)).unwrap().digest(), Some(digest));
            }
        }
    }
}
