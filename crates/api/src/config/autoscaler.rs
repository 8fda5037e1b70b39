//! ConfigMap `config-autoscaler` (serving `pkg/autoscaler/config/config.go`).

use super::reader::{self, ConfigError};
use crate::autoscaling::annotations::{CLASS_KPA, TARGET_MIN, WINDOW_MAX, WINDOW_MIN};
use crate::duration::GoDuration;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// The ConfigMap's name.
pub const NAME: &str = "config-autoscaler";
/// The part of the total that is aimed at for metrics other than concurrency. Nothing sets it but the annotation.
pub const UTILIZATION_OF_OTHERS: f64 = 0.7;

/// What revisions get whose annotations say nothing. Percentages are kept as parts of 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Autoscaler {
    /// `pod-autoscaler-class`. Default `kpa.autoscaling.knative.dev`.
    pub pod_autoscaler_class: String,
    /// `enable-scale-to-zero`. Default true; otherwise one instance stays.
    pub enable_scale_to_zero: bool,
    /// `allow-zero-initial-scale`: whether a revision may begin with no instance. Default false.
    pub allow_zero_initial_scale: bool,
    /// `max-scale-up-rate`: the largest factor of one decision. Default 1000, more than 1.
    pub max_scale_up_rate: f64,
    /// `max-scale-down-rate`: the largest divisor of one decision. Default 2, more than 1.
    pub max_scale_down_rate: f64,
    /// `container-concurrency-target-percentage`: the part of an instance's concurrency that is aimed at, in (0, 1].
    /// Default 0.7; written as percentage, or as a part of 1.
    pub container_concurrency_target_fraction: f64,
    /// `container-concurrency-target-default`: calls under way that an instance without limit can take. Default 100.
    pub container_concurrency_target_default: f64,
    /// `requests-per-second-target-default`. Default 200.
    pub requests_per_second_target_default: f64,
    /// `target-burst-capacity`: calls that must fit in at once beside the load. Default 211; 0 for none, -1 for any number.
    pub target_burst_capacity: f64,
    /// `panic-window-percentage` of the stable window. Default 10, from 1 to 100.
    pub panic_window_percentage: f64,
    /// `panic-threshold-percentage`. Default 200.
    pub panic_threshold_percentage: f64,
    /// `activator-capacity`: calls under way that one activator takes. Default 100, at least 1.
    pub activator_capacity: f64,
    /// `initial-scale`. Default 1.
    pub initial_scale: u32,
    /// `min-scale`. Default 0.
    pub min_scale: u32,
    /// `max-scale`. Default 0: no bound.
    pub max_scale: u32,
    /// `max-scale-limit`: the largest `max-scale` that a revision may ask for. Default 0: none.
    pub max_scale_limit: u32,
    /// `stable-window`. Default 60 s, from 6 s to 1 h, whole seconds.
    pub stable_window: Duration,
    /// `scale-down-delay`. Default 0 s, whole seconds.
    pub scale_down_delay: Duration,
    /// `scale-to-zero-grace-period`. Default 30 s, more than 0.
    pub scale_to_zero_grace_period: Duration,
    /// `scale-to-zero-pod-retention-period`. Default 0 s.
    pub scale_to_zero_pod_retention_period: Duration,
}

impl Default for Autoscaler {
    fn default() -> Self {
        Self {
            pod_autoscaler_class: CLASS_KPA.to_owned(),
            enable_scale_to_zero: true,
            allow_zero_initial_scale: false,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            container_concurrency_target_fraction: 0.7,
            container_concurrency_target_default: 100.0,
            requests_per_second_target_default: 200.0,
            target_burst_capacity: 211.0,
            panic_window_percentage: 10.0,
            panic_threshold_percentage: 200.0,
            activator_capacity: 100.0,
            initial_scale: 1,
            min_scale: 0,
            max_scale: 0,
            max_scale_limit: 0,
            stable_window: Duration::from_secs(60),
            scale_down_delay: Duration::ZERO,
            scale_to_zero_grace_period: Duration::from_secs(30),
            scale_to_zero_pod_retention_period: Duration::ZERO,
        }
    }
}

/// Every key that is read.
pub const KEYS: [&str; 20] = [
    "pod-autoscaler-class",
    "enable-scale-to-zero",
    "allow-zero-initial-scale",
    "max-scale-up-rate",
    "max-scale-down-rate",
    "container-concurrency-target-percentage",
    "container-concurrency-target-default",
    "requests-per-second-target-default",
    "target-burst-capacity",
    "panic-window-percentage",
    "panic-threshold-percentage",
    "activator-capacity",
    "initial-scale",
    "min-scale",
    "max-scale",
    "max-scale-limit",
    "stable-window",
    "scale-down-delay",
    "scale-to-zero-grace-period",
    "scale-to-zero-pod-retention-period",
];

impl Autoscaler {
    /// Reads a ConfigMap's data over the defaults. Keys that nobody knows say nothing, as in Knative (`_example` is
    /// one).
    ///
    /// # Errors
    /// Names the first key that has no good value.
    pub fn from_data(data: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let data = Data(data);
        let mut config = Self::default();
        if let Some(class) = data.0.get("pod-autoscaler-class") {
            config.pod_autoscaler_class.clone_from(class);
        }
        for (key, field) in [
            ("enable-scale-to-zero", &mut config.enable_scale_to_zero),
            ("allow-zero-initial-scale", &mut config.allow_zero_initial_scale),
        ] {
            *field = data.flag(key)?.unwrap_or(*field);
        }
        let fraction = &mut config.container_concurrency_target_fraction;
        for (key, field) in [
            ("max-scale-up-rate", &mut config.max_scale_up_rate),
            ("max-scale-down-rate", &mut config.max_scale_down_rate),
            ("container-concurrency-target-percentage", &mut *fraction),
            (
                "container-concurrency-target-default",
                &mut config.container_concurrency_target_default,
            ),
            (
                "requests-per-second-target-default",
                &mut config.requests_per_second_target_default,
            ),
            ("target-burst-capacity", &mut config.target_burst_capacity),
            ("panic-window-percentage", &mut config.panic_window_percentage),
            (
                "panic-threshold-percentage",
                &mut config.panic_threshold_percentage,
            ),
            ("activator-capacity", &mut config.activator_capacity),
        ] {
            *field = data.number(key)?.unwrap_or(*field);
        }
        // For old times' sake a value up to 1 is no percentage.
        if *fraction > 1.0 {
            *fraction /= 100.0;
        }
        for (key, field) in [
            ("initial-scale", &mut config.initial_scale),
            ("min-scale", &mut config.min_scale),
            ("max-scale", &mut config.max_scale),
            ("max-scale-limit", &mut config.max_scale_limit),
        ] {
            *field = data.scale(key)?.unwrap_or(*field);
        }
        for (key, field) in [
            ("stable-window", &mut config.stable_window),
            ("scale-down-delay", &mut config.scale_down_delay),
            (
                "scale-to-zero-grace-period",
                &mut config.scale_to_zero_grace_period,
            ),
            (
                "scale-to-zero-pod-retention-period",
                &mut config.scale_to_zero_pod_retention_period,
            ),
        ] {
            *field = data.duration(key)?.unwrap_or(*field);
        }
        config.check(&data)?;
        Ok(config)
    }

    fn check(&self, data: &Data<'_>) -> Result<(), ConfigError> {
        self.check_rates(data)?;
        self.check_times(data)?;
        self.check_scales(data)
    }

    fn check_rates(&self, data: &Data<'_>) -> Result<(), ConfigError> {
        let burst = self.target_burst_capacity;
        let fraction = self.container_concurrency_target_fraction;
        let target = fraction * self.container_concurrency_target_default;
        data.demand(
            burst >= 0.0 || burst == -1.0,
            "target-burst-capacity",
            burst,
            "must be either non-negative or -1 (for unlimited)",
        )?;
        data.demand(
            fraction > 0.0 && fraction <= 1.0,
            "container-concurrency-target-percentage",
            fraction,
            "is outside of the valid range (0, 100]",
        )?;
        data.demand(
            target >= TARGET_MIN,
            "container-concurrency-target-default",
            self.container_concurrency_target_default,
            format!("with container-concurrency-target-percentage gives a target of {target}, which must be at least {TARGET_MIN}"),
        )?;
        data.demand(
            self.requests_per_second_target_default >= TARGET_MIN,
            "requests-per-second-target-default",
            self.requests_per_second_target_default,
            format!("must be at least {TARGET_MIN}"),
        )?;
        data.demand(
            self.activator_capacity >= 1.0,
            "activator-capacity",
            self.activator_capacity,
            "must be at least 1",
        )?;
        for (key, rate) in [
            ("max-scale-up-rate", self.max_scale_up_rate),
            ("max-scale-down-rate", self.max_scale_down_rate),
        ] {
            data.demand(rate > 1.0, key, rate, "must be greater than 1.0")?;
        }
        data.demand_within(
            1.0..=100.0,
            "panic-window-percentage",
            self.panic_window_percentage,
        )
    }

    fn check_times(&self, data: &Data<'_>) -> Result<(), ConfigError> {
        let window = self.stable_window;
        let range = WINDOW_MIN.to_std().unwrap_or_default()..=WINDOW_MAX.to_std().unwrap_or_default();
        data.demand(
            range.contains(&window),
            "stable-window",
            window.as_secs_f64(),
            format!("must be within {WINDOW_MIN} and {WINDOW_MAX}"),
        )?;
        for (key, duration) in [
            ("stable-window", window),
            ("scale-down-delay", self.scale_down_delay),
        ] {
            data.demand(
                duration.subsec_nanos() == 0,
                key,
                duration.as_secs_f64(),
                "must be specified with at most second precision",
            )?;
        }
        data.demand(
            !self.scale_to_zero_grace_period.is_zero(),
            "scale-to-zero-grace-period",
            0,
            "must be positive",
        )
    }

    fn check_scales(&self, data: &Data<'_>) -> Result<(), ConfigError> {
        let (min, max, limit) = (self.min_scale, self.max_scale, self.max_scale_limit);
        data.demand(
            self.initial_scale > 0 || self.allow_zero_initial_scale,
            "initial-scale",
            self.initial_scale,
            "must be at least 1 while allow-zero-initial-scale is false",
        )?;
        data.demand(
            limit == 0 || (1..=limit).contains(&max),
            "max-scale",
            max,
            format!("must be within 1 and max-scale-limit, which is {limit}"),
        )?;
        data.demand(
            max == 0 || min <= max,
            "min-scale",
            min,
            format!("must not be greater than max-scale, which is {max}"),
        )
    }
}

struct Data<'a>(&'a BTreeMap<String, String>);

impl Data<'_> {
    fn error(&self, key: &'static str, value: impl Display, problem: impl Display) -> ConfigError {
        let value = self.0.get(key).cloned().unwrap_or_else(|| value.to_string());
        let message = format!("{key} = {value:?}: {problem}");
        ConfigError::new(key, value, message)
    }

    fn demand(
        &self,
        good: bool,
        key: &'static str,
        value: impl Display,
        problem: impl Display,
    ) -> Result<(), ConfigError> {
        if good {
            Ok(())
        } else {
            Err(self.error(key, value, problem))
        }
    }

    fn demand_within(
        &self,
        range: RangeInclusive<f64>,
        key: &'static str,
        value: f64,
    ) -> Result<(), ConfigError> {
        let problem = format!("must be within {} and {}", range.start(), range.end());
        self.demand(range.contains(&value), key, value, problem)
    }

    fn parsed<T: FromStr>(&self, key: &'static str, what: &str) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.0.get(key) else {
            return Ok(None);
        };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(self.error(key, "", format!("is not {what}"))),
        }
    }

    fn flag(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(text) = self.0.get(key) else {
            return Ok(None);
        };
        let flag = reader::boolean(text);
        flag.map(Some)
            .ok_or_else(|| self.error(key, "", "is neither true nor false"))
    }

    /// A number that is one: Go would also take `NaN` and `Inf`.
    fn number(&self, key: &'static str) -> Result<Option<f64>, ConfigError> {
        match self.parsed::<f64>(key, "a number")? {
            Some(number) if !number.is_finite() => Err(self.error(key, number, "is not a number")),
            number => Ok(number),
        }
    }

    fn scale(&self, key: &'static str) -> Result<Option<u32>, ConfigError> {
        let what = format!("a whole number within 0 and {}", i32::MAX);
        match self.parsed::<i32>(key, &what)? {
            None => Ok(None),
            Some(scale) => match u32::try_from(scale) {
                Ok(scale) => Ok(Some(scale)),
                Err(_) => Err(self.error(key, scale, "must be at least 0")),
            },
        }
    }

    fn duration(&self, key: &'static str) -> Result<Option<Duration>, ConfigError> {
        let what = "a duration; write a number with a unit, such as 60s or 1h30m";
        match self.parsed::<GoDuration>(key, what)? {
            None => Ok(None),
            Some(duration) => match duration.to_std() {
                Some(duration) => Ok(Some(duration)),
                None => Err(self.error(key, duration, "must not be negative")),
            },
        }
    }
}

#[cfg(test)]
#[path = "autoscaler_tests.rs"]
mod tests;
