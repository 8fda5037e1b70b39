//! SIGKILL at random moments: what was acknowledged is there, what was deleted stays deleted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

use kittiwake_store::{Change, Config, Key, ObjectStore};
use serde_json::json;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// Names the file to the child; when it is set, this test binary is the child.
const FILE: &str = "KITTIWAKE_STORE_CRASH_FILE";
/// The first operation of the child's writers.
const START: &str = "KITTIWAKE_STORE_CRASH_START";
const KILLS: u64 = 20;
const WRITERS: u64 = 8;
/// Operations of one round are numbered from the round times this.
const ROUND: u64 = 1_000_000;

/// What operation `n` leaves: every third deletes, the others put their number.
fn effect(n: u64) -> Option<u64> {
    (n % 3 != 2).then_some(n)
}

fn key(writer: u64) -> Key {
    Key::new("things", "", format!("w{writer}"))
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
    let store = ObjectStore::open(Path::new(&file), Config::default()).unwrap();
    println!();
    runtime.block_on(async {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let store = store.clone();
            writers.spawn(async move {
                for n in start.. {
                    let change = effect(n).map_or(Change::Delete, |n| {
                        Change::Put(json!({"n": n, "pad": "x".repeat(3000)}))
                    });
                    store
                        .write(key(writer), |_| Ok::<_, ()>((change, ())))
                        .await
                        .unwrap();
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "ack {writer} {n} {}", store.resource_version()).unwrap();
                    out.flush().unwrap();
                }
            });
        }
        while writers.join_next().await.is_some() {}
    });
}

/// Runs a child until it acknowledged `acknowledgements` writes, kills it, and returns the last acknowledged operation
/// of each writer and the highest version told.
fn kill_after(file: &Path, start: u64, acknowledgements: u64) -> (HashMap<u64, u64>, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .env(START, start.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let (mut last, mut version, mut seen) = (HashMap::new(), 0, 0);
    let mut line = String::new();
    // After the kill the pipe still holds what the child said before; only a line cut in the middle does not count.
    while lines.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
        if let Some(rest) = line.strip_prefix("ack ") {
            let numbers: Vec<u64> = rest.split_whitespace().map(|n| n.parse().unwrap()).collect();
            last.insert(numbers[0], numbers[1]);
            version = version.max(numbers[2]);
            seen += 1;
            if seen == acknowledgements {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    child.wait().unwrap();
    assert!(seen >= acknowledgements, "the child ended by itself");
    (last, version)
}

#[test]
fn acknowledged_writes_survive_being_killed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("objects.redb");
    let mut random: u64 = 7;
    let mut values: HashMap<u64, Option<u64>> = HashMap::new();
    let mut version_before = 0;
    for round in 1..=KILLS {
        // A linear congruential generator (Knuth, MMIX): the moments differ, and are the same in every run.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let acknowledgements = 1 + (random >> 33) % 150;
        let start = round * ROUND;
        let (last, told) = kill_after(&file, start, acknowledgements);

        let store = ObjectStore::open(&file, Config::default()).unwrap();
        assert!(
            store.resource_version() >= told.max(version_before),
            "round {round}: the version went back"
        );
        version_before = store.resource_version();
        for writer in 0..WRITERS {
            let found = store
                .get(&key(writer))
                .map(|stored| stored.object.tree()["n"].as_u64().unwrap());
            // One more operation may have been under way, and may or may not have made it.
            let allowed = match last.get(&writer) {
                Some(n) => [effect(*n), effect(n + 1)],
                None => [values.get(&writer).copied().flatten(), effect(start)],
            };
            assert!(
                allowed.contains(&found),
                "round {round}, writer {writer}: {found:?}, allowed {allowed:?}"
            );
            values.insert(writer, found);
        }
    }
}
