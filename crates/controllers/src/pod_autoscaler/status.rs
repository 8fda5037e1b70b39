//! What a PodAutoscaler of class kpa says of itself, and how many instances follow from what was decided
//! (serving `pkg/reconciler/autoscaling/kpa/{kpa,scaler}.go`).

use crate::kpa::deciders::{Instances, Seen};
use crate::object::{Meta, keep_times};
use crate::revision::spec::pinned_image;
use crate::runner::Next;
use crate::scale_table;
use jiff::Timestamp;
use kittiwake_api::autoscaling::pod_autoscaler::condition::{ACTIVE, SCALE_TARGET_INITIALIZED, SKS_READY};
use kittiwake_api::autoscaling::pod_autoscaler::{CONDITIONS, PodAutoscaler, PodAutoscalerStatus, reason};
use kittiwake_api::condition::{self, Condition, Conditions, READY};
use kittiwake_api::meta;
use kittiwake_api::networking::serverless_service::{MODE_PROXY, MODE_SERVE};
use kittiwake_api::serving::Revision;
use kittiwake_autoscaler::activity::{Activity, Verdict};
use kittiwake_autoscaler::follow::{self, Before, Now, Outcome};
use kittiwake_autoscaler::scale_to_zero::Rules;
use kittiwake_autoscaler::serving_mode::ServingMode;
use std::time::Duration;

/// Soonest that a key is looked at again.
const PAUSE_MIN: Duration = Duration::from_millis(10);

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The new status, when it differs.
    pub status: Option<PodAutoscalerStatus>,
    /// Where calls go.
    pub mode: ServingMode,
    /// When to look again.
    pub next: Next,
}

/// Whether the Revision's artifact was made ready once: instances can be started.
#[must_use]
pub fn is_prepared(revision: &Revision) -> bool {
    pinned_image(revision).is_some()
}

/// Applies what was decided. `activators` tells how many a number of ready instances needs.
#[must_use]
pub fn plan(
    revision: &Revision,
    observed: &PodAutoscaler,
    rules: &Rules,
    instances: Instances,
    seen: &Seen,
    activators: impl Fn(u32) -> u32,
    now: Timestamp,
) -> Plan {
    let old = observed.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let mut conditions = std::mem::take(&mut status.conditions);
    let mut manager = CONDITIONS.manage(&mut conditions, now);
    manager.initialize();
    if is_prepared(revision) {
        manager.mark_true(SKS_READY);
    }
    let before = before(observed, rules, &manager, now);
    let outcome = if failed(revision) && !before.initialized {
        // It cannot start: its owner reads why in the Revision. Once that is mended it begins as a new one.
        manager.mark_false(ACTIVE, reason::TIMED_OUT, reason::TIMED_OUT_MESSAGE);
        Outcome {
            want: None,
            replicas: before.replicas,
            ready: 0,
            initialized: false,
            verdict: Verdict::Unchanged,
            mode: ServingMode::Proxy,
            look_again: None,
        }
    } else {
        let now = Now {
            latest: seen.latest,
            instances: match instances {
                _ if !is_prepared(revision) => follow::Instances::NotYet,
                Instances::PerCall => follow::Instances::PerCall,
                Instances::Resident => follow::Instances::Counted(seen.counts.ready),
            },
            // It is part of the gateway.
            activator_in_path: true,
            proxied_for: seen.proxied_for,
        };
        follow::follow(rules, &before, &now)
    };
    if outcome.initialized {
        manager.mark_true(SCALE_TARGET_INITIALIZED);
    }
    mark(&mut manager, outcome.verdict);
    keep_times(&old.conditions, &mut conditions);
    status.conditions = conditions;
    status.observed_generation = observed.metadata.generation;
    status.service_name = Some(revision.name_str().to_owned());
    status.actual_scale = Some(shown(outcome.ready));
    // After a restart what is wanted is not known: what was wanted then still stands.
    status.desired_scale = match outcome.want {
        Some(want) => Some(shown(want)),
        None => status.desired_scale.filter(|scale| *scale >= 0).or(Some(-1)),
    };
    status
        .annotations
        .insert(meta::REPLICAS_ANNOTATION.to_owned(), outcome.replicas.to_string());
    set_way(&mut status, outcome.mode, activators(outcome.ready));
    Plan {
        status: (status != old).then_some(status),
        mode: outcome.mode,
        next: match outcome.look_again {
            Some(pause) => Next::After(pause.max(PAUSE_MIN)),
            None => Next::OnChange,
        },
    }
}

/// Says where calls go: whether they pass the activator, and how many of those there are.
pub(super) fn set_way(status: &mut PodAutoscalerStatus, mode: ServingMode, activators: u32) {
    let mode = match mode {
        ServingMode::Proxy => MODE_PROXY,
        ServingMode::Serve => MODE_SERVE,
    };
    let annotations = &mut status.annotations;
    annotations.insert(meta::MODE_ANNOTATION.to_owned(), mode.to_owned());
    annotations.insert(meta::ACTIVATORS_ANNOTATION.to_owned(), activators.to_string());
}

/// The Revision cannot run.
fn failed(revision: &Revision) -> bool {
    let conditions = revision.status.as_ref().map(|s| s.conditions.as_slice());
    condition::find(conditions.unwrap_or_default(), READY).is_some_and(Condition::is_false)
}

fn shown(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// What the object said before.
fn before(observed: &PodAutoscaler, rules: &Rules, conditions: &Conditions<'_>, now: Timestamp) -> Before {
    let active = conditions.get(ACTIVE);
    let initialized = conditions
        .get(SCALE_TARGET_INITIALIZED)
        .is_some_and(Condition::is_true);
    let replicas = scale_table::replicas(observed);
    let activity = match active {
        Some(active) if active.is_true() => Activity::Active,
        Some(active) if active.is_false() => Activity::Inactive,
        _ => Activity::Activating,
    };
    // It had failed to start, but was not given up by the deadline, which leaves no instance wanted.
    let mended = activity == Activity::Inactive
        && !initialized
        && active.is_some_and(|active| active.reason == reason::TIMED_OUT)
        && replicas.is_some_and(|replicas| replicas > 0);
    let since = active
        .filter(|_| !mended)
        .and_then(|active| active.last_transition_time.as_ref());
    Before {
        activity: if mended { Activity::Activating } else { activity },
        activity_for: since
            .and_then(|since| Duration::try_from(now.duration_since(since.0)).ok())
            .unwrap_or_default(),
        initialized,
        // As Knative's Deployment is made.
        replicas: replicas.unwrap_or(rules.initial),
    }
}

fn mark(conditions: &mut Conditions<'_>, verdict: Verdict) {
    match verdict {
        Verdict::Active => conditions.mark_true(ACTIVE),
        Verdict::Activating => conditions.mark_unknown(ACTIVE, reason::QUEUED, reason::QUEUED_MESSAGE),
        Verdict::NoTraffic => conditions.mark_false(ACTIVE, reason::NO_TRAFFIC, reason::NO_TRAFFIC_MESSAGE),
        Verdict::TimedOut => conditions.mark_false(ACTIVE, reason::TIMED_OUT, reason::TIMED_OUT_MESSAGE),
        Verdict::Unchanged => {}
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
