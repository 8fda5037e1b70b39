//! How one revision is scaled: its annotations over what `config-autoscaler` says
//! (serving `pkg/apis/autoscaling/v1alpha1/pa_lifecycle.go`, `pkg/reconciler/autoscaling/kpa/resources/decider.go`).
//!
//! Annotations were checked by admission; one that cannot be read all the same is passed over, as in Knative.

use super::annotations::{self, Annotations, Key};
use crate::config::autoscaler::{Autoscaler, UTILIZATION_OF_OTHERS};
use crate::duration::GoDuration;
use std::str::FromStr;
use std::time::Duration;

/// Everything that is set about the scaling of one revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Who scales it: `kpa.autoscaling.knative.dev`, `hpa.autoscaling.knative.dev`, or a foreign one.
    pub class: String,
    /// What is measured, as written or by default of the class.
    pub metric: String,
    /// Annotation `target`.
    pub target: Option<f64>,
    /// The part of the total that is aimed at, 0 to 1.
    pub utilization: f64,
    /// See [`Autoscaler::target_burst_capacity`].
    pub target_burst_capacity: f64,
    /// See [`Autoscaler::stable_window`].
    pub window: Duration,
    /// See [`Autoscaler::panic_window_percentage`].
    pub panic_window_percentage: f64,
    /// See [`Autoscaler::panic_threshold_percentage`].
    pub panic_threshold_percentage: f64,
    /// See [`Autoscaler::scale_down_delay`].
    pub scale_down_delay: Duration,
    /// See [`Autoscaler::scale_to_zero_pod_retention_period`].
    pub retention: Duration,
    /// Whether the seconds of a window are weighed, the newer the more.
    pub weighted_exponential: bool,
    /// The least instances when there are any; 0 says nothing.
    pub activation_scale: u32,
    /// What it begins with.
    pub initial_scale: u32,
    /// The least instances.
    pub min_scale: u32,
    /// The most instances; 0 is no bound.
    pub max_scale: u32,
}

impl Settings {
    /// What `annotations` say over `config`.
    #[must_use]
    pub fn resolve(annotations: &Annotations, config: &Autoscaler) -> Self {
        let of = Reader(annotations);
        let class = annotations::CLASS.get(annotations);
        let class = class.unwrap_or(&config.pod_autoscaler_class);
        let metric = annotations::METRIC.get(annotations).unwrap_or(match class {
            annotations::CLASS_HPA => annotations::METRIC_CPU,
            _ => annotations::METRIC_CONCURRENCY,
        });
        let utilization = match metric {
            annotations::METRIC_RPS => UTILIZATION_OF_OTHERS,
            _ => config.container_concurrency_target_fraction,
        };
        let percentage = of.number(annotations::TARGET_UTILIZATION_PERCENTAGE);
        let algorithm = annotations::METRIC_AGGREGATION_ALGORITHM.get(annotations);
        let initial = of.scale(annotations::INITIAL_SCALE);
        Self {
            class: class.to_owned(),
            metric: metric.to_owned(),
            target: of.number(annotations::TARGET),
            utilization: percentage.map_or(utilization, |percentage| percentage / 100.0),
            target_burst_capacity: of
                .number(annotations::TARGET_BURST_CAPACITY)
                .unwrap_or(config.target_burst_capacity),
            window: of.duration(annotations::WINDOW).unwrap_or(config.stable_window),
            panic_window_percentage: of
                .number(annotations::PANIC_WINDOW_PERCENTAGE)
                .unwrap_or(config.panic_window_percentage),
            panic_threshold_percentage: of
                .number(annotations::PANIC_THRESHOLD_PERCENTAGE)
                .unwrap_or(config.panic_threshold_percentage),
            scale_down_delay: of
                .duration(annotations::SCALE_DOWN_DELAY)
                .unwrap_or(config.scale_down_delay),
            retention: of
                .duration(annotations::SCALE_TO_ZERO_POD_RETENTION_PERIOD)
                .unwrap_or(config.scale_to_zero_pod_retention_period),
            weighted_exponential: algorithm
                .is_some_and(|name| ["weighted-exponential", "weightedExponential"].contains(&name)),
            activation_scale: of.scale(annotations::ACTIVATION_SCALE).unwrap_or(0),
            initial_scale: initial
                .filter(|scale| *scale > 0 || config.allow_zero_initial_scale)
                .unwrap_or(config.initial_scale),
            min_scale: of.scale(annotations::MIN_SCALE).unwrap_or(config.min_scale),
            max_scale: of.scale(annotations::MAX_SCALE).unwrap_or(config.max_scale),
        }
    }
}

struct Reader<'a>(&'a Annotations);

impl Reader<'_> {
    fn parsed<T: FromStr>(&self, key: Key) -> Option<T> {
        key.get(self.0)?.parse().ok()
    }

    fn number(&self, key: Key) -> Option<f64> {
        self.parsed(key).filter(|number: &f64| number.is_finite())
    }

    fn scale(&self, key: Key) -> Option<u32> {
        self.parsed(key)
    }

    fn duration(&self, key: Key) -> Option<Duration> {
        self.parsed::<GoDuration>(key)?.to_std()
    }
}
