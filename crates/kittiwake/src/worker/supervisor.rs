//! Keeps the workers running: starts one for each listening socket, and another when one ends. Those of the program
//! before this one end when new ones have taken over.

use super::exposition;
use super::handoff;
use super::link::{Assignment, Down, Link, Settings, Up};
use super::placement::{Placement, RouteName};
use crate::doors::Doors;
use anyhow::Context;
use kittiwake_core::instances::{Ending, InstanceHub};
use kittiwake_core::log::LogHub;
use kittiwake_core::report::Reporter;
use kittiwake_core::scale::StatsSender;
use prometheus::{IntCounter, IntGauge, Registry};
use rustix::process::{Pid, Signal, WaitOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A worker that took calls for this long did not fail at its start: the next one comes at once, and what failed before
/// is forgotten.
const SERVED_MIN: Duration = Duration::from_secs(1);
/// Pause after the second failure in a row; it doubles with each further one.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// How long a worker may take to say its metrics before they are left out.
const METRICS_TIMEOUT: Duration = Duration::from_secs(3);
/// Time that a worker gets to end after its calls were given theirs, before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether a worker of the program before this one has ended.
const ADOPTED_CHECK_PERIOD: Duration = Duration::from_millis(100);

/// What the supervisor is given.
pub struct Inputs {
    /// One for each worker, all of one address.
    pub listeners: Vec<TcpListener>,
    /// One for each worker, by which the others pass calls on to it.
    pub inner_doors: Vec<UnixListener>,
    /// Sockets that all workers accept from.
    pub doors: Doors,
    /// The program to start, as it is on disk at that time.
    pub program: PathBuf,
    /// What each worker is told.
    pub settings: Settings,
    /// Where workers' routes are kept track of.
    pub placement: Arc<Placement>,
    /// Has a Route looked at again.
    pub routes_changed: Box<dyn Fn(&RouteName) + Send + Sync>,
    /// Where functions' output goes.
    pub logs: Arc<LogHub>,
    /// Where it is told which revisions are in workers' memory.
    pub instances: Arc<InstanceHub>,
    /// Where reports on revisions go.
    pub reporter: Reporter,
    /// Where what workers' calls saw goes, for the autoscaler.
    pub stats: StatsSender,
    /// Where metrics are registered.
    pub registry: Registry,
    /// Workers that the program before this one had started; each ends when the new one of its socket takes calls.
    pub adopted: Vec<Adopted>,
    /// Time that calls in flight get when a worker has to end.
    pub drain: Duration,
}

/// A worker that the program before this one had started, in the same process.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub struct Adopted {
    /// Whose socket it listens on.
    pub index: usize,
    /// Its process.
    pub pid: i32,
}

/// The running workers, for those who end them or hand them over.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    inputs: Inputs,
    /// A process that waits to become a worker: it takes a dead one's place at once.
    spare: Mutex<Option<Spare>>,
    /// Workers that run, by the number of their start.
    running: Mutex<BTreeMap<u64, Running>>,
    serial: AtomicU64,
    /// Calls that workers had to cut off.
    cut: AtomicUsize,
    stop: CancellationToken,
    tasks: TaskTracker,
    ready: watch::Sender<BTreeSet<usize>>,
    metrics: Metrics,
}

/// A started process that is no worker yet.
struct Spare {
    child: Child,
    /// Our end of what becomes the link.
    stream: std::os::unix::net::UnixStream,
}

#[derive(Clone)]
struct Running {
    index: usize,
    pid: i32,
    requests: mpsc::Sender<oneshot::Sender<String>>,
}

struct Metrics {
    ready: IntGauge,
    restarts: IntCounter,
}

impl Metrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            ready: IntGauge::new("kittiwake_workers_ready", "Worker processes that take calls.")?,
            restarts: IntCounter::new(
                "kittiwake_worker_restarts_total",
                "Worker processes that were started because one had ended unexpectedly.",
            )?,
        };
        registry.register(Box::new(metrics.ready.clone()))?;
        registry.register(Box::new(metrics.restarts.clone()))?;
        Ok(metrics)
    }
}

/// How far a worker is. Each state leads to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    /// It ended; what the system says of it.
    Ended(String),
}

/// A worker as its slot sees it.
struct Worker {
    state: watch::Receiver<State>,
}

impl Worker {
    /// Resolves with what the system says, when the process has ended.
    async fn ended(&mut self) -> String {
        match self
            .state
            .wait_for(|state| matches!(state, State::Ended(_)))
            .await
            .as_deref()
        {
            Ok(State::Ended(how)) => how.clone(),
            _ => "gone".to_owned(),
        }
    }

    /// Resolves when it takes calls; an error when it ended instead.
    async fn ready(&mut self) -> Result<(), String> {
        match self
            .state
            .wait_for(|state| *state != State::Starting)
            .await
            .as_deref()
        {
            Ok(State::Ready) => Ok(()),
            Ok(State::Ended(how)) => Err(how.clone()),
            _ => Err("gone".to_owned()),
        }
    }
}

/// Starts all workers. Must be called within a tokio runtime.
///
/// # Errors
/// When the metrics are there already.
pub fn start(inputs: Inputs) -> anyhow::Result<Supervisor> {
    let metrics = Metrics::register(&inputs.registry).context("cannot register the workers' metrics")?;
    let count = inputs.listeners.len();
    let shared = Arc::new(Shared {
        inputs,
        spare: Mutex::default(),
        running: Mutex::default(),
        serial: AtomicU64::new(0),
        cut: AtomicUsize::new(0),
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        ready: watch::Sender::new(BTreeSet::new()),
        metrics,
    });
    for index in 0..count {
        shared.tasks.spawn(keep(Arc::clone(&shared), index));
    }
    Ok(Supervisor { shared })
}

impl Supervisor {
    /// Resolves once a worker listens on every socket, or they are being stopped.
    pub async fn ready(&self) {
        let mut ready = self.shared.ready.subscribe();
        let all = self.shared.inputs.listeners.len();
        tokio::select! {
            _ = ready.wait_for(|ready| ready.len() >= all) => {}
            () = self.shared.stop.cancelled() => {}
        }
    }

    /// One page of metrics, with those of all workers.
    pub async fn metrics(&self, own: &str) -> String {
        let running: Vec<Running> = self.shared.running().values().cloned().collect();
        let pages = running.into_iter().map(|worker| async move {
            let (answer, page) = oneshot::channel();
            worker.requests.send(answer).await.ok()?;
            Some((worker.index, page.await.ok()?))
        });
        let pages =
            pages.map(|page| async { tokio::time::timeout(METRICS_TIMEOUT, page).await.ok().flatten() });
        let pages: Vec<_> = futures::future::join_all(pages).await;
        exposition::merge(own, &pages.into_iter().flatten().collect::<Vec<_>>())
    }

    /// Ends all workers after the calls they have, and kills those that take longer than they may. Returns how many
    /// calls were cut off.
    pub async fn stop(&self) -> usize {
        self.shared.stop.cancel();
        self.shared.end_spare();
        self.shared.tasks.close();
        self.signal_all(Signal::TERM);
        let patience = self.shared.inputs.drain + END_TIMEOUT;
        if tokio::time::timeout(patience, self.shared.tasks.wait())
            .await
            .is_err()
        {
            self.signal_all(Signal::KILL);
            let _ = tokio::time::timeout(END_TIMEOUT, self.shared.tasks.wait()).await;
        }
        self.shared.cut.load(Ordering::Relaxed)
    }

    /// Kills all workers at once.
    pub fn kill(&self) {
        self.shared.stop.cancel();
        self.shared.end_spare();
        self.signal_all(Signal::KILL);
    }

    /// Gives up the workers without ending them, for the program that takes this one's place: which run, and the
    /// sockets they listen on.
    ///
    /// # Errors
    /// When a socket cannot be copied.
    pub fn release(&self) -> std::io::Result<(Vec<Adopted>, Vec<OwnedFd>, Doors)> {
        let doors = self.shared.inputs.doors.try_clone()?;
        let sockets = self.shared.inputs.listeners.iter();
        let sockets: Vec<OwnedFd> = sockets
            .map(|listener| listener.as_fd().try_clone_to_owned())
            .collect::<std::io::Result<_>>()?;
        self.shared.stop.cancel();
        self.shared.end_spare();
        let workers = self
            .shared
            .running()
            .values()
            .map(|worker| Adopted {
                index: worker.index,
                pid: worker.pid,
            })
            .collect();
        Ok((workers, sockets, doors))
    }

    fn signal_all(&self, what: Signal) {
        for worker in self.shared.running().values() {
            signal(worker.pid, what);
        }
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, BTreeMap<u64, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_again(&self, routes: &BTreeSet<RouteName>) {
        for route in routes {
            (self.inputs.routes_changed)(route);
        }
    }

    /// Starts a process, which waits for its assignment.
    fn start_process(&self) -> anyhow::Result<Spare> {
        let (mut stream, theirs) = std::os::unix::net::UnixStream::pair().context("cannot make a link")?;
        let mut command = Command::new(&self.inputs.program);
        command
            .arg("worker")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            // Ctrl-C in a terminal goes to all of a group; what it means for workers is up to the supervisor.
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.inputs.program.display()))?;
        // The command holds the worker's end of the link as long as it lives; the link must break with the worker.
        drop(command);
        handoff::send(&mut stream, &self.inputs.settings, &[]).context("cannot hand over the settings")?;
        Ok(Spare { child, stream })
    }

    /// Sees to it that a process waits to take a dead worker's place. Without one the next is started when it is needed.
    fn keep_spare(&self) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if self.stop.is_cancelled() || spare.as_mut().is_some_and(Spare::waits) {
            return;
        }
        match self.start_process() {
            Ok(started) => *spare = Some(started),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "no spare worker can be started"),
        }
    }

    fn end_spare(&self) {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut spare) = spare {
            // It has no calls. When it has ended already, all the better.
            let pid = spare
                .child
                .id()
                .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
            let _ = spare.child.start_kill();
            // Waited for here: a program that takes this one's place would not know of it.
            if pid.is_some() {
                let _ = rustix::process::waitpid(pid, WaitOptions::empty());
            }
        }
    }

    /// Makes a worker of the spare process, or of a new one where there is none, and starts a task that listens to it
    /// until it ends.
    fn spawn(self: &Arc<Self>, index: usize) -> anyhow::Result<Worker> {
        let listener = self.inputs.listeners.get(index).context("no such socket")?;
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut process = match spare.map(|mut spare| (spare.waits(), spare)) {
            Some((true, spare)) => spare,
            Some((false, _)) | None => self.start_process()?,
        };
        let pid = process
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .context("it ended at once")?;
        let (doors, also) = self.inputs.doors.to_send();
        let inner_door = self.inputs.inner_doors.get(index);
        let mut sockets: Vec<_> = inner_door.map(AsFd::as_fd).into_iter().collect();
        sockets.push(listener.as_fd());
        sockets.extend(also);
        let assignment = Assignment {
            index,
            doors,
            inner_door: inner_door.is_some(),
        };
        handoff::send(&mut process.stream, &assignment, &sockets).context("cannot hand over the sockets")?;
        let Spare { child, stream: ours } = process;
        let link = Link::new(ours).context("cannot use the link")?;
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let (requests, asked) = mpsc::channel(4);
        let (state, receiver) = watch::channel(State::Starting);
        self.running().insert(serial, Running { index, pid, requests });
        let listening = Listening {
            shared: Arc::clone(self),
            index,
            serial,
            child,
            link,
            asked,
            state,
        };
        self.tasks.spawn(listening.run());
        Ok(Worker { state: receiver })
    }
}

impl Spare {
    /// Whether it still runs.
    fn waits(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// Keeps a worker on one socket.
async fn keep(shared: Arc<Shared>, index: usize) {
    let mut failures = 0_u32;
    loop {
        match shared.spawn(index) {
            Ok(mut worker) => {
                let mut ready_since = None;
                if worker.ready().await.is_ok() {
                    ready_since = Some(Instant::now());
                    shared.end_adopted(index);
                }
                let how = tokio::select! {
                    () = shared.stop.cancelled() => return,
                    how = worker.ended() => how,
                };
                if shared.stop.is_cancelled() {
                    return;
                }
                tracing::error!(
                    worker = index,
                    how,
                    "a worker ended unexpectedly; another takes its place"
                );
                shared.metrics.restarts.inc();
                failures = failures_after(failures, ready_since.map(|since| since.elapsed()));
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(worker = index, error, "a worker cannot be started");
                failures = failures_after(failures, None);
            }
        }
        if !wait(&shared, pause_after(failures)).await {
            return;
        }
    }
}

/// How many starts in a row failed, with one more whose worker took calls for so long; `None` when it never did.
fn failures_after(before: u32, served: Option<Duration>) -> u32 {
    match served {
        Some(served) if served >= SERVED_MIN => 0,
        _ => before.saturating_add(1),
    }
}

/// How long to wait after so many failures in a row.
fn pause_after(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        more => PAUSE_MIN.saturating_mul(1 << (more - 2).min(20)).min(PAUSE_MAX),
    }
}

/// Waits; `false` when there is to be no further try.
async fn wait(shared: &Shared, pause: Duration) -> bool {
    if pause.is_zero() {
        return !shared.stop.is_cancelled();
    }
    tokio::select! {
        () = tokio::time::sleep(pause) => !shared.stop.is_cancelled(),
        () = shared.stop.cancelled() => false,
    }
}

impl Shared {
    /// Ends the worker that the program before this one had on a socket; with the first socket also those for whom there
    /// is no socket any more.
    fn end_adopted(&self, index: usize) {
        let count = self.inputs.listeners.len();
        for adopted in &self.inputs.adopted {
            if adopted.index == index || (index == 0 && adopted.index >= count) {
                self.tasks.spawn(adopted.end());
            }
        }
    }
}

impl Adopted {
    /// Asks the worker to end after the calls it has, and resolves when it has ended.
    pub fn end(self) -> impl Future<Output = ()> + Send + 'static {
        // Only a child of this process that was not waited for yet has this number for certain.
        let runs = |pid| matches!(rustix::process::waitpid(Some(pid), WaitOptions::NOHANG), Ok(None));
        let pid = Pid::from_raw(self.pid).filter(|pid| runs(*pid));
        if pid.is_some() {
            signal(self.pid, Signal::TERM);
        }
        async move {
            while pid.is_some_and(runs) {
                tokio::time::sleep(ADOPTED_CHECK_PERIOD).await;
            }
        }
    }
}

/// Listens to one worker.
struct Listening {
    shared: Arc<Shared>,
    index: usize,
    serial: u64,
    child: Child,
    link: Link,
    asked: mpsc::Receiver<oneshot::Sender<String>>,
    state: watch::Sender<State>,
}

impl Listening {
    async fn run(mut self) {
        let mut waiting: Vec<oneshot::Sender<String>> = Vec::new();
        let mut linked = true;
        let mut endings = self.shared.inputs.instances.endings();
        let how = loop {
            tokio::select! {
                // What it said before it ended is heard first.
                biased;
                said = self.link.next::<Up>(), if linked => match said {
                    Ok(Some(Up::Metrics(page))) => {
                        for answer in waiting.drain(..) {
                            // Who asked may have gone.
                            let _ = answer.send(page.clone());
                        }
                    }
                    Ok(Some(said)) => self.take_note(said),
                    Ok(None) => linked = false,
                    Err(error) => {
                        tracing::warn!(worker = self.index, %error, "a worker's link is broken");
                        linked = false;
                    }
                },
                Some(answer) = self.asked.recv(), if linked => {
                    waiting.push(answer);
                    if waiting.len() == 1 && self.link.say(&Down::Metrics).await.is_err() {
                        linked = false;
                    }
                }
                Ok(ending) = endings.recv(), if linked => {
                    let word = self.word_of(&ending);
                    if let Some(word) = word && self.link.say(&word).await.is_err() {
                        linked = false;
                    }
                }
                ended = self.child.wait() => break match ended {
                    Ok(status) => status.to_string(),
                    Err(error) => error.to_string(),
                },
            }
        };
        let Shared { inputs, .. } = &*self.shared;
        self.shared.running().remove(&self.serial);
        let replaced = self
            .shared
            .running()
            .values()
            .any(|other| other.index == self.index);
        if !replaced {
            self.shared.ready.send_modify(|ready| {
                ready.remove(&self.index);
            });
        }
        self.shared.count_ready();
        inputs.instances.tell(self.serial, Vec::new());
        self.shared.look_again(&inputs.placement.forget(self.serial));
        self.state.send_replace(State::Ended(how));
    }

    /// What this worker is told of what shall end; nothing of an instance of another one.
    fn word_of(&self, ending: &Ending) -> Option<Down> {
        let place = match ending.instance {
            Some(id) if id.process != self.serial => return None,
            instance => instance.map(|id| id.place),
        };
        let revision = ending.revision.to_string();
        Some(Down::End { revision, place })
    }

    fn take_note(&self, said: Up) {
        let Shared { inputs, .. } = &*self.shared;
        match said {
            Up::Ready => {
                self.shared.ready.send_modify(|ready| {
                    ready.insert(self.index);
                });
                self.shared.count_ready();
                self.shared.look_again(&inputs.placement.ready(self.serial));
                self.state.send_replace(State::Ready);
                if self.shared.ready.borrow().len() == inputs.listeners.len() {
                    self.shared.keep_spare();
                }
            }
            Up::Routes { changed, removed } => {
                self.shared
                    .look_again(&inputs.placement.update(self.serial, changed, &removed));
            }
            Up::Log(line) => {
                let line = kittiwake_core::log::LogLine::from(line);
                inputs.logs.revision(&line.revision).append(line);
            }
            Up::Live(live) => {
                let live = live
                    .into_iter()
                    .map(kittiwake_core::instances::Live::from)
                    .collect();
                inputs.instances.tell(self.serial, live);
            }
            Up::LogLost(lines) => {
                tracing::warn!(
                    worker = self.index,
                    lines,
                    "functions wrote faster than lines could be taken; some are lost"
                );
            }
            Up::Report(said) => {
                inputs.reporter.report(said.into());
            }
            Up::Cut(calls) => {
                self.shared.cut.fetch_add(calls, Ordering::Relaxed);
            }
            Up::Stats(seen) => {
                inputs.stats.send(seen.by(self.serial));
            }
            Up::Metrics(_) => {}
        }
    }
}

impl Shared {
    fn count_ready(&self) {
        let ready = self.ready.borrow().len();
        self.metrics.ready.set(i64::try_from(ready).unwrap_or(i64::MAX));
    }
}

/// Sends a signal to a child that was not waited for yet; one that has ended needs none.
fn signal(pid: i32, what: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_starts_that_fail_in_a_row_make_the_next_one_wait() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        // A worker that took calls is replaced at once, however often that happens.
        for ended in [
            vec![seconds(1)],
            vec![seconds(4); 10],
            vec![None, None, seconds(600)],
        ] {
            let failures = ended.into_iter().fold(0, failures_after);
            assert_eq!(pause_after(failures), Duration::ZERO);
        }
        for (ended, pause) in [
            (vec![None], 0),
            (vec![None, None], 100),
            (vec![None, seconds(0), None], 200),
            (vec![None; 100], 5000),
        ] {
            let failures = ended.into_iter().fold(0, failures_after);
            assert_eq!(pause_after(failures), Duration::from_millis(pause));
        }
    }
}
