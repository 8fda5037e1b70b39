//! What was acknowledged is there after the store is opened again, and a file that is not a store is refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

use kittiwake_store::{Change, Config, Key, ObjectStore, OpenError, WriteError};
use serde_json::json;
use std::path::Path;

fn key(name: &str) -> Key {
    Key::new("things", "default", name)
}

async fn put(store: &ObjectStore, name: &str, value: u64) -> u64 {
    let change = Change::Put(json!({"metadata": {"name": name}, "value": value}));
    let (stored, ()) = store
        .write(key(name), |_| Ok::<_, ()>((change, ())))
        .await
        .unwrap();
    stored.unwrap().resource_version
}

fn open(path: &Path) -> ObjectStore {
    ObjectStore::open(path, Config::default()).unwrap()
}

#[tokio::test]
async fn everything_acknowledged_is_there_after_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let store = open(&path);
    for n in 0..20 {
        put(&store, &format!("n{n:02}"), n).await;
    }
    let (deleted, ()) = store
        .write(key("n03"), |_| Ok::<_, ()>((Change::Delete, ())))
        .await
        .unwrap();
    let before = store.list("things", None);
    assert_eq!(deleted.unwrap().resource_version, before.resource_version);
    drop(store);

    let store = open(&path);
    assert_eq!(
        store.list("things", None),
        before,
        "objects, their order of fields and the version"
    );
    assert!(store.watch("things", before.resource_version).is_ok());
    assert!(
        store.watch("things", before.resource_version - 1).is_err(),
        "the watch log is not kept"
    );
    assert!(
        store.watch("things", before.resource_version + 1).is_err(),
        "never told before"
    );
    assert_eq!(
        put(&store, "n03", 3).await,
        before.resource_version + 1,
        "also after a deletion"
    );
}

#[tokio::test]
async fn the_version_does_not_go_back_when_everything_is_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let store = open(&path);
    put(&store, "a", 1).await;
    store
        .write(key("a"), |_| Ok::<_, ()>((Change::Delete, ())))
        .await
        .unwrap();
    let version = store.resource_version();
    drop(store);
    let store = open(&path);
    assert!(store.list("things", None).items.is_empty());
    assert_eq!(store.resource_version(), version);
}

#[tokio::test]
async fn decisions_that_change_nothing_write_nothing() {
    let store = ObjectStore::in_memory(Config::default());
    put(&store, "a", 1).await;
    let (version, commits) = (store.resource_version(), store.commits());
    let (kept, told) = store
        .write(key("a"), |_| Ok::<_, ()>((Change::Keep, "told")))
        .await
        .unwrap();
    assert_eq!((kept, told), (store.get(&key("a")), "told"));
    let (gone, ()) = store
        .write(key("b"), |_| Ok::<_, ()>((Change::Delete, ())))
        .await
        .unwrap();
    assert_eq!(gone, None);
    let refused = store.write(key("a"), |_| Err::<(Change, ()), _>("no")).await;
    assert!(matches!(refused, Err(WriteError::Refused("no"))));
    for wrong in [json!(1), json!([]), json!({"metadata": 1})] {
        let refused = store
            .write(key("a"), |_| Ok::<_, ()>((Change::Put(wrong), ())))
            .await;
        assert!(matches!(refused, Err(WriteError::NotAnObject)));
    }
    assert_eq!((store.resource_version(), store.commits()), (version, commits));
}

#[test]
fn a_second_user_of_the_file_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let _first = open(&path);
    let error = ObjectStore::open(&path, Config::default()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }));
    assert!(
        error.to_string().starts_with("another kittiwake is using "),
        "{error}"
    );
}

#[test]
fn a_missing_directory_is_named() {
    let error = ObjectStore::open(Path::new("/nowhere/at/all.redb"), Config::default()).unwrap_err();
    assert!(
        matches!(&error, OpenError::Io { path, .. } if path == Path::new("/nowhere/at/all.redb")),
        "{error}"
    );
}
