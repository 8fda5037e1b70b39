//! The request path: listen, route by host, split traffic, limit, report.
//!
//! A request meets, in this order: `listener` (connection, protocol, limits on headers), `proxy` (host, route, share
//! of the traffic, headers), the runtime behind [`kittiwake_core::invoke::Invoke`], and `metrics` when its body ends.
//! What it needs to know is in one immutable snapshot (`router`), swapped when the routing table changes: a request
//! waits for no lock that another core may hold, and asks nobody.
//!
//! Architecture invariant: this crate knows no Kubernetes type, no store and no Wasm engine.

#![deny(missing_docs)]

mod activator;
mod config;
mod drain;
mod listener;
mod metrics;
mod probe;
mod proxy;
mod response;
mod router;
mod traffic_split;

pub use activator::{Inputs as ActivatorInputs, SLOTS_FOR_OTHERS};
pub use config::Config;
pub use drain::Handle;

use futures::future::BoxFuture;
use kittiwake_core::clock::Clock;
use kittiwake_core::invoke::Invoke;
use kittiwake_core::routing_table::RoutingTable;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the gateway is handed.
pub struct Inputs {
    /// A bound socket; the gateway makes it non-blocking.
    pub listener: std::net::TcpListener,
    /// The routing table and its changes.
    pub routes: watch::Receiver<Arc<RoutingTable>>,
    /// Who answers calls of functions that live for one call.
    pub invoke: Arc<dyn Invoke>,
    /// Those that stay, and how far they are scaled.
    pub activator: ActivatorInputs,
    /// Where the metrics are registered.
    pub registry: prometheus::Registry,
    /// For latencies.
    pub clock: Arc<dyn Clock>,
    /// Ends the gateway at once; calls in flight are cut. See [`Handle::drain`] for the gentle way.
    pub shutdown: CancellationToken,
}

/// The gateway at work: run it on a multi-threaded tokio runtime. It ends after a drain or at the shutdown.
pub type Task = BoxFuture<'static, ()>;

/// Why a gateway could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The socket cannot be used.
    #[error("the gateway's socket cannot be used")]
    Listener(#[source] std::io::Error),
    /// A metric of the same name is there already: only one gateway per registry.
    #[error("the gateway's metrics cannot be registered")]
    Metrics(#[source] prometheus::Error),
}

/// Builds a gateway on a bound socket. Connections wait in the socket's backlog until the task runs. Must be called
/// within a tokio runtime.
///
/// # Errors
/// See [`BuildError`].
pub fn build(config: Config, inputs: Inputs) -> Result<(Handle, Task), BuildError> {
    let Inputs {
        listener,
        routes,
        invoke,
        activator,
        registry,
        clock,
        shutdown,
    } = inputs;
    listener.set_nonblocking(true).map_err(BuildError::Listener)?;
    let listener = tokio::net::TcpListener::from_std(listener).map_err(BuildError::Listener)?;
    let address = listener.local_addr().map_err(BuildError::Listener)?;
    let metrics = metrics::Metrics::register(&registry).map_err(BuildError::Metrics)?;
    let drain = drain::Drain::new(metrics.in_flight.clone());
    let (in_use_sender, in_use) = watch::channel(Arc::default());
    let handle = Handle::new(address, drain.clone(), in_use);
    let activator = Arc::new(activator::Activator::new(
        activator,
        config.calls_max,
        config.waiting_max,
    ));
    let router = router::Router::new(
        metrics.clone(),
        Arc::clone(&activator),
        Arc::clone(&clock),
        config.series_lingering_max,
    );
    let gateway = Arc::new(proxy::Gateway {
        config,
        router,
        activator,
        invoke,
        metrics,
        clock,
        drain: drain.clone(),
    });
    let task = async move {
        let following = router::follow(Arc::clone(&gateway), routes, in_use_sender);
        let clock = Arc::clone(&gateway.clock);
        let scaled = Arc::clone(&gateway);
        let scaling = activator::run(&scaled.activator, || scaled.router.throttles(), clock);
        tokio::select! {
            () = listener::serve(gateway, listener, shutdown) => {}
            // Also while it drains: calls on connections that are still open go where they should.
            () = following => {}
            () = scaling => {}
        }
    };
    Ok((handle, Box::pin(task)))
}
