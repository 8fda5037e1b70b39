//! Several gateways of one platform, in one process: each with a function of its own and a door for the others.

use crate::support::{HELLO, Server, start_joined, table};
use futures::future::BoxFuture;
use http::{Request, Response};
use kittiwake_core::artifact::FunctionKind;
use kittiwake_core::body::{self, Body};

use kittiwake_core::resident::{Instances, NoResidents, Resident, ResidentError, Residents};
use kittiwake_core::revision::{Limits, RevisionSpec, Scaling};
use kittiwake_core::routing_table::{RouteEntry, RouteTarget, RoutingTable};
use kittiwake_core::scale::{ScaleTable, Stats, Wanted};
use kittiwake_core::share::Owners;
use kittiwake_gateway::{ActivatorInputs, Config, Neighbours};
use std::num::NonZeroU32;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// The process at which the revision of the tests begins: the second.
const FIRST: u32 = 1;
pub const UID: &str = "owned";

/// How a revision is shared out.
#[derive(Clone, Copy)]
pub struct Shared {
    kind: FunctionKind,
    processes: u32,
    max: u32,
}

impl Shared {
    /// The revision as the process with that index sees it.
    pub fn revision(self, index: u32) -> RevisionSpec {
        let number = |number| NonZeroU32::new(number).unwrap();
        RevisionSpec {
            kind: self.kind,
            uid: UID.into(),
            limits: Limits {
                concurrency: NonZeroU32::new(1),
                ..crate::support::revision("hello-00001").limits.clone()
            },
            scaling: Scaling {
                max: NonZeroU32::new(1),
                owners: Some(Owners {
                    place: (index + self.processes - FIRST) % self.processes,
                    first: FIRST,
                    processes: number(self.processes),
                    max: number(self.max),
                }),
                ..Scaling::default()
            },
            ..RevisionSpec::clone(&crate::support::revision("hello-00001"))
        }
    }

    fn table(self, index: u32) -> Arc<RoutingTable> {
        routes(self.revision(index))
    }
}

pub fn routes(revision: RevisionSpec) -> Arc<RoutingTable> {
    let entry = RouteEntry {
        namespace: "default".into(),
        name: "hello".into(),
        targets: vec![RouteTarget {
            revision: Arc::new(revision),
            percent: 100,
        }],
        ..RouteEntry::default()
    };
    table(vec![(HELLO, Arc::new(entry))])
}

/// As many instances as are asked for, each with the number of its process, which tells how often it was called.
struct Counting {
    process: u32,
    instances: watch::Sender<Instances>,
    asked: mpsc::Sender<(u32, u32)>,
}

struct Instance {
    process: u32,
    calls: Arc<AtomicU64>,
}

impl Residents for Counting {
    fn scale(&self, _: &Arc<RevisionSpec>, count: u32) {
        let instance = |_| -> Arc<dyn Resident> {
            Arc::new(Instance {
                process: self.process,
                calls: Arc::default(),
            })
        };
        let _ = self.asked.try_send((self.process, count));
        self.instances.send_replace(Instances {
            ready: (0..count).map(instance).collect(),
            ..Instances::default()
        });
    }

    fn instances(&self, _: &Arc<RevisionSpec>) -> watch::Receiver<Instances> {
        self.instances.subscribe()
    }
}

impl Resident for Instance {
    fn id(&self) -> u64 {
        0
    }

    fn invoke(
        &self,
        _: Request<Body>,
        accepted: Instant,
    ) -> BoxFuture<'static, Result<Response<Body>, ResidentError>> {
        let calls = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let text = format!("process {}, call {calls}", self.process);
        Box::pin(async move {
            assert!(accepted <= Instant::now());
            Ok(Response::new(body::full(text)))
        })
    }
}

/// The processes of one platform.
pub struct Joined {
    pub shared: Shared,
    pub servers: Vec<Server>,
    pub stats: Vec<mpsc::Receiver<Stats>>,
    scales: Vec<watch::Sender<Arc<ScaleTable>>>,
    /// What is asked for of instances that stay, by whom.
    pub asked: mpsc::Receiver<(u32, u32)>,
    asking: mpsc::Sender<(u32, u32)>,
    /// Second handles of the doors, as a supervisor has them.
    doors: Vec<UnixListener>,
    paths: Vec<PathBuf>,
    _folder: tempfile::TempDir,
}

impl Joined {
    pub fn new(kind: FunctionKind, processes: u32, max: u32) -> Self {
        Self::with(kind, processes, max, &Config::default())
    }

    pub fn with(kind: FunctionKind, processes: u32, max: u32, config: &Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..processes)
            .map(|index| folder.path().join(index.to_string()))
            .collect();
        let (asking, asked) = mpsc::channel(64);
        let mut joined = Self {
            shared: Shared { kind, processes, max },
            servers: Vec::new(),
            stats: Vec::new(),
            scales: Vec::new(),
            asked,
            asking,
            doors: paths
                .iter()
                .map(|path| UnixListener::bind(path).unwrap())
                .collect(),
            paths,
            _folder: folder,
        };
        for index in 0..processes {
            let (server, stats, scale) = joined.start(index, config.clone());
            joined.servers.push(server);
            joined.stats.push(stats);
            joined.scales.push(scale);
        }
        joined
    }

    pub fn start(
        &self,
        index: u32,
        config: Config,
    ) -> (Server, mpsc::Receiver<Stats>, watch::Sender<Arc<ScaleTable>>) {
        let (scale, receiver) = watch::channel(Arc::default());
        let (sender, stats) = kittiwake_core::scale::channel();
        let residents: Arc<dyn Residents> = match self.shared.kind {
            FunctionKind::Server => Arc::new(Counting {
                process: index,
                instances: watch::Sender::default(),
                asked: self.asking.clone(),
            }),
            _ => Arc::new(NoResidents),
        };
        let activator = ActivatorInputs {
            residents,
            scale: receiver,
            stats: sender,
            instances: Arc::default(),
            process: u64::from(index),
        };
        let neighbours = Neighbours {
            door: self.doors[index as usize].try_clone().unwrap(),
            doors: self.paths.clone(),
        };
        let server = start_joined(config, self.shared.table(index), activator, neighbours);
        (server, stats, scale)
    }

    pub fn function_calls(&self) -> Vec<usize> {
        let calls = |server: &Server| server.function.calls.load(Ordering::SeqCst);
        self.servers.iter().map(calls).collect()
    }

    /// A call by way of the process with that index.
    pub async fn get(&self, by: usize, path: &str) -> String {
        self.servers[by].get(HELLO, path).await
    }

    /// Replaces the routing table of a process.
    pub async fn route(&self, index: usize, routes: Arc<RoutingTable>) {
        let server = &self.servers[index];
        server.routes.send_replace(Arc::clone(&routes));
        let mut in_use = server.handle.table_in_use();
        in_use
            .wait_for(|table| Arc::ptr_eq(table, &routes))
            .await
            .unwrap();
    }

    /// Tells all what the autoscaler wants.
    pub fn scale(&self, all: u32) {
        for (index, scale) in self.scales.iter().enumerate() {
            let owners = self.shared.revision(u32::try_from(index).unwrap()).scaling.owners;
            let wanted = Wanted {
                here: u32::from(owners.unwrap().place < all),
                all,
            };
            scale.send_replace(Arc::new(ScaleTable([(UID.into(), wanted)].into())));
        }
    }
}
