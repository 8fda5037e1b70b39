//! Stories of calls, worked out by hand.

use super::*;
use crate::decider::DeciderSpec;
use crate::scale_to_zero::Rules;
use crate::target::Target;
use proptest::prelude::*;

fn setup() -> Setup {
    let window = Duration::from_secs(60);
    Setup {
        decider: DeciderSpec {
            target: Target {
                target: 7.0,
                total: 10.0,
            },
            ..DeciderSpec::default()
        },
        rules: Rules {
            min: 0,
            max: 0,
            initial: 1,
            reachable: true,
            enable_scale_to_zero: true,
            grace: Duration::from_secs(30),
            retention: Duration::ZERO,
            stable_window: window,
            progress_deadline: Duration::from_secs(600),
        },
        container_concurrency: 0,
        ready: 0,
        startup: Duration::from_secs(2),
    }
}

/// So many calls a second for so many seconds, each as long as that.
fn steady(rate: u32, seconds: u32, duration: f64) -> Vec<Call> {
    (0..rate * seconds)
        .map(|n| Call {
            time: f64::from(n) / f64::from(rate),
            duration,
        })
        .collect()
}

#[test]
fn one_call_from_zero_and_back() {
    let run = replay(
        &setup(),
        &[Call {
            time: 10.5,
            duration: 1.0,
        }],
    );
    // Decided at once at 10.5 s; the instance is ready at 12.5 s, the call ends at 13.5 s.
    let first = run.ticks[0];
    assert_eq!(
        (first.time, first.ready, first.desired, first.scale, first.waiting),
        (10.5, 0, 1, 1, 1)
    );
    assert_eq!((run.calls, run.waited, run.wait_percentile(50)), (1, 1, 2.0));
    assert_eq!(run.instances_most, 1);
    // The last half of its second is told of at 14 s. It leaves the window of 60 s at 74 s; the revision was active
    // since the look at 13 s, longer than a window: it goes to zero at once.
    let last = run.ticks.last().unwrap();
    assert_eq!((last.time, last.desired, last.scale), (74.0, 0, 0));
    assert_eq!(run.ticks[run.ticks.len() - 2].scale, 1);
    // From 10.5 s to 74 s.
    assert!(
        (run.instance_seconds - 63.5).abs() < 1e-9,
        "{}",
        run.instance_seconds
    );
}

#[test]
fn a_steady_load_is_carried_without_waiting() {
    let setup = Setup { ready: 2, ..setup() };
    // 10 calls a second of one second each: 10 under way, ceil(10 / 7) = 2 instances.
    let run = replay(&setup, &steady(10, 180, 1.0));
    assert_eq!((run.calls, run.waited, run.instances_most), (1800, 0, 2));
    let busy = run
        .ticks
        .iter()
        .filter(|tick| (70.0..=180.0).contains(&tick.time));
    assert!(busy.clone().count() > 50);
    for tick in busy {
        assert_eq!(
            (tick.desired, tick.scale, tick.panicking, tick.panic),
            (2, 2, false, 10.0),
            "{tick:?}"
        );
        // 2 * 10 - 211 - 10.
        assert_eq!(tick.excess_burst_capacity, -201);
    }
    assert_eq!(run.ticks.last().unwrap().scale, 0);
}

#[test]
fn an_instance_takes_as_many_calls_as_its_limit() {
    let setup = Setup {
        container_concurrency: 1,
        ready: 1,
        ..setup()
    };
    let calls = [Call {
        time: 0.25,
        duration: 1.0,
    }; 3];
    let run = replay(&setup, &calls);
    // The second waits for the first, the third for the second.
    assert_eq!(run.waits, [0.0, 1.0, 2.0]);
    assert_eq!(
        (
            run.wait_percentile(50),
            run.wait_percentile(99),
            run.wait_percentile(100)
        ),
        (1.0, 2.0, 2.0)
    );
}

#[test]
fn a_burst_panics() {
    let mut calls = steady(5, 60, 1.0);
    calls.extend((0..200).map(|_| Call {
        time: 60.5,
        duration: 5.0,
    }));
    calls.sort_by(|a, b| a.time.total_cmp(&b.time));
    let run = replay(&Setup { ready: 1, ..setup() }, &calls);
    // By 64 s the panic window holds about 3.5 s of 200 calls: 700 / 6 = 117, by 7: 17.
    let at = |time: f64| run.ticks.iter().find(|tick| tick.time >= time).unwrap();
    assert!(!at(58.0).panicking);
    assert!(at(64.0).panicking && at(64.0).desired >= 17, "{:?}", at(64.0));
}

#[test]
fn a_minimum_is_kept_and_the_end_is_found() {
    let mut setup = setup();
    setup.rules.min = 3;
    setup.ready = 3;
    let run = replay(
        &setup,
        &[Call {
            time: 0.0,
            duration: 0.1,
        }],
    );
    assert!(run.ticks.iter().all(|tick| tick.scale == 3));
    assert!(run.ticks.len() < 100, "{} ticks", run.ticks.len());
    assert_eq!(replay(&setup, &[]).ticks, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every call is made once and ends, bounds hold, and all is at zero in the end.
    #[test]
    fn every_call_is_taken_once(
        times in prop::collection::vec((0.0_f64..300.0, 0.0_f64..5.0), 1..200),
        limit in 0_u32..4,
        max in 1_u32..20,
        startup in 0_u64..5000,
    ) {
        let mut calls: Vec<Call> = times.iter().map(|(time, duration)| Call { time: *time, duration: *duration }).collect();
        calls.sort_by(|a, b| a.time.total_cmp(&b.time));
        let mut setup = setup();
        setup.rules.max = max;
        setup.container_concurrency = limit;
        setup.startup = Duration::from_millis(startup);
        let run = replay(&setup, &calls);
        prop_assert_eq!(run.calls, calls.len());
        prop_assert_eq!(run.waits.len(), calls.len());
        prop_assert!(run.ticks.iter().all(|tick| tick.scale <= max));
        prop_assert_eq!(run.ticks.last().unwrap().scale, 0);
    }
}
