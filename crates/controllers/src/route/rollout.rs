//! A new revision gets its traffic step by step (serving `pkg/reconciler/route/traffic/rollout.go`).
//!
//! The state is a value that is kept in the Route's status between two steps, in Knative's form. Times are in
//! nanoseconds since 1970. It begins with 1 % for the new revision. Once the gateways have that, the time it took says
//! how many steps fit into what is left of the duration; each moves an equal share.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Where the traffic of every Configuration is: that of the Route's own name, and that of each tag that follows one, which
/// rolls by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rollout {
    /// Each once for the Route's own name and once for a tag.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub configurations: Vec<ConfigurationRollout>,
}

/// Where the traffic of one Configuration is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationRollout {
    /// The Configuration.
    pub configuration_name: String,
    /// The tag whose traffic this is; empty for the Route's own name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// Its share of that traffic.
    pub percent: i64,
    /// The revisions that have it, oldest first; their shares sum to `percent`. One, unless a rollout is under way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<RevisionRollout>,
    /// The steps of the rollout that is under way.
    #[serde(default, skip_serializing_if = "StepParams::is_nothing")]
    pub step_params: StepParams,
}

/// One revision's share of the traffic.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionRollout {
    /// The revision.
    pub revision_name: String,
    /// Its share, of all that a name has.
    pub percent: i64,
}

/// How a rollout goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StepParams {
    /// When the new revision came.
    pub start_time: i64,
    /// When the next step is due; 0 until the gateways had the first percent.
    pub next_step_time: i64,
    /// Time between two steps.
    pub step_duration: i64,
    /// What one step moves, in percent.
    pub step_size: i64,
}

impl StepParams {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Nanoseconds since 1970.
fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

impl Rollout {
    /// Reads a state that was kept. `None` for one that somebody damaged: the rollout then ends at once.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let rollout: Self = serde_json::from_str(text).ok()?;
        let valid = |c: &ConfigurationRollout| {
            let shares: i64 = c.revisions.iter().map(|r| r.percent).fold(0, i64::saturating_add);
            (0..=100).contains(&c.percent)
                // Of the share as it was when the rollout began: it may have become less since.
                && (0..=100).contains(&c.step_params.step_size)
                && shares == c.percent
                && c.revisions.iter().all(|r| r.percent >= 0)
        };
        rollout.configurations.iter().all(valid).then_some(rollout)
    }

    /// The state as it is kept.
    #[must_use]
    pub fn write(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether a rollout is under way.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.configurations.iter().any(|c| c.revisions.len() > 1)
    }

    /// Whether a rollout waits for the gateways to have its first percent.
    #[must_use]
    pub fn waits_for_gateways(&self) -> bool {
        self.configurations
            .iter()
            .any(ConfigurationRollout::waits_for_gateways)
    }

    /// The shares of a Configuration's revisions of the Route's own name, oldest first.
    #[must_use]
    pub fn revisions(&self, configuration: &str) -> &[RevisionRollout] {
        self.configurations
            .iter()
            .find(|c| c.configuration_name == configuration && c.tag.is_empty())
            .map(|c| c.revisions.as_slice())
            .unwrap_or_default()
    }

    /// The shares of a tag's revisions, oldest first, while that tag's rollout is under way.
    #[must_use]
    pub fn of_tag(&self, tag: &str) -> Option<&[RevisionRollout]> {
        let of_tag = self.configurations.iter().find(|c| c.tag == tag);
        of_tag.map(|c| c.revisions.as_slice()).filter(|all| all.len() > 1)
    }

    /// Takes note that the gateways have what this says. `duration`: how long a rollout is to take.
    pub fn observe_ready(&mut self, now: Timestamp, duration: Duration) {
        for configuration in &mut self.configurations {
            if configuration.waits_for_gateways() {
                configuration.set_steps(nanos(now), duration);
            }
        }
    }

    /// The state that comes after `previous` on the way to `goal`, which has one revision for each Configuration; and
    /// when to look again.
    #[must_use]
    pub fn step(goal: Self, previous: Option<Self>, now: Timestamp) -> (Self, Option<Duration>) {
        let Some(previous) = previous.filter(|previous| !previous.configurations.is_empty()) else {
            return (goal, None);
        };
        let now = nanos(now);
        let mut next: Option<i64> = None;
        let step = |goal: ConfigurationRollout| {
            let before = previous
                .configurations
                .iter()
                .find(|c| (&c.configuration_name, &c.tag) == (&goal.configuration_name, &goal.tag));
            match before {
                // One percent cannot be split, and none need not be.
                Some(before) if goal.percent > 1 => goal.step(before.clone(), now),
                _ => goal,
            }
        };
        let configurations: Vec<_> = goal.configurations.into_iter().map(step).collect();
        for at in configurations
            .iter()
            .map(|c| c.step_params.next_step_time)
            .filter(|at| *at > 0)
        {
            next = Some(next.map_or(at, |earliest| earliest.min(at)));
        }
        let pause = next.map(|at| {
            Duration::from_nanos(u64::try_from(at.saturating_sub(now)).unwrap_or_default())
                .max(Duration::from_millis(1))
        });
        (Self { configurations }, pause)
    }
}

impl ConfigurationRollout {
    /// One that has all its traffic on one revision.
    #[must_use]
    pub fn whole(configuration: &str, tag: &str, revision: &str, percent: i64) -> Self {
        Self {
            configuration_name: configuration.to_owned(),
            tag: tag.to_owned(),
            percent,
            revisions: vec![RevisionRollout {
                revision_name: revision.to_owned(),
                percent,
            }],
            step_params: StepParams::default(),
        }
    }

    fn waits_for_gateways(&self) -> bool {
        self.step_params.step_duration == 0 && self.step_params.start_time > 0
    }

    /// Fits steps into what is left of `duration`, now that the first percent is moved.
    fn set_steps(&mut self, now: i64, duration: Duration) {
        let took = now.saturating_sub(self.step_params.start_time).max(0);
        #[expect(clippy::cast_precision_loss, reason = "seconds of a rollout are few")]
        let (took, percent) = (
            (took as f64 / NANOS_PER_SECOND as f64).ceil().max(1.0),
            (self.percent - 1) as f64,
        );
        let left = (duration.as_secs_f64() - took).max(1.0);
        let steps = (left / took).max(1.0).min(percent.max(1.0));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most 99 percent, and at most the longest duration"
        )]
        let (size, pause) = (
            (percent / steps).round() as i64,
            (left / steps * NANOS_PER_SECOND as f64) as i64,
        );
        self.step_params.step_size = size.clamp(1, self.percent.max(1));
        self.step_params.step_duration = pause.max(1);
        self.step_params.next_step_time = now.saturating_add(self.step_params.step_duration);
    }

    /// This goal, come to from `previous`.
    fn step(self, mut previous: Self, now: i64) -> Self {
        let Some(wanted) = self.revisions.first().cloned() else {
            return self;
        };
        previous.adjust(self.percent);
        let newest = previous.revisions.last().map(|r| r.revision_name.clone());
        match newest {
            None => self,
            Some(newest) if newest == wanted.revision_name => {
                if previous.revisions.len() < 2 {
                    return self;
                }
                previous.move_on(now);
                previous
            }
            Some(_) => previous.begin(wanted.revision_name, now),
        }
    }

    /// Takes over another share of the Route: more goes to the newest revision, less is taken from the oldest.
    fn adjust(&mut self, percent: i64) {
        let mut less = self.percent - percent;
        self.percent = percent;
        if less < 0 {
            if let Some(newest) = self.revisions.last_mut() {
                newest.percent -= less;
            }
            return;
        }
        while let Some(oldest) = self.revisions.first_mut().filter(|_| less > 0) {
            if oldest.percent > less {
                oldest.percent -= less;
                return;
            }
            less -= oldest.percent;
            self.revisions.remove(0);
        }
    }

    /// Begins with a revision that is newer than all: it gets one percent of the newest that has any.
    fn begin(mut self, revision: String, now: i64) -> Self {
        if let Some(giver) = self.revisions.iter_mut().rev().find(|r| r.percent > 0) {
            giver.percent -= 1;
        }
        self.revisions.retain(|r| r.percent > 0);
        if self.revisions.iter().all(|r| r.revision_name == revision) {
            return Self::whole(&self.configuration_name, &self.tag, &revision, self.percent);
        }
        self.revisions.push(RevisionRollout {
            revision_name: revision,
            percent: 1,
        });
        self.step_params = StepParams {
            start_time: now,
            ..StepParams::default()
        };
        self
    }

    /// Makes the next step when it is due: traffic is taken from the newest of the older revisions first.
    fn move_on(&mut self, now: i64) {
        if self.step_params.step_size == 0 || now < self.step_params.next_step_time {
            return;
        }
        let Some(mut newest) = self.revisions.pop() else {
            return;
        };
        let mut left = self.step_params.step_size;
        while let Some(older) = self.revisions.last_mut().filter(|_| left > 0) {
            if older.percent > left {
                older.percent -= left;
                newest.percent += left;
                left = 0;
            } else {
                left -= older.percent;
                newest.percent += older.percent;
                self.revisions.pop();
            }
        }
        self.revisions.push(newest);
        self.step_params = if self.revisions.len() > 1 {
            StepParams {
                next_step_time: now.saturating_add(self.step_params.step_duration),
                ..self.step_params
            }
        } else {
            StepParams::default()
        };
    }
}

#[cfg(test)]
#[path = "rollout_tests.rs"]
mod tests;
