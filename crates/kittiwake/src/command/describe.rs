//! `kittiwake describe`: one object in words, as `kn service describe` does: conditions, traffic, recent events.

use super::get::{percent_encode, split_kind_and_names};
use crate::cli::DescribeArgs;
use crate::client::Connection;
use crate::resource::Resources;
use anyhow::bail;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;

/// Most events shown, newest last.
const EVENTS_MAX: usize = 20;

/// Runs the command.
///
/// # Errors
/// When the object does not exist or the server cannot be reached.
pub async fn run(args: DescribeArgs) -> anyhow::Result<ExitCode> {
    let connection = Connection::open(&args.connect).await?;
    let resources = Resources::discover(&connection).await?;
    let (kind, name) = match (&args.name, args.kind.contains('/')) {
        (None, false) => ("ksvc".to_owned(), args.kind.clone()),
        (name, _) => {
            let names: Vec<String> = name.iter().cloned().collect();
            let (kind, names) = split_kind_and_names(&args.kind, &names)?;
            (kind, names.into_iter().next().unwrap_or_default())
        }
    };
    if args.name.is_none() && !args.kind.contains('/') && resources.find(&args.kind).is_ok() {
        bail!("name the object: kittiwake describe {} NAME", args.kind);
    }
    let found = resources.find(&kind)?;
    let [resource] = found.as_slice() else {
        bail!("{kind:?} means several kinds; name one")
    };
    let object = connection
        .get(&resource.object(&connection.namespace, &name))
        .await?;
    let uid = object
        .pointer("/metadata/uid")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let selector = percent_encode(&format!("involvedObject.uid={uid}"));
    let events = connection
        .get(&format!(
            "/api/v1/namespaces/{}/events?fieldSelector={selector}",
            connection.namespace
        ))
        .await;
    let events = events
        .ok()
        .and_then(|list| list.get("items").and_then(Value::as_array).cloned())
        .unwrap_or_default();
    crate::out!("{}", describe(&object, &events, Timestamp::now()));
    if let Some(revision) = unready_revision(&connection, &object).await {
        let mut text = format!(
            "\nRevision {}:\n",
            revision
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default()
        );
        conditions(&mut text, &revision, Timestamp::now());
        crate::out!("{text}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The newest Revision of a Service or Configuration, where it is the reason that the object is not ready.
async fn unready_revision(connection: &Connection, object: &Value) -> Option<Value> {
    let status = object.get("status")?;
    let created = status.get("latestCreatedRevisionName")?.as_str()?;
    if status.get("latestReadyRevisionName").and_then(Value::as_str) == Some(created) {
        return None;
    }
    let root = format!("/apis/serving.knative.dev/v1/namespaces/{}", connection.namespace);
    connection.get(&format!("{root}/revisions/{created}")).await.ok()
}

/// The description of `object` as text.
fn describe(object: &Value, events: &[Value], now: Timestamp) -> String {
    let mut out = String::new();
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "{:<14}{value}", format!("{label}:"));
        }
    };
    line("Name", text("/metadata/name"));
    line("Namespace", text("/metadata/namespace"));
    line("Kind", &format!("{} ({})", text("/kind"), text("/apiVersion")));
    line("Age", &age(text("/metadata/creationTimestamp"), now));
    line("URL", text("/status/url"));
    line("Image", image(object));
    for status in array(object, "/status/containerStatuses") {
        line(
            "Digest",
            status
                .get("imageDigest")
                .and_then(Value::as_str)
                .unwrap_or_default(),
        );
    }
    for (label, pointer) in [
        ("Labels", "/metadata/labels"),
        ("Annotations", "/metadata/annotations"),
    ] {
        for (key, value) in object
            .pointer(pointer)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            if key != super::apply::LAST_APPLIED {
                line(label, &format!("{key}={}", value.as_str().unwrap_or_default()));
            }
        }
    }
    traffic(&mut out, object);
    conditions(&mut out, object, now);
    list_events(&mut out, events, now);
    out
}

fn array<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The image of the container that takes calls: the one with a port, else the first.
fn image(object: &Value) -> &str {
    let lists = ["/spec/template/spec/containers", "/spec/containers"];
    let containers = lists
        .iter()
        .map(|pointer| array(object, pointer))
        .find(|containers| !containers.is_empty())
        .unwrap_or_default();
    let serving = containers
        .iter()
        .find(|container| !array(container, "/ports").is_empty())
        .or(containers.first());
    serving
        .and_then(|container| container.get("image")?.as_str())
        .unwrap_or_default()
}

fn traffic(out: &mut String, object: &Value) {
    let targets = array(object, "/status/traffic");
    if targets.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nRevisions:");
    for target in targets {
        let text = |field: &str| target.get(field).and_then(Value::as_str).unwrap_or_default();
        let percent = target.get("percent").and_then(Value::as_i64).unwrap_or(0);
        let latest = if target.get("latestRevision").and_then(Value::as_bool) == Some(true) {
            "@latest "
        } else {
            ""
        };
        let tag = if text("tag").is_empty() {
            String::new()
        } else {
            format!("  #{} {}", text("tag"), text("url"))
        };
        let _ = writeln!(out, "  {percent:>3}%  {latest}({}){tag}", text("revisionName"));
    }
}

/// One line a condition, marked as kn marks them: `++` true, `!!` false, `??` unknown.
fn conditions(out: &mut String, object: &Value, now: Timestamp) {
    let conditions = array(object, "/status/conditions");
    if conditions.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\nConditions:\n  {:<4}{:<26}{:>5}  REASON",
        "OK", "TYPE", "AGE"
    );
    for condition in conditions {
        let text = |field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default();
        let mark = match text("status") {
            "True" => "++",
            "False" => "!!",
            _ => "??",
        };
        let why = match (text("reason"), text("message")) {
            (reason, "") => reason.to_owned(),
            ("", message) => message.to_owned(),
            (reason, message) => format!("{reason}: {message}"),
        };
        let row = format!(
            "  {mark:<4}{:<26}{:>5}  {why}",
            text("type"),
            age(text("lastTransitionTime"), now)
        );
        let _ = writeln!(out, "{}", row.trim_end());
    }
}

fn list_events(out: &mut String, events: &[Value], now: Timestamp) {
    if events.is_empty() {
        return;
    }
    let _ = writeln!(out, "\nEvents:");
    let skipped = events.len().saturating_sub(EVENTS_MAX);
    for event in events.iter().skip(skipped) {
        let text = |field: &str| event.get(field).and_then(Value::as_str).unwrap_or_default();
        let at = [text("lastTimestamp"), text("eventTime"), text("firstTimestamp")]
            .into_iter()
            .find(|at| !at.is_empty());
        let message = if text("message").is_empty() {
            text("note")
        } else {
            text("message")
        };
        let _ = writeln!(
            out,
            "  {:<8}{:>5}  {:<22}{message}",
            text("type"),
            age(at.unwrap_or_default(), now),
            text("reason")
        );
    }
}

/// A time as kubectl shows ages: `5s`, `3m20s`, `4h`, `12d`.
fn age(timestamp: &str, now: Timestamp) -> String {
    let Ok(then) = timestamp.parse::<Timestamp>() else {
        return String::new();
    };
    let seconds = now.duration_since(then).max(SignedDuration::ZERO).as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=599 if seconds % 60 > 0 => format!("{minutes}m{}s", seconds % 60),
        120..=10_799 => format!("{minutes}m"),
        10_800..=172_799 => format!("{hours}h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_service_is_described() {
        let now = "2026-01-01T00:10:00Z".parse().unwrap();
        let object = json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Service",
            "metadata": {"name": "hello", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"template": {"spec": {"containers": [{"image": "file:///x.wasm"}]}}},
            "status": {
                "url": "http://hello.default.localhost",
                "traffic": [{"latestRevision": true, "percent": 90, "revisionName": "hello-00002"},
                            {"percent": 10, "revisionName": "hello-00001", "tag": "old", "url": "http://old-hello.default.localhost"}],
                "conditions": [{"type": "Ready", "status": "False", "reason": "RevisionFailed", "message": "no", "lastTransitionTime": "2026-01-01T00:07:30Z"}]
            }
        });
        let events = [
            json!({"type": "Normal", "reason": "Created", "message": "made it", "lastTimestamp": "2026-01-01T00:00:01Z"}),
        ];
        insta::assert_snapshot!(describe(&object, &events, now), @r"
        Name:         hello
        Namespace:    default
        Kind:         Service (serving.knative.dev/v1)
        Age:          10m
        URL:          http://hello.default.localhost
        Image:        file:///x.wasm

        Revisions:
           90%  @latest (hello-00002)
           10%  (hello-00001)  #old http://old-hello.default.localhost

        Conditions:
          OK  TYPE                        AGE  REASON
          !!  Ready                     2m30s  RevisionFailed: no

        Events:
          Normal  9m59s  Created               made it
        ");
    }

    #[test]
    fn ages_read_like_kubectls() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (seconds, text) in [
            (5, "5s"),
            (119, "119s"),
            (120, "2m"),
            (200, "3m20s"),
            (660, "11m"),
            (14_400, "4h"),
            (1_000_000, "11d"),
        ] {
            assert_eq!(
                age(
                    &Timestamp::from_second(1_000_000 - seconds).unwrap().to_string(),
                    now
                ),
                text
            );
        }
        assert_eq!(age("nonsense", now), "");
    }
}
