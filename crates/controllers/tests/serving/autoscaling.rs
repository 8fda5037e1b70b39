//! Scaling: stats as the request path sends them come in, PodAutoscalers and the scale table follow.

use crate::platform::{Platform, condition, ready, reason, service};
use kittiwake_api::autoscaling::pod_autoscaler::PodAutoscaler;
use kittiwake_api::autoscaling::user_pod_autoscaler::PodAutoscaler as UserPodAutoscaler;
use kittiwake_api::serving::{Revision, Service};
use kittiwake_core::revision::RevisionKey;
use kittiwake_core::scale::{STATS_PERIOD, Stat, Stats};
use kube::ResourceExt;
use serde_json::{Value, json};

/// A revision that is called.
struct Called {
    revision: &'static str,
    uid: String,
}

impl Called {
    async fn of(platform: &Platform, revision: &'static str) -> Self {
        let uid = platform.get::<Revision>(revision).await.uid().unwrap();
        Self { revision, uid }
    }

    fn stat(&self, concurrency: f64, ready: u32) -> Stat {
        Stat {
            revision: RevisionKey::new("default", self.revision),
            uid: self.uid.as_str().into(),
            concurrency,
            requests_per_second: concurrency,
            ready,
            starting: 0,
            stopping: 0,
            cpu_cores: 0.0,
            memory_bytes: 0.0,
        }
    }

    fn tell(&self, platform: &Platform, from_zero: bool, concurrency: f64, ready: u32) {
        let stats = Stats {
            process: 0,
            at: None,
            from_zero,
            of: vec![self.stat(concurrency, ready)],
        };
        assert!(platform.stats.send(stats));
    }

    /// The same load for so many seconds. As many instances are ready as are wanted, a second later.
    async fn load(&self, platform: &Platform, seconds: u32, concurrency: f64) {
        for _ in 0..seconds {
            let wanted = platform.wanted(self.revision).await.unwrap_or(0);
            self.tell(platform, false, concurrency, wanted);
            tokio::time::sleep(STATS_PERIOD).await;
        }
    }
}

fn annotated(name: &str, image: &str, annotations: Value) -> Value {
    let mut object = service(name, image);
    object["spec"]["template"]["metadata"] = json!({ "annotations": annotations });
    object
}

/// `Active desired actual` of a PodAutoscaler.
fn shown(object: &PodAutoscaler) -> String {
    let status = object.status.as_ref().unwrap();
    format!(
        "{} {} {}",
        condition(object, "Active"),
        status.desired_scale.unwrap(),
        status.actual_scale.unwrap()
    )
}

async fn pod_autoscaler(platform: &Platform, name: &str) -> String {
    shown(&platform.get::<PodAutoscaler>(name).await)
}

/// Deploys a Service. One whose instances stay is ready once they are, which each test tells for itself.
async fn deploy(platform: &Platform, object: Value) {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let image = &object["spec"]["template"]["spec"]["containers"][0]["image"];
    let stays = image.as_str().unwrap().starts_with("server");
    platform.create::<Service>(object).await;
    if stays {
        let is_prepared = |revision: &Revision| {
            let status = revision.status.as_ref();
            status.is_some_and(|status| !status.container_statuses.is_empty())
        };
        platform
            .wait::<Revision>(&format!("{name}-00001"), is_prepared)
            .await;
        platform.settle().await;
    } else {
        platform.wait::<Service>(&name, ready).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_is_scaled_by_its_load_to_zero_and_back() {
    let platform = Platform::start().await;
    deploy(&platform, service("hello", "server:v1")).await;
    let called = Called::of(&platform, "hello-00001").await;
    assert_eq!(platform.wanted("hello-00001").await, Some(1), "the initial scale");
    assert_eq!(pod_autoscaler(&platform, "hello-00001").await, "Unknown -1 0");
    let revision = platform.get::<Revision>("hello-00001").await;
    assert_eq!(
        (
            condition(&revision, "Ready"),
            reason(&revision, "ResourcesAvailable")
        ),
        ("Unknown".to_owned(), "Deploying".to_owned()),
        "not before its instances are"
    );
    called.load(&platform, 3, 0.0).await;
    assert_eq!(pod_autoscaler(&platform, "hello-00001").await, "True 1 1");
    platform.wait::<Service>("hello", ready).await;
    // 300 calls under way, 70 for each: 5 instances.
    called.load(&platform, 70, 300.0).await;
    assert_eq!(pod_autoscaler(&platform, "hello-00001").await, "True 5 5");
    let status = platform.get::<Revision>("hello-00001").await.status.unwrap();
    assert_eq!(
        (status.desired_replicas, status.actual_replicas),
        (Some(5), Some(5))
    );
    // Steady load: nothing is written.
    let before = platform
        .get::<PodAutoscaler>("hello-00001")
        .await
        .resource_version();
    called.load(&platform, 60, 300.0).await;
    assert_eq!(
        platform
            .get::<PodAutoscaler>("hello-00001")
            .await
            .resource_version(),
        before
    );
    // Nobody calls any more.
    called.load(&platform, 150, 0.0).await;
    assert_eq!(pod_autoscaler(&platform, "hello-00001").await, "False 0 0");
    let revision = platform.get::<Revision>("hello-00001").await;
    assert_eq!(reason(&revision, "Active"), "NoTraffic");
    assert_eq!(platform.wanted("hello-00001").await, Some(0));
    assert!(
        ready(&platform.get::<Service>("hello").await),
        "a function at zero is ready"
    );
    // The first call is answered at once, not with the next tick.
    called.tell(&platform, true, 1.0, 0);
    let wanted = |object: &PodAutoscaler| shown(object) == "Unknown 1 0";
    platform.wait::<PodAutoscaler>("hello-00001", wanted).await;
    assert_eq!(platform.wanted("hello-00001").await, Some(1));
}

#[tokio::test(start_paused = true)]
async fn what_is_made_for_each_call_is_counted_as_wanted() {
    let platform = Platform::start().await;
    deploy(&platform, service("hello", "good:v1")).await;
    let up = |object: &PodAutoscaler| shown(object) == "True 1 1";
    platform.wait::<PodAutoscaler>("hello-00001", up).await;
    let idle =
        |object: &PodAutoscaler| shown(object) == "False 0 0" && reason(object, "Active") == "NoTraffic";
    platform.wait::<PodAutoscaler>("hello-00001", idle).await;
    assert!(ready(&platform.get::<Service>("hello").await));
    let called = Called::of(&platform, "hello-00001").await;
    called.load(&platform, 70, 139.0).await;
    assert_eq!(pod_autoscaler(&platform, "hello-00001").await, "True 2 2");
    assert_eq!(platform.wanted("hello-00001").await, Some(2));
    platform.wait::<PodAutoscaler>("hello-00001", idle).await;
}

#[tokio::test(start_paused = true)]
async fn annotations_and_a_restart() {
    let mut platform = Platform::start().await;
    let annotations = json!({
        "autoscaling.knative.dev/minScale": "2", "autoscaling.knative.dev/max-scale": "4",
        "autoscaling.knative.dev/target": "10", "autoscaling.knative.dev/targetUtilizationPercentage": "100",
        "autoscaling.knative.dev/initial-scale": "3",
    });
    deploy(&platform, annotated("hello", "server:v1", annotations)).await;
    let called = Called::of(&platform, "hello-00001").await;
    platform.settle().await;
    assert_eq!(platform.wanted("hello-00001").await, Some(3));
    called.tell(&platform, false, 0.0, 2);
    let says = |wanted: &'static str| move |object: &PodAutoscaler| shown(object) == wanted;
    platform
        .wait::<PodAutoscaler>("hello-00001", says("Unknown 3 2"))
        .await;
    // A process that is silent has nothing.
    platform
        .wait::<PodAutoscaler>("hello-00001", says("Unknown 3 0"))
        .await;
    called.load(&platform, 3, 0.0).await;
    assert_eq!(
        condition(
            &platform.get::<PodAutoscaler>("hello-00001").await,
            "ScaleTargetInitialized"
        ),
        "True"
    );
    called.load(&platform, 70, 0.0).await;
    assert_eq!(
        pod_autoscaler(&platform, "hello-00001").await,
        "True 2 2",
        "min-scale"
    );
    called.load(&platform, 10, 500.0).await;
    assert_eq!(
        pod_autoscaler(&platform, "hello-00001").await,
        "True 4 4",
        "max-scale, not 50"
    );
    platform.restart().await;
    assert_eq!(
        platform.wanted("hello-00001").await,
        Some(4),
        "what was wanted stands"
    );
    called.load(&platform, 30, 0.0).await;
    assert_eq!(
        pod_autoscaler(&platform, "hello-00001").await,
        "True 4 4",
        "no data for a window yet"
    );
    called.load(&platform, 100, 0.0).await;
    assert_eq!(pod_autoscaler(&platform, "hello-00001").await, "True 2 2");
}

#[tokio::test(start_paused = true)]
async fn a_users_pod_autoscaler_bounds_what_is_wanted() {
    let platform = Platform::start().await;
    platform
        .create::<UserPodAutoscaler>(json!({
            "apiVersion": "autoscaling.knative.dev/v1alpha1", "kind": "PodAutoscaler", "metadata": { "name": "hello" },
            "spec": { "scaleTargetRef": { "apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "hello" }, "minScale": 0, "maxScale": 3, "target": 80 },
        }))
        .await;
    deploy(&platform, service("hello", "server:v1")).await;
    let called = Called::of(&platform, "hello-00001").await;
    // 80 * 0.7 = 56 for each: 1000 calls ask for 18.
    called.load(&platform, 10, 1000.0).await;
    assert_eq!(pod_autoscaler(&platform, "hello-00001").await, "True 3 3");
    platform
        .merge::<UserPodAutoscaler>("hello", json!({ "spec": { "maxScale": 1000 } }))
        .await;
    called.load(&platform, 10, 1000.0).await;
    assert_eq!(pod_autoscaler(&platform, "hello-00001").await, "True 18 18");
    let status = platform.get::<UserPodAutoscaler>("hello").await.status.unwrap();
    assert_eq!((status.desired_scale, status.actual_scale), (Some(18), Some(18)));
}

#[tokio::test(start_paused = true)]
async fn a_foreign_class_is_left_alone() {
    let platform = Platform::start().await;
    let annotations = json!({ "autoscaling.knative.dev/class": "mine.example.com" });
    deploy(&platform, annotated("hello", "server:v1", annotations)).await;
    let called = Called::of(&platform, "hello-00001").await;
    for _ in 0..10 {
        called.tell(&platform, false, 500.0, 1);
        tokio::time::sleep(STATS_PERIOD).await;
    }
    assert_eq!(platform.get::<PodAutoscaler>("hello-00001").await.status, None);
    assert_eq!(platform.wanted("hello-00001").await, None);
}

#[tokio::test(start_paused = true)]
async fn class_hpa_follows_the_processor_time() {
    let platform = Platform::start().await;
    let annotations = json!({
        "autoscaling.knative.dev/class": "hpa.autoscaling.knative.dev", "autoscaling.knative.dev/target": "50",
        "autoscaling.knative.dev/max-scale": "6",
    });
    let mut object = annotated("hello", "server:v1", annotations);
    object["spec"]["template"]["spec"]["containers"][0]["resources"] =
        json!({ "requests": { "cpu": "200m" } });
    deploy(&platform, object).await;
    let called = Called::of(&platform, "hello-00001").await;
    // 50 % of 0.2 cores are 0.1 for each: 0.4 ask for 4.
    for _ in 0..40 {
        let ready = platform.wanted("hello-00001").await.unwrap_or(0);
        let mut stat = called.stat(1.0, ready);
        stat.cpu_cores = 0.4;
        assert!(platform.stats.send(Stats {
            process: 0,
            at: None,
            from_zero: false,
            of: vec![stat],
        }));
        tokio::time::sleep(STATS_PERIOD).await;
    }
    assert_eq!(pod_autoscaler(&platform, "hello-00001").await, "True 4 4");
    // Nobody calls: never to zero, and not before five minutes are over.
    called.load(&platform, 200, 0.0).await;
    assert_eq!(pod_autoscaler(&platform, "hello-00001").await, "True 4 4");
    called.load(&platform, 150, 0.0).await;
    assert_eq!(pod_autoscaler(&platform, "hello-00001").await, "True 1 1");
}
