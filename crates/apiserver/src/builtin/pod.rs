//! Pods and their metrics: rows of kinds whose objects [`crate::pods`] makes from what lives now.

use super::{AGE, NAME, core_kind, created, schema_of, version};
use crate::object::{self, text};
use crate::pods;
use crate::registry::{Column, Columns, Hooks, Kind, READ_VERBS, RegistryError};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kittiwake_core::instances::{Ending, InstanceHub};
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};

const METRICS_API_VERSION: &str = "metrics.k8s.io/v1beta1";
/// Why neither can be written.
const READ_ONLY: &str = "pods are made by the platform, one for each instance that stays and one for each \
     other revision that is in memory now; they can be deleted and not written: change the Service instead";
/// What can be done with pods.
const POD_VERBS: &[&str] = &["delete", "deletecollection", "get", "list", "watch"];

/// Large, and the same for every server of a process.
static POD_SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<Pod>);

pub(super) fn pods() -> Result<Kind, RegistryError> {
    const fn column(name: &'static str, priority: i32) -> Column {
        Column {
            name,
            kind: "string",
            priority,
        }
    }
    const COLUMNS: &[Column] = &[
        NAME,
        column("Ready", 0),
        column("Status", 0),
        Column {
            name: "Restarts",
            kind: "integer",
            priority: 0,
        },
        AGE,
        column("IP", 1),
        column("Node", 1),
        column("Nominated Node", 1),
        column("Readiness Gates", 1),
    ];
    let cells = |object: &Value, now: Timestamp| {
        let statuses = object
            .pointer("/status/containerStatuses")
            .and_then(Value::as_array);
        let statuses = statuses.map(Vec::as_slice).unwrap_or_default();
        let ready = statuses
            .iter()
            .filter(|status| status.get("ready") == Some(&Value::Bool(true)));
        vec![
            object::name(object).into(),
            format!("{}/{}", ready.count(), statuses.len()).into(),
            phase(object).into(),
            0.into(),
            created(object, now),
            text(object, "/status/podIP").into(),
            text(object, "/spec/nodeName").into(),
            "<none>".into(),
            "<none>".into(),
        ]
    };
    // Nobody writes pods, so nothing is checked or pruned; the schema is for clients.
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut v1 = version("v1", anything, Columns::HandMade(COLUMNS, cells))?;
    v1.open_api = POD_SCHEMA.clone();
    v1.selectable_fields = [
        "spec.nodeName",
        "spec.restartPolicy",
        "status.phase",
        "status.podIP",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut row = read_only(core_kind("pods", "pod", "Pod", "po", vec![v1]), READ_ONLY);
    row.categories = vec!["all".to_owned()];
    row.verbs = POD_VERBS;
    row.hooks.begin_deletion = Some(pods::give_time);
    row.hooks.end = Some(end);
    Ok(row)
}

/// What kubectl shows as the status.
fn phase(pod: &Value) -> &str {
    if object::is_terminating(pod) {
        "Terminating"
    } else {
        text(pod, "/status/phase")
    }
}

/// Has what a pod stands for begin anew.
fn end(instances: &InstanceHub, pod: &Value) {
    instances.end(Ending {
        revision: text(pod, "/metadata/labels/serving.knative.dev~1revisionUID").into(),
        instance: pods::instance_of(pod),
    });
}

pub(super) fn metrics() -> Result<Kind, RegistryError> {
    const COLUMNS: &[Column] = &[
        NAME,
        Column {
            name: "CPU",
            kind: "string",
            priority: 0,
        },
        Column {
            name: "Memory",
            kind: "string",
            priority: 0,
        },
        Column {
            name: "Window",
            kind: "string",
            priority: 0,
        },
    ];
    let cells = |object: &Value, _now: Timestamp| {
        vec![
            object::name(object).into(),
            text(object, "/containers/0/usage/cpu").into(),
            text(object, "/containers/0/usage/memory").into(),
            text(object, "/window").into(),
        ]
    };
    let schema = json!({
        "type": "object",
        "description": "PodMetrics holds what the containers of a pod use.",
        "properties": {
            "timestamp": {"type": "string", "format": "date-time", "description": "When it was measured."},
            "window": {"type": "string", "description": "The time over which the CPU was measured."},
            "containers": {"type": "array", "items": {"type": "object", "properties": {
                "name": {"type": "string", "description": "The container."},
                "usage": {
                    "type": "object",
                    "description": "What it uses: cpu in cores, memory in bytes.",
                    "additionalProperties": {"x-kubernetes-int-or-string": true},
                },
            }}},
        },
    });
    let v1beta1 = version(METRICS_API_VERSION, schema, Columns::HandMade(COLUMNS, cells))?;
    let row = core_kind("pods", "", "PodMetrics", "", vec![v1beta1]);
    Ok(Kind {
        group: "metrics.k8s.io".into(),
        verbs: &["get", "list"],
        storage_resource: Arc::from(pods::METRICS),
        storage_api_version: METRICS_API_VERSION.into(),
        ..read_only(row, READ_ONLY)
    })
}

/// A kind whose objects are made here; whoever writes one is told why not.
pub(super) fn read_only(row: Kind, why: &'static str) -> Kind {
    Kind {
        verbs: READ_VERBS,
        made: true,
        hooks: Hooks {
            read_only: Some(why),
            ..Hooks::default()
        },
        ..row
    }
}
