//! What one instance shall carry (serving `pkg/reconciler/autoscaling/resources/target.go`).

use crate::metric::Metric;

/// The smallest target.
pub const TARGET_MIN: f64 = 0.01;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TargetInputs {
    /// What is measured.
    pub metric: Metric,
    /// `containerConcurrency`; 0 is no limit.
    pub container_concurrency: u32,
    /// Annotation `target`.
    pub annotation: Option<f64>,
    /// The part of the total that is aimed at, 0 to 1.
    pub utilization: f64,
    /// `container-concurrency-target-default`.
    pub concurrency_default: f64,
    /// `requests-per-second-target-default`.
    pub rps_default: f64,
}

/// What one instance shall and can carry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// The value that is aimed at.
    pub target: f64,
    /// The most that it can take.
    pub total: f64,
}

/// The target of a revision. An annotation may ask for more concurrency than the default only where the container
/// itself has no limit.
#[must_use]
pub fn resolve(inputs: &TargetInputs) -> Target {
    let limit = f64::from(inputs.container_concurrency);
    let total = match (inputs.metric, inputs.annotation) {
        (Metric::Rps, None) => inputs.rps_default,
        (Metric::Rps, Some(target)) => target,
        (Metric::Concurrency, None) if limit > 0.0 => limit,
        (Metric::Concurrency, None) => inputs.concurrency_default,
        (Metric::Concurrency, Some(target)) if limit > 0.0 => target.min(limit),
        (Metric::Concurrency, Some(target)) => target,
    };
    Target {
        target: (total * inputs.utilization).max(TARGET_MIN),
        total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_defaults_and_annotations() {
        let inputs = TargetInputs {
            metric: Metric::Concurrency,
            container_concurrency: 0,
            annotation: None,
            utilization: 0.7,
            concurrency_default: 100.0,
            rps_default: 200.0,
        };
        // (metric, containerConcurrency, annotation, utilization) → (target, total)
        for (metric, limit, annotation, utilization, target, total) in [
            (Metric::Concurrency, 0, None, 0.7, 70.0, 100.0),
            (Metric::Concurrency, 10, None, 0.7, 7.0, 10.0),
            (Metric::Concurrency, 10, Some(4.0), 0.5, 2.0, 4.0),
            (Metric::Concurrency, 10, Some(40.0), 0.5, 5.0, 10.0),
            (Metric::Concurrency, 0, Some(500.0), 1.0, 500.0, 500.0),
            (Metric::Concurrency, 0, Some(0.01), 0.01, 0.01, 0.01),
            (Metric::Rps, 10, None, 0.75, 150.0, 200.0),
            (Metric::Rps, 10, Some(1000.0), 0.75, 750.0, 1000.0),
        ] {
            let inputs = TargetInputs {
                metric,
                container_concurrency: limit,
                annotation,
                utilization,
                ..inputs
            };
            assert_eq!(resolve(&inputs), Target { target, total }, "{inputs:?}");
        }
    }
}
