//! Which objects a client asks for: label selectors and field selectors.

mod field;
mod label;

pub use field::FieldSelector;
pub use label::LabelSelector;

/// Longest selector, in bytes.
pub const SELECTOR_BYTES_MAX: usize = 64 * 1024;

/// Why a selector cannot be used; the text goes to the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(crate) String);

/// Refuses selectors longer than [`SELECTOR_BYTES_MAX`].
fn check_length(text: &str) -> Result<(), SelectorError> {
    if text.len() > SELECTOR_BYTES_MAX {
        return Err(SelectorError(format!(
            "the selector is longer than {SELECTOR_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}
