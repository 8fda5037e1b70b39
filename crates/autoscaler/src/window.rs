//! Averages over the last seconds: a bucket for each second, and two ways to weigh them
//! (serving `pkg/autoscaler/aggregation/bucketing.go`).

use std::time::Duration;

/// Digits after the point that an average is rounded to (1.12 cuts them off instead).
const PRECISION: f64 = 1e6;
/// The smallest part that the newest second has of a weighted average.
const COEFFICIENT_MIN: f64 = 0.2;
/// What the weights of all seconds of a window leave out of 1 at most, unless [`COEFFICIENT_MIN`] holds.
const WEIGHT_LEFT_OUT: f64 = 0.0001;

/// How the seconds of a window are weighed: annotation `metric-aggregation-algorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Aggregation {
    /// All alike.
    #[default]
    Linear,
    /// The newer the more.
    WeightedExponential,
}

/// What was recorded within the last seconds. Memory is taken at the first record only.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    aggregation: Aggregation,
    /// Its length in seconds, at least 1.
    length: u64,
    /// The value of second `s` is at `s % length`. Either empty, or of that length and holding exactly the seconds
    /// `last_write - length + 1 ..= last_write`; those before `first_write` are 0.
    buckets: Vec<f64>,
    first_write: Option<u64>,
    last_write: Option<u64>,
}

impl Window {
    /// An empty window of `length`, in whole seconds, rounded up.
    #[must_use]
    pub fn new(aggregation: Aggregation, length: Duration) -> Self {
        Self {
            aggregation,
            length: seconds_up(length),
            buckets: Vec::new(),
            first_write: None,
            last_write: None,
        }
    }

    /// Whether nothing was recorded for longer than the window.
    #[must_use]
    pub fn is_empty(&self, now: Duration) -> bool {
        self.last_write
            .is_none_or(|last| now.as_secs().saturating_sub(last) > self.length)
    }

    /// Adds `value` to the second of `now`. Seconds since the last record count 0; after a silence as long as the
    /// window everything begins anew. What is no number, or less than 0, counts 0.
    pub fn record(&mut self, now: Duration, value: f64) {
        let second = now.as_secs();
        let value = if value.is_finite() { value.max(0.0) } else { 0.0 };
        match self.last_write {
            Some(last) if second.saturating_add(self.length) <= last => return,
            Some(last) if second < last => {
                self.first_write = self.first_write.map(|first| first.min(second)).or(Some(second));
            }
            Some(last) if second == last => {}
            Some(last) if second - last < self.length => {
                for gap in last + 1..=second {
                    self.set(gap, 0.0);
                }
                self.first_write = self.first_write.or(Some(second));
                self.last_write = Some(second);
            }
            Some(_) | None => {
                self.buckets.clear();
                self.buckets
                    .resize(usize::try_from(self.length).unwrap_or(1), 0.0);
                self.first_write = Some(second);
                self.last_write = Some(second);
            }
        }
        let before = self.get(second);
        self.set(second, before + value);
    }

    /// The average at `now`; 0 where nothing is known.
    #[must_use]
    pub fn average(&self, now: Duration) -> f64 {
        let Some(last) = self.last_write else {
            return 0.0;
        };
        let silent = now.as_secs().saturating_sub(last);
        match self.aggregation {
            Aggregation::Linear => self.linear(last, silent),
            Aggregation::WeightedExponential => self.weighted(last, silent),
        }
    }

    /// The sum of what is still within the window, by the seconds from the first record to the last, both included:
    /// a window that is not full yet is as long as it is full, and seconds after the last record do not count.
    fn linear(&self, last: u64, silent: u64) -> f64 {
        if silent >= self.length {
            return 0.0;
        }
        let kept = self.length - silent;
        let sum: f64 = self.newest(last, kept).sum();
        let filled = last - self.first_write.unwrap_or(last).min(last) + 1;
        round(sum / as_f64(filled.min(kept)))
    }

    /// Each second has `1 - c` times the weight of the next, the current one `c`.
    fn weighted(&self, last: u64, silent: u64) -> f64 {
        if silent > self.length {
            return 0.0;
        }
        let coefficient = coefficient(self.length);
        let mut weight = coefficient * (1.0 - coefficient).powf(as_f64(silent));
        let mut sum = 0.0;
        for value in self.newest(last, self.length - silent) {
            sum += value * weight;
            weight *= 1.0 - coefficient;
        }
        sum
    }

    /// The `count` newest buckets, the newest first.
    fn newest(&self, last: u64, count: u64) -> impl Iterator<Item = f64> + '_ {
        (0..count).map_while(move |age| last.checked_sub(age).map(|second| self.get(second)))
    }

    /// Makes the window longer or shorter and keeps the newest seconds. As in Knative, those before the first record
    /// then count as 0.
    pub fn resize(&mut self, length: Duration, now: Duration) {
        let length = seconds_up(length);
        if length == self.length {
            return;
        }
        let mut resized = Self {
            aggregation: self.aggregation,
            length,
            buckets: Vec::new(),
            first_write: None,
            last_write: self.last_write,
        };
        if let Some(last) = self.last_write.filter(|_| !self.is_empty(now)) {
            resized.buckets = vec![0.0; usize::try_from(length).unwrap_or(1)];
            for (age, value) in (0..).zip(self.newest(last, length.min(self.length))) {
                resized.set(last.saturating_sub(age), value);
            }
            resized.first_write = Some(last.saturating_sub(self.length - 1));
        } else {
            resized.last_write = None;
        }
        *self = resized;
    }

    /// Gives the memory back when nothing was recorded for longer than the window.
    pub fn shrink(&mut self, now: Duration) {
        if self.is_empty(now) {
            self.buckets = Vec::new();
            self.first_write = None;
            self.last_write = None;
        }
    }

    fn index(&self, second: u64) -> usize {
        usize::try_from(second % self.length).unwrap_or_default()
    }

    fn get(&self, second: u64) -> f64 {
        self.buckets.get(self.index(second)).copied().unwrap_or_default()
    }

    fn set(&mut self, second: u64, value: f64) {
        let index = self.index(second);
        if let Some(bucket) = self.buckets.get_mut(index) {
            *bucket = value;
        }
    }
}

/// The weight of the newest of so many seconds.
fn coefficient(seconds: u64) -> f64 {
    (1.0 - WEIGHT_LEFT_OUT.powf(1.0 / as_f64(seconds))).max(COEFFICIENT_MIN)
}

fn seconds_up(length: Duration) -> u64 {
    (length.as_secs() + u64::from(length.subsec_nanos() > 0)).max(1)
}

fn round(value: f64) -> f64 {
    (value * PRECISION).round() / PRECISION
}

/// Exact for all counts of seconds that there are.
fn as_f64(seconds: u64) -> f64 {
    seconds as f64
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
