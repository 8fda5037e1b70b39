//! What an operator can set.

pub use crate::engine::Resets;
use kittiwake_core::unit::ByteCount;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// Room for more than a thousand programs of the size of the Rust hello.
pub const PROGRAMS_BYTES_DEFAULT: ByteCount = ByteCount::mib(384);

/// Settings of the runtime. Every field has a default that suits a laptop.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the cache lives (in its folder `cache`). Two processes may share it.
    pub data_dir: PathBuf,
    /// What a relative `file://` or `oci-layout://` image is relative to.
    pub working_dir: PathBuf,
    /// Whether images may name files of this machine (`file://`, `oci-layout://`). Off unless the API is on loopback
    /// or the operator says so: whoever may create a Service could read any Wasm file otherwise.
    pub allow_file_images: bool,
    /// Registries (`host` or `host:port`) that are asked over plain HTTP, as docker's `insecure-registries`.
    /// Registries on loopback always are.
    pub insecure_registries: Vec<String>,
    /// A docker `config.json` with credentials; none means that only those of the request are used.
    pub docker_config: Option<PathBuf>,
    /// Size that the cache is brought back to by dropping what was used longest ago.
    pub cache_bytes_max: ByteCount,
    /// Memory that programs may take which no function uses now, so that a first call need not load them again; what they
    /// take is told from the size of their compiled form. 0 keeps none.
    pub programs_bytes_max: ByteCount,
    /// Largest WebAssembly file, and largest image layer, that is accepted.
    pub artifact_bytes_max: ByteCount,
    /// Longest time for one image to be fetched, retries included.
    pub fetch_timeout: Duration,
    /// Longest time to connect to a registry, and longest silence while it answers.
    pub fetch_silence_timeout: Duration,
    /// How often a request to a registry that is busy, failing or away is repeated.
    pub fetch_retries_max: u32,
    /// Wait before the first repetition; it doubles each time.
    pub fetch_retry_delay: Duration,
    /// Longest wait that a registry's `Retry-After` can ask for.
    pub fetch_retry_after_max: Duration,
    /// Images that are fetched at the same time.
    pub fetches_parallel_max: usize,
    /// Components that are compiled at the same time.
    pub compiles_parallel_max: usize,
    /// Instances that live at the same time; a call beyond it waits, then is refused as overloaded.
    pub instances_max: u32,
    /// Longest wait of a call for an instance slot.
    pub slot_wait_max: Duration,
    /// Largest linear memory that any function can be given; address space is reserved for it per slot.
    pub instance_memory_max: ByteCount,
    /// Whether components are run by their core module alone where that can be (docs/adr/0010); off to compare with.
    pub core_modules: bool,
    /// How a slot is made clean for its next instance. None means the cheapest way that is safe on this machine, which
    /// is looked at again all the time.
    pub resets: Option<Resets>,
    /// A function that is not called for this long leaves memory; its compiled form stays on disk.
    pub idle_unload: Duration,
    /// Threads that run guests: so many guests are polled at a time, and the others wait for the turn of their function.
    /// The worker threads of the tokio runtime that calls come from.
    pub threads: NonZeroU32,
    /// How often running guests are made to yield, so that one that computes cannot hold up the others.
    pub epoch_tick: Duration,
    /// Longest time that an instance may take to be created when a revision is made ready.
    pub start_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            data_dir: PathBuf::from(".kittiwake"),
            working_dir: PathBuf::from("."),
            allow_file_images: false,
            insecure_registries: Vec::new(),
            docker_config: None,
            cache_bytes_max: ByteCount::gib(10),
            programs_bytes_max: PROGRAMS_BYTES_DEFAULT,
            artifact_bytes_max: ByteCount::mib(256),
            fetch_timeout: Duration::from_secs(300),
            fetch_silence_timeout: Duration::from_secs(30),
            fetch_retries_max: 4,
            fetch_retry_delay: Duration::from_millis(500),
            fetch_retry_after_max: Duration::from_secs(60),
            fetches_parallel_max: 4,
            compiles_parallel_max: cores.div_ceil(2),
            instances_max: 1000,
            slot_wait_max: Duration::from_secs(10),
            instance_memory_max: ByteCount::gib(4),
            core_modules: true,
            resets: None,
            idle_unload: Duration::from_secs(60),
            threads: u32::try_from(cores)
                .ok()
                .and_then(NonZeroU32::new)
                .unwrap_or(NonZeroU32::MIN),
            epoch_tick: Duration::from_millis(2),
            start_timeout: Duration::from_secs(30),
        }
    }
}
