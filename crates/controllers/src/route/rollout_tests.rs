//! Tables and properties of rollouts.

use super::*;
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn goal(configurations: &[(&str, &str, i64)]) -> Rollout {
    Rollout {
        configurations: configurations
            .iter()
            .map(|(configuration, revision, percent)| {
                ConfigurationRollout::whole(configuration, "", revision, *percent)
            })
            .collect(),
    }
}

/// `a:99 b:1`
fn shown(rollout: &Rollout, configuration: &str) -> String {
    let revisions = rollout.revisions(configuration).iter();
    revisions
        .map(|r| format!("{}:{}", r.revision_name, r.percent))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Every state of a rollout of `percent` in `duration` seconds, the first percent having taken `took`, with the second
/// at which each comes.
fn states(percent: i64, duration: u64, took: i64) -> Vec<(i64, String)> {
    let wanted = goal(&[("c", "b", percent)]);
    let (mut rollout, next) = Rollout::step(wanted.clone(), Some(goal(&[("c", "a", percent)])), at(1000));
    assert_eq!(next, None, "it waits for the gateways");
    let mut states = vec![(0, shown(&rollout, "c"))];
    let mut now = at(1000 + took);
    rollout.observe_ready(now, Duration::from_secs(duration));
    while rollout.is_under_way() {
        let (stepped, next) = Rollout::step(wanted.clone(), Some(rollout), now);
        rollout = stepped;
        let state = shown(&rollout, "c");
        if states.last().map(|(_, last)| last) != Some(&state) {
            states.push((now.as_second() - 1000, state));
        }
        if let Some(next) = next {
            now += next;
        }
        assert!(states.len() < 200);
    }
    assert_eq!(rollout, wanted, "at the end nothing of the rollout is left");
    states
}

#[test]
fn steps_are_equal_and_fill_the_duration() {
    let strings = |states: Vec<(i64, String)>| -> Vec<String> {
        states
            .into_iter()
            .map(|(second, state)| format!("{second}s {state}"))
            .collect()
    };
    // 10 s, of which the first percent took 2: four steps of 25 % within 8 s.
    assert_eq!(
        strings(states(100, 10, 2)),
        [
            "0s a:99 b:1",
            "4s a:74 b:26",
            "6s a:49 b:51",
            "8s a:24 b:76",
            "10s b:100"
        ]
    );
    // Slower than the whole duration: one step, a second later.
    assert_eq!(strings(states(100, 5, 9)), ["0s a:99 b:1", "10s b:100"]);
    // More time than percents: steps of one.
    let slow = states(10, 1000, 1);
    assert_eq!(slow.len(), 10);
    assert_eq!(strings(slow)[..3], ["0s a:9 b:1", "112s a:8 b:2", "223s a:7 b:3"]);
}

#[test]
fn a_newer_revision_takes_from_the_newest_first() {
    let wanted = goal(&[("c", "b", 100)]);
    let (mut rollout, _) = Rollout::step(wanted.clone(), Some(goal(&[("c", "a", 100)])), at(0));
    assert_eq!(shown(&rollout, "c"), "a:99 b:1");
    // `b` had its one percent only: it is gone, the rest stays with `a`.
    let (stacked, _) = Rollout::step(goal(&[("c", "c", 100)]), Some(rollout.clone()), at(5));
    assert_eq!(shown(&stacked, "c"), "a:99 c:1");
    rollout.configurations[0].step_params.start_time = 1;
    rollout.observe_ready(at(1), Duration::from_secs(4));
    let (half, _) = Rollout::step(wanted, Some(rollout), at(2));
    assert_eq!(shown(&half, "c"), "a:66 b:34");
    let (mut stacked, _) = Rollout::step(goal(&[("c", "c", 100)]), Some(half), at(3));
    assert_eq!(shown(&stacked, "c"), "a:66 b:33 c:1");
    stacked.observe_ready(at(4), Duration::from_secs(3));
    let (next, _) = Rollout::step(goal(&[("c", "c", 100)]), Some(stacked), at(5));
    assert_eq!(shown(&next, "c"), "a:49 c:51", "`b` is drained before `a`");
}

#[test]
fn shares_that_change_meanwhile() {
    let (rollout, _) = Rollout::step(goal(&[("c", "b", 60)]), Some(goal(&[("c", "a", 60)])), at(0));
    assert_eq!(shown(&rollout, "c"), "a:59 b:1");
    for (percent, wanted) in [
        (80, "a:59 b:21"),
        (40, "a:39 b:1"),
        (2, "a:1 b:1"),
        (1, "b:1"),
        (0, "b:0"),
    ] {
        let (changed, _) = Rollout::step(goal(&[("c", "b", percent)]), Some(rollout.clone()), at(1));
        assert_eq!(shown(&changed, "c"), wanted, "{percent}");
    }
}

#[test]
fn configurations_roll_by_themselves() {
    let before = goal(&[("x", "x1", 50), ("y", "y1", 49), ("z", "z1", 1)]);
    let after = goal(&[("w", "w1", 10), ("x", "x2", 50), ("y", "y1", 39), ("z", "z2", 1)]);
    let (rollout, _) = Rollout::step(after, Some(before), at(0));
    let all: Vec<_> = ["w", "x", "y", "z"].map(|c| shown(&rollout, c)).into();
    assert_eq!(all, ["w1:10", "x1:49 x2:1", "y1:39", "z2:1"]);
}

#[test]
fn a_way_back_is_a_rollout_too() {
    let (rollout, _) = Rollout::step(goal(&[("c", "b", 100)]), Some(goal(&[("c", "a", 100)])), at(0));
    let (back, _) = Rollout::step(goal(&[("c", "a", 100)]), Some(rollout), at(1));
    assert_eq!(back, goal(&[("c", "a", 100)]), "nobody else had any");
    let between = goal(&[("c", "b", 100)]);
    let (mut rollout, _) = Rollout::step(between.clone(), Some(goal(&[("c", "a", 100)])), at(1));
    rollout.observe_ready(at(2), Duration::from_secs(4));
    let (rollout, _) = Rollout::step(between, Some(rollout), at(3));
    let (back, _) = Rollout::step(goal(&[("c", "a", 100)]), Some(rollout), at(4));
    assert_eq!(shown(&back, "c"), "a:66 b:33 a:1");
}

#[test]
fn a_damaged_state_is_no_state() {
    let good = goal(&[("c", "a", 100)]);
    assert_eq!(Rollout::read(&good.write()), Some(good));
    for text in [
        "",
        "{",
        r#"{"configurations":[{"configurationName":"c","percent":101}]}"#,
        r#"{"configurations":[{"configurationName":"c","percent":10,"revisions":[{"revisionName":"a","percent":9}]}]}"#,
        r#"{"configurations":[{"configurationName":"c","percent":0,"revisions":[{"revisionName":"a","percent":9},{"revisionName":"b","percent":-9}]}]}"#,
    ] {
        assert_eq!(Rollout::read(text), None, "{text}");
    }
}

proptest! {
    /// Whatever happens in which order, every Configuration's shares sum to its own, and it comes to its goal.
    #[test]
    fn shares_always_sum(changes in prop::collection::vec((0_u8..5, 0_i64..=100, 0_i64..30, any::<bool>()), 1..40)) {
        // At 0 nothing can begin: it stands for "not begun".
        let mut now = 1;
        let mut state = goal(&[("c", "r0", 100)]);
        let mut wanted = state.clone();
        for (revision, percent, pause, ready) in changes {
            now += pause;
            wanted = goal(&[("c", &format!("r{revision}"), percent)]);
            if ready {
                state.observe_ready(at(now), Duration::from_secs(20));
            }
            let (next, _) = Rollout::step(wanted.clone(), Some(state), at(now));
            let sum: i64 = next.revisions("c").iter().map(|r| r.percent).sum();
            prop_assert_eq!(sum, percent);
            prop_assert!(next.revisions("c").iter().all(|r| r.percent >= 0));
            prop_assert_eq!(Rollout::read(&next.write()), Some(next.clone()));
            state = next;
        }
        for _ in 0..300 {
            now += 1;
            state.observe_ready(at(now), Duration::from_secs(20));
            state = Rollout::step(wanted.clone(), Some(state), at(now)).0;
        }
        prop_assert_eq!(state.revisions("c").len(), 1);
        prop_assert_eq!(state, wanted);
    }
}

#[test]
fn a_tag_rolls_by_itself_over_all_of_its_traffic() {
    let goal = |revision: &str| Rollout {
        configurations: vec![
            ConfigurationRollout::whole("c", "", revision, 40),
            ConfigurationRollout::whole("c", "t", revision, 100),
        ],
    };
    let (first, _) = Rollout::step(goal("old"), None, at(0));
    let (next, _) = Rollout::step(goal("new"), Some(first), at(0));
    let shares = |revisions: &[RevisionRollout]| -> Vec<(String, i64)> {
        revisions
            .iter()
            .map(|r| (r.revision_name.clone(), r.percent))
            .collect()
    };
    let split = |old, new| vec![("old".to_owned(), old), ("new".to_owned(), new)];
    assert_eq!(shares(next.revisions("c")), split(39, 1));
    assert_eq!(shares(next.of_tag("t").unwrap()), split(99, 1));
    assert_eq!(next.of_tag("other"), None);
    assert_eq!(Rollout::read(&next.write()), Some(next.clone()));
    let whole = Rollout::step(goal("old"), None, at(0)).0;
    assert_eq!(whole.of_tag("t"), None, "nothing is under way");
}
