//! Whether calls pass the activator, and how many activators a revision needs (serving
//! `pkg/reconciler/autoscaling/kpa/kpa.go`). Here the activator is part of the gateway and always in the path; the mode
//! says what Knative's would be, and counts for the way to zero.

use crate::activity::Activity;
use crate::decider::Recommendation;

/// The fewest activators of a revision.
pub const ACTIVATORS_MIN: u32 = 2;

/// Where calls go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ServingMode {
    /// Through the activator.
    #[default]
    Proxy,
    /// To the instances.
    Serve,
}

/// The mode: past the activator only while instances are wanted and can take the target burst. After a restart, when
/// what is wanted is not known yet (`None`), an inactive revision stays behind the activator; any other too, as long as
/// nothing is known.
#[must_use]
pub fn mode(want: Option<u32>, latest: Recommendation, activity: Activity) -> ServingMode {
    match want {
        None if activity == Activity::Inactive => ServingMode::Proxy,
        Some(1..) if latest.excess_burst_capacity >= 0 => ServingMode::Serve,
        _ => ServingMode::Proxy,
    }
}

/// Activators that carry what is ready and the target burst.
#[must_use]
pub fn activators(ready: u32, total: f64, target_burst_capacity: f64, activator_capacity: f64) -> u32 {
    if target_burst_capacity == 0.0 {
        return ACTIVATORS_MIN;
    }
    let capacity = f64::from(ready) * total + target_burst_capacity.max(0.0);
    ((capacity / activator_capacity).ceil() as u32).max(ACTIVATORS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_pass_the_activator_unless_there_is_room_for_a_burst() {
        let latest = |excess_burst_capacity| Recommendation {
            desired: None,
            excess_burst_capacity,
        };
        for (want, excess, activity, wanted) in [
            (Some(3), 0, Activity::Active, ServingMode::Serve),
            (Some(3), 89, Activity::Activating, ServingMode::Serve),
            (Some(3), -1, Activity::Active, ServingMode::Proxy),
            (Some(0), 0, Activity::Active, ServingMode::Proxy),
            (None, 10, Activity::Inactive, ServingMode::Proxy),
            (None, 10, Activity::Active, ServingMode::Proxy),
        ] {
            assert_eq!(mode(want, latest(excess), activity), wanted, "{want:?} {excess}");
        }
    }

    #[test]
    fn activators_grow_with_what_they_carry() {
        for (ready, total, burst, wanted) in [
            (50, 100.0, 0.0, 2),
            // No ready instance: 211 / 100 = 2.11.
            (0, 100.0, 211.0, 3),
            // 10 * 100 + 211 = 1211, by 100 = 12.11.
            (10, 100.0, 211.0, 13),
            // Without end: only what is ready counts.
            (10, 100.0, -1.0, 10),
            (1, 10.0, -1.0, 2),
        ] {
            assert_eq!(
                activators(ready, total, burst, 100.0),
                wanted,
                "{ready} {total} {burst}"
            );
        }
    }
}
