//! Durability: the redb file, and nothing for a store in memory.

pub(crate) mod file;

use crate::encryption::Encryption;
use crate::error::{DiskError, OpenError};
use crate::object::{Key, Stored};
use crate::record::{self, Census};
use crate::state::Record;
use file::{META, META_CENSUS, META_OBJECTS, META_RESOURCE_VERSION, Opener, RECORDS};
use redb::Database;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What readers see of a key.
pub(crate) type Published<'a> = &'a dyn Fn(&Key) -> Option<Stored>;

/// Makes batches of writes durable.
pub(crate) trait Durable: Send {
    /// All of `records`, or none, and the version reached. Durable when it returns `Ok`.
    fn commit(&mut self, records: &[Record], version: u64, published: Published<'_>)
    -> Result<(), DiskError>;
}

/// No durability.
#[derive(Debug)]
pub(crate) struct Nothing;

impl Durable for Nothing {
    fn commit(
        &mut self,
        _records: &[Record],
        _version: u64,
        _published: Published<'_>,
    ) -> Result<(), DiskError> {
        Ok(())
    }
}

/// What a file held when it was opened.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) objects: BTreeMap<Key, Stored>,
    pub(crate) resource_version: u64,
}

/// The redb file.
pub(crate) struct Disk {
    path: PathBuf,
    opener: Opener,
    encryption: Option<Arc<Encryption>>,
    /// `None` after a failed commit: redb must be opened again before it can go on.
    database: Option<Database>,
    /// Of what the last commit left.
    census: Census,
    /// Keys of failed commits. Whether they reached the disk is unknown, and their writers were told that they did
    /// not; the next commit makes that true.
    unsure: BTreeSet<Key>,
}

impl Disk {
    /// Opens or makes the file and reads all of it. A file whose records would be written differently today (an older
    /// layout, an older key) is written anew.
    pub(crate) fn open(
        path: &Path,
        encryption: Option<Arc<Encryption>>,
    ) -> Result<(Self, Loaded), OpenError> {
        Self::open_with(path, encryption, file::opener())
    }

    /// The same with a way of one's own to open the file.
    pub(crate) fn open_with(
        path: &Path,
        encryption: Option<Arc<Encryption>>,
        opener: Opener,
    ) -> Result<(Self, Loaded), OpenError> {
        if !path.try_exists().map_err(|source| file::io_error(path, source))? {
            file::create(path)?;
        }
        let database = file::open(path, &opener)?;
        let contents = file::read(path, &database, encryption.as_deref())?;
        let stale = contents.stale;
        let loaded = contents.into_loaded(path, encryption.as_deref())?;
        let database = if stale {
            tracing::info!(path = %path.display(), "writing all objects anew, with today's layout and key");
            let fresh = file::replace(path, &loaded, encryption.as_deref())?;
            drop(database);
            fresh
        } else {
            database
        };
        let mut census = Census::default();
        for stored in loaded.objects.values() {
            census.add(&stored.key, stored.resource_version);
        }
        let disk = Self {
            path: path.to_owned(),
            opener,
            encryption,
            database: Some(database),
            census,
            unsure: BTreeSet::new(),
        };
        Ok((disk, loaded))
    }

    fn database(&mut self) -> Result<&Database, DiskError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.opener)(&self.path, false).map_err(|error| self.cannot_reopen(error.into()))?,
        };
        Ok(self.database.insert(database))
    }

    fn cannot_reopen(&self, error: redb::Error) -> DiskError {
        match error {
            redb::Error::Io(error) if is_full(&error) => self.full(),
            error => DiskError::Reopen(Arc::new(file::open_error(&self.path, error))),
        }
    }

    fn full(&self) -> DiskError {
        DiskError::Full {
            path: self.path.clone(),
        }
    }

    fn failed(&self, failure: WriteFailure) -> DiskError {
        match failure {
            WriteFailure::Database(redb::Error::Io(error)) if is_full(&error) => self.full(),
            WriteFailure::Database(error) => DiskError::Failed {
                path: self.path.clone(),
                detail: error.to_string(),
            },
            WriteFailure::Random => DiskError::Random,
            WriteFailure::Panicked => DiskError::Failed {
                path: self.path.clone(),
                detail: "the file is damaged; stop kittiwake and see `kittiwake check`".to_owned(),
            },
        }
    }
}

impl Durable for Disk {
    fn commit(
        &mut self,
        records: &[Record],
        version: u64,
        published: Published<'_>,
    ) -> Result<(), DiskError> {
        let repairs: Vec<_> = self
            .unsure
            .iter()
            .map(|key| (key.clone(), published(key)))
            .collect();
        let census = census_after(self.census, records, published);
        let encryption = self.encryption.clone();
        let database = self.database()?;
        // redb panics on some pages that were damaged after they were checked.
        let written = catch_unwind(AssertUnwindSafe(|| {
            write(
                database,
                encryption.as_deref(),
                &repairs,
                records,
                version,
                census,
            )
        }))
        .unwrap_or(Err(WriteFailure::Panicked));
        match written {
            Ok(()) => {
                self.census = census;
                self.unsure.clear();
                Ok(())
            }
            Err(failure) => {
                // Dropping writes to the file as well.
                let database = self.database.take();
                let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
                self.unsure
                    .extend(records.iter().map(|record| record.stored.key.clone()));
                Err(self.failed(failure))
            }
        }
    }
}

/// Whether the system says that there is no space, or that the file may not grow.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// The census when these records are written over what is published.
fn census_after(mut census: Census, records: &[Record], published: Published<'_>) -> Census {
    let mut newer: HashMap<&Key, Option<u64>> = HashMap::new();
    for record in records {
        let key = &record.stored.key;
        let before = match newer.get(key) {
            Some(version) => *version,
            None => published(key).map(|stored| stored.resource_version),
        };
        let after = (!record.deleted).then_some(record.stored.resource_version);
        if let Some(version) = before {
            census.remove(key, version);
        }
        if let Some(version) = after {
            census.add(key, version);
        }
        newer.insert(key, after);
    }
    census
}

/// Why a transaction failed.
#[derive(Debug)]
enum WriteFailure {
    Database(redb::Error),
    /// Nothing can be encrypted.
    Random,
    /// The database met something that cannot be.
    Panicked,
}

impl<E: Into<redb::Error>> From<E> for WriteFailure {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

/// One transaction: first what failed commits may have left is put right, then the records in order.
fn write(
    database: &Database,
    encryption: Option<&Encryption>,
    repairs: &[(Key, Option<Stored>)],
    records: &[Record],
    version: u64,
    census: Census,
) -> Result<(), WriteFailure> {
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        let repairs = repairs.iter().map(|(key, stored)| (key, stored.as_ref()));
        let records = records
            .iter()
            .map(|r| (&r.stored.key, (!r.deleted).then_some(&r.stored)));
        for (key, stored) in repairs.chain(records) {
            let place = (&*key.resource, &*key.namespace, &*key.name);
            if let Some(stored) = stored {
                let version = stored.resource_version;
                let record = record::encode(encryption, key, version, stored.object.json().as_bytes())
                    .ok_or(WriteFailure::Random)?;
                table.insert(place, (version, &*record))?;
            } else {
                table.remove(place)?;
            }
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_RESOURCE_VERSION, version)?;
        meta.insert(META_OBJECTS, census.objects)?;
        meta.insert(META_CENSUS, census.sum)?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests;
