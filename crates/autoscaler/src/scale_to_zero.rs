//! From what the load asks for to what is applied: bounds, the initial scale, and the way to zero
//! (serving `pkg/reconciler/autoscaling/kpa/scaler.go`).

use crate::activity::Activity;
use std::time::Duration;

/// How long beyond the progress deadline an activation may take before it is given up: those who diagnose why it
/// failed come first.
pub const ACTIVATION_TIMEOUT_BUFFER: Duration = Duration::from_secs(30);

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// `min-scale`.
    pub min: u32,
    /// `max-scale`; 0 is no bound.
    pub max: u32,
    /// `initial-scale`.
    pub initial: u32,
    /// Whether a Route leads to the revision, or may. Where none does, minimum, initial scale and retention count
    /// nothing.
    pub reachable: bool,
    /// `enable-scale-to-zero`.
    pub enable_scale_to_zero: bool,
    /// How long calls must have passed the activator before the last instance goes.
    pub grace: Duration,
    /// `scale-to-zero-pod-retention-period`: how long the last instance stays after the revision became inactive.
    pub retention: Duration,
    /// See [`crate::decider::DeciderSpec::stable_window`].
    pub stable_window: Duration,
    /// Time that a revision has to become ready.
    pub progress_deadline: Duration,
}

impl Rules {
    /// The least that there shall be: the minimum, where a Route may lead to it (`ScaleBounds`).
    #[must_use]
    pub fn min(&self) -> u32 {
        if self.reachable { self.min } else { 0 }
    }

    /// Ready instances from which the revision counts as active (`activeThreshold`). 0 for one that begins with none.
    #[must_use]
    pub fn active_from(&self, initialized: bool) -> u32 {
        self.min().max(if initialized { 1 } else { self.initial })
    }

    fn within_bounds(&self, scale: u32, initialized: bool) -> u32 {
        let mut min = self.min();
        if self.initial > 1 && !initialized && self.reachable {
            min = min.max(self.initial);
        }
        if scale < min {
            min
        } else if self.max != 0 {
            scale.min(self.max)
        } else {
            scale
        }
    }
}

/// What is the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Whether it is active.
    pub activity: Activity,
    /// For how long.
    pub activity_for: Duration,
    /// Whether it had reached its initial scale once.
    pub initialized: bool,
    /// Whether calls pass the activator now.
    pub activator_in_path: bool,
    /// For how long they have.
    pub proxied_for: Duration,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What is wanted, as shown; `None` when it is not known.
    pub want: Option<u32>,
    /// Whether instances are started or stopped for it now. Else there stay as many as there are.
    pub apply: bool,
    /// When to look again, if nothing changes until then.
    pub look_again: Option<Duration>,
}

impl Step {
    fn apply(want: u32) -> Self {
        Self {
            want: Some(want),
            apply: true,
            look_again: None,
        }
    }

    fn wait(want: Option<u32>, look_again: Option<Duration>) -> Self {
        Self {
            want,
            apply: false,
            look_again,
        }
    }
}

/// What becomes of a decision, `None` being that there is none yet.
#[must_use]
pub fn scale(decided: Option<u32>, rules: &Rules, state: &State) -> Step {
    if decided.is_none() && state.activity != Activity::Activating {
        return Step::wait(None, None);
    }
    match rules.within_bounds(decided.unwrap_or(0), state.initialized) {
        0 => to_zero(rules, state),
        scale => Step::apply(scale),
    }
}

/// Zero is asked for. Activating ⇒ given up after the deadline; Active ⇒ Inactive after a stable window, until then
/// one instance; Inactive ⇒ no instance, once calls surely pass the activator and the last one stayed as long as asked.
fn to_zero(rules: &Rules, state: &State) -> Step {
    if !rules.enable_scale_to_zero {
        return Step::apply(1);
    }
    match state.activity {
        Activity::Activating => {
            let timeout = rules.progress_deadline.saturating_add(ACTIVATION_TIMEOUT_BUFFER);
            if state.activity_for > timeout {
                Step::apply(0)
            } else {
                Step::wait(None, Some(timeout))
            }
        }
        Activity::Active => match rules.stable_window.checked_sub(state.activity_for) {
            Some(rest) if !rest.is_zero() => Step {
                look_again: Some(rest),
                ..Step::apply(1)
            },
            _ => Step::wait(Some(0), None),
        },
        Activity::Inactive if !state.activator_in_path => Step::wait(Some(0), Some(PROBE_PERIOD)),
        Activity::Inactive => last_instance(rules, state),
    }
}

/// How soon the activator is probed again.
const PROBE_PERIOD: Duration = Duration::from_secs(1);

fn last_instance(rules: &Rules, state: &State) -> Step {
    let retention = if rules.reachable {
        rules.retention
    } else {
        Duration::ZERO
    };
    if state.activity_for >= rules.grace.max(retention) {
        return Step::apply(0);
    }
    if state.activity_for < retention {
        return Step::wait(Some(0), Some(retention - state.activity_for));
    }
    match rules.grace.checked_sub(state.proxied_for) {
        Some(rest) if !rest.is_zero() => Step::wait(Some(0), Some(rest)),
        _ => Step::apply(0),
    }
}

#[cfg(test)]
#[path = "scale_to_zero_tests.rs"]
mod tests;
