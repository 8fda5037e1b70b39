//! An API server and the controllers, in this process, with virtual time.

use crate::artifacts::Artifacts;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Event};
use kittiwake_api::condition::find;
use kittiwake_controllers::{Config, Handle, Inputs};
use kittiwake_core::clock::Clock;
use kittiwake_core::log::LogHub;
use kittiwake_core::report::{self, Health, Report, Reporter};
use kittiwake_core::revision::RevisionKey;
use kittiwake_core::routing_table::RoutingTable;
use kittiwake_core::scale::{self, StatsSender};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Longest wait of a test for something that must happen, in virtual time.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// Virtual time in which nothing is expected to happen any more.
const QUIET: Duration = Duration::from_secs(5);

/// A clock that goes with tokio's.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_750_000_000).unwrap() + self.elapsed()
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

pub struct Platform {
    pub client: Client,
    /// What the API server keeps: to write what it would refuse.
    pub store: kittiwake_store::ObjectStore,
    pub artifacts: Arc<Artifacts>,
    pub external_port: Option<u16>,
    pub https_external_port: Option<u16>,
    clock: Arc<dyn Clock>,
    logs: Arc<LogHub>,
    handle: Handle,
    reporter: Reporter,
    pub stats: StatsSender,
    shutdown: CancellationToken,
}

/// What every kind in these tests can do.
pub trait Kind:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

impl Platform {
    pub async fn start() -> Self {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock(Instant::now()));
        let logs = Arc::new(LogHub::new(Arc::clone(&clock)));
        let store = kittiwake_store::ObjectStore::in_memory(kittiwake_store::Config::default());
        let inputs = kittiwake_apiserver::Inputs {
            store: store.clone(),
            crds: kittiwake_api::crd::all(),
            clock: Arc::clone(&clock),
            logs: Arc::clone(&logs),
            instances: Arc::default(),
        };
        let (apiserver, task) =
            kittiwake_apiserver::build(kittiwake_apiserver::Config::default(), inputs).unwrap();
        tokio::spawn(task);
        let client = Client::new(apiserver.router(), "default");
        let artifacts = Arc::new(Artifacts::default());
        let external_port = Some(8080);
        let (handle, reporter, stats, shutdown) =
            controllers(&client, &artifacts, &clock, &logs, (external_port, None));
        let mut platform = Self {
            client,
            store,
            artifacts,
            external_port,
            https_external_port: None,
            clock,
            logs,
            handle,
            reporter,
            stats,
            shutdown,
        };
        platform.handle.synced().await;
        platform
    }

    /// Ends the controllers and starts new ones, which know nothing.
    pub async fn restart(&mut self) {
        self.shutdown.cancel();
        let (handle, reporter, stats, shutdown) = controllers(
            &self.client,
            &self.artifacts,
            &self.clock,
            &self.logs,
            (self.external_port, self.https_external_port),
        );
        (self.handle, self.reporter, self.stats, self.shutdown) = (handle, reporter, stats, shutdown);
        self.handle.synced().await;
    }

    /// Sets keys of one of the platform's ConfigMaps; `null` takes one away.
    pub async fn set(&self, map: &str, data: Value) -> Result<(), String> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), "knative-serving");
        let patch = Patch::Merge(json!({ "data": data }));
        match api.patch(map, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Lets everything that was begun come to its end.
    pub async fn settle(&self) {
        tokio::time::sleep(QUIET).await;
    }

    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), "default")
    }

    pub async fn create<K: Kind>(&self, object: Value) -> K {
        let object: K = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    pub async fn merge<K: Kind>(&self, name: &str, patch: Value) -> K {
        self.api()
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap()
    }

    pub async fn get<K: Kind>(&self, name: &str) -> K {
        self.api().get(name).await.unwrap()
    }

    pub async fn names<K: Kind>(&self) -> Vec<String> {
        self.api::<K>()
            .list(&ListParams::default())
            .await
            .unwrap()
            .iter()
            .map(ResourceExt::name_any)
            .collect()
    }

    /// The object once it is as wished.
    pub async fn wait<K: Kind>(&self, name: &str, wish: impl Fn(&K) -> bool) -> K {
        let found = await_condition(self.api::<K>(), name, |object: Option<&K>| {
            object.is_some_and(&wish)
        });
        match tokio::time::timeout(WAIT_MAX, found).await {
            Ok(found) => found.unwrap().unwrap(),
            Err(_) => {
                let object = self.api::<K>().get_opt(name).await.unwrap();
                panic!(
                    "{} {name} never came to be as wished: {}",
                    K::kind(&()),
                    serde_json::to_string_pretty(&object).unwrap()
                )
            }
        }
    }

    pub async fn wait_until_gone<K: Kind>(&self, name: &str) {
        let gone = await_condition(self.api::<K>(), name, |object: Option<&K>| object.is_none());
        tokio::time::timeout(WAIT_MAX, gone)
            .await
            .expect("it goes")
            .unwrap();
    }

    pub async fn wait_for_event(&self, reason: &str) {
        self.wait_for_event_in("default", reason).await;
    }

    pub async fn wait_for_event_in(&self, namespace: &str, reason: &str) {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let events = watcher(api, watcher::Config::default()).applied_objects();
        let found = futures::StreamExt::any(Box::pin(events), async |event| {
            event.is_ok_and(|event| event.reason.as_deref() == Some(reason))
        });
        let found = tokio::time::timeout(WAIT_MAX, found).await;
        assert_eq!(found, Ok(true), "an Event {reason} was told");
    }

    pub async fn report(&self, revision: &str, health: Health) {
        let object = self.get::<kittiwake_api::serving::Revision>(revision).await;
        let report = Report {
            revision: RevisionKey::new("default", revision),
            uid: object.uid().unwrap().into(),
            health,
        };
        assert!(self.reporter.report(report));
    }

    pub fn table(&self) -> Arc<RoutingTable> {
        Arc::clone(&self.handle.routing_table().borrow())
    }

    /// How many instances of a revision there shall be; `None` before that was decided.
    pub async fn wanted(&self, revision: &str) -> Option<u32> {
        let uid = self
            .get::<kittiwake_api::serving::Revision>(revision)
            .await
            .uid()
            .unwrap();
        let table = self.handle.scale_table();
        let table = table.borrow();
        table.0.get(uid.as_str()).map(|wanted| wanted.here)
    }

    pub async fn wait_for_table(&self, wish: impl Fn(&RoutingTable) -> bool) {
        let mut table = self.handle.routing_table();
        let waited = tokio::time::timeout(WAIT_MAX, table.wait_for(|table| wish(table))).await;
        assert!(
            matches!(waited, Ok(Ok(_))),
            "the routing table came to be as wished"
        );
    }

    /// `a:70 b:30` of a host.
    pub fn split(&self, host: &str) -> String {
        let table = self.table();
        let entry = table.lookup(host).unwrap_or_else(|| panic!("{host} is routed"));
        entry
            .targets
            .iter()
            .map(|t| format!("{}:{}", t.revision.key.name, t.percent))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

fn controllers(
    client: &Client,
    artifacts: &Arc<Artifacts>,
    clock: &Arc<dyn Clock>,
    logs: &Arc<LogHub>,
    (external_port, https_external_port): (Option<u16>, Option<u16>),
) -> (Handle, Reporter, StatsSender, CancellationToken) {
    let (reporter, reports) = report::channel();
    let (stats_sender, stats) = scale::channel();
    // Nobody changes the settings.
    let shutdown = CancellationToken::new();
    let inputs = Inputs {
        client: client.clone(),
        prepare: Arc::clone(artifacts) as _,
        reports,
        stats,
        gateways: Arc::new(kittiwake_core::routing_table::InThisProcess),
        clock: Arc::clone(clock),
        logs: Arc::clone(logs),
        registry: prometheus::Registry::new(),
        shutdown: shutdown.clone(),
    };
    let config = Config {
        external_port,
        https_external_port,
        ..Config::default()
    };
    let (handle, task) = kittiwake_controllers::build(config, inputs).unwrap();
    tokio::spawn(task);
    (handle, reporter, stats_sender, shutdown)
}

/// A Service as a user writes it.
pub fn service(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": { "name": name },
        "spec": {
            "template": { "spec": { "containers": [{ "name": "user-container", "image": image }] } },
            "traffic": [{ "latestRevision": true, "percent": 100 }],
        },
    })
}

/// A merge patch that sets the image.
pub fn image(image: &str) -> Value {
    json!({ "spec": { "template": { "spec": { "containers": [{ "name": "user-container", "image": image }] } } } })
}

fn field<K: Kind>(object: &K, type_: &str, field: &str) -> String {
    let value = serde_json::to_value(object).unwrap();
    let conditions: Vec<kittiwake_api::condition::Condition> =
        serde_json::from_value(value["status"]["conditions"].clone()).unwrap_or_default();
    let condition = find(&conditions, type_).map(|condition| serde_json::to_value(condition).unwrap());
    condition
        .and_then(|c| c[field].as_str().map(str::to_owned))
        .unwrap_or_default()
}

pub fn condition<K: Kind>(object: &K, type_: &str) -> String {
    field(object, type_, "status")
}

pub fn reason<K: Kind>(object: &K, type_: &str) -> String {
    field(object, type_, "reason")
}

pub fn message<K: Kind>(object: &K, type_: &str) -> String {
    field(object, type_, "message")
}

/// Whether an object is ready in its newest generation.
pub fn ready<K: Kind>(object: &K) -> bool {
    let value = serde_json::to_value(object).unwrap();
    condition(object, "Ready") == "True"
        && value["status"]["observedGeneration"] == value["metadata"]["generation"]
}
