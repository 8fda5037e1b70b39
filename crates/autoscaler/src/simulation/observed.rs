//! Replays what was seen of a revision: at each line it is decided on the values of that line.

use super::input::Sample;
use super::{Setup, Tick};
use crate::activity::{Activity, Verdict};
use crate::decider::Decider;
use crate::follow::{self, Before, Instances, Now};
use crate::serving_mode::ServingMode;
use std::time::Duration;

/// A decision for each line, which must be in order of time.
#[must_use]
pub fn replay(setup: &Setup, samples: &[Sample]) -> Vec<Tick> {
    let Some(first) = samples.first() else {
        return Vec::new();
    };
    let begin = first.time.floor();
    let mut course = Course::new(setup, first.ready);
    samples
        .iter()
        .map(|sample| {
            let now = since(begin, sample.time);
            let decision = course
                .decider
                .decide_on(now, sample.ready, sample.stable, sample.panic);
            let scale = course.follow(now, sample.ready);
            Tick::of(&decision, sample.time, sample.ready, scale)
        })
        .collect()
}

/// The time since `begin`, both in seconds; exact to the nanosecond as far as an f64 is.
pub(super) fn since(begin: f64, time: f64) -> Duration {
    Duration::try_from_secs_f64((time - begin).max(0.0)).unwrap_or_default()
}

/// A revision that is scaled, step by step.
#[derive(Debug)]
pub(super) struct Course<'a> {
    pub decider: Decider,
    setup: &'a Setup,
    activity: Activity,
    activity_since: Duration,
    initialized: bool,
    pub replicas: u32,
    proxied_since: Option<Duration>,
}

impl<'a> Course<'a> {
    /// One that has been there for long, with `ready` instances; with none it is at zero.
    pub fn new(setup: &'a Setup, ready: u32) -> Self {
        Self {
            decider: Decider::new(setup.decider.clone(), ready, Duration::ZERO),
            setup,
            activity: if ready > 0 {
                Activity::Active
            } else {
                Activity::Inactive
            },
            activity_since: Duration::ZERO,
            initialized: true,
            replicas: ready,
            proxied_since: Some(Duration::ZERO),
        }
    }

    /// Applies what was decided last. Gives the instances that there shall be.
    pub fn follow(&mut self, now: Duration, ready: u32) -> u32 {
        let before = Before {
            activity: self.activity,
            activity_for: now.saturating_sub(self.activity_since),
            initialized: self.initialized,
            replicas: self.replicas,
        };
        let seen = Now {
            latest: self.decider.latest(),
            instances: Instances::Counted(ready),
            activator_in_path: true,
            proxied_for: self
                .proxied_since
                .map_or(Duration::ZERO, |since| now.saturating_sub(since)),
        };
        let outcome = follow::follow(&self.setup.rules, &before, &seen);
        let activity = match outcome.verdict {
            Verdict::Active => Activity::Active,
            Verdict::Activating => Activity::Activating,
            Verdict::NoTraffic | Verdict::TimedOut => Activity::Inactive,
            Verdict::Unchanged => self.activity,
        };
        if activity != self.activity {
            self.activity = activity;
            self.activity_since = now;
        }
        self.proxied_since = match outcome.mode {
            ServingMode::Serve => None,
            ServingMode::Proxy => self.proxied_since.or(Some(now)),
        };
        self.initialized = outcome.initialized;
        self.replicas = outcome.replicas;
        self.replicas
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decider::DeciderSpec;
    use crate::scale_to_zero::Rules;
    use crate::target::Target;

    #[test]
    fn each_line_is_decided_on_its_own_values() {
        let window = Duration::from_secs(60);
        let setup = Setup {
            decider: DeciderSpec {
                target: Target {
                    target: 10.0,
                    total: 10.0,
                },
                target_burst_capacity: 0.0,
                ..DeciderSpec::default()
            },
            rules: Rules {
                min: 0,
                max: 8,
                initial: 1,
                reachable: true,
                enable_scale_to_zero: true,
                grace: Duration::from_secs(30),
                retention: Duration::ZERO,
                stable_window: window,
                progress_deadline: window,
            },
            container_concurrency: 10,
            ready: 0,
            startup: Duration::ZERO,
        };
        let sample = |time: f64, ready, stable, panic| Sample {
            time,
            ready,
            stable,
            panic,
        };
        let ticks = replay(
            &setup,
            &[
                sample(1000.0, 1, 15.0, 15.0),
                // 100 / 10 = 10 of 1 ready: it panics, and 8 are allowed.
                sample(1002.0, 1, 30.0, 100.0),
                sample(1004.0, 8, 30.0, 30.0),
                // 1002 + 60 s are over: ceil(30 / 10) = 3, but half of 8 at most.
                sample(1064.0, 8, 30.0, 30.0),
                sample(1066.0, 4, 0.0, 0.0),
            ],
        );
        let shown: Vec<_> = ticks
            .iter()
            .map(|t| (t.time, t.desired, t.scale, t.panicking))
            .collect();
        assert_eq!(
            shown,
            [
                (1000.0, 2, 2, true),
                (1002.0, 10, 8, true),
                (1004.0, 10, 8, true),
                (1064.0, 4, 4, false),
                (1066.0, 2, 2, false),
            ]
        );
    }
}
