//! The call: what gateway and eventing ask of the runtime.

use crate::body::Body;
use crate::code::ErrorCode;
use crate::revision::RevisionSpec;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// Answers calls to revisions.
pub trait Invoke: Send + Sync + 'static {
    /// Calls `revision` with `request` and resolves when the head of the response is known; its body streams on.
    ///
    /// The limits of the revision hold for the whole call, the streamed body included: when one is hit after the
    /// head was sent, the body ends with an error. Dropping the returned future or the body cancels the call.
    /// The response carries a [`CallReport`] in its extensions.
    fn invoke(
        &self,
        revision: Arc<RevisionSpec>,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, InvokeError>>;
}

/// Where the time of one call went before the guest ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CallReport {
    /// Set when this call found the revision at zero and brought it up: the time that took
    /// (load compiled code, link, first instance).
    pub cold_start: Option<Duration>,
    /// Time spent waiting for a free slot.
    pub queued: Duration,
    /// Time to make the instance; zero when one was kept from an earlier call.
    pub instantiated: Duration,
    /// Whether the instance was kept from an earlier call.
    pub reused: bool,
}

/// Why a call has no response. The gateway chooses the HTTP status from the variant.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InvokeError {
    /// The guest trapped before it answered. The backtrace is in the function's log, not here.
    #[error("the function failed: {0}")]
    Trapped(String),
    /// A time limit passed before the first byte of the response.
    #[error("request timeout")]
    TimedOut,
    /// The guest returned without setting a response.
    #[error("the function ended without an answer")]
    NoResponse,
    /// The function listens on a port by itself, and what came from it is no answer: it refused or closed the
    /// connection, or sent what is not HTTP.
    #[error("the function gave no valid answer: {0}")]
    BadGateway(String),
    /// The request body was longer than the limit of the revision.
    #[error("the request body is larger than the limit")]
    BodyTooLarge,
    /// No slot became free in time or the queue is full.
    #[error("all instances are busy")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The artifact could not be brought up (for instance, its cache entry was lost and the registry is away).
    #[error("the function could not be started: {0}")]
    NotStarted(#[from] crate::artifact::PrepareError),
    /// The platform failed.
    #[error("internal error: {0}")]
    Internal(String),
}

impl InvokeError {
    /// The code that the user can look up.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Trapped(_) => ErrorCode::CallTrapped,
            Self::TimedOut => ErrorCode::CallTimedOut,
            Self::NoResponse => ErrorCode::NoResponse,
            Self::BadGateway(_) => ErrorCode::InvalidAnswer,
            Self::BodyTooLarge => ErrorCode::BodyTooLarge,
            Self::Overloaded { .. } => ErrorCode::Overloaded,
            Self::NotStarted(error) => error.code,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }
}
