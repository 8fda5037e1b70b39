//! Starting an instance, and its end.

use crate::component::{self, Loaded};
use crate::files::{Files, Volumes};
use crate::function::Meter;
use crate::host::Host;
use crate::host::folders::SharedFiles;
use crate::host::output::Output;
use crate::metrics::Counted;
use crate::module::LoadedModule;
use crate::network::Network;
use crate::outside::Outside;
use crate::prepare::{EXIT_CODE_OF_TRAP, causes, is_out_of_room, root_cause};
use crate::preview1::{Guest, Program, Streams};
use crate::runtime::Shared;
use futures::future::BoxFuture;
use kittiwake_core::log::{LogStream, RevisionLog};
use kittiwake_core::program::PROGRAM;
use kittiwake_core::revision::RevisionSpec;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use wasmtime::Store;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre;

/// An instance whose program runs.
pub(crate) struct Launched {
    /// Its network.
    pub network: Arc<Network>,
    /// Its program. It ends when this is dropped.
    pub guest: RunningGuest,
    /// What it finds in its file system, for who looks how much it keeps. A component is asked that in its ticks.
    pub files: Option<Files>,
    /// The same for other programs that are run for the instance.
    pub shared_files: SharedFiles,
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

/// Where programs find each other.
pub(crate) struct Home {
    /// The network that they are in. It ends with the first of them that ends.
    pub network: Arc<Network>,
    /// The scratch volumes that they share; `None` for one that is alone.
    pub volumes: Option<Volumes>,
}

/// Makes an instance and lets its program run. Waits for a slot until `deadline`.
pub(crate) async fn launch(
    shared: &Arc<Shared>,
    revision: &Arc<RevisionSpec>,
    loaded: &Arc<Loaded>,
    meter: &Meter,
    log: &Arc<RevisionLog>,
    home: &Home,
    deadline: Instant,
) -> Result<Launched, LaunchError> {
    let slot = shared.slot(&loaded.engine, deadline).await;
    let slot = slot.map_err(|_| LaunchError::NoRoom)?;
    let live = Counted::new(&shared.metrics.instances_live);
    let begun = shared.clock.elapsed();
    let shared_files = SharedFiles::default();
    let scene = Scene {
        shared,
        revision,
        loaded,
        meter,
        log,
        home,
        shared_files: &shared_files,
    };
    let (program, files) = match &loaded.program {
        component::Program::Module(module) => scene.make_module(module).await?,
        component::Program::Cli(pre) => scene.make_component(pre).await?,
        component::Program::Handler(_) | component::Program::Direct(_) => {
            let why = "it does not run by itself".to_owned();
            return Err(LaunchError::Internal(why));
        }
    };
    let meter = meter.clone();
    let guest = tokio::spawn(async move {
        // Given back after the guest, also when the task is aborted.
        let (_slot, _live) = (slot, live);
        meter.run(program, |_| ()).await
    });
    Ok(Launched {
        network: Arc::clone(&home.network),
        guest: RunningGuest(guest),
        files,
        shared_files,
        instantiated: shared.clock.elapsed().saturating_sub(begun),
    })
}

/// What an instance is made of.
struct Scene<'a> {
    shared: &'a Arc<Shared>,
    revision: &'a Arc<RevisionSpec>,
    loaded: &'a Arc<Loaded>,
    meter: &'a Meter,
    log: &'a Arc<RevisionLog>,
    home: &'a Home,
    shared_files: &'a SharedFiles,
}

/// An instance with its program, to be run to its end, and what it finds in its file system.
type Made = Result<(BoxFuture<'static, Exit>, Option<Files>), LaunchError>;

impl Scene<'_> {
    fn program(&self, expects_listener: bool) -> Program {
        Program {
            arguments: arguments(self.revision),
            env: self.revision.env.clone(),
            expects_listener,
        }
    }

    fn failed(&self, error: wasmtime::Error) -> LaunchError {
        if is_out_of_room(&error) {
            self.shared.components.load().give_room();
            return LaunchError::NoRoom;
        }
        LaunchError::Failed(Exit::new(Err(error), self.log))
    }

    fn ending<T: 'static>(&self, wasm_store: Store<T>) -> Ending<T> {
        Ending {
            wasm_store,
            network: Arc::clone(&self.home.network),
        }
    }

    async fn make_module(&self, module: &LoadedModule) -> Made {
        let volumes = self.home.volumes.as_ref();
        let files = self.shared.file_root.container(self.revision, volumes);
        let files = files.map_err(|error| LaunchError::Internal(error.to_string()))?;
        self.shared_files.get_or_init(|| files.clone());
        let guest = Guest::new(
            self.revision,
            &self.program(module.expects_listener),
            Streams::Log,
            Arc::clone(&self.home.network),
            files.clone(),
            self.log,
        );
        let mut guest = guest.map_err(|error| LaunchError::Internal(format!("{error:#}")))?;
        guest.limiter.count_in(&self.meter.memory);
        let mut wasm_store = guest.into_store(self.loaded.engine.engine());
        let instance = module.pre.instantiate_async(&mut wasm_store).await;
        let instance = instance.map_err(|error| self.failed(error))?;
        let start = instance.get_typed_func::<(), ()>(&mut wasm_store, "_start");
        let start = start.map_err(|error| self.failed(error))?;
        let (mut ending, log) = (self.ending(wasm_store), Arc::clone(self.log));
        let run = async move {
            let result = start.call_async(&mut ending.wasm_store, ()).await;
            Exit::new(result, &log)
        };
        Ok((Box::pin(run), Some(files)))
    }

    async fn make_component(&self, pre: &CommandPre<Host>) -> Made {
        let (revision, log) = (self.revision, self.log);
        let outside = Outside::of_instance(&self.shared.world, &self.home.network);
        let outside = Arc::new(outside);
        let mut host = Host::new(revision, &self.shared.file_root, log, &outside);
        host.run_as(&self.program(false), revision, log, |streams| {
            streams.stdout(Output::new(log, LogStream::Stdout));
        });
        host.listen_in(&self.home.network);
        host.folders.share(self.shared_files);
        host.folders.share_volumes(self.home.volumes.as_ref());
        host.limiter.count_in(&self.meter.memory);
        let mut wasm_store = host.into_store(self.loaded.engine.engine());
        let command = pre.instantiate_async(&mut wasm_store).await;
        let command = command.map_err(|error| self.failed(error))?;
        let (mut ending, log) = (self.ending(wasm_store), Arc::clone(log));
        let run = async move {
            let ended = command.wasi_cli_run().call_run(&mut ending.wasm_store).await;
            // What a shell would see of a failure.
            let result = ended.and_then(|ended| ended.map_err(|()| I32Exit(1).into()));
            Exit::new(result, &log)
        };
        Ok((Box::pin(run), None))
    }
}

/// A guest, whose network ends with it.
struct Ending<T: 'static> {
    wasm_store: Store<T>,
    network: Arc<Network>,
}

impl<T> Drop for Ending<T> {
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
