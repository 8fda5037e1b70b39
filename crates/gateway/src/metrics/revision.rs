//! The metrics of one revision: series that appear with its first call and go when it leaves the routing table.

use super::{CODE_LABELS, Counted, REVISION_LABELS, Vectors};
use arc_swap::ArcSwap;
use kittiwake_core::invoke::CallReport;
use prometheus::{Histogram, IntCounter, IntGauge};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Status codes of one revision that get series of their own; further ones are counted as `other`.
pub(crate) const CODES_PER_REVISION_MAX: usize = 32;
/// Label of codes beyond [`CODES_PER_REVISION_MAX`].
const CODE_OTHER: &str = "other";

/// The series of one revision, each resolved once.
#[derive(Debug)]
pub(crate) struct RevisionMetrics {
    labels: [String; REVISION_LABELS.len()],
    vectors: Arc<Vectors>,
    /// By status code; few, so a scan is quickest. Read without a lock, extended under `retired`.
    codes: ArcSwap<Vec<(u16, Arc<CodeMetrics>)>>,
    times: OnceLock<Option<TimeMetrics>>,
    /// Whether the revision left the routing table: then no series is made again.
    retired: Mutex<bool>,
}

#[derive(Debug)]
struct CodeMetrics {
    code: String,
    class: String,
    request_count: IntCounter,
    request_latencies: Histogram,
    app_request_count: IntCounter,
    app_request_latencies: Histogram,
}

#[derive(Debug)]
struct TimeMetrics {
    queue_depth: IntGauge,
    cold_start: Histogram,
    instantiate: Histogram,
    queued: Histogram,
    reused: IntCounter,
}

/// One finished call, for its revision's metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished {
    /// The status that the caller got.
    pub(crate) status: u16,
    /// From the request's head to the end of the answer.
    pub(crate) latency: Duration,
    /// What the runtime reported, when the function answered.
    pub(crate) report: Option<CallReport>,
}

impl RevisionMetrics {
    /// Handles without any series yet; `labels` are the values of [`REVISION_LABELS`].
    pub(super) fn new(labels: [String; REVISION_LABELS.len()], vectors: Arc<Vectors>) -> Self {
        Self {
            labels,
            vectors,
            codes: ArcSwap::default(),
            times: OnceLock::new(),
            retired: Mutex::new(false),
        }
    }

    /// Counts a call that waits or runs until the guard is dropped.
    pub(crate) fn call(&self) -> Option<Counted> {
        self.times().map(|times| Counted::new(times.queue_depth.clone()))
    }

    /// Records a call whose answer ended.
    pub(crate) fn record(&self, finished: &Finished) {
        if let Some(code) = self.code(finished.status) {
            code.request_count.inc();
            code.request_latencies.observe(milliseconds(finished.latency));
            if let Some(report) = finished.report {
                code.app_request_count.inc();
                code.app_request_latencies
                    .observe(milliseconds(finished.latency.saturating_sub(report.queued)));
            }
        }
        if let (Some(report), Some(times)) = (finished.report, self.times()) {
            times.queued.observe(report.queued.as_secs_f64());
            if report.reused {
                times.reused.inc();
            } else {
                times.instantiate.observe(report.instantiated.as_secs_f64());
            }
            if let Some(cold_start) = report.cold_start {
                times.cold_start.observe(cold_start.as_secs_f64());
            }
        }
    }

    /// Removes every series. Calls in flight record into handles that nobody collects any more.
    pub(crate) fn retire(&self) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        *retired = true;
        for (_, metrics) in self.codes.load().iter() {
            let labels = self.code_labels(&metrics.code, &metrics.class);
            // A series that is not there needs no removal.
            let _ = self.vectors.request_count.remove_label_values(&labels);
            let _ = self.vectors.request_latencies.remove_label_values(&labels);
            let _ = self.vectors.app_request_count.remove_label_values(&labels);
            let _ = self.vectors.app_request_latencies.remove_label_values(&labels);
        }
        if self.times.get().is_some() {
            let _ = self.vectors.queue_depth.remove_label_values(&self.labels);
            let _ = self.vectors.cold_start.remove_label_values(&self.labels);
            let _ = self.vectors.instantiate.remove_label_values(&self.labels);
            let _ = self.vectors.queued.remove_label_values(&self.labels);
            let _ = self.vectors.reused.remove_label_values(&self.labels);
        }
    }

    fn code(&self, status: u16) -> Option<Arc<CodeMetrics>> {
        let find = |codes: &[(u16, Arc<CodeMetrics>)], status| {
            codes
                .iter()
                .find(|(code, _)| *code == status)
                .map(|(_, metrics)| Arc::clone(metrics))
        };
        if let Some(known) = find(&self.codes.load(), status) {
            return Some(known);
        }
        let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        if *retired {
            return None;
        }
        let mut codes = (**self.codes.load()).clone();
        // Beyond the limit, one entry per class stands for the rest.
        let (entry, label) = match codes.len() < CODES_PER_REVISION_MAX {
            true => (status, status.to_string()),
            false => (status / 100, CODE_OTHER.to_owned()),
        };
        if let Some(known) = find(&codes, entry) {
            return Some(known);
        }
        let made = Arc::new(self.code_metrics(label, format!("{}xx", status / 100)).ok()?);
        codes.push((entry, Arc::clone(&made)));
        self.codes.store(Arc::new(codes));
        Some(made)
    }

    fn code_metrics(&self, code: String, class: String) -> prometheus::Result<CodeMetrics> {
        let labels = self.code_labels(&code, &class);
        Ok(CodeMetrics {
            request_count: self.vectors.request_count.get_metric_with_label_values(&labels)?,
            request_latencies: self
                .vectors
                .request_latencies
                .get_metric_with_label_values(&labels)?,
            app_request_count: self
                .vectors
                .app_request_count
                .get_metric_with_label_values(&labels)?,
            app_request_latencies: self
                .vectors
                .app_request_latencies
                .get_metric_with_label_values(&labels)?,
            code,
            class,
        })
    }

    fn code_labels<'a>(&'a self, code: &'a str, class: &'a str) -> [&'a str; CODE_LABELS.len()] {
        let [namespace, service, configuration, revision, container] = &self.labels;
        [
            namespace,
            service,
            configuration,
            revision,
            container,
            code,
            class,
        ]
    }

    fn times(&self) -> Option<&TimeMetrics> {
        let make = || {
            let retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
            (!*retired).then(|| self.time_metrics().ok()).flatten()
        };
        self.times.get_or_init(make).as_ref()
    }

    fn time_metrics(&self) -> prometheus::Result<TimeMetrics> {
        Ok(TimeMetrics {
            queue_depth: self
                .vectors
                .queue_depth
                .get_metric_with_label_values(&self.labels)?,
            cold_start: self
                .vectors
                .cold_start
                .get_metric_with_label_values(&self.labels)?,
            instantiate: self
                .vectors
                .instantiate
                .get_metric_with_label_values(&self.labels)?,
            queued: self.vectors.queued.get_metric_with_label_values(&self.labels)?,
            reused: self.vectors.reused.get_metric_with_label_values(&self.labels)?,
        })
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
