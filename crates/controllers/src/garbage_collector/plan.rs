//! Which Revisions of a Configuration go.

use crate::object::Meta;
use crate::runner::Next;
use jiff::Timestamp;
use kittiwake_api::config::GarbageCollection;
use kittiwake_api::meta;
use kittiwake_api::serving::{Configuration, Revision};
use std::sync::Arc;
use std::time::Duration;

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The Revisions to remove, oldest first.
    pub remove: Vec<Arc<Revision>>,
    /// When the next one becomes stale.
    pub next: Next,
}

/// Decides which Revisions go: of those to which no Route leads the stale ones, oldest first, as long as more than the
/// minimum remain; then whatever is above the maximum.
#[must_use]
pub fn plan(
    configuration: &Configuration,
    revisions: &[Arc<Revision>],
    settings: &GarbageCollection,
    now: Timestamp,
) -> Plan {
    let nothing = Plan {
        remove: Vec::new(),
        next: Next::OnChange,
    };
    let min = settings.min_non_active_revisions;
    if settings.is_disabled() {
        return nothing;
    }
    let mut idle: Vec<&Arc<Revision>> = revisions
        .iter()
        .filter(|revision| !is_kept(revision, configuration) && !revision.is_being_deleted())
        .collect();
    if idle.len() <= min {
        return nothing;
    }
    idle.sort_by_key(|revision| (last_active(revision), revision.metadata.name.clone()));
    let removable = idle.len() - min;
    let (stale, fresh): (Vec<_>, Vec<_>) = idle
        .into_iter()
        .partition(|revision| stale_in(revision, settings, now).is_some_and(|wait| wait.is_zero()));
    let reached_min = stale.len() >= removable;
    let mut remove: Vec<_> = stale.into_iter().take(removable).cloned().collect();
    if reached_min {
        return Plan { remove, ..nothing };
    }
    let above = settings
        .max_non_active_revisions
        .map_or(0, |max| fresh.len().saturating_sub(max));
    remove.extend(fresh.iter().take(above).map(|revision| Arc::clone(revision)));
    let wait = fresh
        .iter()
        .skip(above)
        .filter_map(|revision| stale_in(revision, settings, now))
        .min();
    Plan {
        remove,
        next: wait.map_or(Next::OnChange, |wait| {
            Next::After(wait.max(Duration::from_secs(1)))
        }),
    }
}

/// Whether a Revision never goes: the latest ready one, one that its owner keeps, one to which a Route leads or of which
/// that is not known yet.
fn is_kept(revision: &Revision, configuration: &Configuration) -> bool {
    let latest = configuration
        .status
        .as_ref()
        .and_then(|status| status.latest_ready_revision_name.as_deref());
    latest == Some(revision.name_str())
        || revision
            .annotation(meta::NO_GC_ANNOTATION)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || revision.label(meta::ROUTING_STATE_LABEL) != Some(meta::ROUTING_STATE_RESERVE)
}

/// When its routing state last changed, or when it was made.
fn last_active(revision: &Revision) -> Timestamp {
    revision
        .annotation(meta::ROUTING_STATE_MODIFIED_ANNOTATION)
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| created(revision))
}

fn created(revision: &Revision) -> Timestamp {
    revision
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// How long until a Revision is stale; nothing when it is, `None` when it never will be.
fn stale_in(revision: &Revision, settings: &GarbageCollection, now: Timestamp) -> Option<Duration> {
    let left = |since: Timestamp, retain: Duration| {
        let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        retain.saturating_sub(age)
    };
    let since_create = settings
        .retain_since_create_time
        .map(|retain| left(created(revision), retain));
    let since_active = settings
        .retain_since_last_active_time
        .map(|retain| left(last_active(revision), retain));
    since_create.max(since_active)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HOUR: i64 = 3600;

    fn at(hour: i64) -> Timestamp {
        Timestamp::from_second(hour * HOUR).unwrap()
    }

    /// A Revision made at hour `made`, idle since hour `idle`.
    fn revision(
        name: &str,
        made: i64,
        idle: i64,
        state: &str,
        annotations: &[(&str, &str)],
    ) -> Arc<Revision> {
        let mut all = json!({ meta::ROUTING_STATE_MODIFIED_ANNOTATION: at(idle).to_string() });
        for (key, value) in annotations {
            all[*key] = (*value).into();
        }
        let object = json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
            "metadata": {
                "name": name, "creationTimestamp": at(made).to_string(), "annotations": all,
                "labels": { meta::ROUTING_STATE_LABEL: state },
            },
            "spec": { "containers": [] },
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn configuration() -> Configuration {
        serde_json::from_value(json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Configuration", "metadata": { "name": "c" },
            "spec": {}, "status": { "latestReadyRevisionName": "latest" },
        }))
        .unwrap()
    }

    fn settings(
        create: Option<u64>,
        active: Option<u64>,
        min: usize,
        max: Option<usize>,
    ) -> GarbageCollection {
        let hours = |hours: Option<u64>| hours.map(|hours| Duration::from_secs(hours * 3600));
        GarbageCollection {
            retain_since_create_time: hours(create),
            retain_since_last_active_time: hours(active),
            min_non_active_revisions: min,
            max_non_active_revisions: max,
        }
    }

    fn removed(revisions: &[Arc<Revision>], settings: &GarbageCollection, hour: i64) -> (Vec<String>, Next) {
        let plan = plan(&configuration(), revisions, settings, at(hour));
        let names = plan.remove.iter().map(|r| r.name_str().to_owned());
        (names.collect(), plan.next)
    }

    #[test]
    fn the_oldest_stale_ones_go_down_to_the_minimum() {
        let revisions = [
            revision("a", 0, 10, "reserve", &[]),
            revision("b", 1, 5, "reserve", &[]),
            revision("c", 2, 90, "reserve", &[]),
            revision("d", 60, 61, "reserve", &[]),
        ];
        for (settings, wanted) in [
            (settings(Some(48), Some(15), 20, Some(1000)), &[][..]),
            (settings(Some(48), Some(15), 0, Some(1000)), &["b", "a"]),
            (settings(Some(48), Some(15), 3, Some(1000)), &["b"]),
            (settings(None, Some(15), 0, None), &["b", "a", "d"]),
            (settings(Some(48), None, 0, None), &["b", "a", "c"]),
            (settings(None, None, 0, None), &[]),
            (settings(None, None, 0, Some(1)), &["b", "a", "d"]),
            (settings(Some(48), Some(15), 1, Some(1)), &["b", "a", "d"]),
            // The minimum was reached, so the maximum is not asked for.
            (settings(Some(48), Some(15), 2, Some(2)), &["b", "a"]),
        ] {
            let (names, _) = removed(&revisions, &settings, 100);
            assert_eq!(names, wanted, "{settings:?}");
        }
    }

    #[test]
    fn what_is_in_use_or_kept_by_hand_stays() {
        let revisions = [
            revision("latest", 0, 0, "reserve", &[]),
            revision("active", 0, 0, "active", &[]),
            revision("pending", 0, 0, "pending", &[]),
            revision("kept", 0, 0, "reserve", &[(meta::NO_GC_ANNOTATION, "true")]),
            revision("old", 0, 0, "reserve", &[]),
        ];
        let (names, _) = removed(&revisions, &settings(Some(1), Some(1), 0, Some(0)), 1000);
        assert_eq!(names, ["old"]);
    }

    #[test]
    fn the_next_look_is_when_one_becomes_stale() {
        let revisions = [
            revision("a", 0, 90, "reserve", &[]),
            revision("b", 95, 95, "reserve", &[]),
        ];
        let (names, next) = removed(&revisions, &settings(Some(48), Some(15), 0, Some(10)), 100);
        assert_eq!(names, [""; 0]);
        assert_eq!(next, Next::After(Duration::from_secs(5 * 3600)));
    }
}
