//! `apps/v1` Deployment: a row of a kind whose objects [`crate::scaled`] makes.

use super::{AGE, NAME, core_kind, created, schema_of, version};
use crate::object::{self, text};
use crate::registry::{Column, Columns, Hooks, Kind, READ_VERBS, RegistryError};
use crate::scaled;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};

const API_VERSION: &str = "apps/v1";
/// Why none can be written.
const READ_ONLY: &str = "deployments are made by the platform, one for each Revision; \
     they cannot be written: deploy a Service of serving.knative.dev instead";

/// Large, and the same for every server of a process.
static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<Deployment>);

pub(super) fn kind() -> Result<Kind, RegistryError> {
    const fn column(name: &'static str, kind: &'static str, priority: i32) -> Column {
        Column { name, kind, priority }
    }
    const COLUMNS: &[Column] = &[
        NAME,
        column("Ready", "string", 0),
        column("Up-to-date", "integer", 0),
        column("Available", "integer", 0),
        AGE,
        column("Containers", "string", 1),
        column("Images", "string", 1),
        column("Selector", "string", 1),
    ];
    let cells = |object: &Value, now: Timestamp| {
        let count = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        let containers = object
            .pointer("/spec/template/spec/containers")
            .and_then(Value::as_array);
        let of_containers = |pointer: &str| {
            let texts: Vec<&str> = containers
                .into_iter()
                .flatten()
                .map(|one| text(one, pointer))
                .collect();
            texts.join(",")
        };
        let selector = object
            .pointer("/spec/selector/matchLabels")
            .and_then(Value::as_object);
        let selector: Vec<String> = selector
            .into_iter()
            .flatten()
            .map(|(label, value)| format!("{label}={}", value.as_str().unwrap_or_default()))
            .collect();
        vec![
            object::name(object).into(),
            format!("{}/{}", count("/status/readyReplicas"), count("/spec/replicas")).into(),
            count("/status/updatedReplicas").into(),
            count("/status/availableReplicas").into(),
            created(object, now),
            of_containers("/name").into(),
            of_containers("/image").into(),
            selector.join(",").into(),
        ]
    };
    // Nobody writes them, so nothing is checked or pruned; the schema is for clients.
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut v1 = version(API_VERSION, anything, Columns::HandMade(COLUMNS, cells))?;
    v1.open_api = SCHEMA.clone();
    let row = core_kind("deployments", "deployment", "Deployment", "deploy", vec![v1]);
    Ok(Kind {
        group: "apps".into(),
        categories: vec!["all".into()],
        verbs: READ_VERBS,
        made: true,
        storage_resource: Arc::from(scaled::DEPLOYMENTS),
        storage_api_version: API_VERSION.into(),
        hooks: Hooks {
            read_only: Some(READ_ONLY),
            ..Hooks::default()
        },
        ..row
    })
}
