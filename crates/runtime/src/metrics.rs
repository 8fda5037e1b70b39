//! What the runtime counts.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Buckets for compile times, in seconds: a small guest takes 0.1 s, an embedded interpreter half a minute.
const COMPILE_SECONDS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// The metrics of one runtime.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub instances_live: IntGauge,
    pub instances_waiting: IntGauge,
    pub slots_taken: IntGauge,
    pub pool_memories: IntGauge,
    pub pool_stacks: IntGauge,
    pub compile_seconds: Histogram,
    pub cache_hits: IntCounter,
    pub cache_misses: IntCounter,
    pub cache_bytes: IntGauge,
    pub cache_evicted: IntCounter,
    pub cache_corrupt: IntCounter,
    pub programs_found: IntCounter,
    pub programs_kept: IntGauge,
    pub programs_kept_bytes: IntGauge,
    pub fetches: IntCounter,
    pub functions_loaded: IntGauge,
    pub guests_waiting: IntGauge,
    pub calls_failed: IntCounterVec,
}

/// Counts one of something as there, until it is dropped.
pub(crate) struct Counted(IntGauge);

impl Counted {
    /// One more.
    pub(crate) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Registers the metrics.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let compile_seconds = Histogram::with_opts(
            HistogramOpts::new("kittiwake_compile_seconds", "Time to compile one component.")
                .buckets(COMPILE_SECONDS.to_vec()),
        )?;
        registry.register(Box::new(compile_seconds.clone()))?;
        let calls_failed = IntCounterVec::new(
            Opts::new(
                "kittiwake_calls_failed_total",
                "Calls that the guest or a limit ended, by reason.",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(calls_failed.clone()))?;
        Ok(Self {
            instances_live: gauge("kittiwake_instances_live", "Instances that exist now.")?,
            instances_waiting: gauge(
                "kittiwake_instances_waiting",
                "Instances kept from an earlier call that wait for the next.",
            )?,
            slots_taken: gauge(
                "kittiwake_instance_slots_taken",
                "Instance slots that are taken now.",
            )?,
            pool_memories: gauge("kittiwake_pool_memories", "Linear memories of the pool in use.")?,
            pool_stacks: gauge("kittiwake_pool_stacks", "Stacks of the pool in use.")?,
            compile_seconds,
            cache_hits: counter("kittiwake_cache_hits_total", "Compiled components found on disk.")?,
            cache_misses: counter(
                "kittiwake_cache_misses_total",
                "Compiled components not found on disk.",
            )?,
            cache_bytes: gauge(
                "kittiwake_cache_bytes",
                "Size of the cache when it was last measured.",
            )?,
            cache_evicted: counter(
                "kittiwake_cache_evicted_total",
                "Cache entries dropped to keep the size limit.",
            )?,
            cache_corrupt: counter(
                "kittiwake_cache_corrupt_total",
                "Damaged cache entries that were made again.",
            )?,
            programs_found: counter(
                "kittiwake_programs_found_total",
                "Functions brought up from a program that was still in memory.",
            )?,
            programs_kept: gauge(
                "kittiwake_programs_kept",
                "Programs that stay in memory for the next first call.",
            )?,
            programs_kept_bytes: gauge(
                "kittiwake_programs_kept_bytes",
                "Memory that these programs take, about.",
            )?,
            fetches: counter(
                "kittiwake_image_fetches_total",
                "Images asked for at their source.",
            )?,
            functions_loaded: gauge(
                "kittiwake_functions_loaded",
                "Revisions held in memory, ready for a call.",
            )?,
            guests_waiting: gauge(
                "kittiwake_guests_waiting",
                "Guests that could run and wait for their function's turn on the processor.",
            )?,
            calls_failed,
        })
    }

    /// Counts a call that failed for `reason`.
    pub(crate) fn failed(&self, reason: &str) {
        self.calls_failed.with_label_values(&[reason]).inc();
    }
}
