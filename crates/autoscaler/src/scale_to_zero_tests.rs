//! Tables for the way from a decision to what is applied.

use super::Activity::{Activating, Active, Inactive};
use super::*;
use proptest::prelude::*;

fn rules() -> Rules {
    Rules {
        min: 0,
        max: 0,
        initial: 1,
        reachable: true,
        enable_scale_to_zero: true,
        grace: seconds(30),
        retention: Duration::ZERO,
        stable_window: seconds(60),
        progress_deadline: seconds(600),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A revision that was initialized and that calls reach past the activator.
fn state(activity: Activity, for_seconds: u64) -> State {
    State {
        activity,
        activity_for: seconds(for_seconds),
        initialized: true,
        activator_in_path: true,
        proxied_for: Duration::ZERO,
    }
}

#[test]
fn bounds_hold_unless_no_route_leads_there() {
    let bounded = Rules {
        min: 2,
        max: 10,
        ..rules()
    };
    let unreachable = Rules {
        reachable: false,
        ..bounded
    };
    for (decided, rules, wanted) in [
        (1, rules(), 1),
        (1, bounded, 2),
        (0, bounded, 2),
        (5, bounded, 5),
        (11, bounded, 10),
        (1, unreachable, 1),
        (11, unreachable, 10),
    ] {
        assert_eq!(
            scale(Some(decided), &rules, &state(Active, 1)),
            Step::apply(wanted),
            "{decided} {rules:?}"
        );
    }
}

#[test]
fn the_initial_scale_holds_until_it_was_reached_once() {
    let new = State {
        initialized: false,
        ..state(Activating, 1)
    };
    let three = Rules {
        initial: 3,
        ..rules()
    };
    for (decided, rules, state, wanted) in [
        (Some(1), three, new, Step::apply(3)),
        (None, three, new, Step::apply(3)),
        (None, Rules { min: 5, ..three }, new, Step::apply(5)),
        (
            Some(1),
            three,
            State {
                initialized: true,
                ..new
            },
            Step::apply(1),
        ),
        (
            Some(1),
            Rules {
                reachable: false,
                ..three
            },
            new,
            Step::apply(1),
        ),
        // 1 is there from the start and changes nothing: nothing is known yet.
        (None, rules(), new, Step::wait(None, Some(seconds(630)))),
    ] {
        assert_eq!(scale(decided, &rules, &state), wanted, "{decided:?} {rules:?}");
    }
}

#[test]
fn without_a_decision_nothing_changes() {
    for activity in [Active, Inactive] {
        assert_eq!(
            scale(None, &Rules { min: 3, ..rules() }, &state(activity, 9)),
            Step::wait(None, None)
        );
    }
}

#[test]
fn zero_switched_off_is_one() {
    let off = Rules {
        enable_scale_to_zero: false,
        ..rules()
    };
    for activity in [Activating, Active, Inactive] {
        assert_eq!(scale(Some(0), &off, &state(activity, 9999)), Step::apply(1));
    }
}

#[test]
fn an_activation_is_given_up_after_the_deadline_and_a_little_more() {
    // 600 + 30 s.
    assert_eq!(
        scale(Some(0), &rules(), &state(Activating, 630)),
        Step::wait(None, Some(seconds(630)))
    );
    assert_eq!(scale(Some(0), &rules(), &state(Activating, 631)), Step::apply(0));
}

#[test]
fn an_active_one_keeps_an_instance_for_a_stable_window() {
    let wait = Step {
        look_again: Some(seconds(50)),
        ..Step::apply(1)
    };
    assert_eq!(scale(Some(0), &rules(), &state(Active, 10)), wait);
    assert_eq!(
        scale(Some(0), &rules(), &state(Active, 60)),
        Step::wait(Some(0), None)
    );
}

#[test]
fn the_last_instance_goes_when_calls_surely_pass_the_activator() {
    let retained = Rules {
        retention: seconds(20),
        ..rules()
    };
    let long = Rules {
        retention: seconds(100),
        ..rules()
    };
    let hidden = Rules {
        reachable: false,
        ..long
    };
    let wait = |rest: u64| Step::wait(Some(0), Some(seconds(rest)));
    // (rules, inactive for, proxied for) → step
    for (rules, inactive, proxied, wanted) in [
        (rules(), 0, 0, wait(30)),
        (rules(), 10, 10, wait(20)),
        (rules(), 10, 30, Step::apply(0)),
        (rules(), 30, 0, Step::apply(0)),
        (retained, 5, 90, wait(15)),
        (retained, 20, 90, Step::apply(0)),
        (retained, 20, 10, wait(20)),
        (retained, 30, 0, Step::apply(0)),
        (long, 30, 90, wait(70)),
        (long, 100, 90, Step::apply(0)),
        (hidden, 0, 90, Step::apply(0)),
    ] {
        let state = State {
            proxied_for: seconds(proxied),
            ..state(Inactive, inactive)
        };
        assert_eq!(
            scale(Some(0), &rules, &state),
            wanted,
            "{rules:?} {inactive} {proxied}"
        );
    }
    let unproven = State {
        activator_in_path: false,
        ..state(Inactive, 999)
    };
    assert_eq!(scale(Some(0), &rules(), &unproven), wait(1));
}

#[test]
fn what_counts_as_active() {
    let hidden = Rules {
        min: 3,
        initial: 2,
        reachable: false,
        ..rules()
    };
    for (rules, initialized, wanted) in [
        (rules(), false, 1),
        (rules(), true, 1),
        (Rules { min: 3, ..rules() }, true, 3),
        (
            Rules {
                min: 3,
                initial: 5,
                ..rules()
            },
            false,
            5,
        ),
        (
            Rules {
                initial: 0,
                ..rules()
            },
            false,
            0,
        ),
        (
            Rules {
                initial: 0,
                ..rules()
            },
            true,
            1,
        ),
        (hidden, false, 2),
        (hidden, true, 1),
    ] {
        assert_eq!(rules.active_from(initialized), wanted, "{rules:?} {initialized}");
    }
}

proptest! {
    /// What is applied is never below the minimum nor above the maximum, and what is not applied is 0 or unknown.
    #[test]
    fn what_is_applied_is_within_bounds(
        decided in prop::option::of(0_u32..100_000),
        min in 0_u32..50,
        above in prop::option::of(0_u32..50),
        activity in prop_oneof![Just(Activating), Just(Active), Just(Inactive)],
        (since, proxied) in (0_u64..1000, 0_u64..1000),
        (initialized, reachable, enable_scale_to_zero) in any::<(bool, bool, bool)>(),
    ) {
        let max = above.map_or(0, |above| min + above);
        let rules = Rules { min, max, reachable, enable_scale_to_zero, ..rules() };
        let state = State { initialized, proxied_for: seconds(proxied), ..state(activity, since) };
        let step = scale(decided, &rules, &state);
        match step.want {
            Some(want) if step.apply => {
                prop_assert!(want >= rules.min());
                prop_assert!(max == 0 || want <= max.max(1));
            }
            want => prop_assert!(want.is_none_or(|want| want == 0) && !step.apply),
        }
    }
}
