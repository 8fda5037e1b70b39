//! What a user's PodAutoscaler is told.

use crate::object::{Meta, keep_times};
use jiff::Timestamp;
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

/// The new status, when it differs. `found`: the Service exists; `first`: the PodAutoscaler that counts for it.
#[must_use]
pub fn plan(
    object: &PodAutoscaler,
    found: bool,
    first: Option<&PodAutoscaler>,
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
        let status = plan(&object, false, Some(&object), now).unwrap();
        assert_eq!(ready(&status), ("False", "TargetNotFound"));
        assert!(status.conditions[0].message.contains("\"hello\""));
        object.status = Some(status);
        assert_eq!(plan(&object, false, Some(&object), now), None, "nothing changed");
        let status = plan(&object, true, Some(&object), now).unwrap();
        assert_eq!(ready(&status), ("True", ""));
        assert_eq!(status.observed_generation, Some(1));
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
            ready(&plan(&b, true, Some(&a), Timestamp::UNIX_EPOCH).unwrap()),
            ("False", "TargetTaken")
        );
    }
}
