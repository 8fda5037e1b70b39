//! What can go wrong, in words for the person who runs the platform.

use crate::encryption::KeyId;
use crate::object::Key;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Damaged objects that a message names; of more it tells the number.
const NAMED_MAX: usize = 5;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the file.
    #[error("another kittiwake is using {}; stop it, or choose another data directory", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what was written: cut short, overwritten, or no store at all.
    #[error(
        "{} is damaged ({detail}); {REMEDY}",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// The file can be read, but some objects in it are not what was written.
    #[error(
        "{} is damaged: not what was written are {}; {REMEDY}",
        path.display(),
        Named(objects)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The objects.
        objects: Vec<Key>,
    },
    /// Objects are encrypted with keys that were not given.
    #[error(
        "{} holds objects that are encrypted with {}, which is not among the keys given ({}); put the key file back, \
         or name it with --encryption-key-file",
        path.display(),
        Keys(missing),
        Keys(given)
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// Ids of the keys that are missing.
        missing: Vec<KeyId>,
        /// Ids of the keys that were given.
        given: Vec<KeyId>,
    },
    /// The file has a layout that this version does not know.
    #[error(
        "{} was written by another version of kittiwake (layout {found}, this one reads {known}); use that version",
        path.display()
    )]
    Layout {
        /// The file.
        path: PathBuf,
        /// The layout found.
        found: u64,
        /// The layout that this version reads and writes.
        known: u64,
    },
    /// The file system refused.
    #[error("{} cannot be opened", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The committer's thread could not be started.
    #[error("the store's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// What to do about a damaged file.
const REMEDY: &str = "restore a backup (`kittiwake restore BACKUP --force`), or move it away and apply your manifests \
     again; `kittiwake check` tells more";

/// Names some objects, and tells how many more there are.
struct Named<'a>(&'a [Key]);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, key) in self.0.iter().take(NAMED_MAX).enumerate() {
            write!(f, "{}{key}", if index == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Names keys by their ids.
struct Keys<'a>(&'a [KeyId]);

impl fmt::Display for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, id) in self.0.iter().enumerate() {
            write!(f, "{}key {id}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Why a commit failed. None of its writes happened.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// No space is left.
    #[error("the disk that holds {} is full; free some space, then try again", path.display())]
    Full {
        /// The store's file.
        path: PathBuf,
    },
    /// The file system or the database failed.
    #[error("writing to {} failed: {detail}", path.display())]
    Failed {
        /// The store's file.
        path: PathBuf,
        /// What was reported.
        detail: String,
    },
    /// The system gives no random bytes, without which nothing can be encrypted.
    #[error("the system gives no random bytes to encrypt with")]
    Random,
    /// The file could not be opened again after an earlier failure.
    #[error("the store cannot be written to after an earlier failure: {0}")]
    Reopen(#[source] Arc<OpenError>),
}

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E> {
    /// The decision refused.
    #[error("{0}")]
    Refused(E),
    /// The decision put something that is no JSON object, or whose `metadata` is no object.
    #[error("an object must be a JSON object with an object as its metadata")]
    NotAnObject,
    /// It could not be made durable. Nothing of it is visible; trying again is safe.
    #[error("not stored: {0}")]
    Disk(Arc<DiskError>),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// A watch cannot start at this resource version: list again, and watch from the list's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too old or unknown resource version: {requested} (known: {oldest} to {newest})")]
pub struct Expired {
    /// What was asked for.
    pub requested: u64,
    /// The oldest version that a watch may start from.
    pub oldest: u64,
    /// The newest version there is.
    pub newest: u64,
}

/// Why a watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The watcher fell so far behind that events it has not seen are gone: list again.
    #[error("the watch is too far behind; list again")]
    Lagged,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}
