//! Tables for decisions, worked out by hand from the formulas at [`Wanted`], and what must hold for any load.

use super::*;
use proptest::prelude::*;

/// Knative's defaults for a revision without limit of its own: target 70 of 100.
fn spec() -> DeciderSpec {
    DeciderSpec::default()
}

fn small(target: f64, total: f64) -> DeciderSpec {
    DeciderSpec {
        target: Target { target, total },
        ..spec()
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Records `load` for each second up to `until` and decides there.
fn after(decider: &mut Decider, from: u64, until: u64, load: f64, ready: u32) -> Decision {
    for second in from..=until {
        decider.record(at(second), load, load);
    }
    decider.decide(at(until), ready).unwrap()
}

/// A decision with the same load in both windows.
fn decide(spec: DeciderSpec, load: f64, ready: u32) -> Decision {
    after(&mut Decider::new(spec, 0, at(0)), 0, 60, load, ready)
}

#[test]
fn instances_follow_the_load_within_the_rates() {
    for (name, spec, load, ready, wanted) in [
        (
            "no load, down by half: floor(10 / 2)",
            small(10.0, 10.0),
            0.0,
            10,
            5,
        ),
        (
            "no load and one instance: floor(1 / 2)",
            small(10.0, 10.0),
            0.0,
            1,
            0,
        ),
        ("no load, no instance counts as one", small(10.0, 10.0), 0.0, 0, 0),
        ("ceil(100 / 10)", small(10.0, 10.0), 100.0, 10, 10),
        ("ceil(101 / 10)", small(10.0, 10.0), 101.0, 10, 11),
        ("one call: ceil(1 / 70)", spec(), 1.0, 0, 1),
        (
            "up: 2 * 3 at most, not ceil(100 / 10)",
            DeciderSpec {
                max_scale_up_rate: 2.0,
                ..small(10.0, 10.0)
            },
            100.0,
            3,
            6,
        ),
        // ceil(1.1 * 2) = 3: a small rate lets it grow by one at least.
        (
            "up by 1.1",
            DeciderSpec {
                max_scale_up_rate: 1.1,
                ..small(1.0, 1.0)
            },
            3.0,
            2,
            3,
        ),
        (
            "down by 10: floor(25 / 10)",
            DeciderSpec {
                max_scale_down_rate: 10.0,
                ..small(10.0, 10.0)
            },
            1.0,
            25,
            2,
        ),
        (
            "no route: straight to what is needed",
            DeciderSpec {
                reachable: false,
                ..small(10.0, 10.0)
            },
            1.0,
            25,
            1,
        ),
        (
            "activation scale",
            DeciderSpec {
                activation_scale: 5,
                ..spec()
            },
            1.0,
            0,
            5,
        ),
        (
            "activation scale, without calls",
            DeciderSpec {
                activation_scale: 5,
                ..spec()
            },
            0.0,
            0,
            0,
        ),
        (
            "activation scale is no ceiling",
            DeciderSpec {
                activation_scale: 5,
                ..small(1.0, 1.0)
            },
            9.0,
            9,
            9,
        ),
    ] {
        assert_eq!(decide(spec, load, ready).desired, wanted, "{name}");
    }
}

#[test]
fn spare_capacity_is_what_is_ready_less_the_burst_and_the_load() {
    for (burst, load, ready, wanted) in [
        // 3 * 100 - 211 - 50 = 39.
        (211.0, 50.0, 3, 39),
        // 2 * 100 - 211 - 0.5 = -11.5, down to -12.
        (211.0, 0.5, 2, -12),
        // Nothing ready counts as nothing here: -211 - 1.
        (211.0, 1.0, 0, -212),
        (0.0, 1000.0, 1, 0),
        (-1.0, 0.0, 100, -1),
    ] {
        let spec = DeciderSpec {
            target_burst_capacity: burst,
            ..spec()
        };
        assert_eq!(
            decide(spec, load, ready).excess_burst_capacity,
            wanted,
            "{burst} {load} {ready}"
        );
    }
}

#[test]
fn before_data_only_the_initial_scale_is_known() {
    // 2 * 100 - 211 = -11; 3 * 100 - 211 = 89.
    for (burst, initial, wanted) in [(211.0, 2, -11), (211.0, 3, 89), (0.0, 1, 0), (-1.0, 1, -1)] {
        let spec = DeciderSpec {
            target_burst_capacity: burst,
            initial_scale: initial,
            ..spec()
        };
        let mut decider = Decider::new(spec, 0, at(0));
        assert_eq!(
            decider.latest(),
            Recommendation {
                desired: None,
                excess_burst_capacity: wanted
            }
        );
        // Without data nothing is decided, unless every call would have passed the activator.
        let decision = decider.decide(at(2), 0).map(|decision| decision.desired);
        assert_eq!(decision, (burst == -1.0).then_some(0));
    }
}

#[test]
fn a_burst_panics_and_the_panic_lasts_a_stable_window_longer() {
    let mut decider = Decider::new(small(10.0, 10.0), 0, at(0));
    // A minute of 10 calls: one instance.
    assert_eq!(after(&mut decider, 0, 60, 10.0, 1).desired, 1);
    // Six seconds of 100. Stable: (54 * 10 + 6 * 100) / 60 = 19 → 2. Panic: 100 → 10, 10 / 1 ≥ 2.
    let decision = after(&mut decider, 61, 66, 100.0, 1);
    assert!(decision.panicking);
    assert_eq!(
        (decision.stable, decision.panic, decision.desired),
        (19.0, 100.0, 10)
    );
    // Gone again. At 68 s the panic window holds four seconds of 100 and two of 10, 430 / 6 → 8 of 10 ready: under the
    // threshold, so it was over it last at 66 s.
    let decision = after(&mut decider, 67, 68, 10.0, 10);
    assert_eq!(
        (decision.panicking, decision.desired),
        (true, 10),
        "a panic never shrinks"
    );
    // The panic ends after 66 + 60 s; then 10 / 10 → 1, but no faster than by half: 5.
    let decision = after(&mut decider, 69, 126, 10.0, 10);
    assert_eq!((decision.panicking, decision.desired), (true, 10));
    let decision = after(&mut decider, 127, 128, 10.0, 10);
    assert_eq!((decision.panicking, decision.desired), (false, 5));
}

#[test]
fn a_panic_counts_what_the_stable_window_asks_for_too() {
    // 25 s of 1000 and 6 s of 300 with 1 ready: stable (25 * 1000 + 6 * 300) / 31 = 864.5 → 87, panic 300 → 30.
    let mut decider = Decider::new(small(10.0, 10.0), 0, at(0));
    for second in 0..25 {
        decider.record(at(second), 1000.0, 0.0);
    }
    let decision = after(&mut decider, 25, 30, 300.0, 1);
    assert!(decision.panicking);
    assert_eq!(decision.desired, 87);
}

#[test]
fn a_new_decider_of_several_instances_keeps_them_until_there_is_data_for_a_window() {
    let mut decider = Decider::new(small(10.0, 10.0), 8, at(0));
    assert!(decider.is_panicking());
    assert_eq!(after(&mut decider, 0, 60, 0.0, 8).desired, 8);
    assert_eq!(after(&mut decider, 61, 62, 0.0, 8).desired, 4);
    assert!(
        !Decider::new(spec(), 1, at(0)).is_panicking(),
        "one instance is no reason"
    );
}

#[test]
fn going_down_waits_for_the_delay_while_a_route_leads_there() {
    let delayed = |reachable| DeciderSpec {
        scale_down_delay: Duration::from_secs(30),
        stable_window: Duration::from_secs(6),
        max_scale_down_rate: 100.0,
        reachable,
        ..small(10.0, 10.0)
    };
    for (reachable, wanted) in [(true, [10, 10, 1]), (false, [10, 1, 1])] {
        let mut decider = Decider::new(delayed(reachable), 0, at(0));
        let first = after(&mut decider, 0, 10, 100.0, 10).desired;
        // The load is gone since 11 s; the 10 of 10 s counts in 15 steps of 2 s: up to 38 s.
        let second = after(&mut decider, 11, 38, 10.0, 10).desired;
        let third = after(&mut decider, 39, 40, 10.0, 10).desired;
        assert_eq!([first, second, third], wanted, "reachable: {reachable}");
    }
}

#[test]
fn the_reconciler_is_told_of_what_matters() {
    let mut decider = Decider::new(small(10.0, 100.0), 0, at(0));
    // First decision: desired was unknown. The excess is 3 * 100 - 211 - 5 = 84, it was 100 - 211 < 0.
    assert!(after(&mut decider, 0, 2, 5.0, 3).changed);
    // Same count (down by half at most: floor(3 / 2) = 1), same sign: 300 - 211 - 9 = 80.
    assert!(!after(&mut decider, 3, 4, 6.0, 3).changed);
    // The sign turns when an instance is lost.
    assert!(after(&mut decider, 5, 6, 6.0, 2).changed);
    assert!(!after(&mut decider, 7, 8, 6.0, 2).changed);
    // Another count.
    assert!(after(&mut decider, 9, 60, 30.0, 2).changed);
}

#[test]
fn calls_by_the_second_count_where_they_are_the_metric() {
    let spec = DeciderSpec {
        metric: Metric::Rps,
        ..small(150.0, 200.0)
    };
    let mut decider = Decider::new(spec, 0, at(0));
    for second in 0..=60 {
        decider.record(at(second), 1.0, 900.0);
    }
    // ceil(900 / 150) = 6.
    assert_eq!(decider.decide(at(60), 1).unwrap().desired, 6);
}

#[test]
fn new_rules_keep_the_data() {
    let mut decider = Decider::new(spec(), 0, at(0));
    assert_eq!(after(&mut decider, 0, 60, 100.0, 1).desired, 2);
    decider.update(small(10.0, 10.0), at(60));
    assert_eq!(decider.decide(at(60), 2).unwrap().desired, 10);
}

#[test]
fn decisions_that_no_number_holds_are_cut() {
    let decision = decide(small(0.01, 0.01), 1e30, u32::MAX);
    assert_eq!(decision.desired, u32::MAX);
    assert_eq!(decision.excess_burst_capacity, i32::MIN);
}

/// A decider in virtual time: `load(second)` is what comes in, instances are there at once.
fn simulate(spec: DeciderSpec, seconds: u64, load: impl Fn(u64) -> f64) -> Vec<Decision> {
    let mut decider = Decider::new(spec, 0, at(0));
    let mut ready = 0;
    let mut decisions = Vec::new();
    for second in 0..seconds {
        decider.record(at(second), load(second), 0.0);
        if second % TICK.as_secs() == 0 {
            let decision = decider.decide(at(second), ready).unwrap();
            ready = decision.desired;
            decisions.push(decision);
        }
    }
    decisions
}

fn any_spec() -> impl Strategy<Value = DeciderSpec> {
    (
        0.01_f64..200.0,
        0.1_f64..1.0,
        6_u64..120,
        1.0_f64..100.0,
        1.1_f64..10.0,
        (1.1_f64..1000.0, 1.1_f64..10.0),
        prop_oneof![Just(-1.0), Just(0.0), 1.0_f64..500.0],
        (0_u64..60, 0_u32..5, any::<bool>(), any::<bool>()),
    )
        .prop_map(
            |(total, utilization, window, percentage, threshold, (up, down), burst, rest)| {
                let (delay, activation_scale, reachable, weighted) = rest;
                let stable_window = Duration::from_secs(window);
                DeciderSpec {
                    aggregation: if weighted {
                        Aggregation::WeightedExponential
                    } else {
                        Aggregation::Linear
                    },
                    target: Target {
                        target: (total * utilization).max(0.01),
                        total,
                    },
                    stable_window,
                    panic_window: crate::metric::panic_window(stable_window, percentage),
                    panic_threshold: threshold,
                    target_burst_capacity: burst,
                    max_scale_up_rate: up,
                    max_scale_down_rate: down,
                    scale_down_delay: Duration::from_secs(delay),
                    activation_scale,
                    reachable,
                    ..spec()
                }
            },
        )
}

proptest! {
    /// One decision never leaves the rates, but for the activation scale.
    #[test]
    fn a_calm_decision_stays_within_the_rates(spec in any_spec(), load in 0.0_f64..1e6, ready in 0_u32..10_000) {
        let spec = DeciderSpec { panic_threshold: f64::INFINITY, ..spec };
        let up = (spec.max_scale_up_rate * f64::from(ready.max(1))).ceil();
        let down = (f64::from(ready.max(1)) / spec.max_scale_down_rate).floor();
        let desired = f64::from(decide(spec.clone(), load, ready).desired);
        prop_assert!(desired <= up.max(f64::from(spec.activation_scale)));
        prop_assert!(!spec.reachable || desired >= down.min(up));
    }

    /// More load never asks for fewer instances.
    #[test]
    fn more_load_never_asks_for_less(spec in any_spec(), load in 0.0_f64..1e5, more in 0.0_f64..1e5, ready in 0_u32..1000) {
        let (less, more) = (decide(spec.clone(), load, ready), decide(spec, load + more, ready));
        prop_assert!(less.desired <= more.desired);
        prop_assert!(less.excess_burst_capacity >= more.excess_burst_capacity);
    }

    /// While it panics the number of instances never falls.
    #[test]
    fn a_panic_never_shrinks(spec in any_spec(), loads in prop::collection::vec(0.0_f64..1e4, 1..30)) {
        let step = |second: u64| loads[usize::try_from(second / 10).unwrap() % loads.len()];
        let decisions = simulate(DeciderSpec { scale_down_delay: Duration::ZERO, ..spec }, 600, step);
        for pair in decisions.windows(2) {
            prop_assert!(!(pair[0].panicking && pair[1].panicking) || pair[1].desired >= pair[0].desired);
        }
    }

    /// A load that stays as it is comes to one number of instances and stays there: the one that carries it.
    #[test]
    fn constant_load_does_not_flap(spec in any_spec(), load in 0.0_f64..1e4) {
        let spec = DeciderSpec { aggregation: Aggregation::Linear, ..spec };
        // Long enough for the slowest rates, the delay and the end of the first panic.
        let decisions = simulate(spec.clone(), 1200, |_| load);
        // Averages are rounded to six digits.
        let carries = (load / spec.target.target).ceil() as u32;
        let last = decisions[decisions.len() - 1].desired;
        for decision in &decisions[decisions.len() - 100..] {
            prop_assert_eq!(decision.desired, last);
        }
        let least = if carries > 0 { spec.activation_scale } else { 0 };
        prop_assert!(last.abs_diff(carries.max(least)) <= 1, "{} for {}", last, carries);
    }
}

#[test]
fn a_week_of_days_and_nights_is_carried_and_comes_back_to_zero() {
    const DAY: u64 = 86_400;
    const BUSY_FROM: u64 = 6 * 3600;
    const BUSY_TO: u64 = 22 * 3600;
    // Between 6 and 22 o'clock a hill of up to 2000 calls under way, with five minutes of threefold load at noon.
    let load = |second: u64| {
        let hour = second % DAY;
        if !(BUSY_FROM..BUSY_TO).contains(&hour) {
            return 0.0;
        }
        let part = (hour - BUSY_FROM) as f64 / (BUSY_TO - BUSY_FROM) as f64;
        let noon = if (43_200..43_500).contains(&hour) {
            3.0
        } else {
            1.0
        };
        (part * std::f64::consts::PI).sin() * 2000.0 * noon
    };
    let decisions = simulate(spec(), 7 * DAY, load);
    let at_second = |second: u64| decisions[usize::try_from(second / 2).unwrap()];
    for day in 0..7 {
        let (three, ten, noon, before_noon) = (
            day * DAY + 3 * 3600,
            day * DAY + 36_000,
            day * DAY + 43_250,
            day * DAY + 43_190,
        );
        assert_eq!(
            at_second(three).desired,
            0,
            "day {day}: no instance at three o'clock"
        );
        // At 10 o'clock: sin(pi / 4) * 2000 = 1414, by 70: 20.2.
        assert_eq!(at_second(ten).desired, 21, "day {day}");
        // Before noon sin(pi * 6 / 16) * 2000 = 1847 → 27; in the burst 5543 / 70 → 80.
        assert_eq!(at_second(before_noon).desired, 27, "day {day}");
        assert!(
            at_second(noon).panicking && at_second(noon).desired == 80,
            "day {day}: {:?}",
            at_second(noon)
        );
        assert!(!at_second(noon + 3600).panicking);
        // Two minutes after the last call.
        assert_eq!(at_second(day * DAY + BUSY_TO + 120).desired, 0, "day {day}");
    }
    // A smooth hill changes the number by one at a time: 27 or so up, 27 or so down, and the burst, each day.
    let changes = decisions
        .windows(2)
        .filter(|pair| pair[0].desired != pair[1].desired)
        .count();
    assert!(changes < 7 * 120, "{changes} changes in a week");
}
