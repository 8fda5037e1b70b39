//! Reading the values of a ConfigMap (knative/pkg `configmap/parse.go`).

use super::example::EXAMPLE_KEY;
use crate::duration::GoDuration;
use crate::quantity::Quantity;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// What a ConfigMap holds.
pub type Data = BTreeMap<String, String>;

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What is wrong, with both.
    pub message: String,
}

impl ConfigError {
    /// `failed to parse "key": "value" …`.
    #[must_use]
    pub fn unreadable(key: &str, value: &str, why: impl std::fmt::Display) -> Self {
        Self::new(key, value, format!("failed to parse {key:?}: {value:?} {why}"))
    }

    /// In free words, which should name both.
    #[must_use]
    pub fn new(key: &str, value: impl ToString, message: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            value: value.to_string(),
            message: message.into(),
        }
    }
}

/// A truth value in one of the spellings of Go's `strconv.ParseBool`.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads values, and remembers which keys were asked for. Every method takes the spellings of one key, the one that
/// wins first.
pub struct Reader<'a> {
    data: &'a Data,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Reader<'a> {
    /// Reads `data`.
    #[must_use]
    pub fn new(data: &'a Data) -> Self {
        Self {
            data,
            asked: RefCell::default(),
        }
    }

    /// Everything but the example.
    pub fn all(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let entries = self.data.iter();
        entries
            .filter(|(key, _)| *key != EXAMPLE_KEY)
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The keys that nobody asked for.
    #[must_use]
    pub fn unknown(&self) -> Vec<String> {
        let asked = self.asked.borrow();
        let unknown = self.all().filter(|(key, _)| !asked.contains(key));
        unknown.map(|(key, _)| key.to_owned()).collect()
    }

    /// The spelling that is there with its value.
    pub fn find(&self, keys: &[&'static str]) -> Option<(&'static str, &'a str)> {
        self.asked.borrow_mut().extend(keys);
        keys.iter()
            .find_map(|key| self.data.get(*key).map(|value| (*key, value.as_str())))
    }

    /// A text.
    pub fn text(&self, keys: &[&'static str], default: &str) -> String {
        self.find(keys).map_or(default, |(_, value)| value).to_owned()
    }

    /// Whatever `read` makes of it.
    ///
    /// # Errors
    /// When `read` gives none; `wanted` says what it takes.
    pub fn parse<T>(
        &self,
        keys: &[&'static str],
        default: T,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, ConfigError> {
        match self.find(keys) {
            None => Ok(default),
            Some((key, value)) => {
                read(value).ok_or_else(|| ConfigError::unreadable(key, value, format!("is not {wanted}")))
            }
        }
    }

    /// A truth value in one of Go's spellings.
    ///
    /// # Errors
    /// When it is none.
    pub fn boolean(&self, keys: &[&'static str], default: bool) -> Result<bool, ConfigError> {
        self.parse(keys, default, "true or false", boolean)
    }

    /// A whole number.
    ///
    /// # Errors
    /// When it is none.
    pub fn integer(&self, keys: &[&'static str], default: i64) -> Result<i64, ConfigError> {
        self.parse(keys, default, "a whole number", |value| value.parse().ok())
    }

    /// A number.
    ///
    /// # Errors
    /// When it is none.
    pub fn number(&self, keys: &[&'static str], default: f64) -> Result<f64, ConfigError> {
        self.parse(keys, default, "a number", |value| value.parse().ok())
    }

    /// A duration in Go's notation.
    ///
    /// # Errors
    /// When it is none.
    pub fn duration(&self, keys: &[&'static str], default: GoDuration) -> Result<GoDuration, ConfigError> {
        self.parse(keys, default, "a duration such as 60s or 1h30m", |value| {
            value.parse().ok()
        })
    }

    /// A quantity, as it is written.
    ///
    /// # Errors
    /// When it is none.
    pub fn quantity(&self, keys: &[&'static str]) -> Result<Option<String>, ConfigError> {
        self.parse(keys, None, "a quantity such as 100m or 64Mi", |value| {
            value.parse::<Quantity>().ok()?;
            Some(Some(value.to_owned()))
        })
    }

    /// One of a few words, in any case. An empty text is the default.
    ///
    /// # Errors
    /// When it is another.
    pub fn word<T: Copy>(
        &self,
        keys: &[&'static str],
        default: T,
        words: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
        self.parse(
            keys,
            default,
            &format!("one of {}", names.join(", ")),
            |value| match value {
                "" => Some(default),
                value => words
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(value))
                    .map(|(_, word)| *word),
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_spelling_wins_and_others_are_unknown() {
        let data = Data::from(["new", "old", "odd", "_example"].map(|key| (key.to_owned(), "1".to_owned())));
        let reader = Reader::new(&data);
        assert_eq!(reader.find(&["new", "old"]), Some(("new", "1")));
        assert_eq!(reader.unknown(), ["odd"]);
    }

    #[test]
    fn errors_name_key_and_value() {
        let data = Data::from([("a".to_owned(), "x".to_owned())]);
        let reader = Reader::new(&data);
        assert_eq!(
            reader.integer(&["a"], 0).unwrap_err().to_string(),
            "failed to parse \"a\": \"x\" is not a whole number"
        );
        assert_eq!(
            reader
                .word(&["a"], 0, &[("enabled", 1), ("disabled", 0)])
                .unwrap_err()
                .message,
            "failed to parse \"a\": \"x\" is not one of enabled, disabled"
        );
    }
}
