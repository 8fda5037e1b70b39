//! Durability: the redb file, and nothing for a store in memory.

use crate::document::Document;
use crate::error::{DiskError, OpenError};
use crate::object::{Key, Stored};
use crate::state::Record;
use crate::store::RESOURCE_VERSION_FIRST;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// (resource, namespace, name) → (resource version, object as JSON).
const OBJECTS: TableDefinition<(&str, &str, &str), (u64, &[u8])> = TableDefinition::new("objects");
/// Numbers about the store itself.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const META_LAYOUT: &str = "layout";
const META_RESOURCE_VERSION: &str = "resource_version";
/// The layout that this version reads and writes.
const LAYOUT: u64 = 1;
/// Page cache of the database; small, since every object is in memory anyway.
const CACHE_BYTES_MAX: usize = 16 << 20;

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
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    /// `None` after a failed commit: redb must be opened again before it can go on.
    database: Option<Database>,
    /// Keys of failed commits. Whether they reached the disk is unknown, and their writers were told that they did
    /// not; the next commit makes that true.
    unsure: BTreeSet<Key>,
}

impl Disk {
    /// Opens or makes the file and reads all of it.
    pub(crate) fn open(path: &Path) -> Result<(Self, Loaded), OpenError> {
        if !path.try_exists().map_err(|source| io_error(path, source))? {
            create(path)?;
        }
        let database = open_database(path)?;
        let loaded = load(path, &database)?;
        Ok((
            Self {
                path: path.to_owned(),
                database: Some(database),
                unsure: BTreeSet::new(),
            },
            loaded,
        ))
    }

    fn database(&mut self) -> Result<&Database, DiskError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open_database(&self.path).map_err(|error| DiskError::Reopen(Arc::new(error)))?,
        };
        Ok(self.database.insert(database))
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
        let path = self.path.clone();
        let written = write(self.database()?, &repairs, records, version);
        match written {
            Ok(()) => {
                self.unsure.clear();
                Ok(())
            }
            Err(failure) => {
                self.database = None;
                self.unsure
                    .extend(records.iter().map(|record| record.stored.key.clone()));
                Err(failure.into_disk_error(path))
            }
        }
    }
}

/// Why a transaction failed.
struct WriteFailure(redb::Error);

impl<E: Into<redb::Error>> From<E> for WriteFailure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl WriteFailure {
    fn into_disk_error(self, path: PathBuf) -> DiskError {
        match self.0 {
            redb::Error::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                DiskError::Full { path }
            }
            error => DiskError::Failed {
                path,
                detail: error.to_string(),
            },
        }
    }
}

/// One transaction: first what failed commits may have left is put right, then the records in order.
fn write(
    database: &Database,
    repairs: &[(Key, Option<Stored>)],
    records: &[Record],
    version: u64,
) -> Result<(), WriteFailure> {
    let transaction = database.begin_write()?;
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        let repairs = repairs.iter().map(|(key, stored)| (key, stored.as_ref()));
        let records = records
            .iter()
            .map(|r| (&r.stored.key, (!r.deleted).then_some(&r.stored)));
        for (key, stored) in repairs.chain(records) {
            let place = (&*key.resource, &*key.namespace, &*key.name);
            if let Some(stored) = stored {
                objects.insert(place, (stored.resource_version, stored.object.json().as_bytes()))?;
            } else {
                objects.remove(place)?;
            }
        }
        transaction
            .open_table(META)?
            .insert(META_RESOURCE_VERSION, version)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Makes a new, empty file. It appears under its name complete or not at all, so that a file of no bytes is always
/// damage, and never replaces a file that another process made meanwhile.
fn create(path: &Path) -> Result<(), OpenError> {
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let made = create_at(&fresh)
        .map_err(|error| open_error(path, error))
        .and_then(|()| publish(&fresh, path));
    let removed = std::fs::remove_file(&fresh);
    made?;
    removed.map_err(|source| io_error(path, source))?;
    sync_directory(path).map_err(|source| io_error(path, source))
}

fn create_at(fresh: &Path) -> Result<(), redb::Error> {
    if fresh.try_exists()? {
        std::fs::remove_file(fresh)?;
    }
    let database = Database::create(fresh)?;
    let transaction = database.begin_write()?;
    {
        transaction.open_table(OBJECTS)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_LAYOUT, LAYOUT)?;
        meta.insert(META_RESOURCE_VERSION, RESOURCE_VERSION_FIRST)?;
    }
    transaction.commit()?;
    database.close()?;
    Ok(())
}

/// Gives the fresh file its name, unless there is one already.
fn publish(fresh: &Path, path: &Path) -> Result<(), OpenError> {
    match std::fs::hard_link(fresh, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io_error(path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the file's name durable, not only its content.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Opens the file and checks every page: a damaged file is an error here, not a surprise later.
fn open_database(path: &Path) -> Result<Database, OpenError> {
    let length = std::fs::metadata(path)
        .map_err(|source| io_error(path, source))?
        .len();
    if length == 0 {
        return Err(corrupt(path, "the file is empty"));
    }
    let mut builder = Database::builder();
    builder
        .set_cache_size(CACHE_BYTES_MAX)
        .set_check_integrity_on_open(true);
    builder.open(path).map_err(|error| open_error(path, error))
}

fn load(path: &Path, database: &Database) -> Result<Loaded, OpenError> {
    let failed = |error: redb::Error| open_error(path, error);
    let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
    let meta = transaction
        .open_table(META)
        .map_err(|error| failed(error.into()))?;
    let number = |name: &str| -> Result<u64, OpenError> {
        let found = meta.get(name).map_err(|error| failed(error.into()))?;
        found
            .map(|value| value.value())
            .ok_or_else(|| corrupt(path, format!("its {name} is missing")))
    };
    let layout = number(META_LAYOUT)?;
    if layout != LAYOUT {
        return Err(OpenError::Layout {
            path: path.to_owned(),
            found: layout,
            known: LAYOUT,
        });
    }
    let resource_version = number(META_RESOURCE_VERSION)?;
    let table = transaction
        .open_table(OBJECTS)
        .map_err(|error| failed(error.into()))?;
    let mut objects = BTreeMap::new();
    let mut last = None;
    for entry in table.iter().map_err(|error| failed(error.into()))? {
        let (place, value) = entry.map_err(|error| failed(error.into()))?;
        let key = shared_key(place.value(), last.as_ref());
        let (version, json) = value.value();
        let object = Document::from_json(json).map_err(|error| corrupt(path, format!("{key}: {error}")))?;
        last = Some(key.clone());
        objects.insert(
            key.clone(),
            Stored {
                key,
                resource_version: version,
                object,
            },
        );
    }
    Ok(Loaded {
        objects,
        resource_version,
    })
}

/// A key that shares its texts with its neighbor, since many objects have the same resource and namespace.
fn shared_key((resource, namespace, name): (&str, &str, &str), neighbor: Option<&Key>) -> Key {
    let share = |text: &str, of: fn(&Key) -> &Arc<str>| match neighbor.map(of) {
        Some(shared) if **shared == *text => Arc::clone(shared),
        _ => Arc::from(text),
    };
    Key {
        resource: share(resource, |key| &key.resource),
        namespace: share(namespace, |key| &key.namespace),
        name: Arc::from(name),
    }
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

fn corrupt(path: &Path, detail: impl Into<String>) -> OpenError {
    OpenError::Corrupt {
        path: path.to_owned(),
        detail: detail.into(),
    }
}

fn open_error(path: &Path, error: impl Into<redb::Error>) -> OpenError {
    use redb::Error;
    match error.into() {
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => OpenError::InUse {
            path: path.to_owned(),
        },
        Error::Io(error) => match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => corrupt(path, error.to_string()),
            _ => io_error(path, error),
        },
        other => corrupt(path, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(name: &str, version: u64) -> Record {
        let key = Key::new("things", "", name);
        let tree = Arc::new(json!({"n": version}));
        Record {
            stored: Stored {
                key,
                resource_version: version,
                object: Document::new(&tree),
            },
            deleted: false,
            tree,
        }
    }

    #[test]
    fn what_a_failed_commit_left_behind_is_put_right_by_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("objects.redb");
        let (mut disk, _) = Disk::open(&path).unwrap();
        let kept = record("kept", 2);
        disk.commit(std::slice::from_ref(&kept), 2, &|_| None).unwrap();
        // These reach the disk, but their writers are told that they failed, as when only the last fsync fails.
        disk.commit(&[record("kept", 3), record("ghost", 4)], 4, &|_| None)
            .unwrap();
        disk.unsure = [record("kept", 0), record("ghost", 0)]
            .map(|record| record.stored.key)
            .into();
        disk.database = None;

        let published = |key: &Key| (*key == kept.stored.key).then(|| kept.stored.clone());
        disk.commit(&[record("next", 5)], 5, &published).unwrap();
        assert!(disk.unsure.is_empty());
        drop(disk);

        let (_, loaded) = Disk::open(&path).unwrap();
        let found: Vec<_> = loaded
            .objects
            .values()
            .map(|s| (&*s.key.name, s.resource_version))
            .collect();
        assert_eq!(
            (found, loaded.resource_version),
            (vec![("kept", 2), ("next", 5)], 5)
        );
    }

    #[test]
    fn a_full_disk_is_told_apart_from_other_failures() {
        for (kind, full) in [
            (io::ErrorKind::StorageFull, true),
            (io::ErrorKind::PermissionDenied, false),
        ] {
            let failure = WriteFailure(redb::Error::Io(kind.into()));
            let error = failure.into_disk_error("x".into());
            assert_eq!(matches!(error, DiskError::Full { .. }), full, "{error}");
        }
    }

    #[test]
    fn a_layout_from_the_future_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("objects.redb");
        drop(Disk::open(&path).unwrap());
        let database = Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction
            .open_table(META)
            .unwrap()
            .insert(META_LAYOUT, LAYOUT + 1)
            .unwrap();
        transaction.commit().unwrap();
        drop(database);
        let error = Disk::open(&path).unwrap_err();
        assert!(
            matches!(
                error,
                OpenError::Layout {
                    found: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
    }
}
