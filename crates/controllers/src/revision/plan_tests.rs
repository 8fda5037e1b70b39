//! Tables for the plan of a Revision.

use super::*;
use kittiwake_api::condition::find;
use kittiwake_core::artifact::{FunctionKind, PrepareError};
use serde_json::json;
use std::sync::Arc;

fn revision() -> Revision {
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
        "metadata": {
            "name": "hello-00001", "namespace": "default", "uid": "rev-uid", "generation": 1,
            "labels": { "serving.knative.dev/service": "hello", "serving.knative.dev/configuration": "hello" },
        },
        "spec": {
            "containers": [{
                "name": "user-container", "image": "ghcr.io/me/hello:v1", "args": ["-v"],
                "resources": { "limits": { "memory": "64Mi" } },
            }],
            "timeoutSeconds": 10, "containerConcurrency": 3,
        },
    }))
    .unwrap()
}

fn observed(preparation: Option<Preparation>) -> Observed<'static> {
    Observed {
        pod_autoscaler: None,
        surroundings: Ok(Surroundings {
            env: vec![("A".to_owned(), "1".to_owned())],
            ..Surroundings::default()
        }),
        credentials: Credentials::default(),
        preparation,
        failure: None,
        log_url: None,
        progress_deadline: Duration::from_secs(600),
    }
}

fn ready() -> Preparation {
    Preparation::Ready(Prepared {
        image: "ghcr.io/me/hello@sha256:1".to_owned(),
        kind: FunctionKind::Component,
        sidecars: Vec::new(),
    })
}

fn failure(code: ErrorCode, exit_code: Option<i32>) -> Failure {
    let observed = observed(None);
    let request = request(&revision(), observed.surroundings.clone().unwrap(), &observed);
    Failure {
        error: PrepareError {
            exit_code,
            ..PrepareError::new(code, "the cause, and the fix")
        },
        attempts: 1,
        since: Timestamp::UNIX_EPOCH,
        request: Arc::new(request),
    }
}

fn failed(code: ErrorCode, exit_code: Option<i32>) -> Preparation {
    Preparation::Failed {
        failure: failure(code, exit_code),
        retry_at: at(5),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn says(plan: &Plan, type_: &str) -> (&'static str, String) {
    let condition = find(&plan.status.as_ref().unwrap().conditions, type_).unwrap();
    (condition.status.as_str(), condition.reason.clone())
}

#[test]
fn a_new_revision_is_prepared_with_all_it_says() {
    let plan = plan(&revision(), observed(None), at(0));
    let request = &plan.prepare.as_ref().unwrap().revision;
    assert_eq!(
        (&*request.image, &*request.args),
        ("ghcr.io/me/hello:v1", &["-v".to_owned()][..])
    );
    assert_eq!(request.limits.memory.0, 64 << 20);
    assert_eq!(request.limits.timeout, Duration::from_secs(10));
    assert_eq!(request.limits.concurrency.map(|c| c.get()), Some(3));
    assert_eq!(says(&plan, "Ready"), ("Unknown", "ResolvingDigests".to_owned()));
    assert_eq!(plan.serve, Servable::Undecided);
}

#[test]
fn one_whose_instances_stay_is_ready_once_they_are() {
    let scaler = |active: &str, reason: &str, initialized: &str, desired: i32| -> PodAutoscaler {
        serde_json::from_value(json!({
            "apiVersion": "autoscaling.internal.knative.dev/v1alpha1", "kind": "PodAutoscaler",
            "metadata": { "name": "hello-00001", "namespace": "default", "ownerReferences": [
                { "apiVersion": "serving.knative.dev/v1", "kind": "Revision", "name": "hello-00001", "uid": "rev-uid", "controller": true }] },
            "spec": {},
            "status": { "desiredScale": desired, "conditions": [
                { "type": "Active", "status": active, "reason": reason },
                { "type": "ScaleTargetInitialized", "status": initialized }] },
        }))
        .unwrap()
    };
    let (starting, begun) = (
        scaler("Unknown", "Queued", "Unknown", 3),
        scaler("True", "", "True", 3),
    );
    let given_up = scaler("False", "TimedOut", "Unknown", 0);
    // It could not be started at first, for another reason: that is told elsewhere, and heals.
    let failed = scaler("False", "TimedOut", "Unknown", -1);
    let kinds = [FunctionKind::Server, FunctionKind::Component];
    for (scaler, wanted) in [
        (None, ["Unknown Deploying", "True "]),
        (Some(&starting), ["Unknown Deploying", "True "]),
        (Some(&failed), ["Unknown Deploying", "True "]),
        (Some(&begun), ["True ", "True "]),
        (Some(&given_up), ["False ProgressDeadlineExceeded", "True "]),
    ] {
        for (kind, wanted) in kinds.into_iter().zip(wanted) {
            let prepared = Preparation::Ready(Prepared {
                image: "ghcr.io/me/hello@sha256:1".to_owned(),
                kind,
                sidecars: Vec::new(),
            });
            let observed = Observed {
                pod_autoscaler: scaler,
                ..observed(Some(prepared))
            };
            let mut revision = revision();
            let plan = plan(&revision, observed.clone(), at(0));
            let (status, reason) = says(&plan, "Ready");
            assert_eq!(format!("{status} {reason}"), wanted, "{kind:?} {scaler:?}");
            // Its instances can be started meanwhile, and once it was ready it stays so.
            assert!(matches!(plan.serve, Servable::Yes(_)));
            if scaler == Some(&begun) {
                revision.status = plan.status;
                let observed = Observed {
                    pod_autoscaler: Some(&starting),
                    ..observed
                };
                assert_eq!(
                    super::plan(&revision, observed, at(1))
                        .status
                        .map(|s| find(&s.conditions, "Ready").unwrap().is_true()),
                    Some(true)
                );
            }
        }
    }
}

#[test]
fn phases_are_shown() {
    for (phase, reason, word) in [
        (PreparePhase::Pulling, "ResolvingDigests", "Pulling"),
        (PreparePhase::Compiling, "Deploying", "Compiling"),
        (PreparePhase::Starting, "Deploying", "Starting"),
    ] {
        let plan = plan(
            &revision(),
            observed(Some(Preparation::Running {
                phase: Some(phase),
                last: None,
            })),
            at(0),
        );
        assert_eq!(says(&plan, "ContainerHealthy"), ("Unknown", reason.to_owned()));
        let status = plan.status.unwrap();
        assert!(find(&status.conditions, "Ready").unwrap().message.contains(word));
        assert!(plan.prepare.is_none());
    }
}

#[test]
fn a_ready_artifact_makes_a_ready_revision_and_nothing_flaps_after_a_restart() {
    let mut revision = revision();
    let first = plan(&revision, observed(Some(ready())), at(0));
    assert_eq!(says(&first, "Ready"), ("True", String::new()));
    assert_eq!(first.notices[0].reason, "RevisionReady");
    let Servable::Yes(spec) = &first.serve else {
        panic!()
    };
    assert_eq!(
        (&*spec.image, &*spec.service, &*spec.uid),
        ("ghcr.io/me/hello@sha256:1", "hello", "rev-uid")
    );
    let status = first.status.unwrap();
    assert_eq!(
        status.container_statuses[0].name.as_deref(),
        Some("user-container")
    );
    assert_eq!(status.observed_generation, Some(1));
    revision.status = Some(status);

    let restarted = plan(&revision, observed(None), at(50));
    assert_eq!(restarted.status, None, "it stays ready");
    assert_eq!(
        &*restarted.prepare.unwrap().revision.image,
        "ghcr.io/me/hello@sha256:1",
        "the pinned image, no tag"
    );
    let compiling = Preparation::Running {
        phase: Some(PreparePhase::Compiling),
        last: None,
    };
    assert_eq!(plan(&revision, observed(Some(compiling)), at(51)).status, None);
    assert_eq!(plan(&revision, observed(Some(ready())), at(52)).status, None);
}

#[test]
fn failures_have_knatives_reasons_and_heal() {
    for (code, exit_code, reason) in [
        (ErrorCode::ArtifactNotFound, None, "ContainerMissing"),
        (ErrorCode::StartFailed, Some(134), "ExitCode134"),
    ] {
        let mut revision = revision();
        let first = plan(&revision, observed(Some(failed(code, exit_code))), at(0));
        assert_eq!(says(&first, "ContainerHealthy"), ("False", reason.to_owned()));
        assert_eq!(says(&first, "Ready"), ("False", reason.to_owned()));
        assert_eq!(
            (&first.serve, first.next),
            (&Servable::No, Next::After(Duration::from_secs(5)))
        );
        let status = first.status.unwrap();
        assert!(
            find(&status.conditions, "Ready")
                .unwrap()
                .message
                .contains("the cause, and the fix [KW")
        );
        revision.status = Some(status);
        let again = plan(&revision, observed(Some(failed(code, exit_code))), at(5));
        assert!(
            again.status.is_none() && again.prepare.is_some(),
            "tried again, saying the same"
        );
        let running = Preparation::Running {
            phase: None,
            last: Some(failure(code, exit_code)),
        };
        assert_eq!(plan(&revision, observed(Some(running)), at(6)).status, None);
        let healed = plan(&revision, observed(Some(ready())), at(7));
        assert_eq!(says(&healed, "Ready"), ("True", String::new()));
    }
}

#[test]
fn what_is_not_ready_in_time_is_said_in_knatives_words_and_tried_again() {
    let mut revision = revision();
    let late = plan(
        &revision,
        observed(Some(failed(ErrorCode::NotReadyInTime, None))),
        at(0),
    );
    for condition in ["ResourcesAvailable", "Ready"] {
        assert_eq!(
            says(&late, condition),
            ("False", "ProgressDeadlineExceeded".to_owned())
        );
    }
    assert_eq!(says(&late, "ContainerHealthy").0, "Unknown");
    assert_eq!(
        (&late.serve, late.next),
        (&Servable::No, Next::After(Duration::from_secs(5)))
    );
    let status = late.status.unwrap();
    let message = &find(&status.conditions, "Ready").unwrap().message;
    assert!(
        message.starts_with("Initial scale was never achieved: the cause, and the fix"),
        "{message}"
    );
    revision.status = Some(status);
    let running = Preparation::Running {
        phase: Some(PreparePhase::Starting),
        last: Some(failure(ErrorCode::NotReadyInTime, None)),
    };
    assert_eq!(
        plan(&revision, observed(Some(running)), at(6)).status,
        None,
        "it is said until it is ready"
    );
    let healed = plan(&revision, observed(Some(ready())), at(7));
    assert_eq!(says(&healed, "Ready"), ("True", String::new()));
}

#[test]
fn what_may_pass_is_no_failure_before_the_deadline() {
    let mut revision = revision();
    let away = || observed(Some(failed(ErrorCode::RegistryUnavailable, None)));
    assert_eq!(
        says(&plan(&revision, away(), at(1)), "Ready"),
        ("Unknown", "Deploying".to_owned())
    );
    let late = plan(&revision, away(), at(600));
    assert_eq!(
        says(&late, "ResourcesAvailable"),
        ("False", "ProgressDeadlineExceeded".to_owned())
    );
    assert!(late.prepare.is_some(), "still tried");
    revision.metadata.annotations = Some(
        [(meta::PROGRESS_DEADLINE_ANNOTATION.to_owned(), "1m5s".to_owned())]
            .into_iter()
            .collect(),
    );
    assert_eq!(says(&plan(&revision, away(), at(64)), "Ready").0, "Unknown");
    assert_eq!(says(&plan(&revision, away(), at(65)), "Ready").0, "False");
}

#[test]
fn a_changed_pull_secret_is_tried_at_once_and_a_missing_one_is_named() {
    let mut changed = observed(Some(failed(ErrorCode::RegistryUnauthorized, None)));
    changed
        .credentials
        .problems
        .push("imagePullSecrets: secret \"pull\" not found".to_owned());
    let plan_missing = plan(&revision(), changed.clone(), at(1));
    assert!(plan_missing.prepare.is_none());
    let status = plan_missing.status.unwrap();
    assert!(
        find(&status.conditions, "Ready")
            .unwrap()
            .message
            .contains("\"pull\" not found")
    );
    changed.credentials = Credentials {
        known: vec![kittiwake_core::artifact::RegistryCredential {
            registry: "ghcr.io".to_owned(),
            username: "me".to_owned(),
            password: "p".to_owned(),
        }],
        problems: vec![],
    };
    assert_eq!(
        plan(&revision(), changed, at(1))
            .prepare
            .unwrap()
            .credentials
            .len(),
        1
    );
}

#[test]
fn traps_show_until_a_call_succeeds_while_calls_still_go_there() {
    let trapping = Observed {
        failure: Some(Failing {
            message: "wasm trap: unreachable".to_owned(),
            exit_code: 134,
        }),
        ..observed(Some(ready()))
    };
    let plan_trap = plan(&revision(), trapping, at(0));
    assert_eq!(
        says(&plan_trap, "ContainerHealthy"),
        ("False", "ExitCode134".to_owned())
    );
    assert!(matches!(plan_trap.serve, Servable::Yes(_)));
    let mut revision = revision();
    revision.status = plan_trap.status;
    assert_eq!(
        says(&plan(&revision, observed(Some(ready())), at(1)), "Ready").0,
        "True"
    );
}

#[test]
fn a_missing_secret_in_the_environment_is_named() {
    let missing = Observed {
        surroundings: Err("secret \"s\" not found".to_owned()),
        ..observed(None)
    };
    let plan = plan(&revision(), missing, at(0));
    assert_eq!(
        says(&plan, "Ready"),
        ("False", "CreateContainerConfigError".to_owned())
    );
    assert!(plan.prepare.is_none() && plan.serve == Servable::No);
}

#[test]
fn a_foreign_pod_autoscaler_is_named_without_flapping() {
    let foreign = PodAutoscaler::new("hello-00001", Default::default());
    let observed = || Observed {
        pod_autoscaler: Some(&foreign),
        ..observed(Some(ready()))
    };
    let mut revision = revision();
    let first = plan(&revision, observed(), at(0));
    assert_eq!(
        says(&first, "ResourcesAvailable"),
        ("False", "NotOwned".to_owned())
    );
    revision.status = first.status;
    assert_eq!(plan(&revision, observed(), at(100)).status, None);
}

#[test]
fn deadlines_are_go_durations() {
    for (text, wanted) in [
        ("90s", Some(90)),
        ("1h1m1s", Some(3661)),
        ("0s", None),
        ("10", None),
        ("1d", None),
        ("é", None),
        ("", None),
    ] {
        let mut revision = revision();
        revision.metadata.annotations = Some(
            [(meta::PROGRESS_DEADLINE_ANNOTATION.to_owned(), text.to_owned())]
                .into_iter()
                .collect(),
        );
        let wanted = Duration::from_secs(wanted.unwrap_or(600));
        assert_eq!(deadline(&revision, &observed(None)), wanted, "{text:?}");
        let request = plan(&revision, observed(None), at(0)).prepare.unwrap();
        assert_eq!(request.progress_deadline, wanted, "{text:?}");
    }
}

#[test]
fn an_image_pinned_by_the_user_fails_in_the_kubelets_words() {
    let mut revision = revision();
    revision.spec.pod_spec.containers[0].image = Some("ghcr.io/me/hello@sha256:2".to_owned());
    let request = request(&revision, observed(None).surroundings.unwrap(), &observed(None));
    let tried = |code, attempts| {
        let failure = Failure {
            attempts,
            request: Arc::new(request.clone()),
            ..failure(code, None)
        };
        Preparation::Failed {
            failure,
            retry_at: at(9_000),
        }
    };
    let deadline = i64::try_from(observed(None).progress_deadline.as_secs()).unwrap();
    for (code, attempts, second, ready) in [
        (ErrorCode::ArtifactNotFound, 1, 0, ("False", "ErrImagePull")),
        (ErrorCode::ArtifactNotFound, 2, 0, ("False", "ImagePullBackOff")),
        (
            ErrorCode::RegistryUnauthorized,
            2,
            0,
            ("False", "ImagePullBackOff"),
        ),
        (ErrorCode::RegistryUnavailable, 2, 0, ("Unknown", "Deploying")),
        (
            ErrorCode::RegistryUnavailable,
            9,
            deadline,
            ("False", "ImagePullBackOff"),
        ),
        (ErrorCode::NotWasm, 2, 0, ("False", "ContainerMissing")),
    ] {
        let plan = plan(&revision, observed(Some(tried(code, attempts))), at(second));
        assert_eq!(
            says(&plan, "Ready"),
            (ready.0, ready.1.to_owned()),
            "{code:?} {attempts}"
        );
    }
    let second = plan(
        &revision,
        observed(Some(tried(ErrorCode::ArtifactNotFound, 2))),
        at(0),
    );
    let conditions = second.status.unwrap().conditions;
    assert_eq!(
        find(&conditions, "ResourcesAvailable").unwrap().message,
        "Back-off pulling image \"ghcr.io/me/hello@sha256:2\": ErrImagePull: the cause, and the fix [KW0101]"
    );
}

/// One whose second container takes the calls.
fn several() -> Revision {
    let mut revision = revision();
    revision.spec.pod_spec.containers = serde_json::from_value(json!([
        { "name": "side", "image": "side:v1", "args": ["-q"], "resources": { "limits": { "memory": "8Mi" } },
          "readinessProbe": { "httpGet": { "port": 8882 } } },
        { "name": "app", "image": "app:v1", "ports": [{ "containerPort": 8881 }] },
        { "name": "other", "image": "other@sha256:3" },
    ]))
    .unwrap();
    revision
}

fn observed_several(preparation: Option<Preparation>) -> Observed<'static> {
    let of = |name: &str| Surroundings {
        env: vec![("A".to_owned(), name.to_owned())],
        ..Surroundings::default()
    };
    Observed {
        surroundings: Ok(Surroundings {
            sidecars: vec![of("side"), of("other")],
            ..of("app")
        }),
        ..observed(preparation)
    }
}

#[test]
fn all_containers_are_prepared_and_served_together() {
    let begun = plan(&several(), observed_several(None), at(0));
    let request = &begun.prepare.as_ref().unwrap().revision;
    assert_eq!((&*request.image, request.port), ("app:v1", 8881));
    let [side, other] = &*request.sidecars else {
        panic!("{:?}", request.sidecars)
    };
    assert_eq!(
        (&*side.name, &*side.image, &*side.args),
        ("side", "side:v1", &["-q".to_owned()][..])
    );
    assert_eq!(side.memory.0, 8 << 20);
    assert!(side.probes.readiness.is_some() && other.probes.readiness.is_none());
    assert_eq!(other.env, [("A".to_owned(), "other".to_owned())]);
    let prepared = Preparation::Ready(Prepared {
        image: "app@sha256:1".to_owned(),
        kind: FunctionKind::Server,
        sidecars: vec!["side@sha256:2".into(), "other@sha256:3".into()],
    });
    let mut revision = several();
    let done = plan(&revision, observed_several(Some(prepared.clone())), at(1));
    let Servable::Yes(served) = &done.serve else {
        panic!("{:?}", done.serve)
    };
    assert_eq!(
        (&*served.image, served.kind),
        ("app@sha256:1", FunctionKind::Server)
    );
    assert_eq!(&*served.sidecars[0].image, "side@sha256:2");
    let status = done.status.unwrap();
    let digests: Vec<_> = status
        .container_statuses
        .iter()
        .map(|one| {
            format!(
                "{} {}",
                one.name.as_deref().unwrap(),
                one.image_digest.as_deref().unwrap()
            )
        })
        .collect();
    assert_eq!(
        digests,
        ["side side@sha256:2", "app app@sha256:1", "other other@sha256:3"]
    );
    // What is on record then is what the data plane serves, without being prepared.
    assert_eq!(Images::pinned(&revision), None);
    revision.status = Some(RevisionStatus {
        container_statuses: status.container_statuses,
        ..RevisionStatus::default()
    });
    let images = Images::pinned(&revision).unwrap();
    assert_eq!((&*images.serving, images.sidecars.len()), ("app@sha256:1", 2));
    assert_eq!(&*images.sidecars[0], "side@sha256:2");
}

#[test]
fn what_is_wrong_with_a_sidecar_is_told_of_it() {
    let failed = |code: ErrorCode, name: &str| {
        let observed = observed_several(None);
        let request = request(&several(), observed.surroundings.clone().unwrap(), &observed);
        let failure = Failure {
            error: PrepareError::new(code, "the cause, and the fix").of_sidecar(&name.into()),
            request: Arc::new(request),
            ..failure(code, None)
        };
        let preparation = Preparation::Failed {
            failure,
            retry_at: at(5),
        };
        plan(&several(), observed_several(Some(preparation)), at(0))
    };
    let pull = failed(ErrorCode::ArtifactNotFound, "other");
    assert_eq!(
        says(&pull, "ResourcesAvailable"),
        ("False", "ErrImagePull".to_owned())
    );
    let tag = failed(ErrorCode::ArtifactNotFound, "side");
    assert_eq!(
        says(&tag, "ContainerHealthy"),
        ("False", "ContainerMissing".to_owned())
    );
    let conditions = tag.status.unwrap().conditions;
    assert_eq!(
        find(&conditions, "ContainerHealthy").unwrap().message,
        "container \"side\": the cause, and the fix [KW0101]"
    );
}
