//! The programs of one instance: that of the container that takes calls, and those beside it. They start and end
//! together: when one of them ends, so does the network in which they find each other.
//!
//! In a pod of Kubernetes a container that ended is started again by itself. Here all of them are, so that none has to
//! live with another one that forgot what they had told each other.

use super::launch::{self, Exit, Home, LaunchError, RunningGuest};
use super::probe::command::Commands;
use super::probe::{Prober, Problem};
use crate::component::Loaded;
use crate::files::{Files, until_too_much};
use crate::function::Meter;
use crate::network::Network;
use crate::runtime::Shared;
use futures::future::{select_all, try_join_all};
use kittiwake_core::artifact::FunctionKind;
use kittiwake_core::log::{LogStream, RevisionLog};
use kittiwake_core::revision::RevisionSpec;
use kittiwake_core::volume::Content;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long an instance may be silent before its log says what it is waited for.
const HINT_AFTER: Duration = Duration::from_secs(5);
/// The container that takes calls is started once the programs beside it that listen do so, which takes them a moment, so
/// that it finds them without trying again; for no longer than this. In a pod it would end, and be started again later.
const LISTEN_WITHIN: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub(crate) struct Pod {
    /// Their network.
    pub network: Arc<Network>,
    /// What runs.
    pub programs: Programs,
    /// How they are asked.
    pub probers: Probers,
    /// What they keep in folders that are looked at from outside.
    pub files: Kept,
    /// How long it took to make them.
    pub instantiated: Duration,
}

/// What the programs of a pod are made of.
pub(crate) struct Parts<'a> {
    /// The revision, with its sidecars.
    pub revision: &'a Arc<RevisionSpec>,
    /// The program that takes calls.
    pub loaded: &'a Arc<Loaded>,
    /// Those of the sidecars, in the order of the revision.
    pub sidecars: &'a [Arc<Loaded>],
    /// What they use.
    pub meter: &'a Meter,
    /// Where they write to.
    pub log: &'a Arc<RevisionLog>,
}

/// One program to be started.
struct Part {
    name: Name,
    revision: Arc<RevisionSpec>,
    loaded: Arc<Loaded>,
    log: Arc<RevisionLog>,
}

/// The name of a sidecar; `None` for the container that takes calls.
type Name = Option<Arc<str>>;

/// What is said of a container.
fn of(name: &Name, text: &str) -> String {
    match name {
        Some(name) => format!("container {name:?}: {text}"),
        None => text.to_owned(),
    }
}

impl Parts<'_> {
    /// The programs in the order in which they are started: sidecars first, so that the one that takes calls finds them.
    fn in_order(&self) -> Vec<Part> {
        let sidecars = self.revision.sidecars.iter().zip(self.sidecars);
        let mut parts: Vec<Part> = sidecars
            .map(|(sidecar, loaded)| Part {
                name: Some(Arc::clone(&sidecar.name)),
                revision: Arc::new(sidecar.alone(self.revision)),
                loaded: Arc::clone(loaded),
                log: self.log.of_sidecar(&sidecar.name),
            })
            .collect();
        parts.push(Part {
            name: None,
            revision: Arc::clone(self.revision),
            loaded: Arc::clone(self.loaded),
            log: Arc::clone(self.log),
        });
        parts
    }
}

/// Where the programs of a revision find each other.
fn home(shared: &Arc<Shared>, parts: &[Part]) -> Result<Home, LaunchError> {
    let mut mounts = parts.iter().flat_map(|part| &part.revision.mounts);
    let share = parts.len() > 1 && mounts.any(|mount| matches!(mount.content, Content::Scratch { .. }));
    let volumes = share.then(|| shared.file_root.volumes()).transpose();
    let network = if parts.len() > 1 {
        Network::of_several()
    } else {
        Network::default()
    };
    Ok(Home {
        network: Arc::new(network),
        volumes: volumes.map_err(|error| LaunchError::Internal(error.to_string()))?,
    })
}

impl Pod {
    /// Makes an instance of each program and lets it run. Waits for slots until `deadline`.
    pub(crate) async fn launch(
        shared: &Arc<Shared>,
        parts: &Parts<'_>,
        deadline: Instant,
    ) -> Result<Self, LaunchError> {
        let (meter, parts) = (parts.meter, parts.in_order());
        let home = home(shared, &parts)?;
        let mut pod = Self {
            network: Arc::clone(&home.network),
            programs: Programs(Vec::new()),
            probers: Probers { members: Vec::new() },
            files: Kept(Vec::new()),
            instantiated: Duration::ZERO,
        };
        let mut listeners = 0;
        for part in &parts {
            if part.name.is_none() && listeners > 0 {
                // Who does not listen by then has other things to do first.
                let _ = timeout(LISTEN_WITHIN, home.network.until_listeners(listeners)).await;
            }
            listeners += usize::from(part.loaded.kind_for(&part.revision) == FunctionKind::Server);
            let added = pod.add(shared, part, meter, &home, deadline).await;
            added.map_err(|error| error.of(&part.name))?;
        }
        Ok(pod)
    }

    async fn add(
        &mut self,
        shared: &Arc<Shared>,
        part: &Part,
        meter: &Meter,
        home: &Home,
        deadline: Instant,
    ) -> Result<(), LaunchError> {
        let Part {
            name,
            revision,
            loaded,
            log,
        } = part;
        let launched = launch::launch(shared, revision, loaded, meter, log, home, deadline).await?;
        let commands = Commands::of(shared, revision, loaded, meter, log, &launched);
        self.probers.members.push(Member {
            name: name.clone(),
            prober: Prober::new(revision, &launched.network, commands),
            is_ready: AtomicBool::new(false),
        });
        self.files.0.push((name.clone(), launched.files));
        self.programs.0.push((name.clone(), launched.guest));
        self.instantiated += launched.instantiated;
        Ok(())
    }
}

impl LaunchError {
    /// The same of a container.
    fn of(self, name: &Name) -> Self {
        match self {
            Self::Failed(exit) => Self::Failed(Exit {
                message: of(name, &exit.message),
                ..exit
            }),
            Self::Internal(why) => Self::Internal(of(name, &why)),
            Self::NoRoom => Self::NoRoom,
        }
    }
}

/// The programs that run. They end when this is dropped.
pub(crate) struct Programs(Vec<(Name, RunningGuest)>);

impl Programs {
    /// Resolves once the first of them has ended, and must not be asked again then.
    pub(crate) async fn ended(&mut self) -> Exit {
        let endings = self.0.iter_mut().map(|(name, guest)| {
            Box::pin(async {
                let exit = guest.ended().await;
                if name.is_none() {
                    return exit;
                }
                let message = format!("{}, and every container has to keep running", exit.message);
                Exit {
                    message: of(name, &message),
                    ..exit
                }
            })
        });
        select_all(endings).await.0
    }
}

/// What the programs keep in folders that are looked at from outside.
#[derive(Clone)]
pub(crate) struct Kept(Vec<(Name, Option<Files>)>);

impl Kept {
    /// Resolves once one of them keeps more than it may.
    pub(crate) async fn until_too_much(&self) -> String {
        let all = self.0.iter().map(|(name, files)| {
            Box::pin(async { of(name, &until_too_much(files.clone()).await.to_string()) })
        });
        select_all(all).await.0
    }
}

/// Asks all programs of a pod.
pub(crate) struct Probers {
    members: Vec<Member>,
}

struct Member {
    name: Name,
    prober: Prober,
    /// Whether it was ready once.
    is_ready: AtomicBool,
}

impl Member {
    async fn until_ready(&self) -> Result<(), Problem> {
        let ready = self.prober.until_ready().await;
        ready.map_err(|problem| problem.map(|text| of(&self.name, text)))?;
        self.is_ready.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Probers {
    /// Resolves once all have started and are ready.
    pub(crate) async fn until_ready(&self) -> Result<(), Problem> {
        try_join_all(self.members.iter().map(Member::until_ready)).await?;
        Ok(())
    }

    /// The same, with a hint in the log for one who waits long.
    pub(crate) async fn until_ready_told(&self, log: &RevisionLog) -> Result<(), Problem> {
        let mut ready = std::pin::pin!(self.until_ready());
        if let Ok(ready) = timeout(HINT_AFTER, ready.as_mut()).await {
            return ready;
        }
        log.write(LogStream::Platform, &self.waits_for());
        ready.await
    }

    /// What an instance that is not ready is waited for.
    pub(crate) fn waits_for(&self) -> String {
        let waiting = self.members.iter().rev();
        let waiting = waiting.filter(|member| !member.is_ready.load(Ordering::Relaxed));
        let why: Vec<String> = waiting
            .map(|member| of(&member.name, &member.prober.waits_for()))
            .collect();
        why.join("; ")
    }

    /// Tells when the instance, all of whose programs were ready, becomes ready or not: it is when all of them are.
    pub(crate) async fn watch_readiness(&self, mut changed: impl FnMut(bool)) -> Infallible {
        let unready = Mutex::new((BTreeSet::new(), &mut changed));
        let watching = self.members.iter().enumerate().map(|(index, member)| {
            let unready = &unready;
            member.prober.watch_readiness(move |ready| {
                let (unready, changed) = &mut *unready.lock().unwrap_or_else(PoisonError::into_inner);
                let before = unready.is_empty();
                if ready {
                    unready.remove(&index);
                } else {
                    unready.insert(index);
                }
                if before != unready.is_empty() {
                    changed(unready.is_empty());
                }
            })
        });
        let watching: Vec<_> = watching.map(Box::pin).collect();
        select_all(watching).await.0
    }

    /// Resolves once one of them is found dead.
    pub(crate) async fn until_dead(&self) -> Problem {
        let all = self.members.iter().map(|member| {
            Box::pin(async {
                let problem = member.prober.until_dead().await;
                problem.map(|text| of(&member.name, text))
            })
        });
        select_all(all).await.0
    }
}
