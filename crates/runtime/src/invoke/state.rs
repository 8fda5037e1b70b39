//! What the parts of one call tell each other.

use kittiwake_core::body::{BodyError, TimeLimitPassed};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// Shared by the guest's future, the request body and the response body of one call.
#[derive(Debug, Default)]
pub(crate) struct CallState {
    body_too_large: AtomicBool,
    body_too_large_told: Notify,
    /// Whether the guest ran at all.
    begun: AtomicBool,
    waited_nanos: AtomicU64,
    instantiated_nanos: AtomicU64,
    failure: OnceLock<CallFailure>,
}

/// Why a response that had begun broke off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallFailure {
    /// The guest trapped.
    #[error("the function failed: {0}")]
    Trapped(String),
    /// The whole call took too long.
    #[error("request timeout")]
    TimedOut,
    /// The guest was silent for too long.
    #[error("the function wrote nothing for longer than idleTimeoutSeconds")]
    Idle,
    /// What came of the response is not all of it.
    #[error("the function broke off its response: {0}")]
    BrokenOff(String),
}

impl CallFailure {
    /// What the response's body breaks with: a time limit is told apart, since it is no fault of the function's.
    pub(crate) fn into_body_error(self) -> BodyError {
        match self {
            Self::TimedOut => TimeLimitPassed::Total.into(),
            Self::Idle => TimeLimitPassed::Idle.into(),
            other => other.into(),
        }
    }
}

impl CallState {
    /// The request body went over its limit.
    pub(crate) fn set_body_too_large(&self) {
        self.body_too_large.store(true, Ordering::Release);
        self.body_too_large_told.notify_one();
    }

    /// Whether the request body went over its limit.
    pub(crate) fn is_body_too_large(&self) -> bool {
        self.body_too_large.load(Ordering::Acquire)
    }

    /// Resolves once the request body went over its limit. For one who waits.
    pub(crate) async fn body_too_large(&self) {
        while !self.is_body_too_large() {
            self.body_too_large_told.notified().await;
        }
    }

    /// The guest begins to run.
    pub(crate) fn set_begun(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Whether the guest began to run.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// Records how long the guest waited for its first turn on the processor.
    pub(crate) fn set_waited(&self, time: Duration) {
        self.waited_nanos.store(nanos(time), Ordering::Relaxed);
    }

    /// How long the guest waited for its first turn on the processor.
    pub(crate) fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited_nanos.load(Ordering::Relaxed))
    }

    /// Records how long the instance took to make.
    pub(crate) fn set_instantiated(&self, time: Duration) {
        self.instantiated_nanos.store(nanos(time), Ordering::Relaxed);
    }

    /// How long the instance took to make.
    pub(crate) fn instantiated(&self) -> Duration {
        Duration::from_nanos(self.instantiated_nanos.load(Ordering::Relaxed))
    }

    /// Records why the guest ended. Must come before its store is dropped: that closes the response body's channel,
    /// and whoever sees it closed looks here. The first reason counts.
    pub(crate) fn fail(&self, failure: CallFailure) {
        let _ = self.failure.set(failure);
    }

    /// Why the guest ended early, if it did.
    pub(crate) fn failure(&self) -> Option<&CallFailure> {
        self.failure.get()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
