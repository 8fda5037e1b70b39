//! How busy a revision is: calls under way averaged by time, and calls that came in (serving `pkg/queue/stats` and
//! `pkg/activator/handler/concurrency_reporter.go`). Every call touches it twice, from any core, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bits that hold the sum of times; the calls under way are above them.
const AREA_BITS: u32 = 44;
const AREA_MASK: u64 = (1 << AREA_BITS) - 1;

/// See the module's documentation.
///
/// One word holds the calls under way and, in microseconds modulo 2^44, the sum of the times at which calls ended less
/// the sum of those at which they began. With the calls under way times now, that is the area under their curve: exact,
/// whenever it is looked at. It wraps, but two looks a second apart differ by far less than it wraps at.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    word: AtomicU64,
    began: AtomicU64,
}

/// A look at a [`Meter`], for the next one to be compared with.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look {
    at: u64,
    area: u64,
    began: u64,
}

/// What happened between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Busy {
    /// Calls under way, averaged by time.
    pub(crate) concurrency: f64,
    /// Calls that came in, by the second.
    pub(crate) per_second: f64,
}

impl Meter {
    /// A call began at `now`.
    pub(crate) fn begin(&self, now: Duration) {
        self.began.fetch_add(1, Ordering::Relaxed);
        self.step(|calls, area| (calls + 1, area.wrapping_sub(micros(now))));
    }

    /// A call ended at `now`.
    pub(crate) fn end(&self, now: Duration) {
        self.step(|calls, area| (calls.saturating_sub(1), area.wrapping_add(micros(now))));
    }

    fn step(&self, step: impl Fn(u64, u64) -> (u64, u64)) {
        let next = |word| {
            let (calls, area) = step(word >> AREA_BITS, word & AREA_MASK);
            Some((calls << AREA_BITS) | (area & AREA_MASK))
        };
        // The closure never gives `None`, so this cannot fail.
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Calls under way now.
    pub(crate) fn in_flight(&self) -> u64 {
        self.word.load(Ordering::Relaxed) >> AREA_BITS
    }

    /// What happened since the last look, which is replaced by this one.
    pub(crate) fn look(&self, now: Duration, last: &mut Look) -> Busy {
        let word = self.word.load(Ordering::Relaxed);
        let at = micros(now);
        let area = (word & AREA_MASK).wrapping_add((word >> AREA_BITS).wrapping_mul(at)) & AREA_MASK;
        let look = Look {
            at,
            area,
            began: self.began.load(Ordering::Relaxed),
        };
        let before = std::mem::replace(last, look);
        let micros = at.wrapping_sub(before.at) & AREA_MASK;
        if micros == 0 {
            return Busy::default();
        }
        let area = look.area.wrapping_sub(before.area) & AREA_MASK;
        // A call whose end was noted with a time just before the last look makes the area a little less than nothing.
        let area = if area > AREA_MASK / 2 { 0 } else { area };
        let ratio = |of: u64| of as f64 / micros as f64;
        Busy {
            concurrency: ratio(area),
            per_second: ratio(look.began.wrapping_sub(before.began)) * 1e6,
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX) & AREA_MASK
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn concurrency_is_averaged_by_time() {
        let (meter, mut look) = (Meter::default(), Look::default());
        assert_eq!(meter.look(at(10.0), &mut look), Busy::default());
        meter.begin(at(10.0));
        meter.begin(at(10.5));
        assert_eq!(meter.in_flight(), 2);
        meter.end(at(10.75));
        // One for the whole second, one for a quarter of it.
        let busy = meter.look(at(11.0), &mut look);
        assert_eq!((busy.concurrency, busy.per_second), (1.25, 2.0));
        // What is under way counts on.
        let busy = meter.look(at(13.0), &mut look);
        assert_eq!((busy.concurrency, busy.per_second), (1.0, 0.0));
        meter.end(at(13.0));
        assert_eq!(meter.look(at(14.0), &mut look), Busy::default());
        assert_eq!(meter.look(at(14.0), &mut look), Busy::default(), "no time passed");
    }

    proptest! {
        /// The word wraps after half a year; whatever the time, the average is that of the calls.
        #[test]
        fn the_average_is_exact_at_any_time(
            start in 0_u64..1 << 50,
            calls in prop::collection::vec((0_u64..1_000_000, 0_u64..2_000_000), 0..50),
        ) {
            let (meter, mut look) = (Meter::default(), Look::default());
            let at = |micros: u64| Duration::from_micros(start + micros);
            meter.look(at(0), &mut look);
            let mut area = 0;
            for (begin, took) in &calls {
                meter.begin(at(*begin));
                let end = begin + took;
                if end <= 1_000_000 {
                    meter.end(at(end));
                }
                area += end.min(1_000_000) - begin;
            }
            let busy = meter.look(at(1_000_000), &mut look);
            prop_assert!((busy.concurrency - area as f64 / 1e6).abs() < 1e-9);
            prop_assert_eq!(busy.per_second, calls.len() as f64);
        }
    }
}
