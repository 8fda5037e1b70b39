//! The Kubernetes API over the object store: one generic handler driven by CRDs.
//!
//! [`build`] makes a [`Handle`], whose router serves sockets and, in process, `kube::Client::new(router, "default")`;
//! and a [`Task`] that does what happens without a request: garbage collection, the end of namespaces and of events.
//!
//! Architecture invariant: no handler knows a kind by name. Kinds are rows of the [`registry`], made from
//! CustomResourceDefinitions; the few kinds of Kubernetes itself are rows of [`builtin`].

mod admission;
pub mod auth;
mod builtin;
pub mod config;
mod constraint_kinds;
mod decode;
mod discovery;
mod endpoints;
mod events;
#[doc(hidden)]
pub mod fuzzing;
mod garbage_collector;
mod handler;
mod json_path;
mod kinds;
mod logs;
mod made;
mod metadata;
mod namespace_lifecycle;
mod negotiation;
mod object;
mod openapi;
mod patch;
mod pods;
mod protobuf;
mod query;
mod registry;
mod request_info;
mod scaled;
mod schema;
mod selector;
mod server;
mod settings;
mod status;
mod table;

pub use config::Config;
pub use registry::RegistryError;

use futures::future::BoxFuture;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kittiwake_core::clock::Clock;
use kittiwake_core::instances::InstanceHub;
use kittiwake_core::log::LogHub;
use kittiwake_store::ObjectStore;
use server::Server;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What the API server works with.
pub struct Inputs {
    /// Where objects live.
    pub store: ObjectStore,
    /// The kinds that are served besides those of Kubernetes itself.
    pub crds: Vec<CustomResourceDefinition>,
    /// Source of creation times and ages.
    pub clock: Arc<dyn Clock>,
    /// Logs of functions.
    pub logs: Arc<LogHub>,
    /// Which revisions are in memory, for those who list pods.
    pub instances: Arc<InstanceHub>,
}

/// Why the API server cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A CRD or a built-in row is wrong.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A setting of authentication or of the audit log cannot be used.
    #[error("{0}")]
    Auth(String),
}

/// Says whether the platform is ready, or what it still waits for.
pub type Readiness = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The running API server. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    server: Arc<Server>,
}

/// The background work of the API server: default namespaces and CRD objects first, then garbage collection, the end
/// of namespaces and the expiry of events, until [`Handle::shutdown`].
pub type Task = BoxFuture<'static, ()>;

impl Handle {
    /// The API for what runs in this process, for `kube::Client::new(router, "default")`: whoever holds it is the
    /// administrator. Never to be put behind a socket; see [`Handle::guarded`].
    pub fn router(&self) -> axum::Router {
        let identity = Arc::new(auth::Identity::administrator());
        handler::router(Arc::clone(&self.server)).layer(axum::Extension(identity))
    }

    /// The API, and what `others` routes, for a socket: every request is authenticated, authorized and audited. The
    /// listener puts a [`auth::Peer`] into the extensions of each request.
    pub fn guarded(&self, others: axum::Router) -> axum::Router {
        let check = axum::middleware::from_fn_with_state(Arc::clone(&self.server), auth::guard::check);
        others
            .fallback_service(handler::router(Arc::clone(&self.server)))
            .layer(check)
    }

    /// Sets what `/readyz` asks besides the server's own start. The last call counts.
    pub fn set_readiness(&self, readiness: Readiness) {
        self.server.set_readiness(readiness);
    }

    /// Resolves once what must always be there (the default namespaces, the CRD objects) is there. The task must run.
    pub async fn started(&self) {
        self.server.started().await;
    }

    /// Cancelling this token ends the task and every watch and log stream, so that connections can drain.
    #[must_use]
    pub fn shutdown(&self) -> CancellationToken {
        self.server.shutdown.clone()
    }
}

/// Makes the API server. Nothing runs until the task is polled.
///
/// # Errors
/// When a CRD cannot be served: no storage version, a schema that is not structural, a broken column path.
pub fn build(config: Config, inputs: Inputs) -> Result<(Handle, Task), BuildError> {
    let server = Arc::new(Server::new(config, inputs)?);
    let handle = Handle {
        server: Arc::clone(&server),
    };
    Ok((handle, Box::pin(run(server))))
}

async fn run(server: Arc<Server>) {
    server.bootstrap().await;
    let shutdown = server.shutdown.clone();
    tokio::join!(
        garbage_collector::run(Arc::clone(&server), shutdown.clone()),
        namespace_lifecycle::run(Arc::clone(&server), shutdown.clone()),
        events::sweep(Arc::clone(&server), shutdown.clone()),
        pods::run(Arc::clone(&server), shutdown.clone()),
        scaled::run(Arc::clone(&server), shutdown.clone()),
        endpoints::run(Arc::clone(&server), shutdown.clone()),
        settings::run(Arc::clone(&server), shutdown.clone()),
        auth::default_accounts::run(Arc::clone(&server), shutdown.clone()),
        auth::rbac::aggregation::run(Arc::clone(&server), shutdown),
    );
}
