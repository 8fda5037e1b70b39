//! `test/e2e/autoscale_test.go` and `autoscale_hpa_test.go`: instances follow the calls.

use crate::scaling::{
    self, CONCURRENCY_TARGET, Image, LOOK, Load, RPS_TARGET, Scaled, WINDOW, annotations, bounds, until_ready,
};
use crate::suite::text;
use kittiwake_testkit::platform::condition;
use serde_json::{Value, json};

const ALGORITHMS: [&str; 2] = ["linear", "weighted-exponential"];

/// `TestAutoscaleUpDownUp`, with both ways to average, and for functions that live for a call.
#[tokio::test(flavor = "multi_thread")]
async fn test_autoscale_up_down_up() {
    let suite = scaling::start().await;
    let cases = [
        ("linear", Image::Autoscale, ALGORITHMS[0]),
        ("exponential", Image::Autoscale, ALGORITHMS[1]),
        ("percall", Image::Timeout, ALGORITHMS[0]),
    ];
    let stories = cases.map(|(name, image, algorithm)| {
        let suite = &suite;
        async move {
            let more = [("metric-aggregation-algorithm", algorithm)];
            let scaled = Scaled::deploy(suite, name, image, &more).await;
            let up_from = async |current| {
                let mut load = scaled.load(2 * CONCURRENCY_TARGET);
                scaled.assert_up_to(current, 2, &mut load).await;
                load.end().await;
            };
            up_from(1).await;
            scaled.assert_down().await;
            up_from(0).await;
        }
    });
    futures::future::join_all(stories).await;
}

/// `TestAutoscaleUpCountPods`
#[tokio::test(flavor = "multi_thread")]
async fn test_autoscale_up_count_pods() {
    let suite = scaling::start().await;
    let stories = [("stays", Image::Autoscale), ("percall", Image::Timeout)].map(|(name, image)| {
        let suite = &suite;
        async move {
            let scaled = Scaled::deploy(suite, name, image, &[]).await;
            // More callers each time: without a time between two loads in which there is less to do.
            let mut load = scaled.load_held(CONCURRENCY_TARGET);
            for target in 2..=4 {
                load.add(&scaled, CONCURRENCY_TARGET);
                scaled.assert_up_to(target - 1, target, &mut load).await;
            }
            load.end().await;
            if image.stays() {
                let ready = usize::try_from(scaled.ready().await).unwrap();
                scaling::until_pods(suite, &scaled.revision, |count| count <= ready && count > 1).await;
            }
        }
    });
    futures::future::join_all(stories).await;
}

/// `TestRPSBasedAutoscaleUpCountPods`
#[tokio::test(flavor = "multi_thread")]
async fn test_rps_based_autoscale_up_count_pods() {
    let suite = scaling::start().await;
    let image = Image::Autoscale;
    let template = scaling::template(
        image,
        &[
            ("metric", "rps"),
            ("target", &RPS_TARGET.to_string()),
            ("target-utilization-percentage", "70"),
        ],
    );
    let scaled = Scaled::deploy_template(&suite, "rps", image, template).await;
    let mut load = Load::at_rate(&scaled, RPS_TARGET, "/?sleep=500");
    for target in 2..=4 {
        load.add_rate(&scaled, RPS_TARGET);
        scaled.assert_up_to(target - 1, target, &mut load).await;
    }
    load.end().await;
}

/// `TestAutoscaleSustaining`: whether it panics or not, the number of instances stays while the load does. Here for two
/// of the shortest windows. The exponential average has Knative's window: in one of six seconds four fifths are the
/// newest second, so that by the rule a second in which callers are between two calls is a dip.
#[tokio::test(flavor = "multi_thread")]
async fn test_autoscale_sustaining() {
    let suite = scaling::start().await;
    for (algorithm, window) in ALGORITHMS.into_iter().zip(["6s", "30s"]) {
        let more = [("metric-aggregation-algorithm", algorithm), ("window", window)];
        let scaled = Scaled::deploy(&suite, algorithm, Image::Autoscale, &more).await;
        let (_, target, most) = bounds(1, 8);
        let mut load = scaled.load_held(8 * CONCURRENCY_TARGET);
        let sustained = async {
            scaled.until_ready(|ready| (target..=most).contains(&ready)).await;
            for _ in 0..2 * WINDOW.as_millis() / LOOK.as_millis() {
                let got = scaled.ready().await;
                assert!(got >= target - 1, "{algorithm}: {got}");
                tokio::time::sleep(LOOK).await;
            }
            let got = scaled.ready().await;
            assert!((target - 1..=most).contains(&got), "{algorithm}: {got}");
        };
        load.while_waiting_for(sustained).await;
        load.end().await;
    }
}

/// A Service that takes ten calls at a time in each instance, of which seven are aimed at.
async fn deploy_ten(burst: &str) -> Scaled {
    let suite = scaling::start().await;
    let image = Image::Autoscale;
    let annotations = [
        ("target", "10"),
        ("target-utilization-percentage", "70"),
        ("target-burst-capacity", burst),
        ("panic-threshold-percentage", "200"),
    ];
    Scaled::deploy_template(&suite, "burst", image, scaling::template(image, &annotations)).await
}

/// `TestTargetBurstCapacity`: seven calls in one instance leave no room for seven more, so that they pass the activator;
/// twelve in two instances do. Read from the ServerlessService.
#[tokio::test(flavor = "multi_thread")]
async fn test_target_burst_capacity() {
    let scaled = deploy_ten("7").await;
    let mut load = scaled.load(7);
    let proxied = load.while_waiting_for(scaled.until_mode("Proxy", true)).await;
    assert_eq!(proxied["spec"]["numActivators"], 2);
    assert_eq!(proxied["status"]["privateServiceName"], "burst-00001-private");
    load.add(&scaled, 5);
    // Exactly two: not one, not three in panic.
    let two = load
        .while_waiting_for(scaled.until_ready(|ready| ready >= 2))
        .await;
    assert_eq!(two, 2);
    let served = load.while_waiting_for(scaled.until_mode("Serve", true)).await;
    assert_eq!(condition(&served, "Ready").0, "True");
    assert_eq!(scaled.ready().await, 2);
    load.end().await;
    scaled.until_mode("Proxy", false).await;
}

/// `TestTargetBurstCapacityMinusOne`: all calls pass the activator, however many instances there are.
#[tokio::test(flavor = "multi_thread")]
async fn test_target_burst_capacity_minus_one() {
    let scaled = deploy_ten("-1").await;
    let mut load = scaled.load(14);
    load.while_waiting_for(scaled.until_ready(|ready| ready >= 2))
        .await;
    let service = load.while_waiting_for(scaled.until_mode("Proxy", true)).await;
    assert_eq!(service["spec"]["numActivators"], 2);
    load.end().await;
}

/// `TestTargetBurstCapacityZero`: the activator is in the path at zero only.
#[tokio::test(flavor = "multi_thread")]
async fn test_target_burst_capacity_zero() {
    let scaled = deploy_ten("0").await;
    let mut load = scaled.load(14);
    load.while_waiting_for(scaled.until_mode("Serve", true)).await;
    load.end().await;
    scaled.until_ready(|ready| ready == 0).await;
    scaled.until_mode("Proxy", false).await;
}

/// `TestFastScaleToZero`
#[tokio::test(flavor = "multi_thread")]
async fn test_fast_scale_to_zero() {
    let suite = scaling::start().await;
    let more = [("target-burst-capacity", "-1")];
    let scaled = Scaled::deploy(&suite, "fast", Image::Autoscale, &more).await;
    scaled.assert_down().await;
}

/// `TestActivationScale`
#[tokio::test(flavor = "multi_thread")]
async fn test_activation_scale() {
    let suite = scaling::start().await;
    let stories = [("stays", Image::Autoscale), ("percall", Image::Timeout)].map(|(name, image)| {
        let suite = &suite;
        async move {
            let scaled = Scaled::deploy(suite, name, image, &[("activation-scale", "5")]).await;
            let replicas = |field: &'static str, wanted: fn(i64) -> bool| {
                let path = format!("revisions/{}", scaled.revision);
                async move {
                    let is = |revision: &Value| revision["status"][field].as_i64().is_some_and(wanted);
                    suite.platform.until(&path, is).await.unwrap();
                }
            };
            // It has had its first instance: it was called.
            replicas("actualReplicas", |count| count == 0).await;
            let mut load = scaled.load(1);
            load.while_waiting_for(replicas("desiredReplicas", |count| count == 5))
                .await;
            load.end().await;
        }
    });
    futures::future::join_all(stories).await;
}

/// Instances stay for the delay, although fewer were enough (annotation `scale-down-delay`); beside one without a delay.
#[tokio::test(flavor = "multi_thread")]
async fn instances_stay_for_the_scale_down_delay() {
    let suite = scaling::start().await;
    let deploy = |name, delay| {
        let suite = &suite;
        async move {
            let more = [("scale-down-delay", delay)];
            Scaled::deploy(suite, name, Image::Autoscale, &more).await
        }
    };
    let (slow, fast) = tokio::join!(deploy("slow", "1h"), deploy("fast", "0s"));
    let up = |scaled: Scaled| async move {
        let mut load = scaled.load(2 * CONCURRENCY_TARGET);
        let top = load
            .while_waiting_for(scaled.until_ready(|ready| ready >= 3))
            .await;
        load.end().await;
        top
    };
    let (top, _) = tokio::join!(up(slow.clone()), up(fast.clone()));
    fast.assert_down().await;
    assert!(slow.ready().await >= top, "the delay is not over");
}

/// `TestHPAAutoscaleUpDownUp`: by processor time, never to zero. Each instance asks for so little of it, and the load uses
/// so little, that it is used up also where the processor is shared, and that others hardly notice.
#[tokio::test(flavor = "multi_thread")]
async fn test_hpa_autoscale_up_down_up() {
    let suite = scaling::start().await;
    let image = Image::Autoscale;
    let mut template = scaling::template(image, &[]);
    template["metadata"]["annotations"] = annotations(&[
        ("class", "hpa.autoscaling.knative.dev"),
        ("metric", "cpu"),
        ("target", "75"),
        ("max-scale", "10"),
    ]);
    template["spec"]["containers"][0]["resources"] =
        json!({"requests": {"cpu": "6m", "memory": "20Mi"}, "limits": {"cpu": "300m"}});
    let scaled = Scaled::deploy_template(&suite, "hpa", image, template).await;
    for round in ["up", "up again"] {
        let mut load = Load::at_rate(&scaled, 10, "/?prime=1000000");
        let got = load
            .while_waiting_for(scaled.until_ready(|ready| ready >= 5))
            .await;
        assert!(got <= 10, "{round}: {got}");
        load.end().await;
        until_ready(&suite, &scaled.revision, |ready| ready == 1).await;
        scaling::until_pods(&suite, &scaled.revision, |count| count == 1).await;
        let revision = suite.object("revisions", &scaled.revision).await;
        assert_eq!(
            condition(&revision, "Ready").0,
            "True",
            "{}",
            text(&revision, "/metadata/name")
        );
    }
}
