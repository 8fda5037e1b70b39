//! Scaling by processor time or memory, as Kubernetes' HorizontalPodAutoscaler does it (kubernetes
//! `pkg/controller/podautoscaler/{horizontal,replica_calculator}.go`), with what Knative sets of it (serving
//! `pkg/reconciler/autoscaling/hpa/resources/hpa.go`).

use std::collections::VecDeque;
use std::time::Duration;

/// How often it is decided (`--horizontal-pod-autoscaler-sync-period`).
pub const SYNC: Duration = Duration::from_secs(15);
/// By how much the measured may differ from the wanted before anything is done.
pub const TOLERANCE: f64 = 0.1;
/// What a quotient of two sums may be off by.
const ROUNDING: f64 = 1e-9;
/// The part of the requested processor time that is aimed at, in percent, where nothing is said.
pub const CPU_PERCENT_DEFAULT: f64 = 80.0;
/// How long a smaller number must have been enough before instances go, where no window is set.
pub const SCALE_DOWN_WINDOW_DEFAULT: Duration = Duration::from_secs(300);
/// Instances that one decision may add, or as many as there are where that is more.
pub const SCALE_UP_PODS: u32 = 4;

/// What is aimed at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HpaTarget {
    /// Processor time, in cores of each instance.
    Cpu(f64),
    /// Memory, in bytes of each instance.
    Memory(f64),
    /// Nothing that is measured here, or a percentage of a request that there is not: all stays as it is.
    Nothing,
}

/// By which rules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HpaSpec {
    /// What is aimed at.
    pub target: HpaTarget,
    /// The least instances. 0 counts as 1.
    pub min: u32,
    /// The most; 0 is no bound.
    pub max: u32,
    /// Annotation `window`: how long the past counts, up and down.
    pub window: Option<Duration>,
}

impl HpaSpec {
    fn bounded(&self, count: u32) -> u32 {
        let min = self.min.max(1);
        let max = if self.max == 0 {
            u32::MAX
        } else {
            self.max.max(min)
        };
        count.clamp(min, max)
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Instances that take calls.
    pub ready: u32,
    /// Instances that are being started.
    pub starting: u32,
    /// Processor time of all of them, in cores.
    pub cpu_cores: f64,
    /// Memory of all of them, in bytes.
    pub memory_bytes: f64,
}

/// Decides for one revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Hpa {
    spec: HpaSpec,
    /// What was recommended when, the oldest first, within the longer of the two windows.
    recommendations: VecDeque<(Duration, u32)>,
    desired: u32,
}

impl Hpa {
    /// One that begins with `replicas` instances.
    #[must_use]
    pub fn new(spec: HpaSpec, replicas: u32) -> Self {
        Self {
            desired: spec.bounded(replicas),
            spec,
            recommendations: VecDeque::new(),
        }
    }

    /// Instances that there shall be.
    #[must_use]
    pub fn desired(&self) -> u32 {
        self.desired
    }

    /// Changes the rules. Bounds hold at once. Whether the number of instances differs.
    pub fn update(&mut self, spec: HpaSpec) -> bool {
        let before = self.desired;
        self.spec = spec;
        self.desired = spec.bounded(before);
        self.desired != before
    }

    /// Decides; call it each [`SYNC`]. Whether the number of instances differs.
    pub fn decide(&mut self, now: Duration, usage: &Usage) -> bool {
        let before = self.desired;
        let recommended = self.spec.bounded(recommend(self.spec.target, before, usage));
        let stable = self.stabilize(now, recommended);
        let at_once = before.saturating_add(SCALE_UP_PODS.max(before));
        self.desired = self.spec.bounded(stable.min(at_once));
        self.desired != before
    }

    /// Up no further than the least, down no further than the most that was recommended within the window.
    fn stabilize(&mut self, now: Duration, recommended: u32) -> u32 {
        let up = self.spec.window.unwrap_or(Duration::ZERO);
        let down = self.spec.window.unwrap_or(SCALE_DOWN_WINDOW_DEFAULT);
        let age = |at: Duration| now.saturating_sub(at);
        while self
            .recommendations
            .front()
            .is_some_and(|(at, _)| age(*at) >= up.max(down))
        {
            self.recommendations.pop_front();
        }
        let within = |window: Duration| {
            let recent = self
                .recommendations
                .iter()
                .filter(move |(at, _)| age(*at) < window);
            recent.map(|(_, count)| *count).chain([recommended])
        };
        let least = within(up).min().unwrap_or(recommended);
        let most = within(down).max().unwrap_or(recommended);
        self.recommendations.push_back((now, recommended));
        self.desired.max(least).min(most)
    }
}

/// What the usage asks for. Instances that are being started count as idle before more are asked for.
fn recommend(target: HpaTarget, current: u32, usage: &Usage) -> u32 {
    let (used, each) = match target {
        HpaTarget::Cpu(cores) => (usage.cpu_cores, cores),
        HpaTarget::Memory(bytes) => (usage.memory_bytes, bytes),
        HpaTarget::Nothing => return current,
    };
    if usage.ready == 0 || each <= 0.0 || !used.is_finite() {
        return current;
    }
    let ratio = |instances: u32| used / (each * f64::from(instances));
    let tolerable = |ratio: f64| (1.0 - ratio).abs() <= TOLERANCE + ROUNDING;
    let measured = ratio(usage.ready);
    let counts_starting = usage.starting > 0 && measured > 1.0 && matches!(target, HpaTarget::Cpu(_));
    if !counts_starting {
        return if tolerable(measured) {
            current
        } else {
            (measured * f64::from(usage.ready)).ceil() as u32
        };
    }
    let all = usage.ready.saturating_add(usage.starting);
    let with_starting = ratio(all);
    if tolerable(with_starting) || with_starting < 1.0 {
        return current;
    }
    ((with_starting * f64::from(all)).ceil() as u32).max(current)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(target: HpaTarget) -> HpaSpec {
        HpaSpec {
            target,
            min: 0,
            max: 0,
            window: None,
        }
    }

    fn cpu(ready: u32, starting: u32, cpu_cores: f64) -> Usage {
        Usage {
            ready,
            starting,
            cpu_cores,
            memory_bytes: 0.0,
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_ratio_of_used_to_wanted_gives_the_number() {
        // 80 % of 0.1 cores: 0.08 each.
        let target = HpaTarget::Cpu(0.08);
        for (name, target, current, usage, wanted) in [
            ("0.32 / 0.08 = 4", target, 2, cpu(2, 0, 0.32), 4),
            ("0.33 / 0.08 = 4.1", target, 2, cpu(2, 0, 0.33), 5),
            (
                "1.1 times the wanted is tolerated",
                target,
                2,
                cpu(2, 0, 0.176),
                2,
            ),
            ("0.9 times too", target, 10, cpu(10, 0, 0.72), 10),
            ("0.5 times is not: 0.4 / 0.08", target, 10, cpu(10, 0, 0.4), 5),
            ("nothing is ready: as it is", target, 3, cpu(0, 3, 0.0), 3),
            // 0.32 / (0.08 * 4) = 1: those that start will do.
            ("two start", target, 4, cpu(2, 2, 0.32), 4),
            // 0.48 / (0.08 * 4) = 1.5: 6.
            ("two start and are not enough", target, 4, cpu(2, 2, 0.48), 6),
            ("no request", HpaTarget::Nothing, 3, cpu(3, 0, 9.0), 3),
        ] {
            assert_eq!(recommend(target, current, &usage), wanted, "{name}");
        }
        let memory = Usage {
            ready: 2,
            memory_bytes: 500.0,
            ..Usage::default()
        };
        assert_eq!(recommend(HpaTarget::Memory(100.0), 2, &memory), 5);
    }

    #[test]
    fn up_at_once_by_four_or_double_and_down_after_five_minutes() {
        let mut hpa = Hpa::new(spec(HpaTarget::Cpu(1.0)), 1);
        let mut course = Vec::new();
        for step in 0..4 {
            hpa.decide(at(step * 15), &cpu(hpa.desired(), 0, 30.0));
            course.push(hpa.desired());
        }
        // 1 + 4, 5 * 2, 10 * 2, 30.
        assert_eq!(course, [5, 10, 20, 30]);
        // 30 was recommended last at 45 s; 300 s later it is forgotten.
        for step in 4..23 {
            hpa.decide(at(step * 15), &cpu(hpa.desired(), 0, 2.0));
            assert_eq!(hpa.desired(), 30, "at {} s", step * 15);
        }
        hpa.decide(at(345), &cpu(30, 0, 2.0));
        assert_eq!(hpa.desired(), 2);
    }

    #[test]
    fn a_window_waits_both_ways() {
        let window = HpaSpec {
            window: Some(at(60)),
            ..spec(HpaTarget::Cpu(1.0))
        };
        let mut hpa = Hpa::new(window, 1);
        hpa.decide(at(0), &cpu(1, 0, 1.0));
        for step in 1..4 {
            hpa.decide(at(step * 15), &cpu(1, 0, 3.0));
            assert_eq!(hpa.desired(), 1, "1 was recommended {} s ago", step * 15);
        }
        hpa.decide(at(60), &cpu(1, 0, 3.0));
        assert_eq!(hpa.desired(), 3);
    }

    #[test]
    fn bounds_hold_at_once() {
        let bounded = HpaSpec {
            min: 2,
            max: 4,
            ..spec(HpaTarget::Cpu(1.0))
        };
        let mut hpa = Hpa::new(spec(HpaTarget::Cpu(1.0)), 0);
        assert_eq!(hpa.desired(), 1, "never zero");
        assert!(hpa.update(bounded));
        assert_eq!(hpa.desired(), 2);
        hpa.decide(at(0), &cpu(2, 0, 100.0));
        assert_eq!(hpa.desired(), 4);
    }

    proptest! {
        /// A constant load that is carried moves nothing, and bounds always hold.
        #[test]
        fn constant_load_does_not_flap(load in 0.1_f64..50.0, min in 0_u32..5, above in 0_u32..100) {
            let spec = HpaSpec { min, max: min + above + 1, ..spec(HpaTarget::Cpu(1.0)) };
            let mut hpa = Hpa::new(spec, 1);
            for step in 0..200 {
                hpa.decide(at(step * 15), &cpu(hpa.desired(), 0, load));
                prop_assert!(hpa.desired() >= min.max(1) && hpa.desired() <= spec.max);
            }
            let last = hpa.desired();
            for step in 200..400 {
                prop_assert!(!hpa.decide(at(step * 15), &cpu(last, 0, load)));
            }
        }
    }
}
