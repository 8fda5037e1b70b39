//! PodAutoscalers of class hpa: scaled by processor time or memory, as Kubernetes' HorizontalPodAutoscaler does it
//! (serving `pkg/reconciler/autoscaling/hpa/{hpa.go,resources/hpa.go}`). Never to zero.
//!
//! Only instances that stay are measured. What is made for each call is wanted at its minimum.

use super::status::{is_prepared, set_way};
use crate::kpa::deciders::{Counts, Instances};
use crate::object::{Meta, keep_times};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kittiwake_api::autoscaling::annotations::{METRIC_CPU, METRIC_MEMORY};
use kittiwake_api::autoscaling::pod_autoscaler::condition::{ACTIVE, SCALE_TARGET_INITIALIZED, SKS_READY};
use kittiwake_api::autoscaling::pod_autoscaler::{CONDITIONS, PodAutoscaler, PodAutoscalerStatus, reason};
use kittiwake_api::autoscaling::settings::Settings;
use kittiwake_api::meta;
use kittiwake_api::quantity::parse_milli_cpu;
use kittiwake_api::serving::Revision;
use kittiwake_autoscaler::hpa::{CPU_PERCENT_DEFAULT, HpaSpec, HpaTarget};
use kittiwake_autoscaler::serving_mode::ServingMode;
use std::collections::BTreeMap;

const MIB: f64 = 1_048_576.0;

/// The rules of one Revision. A percentage of processor time is of its request, or of its limit where it has none.
#[must_use]
pub fn spec(revision: &Revision, settings: &Settings, instances: Instances, reachable: bool) -> HpaSpec {
    let target = match (settings.metric.as_str(), settings.target) {
        _ if instances == Instances::PerCall => HpaTarget::Nothing,
        (METRIC_CPU, target) => match requested_cores(revision) {
            Some(cores) => HpaTarget::Cpu(cores * target.unwrap_or(CPU_PERCENT_DEFAULT).ceil() / 100.0),
            None => HpaTarget::Nothing,
        },
        (METRIC_MEMORY, Some(mebibytes)) => HpaTarget::Memory(mebibytes.trunc() * MIB),
        _ => HpaTarget::Nothing,
    };
    HpaSpec {
        target,
        min: if reachable { settings.min_scale } else { 0 },
        max: settings.max_scale,
        window: settings.own_window,
    }
}

/// What an instance asks for: all of its containers, and nothing where one of them does not say (kubernetes
/// `pkg/controller/podautoscaler/replica_calculator.go`, `calculatePodRequests`).
fn requested_cores(revision: &Revision) -> Option<f64> {
    let of = |map: &Option<BTreeMap<String, Quantity>>| map.as_ref()?.get("cpu").cloned();
    let of_container = |container: &Container| {
        let resources = container.resources.as_ref()?;
        let quantity = of(&resources.requests).or_else(|| of(&resources.limits))?;
        parse_milli_cpu(&quantity.0).ok()
    };
    let containers = revision.spec.pod_spec.containers.iter();
    let milli: u64 = containers.map(of_container).sum::<Option<_>>()?;
    #[expect(clippy::cast_precision_loss, reason = "no machine has so many cores")]
    let cores = milli as f64 / 1000.0;
    (cores > 0.0).then_some(cores)
}

/// The new status, when it differs.
#[must_use]
pub fn status(
    revision: &Revision,
    observed: &PodAutoscaler,
    desired: u32,
    counts: &Counts,
    instances: Instances,
    now: Timestamp,
) -> Option<PodAutoscalerStatus> {
    let old = observed.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let mut conditions = std::mem::take(&mut status.conditions);
    let mut manager = CONDITIONS.manage(&mut conditions, now);
    manager.initialize();
    let prepared = is_prepared(revision);
    if prepared {
        manager.mark_true(SKS_READY);
        manager.mark_true(SCALE_TARGET_INITIALIZED);
        manager.mark_true(ACTIVE);
    } else {
        manager.mark_unknown(ACTIVE, reason::QUEUED, reason::QUEUED_MESSAGE);
    }
    keep_times(&old.conditions, &mut conditions);
    let ready = match instances {
        Instances::Resident => counts.ready,
        Instances::PerCall if prepared => desired,
        Instances::PerCall => 0,
    };
    let shown = |count: u32| Some(i32::try_from(count).unwrap_or(i32::MAX));
    status.conditions = conditions;
    status.observed_generation = observed.metadata.generation;
    status.service_name = Some(revision.name_str().to_owned());
    status.desired_scale = shown(desired);
    status.actual_scale = shown(ready);
    status
        .annotations
        .insert(meta::REPLICAS_ANNOTATION.to_owned(), desired.to_string());
    // All activators, should the instances be gone (`hpa.go`).
    set_way(&mut status, ServingMode::Serve, 0);
    (status != old).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_api::config::autoscaler::Autoscaler;
    use serde_json::json;

    fn spec_of(resources: serde_json::Value, annotations: &[(&str, &str)]) -> HpaSpec {
        let revision = serde_json::from_value(json!({
            "apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": { "name": "r" },
            "spec": { "containers": [{ "name": "c", "resources": resources }] },
        }))
        .unwrap();
        let annotations = annotations
            .iter()
            .chain(&[("class", "hpa.autoscaling.knative.dev")])
            .map(|(key, value)| (format!("autoscaling.knative.dev/{key}"), (*value).to_owned()))
            .collect();
        let settings = Settings::resolve(&annotations, &Autoscaler::default());
        spec(&revision, &settings, Instances::Resident, true)
    }

    #[test]
    fn targets_are_parts_of_the_request_or_mebibytes() {
        let requests = json!({ "requests": { "cpu": "500m" }, "limits": { "cpu": "2" } });
        let limits = json!({ "limits": { "cpu": "2" } });
        for (resources, annotations, wanted) in [
            (&requests, &[][..], HpaTarget::Cpu(0.4)),
            (&requests, &[("target", "50")], HpaTarget::Cpu(0.25)),
            (&limits, &[("target", "50")], HpaTarget::Cpu(1.0)),
            (&json!({}), &[("target", "50")], HpaTarget::Nothing),
            (
                &requests,
                &[("metric", "memory"), ("target", "64")],
                HpaTarget::Memory(67_108_864.0),
            ),
            (&requests, &[("metric", "memory")], HpaTarget::Nothing),
            (
                &requests,
                &[("metric", "queue"), ("target", "64")],
                HpaTarget::Nothing,
            ),
        ] {
            assert_eq!(
                spec_of(resources.clone(), annotations).target,
                wanted,
                "{resources} {annotations:?}"
            );
        }
        let window = spec_of(
            requests,
            &[("window", "30s"), ("min-scale", "2"), ("max-scale", "7")],
        );
        assert_eq!(
            (window.window.unwrap().as_secs(), window.min, window.max),
            (30, 2, 7)
        );
        assert_eq!(spec_of(limits, &[]).window, None);
    }
}
