//! Every kind that discovery names, with every verb that it names: a kind without a case here fails.
//!
//! Cases are the manifests in `tests/samples`, as users would write them, and in `tests/samples/bad` manifests that must
//! be refused, each with a part of the refusal in its first line.

use crate::harness::{APPLY, Answer, Api, JSON, MERGE, TABLE};
use kittiwake_core::instances::{Live, Usage};
use kittiwake_core::revision::RevisionKey;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const NAMESPACE: &str = "shop";
const JSON_PATCH: &str = "application/json-patch+json";
/// Verbs that [`write_and_read`] knows.
const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// A kind in one version, as discovery names it.
#[derive(Debug, Clone)]
struct Served {
    group: String,
    version: String,
    kind: String,
    plural: String,
    namespaced: bool,
    verbs: BTreeSet<String>,
    parts: BTreeSet<String>,
}

impl Served {
    fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    fn root(&self) -> String {
        if self.group.is_empty() {
            "/api/v1".to_owned()
        } else {
            format!("/apis/{}", self.api_version())
        }
    }

    fn collection(&self) -> String {
        match self.namespaced {
            true => format!("{}/namespaces/{NAMESPACE}/{}", self.root(), self.plural),
            false => format!("{}/{}", self.root(), self.plural),
        }
    }

    /// What has a case: older versions of a kind are tested with the same manifest.
    fn case(&self) -> (String, String) {
        (self.group.clone(), self.kind.clone())
    }
}

fn texts(value: &Value) -> BTreeSet<String> {
    let list = value.as_array().into_iter().flatten();
    list.map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// All that is served.
async fn discover(api: &Api) -> Vec<Served> {
    let mut all = Vec::new();
    for path in ["/api", "/apis"] {
        let document = api.accept(path, AGGREGATED).await.json;
        for group in document["items"].as_array().unwrap() {
            for version in group["versions"].as_array().unwrap() {
                for resource in version["resources"].as_array().unwrap() {
                    let parts = resource["subresources"].as_array().into_iter().flatten();
                    all.push(Served {
                        group: group["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
                        version: version["version"].as_str().unwrap().to_owned(),
                        kind: resource["responseKind"]["kind"].as_str().unwrap().to_owned(),
                        plural: resource["resource"].as_str().unwrap().to_owned(),
                        namespaced: resource["scope"] == "Namespaced",
                        verbs: texts(&resource["verbs"]),
                        parts: parts
                            .map(|part| part["subresource"].as_str().unwrap().to_owned())
                            .collect(),
                    });
                }
            }
        }
    }
    all
}

/// The manifests of a folder, each with its first line.
fn manifests(folder: &str) -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let first = text.lines().next().unwrap_or_default().to_owned();
            let object = serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            (first, object)
        })
        .collect()
}

/// The group and kind of a manifest.
fn case(object: &Value) -> (String, String) {
    let api_version = object["apiVersion"].as_str().unwrap();
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    (group.to_owned(), object["kind"].as_str().unwrap().to_owned())
}

/// The manifest for a kind: that of its own version if there is one, else one of another version.
fn find<'m>(manifests: &'m [(String, Value)], served: &Served) -> Option<&'m (String, Value)> {
    let exact = |object: &Value| object["apiVersion"] == served.api_version();
    let mut of_kind = manifests
        .iter()
        .filter(|(_, object)| case(object) == served.case());
    of_kind
        .clone()
        .find(|(_, object)| exact(object))
        .or_else(|| of_kind.next())
}

fn ok(answer: &Answer, code: u16, what: &str) {
    assert_eq!(answer.code, code, "{what}: {}", answer.text);
}

/// A server with the namespace, and the kind that a ConstraintTemplate makes.
async fn start(samples: &[(String, Value)]) -> Api {
    let api = Api::start().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    ok(
        &api.post("/api/v1/namespaces", &namespace).await,
        201,
        "namespace",
    );
    let template = samples
        .iter()
        .find(|(_, object)| object["kind"] == "ConstraintTemplate")
        .unwrap();
    let path = "/apis/templates.gatekeeper.sh/v1/constrainttemplates";
    ok(&api.post(path, &template.1).await, 201, "template");
    api
}

#[tokio::test]
async fn every_kind_does_what_discovery_says() {
    let samples = manifests("samples");
    let api = start(&samples).await;
    let mut without = Vec::new();
    for served in discover(&api).await {
        let unknown: Vec<_> = served
            .verbs
            .iter()
            .filter(|verb| !VERBS.contains(&verb.as_str()))
            .collect();
        assert!(unknown.is_empty(), "{served:?}: no case for {unknown:?}");
        explain(&api, &served).await;
        if !served.verbs.contains("create") {
            read_only(&api, &served).await;
            continue;
        }
        let Some((_, sample)) = find(&samples, &served) else {
            without.push(format!("{} {}", served.api_version(), served.kind));
            continue;
        };
        let mut object = sample.clone();
        object["apiVersion"] = json!(served.api_version());
        if matches!(served.kind.as_str(), "Namespace" | "ConstraintTemplate") {
            // The one of the sample is in use.
            rename(&mut object);
        }
        write_and_read(&api, &served, object).await;
    }
    assert!(
        without.is_empty(),
        "kinds without a manifest in tests/samples: {without:?}"
    );
}

fn rename(object: &mut Value) {
    let kind = "Other";
    if object["kind"] == "ConstraintTemplate" {
        object["spec"]["crd"]["spec"]["names"]["kind"] = json!(kind);
    }
    object["metadata"]["name"] = json!(kind.to_lowercase());
}

/// Create, get, list, watch, table, update, patches, status, delete, deletecollection.
async fn write_and_read(api: &Api, served: &Served, mut object: Value) {
    let what = format!("{} {}", served.api_version(), served.kind);
    let collection = served.collection();
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let path = format!("{collection}/{name}");
    object["metadata"]["labels"] = json!({"case": "coverage"});
    let strict = format!("{collection}?fieldValidation=Strict");
    let created = api.post(&strict, &object).await;
    ok(&created, 201, &format!("{what}: create"));
    assert_eq!(created.json["kind"], served.kind, "{what}");
    assert_eq!(created.json["apiVersion"], served.api_version(), "{what}");

    let got = api.get(&path).await;
    ok(&got, 200, &format!("{what}: get"));
    let list = api
        .get(&format!("{collection}?labelSelector=case%3Dcoverage"))
        .await;
    assert_eq!(
        list.json["items"][0]["metadata"]["name"], name,
        "{what}: list {}",
        list.text
    );
    let table = api.accept(&path, TABLE).await.json;
    assert_eq!(table["kind"], "Table", "{what}");
    let (columns, cells) = (&table["columnDefinitions"], &table["rows"][0]["cells"]);
    assert!(
        columns.as_array().unwrap().len() > 1,
        "{what}: a table of names only"
    );
    assert_eq!(
        columns.as_array().unwrap().len(),
        cells.as_array().unwrap().len(),
        "{what}"
    );

    let version = got.version();
    let mut watch = api
        .watch(&format!(
            "{collection}?watch=true&resourceVersion={version}&fieldSelector=metadata.name%3D{name}"
        ))
        .await;
    let mut update = got.json.clone();
    update["metadata"]["labels"]["by"] = json!("update");
    ok(&api.put(&path, &update).await, 200, &format!("{what}: update"));
    assert_eq!(
        watch.step().await,
        ("MODIFIED".to_owned(), name.clone()),
        "{what}: watch"
    );
    for (content_type, patch) in [
        (MERGE, json!({"metadata": {"labels": {"by": "merge"}}})),
        (
            JSON_PATCH,
            json!([{"op": "replace", "path": "/metadata/labels/by", "value": "json"}]),
        ),
    ] {
        let patched = api.patch(&path, content_type, &patch).await;
        ok(&patched, 200, &format!("{what}: {content_type}"));
        let by = patched.json["metadata"]["labels"]["by"].as_str().unwrap();
        assert!(content_type.contains(by), "{what}: {content_type} {by}");
    }
    let mut applied = json!({"metadata": {"name": name, "annotations": {"by": "apply"}}});
    applied["apiVersion"] = json!(served.api_version());
    applied["kind"] = json!(served.kind);
    let apply = api
        .patch(&format!("{path}?fieldManager=coverage"), APPLY, &applied)
        .await;
    ok(&apply, 200, &format!("{what}: apply"));
    assert_eq!(apply.json["metadata"]["annotations"]["by"], "apply", "{what}");

    if served.parts.contains("status") {
        status(api, served, &path, &what).await;
    }
    ok(&api.delete(&path).await, 200, &format!("{what}: delete"));
    api.until(&path, |answer| answer.code == 404).await;
    ok(
        &api.post(&collection, &object).await,
        201,
        &format!("{what}: create again"),
    );
    let gone = api
        .delete(&format!("{collection}?labelSelector=case%3Dcoverage"))
        .await;
    // Namespaces are deleted one by one, as in Kubernetes.
    let together = served.verbs.contains("deletecollection");
    let code = if together { 200 } else { 405 };
    ok(&gone, code, &format!("{what}: deletecollection"));
    if !together {
        ok(&api.delete(&path).await, 200, &format!("{what}: delete again"));
    }
    api.until(&path, |answer| answer.code == 404).await;
}

/// Status is written on its own, and alone.
async fn status(api: &Api, served: &Served, path: &str, what: &str) {
    let (field, value) = match served.kind.as_str() {
        "Namespace" => ("phase", json!("Active")),
        "Service" if served.group.is_empty() => ("loadBalancer", json!({"ingress": [{"ip": "127.0.0.1"}]})),
        "ConstraintTemplate" => ("created", json!(true)),
        _ => ("observedGeneration", json!(7)),
    };
    let before = api.get(path).await.json;
    let path = format!("{path}/status");
    let patch = json!({"status": {field: value}, "metadata": {"labels": {"by": "status"}}});
    let patched = api.patch(&path, MERGE, &patch).await;
    ok(&patched, 200, &format!("{what}: patch of status"));
    let now = api.get(&path).await;
    ok(&now, 200, &format!("{what}: get of status"));
    assert_eq!(now.json["status"][field], value, "{what}");
    assert_eq!(
        now.json["metadata"]["labels"], before["metadata"]["labels"],
        "{what}"
    );
    assert_eq!(
        now.json["metadata"]["generation"], before["metadata"]["generation"],
        "{what}"
    );
    ok(
        &api.put(&path, &now.json).await,
        200,
        &format!("{what}: update of status"),
    );
}

/// What only the server writes can be read, and a write is refused in words that help.
async fn read_only(api: &Api, served: &Served) {
    let what = format!("{} {}", served.api_version(), served.kind);
    let collection = served.collection();
    if served.group != "apiextensions.k8s.io" {
        bring_to_life(api).await;
    }
    let list = api
        .until(&collection, |answer| {
            !answer.json["items"].as_array().unwrap().is_empty()
        })
        .await;
    let name = list.json["items"][0]["metadata"]["name"].as_str().unwrap();
    let path = format!("{collection}/{name}");
    ok(&api.get(&path).await, 200, &format!("{what}: get"));
    let table = api.accept(&path, TABLE).await.json;
    assert!(table["columnDefinitions"].as_array().unwrap().len() > 1, "{what}");
    if served.verbs.contains("watch") {
        let mut watch = api.watch(&format!("{collection}?watch=true")).await;
        assert_eq!(watch.step().await.0, "ADDED", "{what}");
    }
    for (method, path, verb) in [
        ("POST", &collection, "create"),
        ("DELETE", &collection, "deletecollection"),
        ("PUT", &path, "update"),
        ("PATCH", &path, "patch"),
        ("DELETE", &path, "delete"),
    ] {
        if served.verbs.contains(verb) {
            ok(
                &api.send(method, path, JSON, "").await,
                200,
                &format!("{what}: {verb}"),
            );
            continue;
        }
        let answer = api
            .send(method, path, JSON, list.json["items"][0].to_string())
            .await;
        ok(&answer, 405, &format!("{what}: {method}"));
        assert!(
            answer.message().contains("made by the platform"),
            "{what}: {}",
            answer.message()
        );
    }
}

/// Has a revision in memory, so that there is a pod, and a PodAutoscaler, so that there is what is made of it.
async fn bring_to_life(api: &Api) {
    let revision = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": {"name": "alive-00001"},
        "spec": {"containers": [{"image": "ghcr.io/kittiwake/hello:v1"}]},
    });
    let path = format!("/apis/serving.knative.dev/v1/namespaces/{NAMESPACE}/revisions");
    api.post(&path, &revision).await;
    let revision = api.get(&format!("{path}/alive-00001")).await.json;
    let live = Live {
        revision: RevisionKey::new(NAMESPACE, "alive-00001"),
        uid: revision["metadata"]["uid"].as_str().unwrap().into(),
        since: jiff::Timestamp::UNIX_EPOCH,
        usage: Usage::default(),
        instances: Vec::new(),
    };
    api.instances.tell(0, vec![live]);
    let scaler = json!({
        "apiVersion": "autoscaling.internal.knative.dev/v1alpha1", "kind": "PodAutoscaler",
        "metadata": {"name": "alive-00001"},
        "spec": {"protocolType": "http1", "scaleTargetRef":
            {"apiVersion": "serving.knative.dev/v1", "kind": "Revision", "name": "alive-00001"}},
    });
    let path =
        format!("/apis/autoscaling.internal.knative.dev/v1alpha1/namespaces/{NAMESPACE}/podautoscalers");
    api.post(&path, &scaler).await;
}

/// The schema that `kubectl explain` reads: named by group, version and kind, with fields that are described.
async fn explain(api: &Api, served: &Served) {
    let what = format!("{} {}", served.api_version(), served.kind);
    let document = api.get(&format!("/openapi/v3{}", served.root())).await;
    ok(&document, 200, &what);
    let wanted = json!({"group": served.group, "version": served.version, "kind": served.kind});
    let schemas = document.json["components"]["schemas"].as_object().unwrap();
    let schema = schemas
        .values()
        .find(|schema| schema["x-kubernetes-group-version-kind"] == json!([wanted]))
        .unwrap_or_else(|| panic!("{what}: no schema"));
    let properties = schema["properties"].as_object().unwrap();
    assert!(properties.contains_key("metadata"), "{what}");
    if served.kind != "CustomResourceDefinition" {
        assert!(
            properties.len() > 3,
            "{what}: nothing but kind, apiVersion and metadata"
        );
    }
}

#[tokio::test]
async fn every_kind_refuses_something() {
    let samples = manifests("samples");
    let bad = manifests("samples/bad");
    let api = start(&samples).await;
    let mut without = BTreeMap::new();
    for served in discover(&api).await {
        if !served.verbs.contains("create") {
            continue;
        }
        let Some((first, object)) = find(&bad, &served) else {
            without.insert(served.case(), ());
            continue;
        };
        if object["apiVersion"] != served.api_version() {
            continue;
        }
        let wanted = first
            .strip_prefix("# refused: ")
            .expect("the first line tells the refusal");
        let answer = api.post(&served.collection(), object).await;
        assert!(
            (400..500).contains(&answer.code),
            "{object}: {} {}",
            answer.code,
            answer.text
        );
        assert!(
            answer.message().contains(wanted),
            "{wanted:?} is not in {:?}",
            answer.message()
        );
        if answer.code == 422
            && served.group != "templates.gatekeeper.sh"
            && answer.json["reason"] == "Invalid"
        {
            assert!(
                answer.json["details"]["causes"][0]["field"].is_string(),
                "{}",
                answer.text
            );
        }
    }
    assert!(
        without.is_empty(),
        "kinds without a manifest in tests/samples/bad: {:?}",
        without.keys()
    );
}
