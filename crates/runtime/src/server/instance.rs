//! One instance that takes calls.

use super::connection::Connections;
use super::flights::Flights;
use crate::function::Function;
use crate::gate::Gate;
use crate::network::Network;
use crate::runtime::Shared;
use futures::future::BoxFuture;
use kittiwake_core::body::Body;
use kittiwake_core::resident::{Resident, ResidentError};
use kittiwake_core::revision::RevisionSpec;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// See the module's documentation.
pub(crate) struct Instance {
    this: Weak<Self>,
    id: u64,
    /// Weak, since the groups that hold this are in it.
    shared: Weak<Shared>,
    pub revision: Arc<RevisionSpec>,
    pub function: Arc<Function>,
    pub connections: Connections,
    /// Holds calls to `containerConcurrency`.
    pub gate: Option<Gate>,
    pub flights: Flights,
    start: Start,
    called: AtomicBool,
}

/// How an instance came to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// When it was ready.
    pub ready: Instant,
    /// How long it took from the beginning until it was ready.
    pub took: Duration,
    /// How long it took to be made, without its program.
    pub instantiated: Duration,
}

impl Instance {
    /// An instance that is ready.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        revision: &Arc<RevisionSpec>,
        function: &Arc<Function>,
        network: &Arc<Network>,
        start: Start,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            id: super::next_id(),
            shared: Arc::downgrade(shared),
            revision: Arc::clone(revision),
            function: Arc::clone(function),
            connections: Connections::new(Arc::clone(network), revision),
            gate: revision.limits.concurrency.map(Gate::new),
            flights: Flights::default(),
            start,
            called: AtomicBool::new(false),
        })
    }

    /// The start that a call waited for: only the first call of an instance that came before it was ready did.
    pub(crate) fn start_awaited(&self, accepted: Instant) -> Option<Start> {
        let first = !self.called.swap(true, Ordering::Relaxed);
        (first && accepted <= self.start.ready).then_some(self.start)
    }
}

impl Resident for Instance {
    fn id(&self) -> u64 {
        self.id
    }

    fn invoke(
        &self,
        request: http::Request<Body>,
        accepted: Instant,
    ) -> BoxFuture<'static, Result<http::Response<Body>, ResidentError>> {
        let this = self.this.upgrade();
        Box::pin(async move {
            let shared = this.as_ref().and_then(|this| this.shared.upgrade());
            match (this, shared) {
                (Some(this), Some(shared)) => this.call(shared, request, accepted).await,
                _ => Err(ResidentError::Ended(Box::new(request))),
            }
        })
    }
}
