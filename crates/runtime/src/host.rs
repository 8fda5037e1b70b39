//! What a guest sees of the world: its environment, its output, its folders, the clock and randomness, and of other
//! servers those that its Service names ([`crate::outside`] by HTTP, [`sockets`] by TCP). Every other door is closed.

use crate::direct;
use crate::engine::{Calls, TABLE_ELEMENTS_MAX, WasmEngine};
use crate::files::FileRoot;
use crate::outside::{Asking, Outside, Sent};
use http::HeaderName;
use kittiwake_core::inside::Hops;
use kittiwake_core::log::{LogStream, RevisionLog};
use kittiwake_core::revision::RevisionSpec;
use kittiwake_core::unit::ByteCount;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::body::HostIncomingBody;
use wasmtime_wasi_http::p2::types::{
    HostFutureIncomingResponse, HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest,
    HostOutgoingResponse, HostResponseOutparam,
};
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error as HttpError, RequestOptions, WasiBody};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

pub(crate) mod folders;
mod outgoing;
pub(crate) mod output;
mod program;
mod sockets;

use folders::Folders;
use outgoing::OutgoingBody;
use output::Output;
use sockets::Sockets;

/// Memories, tables and core instances of one component instance.
const ITEMS_PER_INSTANCE_MAX: usize = 64;

/// Resources (streams, header maps, timers, …) that an instance may hold at a time. They live on the host's side, where
/// `limits.memory` does not count them; wasmtime would allow a million.
const RESOURCES_MAX: usize = 4096;
/// Resources that an instance may hold between two calls.
const LEFT_OVER_MAX: usize = 64;
/// Size of one header map that a guest builds, in bytes. Guests are told when it is full.
const HTTP_FIELDS_BYTES_MAX: usize = 64 * 1024;
/// Random bytes that a guest may ask for at a time. The host makes them before it copies them, outside `limits.memory`;
/// more than enough for a guest that fills a buffer in one go.
const RANDOM_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes that a guest may hand over in one call to the host, which copies them first. Streams take far less at a time,
/// so only a guest that means harm comes near.
pub(crate) const HOST_CALL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The state of one instance.
pub(crate) struct Host {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    /// Standard output and standard error.
    outputs: [Output; 2],
    direct: direct::State,
    doors: Doors,
    sockets: Sockets,
    /// Its part of the file system.
    pub folders: Folders,
    /// Counts what the instance allocates.
    pub limiter: Limiter,
}

/// Sends a guest's requests to other servers.
struct Doors {
    revision: Arc<RevisionSpec>,
    log: Arc<RevisionLog>,
    outside: Arc<Outside>,
    hops: Hops,
}

/// Holds an instance to its memory limit.
pub(crate) struct Limiter {
    memory: ByteCount,
    used: u64,
    /// Where it is added up for all instances of a function.
    total: Option<Arc<MemoryUse>>,
}

/// The linear memory that all instances of a function have, in bytes.
#[derive(Debug, Default)]
pub(crate) struct MemoryUse {
    now: AtomicU64,
    peak: AtomicU64,
}

impl MemoryUse {
    fn add(&self, bytes: u64) {
        let now = self.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.peak.fetch_max(now, Ordering::Relaxed);
    }

    fn remove(&self, bytes: u64) {
        self.now.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The most that there was at a time since this was last asked.
    pub(crate) fn take_peak(&self) -> u64 {
        let now = self.now.load(Ordering::Relaxed);
        self.peak.swap(now, Ordering::Relaxed).max(now)
    }
}

/// The guest asked for more memory than its revision allows.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error(
    "memory limit exceeded: the function needs {wanted} bytes of linear memory and may have {limit}; raise resources.limits.memory"
)]
pub(crate) struct MemoryLimitExceeded {
    limit: ByteCount,
    wanted: u64,
}

impl Host {
    /// The state of a fresh instance.
    pub(crate) fn new(
        revision: &Arc<RevisionSpec>,
        file_root: &Arc<FileRoot>,
        log: &Arc<RevisionLog>,
        outside: &Arc<Outside>,
    ) -> Self {
        let outputs = [LogStream::Stdout, LogStream::Stderr].map(|stream| Output::new(log, stream));
        let [stdout, stderr] = outputs.clone();
        let mut wasi = WasiCtx::builder();
        wasi.envs(&revision.env)
            .args(&revision.command)
            .args(&revision.args)
            .stdout(stdout)
            .stderr(stderr)
            .max_random_size(RANDOM_BYTES_MAX);
        if let Some(folder) = &revision.working_dir {
            wasi.initial_cwd(folder);
        }
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(HTTP_FIELDS_BYTES_MAX);
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        Self {
            wasi: wasi.build(),
            http,
            table,
            outputs,
            direct: direct::State::default(),
            doors: Doors {
                revision: Arc::clone(revision),
                log: Arc::clone(log),
                outside: Arc::clone(outside),
                hops: Hops::default(),
            },
            sockets: Sockets::default(),
            folders: Folders::new(revision, file_root),
            limiter: Limiter::new(revision.limits.memory),
        }
    }

    /// What guests hold on this side.
    pub(crate) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// What is kept of a guest that is called directly.
    pub(crate) fn direct(&self) -> &direct::State {
        &self.direct
    }

    /// The same, to change it.
    pub(crate) fn direct_mut(&mut self) -> &mut direct::State {
        &mut self.direct
    }

    /// Prints on standard output, or on standard error.
    pub(crate) fn print(&mut self, on_error: bool, bytes: &[u8]) {
        let [stdout, stderr] = &self.outputs;
        if on_error { stderr } else { stdout }.accept(bytes);
    }

    /// How many functions the call that is answered here came through.
    pub(crate) fn hops(&self) -> Hops {
        self.doors.hops
    }

    /// A call begins that came through so many.
    pub(crate) fn set_hops(&mut self, hops: Hops) {
        self.doors.hops = hops;
    }

    /// Whether the guest has given back what belongs to a call. What outlives calls by nature (its output streams, say)
    /// may stay, in a small number.
    pub(crate) fn holds_nothing_of_a_call(&mut self) -> bool {
        let mut count = 0_usize;
        let clean = self.table.iter_mut().all(|entry| {
            count += 1;
            !(entry.is::<HostIncomingRequest>()
                || entry.is::<HostIncomingBody>()
                || entry.is::<HostOutgoingResponse>()
                || entry.is::<OutgoingBody>()
                || entry.is::<HostResponseOutparam>()
                || entry.is::<HostOutgoingRequest>()
                || entry.is::<HostFutureIncomingResponse>()
                || entry.is::<HostIncomingResponse>())
        });
        clean && count <= LEFT_OVER_MAX
    }

    /// How many resources (streams, bodies, header maps, …) the guest holds on this side.
    pub(crate) fn resources(&mut self) -> usize {
        self.table.iter_mut().count()
    }

    /// The store of a fresh instance, held to all its limits and made to yield at every tick.
    pub(crate) fn into_store(self, engine: &Engine) -> Store<Self> {
        let mut store = Store::new(engine, self);
        store.limiter(|host| &mut host.limiter);
        store.set_hostcall_fuel(HOST_CALL_BYTES_MAX);
        WasmEngine::begin_turn(&mut store);
        // Not `epoch_deadline_async_yield_and_update`: that wakes the task at once, and a thread that always has
        // something to run looks for new connections and expired timers only every 61 tasks, which at 2 ms each is
        // an eighth of a second. Tokio's own yield makes it look first.
        store.epoch_deadline_callback(|context| {
            context.data().folders.check()?;
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store
    }
}

/// Everything that components may import: of WASI 0.2, and of 0.3 where calls can be concurrent.
pub(crate) fn linker(engine: &WasmEngine) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine.engine());
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    outgoing::add_to_linker(&mut linker)?;
    folders::add_to_linker(&mut linker)?;
    sockets::add_to_linker(&mut linker)?;
    if engine.calls() == Calls::Concurrent {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        folders::add_to_linker_p3(&mut linker)?;
    }
    Ok(linker)
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.doors,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// Headers that no guest sees or sets. Not the constant itself, which would be made anew for each question.
static FORBIDDEN_HEADERS: [HeaderName; 9] = DEFAULT_FORBIDDEN_HEADERS;

impl WasiHttpHooks for Doors {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        FORBIDDEN_HEADERS.contains(name)
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _read: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let asking = Asking {
            revision: Arc::clone(&self.revision),
            log: Arc::clone(&self.log),
            hops: self.hops,
        };
        Box::new(Arc::clone(&self.outside).send(asking, request, options))
    }
}

impl Limiter {
    /// Nothing allocated yet.
    pub(crate) fn new(memory: ByteCount) -> Self {
        Self {
            memory,
            used: 0,
            total: None,
        }
    }

    /// Adds what the instance has, as long as it has it, to a total. Before it has any.
    pub(crate) fn count_in(&mut self, total: &Arc<MemoryUse>) {
        self.total = Some(Arc::clone(total));
    }
}

impl Drop for Limiter {
    fn drop(&mut self) {
        if let Some(total) = &self.total {
            total.remove(self.used);
        }
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted = self.used.saturating_add(desired.saturating_sub(current) as u64);
        if wanted > self.memory.0 {
            // A trap rather than a refused growth: few guests survive a failed allocation, and none says why.
            return Err(MemoryLimitExceeded {
                limit: self.memory,
                wanted,
            }
            .into());
        }
        if let Some(total) = &self.total {
            total.add(wanted - self.used);
        }
        self.used = wanted;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS_MAX)
    }

    fn instances(&self) -> usize {
        ITEMS_PER_INSTANCE_MAX
    }

    fn tables(&self) -> usize {
        ITEMS_PER_INSTANCE_MAX
    }

    fn memories(&self) -> usize {
        ITEMS_PER_INSTANCE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memories_of_an_instance_share_one_limit() {
        let mut limiter = Limiter::new(ByteCount(100));
        let total = Arc::<MemoryUse>::default();
        limiter.count_in(&total);
        assert!(limiter.memory_growing(0, 60, None).unwrap());
        assert!(limiter.memory_growing(0, 30, None).unwrap());
        assert!(limiter.memory_growing(30, 40, None).unwrap());
        let error = limiter.memory_growing(60, 61, None).unwrap_err();
        assert!(error.to_string().contains("memory limit exceeded"), "{error}");
        drop(limiter);
        assert_eq!(total.take_peak(), 100, "the most since it was last asked");
        assert_eq!(total.take_peak(), 0);
    }
}
