//! What is wrong with an object, and where: Knative's FieldError (knative/pkg `apis/field_error.go`).

use std::fmt;

/// One complaint about one or more fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldError {
    /// What is wrong, such as `missing field(s)`.
    pub message: String,
    /// More about it, on a line of its own. Often empty.
    pub details: String,
    /// Where, such as `spec.template.spec.containers[0].image`.
    pub paths: Vec<String>,
}

/// All that is wrong with one object. Prints as Knative's webhook answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldErrors {
    errors: Vec<FieldError>,
}

impl FieldErrors {
    /// Nothing wrong.
    #[must_use]
    pub const fn none() -> Self {
        Self { errors: Vec::new() }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// Adds another's complaints.
    pub fn also(&mut self, other: Self) {
        self.errors.extend(other.errors);
    }

    /// Puts `prefix` before every path: a field name, `[0]` for an index, or `[key]` for a key of a map.
    #[must_use]
    pub fn via(mut self, prefix: &str) -> Self {
        for path in self.errors.iter_mut().flat_map(|error| &mut error.paths) {
            *path = join(prefix, path);
        }
        self
    }

    /// Puts `field[index]` before every path.
    #[must_use]
    pub fn via_index(self, field: &str, index: usize) -> Self {
        self.via(&format!("{field}[{index}]"))
    }

    /// Puts `field[key]` before every path.
    #[must_use]
    pub fn via_key(self, field: &str, key: &str) -> Self {
        self.via(&format!("{field}[{key}]"))
    }

    /// The complaints, those that say the same merged into one with all its paths, sorted.
    #[must_use]
    pub fn merged(&self) -> Vec<FieldError> {
        let mut merged: Vec<FieldError> = Vec::new();
        for error in &self.errors {
            match merged
                .iter_mut()
                .find(|m| m.message == error.message && m.details == error.details)
            {
                Some(same) => same.paths.extend(error.paths.iter().cloned()),
                None => merged.push(error.clone()),
            }
        }
        for error in &mut merged {
            error.paths.sort();
            error.paths.dedup();
        }
        merged.sort();
        merged
    }

    /// Each path with what is wrong there, for the causes of a Kubernetes Status.
    #[must_use]
    pub fn causes(&self) -> Vec<(String, String)> {
        let text = |error: &FieldError| match error.details.is_empty() {
            true => error.message.clone(),
            false => format!("{}\n{}", error.message, error.details),
        };
        self.merged()
            .iter()
            .flat_map(|error| {
                error
                    .paths
                    .iter()
                    .map(|path| (path.clone(), text(error)))
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// A complaint in free words.
    #[must_use]
    pub fn generic(message: impl Into<String>, paths: &[&str]) -> Self {
        Self::detailed(message, paths, "")
    }

    /// `missing field(s): a, b`.
    #[must_use]
    pub fn missing(paths: &[&str]) -> Self {
        Self::generic("missing field(s)", paths)
    }

    /// `must not set the field(s): a, b`.
    #[must_use]
    pub fn disallowed(paths: &[&str]) -> Self {
        Self::generic("must not set the field(s)", paths)
    }

    /// `invalid value: X: path`.
    #[must_use]
    pub fn invalid(value: impl fmt::Display, path: &str) -> Self {
        Self::generic(format!("invalid value: {value}"), &[path])
    }

    /// `invalid value: X: path`, and why on the next line.
    #[must_use]
    pub fn invalid_because(value: impl fmt::Display, path: &str, details: impl Into<String>) -> Self {
        Self::detailed(format!("invalid value: {value}"), &[path], details)
    }

    /// `expected LOWER <= VALUE <= UPPER: path`.
    #[must_use]
    pub fn out_of_bounds(
        value: impl fmt::Display,
        lower: impl fmt::Display,
        upper: impl fmt::Display,
        path: &str,
    ) -> Self {
        Self::generic(format!("expected {lower} <= {value} <= {upper}"), &[path])
    }

    /// `expected exactly one, got neither: a, b`.
    #[must_use]
    pub fn missing_one_of(paths: &[&str]) -> Self {
        Self::generic("expected exactly one, got neither", paths)
    }

    /// `expected exactly one, got both: a, b`.
    #[must_use]
    pub fn multiple_one_of(paths: &[&str]) -> Self {
        Self::generic("expected exactly one, got both", paths)
    }

    /// `invalid key name "k": path`, and why on the next line.
    #[must_use]
    pub fn invalid_key(key: &str, path: &str, details: impl Into<String>) -> Self {
        Self::detailed(format!("invalid key name {key:?}"), &[path], details)
    }

    /// A complaint in free words, with more on the next line.
    #[must_use]
    pub fn detailed(message: impl Into<String>, paths: &[&str], details: impl Into<String>) -> Self {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Self {
            errors: vec![FieldError {
                message: message.into(),
                details: details.into(),
                paths,
            }],
        }
    }
}

/// `prefix` and `path` as one path: indexes stick to what they index.
fn join(prefix: &str, path: &str) -> String {
    match (prefix.is_empty(), path.is_empty()) {
        (true, _) => path.to_owned(),
        (_, true) => prefix.to_owned(),
        _ if path.starts_with('[') => format!("{prefix}{path}"),
        _ => format!("{prefix}.{path}"),
    }
}

impl fmt::Display for FieldErrors {
    /// `validation failed: ` and one complaint per line, as Knative's webhook answers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("validation failed: ")?;
        for (index, error) in self.merged().iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {}", error.message, error.paths.join(", "))?;
            if !error.details.is_empty() {
                write!(f, "\n{}", error.details)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for FieldErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_read_like_knatives() {
        for (errors, wanted) in [
            (FieldErrors::missing(&["a", "b"]), "missing field(s): a, b"),
            (
                FieldErrors::disallowed(&["b", "a"]),
                "must not set the field(s): a, b",
            ),
            (FieldErrors::invalid("x", "a"), "invalid value: x: a"),
            (
                FieldErrors::invalid_because("x", "a", "why"),
                "invalid value: x: a\nwhy",
            ),
            (
                FieldErrors::out_of_bounds(1001, 0, 1000, "a"),
                "expected 0 <= 1001 <= 1000: a",
            ),
            (
                FieldErrors::missing_one_of(&["a", "b"]),
                "expected exactly one, got neither: a, b",
            ),
            (
                FieldErrors::multiple_one_of(&["a", "b"]),
                "expected exactly one, got both: a, b",
            ),
            (
                FieldErrors::invalid_key("k", "a", "why"),
                "invalid key name \"k\": a\nwhy",
            ),
        ] {
            assert_eq!(errors.to_string(), format!("validation failed: {wanted}"));
        }
    }

    #[test]
    fn equal_complaints_become_one_and_paths_grow() {
        let mut errors = FieldErrors::missing(&["image"]).via_index("containers", 1);
        errors.also(FieldErrors::missing(&["image"]).via_index("containers", 0));
        errors.also(FieldErrors::missing(&["image"]).via_index("containers", 0));
        errors.also(FieldErrors::invalid("x", "").via_key("annotations", "k"));
        errors.also(FieldErrors::generic("odd", &["[0].tag"]).via("traffic"));
        let errors = errors.via("").via("spec");
        assert_eq!(
            errors.to_string(),
            "validation failed: invalid value: x: spec.annotations[k]\nmissing field(s): spec.containers[0].image, spec.containers[1].image\nodd: spec.traffic[0].tag"
        );
        assert_eq!(errors.causes().len(), 4);
        assert_eq!(
            errors.causes()[1],
            (
                "spec.containers[0].image".to_owned(),
                "missing field(s)".to_owned()
            )
        );
        assert!(FieldErrors::none().is_empty());
    }
}
