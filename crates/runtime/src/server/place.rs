//! A place: one instance after the other, until it is not wanted any more.

use super::backoff::Backoff;
use super::instance::{Instance, Start};
use super::launch::{Exit, LaunchError};
use super::pod::{Parts, Pod};
use super::{EXIT_CODE_WHEN_ENDED, Group};
use crate::function::Function;
use crate::prepare::EXIT_CODE_OF_TRAP;
use crate::runtime::Shared;
use kittiwake_core::log::LogStream;
use kittiwake_core::revision::RevisionSpec;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// Longest wait of a start for a free slot; then it is tried again.
const SLOT_WAIT_MAX: Duration = Duration::from_secs(10);

/// How one instance of a place came to its end.
enum End {
    /// The place is not wanted any more.
    Unwanted,
    /// By itself, or because it had to be ended.
    Failed(String),
    /// There was no room for it.
    NoRoom,
}

/// Keeps an instance in a place until `wanted` is closed.
pub(super) async fn run(group: Arc<Group>, place: u64, mut wanted: watch::Receiver<()>) {
    keep(&group, place, &mut wanted).await;
    group.left(place);
}

async fn keep(group: &Arc<Group>, place: u64, wanted: &mut watch::Receiver<()>) {
    let mut backoff = Backoff::default();
    loop {
        let Some(shared) = group.shared.upgrade() else {
            return;
        };
        let revision = group.revision();
        let begun = Instant::now();
        let end = live(&shared, group, &revision, place, wanted).await;
        let message = match end {
            End::Unwanted => return,
            End::NoRoom => "there is no room for another instance; it is tried again".to_owned(),
            End::Failed(message) => message,
        };
        group.set_failure(place, &message);
        let wait = backoff.next(begun.elapsed());
        drop(shared);
        tokio::select! {
            _ = wanted.changed() => return,
            () = sleep(wait) => {}
        }
    }
}

/// The life of one instance.
async fn live(
    shared: &Arc<Shared>,
    group: &Arc<Group>,
    revision: &Arc<RevisionSpec>,
    place: u64,
    wanted: &mut watch::Receiver<()>,
) -> End {
    let begun = shared.clock.elapsed();
    let started = tokio::select! {
        _ = wanted.changed() => return End::Unwanted,
        started = start(shared, revision) => started,
    };
    let (function, mut pod) = match started {
        Ok(started) => started,
        Err(end) => return end,
    };
    let _running = function.run(begun);
    if !Arc::ptr_eq(&group.revision(), revision) {
        // What it has mounted may be older than what the others were given meanwhile.
        group.renew_files(shared);
    }
    let ready = tokio::select! {
        biased;
        _ = wanted.changed() => return End::Unwanted,
        exit = pod.programs.ended() => {
            group.set_unready(place);
            return crashed(shared, group, revision, &function, place, &exit);
        }
        ready = pod.probers.until_ready() => ready,
    };
    if let Err(problem) = ready {
        return failed(shared, group, revision, &function, place, &problem);
    }
    let start = Start {
        ready: Instant::now(),
        took: shared.clock.elapsed().saturating_sub(begun),
        instantiated: pod.instantiated,
    };
    let instance = Instance::new(shared, revision, &function, &pod.network, start);
    if !group.set_ready(place, &instance) {
        return End::Unwanted;
    }
    function.recovered(revision, &shared.reporter);
    serve(shared, group, place, wanted, &mut pod, &instance).await
}

/// The time in which an instance takes calls.
async fn serve(
    shared: &Arc<Shared>,
    group: &Arc<Group>,
    place: u64,
    wanted: &mut watch::Receiver<()>,
    pod: &mut Pod,
    instance: &Arc<Instance>,
) -> End {
    let (revision, function) = (&instance.revision, &instance.function);
    let readiness = pod.probers.watch_readiness(|ready| {
        if ready {
            group.set_ready(place, instance);
        } else {
            group.set_unready(place);
        }
    });
    tokio::select! {
        biased;
        exit = pod.programs.ended() => crashed(shared, group, revision, function, place, &exit),
        problem = pod.probers.until_dead() => failed(shared, group, revision, function, place, &problem),
        problem = pod.files.until_too_much() => failed(shared, group, revision, function, place, &problem),
        _ = wanted.changed() => {
            let limit = revision.limits.timeout;
            tokio::select! {
                _ = timeout(limit, instance.flights.until_none()) => {}
                _ = pod.programs.ended() => {}
            }
            End::Unwanted
        }
        never = readiness => match never {},
    }
}

/// Brings the function up and makes an instance of it.
async fn start(shared: &Arc<Shared>, revision: &Arc<RevisionSpec>) -> Result<(Arc<Function>, Pod), End> {
    let deadline = Instant::now() + SLOT_WAIT_MAX;
    let function = match shared.functions.get(&revision.uid) {
        Some(function) => function,
        None => {
            let load_deadline = Instant::now() + shared.config.fetch_timeout;
            let brought_up = shared.bring_up(revision, load_deadline).await;
            brought_up.map_err(|error| End::Failed(error.to_string()))?.0
        }
    };
    let parts = Parts {
        revision,
        loaded: &function.loaded,
        sidecars: &function.sidecars,
        meter: &function.meter,
        log: &function.log,
    };
    match Pod::launch(shared, &parts, deadline).await {
        Ok(pod) => Ok((function, pod)),
        Err(LaunchError::NoRoom) => Err(End::NoRoom),
        Err(error) => {
            let exit_code = match &error {
                LaunchError::Failed(exit) => exit.code,
                LaunchError::NoRoom | LaunchError::Internal(_) => EXIT_CODE_OF_TRAP,
            };
            function.failing(revision, &shared.reporter, &error.to_string(), exit_code);
            Err(End::Failed(error.to_string()))
        }
    }
}

/// The program ended, which a server never should.
fn crashed(
    shared: &Arc<Shared>,
    group: &Group,
    revision: &RevisionSpec,
    function: &Function,
    place: u64,
    exit: &Exit,
) -> End {
    shared.metrics.failed("exit");
    let message = format!(
        "the function ended with exit code {}: {}",
        exit.code, exit.message
    );
    told(shared, group, revision, function, place, (message, exit.code))
}

/// The instance has to be ended.
fn failed(
    shared: &Arc<Shared>,
    group: &Group,
    revision: &RevisionSpec,
    function: &Function,
    place: u64,
    problem: &dyn std::fmt::Display,
) -> End {
    shared.metrics.failed("probe");
    let message = problem.to_string();
    function.log.write(LogStream::Platform, &message);
    told(
        shared,
        group,
        revision,
        function,
        place,
        (message, EXIT_CODE_WHEN_ENDED),
    )
}

/// The revision is failing when none of its instances takes calls any more (Knative looks at a deployment's pods when
/// none is available).
fn told(
    shared: &Arc<Shared>,
    group: &Group,
    revision: &RevisionSpec,
    function: &Function,
    place: u64,
    (message, exit_code): (String, i32),
) -> End {
    if !group.set_unready(place) {
        function.failing(revision, &shared.reporter, &message, exit_code);
    }
    End::Failed(message)
}
