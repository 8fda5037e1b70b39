//! Making an artifact ready: find it, fetch it, compile it, start it once.

use crate::artifact::pull::blocking;
use crate::artifact::reference::ImageRef;
use crate::component::{LoadError, Loaded, Program, disk_full};
use crate::digest::Digest;
use crate::files::TooMuchKept;
use crate::host::folders::NoFolders;
use crate::host::{Host, MemoryLimitExceeded};
use crate::outside::Outside;
use crate::runtime::Shared;
use crate::single_flight::SingleFlight;
use futures::FutureExt;
use futures::future::{Either, select};
use kittiwake_core::artifact::{
    FunctionKind, PrepareError, PreparePhase, PrepareRequest, Prepared, RegistryCredential,
};
use kittiwake_core::code::ErrorCode;
use kittiwake_core::log::LogStream;
use kittiwake_core::revision::RevisionSpec;
use rustix::io::Errno;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

mod module;
mod together;

/// Exit code of a guest that traps, as a container's process would have that aborts (128 + SIGABRT).
pub(crate) const EXIT_CODE_OF_TRAP: i32 = 134;

type Progress = Arc<dyn Fn(PreparePhase) + Send + Sync>;
type Artifact = Result<(String, Arc<Loaded>), PrepareError>;

/// Preparations under way: revisions of the same image share one, with its phases.
pub(crate) struct Preparations {
    flights: SingleFlight<(String, Digest), Artifact>,
    phases: std::sync::Mutex<std::collections::HashMap<(String, Digest), watch::Sender<PreparePhase>>>,
}

impl Preparations {
    /// None under way.
    pub(crate) fn new() -> Self {
        Self {
            flights: SingleFlight::new(),
            phases: std::sync::Mutex::default(),
        }
    }

    fn phases(&self, key: &(String, Digest)) -> watch::Receiver<PreparePhase> {
        let mut all = self
            .phases
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        all.retain(|_, sender| sender.receiver_count() > 0);
        all.entry(key.clone())
            .or_insert_with(|| watch::Sender::new(PreparePhase::Pulling))
            .subscribe()
    }

    fn enter(&self, key: &(String, Digest), phase: PreparePhase) {
        let all = self
            .phases
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(sender) = all.get(key) {
            sender.send_replace(phase);
        }
    }
}

/// Tells credentials apart without keeping them.
fn fingerprint(credentials: &[RegistryCredential]) -> Digest {
    let mut text = Vec::new();
    for RegistryCredential {
        registry,
        username,
        password,
    } in credentials
    {
        for part in [registry, username, password] {
            text.extend_from_slice(&(part.len() as u64).to_le_bytes());
            text.extend_from_slice(part.as_bytes());
        }
    }
    Digest::of(&text)
}

impl Shared {
    /// See [`kittiwake_core::artifact::Prepare::prepare`].
    pub(crate) async fn prepare(
        self: Arc<Self>,
        request: PrepareRequest,
        progress: Progress,
    ) -> Result<Prepared, PrepareError> {
        let PrepareRequest {
            revision,
            credentials,
            progress_deadline,
        } = request;
        let mut revision = revision;
        let found = self.artifact_shared(&revision.image, &credentials, &progress);
        let (image, loaded) = found.await?;
        revision.image = image.into();
        let mut programs = Vec::new();
        for sidecar in &mut revision.sidecars {
            let found = self.artifact_shared(&sidecar.image, &credentials, &progress);
            let found = found.await.map_err(|error| error.of_sidecar(&sidecar.name));
            let (image, loaded) = found?;
            sidecar.image = image.into();
            programs.push(loaded);
        }
        let kind = loaded.kind_for(&revision);
        if revision.named_kind.is_some_and(|named| named != kind) {
            return Err(not_of_named_kind());
        }
        together::check(kind, &revision.sidecars, &programs)?;
        progress(PreparePhase::Starting);
        self.start_once(&revision, &loaded, &programs, progress_deadline)
            .await?;
        let sidecars = revision.sidecars.iter();
        Ok(Prepared {
            image: revision.image.to_string(),
            kind,
            sidecars: sidecars.map(|sidecar| Arc::clone(&sidecar.image)).collect(),
        })
    }

    /// See [`kittiwake_core::artifact::Prepare::recall`].
    pub(crate) fn recall(&self, image: &str) -> Option<Prepared> {
        let reference = ImageRef::parse(image, &self.config.working_dir).ok()?;
        reference.digest()?;
        let allowed = self.config.allow_file_images || !reference.is_local();
        let kind = allowed.then(|| self.cache.kind(image)).flatten()?;
        Some(Prepared {
            image: image.to_owned(),
            kind,
            sidecars: Vec::new(),
        })
    }

    /// Joins or starts the preparation of an image and passes its phases on.
    async fn artifact_shared(
        self: &Arc<Self>,
        image: &str,
        credentials: &[RegistryCredential],
        progress: &Progress,
    ) -> Artifact {
        let key = (image.to_owned(), fingerprint(credentials));
        let mut phases = self.preparations.phases(&key);
        progress(*phases.borrow_and_update());
        let (this, flight_key) = (Arc::clone(self), key.clone());
        let (image, credentials) = (key.0.clone(), credentials.to_vec());
        let start = move || {
            async move {
                let tell = |phase| this.preparations.enter(&flight_key, phase);
                this.artifact(&image, &credentials, &tell).await
            }
            .boxed()
        };
        let mut flight = pin!(self.preparations.flights.run(key, start));
        loop {
            match select(flight.as_mut(), pin!(phases.changed())).await {
                Either::Left((artifact, _)) => return artifact,
                Either::Right((Ok(()), _)) => {}
                Either::Right((Err(_), _)) => return flight.await,
            }
            progress(*phases.borrow_and_update());
        }
    }

    /// Finds the artifact: in the cache when the name is pinned, otherwise at its source.
    pub(crate) async fn artifact(
        self: &Arc<Self>,
        image: &str,
        credentials: &[RegistryCredential],
        tell: &(dyn Fn(PreparePhase) + Send + Sync),
    ) -> Artifact {
        let reference = ImageRef::parse(image, &self.config.working_dir)?;
        if let Some(digest) = reference.digest()
            && (self.config.allow_file_images || !reference.is_local())
            && let Some(artifact) = self.cached_artifact(&reference.pinned(&digest)).await
        {
            return artifact;
        }
        tell(PreparePhase::Pulling);
        self.metrics.fetches.inc();
        let known = |pinned: &str| self.cache.image(pinned).is_some();
        let found = self.puller.pull(&reference, credentials, &known).await?;
        tell(PreparePhase::Compiling);
        let Some(program) = found.program else {
            return match self.cached_artifact(&found.pinned).await {
                Some(artifact) => artifact,
                None => Err(lost(&found.pinned)),
            };
        };
        let (cache, pinned, local) = (
            Arc::clone(&self.cache),
            found.pinned.clone(),
            reference.is_local(),
        );
        let digest = blocking(move || {
            cache
                .store_image(&pinned, &program, local)
                .map_err(|error| disk_full(&error))
        })
        .await?;
        let components = self.components.load_full();
        match components.load(&digest).await {
            Ok(loaded) => {
                components.keep(Some(&found.pinned), &loaded);
                Ok((found.pinned, loaded))
            }
            Err(LoadError::Unusable(error)) => Err(error),
            Err(LoadError::Gone) => Err(lost(&found.pinned)),
        }
    }

    /// The artifact from the cache; `None` when it has to be fetched.
    async fn cached_artifact(&self, pinned: &str) -> Option<Artifact> {
        let (components, name) = (self.components.load_full(), pinned.to_owned());
        // Done right here: a fraction of a millisecond, which handing it to another thread and back would double.
        if let Some(loaded) = components.find_checked(pinned) {
            return Some(Ok((name, loaded)));
        }
        let cache = Arc::clone(&self.cache);
        let key = name.clone();
        let wasm = blocking(move || Ok(cache.image(&key))).await.ok()??;
        match components.load(&wasm).await {
            Ok(loaded) => {
                components.keep(Some(&name), &loaded);
                Some(Ok((name, loaded)))
            }
            Err(LoadError::Unusable(error)) => Some(Err(error)),
            Err(LoadError::Gone) => None,
        }
    }

    /// Starts one instance, to see at deploy time what would otherwise fail at the first call.
    async fn start_once(
        self: &Arc<Self>,
        revision: &RevisionSpec,
        loaded: &Arc<Loaded>,
        sidecars: &[Arc<Loaded>],
        progress_deadline: Duration,
    ) -> Result<(), PrepareError> {
        match (&loaded.program, loaded.kind_for(revision)) {
            (Program::Module(_), _) | (Program::Cli(_), FunctionKind::Server) => {
                self.start_program_once(revision, loaded, sidecars, progress_deadline)
                    .await
            }
            (Program::Handler(_) | Program::Direct(_) | Program::Cli(_), _) => {
                self.start_component_once(revision, loaded).await
            }
        }
    }

    async fn start_component_once(
        &self,
        revision: &RevisionSpec,
        loaded: &Loaded,
    ) -> Result<(), PrepareError> {
        let busy = |_| {
            PrepareError::new(
                ErrorCode::Internal,
                "all instance slots are taken; the start is tried again",
            )
        };
        let _slot = loaded
            .engine
            .slot(Instant::now() + self.config.start_timeout)
            .await
            .map_err(busy)?;
        // Counted from here, so that nobody looks for a loop in a function that waited for its slot.
        let deadline = Instant::now() + self.config.start_timeout;
        let log = self.logs.revision(&revision.key);
        let outside = Arc::new(Outside::new(&self.world));
        let host = Host::new(&Arc::new(revision.clone()), &self.file_root, &log, &outside);
        let mut wasm_store = host.into_store(loaded.engine.engine());
        let made = async {
            match &loaded.program {
                Program::Handler(pre) => pre.instantiate_async(&mut wasm_store).await.map(drop),
                Program::Direct(direct) => direct.instantiate(&mut wasm_store).await.map(drop),
                Program::Cli(pre) => pre.instantiate_async(&mut wasm_store).await.map(drop),
                Program::Module(_) => Ok(()),
            }
        };
        let failure = match tokio::time::timeout_at(deadline, made).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => {
                log.write(
                    LogStream::Platform,
                    &format!("the function could not be started: {}", causes(&error)),
                );
                start_failure(&error)
            }
            Err(_) => {
                let message = format!(
                    "the function did not start within {} s; look for a loop in its initialization",
                    self.config.start_timeout.as_secs_f32()
                );
                log.write(LogStream::Platform, &message);
                PrepareError::new(ErrorCode::StartFailed, message)
            }
        };
        Err(failure)
    }
}

/// Whether the guest, rather than the platform, is to blame: it trapped, exited, asked for too much memory, kept too much, or was
/// refused by a host function that it called (only then there is a backtrace of its frames).
pub(crate) fn is_guests_fault(error: &wasmtime::Error) -> bool {
    !is_out_of_room(error)
        && !error.is::<NoFolders>()
        && (error.is::<Trap>()
            || error.is::<I32Exit>()
            || error.is::<MemoryLimitExceeded>()
            || error.is::<TooMuchKept>()
            || error.is::<WasmBacktrace>())
}

/// Whether a limit of the machine or of the pool was reached: no slot, no memory, no memory mapping, no file. Then
/// nobody is to blame, and it may do again in a moment.
pub(crate) fn is_out_of_room(error: &wasmtime::Error) -> bool {
    const REACHED: [Errno; 4] = [Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::AGAIN];
    error.is::<PoolConcurrencyLimitError>()
        || error.chain().any(|cause| {
            let io = cause.downcast_ref::<std::io::Error>();
            let code = io.and_then(Errno::from_io_error);
            code.or(cause.downcast_ref::<Errno>().copied())
                .is_some_and(|code| REACHED.contains(&code))
        })
}

fn start_failure(error: &wasmtime::Error) -> PrepareError {
    if !is_guests_fault(error) {
        return PrepareError::new(
            ErrorCode::Internal,
            format!(
                "the platform could not make an instance: {}; the start is tried again",
                root_cause(error)
            ),
        );
    }
    let exit_code = match error.downcast_ref::<I32Exit>() {
        Some(exit) => exit.0,
        None => EXIT_CODE_OF_TRAP,
    };
    PrepareError {
        code: ErrorCode::StartFailed,
        message: format!(
            "the function failed while it was started: {}; its log has the details",
            root_cause(error)
        ),
        exit_code: Some(exit_code),
        sidecar: None,
    }
}

/// Every cause of an error with the guest's frames, for the function's log. Not the `Debug` form: that can hold frames
/// of the platform, which are none of the function's owner's business.
pub(crate) fn causes(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join("\ncaused by: ")
}

/// The innermost cause, in one line: the trap itself rather than the frames around it.
pub(crate) fn root_cause(error: &wasmtime::Error) -> String {
    let text = error.root_cause().to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

fn not_of_named_kind() -> PrepareError {
    PrepareError::new(
        ErrorCode::UnsupportedKind,
        "the image holds a component that answers HTTP (it exports wasi:http/incoming-handler or wasi:http/handler), \
         which is neither a command nor a server: remove the annotation kittiwake.dev/kind of the template",
    )
}

fn lost(pinned: &str) -> PrepareError {
    PrepareError::new(
        ErrorCode::Internal,
        format!(
            "{pinned} left the cache while it was being loaded; it is tried again. If it persists, raise the size of the cache"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_machine_is_nobodys_fault() {
        let reached = [
            wasmtime::Error::from(Errno::NOMEM).context("mmap failed"),
            wasmtime::Error::from(std::io::Error::from_raw_os_error(12))
                .context("a")
                .context("b"),
            wasmtime::Error::from(std::io::Error::from_raw_os_error(24)),
        ];
        for error in reached {
            assert!(is_out_of_room(&error) && !is_guests_fault(&error), "{error:#}");
        }
        for error in [
            wasmtime::Error::from(Trap::UnreachableCodeReached),
            wasmtime::Error::from(Errno::ACCESS),
            wasmtime::Error::msg("os error 12"),
        ] {
            assert!(!is_out_of_room(&error), "{error:#}");
        }
    }
}
