//! Stories of stats that come in and decisions that are made.

use super::*;
use kittiwake_autoscaler::decider::BURST_UNLIMITED;
use kittiwake_autoscaler::metric::Metric;
use kittiwake_autoscaler::target::Target;
use kittiwake_autoscaler::window::Aggregation;
use kittiwake_core::revision::RevisionKey;
use kittiwake_core::scale::Stat;

fn spec() -> DeciderSpec {
    DeciderSpec {
        metric: Metric::Concurrency,
        aggregation: Aggregation::Linear,
        target: Target {
            target: 7.0,
            total: 10.0,
        },
        stable_window: Duration::from_secs(60),
        panic_window: Duration::from_secs(6),
        panic_threshold: 2.0,
        target_burst_capacity: 211.0,
        max_scale_up_rate: 1000.0,
        max_scale_down_rate: 2.0,
        scale_down_delay: Duration::ZERO,
        activation_scale: 0,
        initial_scale: 1,
        reachable: true,
    }
}

fn known(instances: Instances, replicas: u32) -> Known {
    Known {
        uid: "u".into(),
        spec: spec(),
        instances,
        replicas,
        ready_before: 0,
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn stat(name: &str, concurrency: f64, ready: u32) -> Stat {
    Stat {
        revision: RevisionKey::new("default", name),
        uid: "u".into(),
        concurrency,
        requests_per_second: concurrency,
        ready,
        starting: 0,
        stopping: 0,
        cpu_cores: 0.25,
        memory_bytes: 1024.0,
    }
}

fn batch(process: u64, of: Vec<Stat>) -> Stats {
    Stats {
        process,
        from_zero: false,
        of,
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_first_call_is_decided_on_at_once() {
    let deciders = Deciders::default();
    let seen = deciders.upsert(&key("r"), known(Instances::Resident, 0), at(0));
    assert_eq!(seen.latest.desired, None);
    let first = Stats {
        from_zero: true,
        ..batch(0, vec![stat("r", 1.0, 0)])
    };
    assert_eq!(deciders.take(first, at(100)), [key("r")]);
    let seen = deciders.upsert(&key("r"), known(Instances::Resident, 0), at(100));
    assert_eq!(seen.latest.desired, Some(1));
    assert_eq!(
        deciders.take(batch(0, vec![stat("r", 1.0, 0)]), at(101)),
        [],
        "not more often than each tick"
    );
    // The panic window holds 1 and 21: 22 / 2 → 11, by 7.
    deciders.take(batch(0, vec![stat("r", 20.0, 0)]), at(101));
    assert_eq!(deciders.tick(at(102)), [key("r")]);
    let seen = deciders.upsert(&key("r"), known(Instances::Resident, 1), at(102));
    assert_eq!(seen.latest.desired, Some(2));
}

#[test]
fn processes_are_added_up_and_forgotten_when_silent() {
    let deciders = Deciders::default();
    let ask = |now| {
        deciders
            .upsert(&key("r"), known(Instances::Resident, 3), at(now))
            .counts
    };
    ask(0);
    assert_eq!(
        deciders.take(batch(1, vec![stat("r", 7.0, 1)]), at(1)),
        [key("r")]
    );
    assert_eq!(
        deciders.take(batch(2, vec![stat("r", 7.0, 2)]), at(1)),
        [key("r")]
    );
    assert_eq!(ask(1).ready, 3);
    assert_eq!(ask(1).memory_bytes, 2048.0);
    // What a process does not name any more it does not have.
    assert_eq!(deciders.take(batch(2, Vec::new()), at(2)), [key("r")]);
    assert_eq!(ask(2).ready, 1);
    // A batch between two periods says nothing of others.
    let between = Stats {
        from_zero: true,
        ..batch(1, vec![stat("other", 1.0, 0)])
    };
    assert_eq!(deciders.take(between, at(3)), []);
    assert_eq!(ask(3).ready, 1);
    assert!(
        deciders.tick(at(9)).contains(&key("r")),
        "process 1 was heard 6 s ago"
    );
    assert_eq!(ask(9).ready, 0);
}

#[test]
fn an_instance_without_calls_counts_as_such_and_nothing_is_done_for_none() {
    let deciders = Deciders::default();
    // One that is made for each call is wanted, and nobody calls.
    let _ = deciders.upsert(&key("r"), known(Instances::PerCall, 1), at(0));
    assert_eq!(deciders.tick(at(2)), [key("r")]);
    let seen = deciders.upsert(&key("r"), known(Instances::PerCall, 0), at(2));
    assert_eq!((seen.latest.desired, seen.counts.ready), (Some(0), 0));
    for second in (4..=62).step_by(2) {
        assert_eq!(deciders.tick(at(second)), []);
    }
    assert_eq!(deciders.lock().live.len(), 1, "there are data yet");
    deciders.tick(at(64));
    assert!(deciders.lock().live.is_empty(), "it costs nothing any more");
}

#[test]
fn silence_means_no_calls_also_where_all_pass_the_activator() {
    let deciders = Deciders::default();
    let unlimited = Known {
        spec: DeciderSpec {
            target_burst_capacity: BURST_UNLIMITED,
            ..spec()
        },
        ..known(Instances::Resident, 1)
    };
    let _ = deciders.upsert(&key("r"), unlimited, at(0));
    assert_eq!(deciders.tick(at(2)), [key("r")]);
}

#[test]
fn another_object_of_the_name_begins_anew() {
    let deciders = Deciders::default();
    let _ = deciders.upsert(&key("r"), known(Instances::Resident, 1), at(0));
    deciders.take(batch(0, vec![stat("r", 9.0, 1)]), at(1));
    deciders.tick(at(2));
    let other = Known {
        uid: "v".into(),
        ..known(Instances::Resident, 1)
    };
    let seen = deciders.upsert(&key("r"), other, at(3));
    assert_eq!((seen.latest.desired, seen.counts.ready), (None, 0));
    assert_eq!(
        deciders.take(batch(0, vec![stat("r", 9.0, 1)]), at(4)),
        [],
        "that is the old one's"
    );
    deciders.forget(&key("r"));
    assert_eq!(deciders.tick(at(6)), []);
}

#[test]
fn the_way_past_the_activator_is_remembered() {
    let deciders = Deciders::default();
    let ask = |now| {
        deciders
            .upsert(&key("r"), known(Instances::Resident, 1), at(now))
            .proxied_for
    };
    assert_eq!(ask(5), at(0));
    assert_eq!(ask(9), at(4));
    deciders.set_mode(&key("r"), ServingMode::Serve, at(10));
    assert_eq!(ask(20), at(0));
    deciders.set_mode(&key("r"), ServingMode::Proxy, at(30));
    deciders.set_mode(&key("r"), ServingMode::Proxy, at(40));
    assert_eq!(ask(42), at(12));
}
