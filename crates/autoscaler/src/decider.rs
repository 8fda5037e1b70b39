//! How many instances the load asks for (serving `pkg/autoscaler/scaling/{autoscaler,multiscaler}.go`).

use crate::max_window::MaxWindow;
use crate::metric::{Load, Metric};
use crate::target::Target;
use crate::window::Aggregation;
use std::time::Duration;

/// How often it is decided.
pub const TICK: Duration = Duration::from_secs(2);
/// The target burst capacity that is without end: calls always pass the activator.
pub const BURST_UNLIMITED: f64 = -1.0;

/// By which rules one revision is scaled.
#[derive(Debug, Clone, PartialEq)]
pub struct DeciderSpec {
    /// What is measured.
    pub metric: Metric,
    /// How seconds are weighed. It does not change while the decider lives.
    pub aggregation: Aggregation,
    /// What one instance shall and can carry.
    pub target: Target,
    /// The time over which the load is averaged, and how long a panic lasts after its cause is gone.
    pub stable_window: Duration,
    /// The time over which it is averaged to see a burst.
    pub panic_window: Duration,
    /// The load in the panic window from which it panics, as a multiple of what the ready instances shall carry.
    pub panic_threshold: f64,
    /// What must fit in beyond the load so that calls may bypass the activator; 0 for nothing, [`BURST_UNLIMITED`].
    pub target_burst_capacity: f64,
    /// By which factor the ready instances may be multiplied in one decision. More than 1.
    pub max_scale_up_rate: f64,
    /// By which factor they may be divided. More than 1.
    pub max_scale_down_rate: f64,
    /// How long less load must last before instances go. 0: not at all.
    pub scale_down_delay: Duration,
    /// The least that there are when there are any. 0 and 1 say nothing.
    pub activation_scale: u32,
    /// What a new revision begins with.
    pub initial_scale: u32,
    /// Whether a Route may lead to it.
    pub reachable: bool,
}

impl Default for DeciderSpec {
    /// What a revision gets that says nothing, under a `config-autoscaler` that says nothing.
    fn default() -> Self {
        Self {
            metric: Metric::Concurrency,
            aggregation: Aggregation::Linear,
            target: Target {
                target: 70.0,
                total: 100.0,
            },
            stable_window: Duration::from_secs(60),
            panic_window: Duration::from_secs(6),
            panic_threshold: 2.0,
            target_burst_capacity: 211.0,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            scale_down_delay: Duration::ZERO,
            activation_scale: 0,
            initial_scale: 1,
            reachable: true,
        }
    }
}

/// What was decided last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recommendation {
    /// Instances that the load asks for; `None` before there was data (Knative's -1).
    pub desired: Option<u32>,
    /// How much more load the ready instances could take beyond the target burst capacity. Below 0 the activator has to
    /// stay in the path.
    pub excess_burst_capacity: i32,
}

/// One decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Instances that the load asks for.
    pub desired: u32,
    /// See [`Recommendation::excess_burst_capacity`].
    pub excess_burst_capacity: i32,
    /// The metric over the stable window.
    pub stable: f64,
    /// The metric over the panic window.
    pub panic: f64,
    /// Whether it panics.
    pub panicking: bool,
    /// Whether those who apply decisions must look: the instances differ, or the sign of the excess burst capacity.
    pub changed: bool,
}

/// Decides for one revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Decider {
    spec: DeciderSpec,
    load: Load,
    /// When the load was over the panic threshold last; `None` when it does not panic.
    panic_since: Option<Duration>,
    /// The most that was wanted in this panic. 0 outside of one.
    panic_max: u32,
    /// There while `spec.scale_down_delay` is more than 0.
    delay: Option<MaxWindow>,
    latest: Recommendation,
}

impl Decider {
    /// A decider without data, of a revision that has `ready` instances. Where they are several it begins in panic, so
    /// that none goes before there are data again.
    #[must_use]
    pub fn new(spec: DeciderSpec, ready: u32, now: Duration) -> Self {
        let burst = spec.target_burst_capacity;
        let excess = if burst == 0.0 || burst == BURST_UNLIMITED {
            burst
        } else {
            f64::from(spec.initial_scale) * spec.target.total - burst
        };
        Self {
            load: Load::new(spec.aggregation, spec.stable_window, spec.panic_window),
            panic_since: (ready > 1).then_some(now),
            panic_max: ready,
            delay: delay(&spec),
            latest: Recommendation {
                desired: None,
                excess_burst_capacity: excess as i32,
            },
            spec,
        }
    }

    /// The rules in force.
    #[must_use]
    pub fn spec(&self) -> &DeciderSpec {
        &self.spec
    }

    /// What was decided last.
    #[must_use]
    pub fn latest(&self) -> Recommendation {
        self.latest
    }

    /// Whether it panics.
    #[must_use]
    pub fn is_panicking(&self) -> bool {
        self.panic_since.is_some()
    }

    /// Changes the rules and keeps the data.
    pub fn update(&mut self, spec: DeciderSpec, now: Duration) {
        self.load.resize(spec.stable_window, spec.panic_window, now);
        if spec.scale_down_delay != self.spec.scale_down_delay {
            self.delay = delay(&spec);
        }
        self.spec = DeciderSpec {
            aggregation: self.spec.aggregation,
            ..spec
        };
    }

    /// Adds what was seen within one second.
    pub fn record(&mut self, now: Duration, concurrency: f64, rps: f64) {
        self.load.record(now, concurrency, rps);
    }

    /// Whether there is anything to decide on: data within the stable window. Gives back memory where there is none.
    pub fn has_data(&mut self, now: Duration) -> bool {
        let empty = self.load.is_empty(now);
        if empty {
            self.load.shrink(now);
        }
        !empty
    }

    /// Decides, while `ready` instances take calls. `None` without data: then all stays as it is. Where all calls pass
    /// the activator silence means that there are none.
    pub fn decide(&mut self, now: Duration, ready: u32) -> Option<Decision> {
        if self.load.is_empty(now) && self.spec.target_burst_capacity != BURST_UNLIMITED {
            return None;
        }
        let (stable, panic) = self.load.stable_and_panic(self.spec.metric, now);
        Some(self.decide_on(now, ready, stable, panic))
    }

    /// Decides on values that are known from elsewhere.
    pub fn decide_on(&mut self, now: Duration, ready: u32, stable: f64, panic: f64) -> Decision {
        let wanted = Wanted::of(&self.spec, stable, panic, ready);
        self.follow_panic(now, &wanted);
        let mut desired = wanted.stable;
        if self.panic_since.is_some() {
            self.panic_max = self.panic_max.max(desired).max(wanted.panic);
            desired = self.panic_max;
        }
        // 1.12 waits with revisions that no Route leads to as well.
        if let Some(delay) = self.delay.as_mut().filter(|_| self.spec.reachable) {
            desired = delay.record(now, desired);
        }
        let excess_burst_capacity = excess_burst_capacity(&self.spec, ready, panic);
        let changed = self.latest.desired != Some(desired)
            || (self.latest.excess_burst_capacity < 0) != (excess_burst_capacity < 0);
        self.latest = Recommendation {
            desired: Some(desired),
            excess_burst_capacity,
        };
        Decision {
            desired,
            excess_burst_capacity,
            stable,
            panic,
            panicking: self.panic_since.is_some(),
            changed,
        }
    }

    /// Calm ⇒ Panic when over the threshold; Panic ⇒ Calm when it was not over it for a stable window.
    fn follow_panic(&mut self, now: Duration, wanted: &Wanted) {
        match self.panic_since {
            _ if wanted.over_threshold => self.panic_since = Some(now),
            Some(since) if since.saturating_add(self.spec.stable_window) < now => {
                self.panic_since = None;
                self.panic_max = 0;
            }
            Some(_) | None => {}
        }
    }
}

/// What both windows ask for, within the rates.
struct Wanted {
    stable: u32,
    panic: u32,
    over_threshold: bool,
}

impl Wanted {
    fn of(spec: &DeciderSpec, stable: f64, panic: f64, ready: u32) -> Self {
        let ready = f64::from(ready.max(1));
        let up = (spec.max_scale_up_rate * ready).ceil();
        let down = if spec.reachable {
            (ready / spec.max_scale_down_rate).floor()
        } else {
            0.0
        };
        let within_rates = |value: f64| {
            let wanted = (value / spec.target.target).ceil();
            let count = wanted.max(down).min(up) as u32;
            let least = if wanted > 0.0 && spec.activation_scale > 1 {
                spec.activation_scale
            } else {
                0
            };
            (wanted, count.max(least))
        };
        let (_, stable) = within_rates(stable);
        let (asked, panic) = within_rates(panic);
        Self {
            stable,
            panic,
            over_threshold: asked / ready >= spec.panic_threshold,
        }
    }
}

/// Of what is ready now, which may be nothing.
fn excess_burst_capacity(spec: &DeciderSpec, ready: u32, panic: f64) -> i32 {
    let burst = spec.target_burst_capacity;
    if burst == 0.0 {
        0
    } else if burst < 0.0 {
        -1
    } else {
        (f64::from(ready) * spec.target.total - burst - panic).floor() as i32
    }
}

fn delay(spec: &DeciderSpec) -> Option<MaxWindow> {
    (!spec.scale_down_delay.is_zero()).then(|| MaxWindow::new(spec.scale_down_delay))
}

#[cfg(test)]
#[path = "decider_tests.rs"]
mod tests;
