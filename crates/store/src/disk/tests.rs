//! Failed commits, full disks, and files of other layouts.

use super::*;
use crate::document::Document;
use crate::encryption::Keyring;
use crate::{Change, Config, ObjectStore, WriteError};
use redb::backends::FileBackend;
use redb::{StorageBackend, TableDefinition};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

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

fn names(loaded: &Loaded) -> Vec<(&str, u64)> {
    loaded
        .objects
        .values()
        .map(|s| (&*s.key.name, s.resource_version))
        .collect()
}

#[test]
fn what_a_failed_commit_left_behind_is_put_right_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let (mut disk, _) = Disk::open(&path, None).unwrap();
    let kept = record("kept", 2);
    disk.commit(std::slice::from_ref(&kept), 2, &|_| None).unwrap();
    let census = disk.census;
    let published = |key: &Key| (*key == kept.stored.key).then(|| kept.stored.clone());
    // These reach the disk, but their writers are told that they failed, as when only the last fsync fails.
    disk.commit(&[record("kept", 3), record("ghost", 4)], 4, &published)
        .unwrap();
    disk.unsure = [record("kept", 0), record("ghost", 0)]
        .map(|record| record.stored.key)
        .into();
    disk.database = None;
    disk.census = census;

    disk.commit(&[record("next", 5)], 5, &published).unwrap();
    assert!(disk.unsure.is_empty());
    drop(disk);

    let (_, loaded) = Disk::open(&path, None).unwrap();
    assert_eq!(names(&loaded), [("kept", 2), ("next", 5)]);
    assert_eq!(loaded.resource_version, 5);
}

#[test]
fn a_full_disk_is_told_apart_from_other_failures() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, _) = Disk::open(&directory.path().join("x"), None).unwrap();
    for (kind, full) in [
        (io::ErrorKind::StorageFull, true),
        (io::ErrorKind::QuotaExceeded, true),
        (io::ErrorKind::FileTooLarge, true),
        (io::ErrorKind::PermissionDenied, false),
    ] {
        let error = disk.failed(WriteFailure::Database(redb::Error::Io(kind.into())));
        assert_eq!(matches!(error, DiskError::Full { .. }), full, "{error}");
        let error = disk.cannot_reopen(redb::Error::Io(kind.into()));
        assert_eq!(matches!(error, DiskError::Full { .. }), full, "{error}");
    }
}

#[test]
fn a_layout_from_the_future_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    drop(Disk::open(&path, None).unwrap());
    let database = Database::open(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(META)
        .unwrap()
        .insert(file::META_LAYOUT, file::LAYOUT + 1)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Disk::open(&path, None).err().unwrap();
    assert!(
        matches!(
            error,
            OpenError::Layout {
                found: 3,
                known: 2,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_file_of_layout_1_is_written_anew_with_its_secrets_sealed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let objects: TableDefinition<(&str, &str, &str), (u64, &[u8])> = TableDefinition::new("objects");
        let mut objects = transaction.open_table(objects).unwrap();
        let secret: &[u8] = br#"{"data":{"password":"correct horse"}}"#;
        objects.insert(("secrets", "default", "a"), (7, secret)).unwrap();
        let plain: &[u8] = br#"{"data":{}}"#;
        objects
            .insert(("configmaps", "default", "b"), (8, plain))
            .unwrap();
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert(file::META_LAYOUT, 1).unwrap();
        meta.insert(META_RESOURCE_VERSION, 9).unwrap();
    }
    transaction.commit().unwrap();
    drop(database);
    let holds_the_password = || {
        let bytes = std::fs::read(&path).unwrap();
        bytes.windows(13).any(|window| window == b"correct horse")
    };
    assert!(holds_the_password());

    let keys = Keyring::parse(&Keyring::generate().unwrap()).unwrap();
    let encryption = Some(Arc::new(Encryption::of_secrets(keys)));
    let (disk, loaded) = Disk::open(&path, encryption.clone()).unwrap();
    assert_eq!(names(&loaded), [("b", 8), ("a", 7)]);
    assert_eq!(loaded.resource_version, 9);
    drop(disk);
    assert!(!holds_the_password());
    let (_, again) = Disk::open(&path, encryption).unwrap();
    assert_eq!(again.objects, loaded.objects);
}

/// Lets `damage` change the tables of a file, as a page does that was damaged and then written again with a sound
/// checksum.
fn damage(path: &Path, damage: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    damage(&transaction);
    transaction.commit().unwrap();
}

#[test]
fn damage_that_the_database_does_not_see_is_found_and_the_object_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let (mut disk, _) = Disk::open(&path, None).unwrap();
    disk.commit(&[record("a", 2), record("b", 3)], 3, &|_| None)
        .unwrap();
    drop(disk);
    let whole = std::fs::read(&path).unwrap();
    let old = record::encode(None, &record("a", 1).stored.key, 1, b"{}").unwrap();
    let bytes = |name: &str| record::encode(None, &record(name, 2).stored.key, 2, b"{\"n\":2}").unwrap();
    let flipped = {
        let mut record = bytes("a");
        record[3] ^= 1;
        record
    };
    type Damage<'a> = &'a dyn Fn(&redb::WriteTransaction);
    let put = |transaction: &redb::WriteTransaction, name: &str, version: u64, record: &[u8]| {
        let mut table = transaction.open_table(RECORDS).unwrap();
        table.insert(("things", "", name), (version, record)).unwrap();
    };
    let meta = |transaction: &redb::WriteTransaction, name: &str, number: u64| {
        transaction
            .open_table(META)
            .unwrap()
            .insert(name, number)
            .unwrap();
    };
    let cases: [(&str, Damage<'_>, &str); 7] = [
        ("a flipped bit", &|t| put(t, "a", 2, &flipped), "things/a"),
        ("another's record", &|t| put(t, "a", 2, &bytes("b")), "things/a"),
        ("another version", &|t| put(t, "a", 3, &bytes("a")), "things/a"),
        (
            "an old record",
            &|t| put(t, "a", 1, &old),
            "older than what was written",
        ),
        (
            "a lost record",
            &|t| {
                drop(
                    t.open_table(RECORDS)
                        .unwrap()
                        .remove(("things", "", "a"))
                        .unwrap(),
                )
            },
            "objects are missing",
        ),
        (
            "a version too small",
            &|t| meta(t, META_RESOURCE_VERSION, 1),
            "objects are missing",
        ),
        (
            "a wrong number",
            &|t| meta(t, META_OBJECTS, 3),
            "objects are missing",
        ),
    ];
    for (what, change, wanted) in cases {
        std::fs::write(&path, &whole).unwrap();
        damage(&path, change);
        let error = Disk::open(&path, None).err().unwrap().to_string();
        assert!(
            error.contains(wanted) && error.contains("kittiwake restore"),
            "{what}: {error}"
        );
    }
}

/// A file on a disk that is full whenever the test says so: it can be written to where it has bytes, and not grow.
#[derive(Debug)]
struct Limited {
    file: FileBackend,
    full: Arc<AtomicBool>,
}

impl Limited {
    fn check(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl StorageBackend for Limited {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.file.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_lets_reads_and_watches_go_on_until_there_is_space() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let full = Arc::new(AtomicBool::new(false));
    let opener: Opener = {
        let full = Arc::clone(&full);
        Arc::new(move |path, check| {
            let file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
            let limited = Limited {
                file: FileBackend::new(file)?,
                full: Arc::clone(&full),
            };
            Database::builder()
                .set_check_integrity_on_open(check)
                .create_with_backend(limited)
        })
    };
    let (disk, loaded) = Disk::open_with(&path, None, opener).unwrap();
    let state = crate::state::State::new(loaded.objects, loaded.resource_version, 100);
    let store = ObjectStore::start(state, Box::new(disk), &Config::default()).unwrap();
    let put = async |name: &str, value: u64| {
        let key = Key::new("things", "", name);
        let change = Change::Put(json!({"value": value, "pad": "x".repeat(5000)}));
        let written = store.write(key, |_| Ok::<_, ()>((change, ()))).await;
        written.map(|(stored, ())| stored.unwrap().resource_version)
    };
    let value = |name: &str| {
        let stored = store.get(&Key::new("things", "", name))?;
        stored.object.tree()["value"].as_u64()
    };
    put("a", 1).await.unwrap();
    let mut watcher = store.watch("things", store.resource_version()).unwrap();

    full.store(true, Ordering::SeqCst);
    for attempt in 0..3 {
        let error = put("a", 2).await.unwrap_err();
        let WriteError::Disk(error) = error else {
            panic!("attempt {attempt}: {error:?}")
        };
        assert!(
            matches!(*error, DiskError::Full { .. }),
            "attempt {attempt}: {error}"
        );
        assert!(put(&format!("new-{attempt}"), 1).await.is_err());
        assert_eq!((value("a"), value("new-0")), (Some(1), None), "reads go on");
    }

    full.store(false, Ordering::SeqCst);
    let version = put("a", 3).await.unwrap();
    let event = watcher.next().await.unwrap();
    assert_eq!(event.object.resource_version, version, "and so do watches");
    store.close();

    let (_, loaded) = Disk::open(&path, None).unwrap();
    assert_eq!(names(&loaded), [("a", version)]);
    assert_eq!(loaded.resource_version, version);
}
