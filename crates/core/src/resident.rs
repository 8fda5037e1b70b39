//! Instances that stay: of functions that listen on a port, as servers and containers do. Who holds the calls (the
//! gateway's activator) says how many there shall be and hands each call to one of them; who runs them (the runtime)
//! tells which are ready.

use crate::body::Body;
use crate::invoke::InvokeError;
use crate::revision::RevisionSpec;
use futures::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::Instant;

/// Runs the resident instances of this process.
pub trait Residents: Send + Sync + 'static {
    /// Sees to it that `count` instances of a revision run here, and returns at once. Those that are too many get no new
    /// call, finish those they have and end, the youngest first. With zero all that is kept for the revision is let go
    /// once the last has ended.
    fn scale(&self, revision: &Arc<RevisionSpec>, count: u32);

    /// The instances of a revision that take calls, and their changes. Works before the first [`Residents::scale`].
    fn instances(&self, revision: &Arc<RevisionSpec>) -> watch::Receiver<Instances>;
}

/// The instances of one revision in this process.
#[derive(Debug, Clone, Default)]
pub struct Instances {
    /// Those that take calls, the oldest first.
    pub ready: Arc<[Arc<dyn Resident>]>,
    /// Those that were started and are not ready yet.
    pub starting: u32,
    /// Those that finish their last calls.
    pub stopping: u32,
    /// Why there is none: set while starts fail, until one succeeds.
    pub failure: Option<Arc<str>>,
}

/// One instance that takes calls.
pub trait Resident: Send + Sync + 'static {
    /// A number that no other instance of this process has or had.
    fn id(&self) -> u64;

    /// Calls it, as [`crate::invoke::Invoke::invoke`] does. The revision's time limits count from `accepted`, when the
    /// caller's request came in. An answer with status 101 has the connection (`hyper::upgrade::OnUpgrade`) in its
    /// extensions.
    ///
    /// # Errors
    /// See [`ResidentError`].
    fn invoke(
        &self,
        request: http::Request<Body>,
        accepted: Instant,
    ) -> BoxFuture<'static, Result<http::Response<Body>, ResidentError>>;
}

/// Why an instance gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ResidentError {
    /// It had ended before it could get anything of the request, which is here again for another one. Between the end
    /// of an instance and the word of it there is always a moment in which calls are handed to it (Knative's activator
    /// dials again then, `pkg/activator/handler`).
    #[error("the instance has ended")]
    Ended(Box<http::Request<Body>>),
    /// The call failed.
    #[error(transparent)]
    Failed(#[from] InvokeError),
}

impl fmt::Debug for dyn Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resident({})", self.id())
    }
}

/// Where nothing stays: every start is refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoResidents;

impl Residents for NoResidents {
    fn scale(&self, _: &Arc<RevisionSpec>, _: u32) {}

    fn instances(&self, _: &Arc<RevisionSpec>) -> watch::Receiver<Instances> {
        let none = Instances {
            failure: Some("this process runs no resident functions".into()),
            ..Instances::default()
        };
        watch::channel(none).1
    }
}
