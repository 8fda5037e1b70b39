//! The scratch volumes of one instance: which folder each of them is. The containers of an instance share them.

use super::place::Folder;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Scratch volumes that several containers find. They go with the last of these.
#[derive(Clone)]
pub(crate) struct Volumes(Arc<Shared>);

struct Shared {
    folder: Folder,
    made: Mutex<Made>,
}

/// Those that were made, by name.
#[derive(Default)]
pub(super) struct Made(HashMap<Arc<str>, PathBuf>);

impl Made {
    /// The folder of a volume, made below `parent` when it is first asked for.
    pub(super) fn folder(&mut self, volume: &Arc<str>, parent: &Path) -> io::Result<PathBuf> {
        if let Some(at) = self.0.get(volume) {
            return Ok(at.clone());
        }
        let at = parent.join(format!("v{}", self.0.len()));
        fs::create_dir(&at)?;
        self.0.insert(Arc::clone(volume), at.clone());
        Ok(at)
    }
}

impl Volumes {
    /// None yet, in a folder below `parent`.
    pub(super) fn make(parent: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            folder: Folder::make("i-", parent)?,
            made: Mutex::default(),
        })))
    }

    /// The folder of a volume.
    pub(super) fn folder(&self, volume: &Arc<str>) -> io::Result<PathBuf> {
        let mut made = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.folder(volume, self.0.folder.path())
    }
}
