//! The committer under disks that are slow, full or broken.

use super::*;
use crate::disk::Published;
use crate::error::DiskError;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// A disk whose every commit waits for the test to say how it ends.
struct Scripted {
    started: mpsc::Sender<usize>,
    outcomes: mpsc::Receiver<Result<(), DiskError>>,
}

impl Durable for Scripted {
    fn commit(
        &mut self,
        records: &[Record],
        _version: u64,
        _published: Published<'_>,
    ) -> Result<(), DiskError> {
        let _ = self.started.send(records.len());
        self.outcomes.recv().unwrap_or(Ok(()))
    }
}

struct Script {
    started: mpsc::Receiver<usize>,
    outcomes: mpsc::Sender<Result<(), DiskError>>,
}

fn scripted() -> (ObjectStore, Script) {
    let (started_sender, started) = mpsc::channel();
    let (outcomes, outcomes_receiver) = mpsc::channel();
    let state = State::new(BTreeMap::new(), RESOURCE_VERSION_FIRST, EVENTS_KEPT_MAX);
    let disk = Scripted {
        started: started_sender,
        outcomes: outcomes_receiver,
    };
    let store = ObjectStore::start(state, Box::new(disk), &Config::default()).unwrap();
    (store, Script { started, outcomes })
}

fn full() -> DiskError {
    DiskError::Full {
        path: "objects.redb".into(),
    }
}

fn key(name: &str) -> Key {
    Key::new("things", "default", name)
}

async fn put(store: &ObjectStore, name: &str, value: Value) -> Result<u64, WriteError<&'static str>> {
    let change = Change::Put(json!({"metadata": {"name": name}, "value": value}));
    let (stored, ()) = store.write(key(name), |_| Ok((change, ()))).await?;
    Ok(stored.map(|stored| stored.resource_version).unwrap_or_default())
}

/// Runs other tasks until `count` reaches `wanted`.
async fn until(count: &AtomicUsize, wanted: usize) {
    while count.load(Ordering::SeqCst) < wanted {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn writers_that_come_while_a_commit_runs_share_the_next_one() {
    let (store, script) = scripted();
    let decided = Arc::new(AtomicUsize::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..100 {
        let (store, decided) = (store.clone(), Arc::clone(&decided));
        writers.spawn(async move {
            let decide = |_: Option<&Stored>| {
                decided.fetch_add(1, Ordering::SeqCst);
                Ok::<_, ()>((Change::Put(json!({})), ()))
            };
            store.write(key(&format!("n{n}")), decide).await.map(|_| ())
        });
    }
    until(&decided, 100).await;
    for _ in 0..100 {
        script.outcomes.send(Ok(())).unwrap();
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap().unwrap();
    }
    assert!(store.commits() <= 2, "{} commits", store.commits());
    assert_eq!(store.list("things", None).items.len(), 100);
    assert_eq!(store.resource_version(), 101);
}

#[tokio::test]
async fn nothing_is_visible_before_it_is_durable_but_writers_see_it() {
    let (store, script) = scripted();
    let first = tokio::spawn({
        let store = store.clone();
        async move { put(&store, "a", json!(1)).await }
    });
    let decided = Arc::new(AtomicUsize::new(0));
    let second = tokio::spawn({
        let (store, decided) = (store.clone(), Arc::clone(&decided));
        async move {
            let decide = |current: Option<&Stored>| {
                let seen = current.map(|stored| stored.object.tree()["value"].clone());
                decided.fetch_add(1, Ordering::SeqCst);
                Err::<(Change, ()), _>(seen)
            };
            store.write(key("a"), decide).await
        }
    });
    until(&decided, 1).await;
    assert_eq!(store.get(&key("a")), None);
    assert_eq!(store.resource_version(), 1);
    assert!(
        !first.is_finished() && !second.is_finished(),
        "a refusal waits for what it was based on"
    );
    script.outcomes.send(Ok(())).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), 2);
    assert!(matches!(second.await.unwrap(), Err(WriteError::Refused(Some(seen))) if seen == json!(1)));
    assert_eq!(store.get(&key("a")).unwrap().object.tree()["value"], json!(1));
}

#[tokio::test]
async fn a_failed_commit_fails_its_writes_and_those_built_on_them_and_nothing_else() {
    let (store, script) = scripted();
    script.outcomes.send(Ok(())).unwrap();
    put(&store, "a", json!("old")).await.unwrap();
    script.started.recv().unwrap();
    let mut watcher = store.watch("things", store.resource_version()).unwrap();

    let doomed = tokio::spawn({
        let store = store.clone();
        async move { put(&store, "a", json!("doomed")).await }
    });
    let started = tokio::task::spawn_blocking(move || {
        assert_eq!(script.started.recv().unwrap(), 1);
        script
    });
    let script = started.await.unwrap();
    let decided = Arc::new(AtomicUsize::new(0));
    let dependent = tokio::spawn({
        let (store, decided) = (store.clone(), Arc::clone(&decided));
        async move {
            let decide = |current: Option<&Stored>| {
                assert_eq!(current.unwrap().object.tree()["value"], json!("doomed"));
                decided.fetch_add(1, Ordering::SeqCst);
                Ok::<_, ()>((Change::Delete, ()))
            };
            store.write(key("a"), decide).await
        }
    });
    until(&decided, 1).await;
    script.outcomes.send(Err(full())).unwrap();

    let error = doomed.await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "not stored: the disk that holds objects.redb is full; free some space, then try again"
    );
    assert!(matches!(dependent.await.unwrap(), Err(WriteError::Disk(_))));
    assert_eq!(
        store.get(&key("a")).unwrap().object.tree()["value"],
        json!("old"),
        "reads go on"
    );

    script.outcomes.send(Ok(())).unwrap();
    let version = put(&store, "a", json!("new")).await.unwrap();
    assert_eq!(version, 5, "the versions of failed writes are never used again");
    let event = watcher.next().await.unwrap();
    assert_eq!(
        (
            event.object.resource_version,
            &event.previous.unwrap().tree()["value"]
        ),
        (5, &json!("old"))
    );
}

#[tokio::test]
async fn a_store_whose_committer_is_gone_says_so() {
    struct Broken;
    impl Durable for Broken {
        fn commit(&mut self, _: &[Record], _: u64, _: Published<'_>) -> Result<(), DiskError> {
            panic!("a defect in the disk")
        }
    }
    let state = State::new(BTreeMap::new(), 1, 10);
    let store = ObjectStore::start(state, Box::new(Broken), &Config::default()).unwrap();
    assert!(matches!(
        put(&store, "a", json!(1)).await,
        Err(WriteError::Closed)
    ));
    assert!(matches!(
        put(&store, "a", json!(1)).await,
        Err(WriteError::Closed)
    ));
    assert!(store.list("things", None).items.is_empty());
}
