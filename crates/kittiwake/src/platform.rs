//! The whole platform in one process: makes every part, hands each the others' handles, starts their tasks.
//!
//! Two phases: first all handles exist, then the tasks run. So wiring cannot form a cycle, and nothing runs when
//! a part cannot be made.

use crate::acme;
use crate::api_listener;
use crate::api_security::ApiSecurity;
use crate::config::Config;
use crate::doors::Doors;
use crate::keys;
use crate::kubeconfig::{self, Access};
use crate::worker::inner_doors::InnerDoors;
use crate::worker::link::{Ports, Secret, Settings};
use crate::worker::placement::Placement;
use crate::worker::supervisor::{self, Adopted, Supervisor};
use crate::worker::upgrade::Handover;
use anyhow::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::FutureExt;
use kittiwake_core::clock::{Clock, SystemClock};
use kittiwake_core::inside::Inside;
use kittiwake_core::instances::InstanceHub;
use kittiwake_core::invoke::Invoke;
use kittiwake_core::log::LogHub;
use kittiwake_core::resident::Residents;
use kittiwake_core::routing_table::{Gateways, InThisProcess};
use kittiwake_core::unit::ByteCount;
use kittiwake_core::{artifact::Prepare, report, scale};
use prometheus::{Registry, TextEncoder};
use socket2::{Domain, Socket, Type};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Connections that may wait to be accepted.
pub const BACKLOG_CONNECTIONS: i32 = 4096;
/// How long tasks get to end once told to, after calls were drained. Watches of clients are cut, not waited for.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// What a worker may take beyond its share of few calls, which spread worst.
const CALLS_SPARE: u32 = 64;
/// Instances that a process has which only makes artifacts ready.
const PREPARING_MAX: u32 = 16;
/// The objects' file in the data directory.
pub(crate) const OBJECTS_FILE: &str = "objects.redb";

/// A running platform.
pub struct Platform {
    /// Where the Kubernetes API listens.
    pub api: SocketAddr,
    /// Where functions are called.
    pub http: SocketAddr,
    /// Where they are called with TLS.
    pub https: Option<SocketAddr>,
    /// Where those inside call them.
    pub cluster_local: Option<SocketAddr>,
    /// A client of the API that needs no socket.
    pub client: kube::Client,
    /// How the administrator reaches the API over its socket.
    pub access: Access,
    serving: Serving,
    /// Kept for the program that may take this one's place.
    api_listener: TcpListener,
    controllers: kittiwake_controllers::Handle,
    tasks: JoinSet<()>,
    shutdown: CancellationToken,
    api_shutdown: CancellationToken,
    store: kittiwake_store::ObjectStore,
}

/// Who answers calls.
enum Serving {
    /// This process.
    Here(kittiwake_gateway::Handle),
    /// Its workers.
    Workers(Supervisor),
}

impl Serving {
    fn workers(&self) -> Option<Supervisor> {
        match self {
            Self::Here(_) => None,
            Self::Workers(supervisor) => Some(supervisor.clone()),
        }
    }
}

/// The sockets of a platform, and who listens on them already.
struct Sockets {
    api: TcpListener,
    /// One, or one for each worker.
    http: Vec<TcpListener>,
    doors: Doors,
    adopted: Vec<Adopted>,
}

impl Platform {
    /// Starts everything. When this returns, both ports answer; [`Platform::synced`] tells when routes are in place.
    ///
    /// # Errors
    /// When a port is taken, the data directory cannot be used, or a part cannot be made; the message says which.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        Self::start_with(config, &Handle::current()).await
    }

    /// The same with the API server and the controllers on other threads than calls.
    ///
    /// # Errors
    /// As [`Platform::start`].
    pub async fn start_with(config: &Config, control: &Handle) -> anyhow::Result<Self> {
        let sockets = Sockets {
            api: bind(config.api_listen, "the API", "--api-listen", Sharing::Alone)?,
            http: bind_for_workers(config.http_listen, config.workers)?,
            doors: Doors::open(&config.gateway, Doors::default(), bind_alone)?,
            adopted: Vec::new(),
        };
        Self::start_on(config, sockets, control).await
    }

    /// The same on the sockets of a program whose place this one takes. When `config` asks for another number of
    /// workers than there were, those that are too many end with their calls, and missing sockets are made.
    ///
    /// # Errors
    /// As [`Platform::start`].
    pub async fn take_over(config: &Config, handover: Handover, control: &Handle) -> anyhow::Result<Self> {
        let Handover {
            api,
            mut http,
            doors,
            workers,
        } = handover;
        let wanted = usize::try_from(config.workers.max(1)).unwrap_or(1);
        let address = http.first().context("no socket was handed over")?.local_addr()?;
        while http.len() < wanted {
            http.push(bind(address, "functions", "--http-listen", Sharing::WithWorkers)?);
        }
        http.truncate(wanted);
        let sockets = Sockets {
            api,
            http,
            doors: Doors::open(&config.gateway, doors, bind_alone)?,
            adopted: workers,
        };
        Self::start_on(config, sockets, control).await
    }

    async fn start_on(config: &Config, sockets: Sockets, control: &Handle) -> anyhow::Result<Self> {
        let data_dir = make_data_dir(&config.data_dir)?;
        let Sockets {
            api: api_listener,
            http: http_listeners,
            doors,
            adopted,
        } = sockets;
        let (https, cluster_local) = (doors.https_addr(), doors.cluster_local_addr());
        let kept_api_listener = api_listener.try_clone().context("cannot keep the API's socket")?;
        let api = api_listener
            .local_addr()
            .context("cannot read the API's address")?;
        let http = http_listeners
            .first()
            .and_then(|listener| listener.local_addr().ok())
            .context("cannot read the gateway's address")?;
        let ports = Ports {
            http: (http.port() != 80).then_some(http.port()),
            https: https.map(|https| https.port()),
        };

        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let logs = Arc::new(LogHub::new(Arc::clone(&clock)));
        let instances = Arc::new(InstanceHub::default());
        let inside = Inside::default();
        let registry = Registry::new();
        let shutdown = CancellationToken::new();
        let (reporter, reports) = report::channel();
        let (stats_sender, stats) = scale::channel();

        let objects = data_dir.join(OBJECTS_FILE);
        let key_file = config.encryption_key_file.as_deref();
        let encryption = keys::find_or_make(&data_dir, key_file, &objects)?;
        let store_config = kittiwake_store::Config {
            encryption: Some(Arc::new(encryption)),
            ..kittiwake_store::Config::default()
        };
        let store =
            kittiwake_store::ObjectStore::open(&objects, store_config).context("cannot open the objects")?;
        // After the objects were opened: two programs on one folder must not make two authorities.
        let security = ApiSecurity::prepare(config, &data_dir, api, reachable(api), clock.now())?;
        let (runtime, runtime_task) = kittiwake_runtime::build(
            // With workers it only makes artifacts ready, a few at a time.
            if config.workers == 0 {
                runtime_config(config, data_dir.clone(), config.max_calls)
            } else {
                kittiwake_runtime::Config {
                    programs_bytes_max: ByteCount(0),
                    ..runtime_config(config, data_dir.clone(), PREPARING_MAX)
                }
            },
            kittiwake_runtime::Inputs {
                logs: Arc::clone(&logs),
                instances: Arc::clone(&instances),
                reporter: reporter.clone(),
                registry: registry.clone(),
                clock: Arc::clone(&clock),
                inside: inside.clone(),
            },
        )
        .context("cannot start the runtime")?;
        let (apiserver, apiserver_task) = kittiwake_apiserver::build(
            kittiwake_apiserver::Config {
                auth: security.auth,
                ..kittiwake_apiserver::Config::default()
            },
            kittiwake_apiserver::Inputs {
                store: store.clone(),
                crds: kittiwake_api::crd::all(),
                clock: Arc::clone(&clock),
                logs: Arc::clone(&logs),
                instances: Arc::clone(&instances),
            },
        )
        .context("cannot start the API server")?;
        let client = {
            // The client has a task, which belongs to the control plane.
            let _control = control.enter();
            kube::Client::new(apiserver.router(), "default")
        };
        let placement = Arc::new(Placement::default());
        let gateways: Arc<dyn Gateways> = if config.workers == 0 {
            Arc::new(InThisProcess)
        } else {
            Arc::clone(&placement) as _
        };
        let (controllers, controllers_task) = kittiwake_controllers::build(
            controllers_config(config, ports),
            kittiwake_controllers::Inputs {
                client: client.clone(),
                prepare: Arc::clone(&runtime) as Arc<dyn Prepare>,
                reports,
                stats,
                gateways,
                clock: Arc::clone(&clock),
                logs: Arc::clone(&logs),
                registry: registry.clone(),
                shutdown: shutdown.clone(),
            },
        )
        .context("cannot start the controllers")?;
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
        tasks.spawn_on(apiserver_task, control);
        // Nobody meets an API without its default namespace.
        apiserver.started().await;
        tasks.spawn_on(controllers_task, control);
        if let Some(settings) = &config.gateway.acme {
            let (routes, clock) = (controllers.routing_table(), Arc::clone(&clock));
            let ordering = acme::order(
                settings,
                &client,
                routes,
                registry.clone(),
                clock,
                shutdown.clone(),
            )
            .context("cannot order certificates (--acme-directory)")?;
            tasks.spawn_on(ordering, control);
        }
        let serving = if config.workers == 0 {
            let listener = http_listeners.into_iter().next().context("no socket")?;
            let (issued, follow_issued) = acme::follow(&client, shutdown.clone());
            let (gateway, gateway_task) = kittiwake_gateway::build(
                gateway_config(config),
                kittiwake_gateway::Inputs {
                    listener,
                    also: doors.listeners(),
                    issued,
                    routes: controllers.routing_table(),
                    invoke: Arc::clone(&runtime) as Arc<dyn Invoke>,
                    activator: kittiwake_gateway::ActivatorInputs {
                        residents: runtime as Arc<dyn Residents>,
                        scale: controllers.scale_table(),
                        stats: stats_sender,
                        instances,
                        process: kittiwake_runtime::THIS_PROCESS,
                    },
                    neighbours: None,
                    registry: registry.clone(),
                    clock,
                    inside,
                    logs: Arc::clone(&logs),
                    shutdown: shutdown.clone(),
                },
            )
            .context("cannot start the gateway")?;
            tasks.spawn(gateway_task);
            tasks.spawn(follow_issued);
            for worker in adopted {
                // Nobody waits for these tasks: `failed` must not take the end of one for the end of a part.
                tokio::spawn(worker.end());
            }
            Serving::Here(gateway)
        } else {
            let inner_doors = InnerDoors::of(&data_dir)?.listen(http_listeners.len())?;
            let config = Config {
                data_dir,
                ..config.clone()
            };
            let routes = controllers.clone();
            Serving::Workers(supervisor::start(supervisor::Inputs {
                program: std::env::current_exe().context("cannot find this program")?,
                drain: config.drain,
                settings: worker_settings(config, http_listeners.len(), &security.worker, ports),
                listeners: http_listeners,
                inner_doors,
                doors,
                placement,
                routes_changed: Box::new(move |(namespace, route)| routes.gateways_changed(namespace, route)),
                logs,
                instances,
                reporter,
                stats: stats_sender,
                registry: registry.clone(),
                adopted,
            })?)
        };
        let workers = serving.workers();
        let metrics = Router::new().route(
            "/metrics",
            get(print_metrics).with_state(Metrics { registry, workers }),
        );
        let mut app = apiserver.guarded(metrics);
        if security.tls.is_none() {
            app = app.layer(middleware::from_fn(refuse_foreign_sites));
        }
        let listening = api_listener::serve(api_listener::Inputs {
            listener: api_listener,
            app,
            tls: security.tls,
            shutdown: apiserver.shutdown(),
        });
        tasks.spawn_on(listening, control);
        let api_shutdown = apiserver.shutdown();
        Ok(Self {
            api,
            http,
            https,
            cluster_local,
            client,
            access: security.administrator,
            serving,
            api_listener: kept_api_listener,
            controllers,
            tasks,
            shutdown,
            api_shutdown,
            store,
        })
    }

    /// The workers, where there are any.
    #[must_use]
    pub fn workers(&self) -> Option<Supervisor> {
        self.serving.workers()
    }

    /// Resolves once the controllers have seen every object: from now on what was deployed before is served.
    pub async fn synced(&mut self) {
        self.controllers.synced().await;
        if let Serving::Workers(supervisor) = &self.serving {
            supervisor.ready().await;
        }
    }

    /// Resolves when a part of the platform ends by itself, which it never should.
    pub async fn failed(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            tracing::error!(%error, "a part of the platform failed");
        }
    }

    /// Lets calls in flight finish for at most `drain`, then stops everything. Returns how many calls were cut off.
    pub async fn stop(self, drain: Duration) -> usize {
        let cut = match &self.serving {
            Serving::Here(gateway) => gateway.drain(drain).await,
            Serving::Workers(supervisor) => supervisor.stop().await,
        };
        self.end().await;
        cut
    }

    /// Stops everything but the workers, for the program that takes this one's place.
    ///
    /// # Errors
    /// When there are no workers, or a socket cannot be handed over. Then everything goes on.
    pub async fn release(self) -> Result<Handover, (Self, anyhow::Error)> {
        let Serving::Workers(supervisor) = &self.serving else {
            return Err((
                self,
                anyhow::anyhow!("there are no workers that could serve meanwhile"),
            ));
        };
        let released = self
            .api_listener
            .try_clone()
            .and_then(|api| Ok((api, supervisor.release()?)));
        let (api, (workers, http, doors)) = match released {
            Ok(released) => released,
            Err(error) => {
                return Err((
                    self,
                    anyhow::Error::new(error).context("cannot hand over the sockets"),
                ));
            }
        };
        self.end().await;
        Ok(Handover {
            api,
            http: http.into_iter().map(TcpListener::from).collect(),
            doors,
            workers,
        })
    }

    /// Ends all tasks and closes the objects' file.
    async fn end(mut self) {
        self.shutdown.cancel();
        self.api_shutdown.cancel();
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, all_ended).await.is_err() {
            self.tasks.shutdown().await;
        }
        // A connection that a client keeps open may still hold the API's state; the file must be free all the same.
        let store = self.store.clone();
        let _ = tokio::task::spawn_blocking(move || store.close()).await;
    }
}

/// Makes the data directory, and makes it readable by its owner only, also when it was there before: it holds Secrets.
pub(crate) fn make_data_dir(path: &Path) -> anyhow::Result<PathBuf> {
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

/// The runtime's settings in a process that answers so many calls at a time.
pub(crate) fn runtime_config(
    config: &Config,
    data_dir: PathBuf,
    calls_max: u32,
) -> kittiwake_runtime::Config {
    kittiwake_runtime::Config {
        data_dir,
        working_dir: config.working_dir.clone(),
        cache_bytes_max: config.cache_size,
        programs_bytes_max: config.programs_memory,
        allow_file_images: config.allow_file_images,
        insecure_registries: config.insecure_registries.clone(),
        docker_config: config.docker_config.clone().or_else(usual_docker_config),
        // Those that the gateway keeps for other functions than a flooded one come on top.
        instances_max: calls_max.saturating_add(kittiwake_gateway::SLOTS_FOR_OTHERS),
        ..kittiwake_runtime::Config::default()
    }
}

/// The controllers' settings, also those of a data plane.
pub(crate) fn controllers_config(config: &Config, ports: Ports) -> kittiwake_controllers::Config {
    kittiwake_controllers::Config {
        domain: config.domain.clone(),
        external_port: ports.http,
        https_external_port: ports.https,
        ..kittiwake_controllers::Config::default()
    }
}

/// The gateway's settings.
pub(crate) fn gateway_config(config: &Config) -> kittiwake_gateway::Config {
    kittiwake_gateway::Config {
        calls_max: usize::try_from(config.max_calls).unwrap_or(usize::MAX),
        access_log: config.access_log,
        request_metrics: config.request_metrics,
        certificates: config
            .gateway
            .certificates
            .iter()
            .map(|(chain, key)| kittiwake_gateway::CertificateFiles {
                chain: chain.clone(),
                key: key.clone(),
            })
            .collect(),
        ..kittiwake_gateway::Config::default()
    }
}

/// What each of `count` workers is told, with its share of the calls and of the cores.
fn worker_settings(config: Config, count: usize, access: &Access, ports: Ports) -> Settings {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    let config = Config {
        max_calls: calls_of_each(config.max_calls, share),
        programs_memory: ByteCount(config.programs_memory.0 / u64::from(share)),
        ..config
    };
    Settings {
        supervisor: std::process::id(),
        kubeconfig: Secret(kubeconfig::render(access)),
        ports,
        threads: cores.div_ceil(count.max(1)),
        config,
    }
}

/// The calls that each of so many workers takes at a time; all of them where there are no workers. Connections do not spread evenly (the system chooses by their
/// addresses), so each may take a quarter more than its share, and a few more again: else some calls would be refused
/// long before all workers are busy.
#[must_use]
pub fn calls_of_each(calls_max: u32, workers: u32) -> u32 {
    let share = calls_max.div_ceil(workers.max(1));
    share
        .saturating_add(share / 4)
        .saturating_add(CALLS_SPARE)
        .min(calls_max)
}

/// The address at which this machine reaches what listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A socket for functions; one for each worker where there are any.
fn bind_for_workers(address: SocketAddr, workers: u32) -> anyhow::Result<Vec<TcpListener>> {
    // Sockets that share a port do so with every program of the same user, also with another kittiwake: asking once
    // for the port alone finds out.
    let alone = bind(address, "functions", "--http-listen", Sharing::Alone)?;
    if workers == 0 {
        return Ok(vec![alone]);
    }
    let address = alone.local_addr().context("cannot read the gateway's address")?;
    drop(alone);
    (0..workers)
        .map(|_| bind(address, "functions", "--http-listen", Sharing::WithWorkers))
        .collect()
}

/// Who else may listen on an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    WithWorkers,
}

/// A socket that is nobody else's.
fn bind_alone(address: SocketAddr, what: &str, flag: &str) -> anyhow::Result<TcpListener> {
    bind(address, what, flag, Sharing::Alone)
}

/// Listens on `address`; `what` and `flag` are for the error message.
fn bind(address: SocketAddr, what: &str, flag: &str, sharing: Sharing) -> anyhow::Result<TcpListener> {
    let listen = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(sharing == Sharing::WithWorkers)?;
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

/// Whose metrics there are.
#[derive(Clone)]
struct Metrics {
    registry: Registry,
    workers: Option<Supervisor>,
}

async fn print_metrics(State(Metrics { registry, workers }): State<Metrics>) -> Response {
    let own = match TextEncoder::new().encode_to_string(&registry.gather()) {
        Ok(own) => own,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    };
    let text = match workers {
        Some(workers) => workers.metrics(&own).await,
        None => own,
    };
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response()
}

/// The API without TLS has no passwords, so a web page open in a browser on this machine must not reach it, neither
/// by a request from its own origin nor by a name that it makes resolve to 127.0.0.1 (DNS rebinding).
async fn refuse_foreign_sites(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or(request.uri().authority().map(|a| a.as_str()));
    if headers.contains_key(header::ORIGIN) || !host.is_none_or(is_loopback_name) {
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
        let taken = bind_for_workers("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = taken[0].local_addr().unwrap();
        assert_eq!((taken.len(), taken[1].local_addr().unwrap()), (2, address));
        let message = bind_for_workers(address, 2).unwrap_err().to_string();
        assert!(
            message.contains(&address.to_string()) && message.contains("--http-listen 127.0.0.1:0"),
            "{message}"
        );
    }

    #[test]
    fn workers_share_calls_with_something_to_spare() {
        assert_eq!(calls_of_each(1000, 1), 1000);
        assert_eq!(calls_of_each(1000, 4), 250 + 62 + 64);
        assert_eq!(calls_of_each(10, 4), 10);
        assert_eq!(calls_of_each(100_000, 10), 12_564);
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
