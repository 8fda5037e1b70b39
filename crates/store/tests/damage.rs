//! Damaged files: bits flipped everywhere, files cut short, other files. What is damaged is refused with what to do, or
//! does not matter; it is never served.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

use kittiwake_store::{Change, Config, Encryption, Key, Keyring, ObjectStore, OpenError, Snapshot};
use serde_json::json;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// How many bytes of a file are flipped by default; all of them when the variable is set.
const PLACES: usize = 300;
const EVERYWHERE: &str = "KITTIWAKE_TEST_FLIP_EVERYWHERE";
/// Bytes of a page of the database.
const PAGE: usize = 4096;

fn key(name: &str) -> Key {
    Key::new("things", "default", name)
}

async fn put(store: &ObjectStore, key: Key, value: u64) {
    let change = Change::Put(json!({"metadata": {"name": &*key.name}, "value": value}));
    store.write(key, |_| Ok::<_, ()>((change, ()))).await.unwrap();
}

/// The same keys in every call.
fn config() -> Config {
    let keys = Keyring::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    Config {
        encryption: Some(Arc::new(Encryption::of_secrets(keys))),
        ..Config::default()
    }
}

fn open(path: &Path) -> ObjectStore {
    ObjectStore::open(path, config()).unwrap()
}

/// All that a store holds.
fn everything(store: &ObjectStore) -> (Snapshot, Snapshot) {
    (store.list("things", None), store.list("secrets", None))
}

/// A store's file with enough in it to have several levels of pages.
async fn sample(path: &Path) -> Vec<u8> {
    let store = open(path);
    for n in 0..200 {
        put(&store, key(&format!("n{n}")), n).await;
    }
    for n in 0..20 {
        put(&store, Key::new("secrets", "default", format!("s{n}")), n).await;
    }
    drop(store);
    std::fs::read(path).unwrap()
}

#[tokio::test]
async fn a_file_cut_short_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let whole = sample(&path).await;
    for length in [
        0,
        1,
        9,
        64,
        320,
        512,
        4096,
        4097,
        8192,
        whole.len() / 2,
        whole.len() - 4096,
        whole.len() - 1,
    ] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = ObjectStore::open(&path, config()).expect_err(&format!("{length} bytes"));
        assert!(matches!(error, OpenError::Corrupt { .. }), "{length}: {error:?}");
        assert!(
            error
                .to_string()
                .contains("move it away and apply your manifests again"),
            "{error}"
        );
    }
    for other in ["not a store", &"x".repeat(100_000)] {
        std::fs::write(&path, other).unwrap();
        assert!(matches!(
            ObjectStore::open(&path, config()),
            Err(OpenError::Corrupt { .. })
        ));
    }
}

/// Places to flip: of pages that hold something, more of the first, which says where all others are.
fn places(file: &[u8]) -> Vec<usize> {
    let used: Vec<usize> = file
        .chunks(PAGE)
        .enumerate()
        .filter(|(_, page)| page.iter().any(|byte| *byte != 0))
        .flat_map(|(index, page)| index * PAGE..index * PAGE + page.len())
        .collect();
    if std::env::var_os(EVERYWHERE).is_some() {
        return used;
    }
    let step = (used.len() / PLACES).max(1);
    let header = 0..320;
    header.chain(used.into_iter().step_by(step)).collect()
}

/// Opens a damaged file: whether it was refused. What is served must be what was written.
fn refused(path: &Path, wanted: &(Snapshot, Snapshot), what: &str) -> bool {
    match ObjectStore::open(path, config()) {
        Ok(store) => {
            assert_eq!(&everything(&store), wanted, "{what}");
            false
        }
        Err(error @ (OpenError::Corrupt { .. } | OpenError::Damaged { .. } | OpenError::Layout { .. })) => {
            assert!(error.to_string().contains("objects.redb"), "{what}: {error}");
            true
        }
        Err(error) => panic!("{what}: {error:?}"),
    }
}

#[tokio::test]
async fn a_flipped_bit_is_refused_or_does_not_matter() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let whole = sample(&path).await;
    let wanted = everything(&open(&path));
    let (mut refusals, mut flips) = (0, 0);
    for place in places(&whole) {
        // One bit, another one at each place; the whole byte in the header.
        let mask = if place < 320 { 0xff } else { 1 << (place % 8) };
        let mut damaged = whole.clone();
        damaged[place] ^= mask;
        std::fs::write(&path, &damaged).unwrap();
        refusals += usize::from(refused(&path, &wanted, &format!("byte {place}")));
        flips += 1;
    }
    println!("{refusals} of {flips} refused, {} bytes", whole.len());
    assert!(refusals > flips / 4, "{refusals} of {flips}");
}

/// The database checks its pages when it is opened. What is damaged later is read and written again with a sound
/// checksum when a neighbor changes: then the object's own digest tells.
#[tokio::test]
async fn a_bit_flipped_under_a_running_store_never_becomes_data() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("objects.redb");
    let whole = sample(&path).await;
    let places: Vec<usize> = places(&whole)
        .into_iter()
        .filter(|place| *place >= PAGE)
        .collect();
    let mut refusals = 0;
    let rounds = places.iter().step_by((places.len() / 60).max(1));
    for place in rounds {
        std::fs::write(&path, &whole).unwrap();
        let store = open(&path);
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[whole[*place] ^ 4], *place as u64).unwrap();
        for n in (0..200).step_by(20) {
            let change = Change::Put(json!({"metadata": {}, "value": n + 1000}));
            // It may fail, and then says so; what was acknowledged must be there.
            let _ = store
                .write(key(&format!("n{n}")), |_| Ok::<_, ()>((change, ())))
                .await;
        }
        let wanted = everything(&store);
        store.close();
        refusals += usize::from(refused(&path, &wanted, &format!("byte {place}")));
    }
    println!("{refusals} refused");
}
