//! Quantities with their unit in the type, so that a bare number never has to be explained.

use std::fmt;
use std::str::FromStr;

/// A number of bytes. Reads and prints like a Kubernetes memory quantity (`128Mi`, `1G`, `512`).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct ByteCount(pub u64);

impl From<ByteCount> for String {
    fn from(count: ByteCount) -> Self {
        count.to_string()
    }
}

impl TryFrom<String> for ByteCount {
    type Error = ParseByteCountError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Why a text is no [`ByteCount`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a byte count; write a whole number with an optional suffix k, M, G, T, Ki, Mi, Gi or Ti, such as 128Mi"
)]
pub struct ParseByteCountError(pub String);

const SUFFIXES: [(&str, u64); 8] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
];

impl ByteCount {
    /// `n` × 1024.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// `n` × 1024².
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` × 1024³.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The count as a `usize`, saturating where that is smaller.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteCount {
    type Err = ParseByteCountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseByteCountError(text.to_owned());
        let (digits, factor) = SUFFIXES
            .iter()
            .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|digits| (digits, *factor)))
            .unwrap_or((text, 1));
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteCount {
    /// The largest binary suffix that divides the count, so that printing and reading give the same number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (suffix, factor) in [
            ("Ti", 1u64 << 40),
            ("Gi", 1 << 30),
            ("Mi", 1 << 20),
            ("Ki", 1 << 10),
        ] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{suffix}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts_read_like_kubernetes_quantities() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("128Mi", 128 << 20),
            ("1k", 1000),
            ("2Gi", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(ByteCount(bytes)), "{text}");
        }
        for text in [
            "",
            "Mi",
            "-1",
            "1.5Gi",
            "1 Mi",
            "99999999999999999999",
            "99999999999Ti",
        ] {
            assert!(text.parse::<ByteCount>().is_err(), "{text}");
        }
    }

    #[test]
    fn printing_and_reading_agree() {
        for bytes in [0, 1, 1023, 1024, 1536, 128 << 20, 3 << 40, u64::MAX] {
            let count = ByteCount(bytes);
            assert_eq!(count.to_string().parse(), Ok(count));
        }
    }
}
