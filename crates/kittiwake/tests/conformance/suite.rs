//! A platform, and the words in which the suites speak of it.

use http::{Method, StatusCode};
use kittiwake::client::{ApiError, Connection, is_status};
use kittiwake::config::Config;
use kittiwake_testkit::http::Answer;
use kittiwake_testkit::platform::{PATIENCE, TestPlatform, condition};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The sentences of Knative's images.
pub const PIZZA_PLANET_1: &str = "What a spaceport!";
pub const PIZZA_PLANET_2: &str = "Re-energize yourself with a slice of pepperoni!";
pub const HELLO_WORLD: &str = "Hello World! How about some tasty noodles?";
/// Stands for the plural of Kubernetes' own Services, which is that of Knative's as well.
pub const KUBERNETES_SERVICES: &str = "services of Kubernetes";
/// Calls with which a split is checked, and the share that each side of 50 to 50 has at least.
pub const CALLS: usize = 200;
const SHARE_MIN: f64 = 0.25;

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The image of a name.
pub fn image(name: &str) -> String {
    format!("file://{}/guests/knative/{name}.wasm", root().display())
}

/// The image of a name as a program that listens and stays.
pub fn server_image(name: &str) -> String {
    image(&format!("servers/{name}"))
}

/// A platform of one test.
pub struct Suite {
    pub platform: TestPlatform,
    connection: Connection,
}

impl Suite {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with other settings.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let platform = TestPlatform::start_with(change).await.unwrap();
        let connection = platform.connection().await.unwrap();
        Self { platform, connection }
    }

    /// Creates an object from its plural and its content, and returns what was stored.
    ///
    /// # Errors
    /// What the API said.
    pub async fn create(&self, plural: &str, object: &Value) -> Result<Value, ApiError> {
        self.send(Method::POST, &collection(plural), object).await
    }

    /// Gets, changes and puts an object.
    ///
    /// # Errors
    /// What the API said, but for conflicts: those are tried again.
    pub async fn update(
        &self,
        plural: &str,
        name: &str,
        change: impl Fn(&mut Value),
    ) -> Result<Value, ApiError> {
        loop {
            let mut object = self.object(plural, name).await;
            change(&mut object);
            let path = format!("{}/{name}", collection(plural));
            match self.send(Method::PUT, &path, &object).await {
                Err(error) if error.code == 409 => {}
                done => return done,
            }
        }
    }

    /// Has the template of a Service or Configuration use another image.
    pub async fn set_image(&self, plural: &str, name: &str, image_name: &str) {
        let wanted = image(image_name);
        self.update(plural, name, |object| {
            container(object)["image"] = wanted.as_str().into()
        })
        .await
        .unwrap();
    }

    pub async fn delete(&self, plural: &str, name: &str) {
        let path = format!("{}/{name}", collection(plural));
        self.send(Method::DELETE, &path, &json!({})).await.unwrap();
    }

    /// Sends an object to a path of the API.
    ///
    /// # Errors
    /// What the API said.
    pub async fn send(&self, method: Method, path: &str, object: &Value) -> Result<Value, ApiError> {
        let body = serde_json::to_vec(object).unwrap();
        let json = "application/json";
        match self.connection.json(method, path, json, json, body).await {
            Ok(answer) => Ok(answer.value),
            Err(error) => Err(error.downcast().unwrap()),
        }
    }

    /// Sets keys of one of the platform's ConfigMaps.
    pub async fn configure(&self, map: &str, data: &Value) {
        let path = format!("/api/v1/namespaces/knative-serving/configmaps/{map}");
        let body = serde_json::to_vec(&json!({"data": data})).unwrap();
        let (patch, json) = ("application/merge-patch+json", "application/json");
        let patched = self
            .connection
            .json(Method::PATCH, &path, patch, json, body)
            .await;
        patched.unwrap();
    }

    /// What a path of the API answers, as text.
    pub async fn text_at(&self, path: &str) -> String {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        self.connection.client.request_text(request).await.unwrap()
    }

    pub async fn object(&self, plural: &str, name: &str) -> Value {
        let path = format!("{}/{name}", collection(plural));
        self.connection.get(&path).await.unwrap()
    }

    pub async fn is_gone(&self, plural: &str, name: &str) -> bool {
        let path = format!("{}/{name}", collection(plural));
        matches!(self.connection.get(&path).await, Err(error) if is_status(&error, 404))
    }

    /// The names of all objects of a kind.
    pub async fn names(&self, plural: &str) -> Vec<String> {
        let list = self.connection.get(&collection(plural)).await.unwrap();
        let items = list["items"].as_array().unwrap();
        items
            .iter()
            .map(|item| text(item, "/metadata/name").to_owned())
            .collect()
    }

    /// Waits until an object is as wanted.
    pub async fn until(&self, plural: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let path = format!("{}/{name}", collection(plural));
        self.platform.until_at(&path, wanted).await.unwrap()
    }

    /// Creates a Service and waits until it is ready.
    pub async fn create_service_ready(&self, service: &Value) -> Value {
        let created = self.create("services", service).await.unwrap();
        self.until("services", text(&created, "/metadata/name"), is_ready)
            .await
    }

    /// Waits until a Service has a Revision after `before` that is ready, and is ready itself; returns the Revision's name.
    pub async fn latest_revision_after(&self, service: &str, before: &str) -> String {
        let service = self
            .until("services", service, |service| {
                let latest = text(service, "/status/latestCreatedRevisionName");
                latest != before
                    && latest == text(service, "/status/latestReadyRevisionName")
                    && is_ready(service)
            })
            .await;
        text(&service, "/status/latestReadyRevisionName").to_owned()
    }

    /// A GET of a URL of the platform.
    pub async fn get(&self, url: &str) -> Answer {
        self.call(Method::GET, url).await
    }

    /// The same with headers.
    pub async fn get_with(&self, url: &str, headers: &[(&'static str, &str)]) -> Answer {
        let (host, path) = split(url);
        let mut request = kittiwake_testkit::http::request(Method::GET, &host, &path, "");
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        kittiwake_testkit::http::send(self.platform.gateway(), request)
            .await
            .unwrap()
    }

    pub async fn call(&self, method: Method, url: &str) -> Answer {
        let (host, path) = split(url);
        self.platform.call(method, &host, &path, "").await.unwrap()
    }

    /// Waits until a URL answers with a text. A Service that is ready may still be on its way to the request path.
    pub async fn until_text(&self, url: &str, wanted: &str) {
        let answered = tokio::time::timeout(PATIENCE, async {
            loop {
                let answer = self.get(url).await;
                if answer.status == StatusCode::OK && answer.text().contains(wanted) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        assert!(answered.await.is_ok(), "{url} never answered {wanted:?}");
    }

    /// Calls a URL often; every answer is one of the texts, and each of several comes in its share.
    pub async fn check_distribution(&self, url: &str, texts: &[&str]) {
        let mut counts = BTreeMap::new();
        for _ in 0..CALLS {
            let answer = self.get(url).await;
            assert_eq!(answer.status, StatusCode::OK, "{url}");
            let body = answer.text();
            let found = texts.iter().find(|text| body.contains(**text));
            *counts
                .entry(*found.unwrap_or_else(|| panic!("{url}: {body}")))
                .or_insert(0_usize) += 1;
        }
        let share = if texts.len() == 1 { 1.0 } else { SHARE_MIN };
        for text in texts {
            let count = counts.get(text).copied().unwrap_or_default();
            assert!(
                count as f64 >= CALLS as f64 * share,
                "{url}: {text:?} came {count} times"
            );
        }
    }

    /// What the image `runtime` tells about itself, deployed with a changed Service and called with headers.
    pub async fn runtime_info(&self, change: impl Fn(&mut Value), headers: &[(&str, &str)]) -> Value {
        let mut wanted = service("runtime", "runtime");
        change(&mut wanted);
        self.info_of(&wanted, headers).await
    }

    /// The same of a Service of either form of the image.
    pub async fn info_of(&self, wanted: &Value, headers: &[(&str, &str)]) -> Value {
        let ready = self.create_service_ready(wanted).await;
        let (host, _) = split(text(&ready, "/status/url"));
        let mut request = kittiwake_testkit::http::request(Method::GET, &host, "/", "");
        for (name, value) in headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = kittiwake_testkit::http::send(self.platform.gateway(), request)
            .await
            .unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }
}

fn collection(plural: &str) -> String {
    match plural {
        "configmaps" | "pods" | "secrets" => format!("/api/v1/namespaces/default/{plural}"),
        KUBERNETES_SERVICES => "/api/v1/namespaces/default/services".to_owned(),
        "domainmappings" => format!("/apis/serving.knative.dev/v1beta1/namespaces/default/{plural}"),
        "podautoscalers" => {
            format!("/apis/autoscaling.internal.knative.dev/v1alpha1/namespaces/default/{plural}")
        }
        "tokenreviews" => format!("/apis/authentication.k8s.io/v1/{plural}"),
        _ => format!("/apis/serving.knative.dev/v1/namespaces/default/{plural}"),
    }
}

/// Host with port, and path, of a URL.
pub fn split(url: &str) -> (String, String) {
    let rest = url.strip_prefix("http://").unwrap();
    match rest.split_once('/') {
        Some((host, path)) => (host.to_owned(), format!("/{path}")),
        None => (rest.to_owned(), "/".to_owned()),
    }
}

/// A text in an object, or the empty one.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A Service of one image.
pub fn service(name: &str, image_name: &str) -> Value {
    json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"template": {"spec": {"containers": [{"image": image(image_name)}]}}}})
}

/// A Service of one image that listens and stays.
pub fn server(name: &str, image_name: &str) -> Value {
    let mut service = service(name, image_name);
    container(&mut service)["image"] = server_image(image_name).into();
    service
}

/// Sets an annotation of a Service's template.
pub fn annotate(service: &mut Value, name: &str, value: &str) {
    service["spec"]["template"]["metadata"]["annotations"][name] = value.into();
}

/// The container of a Service or Configuration.
pub fn container(object: &mut Value) -> &mut Value {
    object.pointer_mut("/spec/template/spec/containers/0").unwrap()
}

/// Ready, as a client must read it: the status is that of the newest spec.
pub fn is_ready(object: &Value) -> bool {
    condition(object, "Ready").0 == "True"
        && object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// The URL of a traffic target by its tag.
pub fn tag_url(service: &Value, tag: &str) -> String {
    let targets = service["status"]["traffic"].as_array().unwrap();
    let target = targets
        .iter()
        .find(|target| target["tag"] == tag)
        .unwrap_or_else(|| panic!("no target has the tag {tag}"));
    text(target, "/url").to_owned()
}
