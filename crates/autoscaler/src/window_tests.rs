//! Tables for windows, worked out by hand.

use super::*;
use proptest::prelude::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A window of 5 s with what was recorded, as (second, value).
fn window(aggregation: Aggregation, records: &[(u64, f64)]) -> Window {
    let mut window = Window::new(aggregation, at(5));
    for (second, value) in records {
        window.record(at(*second), *value);
    }
    window
}

fn linear(records: &[(u64, f64)], now: u64) -> f64 {
    window(Aggregation::Linear, records).average(at(now))
}

#[test]
fn a_window_that_is_not_full_is_as_long_as_it_is_full() {
    // (records, now) → average
    for (records, now, wanted) in [
        (&[][..], 100, 0.0),
        (&[(100, 10.0)], 100, 10.0),
        // Two seconds: (10 + 20) / 2.
        (&[(100, 10.0), (101, 20.0)], 101, 15.0),
        // Two values of one second are added up: (10 + 5) / 1.
        (&[(100, 10.0), (100, 5.0)], 100, 15.0),
        // A gap of two seconds counts as zeros: (10 + 0 + 0 + 20) / 4.
        (&[(100, 10.0), (103, 20.0)], 103, 7.5),
        // Full: seconds 101 to 105 count, (2 + 3 + 4 + 5 + 6) / 5.
        (
            &[
                (100, 1.0),
                (101, 2.0),
                (102, 3.0),
                (103, 4.0),
                (104, 5.0),
                (105, 6.0),
            ],
            105,
            4.0,
        ),
        // A third, rounded to six digits.
        (&[(100, 1.0), (102, 0.0)], 102, 0.333_333),
        (&[(100, 2.0), (102, 0.0)], 102, 0.666_667),
    ] {
        assert_eq!(linear(records, now), wanted, "{records:?} at {now}");
    }
}

#[test]
fn silence_shortens_the_window_and_then_empties_it() {
    let records = [(100, 5.0), (101, 10.0), (102, 15.0), (103, 20.0), (104, 25.0)];
    for (now, wanted) in [
        // 75 / 5; then the oldest leave and nothing comes: 70/4, 60/3, 45/2, 25/1, nothing.
        (104, 15.0),
        (105, 17.5),
        (106, 20.0),
        (107, 22.5),
        (108, 25.0),
        (109, 0.0),
        (500, 0.0),
        // The clock of a record may be ahead of the reader's.
        (103, 15.0),
    ] {
        assert_eq!(linear(&records, now), wanted, "at {now}");
    }
    // A window that was not full: two seconds of data, one of silence.
    assert_eq!(linear(&[(100, 4.0), (101, 8.0)], 102), 6.0);
}

#[test]
fn after_a_silence_as_long_as_the_window_everything_begins_anew() {
    // 104 is 4 s after 100: still one window, (10 + 0 + 0 + 0 + 30) / 5. 105 is 5 s after: a new one.
    assert_eq!(linear(&[(100, 10.0), (104, 30.0)], 104), 8.0);
    assert_eq!(linear(&[(100, 10.0), (105, 30.0)], 105), 30.0);
}

#[test]
fn late_records_count_where_they_belong_unless_too_old() {
    assert_eq!(
        linear(&[(103, 10.0), (101, 20.0)], 103),
        10.0,
        "(20 + 0 + 10) / 3"
    );
    assert_eq!(
        linear(&[(105, 10.0), (100, 1000.0)], 105),
        10.0,
        "5 s old: passed over"
    );
}

#[test]
fn emptiness_is_a_window_without_records() {
    let window = window(Aggregation::Linear, &[(100, 1.0)]);
    assert!(!window.is_empty(at(100)) && !window.is_empty(at(105)) && window.is_empty(at(106)));
    assert!(Window::new(Aggregation::Linear, at(5)).is_empty(at(0)));
}

#[test]
fn what_is_no_number_counts_nothing() {
    assert_eq!(
        linear(
            &[(100, f64::NAN), (100, f64::INFINITY), (100, -3.0), (100, 2.0)],
            100
        ),
        2.0
    );
}

#[test]
fn weights_fall_with_age() {
    // 5 buckets: 1 - 0.0001^(1/5) = 1 - 10^(-0.8) = 0.841511; 60: 1 - 10^(-4/60) = 0.142304, less than 0.2.
    assert!((coefficient(5) - 0.841_510_680_753_889).abs() < 1e-12);
    assert_eq!(coefficient(60), 0.2);
    let a = coefficient(5);
    let weighted =
        |records: &[(u64, f64)], now| window(Aggregation::WeightedExponential, records).average(at(now));
    let close = |value: f64, wanted: f64| assert!((value - wanted).abs() < 1e-9, "{value} is not {wanted}");
    // The first second has its weight only, as in Knative: the weights are not made to sum to 1.
    close(weighted(&[(100, 10.0)], 100), 10.0 * a);
    close(
        weighted(&[(100, 10.0), (101, 20.0)], 101),
        20.0 * a + 10.0 * a * (1.0 - a),
    );
    // One second of silence moves all by one.
    close(
        weighted(&[(100, 10.0), (101, 20.0)], 102),
        (20.0 * a + 10.0 * a * (1.0 - a)) * (1.0 - a),
    );
    close(weighted(&[(100, 10.0)], 106), 0.0);
}

#[test]
fn a_longer_or_shorter_window_keeps_the_newest_seconds() {
    let records = [(100, 1.0), (101, 2.0), (102, 3.0), (103, 4.0), (104, 5.0)];
    let mut shorter = window(Aggregation::Linear, &records);
    shorter.resize(at(2), at(104));
    assert_eq!(shorter.average(at(104)), 4.5, "(4 + 5) / 2");
    let mut longer = window(Aggregation::Linear, &records);
    longer.resize(at(10), at(104));
    assert_eq!(longer.average(at(104)), 3.0, "15 / 5: five seconds are known");
    longer.record(at(105), 9.0);
    assert_eq!(longer.average(at(105)), 4.0, "24 / 6");
    let mut idle = window(Aggregation::Linear, &records);
    idle.resize(at(10), at(200));
    assert!(idle.is_empty(at(200)) && idle.average(at(200)) == 0.0);
    idle.record(at(201), 7.0);
    assert_eq!(idle.average(at(201)), 7.0);
}

#[test]
fn memory_is_given_back_after_a_silence() {
    let mut window = window(Aggregation::Linear, &[(100, 1.0)]);
    window.shrink(at(105));
    assert_eq!(window.buckets.len(), 5);
    window.shrink(at(106));
    assert_eq!(window.buckets.capacity(), 0);
}

proptest! {
    /// Whatever is recorded when, an average lies within what was recorded.
    #[test]
    fn averages_lie_within_the_sums_of_seconds(
        records in prop::collection::vec((0_u64..40, 0.0_f64..1000.0), 1..60),
        now in 0_u64..60,
        weighted in any::<bool>(),
    ) {
        let aggregation = if weighted { Aggregation::WeightedExponential } else { Aggregation::Linear };
        let window = window(aggregation, &records);
        let mut sums = std::collections::BTreeMap::<u64, f64>::new();
        for (second, value) in &records {
            *sums.entry(*second).or_default() += value;
        }
        let largest = sums.values().copied().fold(0.0, f64::max);
        let average = window.average(at(now.max(records.iter().map(|r| r.0).max().unwrap())));
        prop_assert!((0.0..=largest + 1e-5).contains(&average), "{average} of at most {largest}");
    }

    /// A full linear window is the plain mean of its last seconds.
    #[test]
    fn a_full_window_is_the_mean(values in prop::collection::vec(0.0_f64..100.0, 5..40)) {
        let mut window = Window::new(Aggregation::Linear, at(5));
        for (second, value) in (0..).zip(&values) {
            window.record(at(second), *value);
        }
        let last = u64::try_from(values.len() - 1).unwrap();
        let mean = values[values.len() - 5..].iter().sum::<f64>() / 5.0;
        prop_assert!((window.average(at(last)) - mean).abs() < 1e-6);
    }
}
