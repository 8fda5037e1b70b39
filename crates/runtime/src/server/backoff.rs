//! How long to wait before an instance that ended is started again.
//!
//! As the kubelet does it: at once the first time, then after a time that doubles up to five minutes, and as if nothing
//! had been once it has run for long enough. The first wait is shorter than the kubelet's ten seconds, in the measure in
//! which a start is.

use std::time::Duration;

/// The wait after the second end.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait (the kubelet's `MaxContainerBackOff`).
const LONGEST: Duration = Duration::from_secs(300);
/// An instance that ran for this long has recovered (twice the longest wait, as the kubelet has it, for the shortest).
const RECOVERED: Duration = Duration::from_secs(600);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    ends: u32,
}

impl Backoff {
    /// How long to wait after an end, where the instance had run for `ran`.
    pub(crate) fn next(&mut self, ran: Duration) -> Duration {
        if ran >= RECOVERED {
            self.ends = 0;
        }
        let wait = match self.ends {
            0 => Duration::ZERO,
            ends => FIRST.saturating_mul(1 << (ends - 1).min(16)).min(LONGEST),
        };
        self.ends = self.ends.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_begin_anew_after_a_long_run() {
        let mut backoff = Backoff::default();
        let mut next = |ran| backoff.next(Duration::from_secs(ran)).as_millis();
        assert_eq!(
            [next(0), next(0), next(1), next(59), next(0)],
            [0, 100, 200, 400, 800]
        );
        for _ in 0..20 {
            next(0);
        }
        assert_eq!(next(0), 300_000);
        assert_eq!([next(600), next(0)], [0, 100]);
    }
}
