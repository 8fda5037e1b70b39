//! The definitions: what `kubectl get` shows, and that every schema is one that Kubernetes takes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail by panicking"
)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kittiwake_api::{crd, serving};
use serde_json::{Value, json};

fn summary(crd: &CustomResourceDefinition) -> Value {
    let version = &crd.spec.versions[0];
    let columns: Vec<String> = version
        .additional_printer_columns
        .iter()
        .flatten()
        .map(|column| format!("{} ({}) {}", column.name, column.type_, column.json_path))
        .collect();
    json!({
        "name": crd.metadata.name,
        "labels": crd.metadata.labels,
        "kind": crd.spec.names.kind,
        "shortNames": crd.spec.names.short_names,
        "categories": crd.spec.names.categories,
        "scope": crd.spec.scope,
        "versions": crd.spec.versions.iter().map(|v| &v.name).collect::<Vec<_>>(),
        "status": version.subresources.as_ref().is_some_and(|s| s.status.is_some()),
        "columns": columns,
    })
}

fn schema(kind: &str) -> Value {
    let crd = crd::all()
        .into_iter()
        .find(|crd| crd.spec.names.kind == kind)
        .unwrap();
    serde_json::to_value(
        crd.spec.versions[0]
            .schema
            .as_ref()
            .unwrap()
            .open_api_v3_schema
            .as_ref()
            .unwrap(),
    )
    .unwrap()
}

#[test]
fn kinds_are_shown_as_in_knative() {
    insta::assert_yaml_snapshot!(crd::all().iter().map(summary).collect::<Vec<_>>());
}

/// The rules of a structural schema that can be broken by a type: each place has a type or is int-or-string, nothing
/// is referred to, and keys of list maps are required.
fn check(schema: &Value, path: &str, wrong: &mut Vec<String>) {
    let object = schema.as_object().unwrap();
    let typed = [
        "type",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
    ];
    if !typed.iter().any(|keyword| object.contains_key(*keyword)) {
        wrong.push(format!("{path} has no type"));
    }
    for keyword in [
        "$ref",
        "oneOf",
        "allOf",
        "$defs",
        "definitions",
        "x-kubernetes-list-map-keys",
    ] {
        if object.contains_key(keyword) {
            wrong.push(format!("{path} has {keyword}"));
        }
    }
    if object.contains_key("properties") && object.contains_key("additionalProperties") {
        wrong.push(format!("{path} has both kinds of properties"));
    }
    for (name, inner) in object
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        check(inner, &format!("{path}.{name}"), wrong);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = object.get(keyword).filter(|inner| inner.is_object()) {
            check(inner, &format!("{path}[]"), wrong);
        }
    }
    if object.get("type") == Some(&json!("array")) && !object.contains_key("items") {
        wrong.push(format!("{path} is a list of nothing"));
    }
}

#[test]
fn schemas_are_structural_and_of_a_sane_size() {
    let mut wrong = Vec::new();
    for crd in crd::all() {
        let kind = crd.spec.names.kind.clone();
        for version in &crd.spec.versions {
            let schema = version
                .schema
                .as_ref()
                .unwrap()
                .open_api_v3_schema
                .as_ref()
                .unwrap();
            let schema = serde_json::to_value(schema).unwrap();
            check(&schema, &kind, &mut wrong);
            let bytes = schema.to_string().len();
            // A ClusterDomainClaim has one field.
            assert!((300..100_000).contains(&bytes), "{kind} {bytes}");
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn schemas_leave_to_admission_what_it_says_better() {
    let service = schema("Service");
    let spec = &service["properties"]["spec"]["properties"]["template"]["properties"]["spec"];
    assert_eq!(spec.get("required"), None);
    assert_eq!(service.get("required"), None);
    let container = &spec["properties"]["containers"]["items"];
    assert_eq!(container.get("required"), None);
    assert_eq!(
        container["properties"]["resources"]["properties"]["limits"]["additionalProperties"]["x-kubernetes-int-or-string"],
        true
    );
    assert_eq!(
        container["properties"]["lifecycle"]["x-kubernetes-preserve-unknown-fields"],
        true
    );
    assert_eq!(spec["properties"]["timeoutSeconds"]["type"], "integer");
    assert!(spec["properties"]["containers"]["description"].is_string());
    let metadata = &service["properties"]["spec"]["properties"]["template"]["properties"]["metadata"];
    assert_eq!(metadata["x-kubernetes-preserve-unknown-fields"], true);
    assert_eq!(
        metadata["properties"]["annotations"]["additionalProperties"]["type"],
        "string"
    );
    let revision = schema("Revision");
    assert_eq!(
        revision["properties"]["spec"]["properties"]["containers"]["items"].get("required"),
        None
    );
}

#[test]
fn objects_are_written_as_they_were_read() {
    let service = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "hello"},
        "spec": {
            "template": {
                "metadata": {"annotations": {"a": "b"}},
                "spec": {
                    "containerConcurrency": 0, "timeoutSeconds": 300, "enableServiceLinks": false, "runtimeClassName": "wasmedge",
                    "containers": [{
                        "name": "user-container", "image": "busybox", "args": ["-x"],
                        "env": [{"name": "A", "value": ""}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}}],
                        "ports": [{"containerPort": 8080, "name": "h2c", "protocol": "TCP"}],
                        "readinessProbe": {"successThreshold": 1, "tcpSocket": {"port": 0}},
                        "livenessProbe": {"httpGet": {"path": "/", "port": "http"}},
                        "resources": {"limits": {"memory": "128Mi"}, "requests": {"cpu": "100m"}},
                        "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}],
                    }],
                    "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
                },
            },
            "traffic": [{"latestRevision": true, "percent": 100}],
        },
        "status": {"observedGeneration": 1, "url": "http://hello.default.localhost"},
    });
    let read: serving::Service = serde_json::from_value(service.clone()).unwrap();
    assert_eq!(serde_json::to_value(read).unwrap(), service);
}
