//! The largest value of the last while, for decisions to scale down that have to wait
//! (serving `pkg/autoscaler/aggregation/max`).

use crate::decider::TICK;
use std::collections::VecDeque;
use std::time::Duration;

/// The largest of the values recorded within the last `length`, in steps of [`TICK`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaxWindow {
    /// Steps that a value counts, at least 1.
    steps: u64,
    /// Step and value. Steps go up, values down: a smaller value that is older than a larger one never matters again.
    /// Bounded by `steps`, for there is one entry per step at most.
    maxima: VecDeque<(u64, u32)>,
}

impl MaxWindow {
    /// An empty window of `length`, rounded up to whole steps.
    #[must_use]
    pub fn new(length: Duration) -> Self {
        let steps = length.as_nanos().div_ceil(TICK.as_nanos());
        Self {
            steps: u64::try_from(steps).unwrap_or(u64::MAX).max(1),
            maxima: VecDeque::new(),
        }
    }

    /// Records a value and gives the largest of the window, of two in one step the larger.
    pub fn record(&mut self, now: Duration, value: u32) -> u32 {
        let step = now.as_secs() / TICK.as_secs();
        while self.maxima.back().is_some_and(|(_, smaller)| *smaller <= value) {
            self.maxima.pop_back();
        }
        while self
            .maxima
            .front()
            .is_some_and(|(of, _)| step.saturating_sub(*of) >= self.steps)
        {
            self.maxima.pop_front();
        }
        if self.maxima.back().is_none_or(|(of, _)| *of != step) {
            self.maxima.push_back((step, value));
        }
        self.maxima.front().map_or(value, |(_, largest)| *largest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_largest_of_the_window_counts_and_leaves_it() {
        // 6 s are 3 steps of 2 s: a value of step n counts in n, n+1 and n+2.
        let mut window = MaxWindow::new(seconds(6));
        let given = [
            (0, 5),
            (2, 3),
            (4, 1),
            (6, 2),
            (8, 1),
            (10, 1),
            (12, 0),
            (14, 0),
            (16, 0),
        ];
        let largest: Vec<u32> = given
            .iter()
            .map(|(at, value)| window.record(seconds(*at), *value))
            .collect();
        // At 6 s the 5 is gone and 3 leads, at 8 s the 3 is gone and 2 leads until 10 s.
        assert_eq!(largest, [5, 5, 5, 3, 2, 2, 1, 1, 0]);
        assert!(window.maxima.len() <= 3);
    }

    #[test]
    fn of_two_in_one_step_the_larger_counts() {
        let mut window = MaxWindow::new(seconds(1));
        assert_eq!(window.record(seconds(4), 3), 3);
        assert_eq!(window.record(seconds(5), 1), 3, "the same step of 2 s");
        assert_eq!(window.record(seconds(6), 1), 1);
    }
}
