//! The request path: listen, route by host, split traffic, limit, report.
//!
//! A request meets, in this order: `listener` (which socket, TLS), `connection` (protocol, limits on headers), `proxy` (host, route, share
//! of the traffic, headers), the runtime behind [`kittiwake_core::invoke::Invoke`], and `metrics` when its body ends.
//! What it needs to know is in one immutable snapshot (`router`), swapped when the routing table changes: a request
//! waits for no lock that another core may hold, and asks nobody.
//!
//! Architecture invariant: this crate knows no Kubernetes type, no store and no Wasm engine.

#![deny(missing_docs)]

pub mod acme;
mod activator;
mod config;
mod connection;
mod drain;
pub mod fuzzing;
mod grpc;
mod guarded_io;
mod inside;
mod listener;
mod metrics;
mod probe;
mod proxy;
mod relay;
mod request_log;
mod response;
mod router;
mod tls;
mod traffic_split;
mod upgrade;

pub use activator::{Inputs as ActivatorInputs, SLOTS_FOR_OTHERS};
pub use config::{ACCESS_LOG, Config};
pub use drain::Handle;
pub use relay::Neighbours;
pub use tls::{CertificateError, CertificateFiles, FilesError};

use arc_swap::ArcSwapOption;
use drain::Addresses;
use futures::future::BoxFuture;
use kittiwake_core::clock::Clock;
use kittiwake_core::inside::{CallInside, Inside};
use kittiwake_core::invoke::Invoke;
use kittiwake_core::log::LogHub;
use kittiwake_core::routing_table::RoutingTable;
use listener::Door;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Further bound sockets of a gateway.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Speaks TLS.
    pub https: Option<std::net::TcpListener>,
    /// For those inside: also hosts that are cluster-local are answered on it. On the other sockets they are only where
    /// those are on loopback, which nobody outside this machine reaches.
    pub cluster_local: Option<std::net::TcpListener>,
}

/// What the gateway is handed.
pub struct Inputs {
    /// A bound socket; the gateway makes it non-blocking.
    pub listener: std::net::TcpListener,
    /// Others beside it.
    pub also: Listeners,
    /// What an ACME authority issued, and its changes.
    pub issued: watch::Receiver<Arc<acme::Issued>>,
    /// The routing table and its changes.
    pub routes: watch::Receiver<Arc<RoutingTable>>,
    /// Who answers calls of functions that live for one call.
    pub invoke: Arc<dyn Invoke>,
    /// Those that stay, and how far they are scaled.
    pub activator: ActivatorInputs,
    /// The other processes that answer calls, where there are any.
    pub neighbours: Option<Neighbours>,
    /// Where the metrics are registered.
    pub registry: prometheus::Registry,
    /// For latencies.
    pub clock: Arc<dyn Clock>,
    /// Opened for functions of this process that call others.
    pub inside: Inside,
    /// Where the lines of the request log go, to those of their Revisions.
    pub logs: Arc<LogHub>,
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
    /// A certificate in files cannot be used.
    #[error("a certificate cannot be used")]
    Certificate(#[from] FilesError),
    /// TLS cannot be spoken.
    #[error("TLS cannot be spoken")]
    Tls(#[from] rustls::Error),
}

/// Builds a gateway on a bound socket. Connections wait in the socket's backlog until the task runs. Must be called
/// within a tokio runtime.
///
/// # Errors
/// See [`BuildError`].
pub fn build(config: Config, inputs: Inputs) -> Result<(Handle, Task), BuildError> {
    let Inputs {
        listener,
        also,
        issued,
        routes,
        invoke,
        activator,
        neighbours,
        registry,
        clock,
        inside,
        logs,
        shutdown,
    } = inputs;
    let metrics = metrics::Metrics::register(&registry).map_err(BuildError::Metrics)?;
    let certificates = Arc::new(tls::Certificates::new(
        Arc::clone(&clock),
        metrics.certificate_expiry.clone(),
    ));
    let files = tls::Files::open(&config.certificates, &certificates)?;
    let door = |listener: std::net::TcpListener| -> Result<_, BuildError> {
        listener.set_nonblocking(true).map_err(BuildError::Listener)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(BuildError::Listener)?;
        let address = listener.local_addr().map_err(BuildError::Listener)?;
        let door = Door {
            listener,
            tls: None,
            is_inside: address.ip().is_loopback(),
        };
        Ok((door, address))
    };
    let (main, address) = door(listener)?;
    let mut addresses = Addresses {
        main: address,
        https: None,
        cluster_local: None,
    };
    let mut doors = vec![main];
    if let Some(listener) = also.https {
        let (mut door, address) = door(listener)?;
        door.tls = Some(tls::acceptor(&certificates)?);
        addresses.https = Some(address);
        doors.push(door);
    }
    if let Some(listener) = also.cluster_local {
        let (mut door, address) = door(listener)?;
        door.is_inside = true;
        addresses.cluster_local = Some(address);
        doors.push(door);
    }
    let (relay, inner_door) = match neighbours {
        Some(neighbours) => {
            let (relay, door) = relay::join(neighbours).map_err(BuildError::Listener)?;
            (Some(relay), Some(door))
        }
        None => (None, None),
    };
    let drain = drain::Drain::new(metrics.in_flight.clone());
    let (in_use_sender, in_use) = watch::channel(Arc::default());
    let handle = Handle::new(addresses, drain.clone(), in_use);
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
    let thumbprint = Arc::new(ArcSwapOption::empty());
    let also = [addresses.https, addresses.cluster_local];
    let ports = std::iter::once(address).chain(also.into_iter().flatten());
    let gateway = Arc::new(proxy::Gateway {
        thumbprint: Arc::clone(&thumbprint),
        ports: ports.map(|address| address.port()).collect(),
        https_port: config
            .https_port
            .or(addresses.https.map(|address| address.port())),
        config,
        router,
        activator,
        invoke,
        relay,
        metrics,
        request_logs: request_log::RequestLogs::new(logs),
        clock,
        drain,
    });
    let callee: Arc<dyn CallInside> = Arc::clone(&gateway) as _;
    inside.open(&callee);
    drop(callee);
    let task = async move {
        let following = router::follow(Arc::clone(&gateway), routes.clone(), in_use_sender);
        let clock = Arc::clone(&gateway.clock);
        let scaled = Arc::clone(&gateway);
        let scaling = activator::run(&scaled.activator, || scaled.router.throttles(), clock);
        let certified = tls::follow(certificates, files, routes, issued, thumbprint);
        let passed_on = relay::serve(Arc::clone(&gateway), inner_door, shutdown.clone());
        let serving = async { tokio::join!(listener::serve(gateway, doors, shutdown), passed_on) };
        tokio::select! {
            ((), ()) = serving => {}
            // Also while it drains: calls on connections that are still open go where they should.
            () = following => {}
            () = scaling => {}
            () = certified => {}
        }
    };
    Ok((handle, Box::pin(task)))
}
