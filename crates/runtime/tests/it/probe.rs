//! Probes that run a command beside an instance.

use crate::support::{Rig, spec, text};
use kittiwake_core::artifact::{FunctionKind, Prepare, PrepareError, PrepareRequest, Prepared};
use kittiwake_core::body;
use kittiwake_core::code::ErrorCode;
use kittiwake_core::log::LogStream;
use kittiwake_core::probe::{Handler, Probe, Probes};
use kittiwake_core::report::Health;
use kittiwake_core::resident::{Instances, Resident, Residents};
use kittiwake_core::revision::{Limits, RevisionSpec};
use kittiwake_core::unit::ByteCount;
use kittiwake_testkit::guest;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The look-alike of Knative's image `readiness`, whose argument `probe` asks `/healthz` of its own port.
fn readiness() -> Vec<u8> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../guests/knative/servers/readiness.wasm"
    );
    std::fs::read(path).unwrap()
}

fn probe(command: &[&str]) -> Option<Probe> {
    Some(Probe {
        handler: Handler::Exec {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        },
        initial_delay: Duration::ZERO,
        period: Duration::from_millis(20),
        timeout: Duration::from_secs(5),
        success_threshold: 1,
        failure_threshold: 2,
    })
}

fn revision(image: &str, probes: Probes, env: &[(&str, &str)]) -> RevisionSpec {
    let env = env.iter().chain(&[("PORT", "8080")]);
    RevisionSpec {
        kind: FunctionKind::Server,
        probes,
        env: env
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        args: Vec::new(),
        ..spec(image, Limits::default())
    }
}

async fn prepare(rig: &Rig, revision: &RevisionSpec, limit: Duration) -> Result<Prepared, PrepareError> {
    let request = PrepareRequest {
        revision: revision.clone(),
        credentials: Vec::new(),
        progress_deadline: limit,
    };
    rig.runtime.prepare(request, Arc::new(|_| ())).await
}

async fn until(instances: &mut watch::Receiver<Instances>, wanted: impl Fn(&Instances) -> bool) -> Instances {
    let found = tokio::time::timeout(Duration::from_secs(60), instances.wait_for(|now| wanted(now))).await;
    found.unwrap().unwrap().clone()
}

async fn call(instance: &Arc<dyn Resident>, path: &str) -> String {
    let request = http::Request::get(path).body(body::empty()).unwrap();
    text(instance.invoke(request, Instant::now()).await.unwrap()).await
}

#[tokio::test]
async fn an_instance_is_ready_once_its_command_succeeds_in_its_network() {
    let rig = Rig::new();
    rig.write("readiness.wasm", &readiness());
    let probes = Probes {
        startup: probe(&["/ko-app/readiness", "probe"]),
        readiness: probe(&["readiness.wasm", "probe"]),
        liveness: None,
    };
    let mut late = revision("file://readiness.wasm", probes, &[("READY_DELAY", "300ms")]);
    late.probes.startup.as_mut().unwrap().failure_threshold = 10_000;
    let begun = Instant::now();
    let prepared = prepare(&rig, &late, Duration::from_secs(60)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let told = rig.log(LogStream::Platform);
    let failure = "the command of the startup probe failed: \"/ko-app/readiness probe\" exited with code 1";
    assert!(told.matches(failure).count() >= 1, "{told}");
    assert_eq!(
        rig.log(LogStream::Stderr),
        "",
        "what a command prints is no log of the function"
    );
    // Two instances that have the same port are asked each in its own network.
    late.image = prepared.image.into();
    let late = Arc::new(late);
    let mut instances = rig.runtime.instances(&late);
    rig.runtime.scale(&late, 2);
    let now = until(&mut instances, |now| now.ready.len() == 2).await;
    for instance in now.ready.iter() {
        assert!(call(instance, "/").await.contains("Hello World!"));
    }
}

#[tokio::test]
async fn a_command_that_fails_keeps_an_instance_from_calls() {
    let rig = Rig::new();
    rig.write("readiness.wasm", &readiness());
    let probes = Probes {
        readiness: probe(&["readiness", "probe"]),
        ..Probes::default()
    };
    let never = revision("file://readiness.wasm", probes, &[("READY_DELAY", "3600s")]);
    let error = prepare(&rig, &never, Duration::from_secs(2)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotReadyInTime);
    let wanted = "its readiness probe has not succeeded yet: \"readiness probe\" exited with code 1";
    assert!(error.message.contains(wanted), "{error}");
}

#[tokio::test]
async fn a_command_that_is_not_in_the_image_fails_the_revision() {
    let rig = Rig::new();
    rig.write("readiness.wasm", &readiness());
    for command in [
        &["cat", "/tmp/healthy"][..],
        &["/bin/sh", "-c", "readiness probe"],
    ] {
        let probes = Probes {
            liveness: probe(command),
            ..Probes::default()
        };
        let spec = revision("file://readiness.wasm", probes, &[]);
        let error = prepare(&rig, &spec, Duration::from_secs(60)).await.unwrap_err();
        assert_eq!((error.code, error.exit_code), (ErrorCode::StartFailed, Some(127)));
        for words in [
            "the liveness probe cannot succeed",
            command[0],
            "\"readiness\" alone",
            "spec.containers[0].livenessProbe.exec.command",
        ] {
            assert!(error.message.contains(words), "{error}");
        }
    }
}

#[tokio::test]
async fn a_liveness_command_that_begins_to_fail_restarts_the_instance() {
    let mut rig = Rig::new();
    rig.write("readiness.wasm", &readiness());
    let probes = Probes {
        liveness: probe(&["readiness", "probe"]),
        ..Probes::default()
    };
    let mut spec = revision("file://readiness.wasm", probes, &[]);
    spec.probes.liveness.as_mut().unwrap().initial_delay = Duration::from_millis(100);
    spec.image = prepare(&rig, &spec, Duration::from_secs(60))
        .await
        .unwrap()
        .image
        .into();
    let spec = Arc::new(spec);
    let mut instances = rig.runtime.instances(&spec);
    rig.runtime.scale(&spec, 1);
    let first = Arc::clone(&until(&mut instances, |now| now.ready.len() == 1).await.ready[0]);
    assert_eq!(call(&first, "/start-failing").await, "will now fail readiness");
    let next = until(&mut instances, |now| {
        now.ready.first().is_some_and(|one| one.id() != first.id())
    })
    .await;
    assert!(call(&next.ready[0], "/healthz").await.contains("Hello World!"));
    let report = rig.reports.recv().await.unwrap();
    let Health::Failing { message, exit_code } = report.health else {
        panic!("{report:?}")
    };
    assert_eq!(exit_code, 137);
    assert_eq!(
        message,
        "the liveness probe failed: \"readiness probe\" exited with code 1"
    );
}

#[tokio::test]
async fn commands_have_the_limits_of_time_and_memory() {
    let rig = Rig::new();
    rig.write("guest.wasm", &guest::server_probed());
    for (command, wanted) in [
        (&["guest", "x"][..], "\"guest x\" did not end within 200ms"),
        (&["guest", "x", "y"], "memory limit exceeded"),
    ] {
        let mut probes = Probes {
            startup: probe(command),
            ..Probes::default()
        };
        probes.startup.as_mut().unwrap().timeout = if command.len() == 2 {
            Duration::from_millis(200)
        } else {
            Duration::from_secs(30)
        };
        let mut spec = revision("file://guest.wasm", probes, &[]);
        spec.limits.memory = ByteCount::mib(16);
        let error = prepare(&rig, &spec, Duration::from_secs(60)).await.unwrap_err();
        assert_eq!(
            (error.code, error.exit_code),
            (ErrorCode::StartFailed, Some(137)),
            "{error}"
        );
        assert!(error.message.starts_with("the startup probe failed: "), "{error}");
        assert!(error.message.contains(wanted), "{error}");
        if command.len() == 3 {
            assert!(error.message.ends_with(": no more memory"), "{error}");
        }
    }
    while rig.metric("kittiwake_instances_live") > 0 {
        tokio::task::yield_now().await;
    }
    rig.until_no_own_folders().await;
}
