//! When a request to a registry is worth repeating, and how long to wait before.

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use std::time::Duration;

/// How requests are repeated.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// Repetitions after the first try.
    pub retries_max: u32,
    /// Wait before the first repetition; doubles each time.
    pub delay: Duration,
    /// Longest wait that the registry can ask for.
    pub retry_after_max: Duration,
}

impl Policy {
    /// The wait before repetition number `retry` (from 0); `None` when it was tried often enough.
    pub(crate) fn wait(&self, retry: u32, asked: Option<Duration>) -> Option<Duration> {
        if retry >= self.retries_max {
            return None;
        }
        let own = self
            .delay
            .saturating_mul(1_u32.checked_shl(retry).unwrap_or(u32::MAX));
        Some(asked.unwrap_or(own).min(self.retry_after_max))
    }
}

/// Whether a status says "not now" rather than "no".
pub(crate) fn is_transient(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

/// The seconds of a `Retry-After` header. A date is left out: the own schedule is used then.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get(RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_the_registry_is_heard_within_bounds() {
        let policy = Policy {
            retries_max: 3,
            delay: Duration::from_millis(100),
            retry_after_max: Duration::from_secs(10),
        };
        let waits: Vec<_> = (0..5)
            .map(|retry| policy.wait(retry, None).map(|w| w.as_millis()))
            .collect();
        assert_eq!(waits, [Some(100), Some(200), Some(400), None, None]);
        assert_eq!(
            policy.wait(0, Some(Duration::from_secs(7))),
            Some(Duration::from_secs(7))
        );
        assert_eq!(
            policy.wait(0, Some(Duration::from_secs(9999))),
            Some(Duration::from_secs(10))
        );
    }

    #[test]
    fn only_temporary_refusals_are_repeated() {
        for (status, wanted) in [
            (429, true),
            (503, true),
            (500, true),
            (404, false),
            (401, false),
            (501, false),
        ] {
            assert_eq!(
                is_transient(StatusCode::from_u16(status).unwrap()),
                wanted,
                "{status}"
            );
        }
    }
}
