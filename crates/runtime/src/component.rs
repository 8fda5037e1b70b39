//! Compiled and linked components and modules: loaded from the cache, compiled when they are not there, shared by all revisions
//! that have the same `.wasm`.

use crate::artifact::inspect::{self, Layer};
use crate::artifact::pull::blocking;
use crate::cache::{Cache, Code, CompiledForm, Form, Hold};
use crate::config::Config;
use crate::digest::Digest;
use crate::direct::{self, Direct};
use crate::engine::{Calls, WasmEngine};
use crate::error::BuildError;
use crate::host::{self, Host};
use crate::metrics::Metrics;
use crate::module::{self, LoadedModule};
use crate::precompiled;
use crate::prepare::{is_out_of_room, root_cause};
use crate::preview1::{self, Guest};
use crate::single_flight::SingleFlight;
use futures::FutureExt;
use kittiwake_core::artifact::{FunctionKind, PrepareError};
use kittiwake_core::code::ErrorCode;
use kittiwake_core::revision::RevisionSpec;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use tokio::sync::Semaphore;
use wasmtime::Module;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::{p2, p3};

pub(crate) mod kept;

use kept::Kept;

/// The export that makes a component an HTTP handler of WASI 0.2.
const HANDLER_EXPORT: &str = "wasi:http/incoming-handler@0.2.";
/// The export that makes a component an HTTP service of WASI 0.3.
const SERVICE_EXPORT: &str = "wasi:http/handler@0.3.";
/// The export that makes a component a program of the command line, of WASI 0.2.
const RUN_EXPORT: &str = "wasi:cli/run@0.2.";
/// What a program imports that listens by itself, and the function of it by which it does.
const SOCKETS_IMPORT: &str = "wasi:sockets/tcp@0.2.";
/// See [`SOCKETS_IMPORT`].
pub(crate) const LISTENS: &str = "[method]tcp-socket.start-listen";
/// Exports that are named in a message, at most.
const EXPORTS_NAMED_MAX: usize = 8;

/// A program that is ready to be instantiated.
pub(crate) struct Loaded {
    /// Compiled, type-checked and linked.
    pub program: Program,
    /// What kind of program it was found to be; see [`Loaded::kind_for`].
    kind: FunctionKind,
    /// What it was compiled for; its instances take their slots there.
    pub engine: Arc<WasmEngine>,
    hold: Hold,
}

/// What is instantiated.
pub(crate) enum Program {
    /// A component that answers HTTP.
    Handler(ProxyPre<Host>),
    /// The core module of one.
    Direct(Direct),
    /// A component that runs as a program of the command line: from its beginning to its end, or for ever.
    Cli(CommandPre<Host>),
    /// A core module.
    Module(LoadedModule),
}

/// How a component answers, told from its exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// As an HTTP service of WASI 0.3.
    Service,
    /// As an HTTP handler of WASI 0.2.
    Handler,
    /// By what it prints.
    Printing,
    /// On a port that it listens on.
    Listening,
}

impl Loaded {
    /// What kind of program it is for a revision.
    pub(crate) fn kind_for(&self, revision: &RevisionSpec) -> FunctionKind {
        self.kind.taken_for(revision.named_kind)
    }

    /// Whether it is a service of WASI 0.3, whose instances can serve several calls at a time.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self.program, Program::Handler(ProxyPre::P3(_)))
    }
}

/// An engine, and what it has for the imports of components and modules.
struct Linked {
    engine: Arc<WasmEngine>,
    linker: Linker<Host>,
    direct: direct::Functions,
    module_linker: wasmtime::Linker<Guest>,
}

impl Linked {
    fn new(engine: WasmEngine) -> Result<Self, BuildError> {
        let failed = |error: wasmtime::Error| BuildError::Engine(format!("{error:#}"));
        Ok(Self {
            linker: host::linker(&engine).map_err(failed)?,
            direct: direct::Functions::new(engine.engine()).map_err(failed)?,
            module_linker: preview1::linker(engine.engine()).map_err(failed)?,
            engine: Arc::new(engine),
        })
    }
}

/// All components in memory.
pub(crate) struct Components {
    sequential: Linked,
    /// For those that need it; made with the first of them.
    concurrent: OnceLock<Linked>,
    cache: Arc<Cache>,
    metrics: Metrics,
    /// All that is in memory.
    loaded: Mutex<HashMap<Digest, Weak<Loaded>>>,
    /// What stays there although no function uses it.
    kept: Kept<Loaded>,
    loading: SingleFlight<Digest, Result<Arc<Loaded>, LoadError>>,
    compiles: Semaphore,
    /// Whether components are run by their core module where that can be.
    core_modules: bool,
}

/// Why a component could not be loaded.
#[derive(Debug, Clone)]
pub(crate) enum LoadError {
    /// The cache has lost it; fetch it again.
    Gone,
    /// It cannot be run.
    Unusable(PrepareError),
}

impl Components {
    /// None loaded yet; the limits are those of `config`.
    pub(crate) fn new(
        engine: WasmEngine,
        cache: Arc<Cache>,
        metrics: Metrics,
        config: &Config,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            sequential: Linked::new(engine)?,
            concurrent: OnceLock::new(),
            cache,
            metrics,
            loaded: Mutex::default(),
            kept: Kept::new(config.programs_bytes_max.0),
            loading: SingleFlight::new(),
            compiles: Semaphore::new(config.compiles_parallel_max.max(1)),
            core_modules: config.core_modules,
        })
    }

    /// Whether a component was loaded for an engine of these.
    pub(crate) fn is_engine_of(&self, loaded: &Loaded) -> bool {
        self.engines().any(|engine| Arc::ptr_eq(engine, &loaded.engine))
    }

    /// The engine that most are compiled for.
    pub(crate) fn engine(&self) -> &WasmEngine {
        &self.sequential.engine
    }

    /// All engines there are.
    pub(crate) fn engines(&self) -> impl Iterator<Item = &Arc<WasmEngine>> {
        let linked = std::iter::once(&self.sequential).chain(self.concurrent.get());
        linked.map(|linked| &linked.engine)
    }

    fn linked(&self, calls: Calls) -> Result<&Linked, PrepareError> {
        if calls == Calls::Sequential {
            return Ok(&self.sequential);
        }
        if let Some(linked) = self.concurrent.get() {
            return Ok(linked);
        }
        let made = self.sequential.engine.concurrent().and_then(Linked::new);
        let made = made.map_err(|error| PrepareError::new(ErrorCode::Internal, error.to_string()))?;
        // Of two that are made at a time, one is kept.
        Ok(self.concurrent.get_or_init(|| made))
    }

    /// The component whose binary has the digest `wasm`.
    pub(crate) async fn load(self: &Arc<Self>, wasm: &Digest) -> Result<Arc<Loaded>, LoadError> {
        if let Some(loaded) = self.in_memory(wasm) {
            return Ok(loaded);
        }
        let (this, key) = (Arc::clone(self), wasm.clone());
        self.loading
            .run(wasm.clone(), || async move { this.bring(key).await }.boxed())
            .await
    }

    /// The component of a pinned image where that takes a few looks at files at most and no reading of its code: in
    /// memory, or compiled and checked before.
    pub(crate) fn find_checked(&self, pinned: &str) -> Option<Arc<Loaded>> {
        if let Some(loaded) = self.find_kept(pinned) {
            return Some(loaded);
        }
        let wasm = self.cache.image(pinned)?;
        let loaded = if let Some(loaded) = self.in_memory(&wasm) {
            loaded
        } else {
            let form = self.cache.checked_form(&wasm)?;
            let loaded = self.read(&wasm, form)?.ok()?;
            self.metrics.cache_hits.inc();
            self.remember(wasm, loaded)
        };
        self.keep(Some(pinned), &loaded);
        Some(loaded)
    }

    /// Keeps a component in sight as long as someone uses it. Of two that were loaded at a time, one is kept.
    fn remember(&self, wasm: Digest, loaded: Loaded) -> Arc<Loaded> {
        let mut all = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = all.get(&wasm).and_then(Weak::upgrade) {
            return other;
        }
        if all.len() >= all.capacity() {
            all.retain(|_, other| other.strong_count() > 0);
        }
        let loaded = Arc::new(loaded);
        all.insert(wasm, Arc::downgrade(&loaded));
        loaded
    }

    fn in_memory(&self, wasm: &Digest) -> Option<Arc<Loaded>> {
        self.loaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(wasm)
            .and_then(Weak::upgrade)
    }

    async fn bring(self: Arc<Self>, wasm: Digest) -> Result<Arc<Loaded>, LoadError> {
        let (this, key) = (Arc::clone(&self), wasm.clone());
        let found = blocking(move || Ok(this.read_compiled(&key)))
            .await
            .map_err(LoadError::Unusable)?;
        let loaded = match found {
            Some(result) => result.map_err(LoadError::Unusable)?,
            None => {
                let _permit = self.compiles.acquire().await;
                let (this, key) = (Arc::clone(&self), wasm.clone());
                blocking(move || Ok(this.compile(&key)))
                    .await
                    .map_err(LoadError::Unusable)??
            }
        };
        Ok(self.remember(wasm, loaded))
    }

    /// Loads what was compiled before; `None` when there is nothing usable.
    fn read_compiled(&self, wasm: &Digest) -> Option<Result<Loaded, PrepareError>> {
        let form = self.cache.compiled_form(wasm)?;
        let read = self.read(wasm, form)?;
        self.metrics.cache_hits.inc();
        Some(read)
    }

    /// Maps and links a compiled form; `None` when the engine does not take it, which is then forgotten.
    fn read(&self, wasm: &Digest, form: CompiledForm) -> Option<Result<Loaded, PrepareError>> {
        let CompiledForm { path, form, hold } = form;
        let linked = match self.linked(form.calls) {
            Ok(linked) => linked,
            Err(error) => return Some(Err(error)),
        };
        let engine = linked.engine.engine();
        let loaded = match form.code {
            Code::Component => self
                .with_room(|| precompiled::load(engine, &path))
                .map(|component| linked.link(&component, hold)),
            Code::Core => self
                .with_room(|| precompiled::load_module(engine, &path))
                .and_then(|module| linked.direct.link(&module))
                .map(|direct| Ok(linked.loaded(FunctionKind::Component, Program::Direct(direct), hold))),
            Code::Module => self
                .with_room(|| precompiled::load_module(engine, &path))
                .map(|module| linked.link_module(&module, hold)),
        };
        match loaded {
            Ok(linked) => Some(linked),
            Err(error) if is_out_of_room(&error) => Some(Err(PrepareError::new(
                ErrorCode::Internal,
                format!(
                    "the machine has no room for the function's code, which is tried again; run `kittiwake doctor` ({})",
                    root_cause(&error)
                ),
            ))),
            Err(error) => {
                tracing::warn!(path = %path.display(), error = format!("{error:#}"), "a compiled component is made again");
                self.cache.forget_compiled(wasm);
                None
            }
        }
    }

    fn compile(&self, wasm: &Digest) -> Result<Loaded, LoadError> {
        // Without the lock two processes do the same work, no worse; so its failure is no reason to stop.
        let _lock = self.cache.lock(wasm).ok();
        if let Some(result) = self.read_compiled(wasm) {
            return result.map_err(LoadError::Unusable);
        }
        self.metrics.cache_misses.inc();
        let binary = self.cache.wasm(wasm).ok_or(LoadError::Gone)?;
        let (compiled, form) = self.translate(&binary).map_err(LoadError::Unusable)?;
        self.cache
            .store_compiled(wasm, &compiled, form)
            .map_err(|error| LoadError::Unusable(disk_full(&error)))?;
        let lost = || {
            LoadError::Unusable(PrepareError::new(
                ErrorCode::Internal,
                "the compiled component cannot be read back; check the disk of the data directory",
            ))
        };
        let form = self.cache.compiled_form(wasm).ok_or_else(lost)?;
        let read = self.read(wasm, form).ok_or_else(lost)?;
        read.map_err(LoadError::Unusable)
    }

    /// Compiles for the engine that suits: that of concurrent calls only where the component needs it.
    fn translate(&self, binary: &[u8]) -> Result<(Vec<u8>, Form), PrepareError> {
        let timer = self.metrics.compile_seconds.start_timer();
        let (compiled, form) = match inspect::layer(binary)? {
            Layer::Component => self.translate_component(binary)?,
            Layer::Module => self.translate_module(binary)?,
        };
        timer.observe_duration();
        Ok((compiled, form))
    }

    fn translate_component(&self, binary: &[u8]) -> Result<(Vec<u8>, Form), PrepareError> {
        // What cannot be read is told by the compiler.
        let kind = inspect::component_kind(binary);
        if kind == Ok(FunctionKind::Component)
            && let Some(compiled) = self.translate_core(binary)
        {
            let (calls, kind, code) = (Calls::Sequential, FunctionKind::Component, Code::Core);
            return Ok((compiled, Form { calls, kind, code }));
        }
        let precompile = |calls| {
            let compiled = self.linked(calls)?.engine.engine().precompile_component(binary);
            let compiled = compiled.map_err(|error| not_compiled(&error))?;
            Ok((compiled, calls))
        };
        // What the first engine refuses may be what only the second one can; each says so before it compiles anything.
        let (compiled, calls) =
            precompile(Calls::Sequential).or_else(|_: PrepareError| precompile(Calls::Concurrent))?;
        let (kind, code) = (kind?, Code::Component);
        Ok((compiled, Form { calls, kind, code }))
    }

    /// The core module of a component that answers HTTP, where that can be run on its own.
    fn translate_core(&self, binary: &[u8]) -> Option<Vec<u8>> {
        self.core_modules
            .then(|| self.sequential.direct.compile(binary))?
    }

    /// Sections that are not WebAssembly's own, such as the native code that `wasmedge compile` adds, are passed over.
    fn translate_module(&self, binary: &[u8]) -> Result<(Vec<u8>, Form), PrepareError> {
        let engine = self.sequential.engine.engine();
        let compiled = engine.precompile_module(binary);
        let compiled = compiled.map_err(|error| not_compiled(&error))?;
        let kind = inspect::module_kind(binary)?;
        let (calls, code) = (Calls::Sequential, Code::Module);
        Ok((compiled, Form { calls, kind, code }))
    }
}

impl Linked {
    /// Checks imports and exports, and links.
    fn link(&self, component: &Component, hold: Hold) -> Result<Loaded, PrepareError> {
        let answers = self.check_exports(component)?;
        let pre = self
            .linker
            .instantiate_pre(component)
            .map_err(|error| missing_import(&error))?;
        let program = match answers {
            Answers::Service => p3::bindings::ServicePre::new(pre)
                .map(ProxyPre::P3)
                .map(Program::Handler),
            Answers::Handler => p2::bindings::ProxyPre::new(pre)
                .map(ProxyPre::P2)
                .map(Program::Handler),
            Answers::Printing | Answers::Listening => CommandPre::new(pre).map(Program::Cli),
        };
        let program = program.map_err(|error| {
            PrepareError::new(
                ErrorCode::NotHttpHandler,
                format!(
                    "the component's export has an unexpected shape: {error:#}; build it with current tools"
                ),
            )
        })?;
        let kind = match answers {
            Answers::Service | Answers::Handler => FunctionKind::Component,
            Answers::Printing => FunctionKind::Command,
            Answers::Listening => FunctionKind::Server,
        };
        Ok(self.loaded(kind, program, hold))
    }

    /// The same for a core module.
    fn link_module(&self, module: &Module, hold: Hold) -> Result<Loaded, PrepareError> {
        let program = module::link(&self.module_linker, module).map(Program::Module)?;
        Ok(self.loaded(module::kind_of(module)?, program, hold))
    }

    fn loaded(&self, kind: FunctionKind, program: Program, hold: Hold) -> Loaded {
        Loaded {
            program,
            kind,
            engine: Arc::clone(&self.engine),
            hold,
        }
    }

    /// How the component answers. One that can do so in several ways is a service before a handler, and both before a
    /// program of the command line (what `wstd` makes is a handler and exports `wasi:cli/run` as well).
    fn check_exports(&self, component: &Component) -> Result<Answers, PrepareError> {
        let kind = component.component_type();
        let names: Vec<&str> = kind.exports(self.engine.engine()).map(|(name, _)| name).collect();
        let exports = |prefix: &str| names.iter().any(|name| name.starts_with(prefix));
        if exports(SERVICE_EXPORT) {
            return Ok(Answers::Service);
        }
        if exports(HANDLER_EXPORT) {
            return Ok(Answers::Handler);
        }
        if exports(RUN_EXPORT) {
            let listens = self.listens(component);
            return Ok(if listens {
                Answers::Listening
            } else {
                Answers::Printing
            });
        }
        let mut listed: Vec<&str> = names.iter().copied().take(EXPORTS_NAMED_MAX).collect();
        if names.len() > EXPORTS_NAMED_MAX {
            listed.push("…");
        }
        let has = if listed.is_empty() {
            "nothing".to_owned()
        } else {
            listed.join(", ")
        };
        let hint = if exports("wasi:cli/run") {
            "it is a command-line program of another WASI: build it for 0.2 (wasm32-wasip2), or write it as an HTTP handler"
        } else {
            "export it (in Rust: wasip2::http::proxy::export!, or wstd)"
        };
        Err(PrepareError::new(
            ErrorCode::NotHttpHandler,
            format!(
                "the component does not answer HTTP: it exports {has} but none of wasi:http/incoming-handler (WASI 0.2), wasi:http/handler (WASI 0.3) and wasi:cli/run (WASI 0.2, which answers as a CGI program); {hint}"
            ),
        ))
    }

    /// Whether the component imports the function by which a program listens. Tools leave out what is never called.
    fn listens(&self, component: &Component) -> bool {
        let (kind, engine) = (component.component_type(), self.engine.engine());
        kind.imports(engine).any(|(name, import)| match import.ty {
            ComponentItem::ComponentInstance(sockets) if name.starts_with(SOCKETS_IMPORT) => {
                sockets.exports(engine).any(|(name, _)| name == LISTENS)
            }
            _ => false,
        })
    }
}

fn not_compiled(error: &wasmtime::Error) -> PrepareError {
    PrepareError::new(
        ErrorCode::CompileFailed,
        format!(
            "the WebAssembly cannot be compiled: {error:#}; it is broken, truncated, or uses a feature that is switched off: build it again"
        ),
    )
}

/// Names the import that nothing provides: wasmtime's message has it between the first backquotes.
fn missing_import(error: &wasmtime::Error) -> PrepareError {
    let text = format!("{error:#}");
    let name = text.split('`').nth(1).unwrap_or("of an unknown name");
    PrepareError::new(
        ErrorCode::MissingImport,
        format!(
            "the component imports {name}, which this platform does not provide ({text}); remove the import or use another interface"
        ),
    )
}

/// The data directory cannot be written.
pub(crate) fn disk_full(error: &std::io::Error) -> PrepareError {
    PrepareError::new(
        ErrorCode::Internal,
        format!("the cache cannot be written: {error}; check the disk of the data directory"),
    )
}
