//! What a PodAutoscaler says → the rules that the arithmetic goes by
//! (serving `pkg/reconciler/autoscaling/kpa/resources/decider.go`, `pkg/reconciler/autoscaling/resources/metric.go`).

use crate::object::Meta;
use kittiwake_api::autoscaling::annotations::METRIC_RPS;
use kittiwake_api::autoscaling::pod_autoscaler::{PodAutoscaler, REACHABILITY_UNREACHABLE};
use kittiwake_api::autoscaling::settings::Settings;
use kittiwake_api::config::autoscaler::Autoscaler;
use kittiwake_api::meta;
use kittiwake_autoscaler::decider::DeciderSpec;
use kittiwake_autoscaler::metric::{Metric, panic_window};
use kittiwake_autoscaler::scale_to_zero;
use kittiwake_autoscaler::serving_mode;
use kittiwake_autoscaler::target::{self, TargetInputs};
use kittiwake_autoscaler::window::Aggregation;
use std::time::Duration;

/// What is set about the scaling of one Revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// By which it is decided.
    pub decider: DeciderSpec,
    /// By which decisions are applied.
    pub scale: scale_to_zero::Rules,
    /// `activator-capacity`: calls under way that one activator takes.
    pub activator_capacity: f64,
}

impl Rules {
    /// Activators that carry so many ready instances and the target burst.
    #[must_use]
    pub fn activators(&self, ready: u32) -> u32 {
        let DeciderSpec {
            target,
            target_burst_capacity,
            ..
        } = &self.decider;
        serving_mode::activators(
            ready,
            target.total,
            *target_burst_capacity,
            self.activator_capacity,
        )
    }
}

/// The rules of one PodAutoscaler. `progress_deadline` is that of Revisions without an annotation of their own.
#[must_use]
pub fn of(
    object: &PodAutoscaler,
    settings: &Settings,
    config: &Autoscaler,
    progress_deadline: Duration,
) -> Rules {
    let concurrency = object.spec.container_concurrency.unwrap_or(0);
    let deadline = object.duration_annotation(meta::PROGRESS_DEADLINE_ANNOTATION);
    rules(
        settings,
        config,
        u32::try_from(concurrency).unwrap_or(0),
        object.spec.reachability.as_deref() != Some(REACHABILITY_UNREACHABLE),
        deadline.unwrap_or(progress_deadline),
    )
}

/// The rules that follow from settings.
#[must_use]
pub fn rules(
    settings: &Settings,
    config: &Autoscaler,
    container_concurrency: u32,
    reachable: bool,
    progress_deadline: Duration,
) -> Rules {
    let metric = if settings.metric == METRIC_RPS {
        Metric::Rps
    } else {
        Metric::Concurrency
    };
    let decider = DeciderSpec {
        metric,
        aggregation: if settings.weighted_exponential {
            Aggregation::WeightedExponential
        } else {
            Aggregation::Linear
        },
        target: target::resolve(&TargetInputs {
            metric,
            container_concurrency,
            annotation: settings.target,
            utilization: settings.utilization,
            concurrency_default: config.container_concurrency_target_default,
            rps_default: config.requests_per_second_target_default,
        }),
        stable_window: settings.window,
        panic_window: panic_window(settings.window, settings.panic_window_percentage),
        panic_threshold: settings.panic_threshold_percentage / 100.0,
        target_burst_capacity: settings.target_burst_capacity,
        max_scale_up_rate: config.max_scale_up_rate,
        max_scale_down_rate: config.max_scale_down_rate,
        scale_down_delay: settings.scale_down_delay,
        activation_scale: settings.activation_scale,
        initial_scale: settings.initial_scale,
        reachable,
    };
    let scale = scale_to_zero::Rules {
        min: settings.min_scale,
        max: settings.max_scale,
        initial: settings.initial_scale,
        reachable,
        enable_scale_to_zero: config.enable_scale_to_zero,
        grace: config.scale_to_zero_grace_period,
        retention: settings.retention,
        stable_window: settings.window,
        progress_deadline,
    };
    Rules {
        decider,
        scale,
        activator_capacity: config.activator_capacity,
    }
}
