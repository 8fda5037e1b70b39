//! Admission: what a user may write, and what is filled in for them.
//!
//! [`admit`] works on the JSON of one object, as Knative's webhooks do on theirs: first defaults, then rules. Each kind
//! has both in its own file; what kinds share is below this module. Call it after the schema has checked types: a
//! value of the wrong type is refused here too, but without its path.

mod container;
mod diff;
pub mod dry_run;
pub mod field_error;
pub(crate) mod image;
pub(crate) mod immutable;
pub(crate) mod json;
pub(crate) mod metadata;
mod pod_spec;
mod probe;
pub(crate) mod reference;
mod rules;
pub(crate) mod syntax;
pub(crate) mod template;
mod volume;

pub use field_error::{FieldError, FieldErrors};

use crate::config::Settings;
use serde_json::Value;

/// What is being done to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// It is new.
    Create,
    /// It replaces what is there.
    Update,
}

/// One request to create or update an object.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Group and version, such as `serving.knative.dev/v1`.
    pub api_version: &'a str,
    /// Kind, such as `Service`.
    pub kind: &'a str,
    /// What is being done.
    pub operation: Operation,
    /// `status` when only that part is written. Subresources are neither defaulted nor validated.
    pub subresource: Option<&'a str>,
    /// The object as it is stored. `None` at create.
    pub old: Option<&'a Value>,
    /// Who asks.
    pub user: &'a str,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// What administrators set: defaults, limits, features.
    pub settings: &'a Settings,
}

impl<'a> Request<'a> {
    /// The stored object, when this replaces one.
    pub(crate) fn replaced(&self) -> Option<&'a Value> {
        self.old.filter(|_| self.operation == Operation::Update)
    }
}

/// Fills in defaults, then validates. Gives warnings for the client. Objects of unknown kinds, subresources and
/// objects that are being deleted pass unchanged.
///
/// # Errors
/// Every rule that the object breaks, with the path of the field, in Knative's words.
pub fn admit(request: &Request<'_>, object: &mut Value) -> Result<Vec<String>, FieldErrors> {
    let rules = rules::find(request.api_version, request.kind);
    let deleting = object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(Value::is_string);
    let Some(rules) = rules.filter(|_| request.subresource.is_none() && !deleting) else {
        return Ok(Vec::new());
    };
    (rules.default)(request, object);
    let errors = (rules.validate)(request, object);
    if !errors.is_empty() {
        return Err(errors);
    }
    (rules.decode)(object)
        .map_err(|error| FieldErrors::generic("cannot decode incoming new object", &[&error.to_string()]))?;
    let mut warnings = metadata::warnings(object);
    if request.api_version.starts_with(crate::serving::GROUP) {
        warnings.extend(probe::warnings(object));
    }
    Ok(warnings)
}
