//! Starting a program once: a server until it is ready, a module that is a command not at all beyond making an instance of it.

use crate::component::Loaded;
use crate::function::Meter;
use crate::runtime::Shared;
use crate::server::EXIT_CODE_WHEN_ENDED;
use crate::server::launch::LaunchError;
use crate::server::pod::{Parts, Pod};
use crate::server::probe::command::{self, EXIT_CODE_NOT_FOUND};
use kittiwake_core::artifact::{FunctionKind, PrepareError};
use kittiwake_core::code::ErrorCode;
use kittiwake_core::log::{LogStream, RevisionLog};
use kittiwake_core::revision::RevisionSpec;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What to do with a program that was taken for a server because of what it imports.
const NEVER_LISTENED: &str = ". It never listened on a port: if it prints its answer as a CGI program does, say so with \
    the annotation kittiwake.dev/kind: command of the template";

impl Shared {
    /// Starts one instance, to see at deploy time what would otherwise fail at the first call. A server has `limit` to
    /// become ready.
    pub(super) async fn start_program_once(
        self: &Arc<Self>,
        revision: &RevisionSpec,
        loaded: &Arc<Loaded>,
        sidecars: &[Arc<Loaded>],
        limit: Duration,
    ) -> Result<(), PrepareError> {
        let kind = loaded.kind_for(revision);
        let revision = &Arc::new(RevisionSpec {
            kind,
            ..revision.clone()
        });
        let log = self.logs.revision(&revision.key);
        if kind == FunctionKind::Server {
            self.check_commands(revision, &log)?;
        }
        let slot_deadline = Instant::now() + self.config.start_timeout;
        let meter = Meter::new(&self.turns);
        let parts = Parts {
            revision,
            loaded,
            sidecars,
            meter: &meter,
            log: &log,
        };
        let launched = Pod::launch(self, &parts, slot_deadline).await;
        let mut pod = launched.map_err(|error| not_launched(&error))?;
        if kind != FunctionKind::Server {
            return Ok(());
        }
        let deadline = Instant::now() + limit;
        let failure = tokio::select! {
            biased;
            exit = pod.programs.ended() => PrepareError {
                code: ErrorCode::StartFailed,
                message: format!(
                    "the function ended before it was ready: {}; its log has the details{}",
                    exit.message,
                    if pod.network.has_listened() { "" } else { NEVER_LISTENED }
                ),
                exit_code: Some(exit.code),
                sidecar: None,
            },
            ready = pod.probers.until_ready_told(&log) => match ready {
                Ok(()) => return Ok(()),
                Err(problem) => PrepareError {
                    code: ErrorCode::StartFailed,
                    message: problem.to_string(),
                    exit_code: Some(EXIT_CODE_WHEN_ENDED),
                    sidecar: None,
                },
            },
            () = tokio::time::sleep_until(deadline) => PrepareError::new(
                ErrorCode::NotReadyInTime,
                format!(
                    "the function was not ready within {} s: {}",
                    limit.as_secs_f32(),
                    pod.probers.waits_for()
                ),
            ),
        };
        log.write(LogStream::Platform, &failure.message);
        Err(failure)
    }

    /// Refuses probes whose command is no program of the image: they would fail for ever.
    fn check_commands(&self, revision: &RevisionSpec, log: &RevisionLog) -> Result<(), PrepareError> {
        let names = |image: &str| self.cache.program_names(image);
        let place = if revision.sidecars.is_empty() {
            "spec.containers[0]"
        } else {
            "spec.containers[*]"
        };
        let mut impossible = command::impossible(revision, &names(&revision.image), place);
        for sidecar in &revision.sidecars {
            let alone = sidecar.alone(revision);
            let of_sidecar = || command::impossible(&alone, &names(&alone.image), place);
            let named = |message| format!("container {:?}: {message}", sidecar.name);
            impossible = impossible.or_else(|| of_sidecar().map(named));
        }
        let Some(message) = impossible else {
            return Ok(());
        };
        log.write(LogStream::Platform, &message);
        Err(PrepareError {
            code: ErrorCode::StartFailed,
            message,
            exit_code: Some(EXIT_CODE_NOT_FOUND),
            sidecar: None,
        })
    }
}

fn not_launched(error: &LaunchError) -> PrepareError {
    match error {
        LaunchError::Failed(exit) => PrepareError {
            code: ErrorCode::StartFailed,
            message: format!(
                "the function failed while it was started: {}; its log has the details",
                exit.message
            ),
            exit_code: Some(exit.code),
            sidecar: None,
        },
        LaunchError::NoRoom | LaunchError::Internal(_) => {
            PrepareError::new(ErrorCode::Internal, format!("{error}; the start is tried again"))
        }
    }
}
