//! Starting an instance, and its end.

use crate::component::Loaded;
use crate::files::Files;
use crate::function::Meter;
use crate::metrics::Counted;
use crate::network::Network;
use crate::prepare::{EXIT_CODE_OF_TRAP, causes, is_out_of_room, root_cause};
use crate::preview1::{Guest, Program, Streams};
use crate::runtime::Shared;
use kittiwake_core::log::{LogStream, RevisionLog};
use kittiwake_core::program::PROGRAM;
use kittiwake_core::revision::RevisionSpec;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wasmtime::Store;
use wasmtime_wasi::I32Exit;

/// An instance whose program runs.
pub(crate) struct Launched {
    /// Its network.
    pub network: Arc<Network>,
    /// Its program. It ends when this is dropped.
    pub guest: RunningGuest,
    /// What it finds in its file system.
    pub files: Files,
    /// How long it took to make.
    pub instantiated: Duration,
}

/// A program that runs, in a task of its own.
pub(crate) struct RunningGuest(JoinHandle<Exit>);

/// How a program ended.
#[derive(Debug, Clone)]
pub(crate) struct Exit {
    /// In a few words.
    pub message: String,
    /// As of a process.
    pub code: i32,
}

/// Why there is no instance.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LaunchError {
    /// A limit of the machine or of the pool was reached: it may do again in a moment.
    #[error("there is no room for another instance")]
    NoRoom,
    /// The program is to blame.
    #[error("the function failed while it was started: {}", .0.message)]
    Failed(Exit),
    /// The platform is.
    #[error("the platform could not make an instance: {0}")]
    Internal(String),
}

/// What a program is called with: its name, then its arguments.
pub(crate) fn arguments(revision: &RevisionSpec) -> Vec<String> {
    let program = [PROGRAM.to_owned()];
    let command = if revision.command.is_empty() {
        program.as_slice()
    } else {
        revision.command.as_slice()
    };
    [command, revision.args.as_slice()].concat()
}

/// Makes an instance and lets its program run. Waits for a slot until `deadline`.
pub(crate) async fn launch(
    shared: &Arc<Shared>,
    revision: &Arc<RevisionSpec>,
    loaded: &Arc<Loaded>,
    meter: &Meter,
    log: &Arc<RevisionLog>,
    deadline: Instant,
) -> Result<Launched, LaunchError> {
    let module = loaded
        .module()
        .ok_or_else(|| LaunchError::Internal("it is no module".to_owned()))?;
    let slot = shared.slot(&loaded.engine, deadline).await;
    let slot = slot.map_err(|_| LaunchError::NoRoom)?;
    let live = Counted::new(&shared.metrics.instances_live);
    let begun = shared.clock.elapsed();
    let files = shared.file_root.instance(revision);
    let files = files.map_err(|error| LaunchError::Internal(error.to_string()))?;
    let network = Arc::<Network>::default();
    let program = Program {
        arguments: arguments(revision),
        env: revision.env.clone(),
        expects_listener: module.expects_listener,
    };
    let guest = Guest::new(
        revision,
        &program,
        Streams::Log,
        Arc::clone(&network),
        files.clone(),
        log,
    );
    let mut guest = guest.map_err(|error| LaunchError::Internal(format!("{error:#}")))?;
    guest.limiter.count_in(&meter.memory);
    let mut wasm_store = guest.into_store(loaded.engine.engine());
    let failed = |error: wasmtime::Error| {
        if is_out_of_room(&error) {
            return LaunchError::NoRoom;
        }
        LaunchError::Failed(Exit::new(Err(error), log))
    };
    let instance = module
        .pre
        .instantiate_async(&mut wasm_store)
        .await
        .map_err(failed)?;
    let start = instance.get_typed_func::<(), ()>(&mut wasm_store, "_start");
    let start = start.map_err(failed)?;
    let (meter, log, ends) = (meter.clone(), Arc::clone(log), Arc::clone(&network));
    let guest = tokio::spawn(async move {
        // Given back in this order, also when the task is aborted: first the guest, then its place.
        let (_slot, _live) = (slot, live);
        let mut ending = Ending {
            wasm_store,
            network: ends,
        };
        let result = meter
            .run(start.call_async(&mut ending.wasm_store, ()), |_| ())
            .await;
        Exit::new(result, &log)
    });
    Ok(Launched {
        network,
        guest: RunningGuest(guest),
        files,
        instantiated: shared.clock.elapsed().saturating_sub(begun),
    })
}

/// A guest, whose network ends with it.
struct Ending {
    wasm_store: Store<Guest>,
    network: Arc<Network>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.network.close();
    }
}

impl RunningGuest {
    /// Resolves once the program has ended.
    pub(crate) async fn ended(&mut self) -> Exit {
        match (&mut self.0).await {
            Ok(exit) => exit,
            Err(error) => Exit {
                message: format!("its task failed: {error}"),
                code: EXIT_CODE_OF_TRAP,
            },
        }
    }
}

impl Drop for RunningGuest {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Exit {
    fn new(result: wasmtime::Result<()>, log: &RevisionLog) -> Self {
        let exit = match result {
            Ok(()) => Self::with_code(0),
            Err(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(code)) => Self::with_code(*code),
                None => {
                    log.write(
                        LogStream::Platform,
                        &format!("the function failed: {}", causes(&error)),
                    );
                    return Self {
                        message: root_cause(&error),
                        code: EXIT_CODE_OF_TRAP,
                    };
                }
            },
        };
        log.write(
            LogStream::Platform,
            &format!("the function ended: {}", exit.message),
        );
        exit
    }

    fn with_code(code: i32) -> Self {
        Self {
            message: format!("it exited with code {code}"),
            code,
        }
    }
}
