//! What the tests of scaling share: Services that are called at a constant concurrency or rate, and how far their Revisions
//! are scaled (`test/e2e/autoscale.go`). Their windows are the shortest that Knative allows.
//!
//! On a machine that is busy a caller may need seconds for what is between two calls. The autoscaler is right not to
//! count those, so calls are held long beside that, and go on until what they should lead to was seen.

use crate::suite::{HELLO_WORLD, Suite, is_ready, text};
use http::StatusCode;
use kittiwake_testkit::platform::PATIENCE;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// What one instance shall take, and which part of that is aimed at (`containerConcurrency`, `rpsTarget`,
/// `targetUtilization` of Knative's test).
pub const CONCURRENCY_TARGET: u32 = 6;
/// Knative's is 10; fewer calls are made in their time also where the processor is shared.
pub const RPS_TARGET: u32 = 4;
pub const TARGET_UTILIZATION: f64 = 0.7;
/// The shortest stable window.
pub const WINDOW: Duration = Duration::from_secs(6);
/// Pause between two looks at the scale.
pub const LOOK: Duration = Duration::from_millis(250);
/// Back to zero as fast as Knative allows, and deployable at zero.
const SETTINGS: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: config-autoscaler, namespace: knative-serving}\n\
                        data: {scale-to-zero-grace-period: 1s, allow-zero-initial-scale: 'true'}\n";

/// A program that holds a call for as long as it is asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// Knative's `autoscale` as one that stays.
    Autoscale,
    /// Knative's `timeout` as one that lives for a call.
    Timeout,
    /// Knative's `helloworld` as one that lives for a call.
    HelloWorld,
}

impl Image {
    pub fn reference(self) -> String {
        match self {
            Self::Autoscale => crate::suite::server_image("autoscale"),
            Self::Timeout => crate::suite::image("timeout"),
            Self::HelloWorld => crate::suite::image("helloworld"),
        }
    }

    /// What has it hold a call, for the time that [`Load`] is about.
    pub fn query(self) -> &'static str {
        match self {
            Self::Autoscale => "/?sleep=4000",
            Self::Timeout => "/?timeout=4000",
            Self::HelloWorld => "/",
        }
    }

    pub fn stays(self) -> bool {
        self == Self::Autoscale
    }
}

/// A platform whose functions come and go fast.
pub async fn start() -> Arc<Suite> {
    let suite = Suite::start().await;
    suite.platform.apply(SETTINGS).await.unwrap();
    Arc::new(suite)
}

/// Annotations of a template, all below `autoscaling.knative.dev`, with the shortest window.
pub fn annotations(more: &[(&str, &str)]) -> Value {
    let mut all = Map::new();
    for (key, value) in [("window", "6s")].iter().chain(more) {
        all.insert(format!("autoscaling.knative.dev/{key}"), (*value).into());
    }
    Value::Object(all)
}

/// A template of one image.
pub fn template(image: Image, more: &[(&str, &str)]) -> Value {
    json!({"metadata": {"annotations": annotations(more)},
        "spec": {"containers": [{"image": image.reference()}]}})
}

/// A Service whose first Revision is scaled.
#[derive(Clone)]
pub struct Scaled {
    pub suite: Arc<Suite>,
    pub image: Image,
    pub revision: String,
    url: String,
}

impl Scaled {
    /// Deploys one with Knative's target of concurrency, and calls it once.
    pub async fn deploy(suite: &Arc<Suite>, name: &str, image: Image, more: &[(&str, &str)]) -> Self {
        let mut with_target = vec![("target", "6"), ("target-utilization-percentage", "70")];
        with_target.extend(more);
        Self::deploy_template(suite, name, image, template(image, &with_target)).await
    }

    pub async fn deploy_template(suite: &Arc<Suite>, name: &str, image: Image, template: Value) -> Self {
        let service = json!({"apiVersion": "serving.knative.dev/v1", "kind": "Service",
            "metadata": {"name": name}, "spec": {"template": template}});
        let ready = suite.create_service_ready(&service).await;
        let url = text(&ready, "/status/url").to_owned();
        let answer = suite.get(&url).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        Self {
            suite: Arc::clone(suite),
            image,
            revision: format!("{name}-00001"),
            url,
        }
    }

    /// What is at a path of the API.
    async fn at(&self, path: &str) -> Value {
        let found = self.suite.platform.until_at(path, |_| true).await;
        found.unwrap()
    }

    pub fn deployment(&self) -> String {
        deployment(&self.revision)
    }

    fn serverless_service(&self) -> String {
        let group = "/apis/networking.internal.knative.dev/v1alpha1/namespaces/default";
        format!("{group}/serverlessservices/{}", self.revision)
    }

    /// Instances that take calls (`numberOfReadyPods`).
    pub async fn ready(&self) -> i64 {
        ready(&self.at(&self.deployment()).await)
    }

    /// Waits until so many instances take calls.
    pub async fn until_ready(&self, wanted: impl Fn(i64) -> bool) -> i64 {
        until_ready(&self.suite, &self.revision, wanted).await
    }

    /// Waits until the ServerlessService says so: its mode, and whether instances take calls.
    pub async fn until_mode(&self, mode: &str, instances: bool) -> Value {
        let platform = &self.suite.platform;
        let wanted = |service: &Value| {
            let is = |kind| kittiwake_testkit::platform::condition(service, kind).0 == "True";
            service["spec"]["mode"] == mode
                && is("EndpointsPopulated") == instances
                && is("ActivatorEndpointsPopulated") == (mode == "Proxy" || !instances)
        };
        let path = self.serverless_service();
        platform.until_at(&path, wanted).await.unwrap()
    }

    /// Scales from about `current` to at least `target` instances, and not far beyond, under load for as many; the number
    /// does not go down on the way (`AssertAutoscaleUpToNumPods`, quick). The load goes on.
    pub async fn assert_up_to(&self, current: u32, target: u32, load: &mut Load) {
        let (mut least, target, most) = bounds(current, target);
        let latest = AtomicI64::new(0);
        let scaled = load.while_waiting_for(async {
            loop {
                let got = self.ready().await;
                latest.store(got, Ordering::Relaxed);
                assert!(got >= least, "{}: {got}, at least {least}", self.revision);
                if (target..=most).contains(&got) {
                    return;
                }
                if least < target - 1 {
                    least = got.min(target) - 1;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        if tokio::time::timeout(PATIENCE, scaled).await.is_err() {
            let latest = latest.into_inner();
            let autoscaler = self.suite.object("podautoscalers", &self.revision).await;
            panic!(
                "{}: {latest} at last, never {target} to {most} instances\n{:#}",
                self.revision, autoscaler["status"]
            );
        }
    }

    /// Goes to zero without calls, and stays ready (`assertScaleDown`).
    pub async fn assert_down(&self) {
        self.until_ready(|ready| ready == 0).await;
        if self.image.stays() {
            until_pods(&self.suite, &self.revision, |count| count == 0).await;
        }
        let revision = self.suite.object("revisions", &self.revision).await;
        assert!(is_ready(&revision), "{revision:#}");
    }

    /// Callers who call again as soon as they are answered.
    pub fn load(&self, callers: u32) -> Load {
        Load::at_concurrency(self, callers, self.image.query())
    }

    /// The same with calls of ten seconds, for numbers of instances that must not go down meanwhile.
    pub fn load_held(&self, callers: u32) -> Load {
        let query = match self.image {
            Image::Autoscale => "/?sleep=10000",
            Image::Timeout => "/?timeout=10000",
            Image::HelloWorld => "/",
        };
        Load::at_concurrency(self, callers, query)
    }
}

/// What Knative allows: the least at the beginning, the target, the most (`AutoscaleUpToNumPods`).
pub fn bounds(current: u32, target: u32) -> (i64, i64, i64) {
    let least = (f64::from(current) / TARGET_UTILIZATION).floor() as i64 - 1;
    let most = ((f64::from(target) / TARGET_UTILIZATION).ceil() * 1.1).ceil() as i64;
    (least, i64::from(target), most)
}

fn deployment(revision: &str) -> String {
    format!("/apis/apps/v1/namespaces/default/deployments/{revision}-deployment")
}

fn ready(deployment: &Value) -> i64 {
    deployment["status"]["readyReplicas"].as_i64().unwrap()
}

/// Waits until so many instances of a Revision take calls.
pub async fn until_ready(suite: &Suite, revision: &str, wanted: impl Fn(i64) -> bool) -> i64 {
    let path = deployment(revision);
    let found = suite.platform.until_at(&path, |object| wanted(ready(object)));
    ready(&found.await.unwrap())
}

/// The number of instances of a Revision that take calls stays as wanted for a window and more (`ensureDesiredScale`).
pub async fn hold_ready(suite: &Suite, revision: &str, wanted: impl Fn(i64) -> bool) {
    for _ in 0..(WINDOW.as_millis() / LOOK.as_millis()) + 8 {
        let now = suite.platform.until_at(&deployment(revision), |_| true).await;
        let now = ready(&now.unwrap());
        assert!(wanted(now), "{revision}: {now}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until a Revision has so many pods.
pub async fn until_pods(suite: &Suite, revision: &str, wanted: impl Fn(usize) -> bool) {
    let path =
        format!("/api/v1/namespaces/default/pods?labelSelector=serving.knative.dev%2Frevision%3D{revision}");
    let pods = suite
        .platform
        .until_at(&path, |list| wanted(list["items"].as_array().unwrap().len()));
    pods.await.unwrap();
}

/// Calls that are made until it is ended. All are answered with 200.
pub struct Load {
    query: &'static str,
    over: Arc<AtomicBool>,
    callers: JoinSet<()>,
}

impl Load {
    fn none(query: &'static str) -> Self {
        Self {
            query,
            over: Arc::default(),
            callers: JoinSet::new(),
        }
    }

    /// So many callers, each of whom calls again as soon as it is answered.
    pub fn at_concurrency(scaled: &Scaled, callers: u32, query: &'static str) -> Self {
        let mut load = Self::none(query);
        load.add(scaled, callers);
        load
    }

    /// So many calls a second, whether the last was answered or not.
    pub fn at_rate(scaled: &Scaled, per_second: u32, query: &'static str) -> Self {
        let mut load = Self::none(query);
        load.add_rate(scaled, per_second);
        load
    }

    /// More callers beside those there are.
    pub fn add(&mut self, scaled: &Scaled, callers: u32) {
        let query = self.query;
        for _ in 0..callers {
            let (scaled, over) = (scaled.clone(), Arc::clone(&self.over));
            self.callers.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    call(&scaled, query).await;
                }
            });
        }
    }

    /// More calls a second beside those there are.
    pub fn add_rate(&mut self, scaled: &Scaled, per_second: u32) {
        let (query, scaled, over) = (self.query, scaled.clone(), Arc::clone(&self.over));
        self.callers.spawn(async move {
            let mut calls = JoinSet::new();
            let mut turns = tokio::time::interval(Duration::from_secs(1) / per_second);
            // After a pause of the machine those that were missed are made, so that the rate holds.
            turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
            while !over.load(Ordering::Relaxed) {
                turns.tick().await;
                let scaled = scaled.clone();
                calls.spawn(async move { call(&scaled, query).await });
                while let Some(ended) = calls.try_join_next() {
                    ended.unwrap();
                }
            }
            calls.join_all().await;
        });
    }

    /// Waits for something while the calls go on. One that fails fails the test, which then tells why.
    pub async fn while_waiting_for<T>(&mut self, what: impl Future<Output = T>) -> T {
        tokio::select! {
            came = what => came,
            Some(ended) = self.callers.join_next() => {
                ended.unwrap();
                panic!("a caller ended by itself");
            }
        }
    }

    /// Waits for the last answers.
    pub async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.callers.join_all().await;
    }
}

async fn call(scaled: &Scaled, query: &str) {
    let answer = scaled.suite.get(&format!("{}{query}", scaled.url)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}: {}", scaled.url, answer.text());
    if scaled.image == Image::HelloWorld {
        assert!(answer.text().contains(HELLO_WORLD));
    }
}
