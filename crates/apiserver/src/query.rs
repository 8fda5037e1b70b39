//! Query parameters of requests, read once and checked.

use crate::status::{ApiError, Cause};
use http::Uri;

/// What to do with fields that the schema does not know, and with keys given twice
/// (kubernetes.io/docs/reference/using-api/api-concepts, "Field validation").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and say so in `Warning` headers.
    Warn,
    /// Refuse the request.
    Strict,
}

/// The parameters of one request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the query of a URI. Empty pairs (`?&a=b`, which kube-rs sends) are skipped.
    pub(crate) fn parse(uri: &Uri) -> Result<Self, ApiError> {
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map(|query| Self(query.0))
            .map_err(|error| ApiError::bad_request(format!("the query string cannot be read: {error}")))
    }

    /// A parameter that is there and not empty.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, value)| name == key && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is there, even if empty.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    /// A switch: present and not `false` or `0`, as Kubernetes converts strings to booleans.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .is_some_and(|(_, value)| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    /// A whole number, at least zero.
    pub(crate) fn number(&self, key: &str) -> Result<Option<u64>, ApiError> {
        let parse = |value: &str| {
            value.parse().map_err(|_| {
                ApiError::bad_request(format!(
                    "the query parameter {key}={value:?} must be a whole number, zero or more"
                ))
            })
        };
        self.get(key).map(parse).transpose()
    }

    /// Whether nothing is to be stored. The only allowed value is `All`.
    pub(crate) fn dry_run(&self) -> Result<bool, ApiError> {
        match self.get("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(ApiError::invalid_options(
                "WriteOptions",
                &[Cause::new(
                    "dryRun",
                    "FieldValueNotSupported",
                    format!("Unsupported value: {other:?}: supported values: \"All\""),
                )],
            )),
        }
    }

    /// How unknown fields are treated; the default is [`FieldValidation::Warn`].
    pub(crate) fn field_validation(&self) -> Result<FieldValidation, ApiError> {
        match self.get("fieldValidation") {
            None | Some("Warn") => Ok(FieldValidation::Warn),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some(other) => Err(ApiError::invalid_options(
                "WriteOptions",
                &[Cause::new(
                    "fieldValidation",
                    "FieldValueNotSupported",
                    format!(
                        "Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                    ),
                )],
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(&format!("/x?{text}").parse().unwrap()).unwrap()
    }

    #[test]
    fn parameters_are_read() {
        let given = query("&watch=true&limit=500&a=&labelSelector=a%3Db");
        assert!(given.flag("watch"));
        assert!(!query("watch=0").flag("watch"));
        assert_eq!(given.number("limit").unwrap(), Some(500));
        assert_eq!((given.get("a"), given.get("labelSelector")), (None, Some("a=b")));
    }

    #[test]
    fn wrong_values_are_named() {
        assert!(
            query("limit=-1")
                .number("limit")
                .unwrap_err()
                .message
                .contains("limit")
        );
        assert_eq!(query("dryRun=Some").dry_run().unwrap_err().code, 422);
        assert_eq!(
            query("fieldValidation=x").field_validation().unwrap_err().code,
            422
        );
        assert_eq!(
            query("fieldValidation=Strict").field_validation(),
            Ok(FieldValidation::Strict)
        );
    }
}
