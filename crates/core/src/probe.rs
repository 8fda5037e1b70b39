//! How an instance is asked whether it has started, is ready, and is alive (Kubernetes' container probes).

use std::time::Duration;

/// The probes of a container. What is `None` is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probes {
    /// Until it has succeeded the other two are not asked; its failure ends the instance.
    pub startup: Option<Probe>,
    /// Whether calls may be sent to the instance. `None`: once it accepts connections.
    pub readiness: Option<Probe>,
    /// Its failure ends the instance, and another one is started.
    pub liveness: Option<Probe>,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub handler: Handler,
    /// Time after the start before the first try.
    pub initial_delay: Duration,
    /// Time between two tries. Zero is Knative's own way of asking for readiness: each 50 ms until the first success.
    pub period: Duration,
    /// Time for an answer.
    pub timeout: Duration,
    /// Successes in a row after a failure that make it a success.
    pub success_threshold: u32,
    /// Failures in a row that make it a failure.
    pub failure_threshold: u32,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handler {
    /// A GET that has to be answered with 200 to 399.
    Http {
        /// Path and query.
        path: String,
        /// The port; `None` for the one that takes calls.
        port: Option<u16>,
        /// Headers to send; a `Host` among them counts.
        headers: Vec<(String, String)>,
    },
    /// A connection that has to be accepted.
    Tcp {
        /// The port; `None` for the one that takes calls.
        port: Option<u16>,
    },
    /// The gRPC health protocol, which has to answer SERVING.
    Grpc {
        /// The port; `None` for the one that takes calls.
        port: Option<u16>,
        /// The service that is asked for; empty for the whole server.
        service: String,
    },
    /// A command run in the container, which has to end with 0.
    Exec {
        /// The program, which can only be the image's own ([`crate::program`]), and its arguments.
        command: Vec<String>,
    },
}
