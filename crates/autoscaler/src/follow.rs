//! From a decision to what there shall be and what is said of it, in one step: bounds and the way to zero, the
//! condition, the mode (`ReconcileKind` and `computeStatus` of serving `pkg/reconciler/autoscaling/kpa/kpa.go`).

use crate::activity::{self, Activity, Verdict};
use crate::decider::Recommendation;
use crate::scale_to_zero::{self, Rules, State, Step};
use crate::serving_mode::{self, ServingMode};
use std::time::Duration;

/// How instances come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instances {
    /// They are started and counted: so many take calls.
    Counted(u32),
    /// They are made for each call: as many as there shall be are there, at once.
    PerCall,
    /// None can be started yet.
    NotYet,
}

/// What was the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Before {
    /// Whether it was active.
    pub activity: Activity,
    /// For how long.
    pub activity_for: Duration,
    /// Whether it had reached its initial scale once.
    pub initialized: bool,
    /// Instances that there should be.
    pub replicas: u32,
}

/// What is seen now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// What was decided last.
    pub latest: Recommendation,
    /// Its instances.
    pub instances: Instances,
    /// Whether calls pass the activator.
    pub activator_in_path: bool,
    /// For how long they have.
    pub proxied_for: Duration,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// What is wanted, as shown; `None` when it is not known.
    pub want: Option<u32>,
    /// Instances that there shall be.
    pub replicas: u32,
    /// Instances that take calls.
    pub ready: u32,
    /// Whether it has reached its initial scale once.
    pub initialized: bool,
    /// What the condition says.
    pub verdict: Verdict,
    /// Where calls go.
    pub mode: ServingMode,
    /// When to look again, if nothing changes until then.
    pub look_again: Option<Duration>,
}

/// One step.
#[must_use]
pub fn follow(rules: &Rules, before: &Before, now: &Now) -> Outcome {
    let mut step = scale(rules, before, now, before.activity, before.activity_for);
    let mut there = carry_out(step, before, now);
    let active_from = rules.active_from(before.initialized);
    let verdict = activity::verdict(there.want, there.ready, active_from, before.activity);
    let mode = serving_mode::mode(there.want, now.latest, before.activity);
    let initialized =
        before.initialized || (now.instances != Instances::NotYet && there.ready >= active_from);
    if verdict == Verdict::NoTraffic && before.activity == Activity::Active && !step.apply {
        // It has just become inactive. Knative looks again after 3 s; there is nothing to wait for.
        step = scale(rules, before, now, Activity::Inactive, Duration::ZERO);
        there = carry_out(step, before, now);
    }
    Outcome {
        want: there.want,
        replicas: there.replicas,
        ready: there.ready,
        initialized,
        verdict,
        mode,
        look_again: step.look_again,
    }
}

fn scale(rules: &Rules, before: &Before, now: &Now, activity: Activity, activity_for: Duration) -> Step {
    let state = State {
        activity,
        activity_for,
        initialized: before.initialized,
        activator_in_path: now.activator_in_path,
        proxied_for: now.proxied_for,
    };
    scale_to_zero::scale(now.latest.desired, rules, &state)
}

struct There {
    want: Option<u32>,
    replicas: u32,
    ready: u32,
}

fn carry_out(step: Step, before: &Before, now: &Now) -> There {
    let replicas = match step.want {
        Some(want) if step.apply => want,
        _ => before.replicas,
    };
    let (want, ready) = match now.instances {
        Instances::Counted(ready) => (step.want, ready),
        Instances::NotYet => (step.want, 0),
        // Nothing has to be started: what it begins with is there, and wanted.
        Instances::PerCall if before.activity == Activity::Activating => {
            (step.want.or(Some(replicas)), replicas)
        }
        Instances::PerCall => (step.want, replicas),
    };
    There {
        want,
        replicas,
        ready,
    }
}
