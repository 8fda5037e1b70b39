//! Backups of a running store, and what becomes of them elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

use kittiwake_store::{
    Change, Config, Encryption, Key, Keyring, ObjectStore, OpenError, RestoreError, Verifier, check, restore,
};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const PASSWORD: &str = "correct horse battery staple";

fn encryption(keys: &str) -> Arc<Encryption> {
    Arc::new(Encryption::of_secrets(Keyring::parse(keys).unwrap()))
}

fn open(path: &Path) -> ObjectStore {
    let config = Config {
        encryption: Some(encryption(KEY)),
        ..Config::default()
    };
    ObjectStore::open(path, config).unwrap()
}

async fn put(store: &ObjectStore, resource: &str, name: &str, text: &str) {
    let change = Change::Put(json!({"metadata": {}, "text": text}));
    let key = Key::new(resource, "default", name);
    store.write(key, |_| Ok::<_, ()>((change, ()))).await.unwrap();
}

async fn filled(path: &Path) -> ObjectStore {
    let store = open(path);
    for n in 0..300 {
        put(&store, "things", &format!("n{n}"), &"x".repeat(1000)).await;
    }
    put(&store, "secrets", "a", PASSWORD).await;
    store
}

fn bytes(store: &ObjectStore) -> Vec<u8> {
    store.backup().map(Result::unwrap).collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn a_backup_is_one_moment_and_comes_back_elsewhere_with_a_higher_version() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(&directory.path().join("objects.redb")).await;
    let (things, secrets) = (store.list("things", None), store.list("secrets", None));
    let mut chunks = store.backup();
    let mut backup = chunks.next().unwrap().unwrap();
    // What happens while it is read is not in it.
    put(&store, "things", "n5", "changed").await;
    put(&store, "things", "new", "new").await;
    let seen_after_the_backup = store.resource_version();
    backup.extend(chunks.map(Result::unwrap).collect::<Vec<_>>().concat());
    assert!(!backup.windows(PASSWORD.len()).any(|w| w == PASSWORD.as_bytes()));
    let mut verifier = Verifier::default();
    backup.chunks(1000).for_each(|chunk| verifier.update(chunk));
    assert_eq!(verifier.finish().unwrap(), backup.len() as u64);

    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("objects.redb");
    let restored = restore(&mut &*backup, &path, Some(&encryption(KEY)), false).unwrap();
    assert_eq!(
        (restored.objects, restored.backup_version, &restored.replaced),
        (301, things.resource_version, &None)
    );
    let store = open(&path);
    assert_eq!(store.list("things", None).items, things.items);
    assert_eq!(store.list("secrets", None).items, secrets.items);
    assert_eq!(store.resource_version(), restored.resource_version);
    assert!(restored.resource_version > seen_after_the_backup);
    for version in [1, things.resource_version, seen_after_the_backup] {
        assert!(
            store.watch("things", version).is_err(),
            "a watcher from before lists again"
        );
    }
    put(&store, "things", "next", "").await;
    assert_eq!(store.resource_version(), restored.resource_version + 1);
}

#[tokio::test]
async fn what_is_there_is_replaced_only_when_forced_and_kept_beside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let store = filled(&path).await;
    let backup = bytes(&store);
    put(&store, "things", "later", "").await;
    let seen = store.resource_version();

    let encryption = encryption(KEY);
    let again = |force| restore(&mut &*backup, &path, Some(&encryption), force);
    let error = again(false).unwrap_err();
    assert!(
        matches!(&error, RestoreError::NotEmpty { .. }) && error.to_string().contains("--force"),
        "{error}"
    );
    let error = again(true).unwrap_err();
    assert!(
        matches!(error, RestoreError::Store(OpenError::InUse { .. })),
        "not under a running server: {error}"
    );
    store.close();
    for _ in 0..2 {
        let restored = again(true).unwrap();
        assert!(restored.resource_version > seen);
        assert!(restored.replaced.unwrap().is_file());
    }
    assert_eq!(check(&path, Some(&encryption)).unwrap().objects, 301);

    // Also where what is there is damaged, which is what backups are for.
    std::fs::write(&path, "nonsense").unwrap();
    again(true).unwrap();
    assert_eq!(open(&path).list("things", None).items.len(), 300);
}

#[tokio::test]
async fn backups_that_are_cut_short_or_altered_are_refused_and_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(&directory.path().join("objects.redb")).await;
    let backup = bytes(&store);
    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("objects.redb");
    let encryption = encryption(KEY);
    let refused = |bytes: &[u8]| {
        let error = restore(&mut &*bytes, &path, Some(&encryption), false).unwrap_err();
        assert!(!path.exists());
        let mut verifier = Verifier::default();
        verifier.update(bytes);
        let verified = verifier.finish();
        assert!(verified.is_err(), "{error}");
        error
    };
    for length in (0..backup.len())
        .step_by(9973)
        .chain(backup.len() - 40..backup.len())
    {
        let error = refused(&backup[..length]);
        assert!(
            matches!(error, RestoreError::Altered | RestoreError::NoBackup),
            "{length}: {error}"
        );
    }
    for place in (0..backup.len()).step_by(4999) {
        let mut altered = backup.clone();
        altered[place] ^= 0x10;
        let error = refused(&altered);
        assert!(
            !matches!(error, RestoreError::NotEmpty { .. } | RestoreError::Store(_)),
            "{error}"
        );
    }
    refused(&[&backup[..], b"more"].concat());
    assert!(matches!(refused(b"PK\x03\x04"), RestoreError::NoBackup));
}

#[tokio::test]
async fn a_backup_needs_its_key_and_takes_a_newer_one() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(&directory.path().join("objects.redb")).await;
    let backup = bytes(&store);
    let path = directory.path().join("other.redb");
    let other = Keyring::generate().unwrap();
    for keys in [None, Some(encryption(&other))] {
        let error = restore(&mut &*backup, &path, keys.as_deref(), false).unwrap_err();
        let id = Keyring::parse(KEY).unwrap().ids()[0].to_string();
        assert!(
            matches!(&error, RestoreError::Key { .. }) && error.to_string().contains(&id),
            "{error}"
        );
    }
    let both = encryption(&format!("{other}\n{KEY}"));
    restore(&mut &*backup, &path, Some(&both), false).unwrap();
    let checked = check(&path, Some(&encryption(&other))).unwrap();
    assert!(
        checked.is_sound() && checked.missing_keys.is_empty(),
        "{checked:?}"
    );
}
