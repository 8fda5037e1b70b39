//! Secrets on the disk: never in plain text, readable with every key that was given, rewritten with the newest.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

use kittiwake_store::{Change, Config, Encryption, Key, Keyring, ObjectStore, OpenError};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

const PASSWORD: &str = "correct horse battery staple";

fn config(keys: &str) -> Config {
    Config {
        encryption: Some(Arc::new(Encryption::of_secrets(Keyring::parse(keys).unwrap()))),
        ..Config::default()
    }
}

fn secret() -> Key {
    Key::new("secrets", "default", "a")
}

async fn put(store: &ObjectStore, key: Key, text: &str) {
    let change = Change::Put(json!({"metadata": {}, "data": {"password": text}}));
    store.write(key, |_| Ok::<_, ()>((change, ()))).await.unwrap();
}

fn password(store: &ObjectStore) -> String {
    let tree = store.get(&secret()).unwrap().object.tree();
    tree["data"]["password"].as_str().unwrap().to_owned()
}

fn contains(path: &Path, text: &str) -> bool {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn secrets_reach_the_disk_encrypted_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let key = Keyring::generate().unwrap();
    let store = ObjectStore::open(&path, config(&key)).unwrap();
    for n in 0..20 {
        put(&store, secret(), &format!("{PASSWORD} {n}")).await;
    }
    put(&store, secret(), PASSWORD).await;
    put(&store, Key::new("configmaps", "default", "a"), "seen by all").await;
    drop(store);
    assert!(!contains(&path, PASSWORD) && contains(&path, "seen by all"));
    assert!(!contains(&path, "correct horse"), "nor a part of it");
    let store = ObjectStore::open(&path, config(&key)).unwrap();
    assert_eq!(password(&store), PASSWORD);
}

#[tokio::test]
async fn a_new_first_key_takes_over_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let (old, new) = (Keyring::generate().unwrap(), Keyring::generate().unwrap());
    let store = ObjectStore::open(&path, config(&old)).unwrap();
    put(&store, secret(), PASSWORD).await;
    let version = store.resource_version();
    drop(store);

    let store = ObjectStore::open(&path, config(&format!("{new}\n{old}"))).unwrap();
    assert_eq!(
        (password(&store), store.resource_version()),
        (PASSWORD.to_owned(), version)
    );
    put(&store, Key::new("secrets", "default", "b"), "more").await;
    drop(store);
    let store = ObjectStore::open(&path, config(&new)).expect("the old key is not needed any more");
    assert_eq!(password(&store), PASSWORD);
    drop(store);

    let error = ObjectStore::open(&path, config(&old)).unwrap_err();
    let id = |key: &str| Keyring::parse(key).unwrap().ids()[0];
    let OpenError::Key { missing, given, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!((&missing[..], &given[..]), (&[id(&new)][..], &[id(&old)][..]));
    let message = error.to_string();
    assert!(
        message.contains(&id(&new).to_string()) && message.contains("--encryption-key-file"),
        "{message}"
    );
    let error = ObjectStore::open(&path, Config::default()).unwrap_err();
    assert!(error.to_string().contains("the keys given (none)"), "{error}");
}

#[tokio::test]
async fn what_was_plain_is_encrypted_once_there_is_a_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let store = ObjectStore::open(&path, Config::default()).unwrap();
    put(&store, secret(), PASSWORD).await;
    drop(store);
    assert!(contains(&path, PASSWORD));
    let key = Keyring::generate().unwrap();
    drop(ObjectStore::open(&path, config(&key)).unwrap());
    assert!(!contains(&path, PASSWORD), "not even in pages that are free now");
}
