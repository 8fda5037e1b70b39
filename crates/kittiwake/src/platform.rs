//! The whole platform in one process: makes every part, hands each the others' handles, starts their tasks.
//!
//! Two phases: first all handles exist, then the tasks run. So wiring cannot form a cycle, and nothing runs when
//! a part cannot be made.

use crate::config::Config;
use anyhow::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::FutureExt;
use kittiwake_core::clock::{Clock, SystemClock};
use kittiwake_core::invoke::Invoke;
use kittiwake_core::log::LogHub;
use kittiwake_core::{artifact::Prepare, report};
use prometheus::{Encoder, Registry, TextEncoder};
use socket2::{Domain, Socket, Type};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections that may wait to be accepted.
pub const BACKLOG_CONNECTIONS: i32 = 4096;
/// How long tasks get to end once told to, after calls were drained. Watches of clients are cut, not waited for.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Number of objects' file in the data directory.
const OBJECTS_FILE: &str = "objects.redb";

/// A running platform.
pub struct Platform {
    /// Where the Kubernetes API listens.
    pub api: SocketAddr,
    /// Where functions are called.
    pub http: SocketAddr,
    /// A client of the API that needs no socket.
    pub client: kube::Client,
    gateway: kittiwake_gateway::Handle,
    controllers: kittiwake_controllers::Handle,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    api_shutdown: CancellationToken,
    store: kittiwake_store::ObjectStore,
}

impl Platform {
    /// Starts everything. When this returns, both ports answer; [`Platform::synced`] tells when routes are in place.
    ///
    /// # Errors
    /// When a port is taken, the data directory cannot be used, or a part cannot be made; the message says which.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        let data_dir = make_data_dir(&config.data_dir)?;
        let api_listener = bind(config.api_listen, "the API", "--api-listen")?;
        let http_listener = bind(config.http_listen, "functions", "--http-listen")?;
        let api = api_listener
            .local_addr()
            .context("cannot read the API's address")?;
        let http = http_listener
            .local_addr()
            .context("cannot read the gateway's address")?;

        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let logs = Arc::new(LogHub::new(Arc::clone(&clock)));
        let registry = Registry::new();
        let shutdown = CancellationToken::new();
        let (reporter, reports) = report::channel();

        let store = kittiwake_store::ObjectStore::open(
            &data_dir.join(OBJECTS_FILE),
            kittiwake_store::Config::default(),
        )
        .context("cannot open the objects")?;
        let (runtime, runtime_task) = kittiwake_runtime::build(
            kittiwake_runtime::Config {
                data_dir: data_dir.clone(),
                working_dir: config.working_dir.clone(),
                cache_bytes_max: config.cache_size,
                allow_file_images: config.allow_file_images,
                insecure_registries: config.insecure_registries.clone(),
                docker_config: config.docker_config.clone().or_else(usual_docker_config),
                instances_max: config.max_calls,
                ..kittiwake_runtime::Config::default()
            },
            kittiwake_runtime::Inputs {
                logs: Arc::clone(&logs),
                reporter,
                registry: registry.clone(),
                clock: Arc::clone(&clock),
            },
        )
        .context("cannot start the runtime")?;
        let (apiserver, apiserver_task) = kittiwake_apiserver::build(
            kittiwake_apiserver::Config::default(),
            kittiwake_apiserver::Inputs {
                store: store.clone(),
                crds: kittiwake_api::crd::all(),
                clock: Arc::clone(&clock),
                logs: Arc::clone(&logs),
            },
        )
        .context("cannot start the API server")?;
        let client = kube::Client::new(apiserver.router(), "default");
        let (controllers, controllers_task) = kittiwake_controllers::build(
            kittiwake_controllers::Config {
                domain: config.domain.clone(),
                external_port: (http.port() != 80).then_some(http.port()),
                ..kittiwake_controllers::Config::default()
            },
            kittiwake_controllers::Inputs {
                client: client.clone(),
                prepare: Arc::clone(&runtime) as Arc<dyn Prepare>,
                reports,
                clock: Arc::clone(&clock),
                logs,
                shutdown: shutdown.clone(),
            },
        );
        let (gateway, gateway_task) = kittiwake_gateway::build(
            kittiwake_gateway::Config {
                access_log: config.access_log,
                ..kittiwake_gateway::Config::default()
            },
            kittiwake_gateway::Inputs {
                listener: http_listener,
                routes: controllers.routing_table(),
                invoke: runtime as Arc<dyn Invoke>,
                registry: registry.clone(),
                clock,
                shutdown: shutdown.clone(),
            },
        )
        .context("cannot start the gateway")?;

        let ready = controllers.clone();
        apiserver.set_readiness(Box::new(move || match ready.clone().synced().now_or_never() {
            Some(()) => Ok(()),
            None => Err("routes are being built".to_owned()),
        }));
        let mut tasks = JoinSet::new();
        let stop = shutdown.clone();
        tasks.spawn(async move {
            // The runtime's upkeep has no end of its own.
            tokio::select! {
                () = runtime_task => {}
                () = stop.cancelled() => {}
            }
        });
        tasks.spawn(apiserver_task);
        // Nobody meets an API without its default namespace.
        apiserver.started().await;
        tasks.spawn(controllers_task);
        tasks.spawn(gateway_task);
        tasks.spawn(serve_api(
            api_listener,
            api,
            apiserver.router(),
            registry,
            apiserver.shutdown(),
        ));
        let api_shutdown = apiserver.shutdown();
        Ok(Self {
            api,
            http,
            client,
            gateway,
            controllers,
            tasks,
            shutdown,
            api_shutdown,
            store,
        })
    }

    /// Resolves once the controllers have seen every object: from now on what was deployed before is served.
    pub async fn synced(&mut self) {
        self.controllers.synced().await;
    }

    /// Resolves when a part of the platform ends by itself, which it never should.
    pub async fn failed(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            tracing::error!(%error, "a part of the platform failed");
        }
    }

    /// Lets calls in flight finish for at most `drain`, then stops everything. Returns how many calls were cut off.
    pub async fn stop(mut self, drain: Duration) -> usize {
        let cut = self.gateway.drain(drain).await;
        self.shutdown.cancel();
        self.api_shutdown.cancel();
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all_ended).await.is_err() {
            self.tasks.shutdown().await;
        }
        // A connection that a client keeps open may still hold the API's state; the file must be free all the same.
        let store = self.store.clone();
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
        cut
    }
}

/// Makes the data directory, and makes it readable by its owner only, also when it was there before: it holds Secrets.
fn make_data_dir(path: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let make = || {
        std::fs::create_dir_all(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        path.canonicalize()
    };
    make().with_context(|| format!("cannot use --data-dir {}", path.display()))
}

/// Where docker keeps credentials: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`, if there is one.
fn usual_docker_config() -> Option<PathBuf> {
    let folder = match std::env::var_os("DOCKER_CONFIG") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".docker"),
    };
    Some(folder.join("config.json")).filter(|path| path.is_file())
}

/// Listens on `address`; `what` and `flag` are for the error message.
fn bind(address: SocketAddr, what: &str, flag: &str) -> anyhow::Result<TcpListener> {
    let listen = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG_CONNECTIONS)?;
        Ok(socket.into())
    };
    listen().map_err(|error| {
        let advice = match error.kind() {
            ErrorKind::AddrInUse => format!(
                "another program listens there (perhaps another kittiwake); stop it, or choose a free port with {flag} {}:0",
                address.ip()
            ),
            ErrorKind::PermissionDenied => format!("ports below 1024 need privileges; choose another with {flag}"),
            _ => format!("choose another address with {flag}"),
        };
        anyhow::anyhow!("cannot listen on {address} for {what}: {error}. {advice}")
    })
}

/// Serves the API on its socket until shutdown.
async fn serve_api(
    listener: TcpListener,
    address: SocketAddr,
    api: Router,
    registry: Registry,
    shutdown: CancellationToken,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot serve the API"),
    };
    let app = Router::new()
        .route("/metrics", get(metrics).with_state(registry))
        .fallback_service(api)
        .layer(middleware::from_fn_with_state(address, refuse_foreign_sites));
    let serve = axum::serve(listener, app).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        served = serve => if let Err(error) = served {
            tracing::error!(%error, "the API stopped serving");
        },
        () = async { shutdown.cancelled().await; tokio::time::sleep(Duration::from_millis(200)).await; } => {}
    }
}

async fn metrics(State(registry): State<Registry>) -> Response {
    let mut text = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// The API on loopback has no passwords, so a web page open in a browser on this machine must not reach it, neither
/// by a request from its own origin nor by a name that it makes resolve to 127.0.0.1 (DNS rebinding).
async fn refuse_foreign_sites(State(address): State<SocketAddr>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or(request.uri().authority().map(|a| a.as_str()));
    let named_well = !address.ip().is_loopback() || host.is_none_or(is_loopback_name);
    if headers.contains_key(header::ORIGIN) || !named_well {
        let text = "this API answers programs on this machine only: call it by its loopback address, and not from a web page\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    next.run(request).await
}

fn is_loopback_name(authority: &str) -> bool {
    let Some(host) = kittiwake_core::host::normalize_host(authority) else {
        return false;
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_explained() {
        let taken = bind("127.0.0.1:0".parse().unwrap(), "functions", "--http-listen").unwrap();
        let address = taken.local_addr().unwrap();
        let message = bind(address, "functions", "--http-listen")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains(&address.to_string()) && message.contains("--http-listen 127.0.0.1:0"),
            "{message}"
        );
    }

    #[test]
    fn the_data_directory_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        make_data_dir(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert!(make_data_dir(Path::new("/dev/null/x")).is_err());
    }

    #[test]
    fn only_loopback_names_reach_the_loopback_api() {
        for name in ["127.0.0.1:6443", "localhost:1", "LOCALHOST", "[::1]:6443"] {
            assert!(is_loopback_name(name), "{name}");
        }
        for name in ["evil.example.com", "127.0.0.1.evil.example", "10.0.0.1", ""] {
            assert!(!is_loopback_name(name), "{name}");
        }
    }
}
