//! Probes that run a command (Kubernetes' `exec`).
//!
//! An image of WebAssembly holds one program, so the command is that program with other arguments, or nothing that there
//! is ([`kittiwake_core::program`]). It is run beside the instance that it asks about: an instance of its own, with the same
//! environment and files, in the same network, which ends with the command. It has the memory limit of the revision for
//! itself, and takes a slot of the pool while it runs.

use super::Role;
use super::kept::Kept;
use crate::component::{self, Loaded};
use crate::function::Meter;
use crate::host::Host;
use crate::host::folders::SharedFiles;
use crate::metrics::Counted;
use crate::module::LoadedModule;
use crate::network::Network;
use crate::outside::Outside;
use crate::prepare::{is_out_of_room, root_cause};
use crate::preview1::{Guest, Program, Streams};
use crate::runtime::Shared;
use crate::server::launch::Launched;
use futures::future::BoxFuture;
use kittiwake_core::log::{LogStream, RevisionLog};
use kittiwake_core::probe::{Handler, Probes};
use kittiwake_core::program;
use kittiwake_core::revision::RevisionSpec;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, WasiCtxBuilder};

/// Exit code of a command that does not exist, as shells have it.
pub(crate) const EXIT_CODE_NOT_FOUND: i32 = 127;

/// What came of a question; `None` when the platform could not ask it, which says nothing of the instance: the kubelet
/// throws such a result away (`pkg/kubelet/prober/worker.go`, `doProbe`).
pub(super) type Outcome = Option<Result<(), String>>;

/// A command, from its instantiation to its end.
type Run = BoxFuture<'static, wasmtime::Result<()>>;

/// Runs commands beside one instance, one at a time.
pub(crate) struct Commands {
    shared: Arc<Shared>,
    revision: Arc<RevisionSpec>,
    loaded: Arc<Loaded>,
    meter: Meter,
    log: Arc<RevisionLog>,
    network: Arc<Network>,
    /// The instance's; a component's are made when it or a command first asks for them.
    files: SharedFiles,
    /// What the image calls its program.
    names: Vec<String>,
    runs: Mutex<Runs>,
}

#[derive(Default)]
struct Runs {
    /// Some run was begun.
    begun: bool,
    /// The failure that the log was told last, until there is a success.
    told: Option<String>,
}

impl Commands {
    /// For an instance, where one of its probes runs a command.
    pub(crate) fn of(
        shared: &Arc<Shared>,
        revision: &Arc<RevisionSpec>,
        loaded: &Arc<Loaded>,
        meter: &Meter,
        log: &Arc<RevisionLog>,
        launched: &Launched,
    ) -> Option<Self> {
        commands(&revision.probes).next()?;
        Some(Self {
            shared: Arc::clone(shared),
            revision: Arc::clone(revision),
            loaded: Arc::clone(loaded),
            meter: meter.clone(),
            log: Arc::clone(log),
            network: Arc::clone(&launched.network),
            files: Arc::clone(&launched.shared_files),
            names: shared.cache.program_names(&revision.image),
            runs: Mutex::default(),
        })
    }

    /// Runs a command to its end; the time for that counts from when no other one runs. A failure that is not the same as
    /// the one before is told in the log.
    pub(super) async fn run(&self, role: Role, command: &[String], limit: Duration) -> Outcome {
        let mut runs = self.runs.lock().await;
        let outcome = match foreign(command, &self.revision, &self.names) {
            Some(problem) => Some(Err(problem)),
            None => self.run_once(command, limit, &mut runs).await,
        };
        match &outcome {
            None => {}
            Some(Ok(())) => runs.told = None,
            Some(Err(problem)) if runs.told.as_ref() == Some(problem) => {}
            Some(Err(problem)) => {
                let text = format!("the command of the {} probe failed: {problem}", role.name());
                self.log.write(LogStream::Platform, &text);
                runs.told = Some(problem.clone());
            }
        }
        outcome
    }

    async fn run_once(&self, command: &[String], limit: Duration, runs: &mut Runs) -> Outcome {
        let deadline = Instant::now() + limit;
        let engine = &self.loaded.engine;
        let slot = self.shared.slot(engine, deadline).await.ok()?;
        let live = Counted::new(&self.shared.metrics.instances_live);
        let printed = Kept::default();
        // What it may not reach is said by the first run only.
        let told = std::mem::replace(&mut runs.begun, true);
        let program = match &self.loaded.program {
            component::Program::Module(module) => self.module(module, command, &printed, told).ok()?,
            component::Program::Cli(pre) => self.component(pre, command, &printed),
            component::Program::Handler(_) | component::Program::Direct(_) => return None,
        };
        let meter = self.meter.clone();
        let mut running = JoinSet::new();
        running.spawn(async move {
            // Given back after the guest, also when the task is aborted.
            let _place = (slot, live);
            meter.run(program, |_| ()).await
        });
        let ended = match timeout_at(deadline, running.join_next()).await {
            // It ends with `running`.
            Err(_) => Err(format!("did not end within {limit:?}")),
            Ok(ended) => judge(ended?.ok()?)?,
        };
        Some(ended.map_err(|why| {
            let printed = printed.taker().line().map(|line| format!(": {line}"));
            format!("{:?} {why}{}", command.join(" "), printed.unwrap_or_default())
        }))
    }

    fn program(&self, command: &[String]) -> Program {
        Program {
            arguments: command.to_vec(),
            env: self.revision.env.clone(),
            // The instance that it asks about has the socket.
            expects_listener: false,
        }
    }

    /// A run of a module.
    fn module(
        &self,
        module: &LoadedModule,
        command: &[String],
        printed: &Kept,
        told: bool,
    ) -> wasmtime::Result<Run> {
        let printed = printed.clone();
        let streams = move |builder: &mut WasiCtxBuilder| {
            builder.stdout(printed.clone()).stderr(printed);
        };
        let mut guest = Guest::new(
            &self.revision,
            &self.program(command),
            Streams::Given(Box::new(streams)),
            Arc::clone(&self.network),
            self.files
                .get()
                .cloned()
                .ok_or_else(|| wasmtime::Error::msg("the instance has no files"))?,
            &self.log,
        )?;
        guest.limiter.count_in(&self.meter.memory);
        guest.sockets.reach.set_refusal_told(told);
        let (pre, mut wasm_store) = (module.pre.clone(), guest.into_store(self.loaded.engine.engine()));
        Ok(Box::pin(async move {
            let instance = pre.instantiate_async(&mut wasm_store).await?;
            let start = instance.get_typed_func::<(), ()>(&mut wasm_store, "_start")?;
            start.call_async(&mut wasm_store, ()).await
        }))
    }

    /// A run of a component.
    fn component(&self, pre: &CommandPre<Host>, command: &[String], printed: &Kept) -> Run {
        let outside = Arc::new(Outside::new(&self.shared.world));
        let mut host = Host::new(&self.revision, &self.shared.file_root, &self.log, &outside);
        host.run_as(&self.program(command), &self.revision, &self.log, |streams| {
            streams.stdout(printed.clone()).stderr(printed.clone());
        });
        host.listen_in(&self.network);
        host.folders.share(&self.files);
        host.limiter.count_in(&self.meter.memory);
        let (pre, mut wasm_store) = (pre.clone(), host.into_store(self.loaded.engine.engine()));
        Box::pin(async move {
            let program = pre.instantiate_async(&mut wasm_store).await?;
            let ended = program.wasi_cli_run().call_run(&mut wasm_store).await?;
            // What a shell would see of a failure.
            ended.map_err(|()| I32Exit(1).into())
        })
    }
}

/// How a command ended.
fn judge(result: wasmtime::Result<()>) -> Outcome {
    let Err(error) = result else {
        return Some(Ok(()));
    };
    if is_out_of_room(&error) {
        return None;
    }
    Some(match error.downcast_ref::<I32Exit>() {
        Some(I32Exit(0)) => Ok(()),
        Some(I32Exit(code)) => Err(format!("exited with code {code}")),
        None => Err(format!("failed: {}", root_cause(&error))),
    })
}

/// Why a command is none that can be run in an image, whose program has these names.
fn foreign(command: &[String], revision: &RevisionSpec, names: &[String]) -> Option<String> {
    let Some(word) = command.first() else {
        return Some("its command is empty: name the program and its arguments".to_owned());
    };
    let own = &revision.command;
    (!program::is_meant(word, &revision.image, own, names)).then(|| {
        let called = own.first().or(names.first()).map(String::as_str);
        let called = called.unwrap_or_else(|| program::name_of(&revision.image));
        format!(
            "there is no program {word:?} in the image, which holds {called:?} alone: name that one with other arguments, or \
             use httpGet, tcpSocket or grpc"
        )
    })
}

/// The first probe of a revision whose command cannot be run, and why: it could never succeed. `place` is where the
/// container is, in the words of the manifest.
pub(crate) fn impossible(revision: &RevisionSpec, names: &[String], place: &str) -> Option<String> {
    commands(&revision.probes).find_map(|(role, command)| {
        let problem = foreign(command, revision, names)?;
        let (name, field) = (role.name(), role.field());
        Some(format!(
            "the {name} probe cannot succeed: {problem} ({place}.{field}.exec.command)"
        ))
    })
}

fn commands(probes: &Probes) -> impl Iterator<Item = (Role, &[String])> {
    [
        (Role::Startup, &probes.startup),
        (Role::Readiness, &probes.readiness),
        (Role::Liveness, &probes.liveness),
    ]
    .into_iter()
    .filter_map(|(role, probe)| match &probe.as_ref()?.handler {
        Handler::Exec { command } => Some((role, command.as_slice())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_core::probe::Probe;
    use kittiwake_core::revision::RevisionKey;

    #[test]
    fn a_command_of_another_program_is_known_before_it_is_run() {
        let image = "file:///images/readiness.wasm@sha256:00";
        let mut spec = RevisionSpec::new(RevisionKey::new("default", "a"), "uid", image);
        assert_eq!(impossible(&spec, &[], "spec.containers[0]"), None);
        let mut with = |command: &[&str], names: &[&str]| {
            let command = command.iter().map(|word| (*word).to_owned()).collect();
            spec.probes.liveness = Some(Probe {
                handler: Handler::Exec { command },
                initial_delay: Duration::ZERO,
                period: Duration::ZERO,
                timeout: Duration::ZERO,
                success_threshold: 1,
                failure_threshold: 3,
            });
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            impossible(&spec, &names, "spec.containers[0]")
        };
        assert_eq!(with(&["/ko-app/readiness", "probe"], &[]), None);
        assert_eq!(with(&["/app/serve", "probe"], &["/app/serve"]), None);
        for (command, wanted) in [
            (
                &["cat", "/tmp/healthy"][..],
                "no program \"cat\" in the image, which holds \"/app/serve\" alone",
            ),
            (&[], "its command is empty"),
        ] {
            let problem = with(command, &["/app/serve"]).unwrap();
            assert!(
                problem.starts_with("the liveness probe cannot succeed: "),
                "{problem}"
            );
            assert!(problem.contains(wanted), "{problem}");
            assert!(
                problem.ends_with("(spec.containers[0].livenessProbe.exec.command)"),
                "{problem}"
            );
        }
    }

    #[test]
    fn exits_are_told_apart() {
        let exit = |code| judge(Err(I32Exit(code).into()));
        assert_eq!(judge(Ok(())), Some(Ok(())));
        assert_eq!(exit(0), Some(Ok(())));
        assert_eq!(exit(3), Some(Err("exited with code 3".to_owned())));
        let trap = wasmtime::Trap::UnreachableCodeReached;
        let failed = judge(Err(trap.into())).unwrap().unwrap_err();
        assert!(failed.starts_with("failed: "), "{failed}");
        assert_eq!(judge(Err(rustix::io::Errno::NOMEM.into())), None);
    }
}
