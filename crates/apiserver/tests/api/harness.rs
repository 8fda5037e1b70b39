//! An API server in memory, and short ways to talk to it.

use axum::body::{Body, BodyDataStream};
use futures::StreamExt;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kittiwake_apiserver::auth::{self, TokenFile};
use kittiwake_apiserver::{Config, Handle, Inputs, build};
use kittiwake_core::clock::ManualClock;
use kittiwake_core::instances::InstanceHub;
use kittiwake_core::log::LogHub;
use kittiwake_store::ObjectStore;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tower::ServiceExt;

/// Longest time that a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Made once: it takes longer than most tests.
static CRDS: OnceLock<Vec<CustomResourceDefinition>> = OnceLock::new();

pub struct Api {
    pub handle: Handle,
    pub clock: Arc<ManualClock>,
    pub logs: Arc<LogHub>,
    pub instances: Arc<InstanceHub>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub headers: HeaderMap,
    pub json: Value,
    pub text: String,
}

impl Answer {
    pub fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn warnings(&self) -> Vec<&str> {
        self.headers
            .get_all("warning")
            .iter()
            .map(|value| value.to_str().unwrap())
            .collect()
    }

    pub fn version(&self) -> &str {
        self.json["metadata"]["resourceVersion"].as_str().unwrap()
    }
}

pub const SERVICES: &str = "/apis/serving.knative.dev/v1/namespaces/default/services";
pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub const JSON: &str = "application/json";
pub const MERGE: &str = "application/merge-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

impl Api {
    /// A server that has started: its namespaces are there and its background task runs.
    pub async fn start() -> Self {
        Self::start_with(ObjectStore::in_memory(kittiwake_store::Config::default())).await
    }

    /// The same over a store of the test's own.
    pub async fn start_with(store: ObjectStore) -> Self {
        Self::start_guarded(store, auth::Config::default()).await
    }

    /// The same with settings of who is believed.
    pub async fn start_guarded(store: ObjectStore, auth: auth::Config) -> Self {
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let logs = Arc::new(LogHub::new(clock.clone()));
        let instances = Arc::new(InstanceHub::default());
        let inputs = Inputs {
            store,
            crds: CRDS.get_or_init(kittiwake_api::crd::all).clone(),
            clock: clock.clone(),
            logs: logs.clone(),
            instances: instances.clone(),
        };
        let config = Config {
            namespace_purge_delay: Duration::ZERO,
            auth,
            ..Config::default()
        };
        let (handle, task) = build(config, inputs).unwrap();
        tokio::spawn(task);
        let api = Self {
            handle,
            clock,
            logs,
            instances,
        };
        api.until("/readyz", |answer| answer.code == 200).await;
        api
    }

    /// A server that believes the tokens of these users: `(token, user, groups)`.
    pub async fn with_users(users: &[(&str, &str, &str)]) -> Self {
        let lines: Vec<String> = users
            .iter()
            .map(|(token, user, groups)| format!("{token},{user},u-{user},\"{groups}\""))
            .collect();
        let auth = auth::Config {
            tokens: TokenFile::parse(&lines.join("\n")).unwrap(),
            ..auth::Config::default()
        };
        Self::start_guarded(ObjectStore::in_memory(kittiwake_store::Config::default()), auth).await
    }

    /// A request from outside, with a bearer token unless that is empty.
    pub async fn ask(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let content_type = if method == "PATCH" { MERGE } else { JSON };
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            Body::from(body.to_string())
        };
        self.ask_with(request.body(body).unwrap()).await
    }

    /// A request from outside.
    pub async fn ask_with(&self, request: Request<Body>) -> Answer {
        let guarded = self.handle.guarded(axum::Router::new());
        Self::read(guarded.oneshot(request).await.unwrap()).await
    }

    pub async fn request(&self, request: Request<Body>) -> Answer {
        Self::read(self.handle.router().oneshot(request).await.unwrap()).await
    }

    async fn read(response: axum::response::Response) -> Answer {
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer {
            code: head.status.as_u16(),
            headers: head.headers,
            json,
            text,
        }
    }

    pub async fn send(&self, method: &str, path: &str, content_type: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type);
        self.request(request.body(body.into()).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.accept(path, JSON).await
    }

    pub async fn accept(&self, path: &str, accept: &str) -> Answer {
        self.request(
            Request::get(path)
                .header("accept", accept)
                .body(Body::empty())
                .unwrap(),
        )
        .await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, JSON, body.to_string()).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send("PUT", path, JSON, body.to_string()).await
    }

    pub async fn patch(&self, path: &str, content_type: &str, body: &Value) -> Answer {
        self.send("PATCH", path, content_type, body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, JSON, "").await
    }

    /// Asks again until the answer is as wanted: for what background tasks do.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let asking = async {
            loop {
                let answer = self.get(path).await;
                if wanted(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking)
            .await
            .unwrap_or_else(|_| panic!("{path} never became as wanted"))
    }

    pub async fn watch(&self, path: &str) -> Watch {
        let request = Request::get(path)
            .header("accept", JSON)
            .body(Body::empty())
            .unwrap();
        let response = self.handle.router().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        Watch {
            stream: response.into_body().into_data_stream(),
            buffer: Vec::new(),
        }
    }

    pub fn client(&self) -> kube::Client {
        kube::Client::new(self.handle.router(), "default")
    }
}

/// A store's file, gone when the test ends.
pub struct StoreFile(PathBuf);

impl StoreFile {
    pub fn new(test: &str) -> Self {
        let file = format!("{test}-{}.redb", std::process::id());
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(file))
    }

    pub fn open(&self) -> ObjectStore {
        ObjectStore::open(&self.0, kittiwake_store::Config::default()).unwrap()
    }
}

impl Drop for StoreFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Events of a watch, one by one.
pub struct Watch {
    stream: BodyDataStream,
    buffer: Vec<u8>,
}

impl Watch {
    /// The next event; `None` when the stream ended.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let chunk = tokio::time::timeout(PATIENCE, self.stream.next())
                .await
                .expect("an event comes")?;
            self.buffer.extend_from_slice(&chunk.unwrap());
        }
    }

    /// The next event, however long it takes: for tests whose time is paused.
    pub async fn next_patiently(&mut self) -> Option<Value> {
        let chunk = self.stream.next().await?.unwrap();
        Some(serde_json::from_slice(&chunk).unwrap())
    }

    /// Type and name of the next event.
    pub async fn step(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch goes on");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}

pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"template": {"spec": {"containers": [{"image": "example.com/hello:v1"}]}}},
    })
}

pub fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

pub fn step(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}
