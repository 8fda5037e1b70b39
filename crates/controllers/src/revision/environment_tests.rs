//! Tables for the environment of a Revision.

use super::*;
use serde_json::{Value, json};

fn revision(container: Value) -> Revision {
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
        "metadata": { "name": "r-1", "namespace": "ns", "labels": {
            "serving.knative.dev/service": "s", "serving.knative.dev/configuration": "c" } },
        "spec": { "containers": [container] },
    }))
    .unwrap()
}

fn environment(container: Value) -> Result<Vec<(String, String)>, String> {
    let secret: Secret =
        serde_json::from_value(json!({ "data": { "key": "dmFsdWU=", "binary": "/w==" } })).unwrap();
    let config_map: ConfigMap = serde_json::from_value(json!({ "data": { "a": "1", "b": "2" } })).unwrap();
    let revision = revision(container);
    of(
        &revision,
        serving_container(&revision),
        Some(serving_port(&revision)),
        |name| (name == "secret").then(|| Arc::new(secret.clone())),
        |name| (name == "map").then(|| Arc::new(config_map.clone())),
    )
}

fn text(container: Value) -> String {
    let environment = environment(container).unwrap();
    environment
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}

const OWN: &str = "PORT=8080 K_REVISION=r-1 K_CONFIGURATION=c K_SERVICE=s";

#[test]
fn plain_values_keep_their_order() {
    let env = json!([{ "name": "B", "value": "2" }, { "name": "A", "value": "1" }, { "name": "B", "value": "3" }, { "name": "E" }]);
    assert_eq!(
        text(json!({ "name": "c", "env": env })),
        format!("A=1 B=3 E= {OWN}")
    );
    let ports = json!([{ "containerPort": 9000 }]);
    assert!(text(json!({ "name": "c", "ports": ports })).starts_with("PORT=9000"));
    let only_named = json!([{ "name": "h2c" }]);
    assert_eq!(text(json!({ "name": "c", "ports": only_named })), OWN);
}

#[test]
fn sources_are_looked_up() {
    let container = json!({
        "name": "c",
        "envFrom": [{ "prefix": "M_", "configMapRef": { "name": "map" } }, { "secretRef": { "name": "secret" } }],
        "env": [
            { "name": "X", "valueFrom": { "secretKeyRef": { "name": "secret", "key": "key" } } },
            { "name": "Y", "valueFrom": { "configMapKeyRef": { "name": "map", "key": "b" } } },
            { "name": "Z", "valueFrom": { "configMapKeyRef": { "name": "gone", "key": "b", "optional": true } } },
        ],
    });
    assert_eq!(
        text(container),
        format!("M_a=1 M_b=2 key=value X=value Y=2 {OWN}")
    );
}

#[test]
fn what_is_missing_is_named() {
    for (container, wanted) in [
        (
            json!({ "name": "c", "envFrom": [{ "configMapRef": { "name": "gone" } }] }),
            "configmap \"gone\" not found",
        ),
        (
            json!({ "name": "c", "envFrom": [{ "secretRef": { "name": "gone" } }] }),
            "secret \"gone\" not found",
        ),
        (
            json!({ "name": "c", "env": [{ "name": "X", "valueFrom": { "secretKeyRef": { "name": "secret", "key": "k" } } }] }),
            "couldn't find key k in Secret ns/secret",
        ),
        (
            json!({ "name": "c", "env": [{ "name": "X", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } }] }),
            "env X: fieldRef status.podIP: a function has no pod",
        ),
    ] {
        let error = environment(container).unwrap_err();
        assert!(error.starts_with(wanted), "{error}");
    }
}

#[test]
fn each_container_has_its_own_and_only_one_a_port() {
    let revision: Revision = serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
        "metadata": { "name": "r-1", "namespace": "ns" },
        "spec": {
            "containers": [
                { "name": "side", "env": [{ "name": "PORT", "value": "8882" }],
                  "volumeMounts": [{ "name": "shared", "mountPath": "/out" }] },
                { "name": "app", "ports": [{ "containerPort": 8881 }], "env": [{ "name": "A", "value": "1" }],
                  "volumeMounts": [{ "name": "shared", "mountPath": "/in" }] },
            ],
            "volumes": [{ "name": "shared", "emptyDir": {} }],
        },
    }))
    .unwrap();
    let found = |revision: &Revision| surroundings(revision, &|_| None, &|_| None, &|_| Ok(String::new()));
    let app = found(&revision).unwrap();
    let shown = |one: &Surroundings| {
        let env: Vec<_> = one
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        (
            env.join(" "),
            one.mounts
                .iter()
                .map(|mount| mount.path.to_string())
                .collect::<Vec<_>>(),
        )
    };
    let own = "K_REVISION=r-1 K_CONFIGURATION= K_SERVICE=";
    assert_eq!(
        shown(&app),
        (format!("A=1 PORT=8881 {own}"), vec!["/in".to_owned()])
    );
    assert_eq!(
        app.sidecars.iter().map(shown).collect::<Vec<_>>(),
        [(format!("PORT=8882 {own}"), vec!["/out".to_owned()])]
    );
    assert_eq!(app.mounts[0].content, app.sidecars[0].mounts[0].content);
    let mut broken = revision;
    broken.spec.pod_spec.containers[0].env = serde_json::from_value(
        json!([{ "name": "X", "valueFrom": { "secretKeyRef": { "name": "gone", "key": "k" } } }]),
    )
    .unwrap();
    assert_eq!(
        found(&broken).unwrap_err(),
        "container \"side\": secret \"gone\" not found"
    );
}
