//! What `config-autoscaler` may say.

use super::*;

fn data(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn nothing_said_is_knatives_default() {
    let unknown = data(&[("_example", "max-scale: 3"), ("flavour", "sweet")]);
    assert_eq!(Autoscaler::from_data(&unknown), Ok(Autoscaler::default()));
}

#[test]
fn every_key_is_read() {
    let pairs = [
        ("pod-autoscaler-class", "hpa.autoscaling.knative.dev"),
        ("enable-scale-to-zero", "False"),
        ("allow-zero-initial-scale", "1"),
        ("max-scale-up-rate", "1.5"),
        ("max-scale-down-rate", "3"),
        ("container-concurrency-target-percentage", "85"),
        ("container-concurrency-target-default", "42"),
        ("requests-per-second-target-default", "7.5"),
        ("target-burst-capacity", "-1"),
        ("panic-window-percentage", "50"),
        ("panic-threshold-percentage", "110"),
        ("activator-capacity", "12"),
        ("initial-scale", "0"),
        ("min-scale", "2"),
        ("max-scale", "20"),
        ("max-scale-limit", "30"),
        ("stable-window", "2m30s"),
        ("scale-down-delay", "15m"),
        ("scale-to-zero-grace-period", "1.5s"),
        ("scale-to-zero-pod-retention-period", "4h"),
    ];
    let config = Autoscaler::from_data(&data(&pairs)).unwrap();
    let wanted = Autoscaler {
        pod_autoscaler_class: "hpa.autoscaling.knative.dev".to_owned(),
        enable_scale_to_zero: false,
        allow_zero_initial_scale: true,
        max_scale_up_rate: 1.5,
        max_scale_down_rate: 3.0,
        container_concurrency_target_fraction: 0.85,
        container_concurrency_target_default: 42.0,
        requests_per_second_target_default: 7.5,
        target_burst_capacity: -1.0,
        panic_window_percentage: 50.0,
        panic_threshold_percentage: 110.0,
        activator_capacity: 12.0,
        initial_scale: 0,
        min_scale: 2,
        max_scale: 20,
        max_scale_limit: 30,
        stable_window: Duration::from_secs(150),
        scale_down_delay: Duration::from_secs(900),
        scale_to_zero_grace_period: Duration::from_millis(1500),
        scale_to_zero_pod_retention_period: Duration::from_secs(4 * 3600),
    };
    assert_eq!(config, wanted);
    assert_eq!(pairs.map(|(key, _)| key), KEYS);
}

#[test]
fn a_fraction_is_taken_as_one() {
    let config = Autoscaler::from_data(&data(&[("container-concurrency-target-percentage", "0.5")])).unwrap();
    assert_eq!(config.container_concurrency_target_fraction, 0.5);
}

#[test]
fn bad_values_are_named_with_what_they_may_be() {
    for (pairs, wanted) in [
        (
            &[("enable-scale-to-zero", "yes")][..],
            "enable-scale-to-zero = \"yes\": is neither true nor false",
        ),
        (
            &[("max-scale-up-rate", "fast")],
            "max-scale-up-rate = \"fast\": is not a number",
        ),
        (
            &[("max-scale-up-rate", "NaN")],
            "max-scale-up-rate = \"NaN\": is not a number",
        ),
        (
            &[("max-scale-up-rate", "1")],
            "max-scale-up-rate = \"1\": must be greater than 1.0",
        ),
        (
            &[("max-scale-down-rate", "0.5")],
            "max-scale-down-rate = \"0.5\": must be greater than 1.0",
        ),
        (
            &[("container-concurrency-target-percentage", "101")],
            "container-concurrency-target-percentage = \"101\": is outside of the valid range (0, 100]",
        ),
        (
            &[("container-concurrency-target-default", "0.01")],
            "container-concurrency-target-default = \"0.01\": with container-concurrency-target-percentage gives a target of \
             0.006999999999999999, which must be at least 0.01",
        ),
        (
            &[("requests-per-second-target-default", "0")],
            "requests-per-second-target-default = \"0\": must be at least 0.01",
        ),
        (
            &[("target-burst-capacity", "-2")],
            "target-burst-capacity = \"-2\": must be either non-negative or -1 (for unlimited)",
        ),
        (
            &[("panic-window-percentage", "0.5")],
            "panic-window-percentage = \"0.5\": must be within 1 and 100",
        ),
        (
            &[("activator-capacity", "0")],
            "activator-capacity = \"0\": must be at least 1",
        ),
        (
            &[("initial-scale", "0")],
            "initial-scale = \"0\": must be at least 1 while allow-zero-initial-scale is false",
        ),
        (&[("min-scale", "-1")], "min-scale = \"-1\": must be at least 0"),
        (
            &[("min-scale", "1.5")],
            "min-scale = \"1.5\": is not a whole number within 0 and 2147483647",
        ),
        (
            &[("min-scale", "3"), ("max-scale", "2")],
            "min-scale = \"3\": must not be greater than max-scale, which is 2",
        ),
        (
            &[("max-scale-limit", "5")],
            "max-scale = \"0\": must be within 1 and max-scale-limit, which is 5",
        ),
        (
            &[("stable-window", "5s")],
            "stable-window = \"5s\": must be within 6s and 1h0m0s",
        ),
        (
            &[("stable-window", "6.5s")],
            "stable-window = \"6.5s\": must be specified with at most second precision",
        ),
        (
            &[("stable-window", "60")],
            "stable-window = \"60\": is not a duration; write a number with a unit, such as 60s or 1h30m",
        ),
        (
            &[("scale-down-delay", "-1s")],
            "scale-down-delay = \"-1s\": must not be negative",
        ),
        (
            &[("scale-to-zero-grace-period", "0s")],
            "scale-to-zero-grace-period = \"0s\": must be positive",
        ),
    ] {
        let error = Autoscaler::from_data(&data(pairs)).unwrap_err();
        assert_eq!(error.to_string(), wanted);
    }
}
