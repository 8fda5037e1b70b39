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
    /// Annotation `window`.
    pub own_window: Option<Duration>,
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
            own_window: of.duration(annotations::WINDOW),
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

#[cfg(test)]
mod tests {
    use super::*;
    use annotations::{CLASS_HPA, CLASS_KPA};

    fn resolve(pairs: &[(&str, &str)], config: &Autoscaler) -> Settings {
        let annotations = pairs
            .iter()
            .map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), (*value).to_owned()))
            .collect();
        Settings::resolve(&annotations, config)
    }

    #[test]
    fn what_is_not_said_is_the_configs() {
        let config = Autoscaler {
            min_scale: 1,
            max_scale: 9,
            initial_scale: 4,
            target_burst_capacity: 0.0,
            stable_window: Duration::from_secs(30),
            ..Autoscaler::default()
        };
        let settings = resolve(&[], &config);
        assert_eq!(
            (settings.class.as_str(), settings.metric.as_str()),
            (CLASS_KPA, "concurrency")
        );
        assert_eq!(
            (settings.min_scale, settings.max_scale, settings.initial_scale),
            (1, 9, 4)
        );
        assert_eq!((settings.target, settings.utilization), (None, 0.7));
        assert_eq!(
            (settings.target_burst_capacity, settings.window.as_secs()),
            (0.0, 30)
        );
    }

    #[test]
    fn annotations_win_in_both_spellings() {
        let settings = resolve(
            &[
                ("minScale", "2"),
                ("max-scale", "20"),
                ("initialScale", "3"),
                ("targetUtilizationPercentage", "50"),
                ("target", "7.5"),
                ("targetBurstCapacity", "-1"),
                ("window", "2m"),
                ("panicWindowPercentage", "20"),
                ("panic-threshold-percentage", "300"),
                ("scaleDownDelay", "15s"),
                ("scale-to-zero-pod-retention-period", "1m5s"),
                ("metric-aggregation-algorithm", "weightedExponential"),
                ("activation-scale", "5"),
            ],
            &Autoscaler::default(),
        );
        assert_eq!(
            (settings.min_scale, settings.max_scale, settings.initial_scale),
            (2, 20, 3)
        );
        assert_eq!((settings.target, settings.utilization), (Some(7.5), 0.5));
        assert_eq!(
            (settings.target_burst_capacity, settings.window.as_secs()),
            (-1.0, 120)
        );
        assert_eq!(
            (
                settings.panic_window_percentage,
                settings.panic_threshold_percentage
            ),
            (20.0, 300.0)
        );
        assert_eq!(
            (settings.scale_down_delay.as_secs(), settings.retention.as_secs()),
            (15, 65)
        );
        assert!(settings.weighted_exponential && settings.activation_scale == 5);
    }

    #[test]
    fn zero_to_begin_with_must_be_allowed() {
        let mut config = Autoscaler::default();
        assert_eq!(resolve(&[("initial-scale", "0")], &config).initial_scale, 1);
        config.allow_zero_initial_scale = true;
        assert_eq!(resolve(&[("initial-scale", "0")], &config).initial_scale, 0);
    }

    #[test]
    fn each_class_has_its_metric_and_each_metric_its_utilization() {
        let config = Autoscaler {
            container_concurrency_target_fraction: 0.9,
            ..Autoscaler::default()
        };
        assert_eq!(resolve(&[("class", CLASS_HPA)], &config).metric, "cpu");
        assert_eq!(resolve(&[("metric", "rps")], &config).utilization, 0.7);
        assert_eq!(resolve(&[("metric", "concurrency")], &config).utilization, 0.9);
    }
}
