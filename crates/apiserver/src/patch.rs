//! Patches: RFC 6902, RFC 7386, strategic merge, and server-side apply with the record of who owns which field.

pub mod apply;
pub mod field_set;
pub mod json;
pub mod managed_fields;
pub mod merge;
pub mod strategic;
mod typed;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It is not a patch: status 400.
    #[error("{0}")]
    Malformed(String),
    /// It is a patch, but not for this object: status 422.
    #[error("{0}")]
    Unprocessable(String),
    /// A JSON patch with more than [`json::OPERATIONS_MAX`] operations: status 413.
    #[error("The allowed maximum operations in a JSON patch is {max}, got {count}", max = json::OPERATIONS_MAX)]
    TooManyOperations {
        /// The operations that the patch has.
        count: usize,
    },
}
