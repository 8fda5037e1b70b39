//! Tables for the status of a Revision's PodAutoscaler.

use super::*;
use crate::kpa::deciders::Counts;
use kittiwake_api::condition::find;
use kittiwake_autoscaler::decider::Recommendation;
use serde_json::json;

fn rules() -> Rules {
    Rules {
        min: 0,
        max: 0,
        initial: 1,
        reachable: true,
        enable_scale_to_zero: true,
        grace: Duration::from_secs(30),
        retention: Duration::ZERO,
        stable_window: Duration::from_secs(60),
        progress_deadline: Duration::from_secs(600),
    }
}

/// A Revision whose Ready says `ready`, with its artifact on record when that is True.
fn revision(ready: &str) -> Revision {
    let statuses = (ready == "True").then(|| json!([{ "name": "c", "imageDigest": "x@sha256:1" }]));
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
        "metadata": { "name": "r", "namespace": "default", "uid": "u" },
        "spec": { "containers": [{ "name": "c" }] },
        "status": { "conditions": [{ "type": "Ready", "status": ready }],
            "containerStatuses": statuses.unwrap_or(json!([])) },
    }))
    .unwrap()
}

/// One PodAutoscaler that is looked at again and again.
struct Story {
    object: PodAutoscaler,
    instances: Instances,
    rules: Rules,
    revision: Revision,
    second: i64,
}

impl Story {
    fn new(instances: Instances) -> Self {
        let object = json!({
            "apiVersion": "autoscaling.internal.knative.dev/v1alpha1", "kind": "PodAutoscaler",
            "metadata": { "name": "r", "namespace": "default", "generation": 1 },
            "spec": { "scaleTargetRef": {}, "protocolType": "http1" },
        });
        Self {
            object: serde_json::from_value(object).unwrap(),
            instances,
            rules: rules(),
            revision: revision("True"),
            second: 0,
        }
    }

    /// After so many seconds, with what is decided and what is ready: `Active reason initialized desired actual
    /// replicas`, and when to look again.
    fn look(&mut self, after: i64, decided: Option<u32>, ready: u32) -> (String, Next) {
        self.second += after;
        let seen = Seen {
            latest: Recommendation {
                desired: decided,
                excess_burst_capacity: -1,
            },
            counts: Counts {
                ready,
                ..Counts::default()
            },
            proxied_for: Duration::from_secs(self.second.unsigned_abs()),
        };
        let now = Timestamp::from_second(self.second).unwrap();
        let plan = plan(
            &self.revision,
            &self.object,
            &self.rules,
            self.instances,
            &seen,
            |ready| 2 + ready,
            now,
        );
        if let Some(status) = plan.status {
            self.object.status = Some(status);
        }
        let status = self.object.status.clone().unwrap();
        let says = |type_: &str| find(&status.conditions, type_).unwrap();
        let (active, initialized) = (says("Active"), says("ScaleTargetInitialized"));
        let shown = format!(
            "{} {:?} {} {} {} {}",
            active.status.as_str(),
            active.reason,
            initialized.status.as_str(),
            status.desired_scale.unwrap(),
            status.actual_scale.unwrap(),
            status.annotations["kittiwake.dev/replicas"]
        );
        (shown, plan.next)
    }

    fn tells(&mut self, after: i64, decided: Option<u32>, ready: u32) -> String {
        self.look(after, decided, ready).0
    }
}

fn after(seconds: u64) -> Next {
    Next::After(Duration::from_secs(seconds))
}

#[test]
fn a_resident_one_from_its_start_to_zero_and_back() {
    let mut story = Story::new(Instances::Resident);
    story.revision = revision("Unknown");
    assert_eq!(story.tells(0, None, 0), r#"Unknown "Queued" Unknown -1 0 1"#);
    story.revision = revision("True");
    assert_eq!(story.tells(1, None, 0), r#"Unknown "Queued" Unknown -1 0 1"#);
    // Its first instance is ready at 2 s, then there are data: no calls.
    assert_eq!(story.tells(1, None, 1), r#"True "" True -1 1 1"#);
    assert_eq!(
        story.look(2, Some(0), 1),
        (r#"True "" True 1 1 1"#.to_owned(), after(58))
    );
    // 60 s after it became active, behind the activator for longer than the grace period: at once.
    assert_eq!(story.tells(58, Some(0), 1), r#"False "NoTraffic" True 0 1 0"#);
    assert_eq!(story.tells(1, Some(0), 0), r#"False "NoTraffic" True 0 0 0"#);
    // Calls: three are asked for.
    assert_eq!(story.tells(100, Some(3), 0), r#"Unknown "Queued" True 3 0 3"#);
    assert_eq!(story.tells(1, Some(3), 1), r#"True "" True 3 1 3"#);
    // A restart: nothing is known, what was wanted stands.
    assert_eq!(story.tells(1, None, 3), r#"True "" True 3 3 3"#);
}

#[test]
fn the_last_instance_stays_as_long_as_asked() {
    let mut story = Story::new(Instances::Resident);
    story.rules.retention = Duration::from_secs(300);
    assert_eq!(story.tells(0, None, 1), r#"True "" True -1 1 1"#);
    assert_eq!(
        story.look(60, Some(0), 1),
        (r#"False "NoTraffic" True 0 1 1"#.to_owned(), after(300))
    );
    assert_eq!(
        story.look(100, Some(0), 1),
        (r#"False "NoTraffic" True 0 1 1"#.to_owned(), after(200))
    );
    assert_eq!(story.tells(200, Some(0), 1), r#"False "NoTraffic" True 0 1 0"#);
}

#[test]
fn one_that_never_comes_up_is_given_up() {
    let mut story = Story::new(Instances::Resident);
    assert_eq!(
        story.look(0, None, 0),
        (r#"Unknown "Queued" Unknown -1 0 1"#.to_owned(), after(630))
    );
    assert_eq!(story.tells(630, None, 0), r#"Unknown "Queued" Unknown -1 0 1"#);
    assert_eq!(story.tells(1, None, 0), r#"False "TimedOut" Unknown 0 0 0"#);
    // It stays so without calls, and is tried again with them.
    assert_eq!(story.tells(60, None, 0), r#"False "NoTraffic" Unknown 0 0 0"#);
    assert_eq!(story.tells(60, Some(1), 0), r#"Unknown "Queued" Unknown 1 0 1"#);
}

#[test]
fn one_that_is_made_for_each_call_is_there_at_once() {
    let mut story = Story::new(Instances::PerCall);
    story.revision = revision("Unknown");
    assert_eq!(story.tells(0, None, 0), r#"Unknown "Queued" Unknown -1 0 1"#);
    story.revision = revision("True");
    assert_eq!(story.tells(1, None, 0), r#"True "" True 1 1 1"#);
    assert_eq!(story.tells(2, Some(0), 0), r#"True "" True 1 1 1"#);
    assert_eq!(story.tells(58, Some(0), 0), r#"False "NoTraffic" True 0 0 0"#);
    assert_eq!(story.tells(9, Some(7), 0), r#"True "" True 7 7 7"#);
}

#[test]
fn one_that_cannot_run_says_so_and_heals() {
    for instances in [Instances::PerCall, Instances::Resident] {
        let mut story = Story::new(instances);
        story.revision = revision("False");
        assert_eq!(story.tells(0, None, 0), r#"False "TimedOut" Unknown -1 0 1"#);
        story.revision = revision("True");
        let shown = story.tells(9, None, 1);
        assert!(shown.starts_with(r#"True "" True"#), "{shown}");
    }
}

#[test]
fn bounds_and_initial_scale() {
    let mut story = Story::new(Instances::Resident);
    story.rules = Rules {
        min: 2,
        initial: 4,
        max: 5,
        ..rules()
    };
    assert_eq!(story.tells(0, None, 3), r#"Unknown "Queued" Unknown 4 3 4"#);
    assert_eq!(story.tells(1, None, 4), r#"True "" True 4 4 4"#);
    // The initial scale was reached: the minimum counts.
    assert_eq!(story.tells(1, Some(0), 4), r#"True "" True 2 4 2"#);
    assert_eq!(story.tells(1, Some(99), 4), r#"True "" True 5 4 5"#);
    assert_eq!(story.tells(1, Some(99), 1), r#"Unknown "Queued" True 5 1 5"#);
    // No Route leads to it any more: one ready instance is enough, and after a window all go.
    story.rules.reachable = false;
    assert_eq!(story.tells(99, Some(0), 1), r#"True "" True 5 1 5"#);
    assert_eq!(story.tells(60, Some(0), 1), r#"False "NoTraffic" True 0 1 0"#);
}

#[test]
fn beginning_with_none() {
    let mut story = Story::new(Instances::Resident);
    story.rules.initial = 0;
    assert_eq!(story.tells(0, None, 0), r#"False "NoTraffic" True -1 0 0"#);
    assert_eq!(story.tells(5, None, 0), r#"False "NoTraffic" True -1 0 0"#);
    assert_eq!(story.tells(5, Some(1), 0), r#"Unknown "Queued" True 1 0 1"#);
}

#[test]
fn nothing_new_is_not_written() {
    let mut story = Story::new(Instances::Resident);
    story.look(0, Some(1), 1);
    let seen = Seen {
        latest: Recommendation {
            desired: Some(1),
            excess_burst_capacity: -1,
        },
        counts: Counts {
            ready: 1,
            cpu_cores: 0.5,
            ..Counts::default()
        },
        proxied_for: Duration::ZERO,
    };
    let now = Timestamp::from_second(999).unwrap();
    let plan = plan(
        &story.revision,
        &story.object,
        &story.rules,
        story.instances,
        &seen,
        |ready| 2 + ready,
        now,
    );
    assert_eq!(plan.status, None);
}
