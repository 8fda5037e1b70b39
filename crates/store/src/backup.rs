//! Backups: everything at one moment, as a stream of bytes, and back into a new file.
//!
//! ```text
//! KITTIWAKE-BACKUP 1\n
//! resource version (8, little endian)  number of objects (8)
//! for each object: length of what follows (4), resource, namespace, name (each with its length, 4), version (8), record
//! length 0 (4)
//! SHA-256 of all before (32)
//! ```
//!
//! A record is what the store writes to its own file (`record`): what is encrypted there is encrypted here. The hash at
//! the end is missing from what was cut off, and wrong for what was altered.

use crate::disk::{Loaded, file};
use crate::document::Document;
use crate::encryption::{Encryption, KeyId};
use crate::error::OpenError;
use crate::object::Stored;
use crate::record::{self, Unreadable};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::vec::IntoIter;

/// The first bytes of every backup.
const MAGIC: &[u8] = b"KITTIWAKE-BACKUP ";
/// The version of the format, and the end of the first line.
const VERSION: &[u8] = b"1\n";
/// Bytes of the hash at the end.
const HASH_BYTES: usize = 32;
/// Bytes of a chunk, about; one object more may be in it.
const CHUNK_BYTES: usize = 64 << 10;
/// Most bytes of one object with its key; the API server stores none of more than 3 MiB.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// What is added to the version on a restore. Writes after the backup used versions that clients may still hold; so
/// many are skipped that none of them is used again (as `etcdutl snapshot restore --bump-revision` does).
pub const VERSIONS_SKIPPED: u64 = 1_000_000_000;

/// A backup being written: an iterator over its chunks. It holds the objects as they were when it was made.
#[derive(Debug)]
pub struct Backup {
    objects: IntoIter<Stored>,
    encryption: Option<Arc<Encryption>>,
    hash: Sha256,
    /// What comes next besides objects: the head, then nothing until the end.
    head: Option<Vec<u8>>,
    ended: bool,
}

impl Backup {
    pub(crate) fn new(
        objects: Vec<Stored>,
        resource_version: u64,
        encryption: Option<Arc<Encryption>>,
    ) -> Self {
        let mut head = [MAGIC, VERSION].concat();
        head.extend(resource_version.to_le_bytes());
        head.extend((objects.len() as u64).to_le_bytes());
        Self {
            objects: objects.into_iter(),
            encryption,
            hash: Sha256::new(),
            head: Some(head),
            ended: false,
        }
    }

    fn frame(&self, stored: &Stored) -> io::Result<Vec<u8>> {
        let Stored {
            key,
            resource_version,
            object,
        } = stored;
        let record = record::encode(
            self.encryption.as_deref(),
            key,
            *resource_version,
            object.json().as_bytes(),
        )
        .ok_or_else(|| io::Error::other("the system gives no random bytes to encrypt with"))?;
        let mut frame = Vec::with_capacity(record.len() + 128);
        for part in [&key.resource, &key.namespace, &key.name] {
            frame.extend(length(part.len())?);
            frame.extend(part.as_bytes());
        }
        frame.extend(resource_version.to_le_bytes());
        frame.extend(record);
        Ok([&length(frame.len())?[..], &frame].concat())
    }
}

fn length(length: usize) -> io::Result<[u8; 4]> {
    u32::try_from(length)
        .map(u32::to_le_bytes)
        .map_err(|_| io::Error::other("an object is too large for a backup"))
}

impl Iterator for Backup {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut chunk = self.head.take().unwrap_or_default();
        while chunk.len() < CHUNK_BYTES {
            let Some(stored) = self.objects.next() else {
                self.ended = true;
                chunk.extend(0_u32.to_le_bytes());
                self.hash.update(&chunk);
                chunk.extend(self.hash.finalize_reset());
                return Some(Ok(chunk));
            };
            match self.frame(&stored) {
                Ok(frame) => chunk.extend(frame),
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        self.hash.update(&chunk);
        Some(Ok(chunk))
    }
}

/// Looks at a backup as it passes by, whether it is one and whole. Keeps none of it.
#[derive(Debug, Default)]
pub struct Verifier {
    hash: Sha256,
    /// The newest bytes, which may be the hash at the end.
    tail: Vec<u8>,
    head: Vec<u8>,
    bytes: u64,
}

impl Verifier {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        let missing = MAGIC.len().saturating_sub(self.head.len());
        self.head.extend(bytes.iter().take(missing));
        self.bytes += bytes.len() as u64;
        self.tail.extend(bytes);
        let old = self.tail.len().saturating_sub(HASH_BYTES);
        let newest = self.tail.split_off(old);
        self.hash.update(std::mem::replace(&mut self.tail, newest));
    }

    /// How many bytes it was.
    ///
    /// # Errors
    /// When it was no backup, or not all of one, or an altered one.
    pub fn finish(self) -> Result<u64, RestoreError> {
        if self.head != MAGIC {
            return Err(RestoreError::NoBackup);
        }
        if self.hash.finalize().as_slice() != self.tail {
            return Err(RestoreError::Altered);
        }
        Ok(self.bytes)
    }
}

/// Why a backup was not restored. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is something else.
    #[error("this is not a backup made by `kittiwake backup`")]
    NoBackup,
    /// It has a format that this version does not know.
    #[error(
        "this backup was made by a newer version of kittiwake (format {0:?}); restore it with that version"
    )]
    Version(String),
    /// It is not whole, or not what was written.
    #[error("this backup is cut short or was altered: its checksum does not fit; take another one")]
    Altered,
    /// Objects in it are encrypted with keys that were not given.
    #[error(
        "the Secrets in this backup are encrypted with key {}, which is not among the keys given; name the file that holds \
         it with --encryption-key-file", missing.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ")
    )]
    Key {
        /// Ids of the keys that are missing.
        missing: Vec<KeyId>,
    },
    /// There are objects already.
    #[error(
        "{} holds objects already; give another --data-dir, or --force to put the backup in their place (they are kept \
         beside it)", path.display()
    )]
    NotEmpty {
        /// The file that is there.
        path: std::path::PathBuf,
    },
    /// It cannot be read.
    #[error("the backup cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The store's file cannot be written, or is in use.
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Objects restored.
    pub objects: usize,
    /// The resource version that the backup was made at.
    pub backup_version: u64,
    /// The resource version from which the store goes on.
    pub resource_version: u64,
    /// Where the file that was replaced is now.
    pub replaced: Option<std::path::PathBuf>,
}

/// Reads a backup and makes a store's file of it. All of it is read and checked before anything is changed.
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(
    backup: &mut dyn Read,
    path: &Path,
    encryption: Option<&Encryption>,
    force: bool,
) -> Result<Restored, RestoreError> {
    let exists = path.try_exists().map_err(|source| file::io_error(path, source))?;
    if exists && !force {
        return Err(RestoreError::NotEmpty {
            path: path.to_owned(),
        });
    }
    let read = read(backup, encryption)?;
    // What runs must not lose its file, and what clients of it have seen must not come again.
    let (present, known) = if exists { present(path)? } else { (None, 0) };
    let backup_version = read.resource_version;
    let resource_version = backup_version.max(known).saturating_add(VERSIONS_SKIPPED);
    let loaded = Loaded {
        resource_version,
        ..read
    };
    let replaced = exists.then(|| path.with_extension("redb.replaced"));
    if let Some(replaced) = &replaced {
        std::fs::hard_link(path, replaced)
            .or_else(|_| std::fs::remove_file(replaced).and_then(|()| std::fs::hard_link(path, replaced)))
            .map_err(|source| file::io_error(path, source))?;
    }
    let database = file::replace(path, &loaded, encryption)?;
    database.close().map_err(|error| file::open_error(path, error))?;
    drop(present);
    Ok(Restored {
        objects: loaded.objects.len(),
        backup_version,
        resource_version,
        replaced,
    })
}

/// The file that is to be replaced, locked where that is possible, and its version where it can be read.
fn present(path: &Path) -> Result<(Option<redb::Database>, u64), OpenError> {
    match file::open(path, &file::opener()) {
        Ok(database) => {
            let version = file::read(path, &database, None).map_or(0, |contents| contents.resource_version);
            Ok((Some(database), version))
        }
        Err(error @ OpenError::InUse { .. }) => Err(error),
        // Damaged: that is what backups are for.
        Err(_) => Ok((None, 0)),
    }
}

/// Everything in a backup.
fn read(backup: &mut dyn Read, encryption: Option<&Encryption>) -> Result<Loaded, RestoreError> {
    let mut reader = Hashing {
        reader: backup,
        hash: Sha256::new(),
    };
    if reader.bytes(MAGIC.len()).map_err(|_| RestoreError::NoBackup)? != MAGIC {
        return Err(RestoreError::NoBackup);
    }
    let version = reader.bytes(VERSION.len())?;
    if version != VERSION {
        return Err(RestoreError::Version(
            String::from_utf8_lossy(&version).trim().to_owned(),
        ));
    }
    let resource_version = reader.number()?;
    let count = reader.number()?;
    let mut objects = BTreeMap::new();
    let mut missing = BTreeSet::new();
    loop {
        let length = reader.length()?;
        if length == 0 {
            break;
        }
        let frame = reader.bytes(length)?;
        let stored = stored(&frame, encryption)?;
        match stored {
            Ok(stored) => drop(objects.insert(stored.key.clone(), stored)),
            Err(id) => drop(missing.insert(id)),
        }
    }
    let wanted = reader.hash.clone().finalize();
    if reader.bytes(HASH_BYTES)? != wanted.as_slice() {
        return Err(RestoreError::Altered);
    }
    let mut more = [0];
    if backup.read(&mut more).map_err(RestoreError::Read)? > 0 {
        return Err(RestoreError::Altered);
    }
    if !missing.is_empty() {
        return Err(RestoreError::Key {
            missing: missing.into_iter().collect(),
        });
    }
    if objects.len() as u64 != count {
        return Err(RestoreError::Altered);
    }
    Ok(Loaded {
        objects,
        resource_version,
    })
}

/// An object of a backup; inner error: the key that is missing to read it.
fn stored(frame: &[u8], encryption: Option<&Encryption>) -> Result<Result<Stored, KeyId>, RestoreError> {
    let mut rest = frame;
    let mut text = || -> Option<&str> {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (text, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        rest = after;
        str::from_utf8(text).ok()
    };
    let parts = (|| Some((text()?, text()?, text()?)))().ok_or(RestoreError::Altered)?;
    let key = file::shared_key(parts, None);
    let (version, record) = rest.split_first_chunk::<8>().ok_or(RestoreError::Altered)?;
    let resource_version = u64::from_le_bytes(*version);
    match record::decode(encryption, &key, resource_version, record) {
        Ok(decoded) => Ok(Ok(Stored {
            key,
            resource_version,
            object: Document::from_json(&decoded.json).map_err(|_| RestoreError::Altered)?,
        })),
        Err(Unreadable::UnknownKey(id)) => Ok(Err(id)),
        Err(Unreadable::Damaged) => Err(RestoreError::Altered),
    }
}

/// Reads and hashes.
struct Hashing<'a> {
    reader: &'a mut dyn Read,
    hash: Sha256,
}

impl Hashing<'_> {
    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, RestoreError> {
        let mut bytes = vec![0; count];
        self.reader.read_exact(&mut bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                RestoreError::Altered
            } else {
                RestoreError::Read(error)
            }
        })?;
        self.hash.update(&bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64, RestoreError> {
        let bytes = self.bytes(8)?;
        Ok(bytes
            .first_chunk()
            .map_or(0, |bytes: &[u8; 8]| u64::from_le_bytes(*bytes)))
    }

    fn length(&mut self) -> Result<usize, RestoreError> {
        let bytes = self.bytes(4)?;
        let length = bytes
            .first_chunk()
            .map_or(0, |bytes: &[u8; 4]| u32::from_le_bytes(*bytes));
        usize::try_from(length)
            .ok()
            .filter(|length| *length <= FRAME_BYTES_MAX)
            .ok_or(RestoreError::Altered)
    }
}
