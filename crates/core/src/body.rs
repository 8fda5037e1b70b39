//! The one body type that crosses crate borders: a boxed stream of bytes, never buffered whole.

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

/// What a body reports when its stream breaks; the cause is kept for logs.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// What the body of a response breaks with when a time limit of its revision passes after it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeLimitPassed {
    /// The whole call took longer than `timeoutSeconds`.
    #[error("request timeout")]
    Total,
    /// Nothing was written for longer than `idleTimeoutSeconds`.
    #[error("the function wrote nothing for longer than idleTimeoutSeconds")]
    Idle,
}

/// A streaming request or response body.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body of no bytes.
#[must_use]
pub fn empty() -> Body {
    http_body_util::Empty::new()
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body of exactly these bytes.
#[must_use]
pub fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
