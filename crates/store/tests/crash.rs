//! SIGKILL at random moments under concurrent writers: what was acknowledged is there or was superseded, what was
//! deleted stays deleted, and the resource version never goes back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

use kittiwake_store::{Change, Config, Encryption, Key, Keyring, ObjectStore};
use serde_json::json;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Names the file to the child; when it is set, this test binary is the child.
const FILE: &str = "KITTIWAKE_STORE_CRASH_FILE";
/// The first operation of the child's writers.
const START: &str = "KITTIWAKE_STORE_CRASH_START";
/// How often the child is killed, where something else is wanted than [`KILLS`].
const KILLS_WANTED: &str = "KITTIWAKE_TEST_KILLS";
const KILLS: u64 = 100;
const WRITERS: u64 = 8;
/// Objects of each writer; it goes from one to the next. Some writers share a namespace.
const NAMES: u64 = 5;
/// Operations of one round are numbered from the round times this.
const ROUND: u64 = 1_000_000;

/// The object that operation `n` of a writer is about. Secrets are encrypted, things are not.
fn key(writer: u64, n: u64) -> Key {
    let resource = if writer.is_multiple_of(4) {
        "secrets"
    } else {
        "things"
    };
    let namespace = format!("ns{}", writer % 3);
    Key::new(resource, namespace, format!("w{writer}-{}", n % NAMES))
}

/// What operation `n` leaves: every third deletes, the others create or replace and put their number.
fn effect(n: u64) -> Option<u64> {
    (n % 3 != 2).then_some(n)
}

fn config() -> Config {
    let keys = Keyring::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    Config {
        encryption: Some(Arc::new(Encryption::of_secrets(keys))),
        ..Config::default()
    }
}

/// Not a test of its own: the process that gets killed. It never ends by itself.
#[test]
fn child() {
    let (Ok(file), Ok(start)) = (std::env::var(FILE), std::env::var(START)) else {
        return;
    };
    let start: u64 = start.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let store = ObjectStore::open(Path::new(&file), config()).unwrap();
    println!("\nopen {}", store.resource_version());
    runtime.block_on(async {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let store = store.clone();
            writers.spawn(async move {
                for n in start.. {
                    let change = effect(n).map_or(Change::Delete, |n| {
                        Change::Put(json!({"n": n, "pad": "x".repeat(3000)}))
                    });
                    let written = store.write(key(writer, n), |_| Ok::<_, ()>((change, ())));
                    let (stored, ()) = written.await.unwrap();
                    let version = stored.map_or(0, |stored| stored.resource_version);
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "ack {writer} {n} {version} {}", store.resource_version()).unwrap();
                    out.flush().unwrap();
                }
            });
        }
        while writers.join_next().await.is_some() {}
    });
}

/// What a child told before it was killed.
#[derive(Default)]
struct Told {
    /// Last acknowledged operation of each writer.
    last: HashMap<u64, u64>,
    /// All versions of acknowledged writes.
    versions: Vec<u64>,
    /// The highest version that a reader could have seen.
    newest: u64,
    /// The version when the child had opened the store.
    opened: u64,
}

/// Runs a child until it acknowledged `acknowledgements` writes, waits a moment that is not tied to any write, kills it,
/// and returns what it told.
fn kill_after(file: &Path, start: u64, acknowledgements: usize, moment: Duration) -> Told {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .env(START, start.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut told = Told::default();
    let (mut seen, mut line) = (0, String::new());
    let mut killer = None;
    // After the kill the pipe still holds what the child said before; only a line cut in the middle does not count.
    while lines.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        if let Some(version) = line.strip_prefix("open ") {
            told.opened = version.trim().parse().unwrap();
        }
        if let Some(rest) = line.strip_prefix("ack ") {
            let numbers: Vec<u64> = rest.split_whitespace().map(|n| n.parse().unwrap()).collect();
            told.last.insert(numbers[0], numbers[1]);
            told.versions
                .extend(Some(numbers[2]).filter(|version| *version > 0));
            told.newest = told.newest.max(numbers[3]);
            seen += 1;
            if seen == acknowledgements {
                let id = child.id();
                killer = Some(std::thread::spawn(move || {
                    std::thread::sleep(moment);
                    let killed = Command::new("kill").args(["-KILL", &id.to_string()]).status();
                    assert!(killed.unwrap().success());
                }));
            }
        }
        line.clear();
    }
    killer.expect("the child ended by itself").join().unwrap();
    child.wait().unwrap();
    told
}

#[test]
fn acknowledged_writes_survive_being_killed() {
    let kills = std::env::var(KILLS_WANTED).map_or(KILLS, |kills| kills.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("objects.redb");
    let mut random: u64 = 7;
    // What each object was found to be after the last kill, and the version of the store.
    let mut found_before: HashMap<Key, Option<u64>> = HashMap::new();
    let mut version_before = 0;
    for round in 1..=kills {
        // A linear congruential generator (Knuth, MMIX): the moments differ, and are the same in every run.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let acknowledgements = 1 + usize::try_from((random >> 33) % 100).unwrap();
        let moment = Duration::from_micros((random >> 20) % 5000);
        let start = round * ROUND;
        let told = kill_after(&file, start, acknowledgements, moment);
        assert!(
            told.opened >= version_before,
            "round {round}: a client saw version {version_before}, then {}",
            told.opened
        );
        assert!(
            told.versions.iter().all(|version| *version > version_before),
            "round {round}: a version was used twice"
        );

        let store = ObjectStore::open(&file, config()).unwrap();
        assert!(
            store.resource_version() >= told.newest.max(version_before),
            "round {round}: the version went back"
        );
        version_before = store.resource_version();
        for writer in 0..WRITERS {
            let next = told.last.get(&writer).map_or(start, |last| last + 1);
            for place in 0..NAMES {
                // The last acknowledged operation on this object, else what was found before; and the one after the
                // last acknowledged, which may have been under way, and may or may not have made it.
                let key = key(writer, place);
                let acknowledged = (start..next).rev().find(|n| n % NAMES == place);
                let expected = match acknowledged {
                    Some(n) => effect(n),
                    None => found_before.get(&key).copied().flatten(),
                };
                let found = store
                    .get(&key)
                    .map(|stored| stored.object.tree()["n"].as_u64().unwrap());
                let in_flight = next % NAMES == place && found == effect(next);
                assert!(
                    found == expected || in_flight,
                    "round {round}, {key}: {found:?}, expected {expected:?}, {next} was under way"
                );
                found_before.insert(key, found);
            }
        }
        let count = store.list("things", None).items.len() + store.list("secrets", None).items.len();
        let known = found_before.values().flatten().count();
        assert_eq!(count, known, "round {round}: objects that nobody made");
    }
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.len() < 64 << 20, "the file grew to {} bytes", bytes.len());
}
