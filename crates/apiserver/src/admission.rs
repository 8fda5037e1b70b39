//! Admission: what looks at an object before it is stored, may complete it, and may refuse it.
//!
//! A row of steps behind one small trait, run in order; policy becomes another step.

use crate::status::ApiError;
use kittiwake_api::admission::{self, Operation};
use serde_json::Value;

/// The webhook that Knative users know from error texts.
const KNATIVE_WEBHOOK: &str = "validation.webhook.serving.knative.dev";

/// What is about to be written.
pub(crate) struct Review<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub subresource: Option<&'a str>,
    /// The object as it is now; `None` on create.
    pub old: Option<&'a Value>,
    /// Who writes.
    pub user: &'a str,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

/// One step of admission.
pub(crate) trait Admit: Send + Sync {
    /// Completes `object` and returns warnings for the client, or refuses it.
    ///
    /// # Errors
    /// The refusal as the client is to see it.
    fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<Vec<String>, ApiError>;
}

/// Knative's defaults and validation.
pub(crate) struct Knative;

impl Admit for Knative {
    fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<Vec<String>, ApiError> {
        let request = admission::Request {
            api_version: review.api_version,
            kind: review.kind,
            operation: if review.old.is_some() {
                Operation::Update
            } else {
                Operation::Create
            },
            subresource: review.subresource,
            old: review.old,
            user: review.user,
            dry_run: review.dry_run,
        };
        admission::admit(&request, object)
            .map_err(|errors| ApiError::denied(400, KNATIVE_WEBHOOK, &errors.to_string()))
    }
}
