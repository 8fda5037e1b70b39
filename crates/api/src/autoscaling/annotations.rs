//! Autoscaling annotations: names, readers, and the values they may have
//! (serving `pkg/apis/autoscaling/{register,annotation_validation}.go`).

use super::GROUP;
use crate::admission::FieldErrors;
use crate::config::autoscaler::Autoscaler;
use crate::duration::GoDuration;
use std::collections::BTreeMap;
use std::num::IntErrorKind;

/// The annotations of an object.
pub type Annotations = BTreeMap<String, String>;

/// One annotation with all its spellings, the one that wins first (Knative's `kmap.KeyPriority`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(&'static [&'static str]);

impl Key {
    /// The spelling to write.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.first().copied().unwrap_or_default()
    }

    /// Every spelling, the one that wins first.
    #[must_use]
    pub fn names(self) -> &'static [&'static str] {
        self.0
    }

    /// The spelling that is there and its value.
    #[must_use]
    pub fn find(self, annotations: &Annotations) -> Option<(&'static str, &str)> {
        self.0
            .iter()
            .find_map(|name| annotations.get(*name).map(|value| (*name, value.as_str())))
    }

    /// The value.
    #[must_use]
    pub fn get(self, annotations: &Annotations) -> Option<&str> {
        self.find(annotations).map(|(_, value)| value)
    }
}

/// Which autoscaler: [`CLASS_KPA`], [`CLASS_HPA`] or a foreign one.
pub const CLASS: Key = Key(&["autoscaling.knative.dev/class"]);
/// Which metric: `concurrency` or `rps` for [`CLASS_KPA`].
pub const METRIC: Key = Key(&["autoscaling.knative.dev/metric"]);
/// Instances kept without traffic.
pub const MIN_SCALE: Key = Key(&[
    "autoscaling.knative.dev/min-scale",
    "autoscaling.knative.dev/minScale",
]);
/// Instances never exceeded; 0 is no bound.
pub const MAX_SCALE: Key = Key(&[
    "autoscaling.knative.dev/max-scale",
    "autoscaling.knative.dev/maxScale",
]);
/// Instances that a revision must reach once to be ready.
pub const INITIAL_SCALE: Key = Key(&[
    "autoscaling.knative.dev/initial-scale",
    "autoscaling.knative.dev/initialScale",
]);
/// Fewest instances when there are any.
pub const ACTIVATION_SCALE: Key = Key(&["autoscaling.knative.dev/activation-scale"]);
/// Wanted value of the metric per instance.
pub const TARGET: Key = Key(&["autoscaling.knative.dev/target"]);
/// How much of the target is used, in percent.
pub const TARGET_UTILIZATION_PERCENTAGE: Key = Key(&[
    "autoscaling.knative.dev/target-utilization-percentage",
    "autoscaling.knative.dev/targetUtilizationPercentage",
]);
/// Spare capacity kept for bursts; -1 is without end.
pub const TARGET_BURST_CAPACITY: Key = Key(&[
    "autoscaling.knative.dev/target-burst-capacity",
    "autoscaling.knative.dev/targetBurstCapacity",
]);
/// The time over which the metric is averaged.
pub const WINDOW: Key = Key(&["autoscaling.knative.dev/window"]);
/// The panic window in percent of the window.
pub const PANIC_WINDOW_PERCENTAGE: Key = Key(&[
    "autoscaling.knative.dev/panic-window-percentage",
    "autoscaling.knative.dev/panicWindowPercentage",
]);
/// The load, in percent of the target, from which the autoscaler panics.
pub const PANIC_THRESHOLD_PERCENTAGE: Key = Key(&[
    "autoscaling.knative.dev/panic-threshold-percentage",
    "autoscaling.knative.dev/panicThresholdPercentage",
]);
/// How long less load must last before instances go.
pub const SCALE_DOWN_DELAY: Key = Key(&[
    "autoscaling.knative.dev/scale-down-delay",
    "autoscaling.knative.dev/scaleDownDelay",
]);
/// How long the last instance stays after the decision to go to zero.
pub const SCALE_TO_ZERO_POD_RETENTION_PERIOD: Key = Key(&[
    "autoscaling.knative.dev/scale-to-zero-pod-retention-period",
    "autoscaling.knative.dev/scaleToZeroPodRetentionPeriod",
]);
/// How values in a window are weighed: `linear` or `weighted-exponential`.
pub const METRIC_AGGREGATION_ALGORITHM: Key = Key(&[
    "autoscaling.knative.dev/metric-aggregation-algorithm",
    "autoscaling.knative.dev/metricAggregationAlgorithm",
]);

/// Every annotation of the autoscaler.
pub const ALL: [Key; 15] = [
    CLASS,
    METRIC,
    MIN_SCALE,
    MAX_SCALE,
    INITIAL_SCALE,
    ACTIVATION_SCALE,
    TARGET,
    TARGET_UTILIZATION_PERCENTAGE,
    TARGET_BURST_CAPACITY,
    WINDOW,
    PANIC_WINDOW_PERCENTAGE,
    PANIC_THRESHOLD_PERCENTAGE,
    SCALE_DOWN_DELAY,
    SCALE_TO_ZERO_POD_RETENTION_PERIOD,
    METRIC_AGGREGATION_ALGORITHM,
];

/// [`CLASS`]: Knative's own autoscaler, the default.
pub const CLASS_KPA: &str = "kpa.autoscaling.knative.dev";
/// [`CLASS`]: Kubernetes' autoscaler.
pub const CLASS_HPA: &str = "hpa.autoscaling.knative.dev";
/// [`METRIC`]: calls in flight, the default of [`CLASS_KPA`].
pub const METRIC_CONCURRENCY: &str = "concurrency";
/// [`METRIC`]: calls per second.
pub const METRIC_RPS: &str = "rps";
/// [`METRIC`]: CPU, the default of [`CLASS_HPA`].
pub const METRIC_CPU: &str = "cpu";
/// [`METRIC`]: memory, of [`CLASS_HPA`]; its [`TARGET`] is in MiB.
pub const METRIC_MEMORY: &str = "memory";

/// The smallest [`TARGET`].
pub const TARGET_MIN: f64 = 0.01;
/// The shortest [`WINDOW`].
pub const WINDOW_MIN: GoDuration = GoDuration::from_secs(6);
/// The longest [`WINDOW`], [`SCALE_DOWN_DELAY`] and [`SCALE_TO_ZERO_POD_RETENTION_PERIOD`].
pub const WINDOW_MAX: GoDuration = GoDuration::from_secs(3600);

/// What is wrong with the autoscaling annotations among these, by what `config-autoscaler` allows: whether a revision
/// may begin with no instance, and how large its maximum may be. Paths are the annotations' names.
#[must_use]
pub fn validate(annotations: &Annotations, config: &Autoscaler) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for rule in [class, scales, numbers, durations, metric, algorithm] {
        errors.also(rule(annotations));
    }
    errors.also(initial_scale(annotations, config.allow_zero_initial_scale));
    errors.also(max_scale_limit(annotations, config.max_scale_limit));
    errors
}

/// With a limit, a maximum must be within it and there must be one (`validateMaxScale`). 0 is no limit.
fn max_scale_limit(annotations: &Annotations, limit: u32) -> FieldErrors {
    let Some((key, value)) = MAX_SCALE.find(annotations).filter(|_| limit > 0) else {
        return FieldErrors::none();
    };
    match value.parse::<u32>() {
        Ok(0) => FieldErrors::generic(
            "max-scale=0 (unlimited), must be less than or equal to the limit of the platform",
            &[key],
        ),
        Ok(max) if max > limit => FieldErrors::out_of_bounds(value, 1, limit, key),
        _ => FieldErrors::none(),
    }
}

fn class(annotations: &Annotations) -> FieldErrors {
    match CLASS.find(annotations) {
        Some((key, class)) if class.ends_with(".knative.dev") && class != CLASS_KPA && class != CLASS_HPA => {
            FieldErrors::invalid(class, key)
        }
        _ => FieldErrors::none(),
    }
}

/// An integer from 0 on; 0 when the annotation is absent or wrong.
fn scale(annotations: &Annotations, key: Key, errors: &mut FieldErrors) -> i32 {
    let Some((key, value)) = key.find(annotations) else {
        return 0;
    };
    let out_of_bounds = || FieldErrors::out_of_bounds(value, 0, i32::MAX, key);
    match value.parse::<i32>() {
        Ok(scale) if scale >= 0 => return scale,
        Ok(_) => errors.also(out_of_bounds()),
        Err(error) => match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => errors.also(out_of_bounds()),
            _ => errors.also(FieldErrors::invalid(value, key)),
        },
    }
    0
}

fn scales(annotations: &Annotations) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let min = scale(annotations, MIN_SCALE, &mut errors);
    let max = scale(annotations, MAX_SCALE, &mut errors);
    if max != 0 && max < min {
        let message = format!("max-scale={max} is less than min-scale={min}");
        errors.also(FieldErrors::generic(
            message,
            &[MAX_SCALE.name(), MIN_SCALE.name()],
        ));
    }
    let Some((key, value)) = ACTIVATION_SCALE.find(annotations) else {
        return errors;
    };
    match value.parse::<i32>() {
        Err(_) => errors.also(FieldErrors::invalid(value, key)),
        Ok(activation) => {
            let message = if min > activation {
                format!("min-scale={min} is greater than activation-scale={activation}")
            } else if max < activation && max != 0 {
                format!("max-scale={max} is less than activation-scale={activation}")
            } else if activation < 2 {
                format!("activation-scale={activation} must be greater than 1")
            } else {
                return errors;
            };
            errors.also(FieldErrors::generic(message, &[key]));
        }
    }
    errors
}

fn numbers(annotations: &Annotations) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for (key, lower, upper) in [
        (PANIC_WINDOW_PERCENTAGE, 1.0, 100.0),
        (PANIC_THRESHOLD_PERCENTAGE, 110.0, 1000.0),
        (TARGET_UTILIZATION_PERCENTAGE, 1.0, 100.0),
    ] {
        let Some((key, value)) = key.find(annotations) else {
            continue;
        };
        match number(value) {
            None => errors.also(FieldErrors::invalid(value, key)),
            Some(number) if number < lower || number > upper => {
                errors.also(FieldErrors::out_of_bounds(value, lower, upper, key));
            }
            Some(_) => {}
        }
    }
    if let Some((key, value)) = TARGET.find(annotations) {
        match number(value) {
            None => errors.also(FieldErrors::invalid(value, key)),
            Some(target) if target < TARGET_MIN => {
                let message = format!("target {value} should be at least {TARGET_MIN}");
                errors.also(FieldErrors::generic(message, &[key]));
            }
            Some(_) => {}
        }
    }
    if let Some((key, value)) = TARGET_BURST_CAPACITY.find(annotations)
        && number(value).is_none_or(|capacity| capacity < 0.0 && capacity != -1.0)
    {
        errors.also(FieldErrors::invalid(value, key));
    }
    errors
}

/// A number that is one: Go would also take `NaN`, which then passes every bound.
fn number(value: &str) -> Option<f64> {
    value.parse::<f64>().ok().filter(|number| number.is_finite())
}

fn durations(annotations: &Annotations) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for (key, lower, whole_seconds) in [
        (WINDOW, WINDOW_MIN, true),
        (SCALE_DOWN_DELAY, GoDuration::default(), true),
        (SCALE_TO_ZERO_POD_RETENTION_PERIOD, GoDuration::default(), false),
    ] {
        let Some((key, value)) = key.find(annotations) else {
            continue;
        };
        match value.parse::<GoDuration>() {
            Err(_) => errors.also(FieldErrors::invalid(value, key)),
            Ok(duration) if duration < lower || duration > WINDOW_MAX => {
                errors.also(FieldErrors::out_of_bounds(value, lower, WINDOW_MAX, key));
            }
            Ok(duration) if whole_seconds && !duration.is_whole_seconds() => {
                errors.also(FieldErrors::generic(
                    "must be specified with at most second precision",
                    &[key],
                ));
            }
            Ok(_) => {}
        }
    }
    errors
}

fn metric(annotations: &Annotations) -> FieldErrors {
    let Some((key, metric)) = METRIC.find(annotations) else {
        return FieldErrors::none();
    };
    let good = match CLASS.get(annotations).unwrap_or(CLASS_KPA) {
        CLASS_KPA => metric == METRIC_CONCURRENCY || metric == METRIC_RPS,
        CLASS_HPA => !metric.is_empty(),
        _ => true,
    };
    if good {
        FieldErrors::none()
    } else {
        FieldErrors::invalid(metric, key)
    }
}

fn algorithm(annotations: &Annotations) -> FieldErrors {
    if CLASS.get(annotations).is_some_and(|class| class != CLASS_KPA) {
        return FieldErrors::none();
    }
    match METRIC_AGGREGATION_ALGORITHM.find(annotations) {
        Some((key, name))
            if !["", "linear", "weighted-exponential", "weightedExponential"].contains(&name) =>
        {
            FieldErrors::invalid(name, key)
        }
        _ => FieldErrors::none(),
    }
}

fn initial_scale(annotations: &Annotations, zero_allowed: bool) -> FieldErrors {
    let Some((key, value)) = INITIAL_SCALE.find(annotations) else {
        return FieldErrors::none();
    };
    match value.parse::<i32>() {
        Err(_) => FieldErrors::invalid(value, key),
        Ok(..0) => FieldErrors::invalid_because(value, key, "must be greater than 0"),
        Ok(0) if zero_allowed => FieldErrors::none(),
        Ok(0) => FieldErrors::invalid_because(value, key, "0 is not allowed by this platform"),
        Ok(1..) => FieldErrors::none(),
    }
}

/// Whether an annotation is one for the autoscaler.
#[must_use]
pub fn is_autoscaling(name: &str) -> bool {
    name.starts_with(GROUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(pairs: &[(&str, &str)]) -> String {
        let annotations = pairs
            .iter()
            .map(|(k, v)| (format!("{GROUP}/{k}"), (*v).to_owned()))
            .collect();
        validate(&annotations, &Autoscaler::default())
            .to_string()
            .replace(&format!("{GROUP}/"), "a/")
            .trim_start_matches("validation failed: ")
            .to_owned()
    }

    #[test]
    fn good_values_pass() {
        for pairs in [
            &[("minScale", "0"), ("maxScale", "1000")][..],
            &[("min-scale", "1"), ("max-scale", "0")],
            &[("min-scale", "2"), ("max-scale", "2"), ("activation-scale", "2")],
            &[("class", CLASS_HPA), ("metric", "memory")],
            &[("class", "mine.example.com"), ("metric", "")],
            &[("metric", "rps"), ("target", "0.01")],
            &[("target-burst-capacity", "-1")],
            &[("targetBurstCapacity", "0")],
            &[
                ("target-utilization-percentage", "100"),
                ("panic-window-percentage", "1.5"),
            ],
            &[("panicThresholdPercentage", "110.0")],
            &[("window", "6s")],
            &[
                ("window", "1h"),
                ("scale-down-delay", "0"),
                ("scale-to-zero-pod-retention-period", "1.5s"),
            ],
            &[("metric-aggregation-algorithm", "weightedExponential")],
            &[("initial-scale", "3")],
        ] {
            assert_eq!(errors(pairs), "", "{pairs:?}");
        }
    }

    #[test]
    fn bad_values_are_named() {
        for (pairs, wanted) in [
            (
                &[("min-scale", "-1")][..],
                "expected 0 <= -1 <= 2147483647: a/min-scale",
            ),
            (&[("minScale", "1.5")], "invalid value: 1.5: a/minScale"),
            (
                &[("max-scale", "99999999999")],
                "expected 0 <= 99999999999 <= 2147483647: a/max-scale",
            ),
            (
                &[("min-scale", "3"), ("maxScale", "2")],
                "max-scale=2 is less than min-scale=3: a/max-scale, a/min-scale",
            ),
            (
                &[("min-scale", "3"), ("activation-scale", "2")],
                "min-scale=3 is greater than activation-scale=2: a/activation-scale",
            ),
            (
                &[("max-scale", "3"), ("activation-scale", "4")],
                "max-scale=3 is less than activation-scale=4: a/activation-scale",
            ),
            (
                &[("activation-scale", "1")],
                "activation-scale=1 must be greater than 1: a/activation-scale",
            ),
            (
                &[("activation-scale", "x")],
                "invalid value: x: a/activation-scale",
            ),
            (
                &[("class", "foo.autoscaling.knative.dev")],
                "invalid value: foo.autoscaling.knative.dev: a/class",
            ),
            (&[("metric", "cpu")], "invalid value: cpu: a/metric"),
            (
                &[("class", CLASS_HPA), ("metric", "")],
                "invalid value: : a/metric",
            ),
            (&[("target", "0")], "target 0 should be at least 0.01: a/target"),
            (&[("target", "NaN")], "invalid value: NaN: a/target"),
            (
                &[("target-burst-capacity", "-2")],
                "invalid value: -2: a/target-burst-capacity",
            ),
            (
                &[("target-utilization-percentage", "0")],
                "expected 1 <= 0 <= 100: a/target-utilization-percentage",
            ),
            (
                &[("targetUtilizationPercentage", "x")],
                "invalid value: x: a/targetUtilizationPercentage",
            ),
            (
                &[("panic-window-percentage", "101")],
                "expected 1 <= 101 <= 100: a/panic-window-percentage",
            ),
            (
                &[("panic-threshold-percentage", "109")],
                "expected 110 <= 109 <= 1000: a/panic-threshold-percentage",
            ),
            (&[("window", "5s")], "expected 6s <= 5s <= 1h0m0s: a/window"),
            (&[("window", "61m")], "expected 6s <= 61m <= 1h0m0s: a/window"),
            (&[("window", "60")], "invalid value: 60: a/window"),
            (
                &[("window", "6500ms")],
                "must be specified with at most second precision: a/window",
            ),
            (
                &[("scale-down-delay", "-1s")],
                "expected 0s <= -1s <= 1h0m0s: a/scale-down-delay",
            ),
            (
                &[("scaleDownDelay", "1.5s")],
                "must be specified with at most second precision: a/scaleDownDelay",
            ),
            (
                &[("scaleToZeroPodRetentionPeriod", "2h")],
                "expected 0s <= 2h <= 1h0m0s: a/scaleToZeroPodRetentionPeriod",
            ),
            (
                &[("metric-aggregation-algorithm", "median")],
                "invalid value: median: a/metric-aggregation-algorithm",
            ),
            (
                &[("initial-scale", "-1")],
                "invalid value: -1: a/initial-scale\nmust be greater than 0",
            ),
            (
                &[("initialScale", "0")],
                "invalid value: 0: a/initialScale\n0 is not allowed by this platform",
            ),
            (&[("initial-scale", "one")], "invalid value: one: a/initial-scale"),
        ] {
            assert_eq!(errors(pairs), wanted, "{pairs:?}");
        }
    }

    #[test]
    fn the_first_spelling_wins() {
        let annotations: Annotations = [("min-scale", "1"), ("minScale", "2")]
            .map(|(k, v)| (format!("{GROUP}/{k}"), v.to_owned()))
            .into();
        assert_eq!(MIN_SCALE.get(&annotations), Some("1"));
        assert_eq!(MAX_SCALE.get(&annotations), None);
    }
}
