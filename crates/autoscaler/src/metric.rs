//! What is known of the load of one revision (serving `pkg/autoscaler/metrics/collector.go`).

use crate::window::{Aggregation, Window};
use std::time::Duration;

/// What is measured: annotation `metric`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Metric {
    /// Calls under way and waiting.
    #[default]
    Concurrency,
    /// Calls by the second.
    Rps,
}

/// Both metrics of one revision, over the stable and the panic window.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    concurrency: Averages,
    rps: Averages,
}

#[derive(Debug, Clone, PartialEq)]
struct Averages {
    stable: Window,
    panic: Window,
}

impl Averages {
    fn each(&mut self, mut change: impl FnMut(&mut Window)) {
        change(&mut self.stable);
        change(&mut self.panic);
    }
}

/// The panic window: `percentage` of the stable one, rounded to whole seconds, at least one.
#[must_use]
pub fn panic_window(stable: Duration, percentage: f64) -> Duration {
    let seconds = (stable.as_secs_f64() * percentage / 100.0).round();
    Duration::try_from_secs_f64(seconds)
        .unwrap_or(stable)
        .max(Duration::from_secs(1))
}

impl Load {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(aggregation: Aggregation, stable: Duration, panic: Duration) -> Self {
        let averages = Averages {
            stable: Window::new(aggregation, stable),
            panic: Window::new(aggregation, panic),
        };
        Self {
            concurrency: averages.clone(),
            rps: averages,
        }
    }

    /// Adds what was seen within one second. What several processes saw is added up.
    pub fn record(&mut self, now: Duration, concurrency: f64, rps: f64) {
        self.concurrency.each(|window| window.record(now, concurrency));
        self.rps.each(|window| window.record(now, rps));
    }

    /// Changes the lengths of the windows.
    pub fn resize(&mut self, stable: Duration, panic: Duration, now: Duration) {
        for averages in [&mut self.concurrency, &mut self.rps] {
            averages.stable.resize(stable, now);
            averages.panic.resize(panic, now);
        }
    }

    /// Whether nothing was recorded within the stable window.
    #[must_use]
    pub fn is_empty(&self, now: Duration) -> bool {
        self.concurrency.stable.is_empty(now)
    }

    /// The averages of a metric over the stable and the panic window.
    #[must_use]
    pub fn stable_and_panic(&self, metric: Metric, now: Duration) -> (f64, f64) {
        let averages = match metric {
            Metric::Concurrency => &self.concurrency,
            Metric::Rps => &self.rps,
        };
        (averages.stable.average(now), averages.panic.average(now))
    }

    /// Gives back memory that is no longer needed.
    pub fn shrink(&mut self, now: Duration) {
        for averages in [&mut self.concurrency, &mut self.rps] {
            averages.each(|window| window.shrink(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_panic_window_is_whole_seconds() {
        for (stable, percentage, wanted) in [
            (60, 10.0, 6),
            (6, 10.0, 1),
            (6, 1.0, 1),
            (25, 10.0, 3),
            (3600, 100.0, 3600),
        ] {
            // 25 s * 10 % = 2.5 s, which Go rounds away from zero.
            let window = panic_window(Duration::from_secs(stable), percentage);
            assert_eq!(
                window,
                Duration::from_secs(wanted),
                "{percentage} % of {stable} s"
            );
        }
    }

    #[test]
    fn processes_are_added_up_and_metrics_kept_apart() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut load = Load::new(Aggregation::Linear, minute, second);
        load.record(second, 3.0, 10.0);
        load.record(second, 4.0, 20.0);
        load.record(2 * second, 1.0, 0.0);
        // Concurrency: (7 + 1) / 2 over the window so far, 1 in the last second; calls: 30 / 2 and 0.
        assert_eq!(load.stable_and_panic(Metric::Concurrency, 2 * second), (4.0, 1.0));
        assert_eq!(load.stable_and_panic(Metric::Rps, 2 * second), (15.0, 0.0));
        assert!(!load.is_empty(62 * second) && load.is_empty(63 * second));
    }
}
