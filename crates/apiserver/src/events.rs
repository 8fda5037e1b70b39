//! Events: one store, two shapes. `kubectl describe` reads core/v1, kube-rs' `Recorder` writes events.k8s.io/v1.
//! They expire after an hour and their number is bounded.

use crate::object::{map_mut, text};
use crate::registry::Column;
use crate::server::Server;
use crate::table::age;
use jiff::{SignedDuration, Timestamp};
use kittiwake_store::{Change, Key, Stored};
use serde_json::Value;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// The name of events in the store.
const RESOURCE: &str = "events";

/// Field selectors of core events (kubernetes pkg/registry/core/event).
pub(crate) const SELECTABLE_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// Columns of `kubectl get events`.
pub(crate) const COLUMNS: &[Column] = &[
    Column {
        name: "Last Seen",
        kind: "string",
        priority: 0,
    },
    Column {
        name: "Type",
        kind: "string",
        priority: 0,
    },
    Column {
        name: "Reason",
        kind: "string",
        priority: 0,
    },
    Column {
        name: "Object",
        kind: "string",
        priority: 0,
    },
    Column {
        name: "Subobject",
        kind: "string",
        priority: 1,
    },
    Column {
        name: "Source",
        kind: "string",
        priority: 1,
    },
    Column {
        name: "Message",
        kind: "string",
        priority: 0,
    },
    Column {
        name: "First Seen",
        kind: "string",
        priority: 1,
    },
    Column {
        name: "Count",
        kind: "string",
        priority: 1,
    },
    Column {
        name: "Name",
        kind: "string",
        priority: 1,
    },
];

/// The cells of one core event.
pub(crate) fn cells(event: &Value, now: Timestamp) -> Vec<Value> {
    let object = format!(
        "{}/{}",
        text(event, "/involvedObject/kind").to_lowercase(),
        text(event, "/involvedObject/name")
    );
    let source = match text(event, "/source/component") {
        "" => text(event, "/reportingComponent"),
        component => component,
    };
    let first = match text(event, "/firstTimestamp") {
        "" => text(event, "/eventTime"),
        first => first,
    };
    let count = event.get("count").and_then(Value::as_u64).unwrap_or(1);
    vec![
        age(last_seen(event), now).into(),
        text(event, "/type").into(),
        text(event, "/reason").into(),
        object.into(),
        text(event, "/involvedObject/fieldPath").into(),
        source.into(),
        text(event, "/message").trim().into(),
        age(first, now).into(),
        count.to_string().into(),
        crate::object::name(event).into(),
    ]
}

/// When a core event last happened, as written in it.
fn last_seen(event: &Value) -> &str {
    [
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/eventTime",
        "/metadata/creationTimestamp",
    ]
    .iter()
    .map(|pointer| text(event, pointer))
    .find(|at| !at.is_empty())
    .unwrap_or_default()
}

/// Fields that are named differently in core/v1 (left) and events.k8s.io/v1 (right).
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

fn renamed(event: &Value, api_version: &str, new_name: impl Fn(&str) -> Option<&'static str>) -> Value {
    let mut converted = Value::Null;
    let map = map_mut(&mut converted);
    for (key, value) in event.as_object().into_iter().flatten() {
        map.insert(new_name(key).unwrap_or(key).to_owned(), value.clone());
    }
    map.insert("apiVersion".into(), api_version.into());
    converted
}

/// An events.k8s.io/v1 event as core/v1.
pub(crate) fn to_core(event: &Value) -> Value {
    renamed(event, "v1", |key| {
        RENAMED.iter().find(|(_, new)| *new == key).map(|(old, _)| *old)
    })
}

/// A core/v1 event as events.k8s.io/v1.
pub(crate) fn from_core(event: &Value) -> Value {
    renamed(event, "events.k8s.io/v1", |key| {
        RENAMED.iter().find(|(old, _)| *old == key).map(|(_, new)| *new)
    })
}

/// Which events go: those older than the time to live, then the oldest beyond the cap.
fn expired(events: &[Stored], now: Timestamp, ttl: SignedDuration, events_max: usize) -> Vec<Key> {
    let mut dated: Vec<(Timestamp, &Stored)> = events
        .iter()
        .map(|event| {
            (
                last_seen(&event.object.tree())
                    .parse()
                    .unwrap_or(Timestamp::UNIX_EPOCH),
                event,
            )
        })
        .collect();
    dated.sort_by_key(|(at, _)| *at);
    let surplus = dated.len().saturating_sub(events_max);
    dated
        .into_iter()
        .enumerate()
        .filter(|(index, (at, _))| *index < surplus || now.duration_since(*at) > ttl)
        .map(|(_, (_, event))| event.key.clone())
        .collect()
}

/// Removes expired events until the server stops.
pub(crate) async fn sweep(server: Arc<Server>, shutdown: CancellationToken) {
    let ttl = SignedDuration::try_from(server.config.event_ttl).unwrap_or(SignedDuration::MAX);
    loop {
        let events = server.store.list(RESOURCE, None).items;
        for key in expired(&events, server.clock.now(), ttl, server.config.events_max) {
            let remove = |_: Option<&Stored>| Ok::<_, std::convert::Infallible>((Change::Delete, ()));
            if let Err(error) = server.store.write(key, remove).await {
                tracing::warn!(%error, "an expired event could not be removed");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(server.config.event_sweep_interval) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_store::Document;
    use serde_json::json;

    #[test]
    fn the_two_shapes_convert_into_each_other() {
        let new = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "n",
            "regarding": {"name": "x"}, "reportingController": "c", "reportingInstance": "i", "type": "Normal"});
        let core = to_core(&new);
        assert_eq!(core["involvedObject"]["name"], "x");
        assert_eq!(
            (&core["message"], &core["apiVersion"]),
            (&json!("n"), &json!("v1"))
        );
        assert_eq!(from_core(&core), new);
    }

    #[test]
    fn old_events_and_surplus_events_go() {
        let stored = |name: &str, at: &str| Stored {
            key: Key {
                resource: RESOURCE.into(),
                namespace: "a".into(),
                name: name.into(),
            },
            resource_version: 1,
            object: Document::new(&Arc::new(json!({"lastTimestamp": at}))),
        };
        let events = [
            stored("new", "2026-01-01T10:00:00Z"),
            stored("newer", "2026-01-01T10:30:00Z"),
            stored("old", "2026-01-01T08:00:00Z"),
        ];
        let now = "2026-01-01T10:31:00Z".parse().unwrap();
        let names = |max: usize| -> Vec<String> {
            expired(&events, now, SignedDuration::from_hours(1), max)
                .iter()
                .map(|key| key.name.to_string())
                .collect()
        };
        assert_eq!(names(10), ["old"]);
        assert_eq!(names(1), ["old", "new"]);
    }
}
