//! The file itself: made, opened, read whole, written anew.

use crate::disk::Loaded;
use crate::document::Document;
use crate::encryption::{Encryption, KeyId};
use crate::error::OpenError;
use crate::object::{Key, Stored};
use crate::record::{self, Census, Unreadable};
use crate::store::RESOURCE_VERSION_FIRST;
use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

/// (resource, namespace, name) → (resource version, record).
type Table = TableDefinition<'static, (&'static str, &'static str, &'static str), (u64, &'static [u8])>;

/// The objects, as [`record`]s.
pub(crate) const RECORDS: Table = TableDefinition::new("records");
/// The objects of layout 1, as plain JSON.
const OBJECTS_OF_LAYOUT_1: Table = TableDefinition::new("objects");
/// Numbers about the store itself.
pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
pub(crate) const META_RESOURCE_VERSION: &str = "resource_version";
/// The two numbers of the [`Census`].
pub(crate) const META_OBJECTS: &str = "objects";
pub(crate) const META_CENSUS: &str = "census";
pub(crate) const META_LAYOUT: &str = "layout";
/// The layout that this version writes. It reads 1 as well.
pub(crate) const LAYOUT: u64 = 2;
/// Page cache of the database; small, since every object is in memory anyway.
const CACHE_BYTES_MAX: usize = 16 << 20;

/// Opens a file that exists; with `true` every page is checked.
pub(crate) type Opener = Arc<dyn Fn(&Path, bool) -> Result<Database, DatabaseError> + Send + Sync>;

/// The usual way to open a file.
pub(crate) fn opener() -> Opener {
    Arc::new(|path, check| {
        Database::builder()
            .set_cache_size(CACHE_BYTES_MAX)
            .set_check_integrity_on_open(check)
            .open(path)
    })
}

/// All that a file holds, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) objects: BTreeMap<Key, Stored>,
    pub(crate) resource_version: u64,
    /// Objects that are not what was written.
    pub(crate) damaged: Vec<Key>,
    /// How many objects are sealed with which key, whether it was given or not.
    pub(crate) sealed_with: BTreeMap<KeyId, u64>,
    /// Keys that were not given.
    pub(crate) missing_keys: BTreeSet<KeyId>,
    /// Whether objects are missing, or are not the newest.
    pub(crate) incomplete: bool,
    /// Whether anything would be written differently today.
    pub(crate) stale: bool,
}

impl Contents {
    /// The objects, if all of them can be read.
    pub(crate) fn into_loaded(
        self,
        path: &Path,
        encryption: Option<&Encryption>,
    ) -> Result<Loaded, OpenError> {
        let path = path.to_owned();
        if !self.damaged.is_empty() {
            let objects = self.damaged;
            return Err(OpenError::Damaged { path, objects });
        }
        if !self.missing_keys.is_empty() {
            return Err(OpenError::Key {
                path,
                missing: self.missing_keys.into_iter().collect(),
                given: encryption
                    .map(|encryption| encryption.keys.ids())
                    .unwrap_or_default(),
            });
        }
        if self.incomplete {
            return Err(corrupt(
                &path,
                "objects are missing, or older than what was written last",
            ));
        }
        Ok(Loaded {
            objects: self.objects,
            resource_version: self.resource_version,
        })
    }
}

/// Makes a new, empty file. It appears under its name complete or not at all, so that a file of no bytes is always
/// damage, and never replaces a file that another process made meanwhile.
pub(crate) fn create(path: &Path) -> Result<(), OpenError> {
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let nothing = Loaded {
        objects: BTreeMap::new(),
        resource_version: RESOURCE_VERSION_FIRST,
    };
    let made = fill(&fresh, &nothing, None)
        .map_err(|error| open_error(path, error))
        .map(drop)
        .and_then(|()| publish(&fresh, path));
    let removed = std::fs::remove_file(&fresh);
    made?;
    removed.map_err(|source| io_error(path, source))?;
    sync_directory(path).map_err(|source| io_error(path, source))
}

/// Writes a file with these objects and lets it take the place of the one that may be there, at once or not at all.
/// Nothing of the old file is left, as it would be in pages that the database has freed.
pub(crate) fn replace(
    path: &Path,
    loaded: &Loaded,
    encryption: Option<&Encryption>,
) -> Result<Database, OpenError> {
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let made = fill(&fresh, loaded, encryption)
        .map_err(|error| open_error(path, error))
        .and_then(|database| {
            std::fs::rename(&fresh, path).map_err(|source| io_error(path, source))?;
            sync_directory(path).map_err(|source| io_error(path, source))?;
            Ok(database)
        });
    if made.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    made
}

/// A new file with these objects, open.
fn fill(fresh: &Path, loaded: &Loaded, encryption: Option<&Encryption>) -> Result<Database, redb::Error> {
    if fresh.try_exists()? {
        std::fs::remove_file(fresh)?;
    }
    let database = Database::builder()
        .set_cache_size(CACHE_BYTES_MAX)
        .create(fresh)?;
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(RECORDS)?;
        let mut census = Census::default();
        for stored in loaded.objects.values() {
            let (key, version) = (&stored.key, stored.resource_version);
            let record = record::encode(encryption, key, version, stored.object.json().as_bytes())
                .ok_or_else(|| io::Error::other("the system gives no random bytes to encrypt with"))?;
            table.insert((&*key.resource, &*key.namespace, &*key.name), (version, &*record))?;
            census.add(key, version);
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_LAYOUT, LAYOUT)?;
        meta.insert(META_RESOURCE_VERSION, loaded.resource_version)?;
        meta.insert(META_OBJECTS, census.objects)?;
        meta.insert(META_CENSUS, census.sum)?;
    }
    transaction.commit()?;
    Ok(database)
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
pub(crate) fn open(path: &Path, opener: &Opener) -> Result<Database, OpenError> {
    let length = std::fs::metadata(path)
        .map_err(|source| io_error(path, source))?
        .len();
    if length == 0 {
        return Err(corrupt(path, "the file is empty"));
    }
    // redb panics on some damaged files.
    catch_unwind(AssertUnwindSafe(|| opener(path, true)))
        .map_err(|_| corrupt(path, "its pages do not fit together"))?
        .map_err(|error| open_error(path, error))
}

/// Reads all of the file, also when some of it is damaged.
pub(crate) fn read(
    path: &Path,
    database: &Database,
    encryption: Option<&Encryption>,
) -> Result<Contents, OpenError> {
    let read = || {
        let transaction = database.begin_read().map_err(|error| open_error(path, error))?;
        read_in(path, &transaction, encryption)
    };
    catch_unwind(AssertUnwindSafe(read)).map_err(|_| corrupt(path, "its pages do not fit together"))?
}

fn read_in(
    path: &Path,
    transaction: &ReadTransaction,
    encryption: Option<&Encryption>,
) -> Result<Contents, OpenError> {
    let meta = transaction
        .open_table(META)
        .map_err(|error| open_error(path, error))?;
    let number = |name: &str| -> Result<u64, OpenError> {
        let found = meta.get(name).map_err(|error| open_error(path, error))?;
        found
            .map(|value| value.value())
            .ok_or_else(|| corrupt(path, format!("its {name} is missing")))
    };
    let layout = number(META_LAYOUT)?;
    let definition = match layout {
        1 => OBJECTS_OF_LAYOUT_1,
        LAYOUT => RECORDS,
        found => {
            return Err(OpenError::Layout {
                path: path.to_owned(),
                found,
                known: LAYOUT,
            });
        }
    };
    let mut contents = Contents {
        resource_version: number(META_RESOURCE_VERSION)?,
        stale: layout != LAYOUT,
        ..Contents::default()
    };
    let mut census = Census::default();
    let table = transaction
        .open_table(definition)
        .map_err(|error| open_error(path, error))?;
    let mut last = None;
    for entry in table.iter().map_err(|error| open_error(path, error))? {
        let (place, value) = entry.map_err(|error| open_error(path, error))?;
        let key = shared_key(place.value(), last.as_ref());
        let (version, record) = value.value();
        census.add(&key, version);
        contents.incomplete |= version > contents.resource_version;
        last = Some(key.clone());
        if layout == 1 {
            contents.take(key, version, record);
        } else {
            contents.take_record(encryption, key, version, record);
        }
    }
    if layout != 1 {
        let written = Census {
            objects: number(META_OBJECTS)?,
            sum: number(META_CENSUS)?,
        };
        contents.incomplete |= written != census;
    }
    Ok(contents)
}

impl Contents {
    fn take_record(&mut self, encryption: Option<&Encryption>, key: Key, version: u64, record: &[u8]) {
        let decoded = record::decode(encryption, &key, version, record);
        if decoded != Err(Unreadable::Damaged)
            && let Some(id) = record::sealed_with(record)
        {
            *self.sealed_with.entry(id).or_default() += 1;
        }
        match decoded {
            Ok(decoded) => {
                self.stale |= record::is_stale(encryption, &key, decoded.sealed_with);
                self.take(key, version, &decoded.json);
            }
            Err(Unreadable::Damaged) => self.damaged.push(key),
            Err(Unreadable::UnknownKey(id)) => {
                self.missing_keys.insert(id);
            }
        }
    }

    fn take(&mut self, key: Key, resource_version: u64, json: &[u8]) {
        match Document::from_json(json) {
            Ok(object) => {
                let stored = Stored {
                    key: key.clone(),
                    resource_version,
                    object,
                };
                self.objects.insert(key, stored);
            }
            Err(_) => self.damaged.push(key),
        }
    }
}

/// A key that shares its texts with its neighbor, since many objects have the same resource and namespace.
pub(crate) fn shared_key((resource, namespace, name): (&str, &str, &str), neighbor: Option<&Key>) -> Key {
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

pub(crate) fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

pub(crate) fn corrupt(path: &Path, detail: impl Into<String>) -> OpenError {
    OpenError::Corrupt {
        path: path.to_owned(),
        detail: detail.into(),
    }
}

pub(crate) fn open_error(path: &Path, error: impl Into<redb::Error>) -> OpenError {
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
