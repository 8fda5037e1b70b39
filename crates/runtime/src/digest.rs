//! `sha256:…` digests: the only kind that is accepted, everywhere in the same spelling.

use sha2::{Digest as _, Sha256};
use std::fmt;

/// Length of a SHA-256 in hexadecimal digits.
const HEX_CHARS: usize = 64;

/// The SHA-256 of some content. Prints as `sha256:<64 lower-case hexadecimal digits>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Digest(Box<str>);

impl Digest {
    /// The digest of `content`.
    pub(crate) fn of(content: &[u8]) -> Self {
        Self::from_hasher(Sha256::new_with_prefix(content))
    }

    /// The digest of what a hasher has seen.
    pub(crate) fn from_hasher(hasher: Sha256) -> Self {
        use std::fmt::Write as _;
        let mut hex = String::with_capacity(HEX_CHARS);
        for byte in hasher.finalize() {
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex.into())
    }

    /// Reads `sha256:<hex>`; `None` for any other algorithm or spelling. What it accepts is safe as a file name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::from_hex(text.strip_prefix("sha256:")?)
    }

    /// Reads the bare hexadecimal digits.
    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        let right = hex.len() == HEX_CHARS && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        right.then(|| Self(hex.into()))
    }

    /// The bare hexadecimal digits.
    pub(crate) fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_read_back_and_nothing_else_does() {
        let digest = Digest::of(b"abc");
        assert_eq!(
            digest.to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest.clone()));
        for wrong in [
            "",
            "sha256:",
            "sha512:ab",
            "sha256:../../etc/passwd",
            &digest.to_string().to_uppercase(),
        ] {
            assert_eq!(Digest::parse(wrong), None, "{wrong}");
        }
    }
}
