//! A list and the events after it give the state, whatever happens in between.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what went wrong by panicking"
)]

use kittiwake_store::{
    Change, Config, Event, EventKind, Key, ObjectStore, Snapshot, Stored, WatchError, Watcher,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const RESOURCES: [&str; 2] = ["things", "others"];

#[derive(Debug, Clone)]
enum Op {
    Put {
        resource: usize,
        name: u8,
        value: u8,
    },
    Delete {
        resource: usize,
        name: u8,
    },
    Keep {
        resource: usize,
        name: u8,
    },
    /// A client lists and begins to watch.
    Watch {
        resource: usize,
    },
    /// Every watcher takes what there is.
    CatchUp,
}

fn op() -> impl Strategy<Value = Op> {
    let place = (0..RESOURCES.len(), 0..6u8);
    prop_oneof![
        6 => (place.clone(), any::<u8>()).prop_map(|((resource, name), value)| Op::Put { resource, name, value }),
        3 => place.clone().prop_map(|(resource, name)| Op::Delete { resource, name }),
        1 => place.prop_map(|(resource, name)| Op::Keep { resource, name }),
        1 => (0..RESOURCES.len()).prop_map(|resource| Op::Watch { resource }),
        1 => Just(Op::CatchUp),
    ]
}

/// A client's copy of one resource, kept by list and watch alone.
struct Mirror {
    resource: &'static str,
    objects: BTreeMap<Key, Stored>,
    watcher: Watcher,
    version: u64,
}

impl Mirror {
    fn start(store: &ObjectStore, resource: &'static str) -> Self {
        let Snapshot {
            items,
            resource_version,
        } = store.list(resource, None);
        Self {
            resource,
            objects: items
                .into_iter()
                .map(|stored| (stored.key.clone(), stored))
                .collect(),
            watcher: store.watch(resource, resource_version).unwrap(),
            version: resource_version,
        }
    }

    /// Takes every event up to the store's version.
    async fn catch_up(&mut self, store: &ObjectStore) {
        let wanted = store.list(self.resource, None);
        while self.objects.values().cloned().collect::<Vec<_>>() != wanted.items
            || self.watcher.bookmark() < wanted.items.iter().map(|i| i.resource_version).max().unwrap_or(0)
        {
            let event = self.watcher.next().await.unwrap();
            self.apply(event);
        }
    }

    fn apply(&mut self, event: Event) {
        let version = event.object.resource_version;
        assert!(version > self.version, "versions rise");
        assert!(self.watcher.bookmark() >= version);
        self.version = version;
        let key = event.object.key.clone();
        assert_eq!(&*key.resource, self.resource);
        assert_eq!(
            event.object.object.tree()["metadata"]["resourceVersion"],
            json!(version.to_string())
        );
        let before = match event.kind {
            EventKind::Deleted => self.objects.remove(&key),
            EventKind::Added | EventKind::Modified => self.objects.insert(key, event.object),
        };
        assert_eq!(before.is_some(), event.kind != EventKind::Added);
        assert_eq!(event.previous, before.map(|stored| stored.object));
    }
}

async fn change(store: &ObjectStore, resource: usize, name: u8, change: Change) -> Option<Stored> {
    let key = Key::new(RESOURCES[resource], format!("ns{}", name % 2), format!("n{name}"));
    store.write(key, |_| Ok::<_, ()>((change, ()))).await.unwrap().0
}

async fn run(ops: Vec<Op>) {
    let store = ObjectStore::in_memory(Config::default());
    let mut model = BTreeMap::<(usize, u8), u8>::new();
    let mut mirrors = vec![Mirror::start(&store, RESOURCES[0])];
    for op in ops {
        match op {
            Op::Put {
                resource,
                name,
                value,
            } => {
                change(
                    &store,
                    resource,
                    name,
                    Change::Put(json!({"metadata": {}, "value": value})),
                )
                .await;
                model.insert((resource, name), value);
            }
            Op::Delete { resource, name } => {
                let gone = change(&store, resource, name, Change::Delete).await;
                assert_eq!(gone.is_some(), model.remove(&(resource, name)).is_some());
            }
            Op::Keep { resource, name } => {
                let version = store.resource_version();
                change(&store, resource, name, Change::Keep).await;
                assert_eq!(store.resource_version(), version);
            }
            Op::Watch { resource } => mirrors.push(Mirror::start(&store, RESOURCES[resource])),
            Op::CatchUp => {
                for mirror in &mut mirrors {
                    mirror.catch_up(&store).await;
                }
            }
        }
    }
    for mirror in &mut mirrors {
        mirror.catch_up(&store).await;
    }
    let values = |(resource, objects): (usize, Vec<Stored>)| {
        objects
            .into_iter()
            .map(move |s| {
                (
                    (resource, s.key.name.to_string()),
                    s.object.tree()["value"].clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    let stored: BTreeMap<_, Value> = (0..RESOURCES.len())
        .map(|r| (r, store.list(RESOURCES[r], None).items))
        .flat_map(values)
        .collect();
    let wanted: BTreeMap<_, Value> = model
        .into_iter()
        .map(|((r, name), v)| ((r, format!("n{name}")), json!(v)))
        .collect();
    assert_eq!(stored, wanted);
}

proptest! {
    #[test]
    fn list_and_watch_reproduce_the_state(ops in prop::collection::vec(op(), 0..120)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(ops));
    }
}

#[tokio::test]
async fn a_watcher_that_sleeps_too_long_is_told_and_costs_nothing() {
    let store = ObjectStore::in_memory(Config {
        events_kept: 10,
        ..Config::default()
    });
    let start = store.resource_version();
    let mut slow = store.watch("things", start).unwrap();
    for n in 0..11 {
        change(&store, 0, 0, Change::Put(json!({"n": n}))).await;
    }
    assert_eq!(slow.next().await, Err(WatchError::Lagged));
    let expired = store.watch("things", start).unwrap_err();
    assert_eq!(
        (expired.requested, expired.oldest, expired.newest),
        (start, start + 1, start + 11)
    );
    let mut again = store.watch("things", expired.oldest).unwrap();
    for n in 1..11 {
        assert_eq!(again.next().await.unwrap().object.object.tree()["n"], json!(n));
    }
}

#[tokio::test]
async fn one_write_wakes_every_watcher_and_dropping_the_store_ends_them() {
    let store = ObjectStore::in_memory(Config::default());
    let barrier = Arc::new(tokio::sync::Barrier::new(21));
    let mut watchers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let mut watcher = store.watch("things", store.resource_version()).unwrap();
        let barrier = Arc::clone(&barrier);
        watchers.spawn(async move {
            barrier.wait().await;
            (watcher.next().await, watcher.next().await)
        });
    }
    barrier.wait().await;
    change(&store, 1, 0, Change::Put(json!({}))).await;
    change(&store, 0, 0, Change::Put(json!({}))).await;
    drop(store);
    while let Some(seen) = watchers.join_next().await {
        let (event, end) = seen.unwrap();
        assert_eq!(event.unwrap().kind, EventKind::Added);
        assert_eq!(end, Err(WatchError::Closed));
    }
}

#[tokio::test]
async fn bookmarks_pass_over_other_resources() {
    let store = ObjectStore::in_memory(Config::default());
    let mut watcher = store.watch("things", store.resource_version()).unwrap();
    change(&store, 0, 0, Change::Put(json!({}))).await;
    change(&store, 0, 1, Change::Put(json!({}))).await;
    for n in 0..5 {
        change(&store, 1, n, Change::Put(json!({}))).await;
    }
    assert_eq!(watcher.bookmark(), 1, "nothing was handed out");
    let first = watcher.next().await.unwrap();
    assert_eq!((first.object.resource_version, watcher.bookmark()), (2, 2));
    watcher.next().await.unwrap();
    assert_eq!(watcher.bookmark(), store.resource_version());
}
