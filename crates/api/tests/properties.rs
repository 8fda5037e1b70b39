//! Admission under arbitrary input: it always answers, and what it admits it leaves alone the second time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "the helpers of tests fail by panicking"
)]

use kittiwake_api::admission::{Operation, Request, admit};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const KINDS: [(&str, &str); 6] = [
    ("serving.knative.dev/v1", "Service"),
    ("serving.knative.dev/v1", "Configuration"),
    ("serving.knative.dev/v1", "Revision"),
    ("serving.knative.dev/v1", "Route"),
    ("autoscaling.internal.knative.dev/v1alpha1", "PodAutoscaler"),
    ("autoscaling.knative.dev/v1alpha1", "PodAutoscaler"),
];

/// Field names that admission looks at, so that arbitrary objects reach the rules behind them.
const FIELDS: [&str; 46] = [
    "metadata",
    "name",
    "generateName",
    "labels",
    "annotations",
    "ownerReferences",
    "spec",
    "template",
    "traffic",
    "containers",
    "image",
    "env",
    "envFrom",
    "valueFrom",
    "ports",
    "containerPort",
    "protocol",
    "resources",
    "limits",
    "requests",
    "memory",
    "readinessProbe",
    "livenessProbe",
    "httpGet",
    "tcpSocket",
    "grpc",
    "port",
    "periodSeconds",
    "volumes",
    "volumeMounts",
    "mountPath",
    "secret",
    "emptyDir",
    "sizeLimit",
    "projected",
    "sources",
    "items",
    "timeoutSeconds",
    "containerConcurrency",
    "percent",
    "tag",
    "revisionName",
    "latestRevision",
    "scaleTargetRef",
    "minScale",
    "target",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9/:.-]{0,12}|.{0,6}".prop_map(Value::from),
    ]
}

fn arbitrary() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(6, 64, 6, |inner| {
        let key = prop_oneof![
            proptest::sample::select(&FIELDS[..]).prop_map(str::to_owned),
            ".{0,5}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A Service that is mostly good.
fn service() -> impl Strategy<Value = Value> {
    let container = (
        proptest::sample::select(&["busybox", "file:///x.wasm", "ghcr.io/a/b:c"][..]),
        prop::option::of(proptest::sample::select(&["8080", "h2c"][..])),
        prop::option::of(1_i64..200),
        any::<bool>(),
    );
    (prop::collection::vec(container, 1..3), prop::option::of(0_i64..700), prop::option::of("hello-[a-z]{1,4}")).prop_map(
        |(containers, timeout, name)| {
            let containers: Vec<Value> = containers
                .into_iter()
                .enumerate()
                .map(|(index, (image, port, memory, probe))| {
                    let mut container = json!({"image": image, "resources": {"limits": {"memory": memory, "cpu": 1}}});
                    if index == 0 {
                        container["ports"] = json!([{"containerPort": 8080, "name": port.filter(|p| *p == "h2c")}]);
                        container["readinessProbe"] = if probe { json!({"httpGet": {}, "periodSeconds": 5}) } else { Value::Null };
                    }
                    container
                })
                .collect();
            json!({
                "apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "hello"},
                "spec": {"template": {"metadata": {"name": name}, "spec": {"containers": containers, "timeoutSeconds": timeout}}},
            })
        },
    )
}

fn request<'a>(kind: (&'a str, &'a str), old: Option<&'a Value>) -> Request<'a> {
    let operation = if old.is_some() {
        Operation::Update
    } else {
        Operation::Create
    };
    Request {
        api_version: kind.0,
        kind: kind.1,
        operation,
        subresource: None,
        old,
        user: "ann",
        dry_run: false,
        settings: kittiwake_api::config::Settings::stock(),
    }
}

proptest! {
    #[test]
    fn admission_always_answers(object in arbitrary(), old in prop::option::of(arbitrary()), spec in arbitrary()) {
        for kind in KINDS {
            let _ = admit(&request(kind, old.as_ref()), &mut object.clone());
            let mut nested = json!({"metadata": {"name": "a"}, "spec": {"template": {"spec": spec}, "containers": spec, "traffic": spec}});
            let _ = admit(&request(kind, old.as_ref()), &mut nested);
        }
    }

    #[test]
    fn defaults_are_filled_in_once(object in service()) {
        let mut first = object;
        prop_assume!(admit(&request(KINDS[0], None), &mut first).is_ok());
        let mut second = first.clone();
        prop_assert_eq!(admit(&request(KINDS[0], None), &mut second), Ok(vec![]));
        prop_assert_eq!(&second, &first);
        let mut updated = first.clone();
        prop_assert_eq!(admit(&request(KINDS[0], Some(&first)), &mut updated), Ok(vec![]));
        prop_assert_eq!(&updated, &first);
    }

    #[test]
    fn defaults_of_arbitrary_objects_are_filled_in_once(object in arbitrary()) {
        for kind in KINDS {
            let mut first = object.clone();
            let answer = admit(&request(kind, None), &mut first);
            let mut second = first.clone();
            let again = admit(&request(kind, None), &mut second);
            prop_assert_eq!(&second, &first);
            prop_assert_eq!(again.is_ok(), answer.is_ok());
        }
    }
}
