//! What a user's PodAutoscaler is told.

use crate::object::{Meta, keep_times};
use jiff::Timestamp;
use kittiwake_api::autoscaling::pod_autoscaler::PodAutoscaler as RevisionPodAutoscaler;
use kittiwake_api::autoscaling::user_pod_autoscaler::condition::TARGET_FOUND;
use kittiwake_api::autoscaling::user_pod_autoscaler::{
    CONDITIONS, PodAutoscaler, PodAutoscalerStatus, reason,
};
use std::sync::Arc;

/// The one of several PodAutoscalers of one Service that counts: the oldest, by name where they are equally old.
#[must_use]
pub fn oldest(rivals: &[Arc<PodAutoscaler>]) -> Option<&PodAutoscaler> {
    rivals
        .iter()
        .map(|rival| &**rival)
        .filter(|rival| !rival.is_being_deleted())
        .min_by_key(|rival| {
            (
                rival.metadata.creation_timestamp.as_ref().map(|time| time.0),
                rival.metadata.name.clone(),
            )
        })
}

/// Instances of all Revisions of a Service together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scale {
    /// Those that are wanted.
    pub desired: i32,
    /// Those that are ready.
    pub actual: i32,
}

impl Scale {
    /// The sum over the Revisions' own PodAutoscalers; what is not known yet counts nothing.
    #[must_use]
    pub fn of(objects: &[Arc<RevisionPodAutoscaler>]) -> Self {
        let mut sum = Self::default();
        for status in objects.iter().filter_map(|object| object.status.as_ref()) {
            sum.desired = sum
                .desired
                .saturating_add(status.desired_scale.unwrap_or(0).max(0));
            sum.actual = sum.actual.saturating_add(status.actual_scale.unwrap_or(0).max(0));
        }
        sum
    }
}

/// The new status, when it differs. `found`: the Service exists; `first`: the PodAutoscaler that counts for it.
#[must_use]
pub fn plan(
    object: &PodAutoscaler,
    found: bool,
    first: Option<&PodAutoscaler>,
    scale: Scale,
    now: Timestamp,
) -> Option<PodAutoscalerStatus> {
    let old = object.status.clone().unwrap_or_default();
    let mut status = old.clone();
    let mut conditions = std::mem::take(&mut status.conditions);
    let mut manager = CONDITIONS.manage(&mut conditions, now);
    manager.initialize();
    let target = object.spec.scale_target_ref.name.as_deref().unwrap_or_default();
    let first = first
        .map(Meta::name_str)
        .filter(|first| *first != object.name_str());
    let counts = found && first.is_none();
    status.desired_scale = counts.then_some(scale.desired);
    status.actual_scale = counts.then_some(scale.actual);
    if !found {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let message = format!(
            "spec.scaleTargetRef: there is no Service {target:?} in namespace {namespace:?}; it is used once it is there."
        );
        manager.mark_false(TARGET_FOUND, reason::TARGET_NOT_FOUND, &message);
    } else if let Some(first) = first {
        let message = format!(
            "spec.scaleTargetRef: Service {target:?} is already scaled by PodAutoscaler {first:?}, which is older."
        );
        manager.mark_false(TARGET_FOUND, reason::TARGET_TAKEN, &message);
    } else {
        manager.mark_true(TARGET_FOUND);
    }
    keep_times(&old.conditions, &mut conditions);
    status.conditions = conditions;
    status.observed_generation = object.metadata.generation;
    (status != old).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_api::condition::{READY, find};

    const SCALE: Scale = Scale {
        desired: 3,
        actual: 2,
    };

    fn object(name: &str) -> PodAutoscaler {
        let mut object = PodAutoscaler::new(name, Default::default());
        object.metadata.generation = Some(1);
        object.spec.scale_target_ref.name = Some("hello".to_owned());
        object
    }

    fn ready(status: &PodAutoscalerStatus) -> (&str, &str) {
        let ready = find(&status.conditions, READY).unwrap();
        (ready.status.as_str(), &ready.reason)
    }

    #[test]
    fn a_missing_target_is_named_and_heals() {
        let now = Timestamp::UNIX_EPOCH;
        let mut object = object("a");
        let status = plan(&object, false, Some(&object), Scale::default(), now).unwrap();
        assert_eq!(ready(&status), ("False", "TargetNotFound"));
        assert!(status.conditions[0].message.contains("\"hello\""));
        object.status = Some(status);
        assert_eq!(
            plan(&object, false, Some(&object), Scale::default(), now),
            None,
            "nothing changed"
        );
        let status = plan(&object, true, Some(&object), SCALE, now).unwrap();
        assert_eq!(ready(&status), ("True", ""));
        assert_eq!(status.observed_generation, Some(1));
        assert_eq!((status.desired_scale, status.actual_scale), (Some(3), Some(2)));
    }

    #[test]
    fn the_oldest_of_two_counts() {
        let (a, b) = (Arc::new(object("a")), Arc::new(object("b")));
        let first = oldest(&[Arc::clone(&b), Arc::clone(&a)])
            .unwrap()
            .name_str()
            .to_owned();
        assert_eq!(first, "a");
        assert_eq!(
            ready(&plan(&b, true, Some(&a), SCALE, Timestamp::UNIX_EPOCH).unwrap()),
            ("False", "TargetTaken")
        );
    }
}
