//! Names that controllers give (knative/pkg `kmeta/names.go`).

use md5::{Digest, Md5};
use std::fmt::Write;

/// Longest name of a child, in bytes: that of a DNS label.
const NAME_BYTES_MAX: usize = 63;
/// An MD5 sum in hexadecimal, in bytes.
const SUM_BYTES: usize = 32;
/// What is left of a name beside its sum, in bytes.
const HEAD_BYTES: usize = NAME_BYTES_MAX - SUM_BYTES;

/// The name of the Revision that a Configuration makes for one of its generations: `hello-00001`.
#[must_use]
pub fn revision_name(configuration: &str, generation: i64) -> String {
    child_name(configuration, &format!("-{generation:05}"))
}

/// `parent` followed by `suffix`. Where that is longer than 63 bytes, part of it gives way to an MD5 sum, so that the
/// name stays unique: of the parent when the suffix is shorter than 31 bytes, else of both.
#[must_use]
pub fn child_name(parent: &str, suffix: &str) -> String {
    if parent.len() + suffix.len() <= NAME_BYTES_MAX {
        return format!("{parent}{suffix}");
    }
    if suffix.len() < HEAD_BYTES {
        return format!(
            "{}{}{suffix}",
            head(parent, HEAD_BYTES - suffix.len()),
            sum(parent)
        );
    }
    let start = format!(
        "{}{}",
        head(parent, HEAD_BYTES),
        sum(&format!("{parent}{suffix}"))
    );
    let name = format!(
        "{start}{}",
        head(suffix, NAME_BYTES_MAX.saturating_sub(start.len()))
    );
    name.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned()
}

/// The longest start of `text` of at most `bytes` bytes that ends at a character's end.
fn head(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn sum(text: &str) -> String {
    Md5::digest(text.as_bytes())
        .iter()
        .fold(String::with_capacity(SUM_BYTES), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_numbered_with_five_digits() {
        for (generation, wanted) in [
            (1, "hello-00001"),
            (12345, "hello-12345"),
            (123_456, "hello-123456"),
        ] {
            assert_eq!(revision_name("hello", generation), wanted);
        }
    }

    /// The table of knative/pkg `kmeta/names_test.go`, recomputed with md5sum where it is not literal.
    #[test]
    fn long_names_give_way_to_a_sum() {
        let f63 = "f".repeat(63);
        for (parent, suffix, wanted) in [
            ("asdf", "-deployment", "asdf-deployment".to_owned()),
            (
                &f63,
                "-deployment",
                "ffffffffffffffffffff105d7597f637e83cc711605ac3ea4957-deployment".to_owned(),
            ),
            (
                &f63,
                "-deploy",
                "ffffffffffffffffffffffff105d7597f637e83cc711605ac3ea4957-deploy".to_owned(),
            ),
            (&f63, "", f63.clone()),
        ] {
            assert_eq!(child_name(parent, suffix), wanted);
        }
    }

    #[test]
    fn names_are_never_longer_than_a_label() {
        for parent in [0, 1, 30, 31, 32, 62, 63, 64, 300] {
            for suffix in [0, 1, 29, 30, 31, 32, 63, 64, 300] {
                let name = child_name(&"p".repeat(parent), &"s".repeat(suffix));
                assert!(name.len() <= 63, "{parent} {suffix} {name}");
            }
        }
        assert_eq!(child_name("short", &format!("-{}", "s".repeat(80))).len(), 63);
        assert!(
            !child_name(&"a".repeat(24), &format!("{}-{}", "b".repeat(6), "b".repeat(60))).ends_with('-')
        );
    }
}
