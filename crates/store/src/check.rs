//! A look at a store's file without using it: is all of it what was written?

use crate::disk::file;
use crate::encryption::{Encryption, KeyId};
use crate::error::OpenError;
use crate::object::Key;
use std::collections::BTreeMap;
use std::path::Path;

/// What a file holds, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Objects that are sound and could be read.
    pub objects: usize,
    /// The version of the newest write.
    pub resource_version: u64,
    /// Objects that are not what was written.
    pub damaged: Vec<Key>,
    /// Whether objects are missing, or older than what was written last.
    pub incomplete: bool,
    /// How many objects are encrypted with which key.
    pub encrypted: BTreeMap<KeyId, u64>,
    /// Keys among these that were not given.
    pub missing_keys: Vec<KeyId>,
}

impl Checked {
    /// Whether everything is there and as it was written.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && !self.incomplete
    }
}

/// Checks every page and every object of the file.
///
/// # Errors
/// When it is in use, or so damaged that nothing in it can be read; see [`OpenError`].
pub fn check(path: &Path, encryption: Option<&Encryption>) -> Result<Checked, OpenError> {
    let database = file::open(path, &file::opener())?;
    let contents = file::read(path, &database, encryption)?;
    Ok(Checked {
        objects: contents.objects.len(),
        resource_version: contents.resource_version,
        damaged: contents.damaged,
        incomplete: contents.incomplete,
        encrypted: contents.sealed_with,
        missing_keys: contents.missing_keys.into_iter().collect(),
    })
}
