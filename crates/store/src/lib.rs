//! Versioned objects with watch: in memory for reads, in redb for durability.
//!
//! All objects live in memory, as text ([`Document`]), so a read never touches the disk. A write decides under one lock against the newest
//! state, gets its resource version there, and resolves when it is durable; many writers share one fsync (`commit`).
//! Readers and watchers see durable state only. The watch log is a ring in memory: after a restart a watcher that
//! names an older resource version gets [`Expired`] and lists again.
//!
//! On the disk each object has a digest of its own (`record`), and those of chosen resources are encrypted
//! ([`Encryption`]): a flipped bit is an error that names the object, never data.
//!
//! Architecture invariant: this crate knows no Kubernetes type and no HTTP; an object is a JSON value with a
//! `metadata.resourceVersion`, nothing more.

#![deny(missing_docs)]

mod backup;
mod check;
mod commit;
mod disk;
mod document;
mod encryption;
mod error;
mod object;
mod record;
mod ring;
mod state;
mod store;
mod watch;

pub use backup::{Backup, RestoreError, Restored, VERSIONS_SKIPPED, Verifier, restore};
pub use check::{Checked, check};
pub use document::Document;
pub use encryption::{Encryption, KeyError, KeyId, Keyring};
pub use error::{DiskError, Expired, OpenError, WatchError, WriteError};
pub use object::{Change, Event, EventKind, Key, Snapshot, Stored};
pub use store::{Config, ObjectStore};
pub use watch::Watcher;
