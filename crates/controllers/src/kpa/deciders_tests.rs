//! Stories of stats that come in and decisions that are made.

use super::*;
use kittiwake_autoscaler::decider::BURST_UNLIMITED;
use kittiwake_autoscaler::target::Target;
use kittiwake_autoscaler::window::Aggregation;
use kittiwake_core::revision::RevisionKey;
use kittiwake_core::scale::Stat;

fn spec() -> DeciderSpec {
    DeciderSpec {
        target: Target {
            target: 7.0,
            total: 10.0,
        },
        ..DeciderSpec::default()
    }
}

fn deciders() -> Deciders {
    Deciders::new(Metrics::register(&prometheus::Registry::new()).unwrap())
}

fn known(instances: Instances, replicas: u32) -> Known {
    Known {
        uid: "u".into(),
        labels: Labels {
            service: "s".into(),
            configuration: "c".into(),
        },
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
        at: None,
        from_zero: false,
        of,
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_first_call_is_decided_on_at_once() {
    let deciders = deciders();
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
    // The panic window holds 1, 1 and 26: 28 / 3, by 7.
    deciders.take(batch(0, vec![stat("r", 26.0, 0)]), at(102));
    assert_eq!(deciders.tick(at(102)), [key("r")]);
    let seen = deciders.upsert(&key("r"), known(Instances::Resident, 1), at(102));
    assert_eq!(seen.latest.desired, Some(2));
}

/// Twelve calls under way, of which 4.2 are aimed at in each instance, in the window that looks most at the newest second.
/// Whenever two processes that have a part of them each tell and it is decided, on time or late: they ask for three.
#[test]
fn when_it_is_told_and_when_decided_changes_nothing() {
    let known = || Known {
        spec: DeciderSpec {
            aggregation: Aggregation::WeightedExponential,
            target: Target {
                target: 4.2,
                total: 6.0,
            },
            stable_window: at(6),
            panic_window: at(1),
            ..DeciderSpec::default()
        },
        ..known(Instances::Resident, 3)
    };
    // Moments within a second, in milliseconds: when each process tells, and when it is decided.
    let moments = [0, 1, 300, 500, 999];
    let late = [0, 0, 0, 1, 0, 2, 999, 0, 0, 1500, 0, 500];
    for (first, second, decided) in triples(&moments) {
        let deciders = deciders();
        let _ = deciders.upsert(&key("r"), known(), at(0));
        // Each process tells a second after it told last, when it is not late.
        let mut events = vec![];
        for (process, moment, of) in [(1, first, 8.0), (2, second, 4.0)] {
            let mut time = moment;
            for turn in 0..30 {
                time += 1000 + late[(turn + moment) % late.len()];
                events.push((time, Some((process, of))));
            }
        }
        events.extend((0..15).map(|turn| (decided + 2000 * turn, None)));
        events.sort_by_key(|(time, event)| (*time, event.is_none()));
        for (time, event) in events {
            let now = Duration::from_millis(u64::try_from(time).unwrap());
            match event {
                Some((process, of)) => {
                    deciders.take(batch(process, vec![stat("r", of, 2)]), now);
                }
                None => {
                    deciders.tick(now);
                    let desired = deciders.upsert(&key("r"), known(), now).latest.desired;
                    // Until there are seconds of which both have told.
                    let settled = now >= at(12);
                    assert!(
                        !settled || desired == Some(3),
                        "{first} {second} {decided}: {desired:?} at {now:?}"
                    );
                }
            }
        }
    }
}

/// All triples.
fn triples(of: &[usize]) -> impl Iterator<Item = (usize, usize, usize)> {
    let pairs = of.iter().flat_map(move |a| of.iter().map(move |b| (*a, *b)));
    pairs.flat_map(move |(a, b)| of.iter().map(move |c| (a, b, *c)))
}

#[test]
fn processes_are_added_up_and_forgotten_when_silent() {
    let deciders = deciders();
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
    let deciders = deciders();
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
    let deciders = deciders();
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
    let deciders = deciders();
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
    let deciders = deciders();
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

#[test]
fn a_revision_has_series_while_it_has_instances_or_calls() {
    let registry = prometheus::Registry::new();
    let deciders = Deciders::new(Metrics::register(&registry).unwrap());
    let text = || {
        prometheus::TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap()
    };
    let _ = deciders.upsert(&key("r"), known(Instances::Resident, 0), at(0));
    deciders.tick(at(2));
    assert_eq!(text(), "", "an idle one has none");
    deciders.take(batch(0, vec![stat("r", 21.0, 2)]), at(3));
    deciders.tick(at(4));
    let of = "{configuration_name=\"c\",namespace_name=\"default\",revision_name=\"r\",service_name=\"s\"}";
    let new = "{k8s_namespace_name=\"default\",kn_configuration_name=\"c\",kn_revision_name=\"r\",kn_service_name=\"s\"}";
    for line in [
        format!("autoscaler_actual_pods{of} 2"),
        format!("autoscaler_desired_pods{of} 3"),
        format!("autoscaler_requested_pods{of} 0"),
        format!("autoscaler_stable_request_concurrency{of} 21"),
        format!("autoscaler_panic_request_concurrency{of} 21"),
        format!("autoscaler_target_concurrency_per_pod{of} 7"),
        // 2 * 10 - 211 - 21.
        format!("autoscaler_excess_burst_capacity{of} -212"),
        format!("autoscaler_panic_mode{of} 0"),
        format!("kn_revision_pods_desired{new} 3"),
        format!("kn_revision_concurrency_stable{new} 21"),
    ] {
        assert!(
            text().lines().any(|other| other == line),
            "{line} is not in\n{}",
            text()
        );
    }
    deciders.take(batch(0, Vec::new()), at(5));
    deciders.tick(at(80));
    assert_eq!(text(), "", "it had no instance and no call for a window");
    deciders.take(batch(0, vec![stat("r", 21.0, 2)]), at(81));
    deciders.tick(at(82));
    assert_ne!(text(), "");
    deciders.forget(&key("r"));
    assert_eq!(text(), "");
}

#[test]
fn class_hpa_goes_by_what_instances_use() {
    use kittiwake_autoscaler::hpa::HpaTarget;
    let deciders = deciders();
    let uid: Arc<str> = "u".into();
    let spec = HpaSpec {
        target: HpaTarget::Cpu(0.1),
        min: 0,
        max: 5,
        window: None,
    };
    let ask = || deciders.upsert_hpa(&key("r"), &uid, spec, 0);
    assert_eq!(ask(), (1, Counts::default()));
    assert_eq!(
        deciders.take(batch(0, vec![stat("r", 0.0, 1)]), at(14)),
        [key("r")]
    );
    // 0.25 cores are used, 0.1 are wanted for each: 3.
    assert_eq!(deciders.tick(at(16)), [key("r")]);
    let (desired, counts) = ask();
    assert_eq!((desired, counts.ready), (3, 1));
    deciders.take(batch(0, vec![stat("r", 0.0, 1)]), at(18));
    assert_eq!(deciders.tick(at(18)), [], "not more often than each 15 s");
    // Another class from now on.
    let _ = deciders.upsert(&key("r"), known(Instances::Resident, 1), at(20));
    assert!(deciders.lock().hpas.is_empty());
}

#[test]
fn after_a_restart_what_was_ready_counts_until_the_request_path_had_time_to_tell() {
    let before = Known {
        ready_before: 4,
        ..known(Instances::Resident, 4)
    };
    let deciders = deciders();
    let ask = |key: &ObjectKey, now: u64| deciders.upsert(key, before.clone(), at(now)).counts.ready;
    assert_eq!((ask(&key("told"), 100), ask(&key("silent"), 101)), (4, 4));
    assert!(
        deciders
            .take(batch(0, vec![stat("told", 1.0, 3)]), at(102))
            .contains(&key("told"))
    );
    assert_eq!((ask(&key("told"), 102), ask(&key("silent"), 105)), (3, 4));
    assert!(deciders.tick(at(106)).contains(&key("silent")));
    assert_eq!(ask(&key("silent"), 106), 0);
    assert_eq!(ask(&key("later"), 107), 0, "that one was not there before");
}
