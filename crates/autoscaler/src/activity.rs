//! Whether a revision counts as active (`computeActiveCondition` of serving `pkg/reconciler/autoscaling/kpa/kpa.go`).

/// The condition `Active` of a PodAutoscaler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activity {
    /// Unknown: instances are being started.
    #[default]
    Activating,
    /// True: enough instances are ready.
    Active,
    /// False: none is wanted.
    Inactive,
}

/// What the condition says from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is active.
    Active,
    /// Reason `Queued`.
    Activating,
    /// Reason `NoTraffic`.
    NoTraffic,
    /// Reason `TimedOut`: it never came up.
    TimedOut,
    /// What it said before.
    Unchanged,
}

/// What follows from what is wanted (`None`: not known), how many are ready, and from how many on it counts as active
/// ([`crate::scale_to_zero::Rules::active_from`]).
///
/// | want | ready  | now        | then       |
/// |------|--------|------------|------------|
/// | 0    | any    | activating | timed out  |
/// | 0    | any    | any other  | no traffic |
/// | > 0  | < min  | any        | activating |
/// | > 0  | ≥ min  | any        | active     |
/// | –    | < min  | inactive   | no traffic |
/// | –    | < min  | any other  | activating |
/// | –    | ≥ min  | inactive   | unchanged  |
/// | –    | ≥ min  | any other  | active     |
///
/// With `min` 0 (an initial scale of 0 that was not reached yet) it is always `no traffic`.
#[must_use]
pub fn verdict(want: Option<u32>, ready: u32, min: u32, now: Activity) -> Verdict {
    if want == Some(0) || min == 0 {
        return if now == Activity::Activating && min > 0 {
            Verdict::TimedOut
        } else {
            Verdict::NoTraffic
        };
    }
    let known_or_busy = want.is_some() || now != Activity::Inactive;
    match (ready < min, known_or_busy) {
        (true, true) => Verdict::Activating,
        (true, false) => Verdict::NoTraffic,
        (false, true) => Verdict::Active,
        (false, false) => Verdict::Unchanged,
    }
}

#[cfg(test)]
mod tests {
    use super::Activity::{Activating, Active, Inactive};
    use super::*;

    #[test]
    fn the_table_of_knative() {
        // want, ready, min, now → then: the rows of the Go comment, with every state where it says <any>.
        for (want, ready, min, now, then) in [
            (Some(0), 0, 1, Activating, Verdict::TimedOut),
            (Some(0), 5, 1, Active, Verdict::NoTraffic),
            (Some(0), 0, 1, Inactive, Verdict::NoTraffic),
            (Some(2), 1, 2, Inactive, Verdict::Activating),
            (Some(2), 1, 2, Activating, Verdict::Activating),
            (Some(2), 1, 2, Active, Verdict::Activating),
            (Some(1), 2, 2, Inactive, Verdict::Active),
            (Some(1), 2, 2, Activating, Verdict::Active),
            (None, 0, 1, Inactive, Verdict::NoTraffic),
            (None, 0, 1, Activating, Verdict::Activating),
            (None, 0, 1, Active, Verdict::Activating),
            (None, 1, 1, Inactive, Verdict::Unchanged),
            (None, 1, 1, Activating, Verdict::Active),
            (None, 1, 1, Active, Verdict::Active),
            (None, 0, 0, Activating, Verdict::NoTraffic),
            (None, 0, 0, Active, Verdict::NoTraffic),
            (None, 0, 0, Inactive, Verdict::NoTraffic),
        ] {
            assert_eq!(
                verdict(want, ready, min, now),
                then,
                "{want:?} {ready} {min} {now:?}"
            );
        }
    }
}
