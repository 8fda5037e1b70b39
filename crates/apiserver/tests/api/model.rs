//! Watch = list + events: whatever happens, a client that lists and then follows has what the server has, also when it
//! was too slow and has to list again.

use crate::harness::{Api, CONFIG_MAPS, MERGE, Watch};
use kittiwake_store::ObjectStore;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One change of one of five objects.
#[derive(Debug, Clone)]
enum Change {
    /// It is there, with this label.
    Put { name: u8, on: bool },
    /// It is gone.
    Delete { name: u8 },
}

/// Changes that happen while the client does not look, and whether it then opens a new watch.
#[derive(Debug, Clone)]
struct Burst {
    changes: Vec<Change>,
    reopen: bool,
}

fn any_burst() -> impl Strategy<Value = Burst> {
    let change = prop_oneof![
        3 => (0..5_u8, any::<bool>()).prop_map(|(name, on)| Change::Put { name, on }),
        1 => (0..5_u8).prop_map(|name| Change::Delete { name }),
    ];
    (prop::collection::vec(change, 0..10), any::<bool>())
        .prop_map(|(changes, reopen)| Burst { changes, reopen })
}

async fn change(api: &Api, change: &Change) {
    match change {
        Change::Put { name, on } => {
            let labels = json!({"on": if *on { "yes" } else { "no" }});
            let name = format!("m{name}");
            let object = json!({"metadata": {"name": name, "labels": labels}});
            if api.post(CONFIG_MAPS, &object).await.code == 409 {
                let patch = json!({"metadata": {"labels": labels}});
                let answer = api.patch(&format!("{CONFIG_MAPS}/{name}"), MERGE, &patch).await;
                assert_eq!(answer.code, 200);
            }
        }
        Change::Delete { name } => {
            let answer = api.delete(&format!("{CONFIG_MAPS}/m{name}")).await;
            assert!(matches!(answer.code, 200 | 404));
        }
    }
}

/// A client that lists and watches, as reflectors do.
struct Reflector<'a> {
    api: &'a Api,
    query: &'static str,
    /// Objects by name, with their resource versions.
    state: BTreeMap<String, String>,
    version: u64,
    watch: Option<Watch>,
    relists: usize,
}

fn number(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

fn name_and_version(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap().to_owned();
    (text("name"), text("resourceVersion"))
}

/// A list: its version, and its objects.
async fn listed(api: &Api, query: &str) -> (u64, BTreeMap<String, String>) {
    let list = api.get(&format!("{CONFIG_MAPS}?{query}")).await.json;
    let items = list["items"].as_array().unwrap().iter().map(name_and_version);
    (number(&list), items.collect())
}

impl<'a> Reflector<'a> {
    async fn new(api: &'a Api, query: &'static str) -> Self {
        let mut reflector = Self {
            api,
            query,
            state: BTreeMap::new(),
            version: 0,
            watch: None,
            relists: 0,
        };
        reflector.list().await;
        reflector
    }

    async fn list(&mut self) {
        (self.version, self.state) = listed(self.api, self.query).await;
        self.watch = None;
    }

    /// Reads events until the object `mark` comes.
    async fn follow(&mut self, mark: &str) {
        while !self.state.contains_key(mark) {
            if self.watch.is_none() {
                let path = format!(
                    "{CONFIG_MAPS}?watch=true&resourceVersion={}&{}",
                    self.version, self.query
                );
                self.watch = Some(self.api.watch(&path).await);
            }
            let event = self
                .watch
                .as_mut()
                .unwrap()
                .next()
                .await
                .expect("the watch goes on");
            self.take(&event).await;
        }
    }

    async fn take(&mut self, event: &Value) {
        let object = &event["object"];
        if event["type"] == "ERROR" {
            assert_eq!(
                (&object["code"], &object["reason"]),
                (&json!(410), &json!("Expired"))
            );
            self.relists += 1;
            self.list().await;
            return;
        }
        assert!(number(object) > self.version, "versions rise: {event}");
        self.version = number(object);
        let (name, version) = name_and_version(object);
        let known = self.state.contains_key(&name);
        match event["type"].as_str().unwrap() {
            "ADDED" => assert!(!known, "{event}"),
            kind => assert!(known, "{kind} of what was never there: {event}"),
        }
        if event["type"] == "DELETED" {
            self.state.remove(&name);
        } else {
            self.state.insert(name, version);
        }
    }
}

async fn hold(bursts: Vec<Burst>, events_kept: usize) -> usize {
    let store = ObjectStore::in_memory(kittiwake_store::Config {
        events_kept,
        ..kittiwake_store::Config::default()
    });
    let api = Api::start_with(store).await;
    let queries = [
        "",
        "labelSelector=on%3Dyes",
        "fieldSelector=metadata.name%21%3Dm1",
    ];
    let mut reflectors = Vec::new();
    for query in queries {
        reflectors.push(Reflector::new(&api, query).await);
    }
    for (index, burst) in bursts.iter().enumerate() {
        for one in &burst.changes {
            change(&api, one).await;
        }
        let mark = format!("mark-{index}");
        let object = json!({"metadata": {"name": mark, "labels": {"on": "yes"}}});
        assert_eq!(api.post(CONFIG_MAPS, &object).await.code, 201);
        for reflector in &mut reflectors {
            if burst.reopen {
                reflector.watch = None;
            }
            reflector.follow(&mark).await;
            assert_eq!(
                reflector.state,
                listed(&api, reflector.query).await.1,
                "{}",
                reflector.query
            );
        }
    }
    reflectors.iter().map(|reflector| reflector.relists).sum()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn following_a_list_leads_to_the_next_list(bursts in prop::collection::vec(any_burst(), 1..6), events_kept in 1..20_usize) {
        run(hold(bursts, events_kept));
    }
}

#[test]
fn a_follower_that_is_too_slow_lists_again() {
    let puts = (0..5).map(|name| Change::Put { name, on: true }).collect();
    let burst = Burst {
        changes: puts,
        reopen: false,
    };
    assert!(run(hold(vec![burst], 2)) >= 3);
}
