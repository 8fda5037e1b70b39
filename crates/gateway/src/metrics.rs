//! What the gateway counts, in Knative's names (knative/serving `pkg/queue/request_metric.go`) and ours.
//!
//! Series of a revision appear with its first call and stay for a while after it left the routing table. A call records
//! through handles it already holds; labels are looked up once per revision and status code.

mod revision;

pub(crate) use revision::{Finished, RevisionMetrics};

use kittiwake_core::revision::RevisionSpec;
use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use std::sync::Arc;

/// Name of the container in Knative's metrics where the user gave none.
const CONTAINER_NAME: &str = "user-container";

/// Knative's buckets of latencies, in milliseconds (`pkg/metrics`, defaultLatencyDistribution).
const LATENCY_BUCKETS_MS: [f64; 26] = [
    5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 400.0, 450.0, 500.0, 600.0,
    700.0, 800.0, 900.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0, 100_000.0,
];
/// Buckets of our own times, in seconds: from tens of microseconds up.
const START_BUCKETS_SECONDS: [f64; 17] = [
    0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
    2.0, 5.0,
];

const REVISION_LABELS: [&str; 5] = [
    "namespace_name",
    "service_name",
    "configuration_name",
    "revision_name",
    "container_name",
];
const CODE_LABELS: [&str; 7] = [
    "namespace_name",
    "service_name",
    "configuration_name",
    "revision_name",
    "container_name",
    "response_code",
    "response_code_class",
];

/// Why a request reached no revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unrouted {
    BadRequest,
    NoRoute,
    NotReady,
    Redirected,
}

/// All metrics of the gateway. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) in_flight: IntGauge,
    connections: IntGauge,
    bad_request: IntCounter,
    no_route: IntCounter,
    not_ready: IntCounter,
    redirected: IntCounter,
    handshakes_failed: IntCounter,
    /// Calls that another process answers.
    pub(crate) passed_on: IntCounter,
    /// When the certificate of each name ends.
    pub(crate) certificate_expiry: IntGaugeVec,
    pub(crate) upgrade: UpgradeMetrics,
    vectors: Arc<Vectors>,
}

/// What upgraded connections carry.
#[derive(Debug, Clone)]
pub(crate) struct UpgradeMetrics {
    open: IntGauge,
    /// Bytes from clients.
    pub(crate) received: IntCounter,
    /// Bytes to clients.
    pub(crate) sent: IntCounter,
}

impl UpgradeMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let bytes = add(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "kittiwake_gateway_upgraded_bytes_total",
                    "Bytes carried over upgraded connections (WebSockets), from clients (received) and to them (sent).",
                ),
                &["direction"],
            )?,
        )?;
        let open = IntGauge::new(
            "kittiwake_gateway_upgraded_connections",
            "Open upgraded connections (WebSockets).",
        )?;
        Ok(Self {
            open: add(registry, open)?,
            received: bytes.get_metric_with_label_values(&["received"])?,
            sent: bytes.get_metric_with_label_values(&["sent"])?,
        })
    }

    /// Counts an upgraded connection until the guard is dropped.
    pub(crate) fn open(&self) -> Counted {
        Counted::new(self.open.clone())
    }
}

#[derive(Debug)]
struct Vectors {
    request_count: IntCounterVec,
    request_latencies: HistogramVec,
    app_request_count: IntCounterVec,
    app_request_latencies: HistogramVec,
    queue_depth: IntGaugeVec,
    cold_start: HistogramVec,
    instantiate: HistogramVec,
    queued: HistogramVec,
    reused: IntCounterVec,
}

impl Metrics {
    /// Makes the metrics and registers them.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let unrouted = add(
            registry,
            IntCounterVec::new(
                Opts::new(
                    "kittiwake_gateway_unrouted_requests_total",
                    "Requests that reached no revision, by reason.",
                ),
                &["reason"],
            )?,
        )?;
        let counter = |name, help| add(registry, IntCounterVec::new(Opts::new(name, help), &CODE_LABELS)?);
        let latencies = |name, help| {
            let options = HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS_MS.to_vec());
            add(registry, HistogramVec::new(options, &CODE_LABELS)?)
        };
        let times = |name, help| {
            let options = HistogramOpts::new(name, help).buckets(START_BUCKETS_SECONDS.to_vec());
            add(registry, HistogramVec::new(options, &REVISION_LABELS)?)
        };
        let vectors = Vectors {
            request_count: counter("revision_request_count", "Requests routed to the revision.")?,
            request_latencies: latencies(
                "revision_request_latencies",
                "Time from the request's head to the end of the answer's body, in milliseconds.",
            )?,
            app_request_count: counter(
                "revision_app_request_count",
                "Requests that the function itself answered.",
            )?,
            app_request_latencies: latencies(
                "revision_app_request_latencies",
                "As revision_request_latencies, without the time spent waiting for a free slot.",
            )?,
            queue_depth: add(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "revision_queue_depth",
                        "Requests of the revision that wait or run.",
                    ),
                    &REVISION_LABELS,
                )?,
            )?,
            cold_start: times(
                "kittiwake_cold_start_seconds",
                "Time to bring up a revision that was at zero, for the call that found it so.",
            )?,
            instantiate: times(
                "kittiwake_instantiate_seconds",
                "Time to make the instance for a call.",
            )?,
            queued: times(
                "kittiwake_queue_seconds",
                "Time that a call waited for a free slot.",
            )?,
            reused: add(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "kittiwake_reused_instance_requests_total",
                        "Calls answered by an instance that was kept from an earlier call (kittiwake.dev/isolation).",
                    ),
                    &REVISION_LABELS,
                )?,
            )?,
        };
        Ok(Self {
            in_flight: add(
                registry,
                IntGauge::new("kittiwake_gateway_in_flight", "Calls being answered.")?,
            )?,
            connections: add(
                registry,
                IntGauge::new("kittiwake_gateway_connections", "Open connections.")?,
            )?,
            bad_request: unrouted.get_metric_with_label_values(&["bad_request"])?,
            no_route: unrouted.get_metric_with_label_values(&["no_route"])?,
            not_ready: unrouted.get_metric_with_label_values(&["not_ready"])?,
            redirected: unrouted.get_metric_with_label_values(&["redirected"])?,
            handshakes_failed: add(
                registry,
                IntCounter::new(
                    "kittiwake_gateway_tls_handshake_failures_total",
                    "TLS handshakes that failed or took too long.",
                )?,
            )?,
            passed_on: add(
                registry,
                IntCounter::new(
                    "kittiwake_gateway_passed_on_total",
                    "Calls passed on to another worker, because max-scale leaves this one no instance of the revision.",
                )?,
            )?,
            certificate_expiry: add(
                registry,
                IntGaugeVec::new(
                    Opts::new(
                        "kittiwake_gateway_certificate_expiry_seconds",
                        "Unix time at which the certificate of a host expires.",
                    ),
                    &["host"],
                )?,
            )?,
            upgrade: UpgradeMetrics::register(registry)?,
            vectors: Arc::new(vectors),
        })
    }

    /// Counts a connection until the guard is dropped.
    pub(crate) fn connection(&self) -> Counted {
        Counted::new(self.connections.clone())
    }

    /// Counts a call in flight until the guard is dropped.
    pub(crate) fn call(&self) -> Counted {
        Counted::new(self.in_flight.clone())
    }

    pub(crate) fn unrouted(&self, why: Unrouted) {
        match why {
            Unrouted::BadRequest => self.bad_request.inc(),
            Unrouted::NoRoute => self.no_route.inc(),
            Unrouted::NotReady => self.not_ready.inc(),
            Unrouted::Redirected => self.redirected.inc(),
        }
    }

    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }

    /// The handles of one revision. No series appears before its first call.
    pub(crate) fn revision(&self, revision: &RevisionSpec) -> RevisionMetrics {
        let owned = |text: &str| text.to_owned();
        let labels = [
            owned(&revision.key.namespace),
            owned(&revision.service),
            owned(&revision.configuration),
            owned(&revision.key.name),
            owned(CONTAINER_NAME),
        ];
        RevisionMetrics::new(labels, Arc::clone(&self.vectors))
    }
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// One in a gauge, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(IntGauge);

impl Counted {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::revision::CODES_PER_REVISION_MAX;
    use super::*;
    use crate::router::tests::entry;
    use kittiwake_core::invoke::CallReport;
    use std::time::Duration;

    fn text(registry: &Registry) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    }

    fn finished(status: u16) -> Finished {
        let report = CallReport {
            cold_start: Some(Duration::from_micros(300)),
            ..CallReport::default()
        };
        Finished {
            status,
            latency: Duration::from_millis(7),
            report: Some(report),
        }
    }

    #[test]
    fn series_come_with_the_first_call_and_go_with_the_revision() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let revision = entry(&[("a", 100)]).targets[0].revision.clone();
        let handles = metrics.revision(&revision);
        assert!(!text(&registry).contains("revision_name=\"a\""));
        let running = handles.call();
        handles.record(&finished(200));
        handles.record(&finished(500));
        let shown = text(&registry);
        for line in [
            "revision_request_count{configuration_name=\"s\",container_name=\"user-container\",namespace_name=\"default\",\
             response_code=\"200\",response_code_class=\"2xx\",revision_name=\"a\",service_name=\"s\"} 1",
            "revision_queue_depth{configuration_name=\"s\",container_name=\"user-container\",namespace_name=\"default\",\
             revision_name=\"a\",service_name=\"s\"} 1",
            "response_code=\"500\",response_code_class=\"5xx\",revision_name=\"a\",service_name=\"s\",le=\"10\"} 1",
            "kittiwake_cold_start_seconds_count{",
        ] {
            assert!(shown.contains(line), "{line}\nis not in\n{shown}");
        }
        handles.retire();
        handles.record(&finished(404));
        drop(running);
        assert!(
            !text(&registry).contains("revision_name=\"a\""),
            "{}",
            text(&registry)
        );
    }

    #[test]
    fn a_function_cannot_make_series_without_end() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let handles = metrics.revision(&entry(&[("a", 100)]).targets[0].revision);
        for status in 100..1000 {
            handles.record(&finished(status));
        }
        let shown = text(&registry);
        let series = shown
            .lines()
            .filter(|line| line.starts_with("revision_request_count{"))
            .count();
        assert!(series <= CODES_PER_REVISION_MAX + 9, "{series}");
        assert!(shown.contains("response_code=\"other\",response_code_class=\"9xx\""));
    }

    #[test]
    fn one_registry_takes_one_gateway() {
        let registry = Registry::new();
        let _first = Metrics::register(&registry).unwrap();
        assert!(Metrics::register(&registry).is_err());
    }
}
