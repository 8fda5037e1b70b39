//! Objects that go to clients as the text in which they are kept: nothing is parsed, nothing is printed again.
//!
//! One encoding, made when the object was written, serves every list and every watcher. It fits whoever asks for whole
//! objects as JSON in the version in which they are stored, which is what controllers and client libraries do.

use crate::registry::{Conversion, Served};
use kittiwake_store::Document;

/// How every stored text begins (`Served::to_storage`).
const BEGINNING: &str = "{\"apiVersion\":\"";

/// The text of an object, if it is what a client of this version is to get.
pub(crate) fn text<'d>(served: &Served, document: &'d Document) -> Option<&'d str> {
    if !matches!(served.version.conversion, Conversion::ApiVersion) {
        return None;
    }
    let json = document.json();
    let rest = json.strip_prefix(BEGINNING)?.strip_prefix(served.api_version())?;
    rest.starts_with('"').then_some(json)
}

/// Appends an object as JSON, by its text where that fits.
pub(crate) fn append(served: &Served, document: &Document, to: &mut Vec<u8>) {
    if let Some(text) = text(served, document) {
        to.extend_from_slice(text.as_bytes());
        return;
    }
    // Writing JSON to memory does not fail.
    let _ = serde_json::to_writer(to, &*served.read(&document.tree()));
}
