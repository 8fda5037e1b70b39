//! What the autoscaler tells Prometheus, under the names of Knative 1.12 and under those of 1.19 and later
//! (serving `pkg/autoscaler/scaling/metrics.go`, `pkg/reconciler/autoscaling/kpa/metrics.go`).
//!
//! A Revision has series while it has instances or calls within its window: ten thousand idle ones have none.

use super::deciders::{Counts, Labels};
use crate::object::ObjectKey;
use kittiwake_autoscaler::decider::{DeciderSpec, Decision};
use kittiwake_autoscaler::metric::Metric;
use prometheus::{GaugeVec, Opts, Registry};

/// Names of the labels of 1.12.
const LABELS: [&str; 4] = [
    "namespace_name",
    "service_name",
    "configuration_name",
    "revision_name",
];
/// Those of 1.19.
const LABELS_NEW: [&str; 4] = [
    "k8s_namespace_name",
    "kn_service_name",
    "kn_configuration_name",
    "kn_revision_name",
];

/// One number under both names.
#[derive(Debug, Clone)]
struct Gauge {
    old: GaugeVec,
    new: GaugeVec,
}

/// All numbers.
#[derive(Debug, Clone)]
pub struct Metrics {
    actual: Gauge,
    desired: Gauge,
    requested: Gauge,
    not_ready: Gauge,
    pending: Gauge,
    terminating: Gauge,
    excess: Gauge,
    panic_mode: Gauge,
    concurrency: [Gauge; 3],
    rps: [Gauge; 3],
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |old: &str, new: &str, help: &str| -> Result<Gauge, prometheus::Error> {
            let old = GaugeVec::new(Opts::new(format!("autoscaler_{old}"), help), &LABELS)?;
            let new = GaugeVec::new(Opts::new(format!("kn_revision_{new}"), help), &LABELS_NEW)?;
            registry.register(Box::new(old.clone()))?;
            registry.register(Box::new(new.clone()))?;
            Ok(Gauge { old, new })
        };
        Ok(Self {
            actual: gauge("actual_pods", "pods_count", "Instances that take calls.")?,
            desired: gauge(
                "desired_pods",
                "pods_desired",
                "Instances that the load asks for.",
            )?,
            requested: gauge(
                "requested_pods",
                "pods_requested",
                "Instances that there shall be.",
            )?,
            not_ready: gauge(
                "not_ready_pods",
                "pods_not_ready_count",
                "Instances that are being started.",
            )?,
            pending: gauge(
                "pending_pods",
                "pods_pending_count",
                "Instances that wait for a machine: none.",
            )?,
            terminating: gauge(
                "terminating_pods",
                "pods_terminating_count",
                "Instances that finish their last calls.",
            )?,
            excess: gauge(
                "excess_burst_capacity",
                "capacity_excess",
                "Calls that would fit in beyond the target burst capacity.",
            )?,
            panic_mode: gauge("panic_mode", "panic_mode", "1 while the autoscaler panics.")?,
            concurrency: [
                gauge(
                    "stable_request_concurrency",
                    "concurrency_stable",
                    "Calls under way, averaged over the stable window.",
                )?,
                gauge(
                    "panic_request_concurrency",
                    "concurrency_panic",
                    "Calls under way, averaged over the panic window.",
                )?,
                gauge(
                    "target_concurrency_per_pod",
                    "concurrency_target",
                    "Calls under way that an instance shall have.",
                )?,
            ],
            rps: [
                gauge(
                    "stable_requests_per_second",
                    "rps_stable",
                    "Calls by the second, averaged over the stable window.",
                )?,
                gauge(
                    "panic_requests_per_second",
                    "rps_panic",
                    "Calls by the second, averaged over the panic window.",
                )?,
                gauge(
                    "target_requests_per_second",
                    "rps_target",
                    "Calls by the second that an instance shall have.",
                )?,
            ],
        })
    }

    /// Takes note of a decision.
    pub(super) fn decided(&self, key: &ObjectKey, labels: &Labels, spec: &DeciderSpec, decision: &Decision) {
        let of = values(key, labels);
        self.desired.set(&of, f64::from(decision.desired));
        self.excess.set(&of, f64::from(decision.excess_burst_capacity));
        self.panic_mode.set(&of, f64::from(u8::from(decision.panicking)));
        let [stable, panic, target] = match spec.metric {
            Metric::Concurrency => &self.concurrency,
            Metric::Rps => &self.rps,
        };
        stable.set(&of, decision.stable);
        panic.set(&of, decision.panic);
        target.set(&of, spec.target.target);
    }

    /// Takes note of the instances there are, and of those that there shall be.
    pub(super) fn counted(&self, key: &ObjectKey, labels: &Labels, counts: &Counts, replicas: u32) {
        let of = values(key, labels);
        self.actual.set(&of, f64::from(counts.ready));
        self.requested.set(&of, f64::from(replicas));
        self.not_ready.set(&of, f64::from(counts.starting));
        self.pending.set(&of, 0.0);
        self.terminating.set(&of, f64::from(counts.stopping));
    }

    /// Removes the series of a Revision.
    pub(super) fn forget(&self, key: &ObjectKey, labels: &Labels) {
        let of = values(key, labels);
        let [a, b, c] = &self.concurrency;
        let [d, e, f] = &self.rps;
        for gauge in [
            &self.actual,
            &self.desired,
            &self.requested,
            &self.not_ready,
            &self.pending,
            &self.terminating,
            &self.excess,
            &self.panic_mode,
            a,
            b,
            c,
            d,
            e,
            f,
        ] {
            gauge.remove(&of);
        }
    }
}

impl Gauge {
    fn set(&self, of: &[&str; 4], value: f64) {
        self.old.with_label_values(of).set(value);
        self.new.with_label_values(of).set(value);
    }

    /// That there is none is no failure.
    fn remove(&self, of: &[&str; 4]) {
        let _ = self.old.remove_label_values(of);
        let _ = self.new.remove_label_values(of);
    }
}

fn values<'a>(key: &'a ObjectKey, labels: &'a Labels) -> [&'a str; 4] {
    [&key.namespace, &labels.service, &labels.configuration, &key.name]
}
