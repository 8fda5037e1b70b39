//! Several containers in one instance: they start, find each other and end together.

use crate::server::{call, until};
use crate::support::{Rig, text};
use kittiwake_core::artifact::{FunctionKind, Prepare, PrepareError, PrepareRequest, Prepared};
use kittiwake_core::code::ErrorCode;
use kittiwake_core::log::LogStream;
use kittiwake_core::probe::{Handler, Probe, Probes};
use kittiwake_core::report::Health;
use kittiwake_core::resident::Residents;
use kittiwake_core::revision::{RevisionKey, RevisionSpec};
use kittiwake_core::sidecar::Sidecar;
use kittiwake_core::unit::ByteCount;
use kittiwake_core::volume::{Content, Mount};
use kittiwake_testkit::guest;
use std::sync::Arc;
use std::time::Duration;

/// An image of Knative's tests that listens.
fn image(name: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    format!("file://{root}/../../guests/knative/servers/{name}.wasm")
}

/// The container that takes calls asks the one beside it.
fn pair() -> RevisionSpec {
    RevisionSpec {
        env: vec![("PORT".to_owned(), "8881".to_owned())],
        port: 8881,
        sidecars: vec![Sidecar::new("side", image("sidecarcontainer"))],
        ..RevisionSpec::new(
            RevisionKey::new("default", "fn-00001"),
            "uid-1",
            image("servingcontainer"),
        )
    }
}

async fn prepare(rig: &Rig, revision: &RevisionSpec) -> Result<Prepared, PrepareError> {
    let request = PrepareRequest {
        revision: revision.clone(),
        credentials: Vec::new(),
        progress_deadline: rig.progress_deadline,
    };
    rig.runtime.prepare(request, Arc::new(|_| ())).await
}

/// As the Revision controller does it.
async fn deploy(rig: &Rig, mut revision: RevisionSpec) -> Arc<RevisionSpec> {
    let prepared = prepare(rig, &revision).await.unwrap();
    revision.image = prepared.image.into();
    revision.kind = prepared.kind;
    assert_eq!(prepared.sidecars.len(), revision.sidecars.len());
    for (sidecar, image) in revision.sidecars.iter_mut().zip(prepared.sidecars) {
        sidecar.image = image;
    }
    Arc::new(revision)
}

/// What a container printed.
fn printed(rig: &Rig, container: &str) -> Vec<String> {
    let lines = rig
        .logs
        .revision(&RevisionKey::new("default", "fn-00001"))
        .lines();
    let of = lines
        .iter()
        .filter(|line| &*line.sidecar == container && line.stream == LogStream::Stdout);
    of.map(|line| line.text.to_string()).collect()
}

fn tcp(port: u16) -> Probe {
    Probe {
        handler: Handler::Tcp { port: Some(port) },
        initial_delay: Duration::ZERO,
        period: Duration::ZERO,
        timeout: Duration::ZERO,
        success_threshold: 1,
        failure_threshold: 3,
    }
}

#[tokio::test]
async fn containers_find_each_other_and_end_together() {
    let rig = Rig::new();
    let revision = deploy(&rig, pair()).await;
    assert_eq!(revision.kind, FunctionKind::Server);
    let pinned = [&revision.image, &revision.sidecars[0].image];
    assert!(
        pinned.iter().all(|image| image.contains("@sha256:")),
        "{pinned:?}"
    );
    let mut instances = rig.runtime.instances(&revision);
    rig.runtime.scale(&revision, 2);
    let now = until(&mut instances, |now| now.ready.len() == 2).await;
    assert_eq!(rig.metric("kittiwake_instances_live"), 4, "two containers each");
    for instance in now.ready.iter() {
        let answer = text(call(instance, "/").await.unwrap()).await;
        assert_eq!(answer, "Yay!! multi-container works\n\n");
    }
    assert!(printed(&rig, "").contains(&"serving container received a request.".to_owned()));
    let of_sidecar = printed(&rig, "side");
    assert!(of_sidecar.contains(&"sidecar container received a request.".to_owned()));
    assert!(
        !of_sidecar.iter().any(|line| line.contains("serving")),
        "{of_sidecar:?}"
    );
    rig.runtime.scale(&revision, 0);
    until(&mut instances, |now| now.ready.is_empty() && now.stopping == 0).await;
    while rig.metric("kittiwake_instances_live") > 0 {
        tokio::task::yield_now().await;
    }
    rig.runtime.scale(&revision, 1);
    let again = until(&mut instances, |now| now.ready.len() == 1).await;
    let answer = text(call(&again.ready[0], "/").await.unwrap()).await;
    assert_eq!(answer, "Yay!! multi-container works\n\n");
}

/// The server of the testkit, listening elsewhere: it does what the path says, so a call to it can end it.
fn fragile(rig: &Rig) -> String {
    rig.write("fragile.wasm", &guest::server());
    "file://fragile.wasm".to_owned()
}

#[tokio::test]
async fn when_one_container_ends_all_are_started_again() {
    let mut rig = Rig::new();
    // Its sidecar listens on 8080 and takes no calls; the one that does answers with what that says.
    let mut wanted = pair();
    wanted.env.push(("FORWARD_PORT".to_owned(), "8080".to_owned()));
    wanted.env.push(("FORWARD_PATH".to_owned(), "/e".to_owned()));
    wanted.sidecars[0].image = fragile(&rig).into();
    let revision = deploy(&rig, wanted).await;
    let mut instances = rig.runtime.instances(&revision);
    rig.runtime.scale(&revision, 1);
    let now = until(&mut instances, |now| now.ready.len() == 1).await;
    let first = now.ready[0].id();
    assert!(call(&now.ready[0], "/").await.is_err());
    let report = rig.reports.recv().await.unwrap();
    let Health::Failing { message, exit_code } = report.health else {
        panic!("{report:?}")
    };
    assert_eq!(exit_code, 3);
    assert!(
        message.contains(r#"container "side": it exited with code 3"#),
        "{message}"
    );
    let next = until(&mut instances, |now| {
        now.ready.first().is_some_and(|one| one.id() != first)
    })
    .await;
    assert_eq!(
        (next.ready.len(), rig.reports.recv().await.unwrap().health),
        (1, Health::Recovered)
    );
    let lines = rig.logs.revision(&revision.key).lines();
    let told = lines
        .iter()
        .find(|line| &*line.sidecar == "side" && line.stream == LogStream::Platform);
    assert!(told.unwrap().text.contains("code 3"));
}

#[tokio::test]
async fn what_cannot_run_together_is_named() {
    let mut rig = Rig::new();
    rig.progress_deadline = Duration::from_millis(300);
    let write = |name: &str, guest: &[u8]| {
        rig.write(name, guest);
        format!("file://{name}")
    };
    let component = write("component.wasm", &guest::hello());
    let with = |serving: String, sidecar: String, probe: Option<Probe>| {
        let mut revision = pair();
        revision.image = serving.into();
        revision.sidecars[0].image = sidecar.into();
        revision.sidecars[0].probes.readiness = probe;
        revision
    };
    let (serving, sidecar) = (image("servingcontainer"), image("sidecarcontainer"));
    for (revision, code, exit_code, words) in [
        (
            with(serving.clone(), component.clone(), None),
            ErrorCode::UnsupportedKind,
            None,
            r#"container "side": its image holds a component of wasi:http"#,
        ),
        (
            with(component, sidecar.clone(), None),
            ErrorCode::UnsupportedKind,
            None,
            "the container with the port holds a component of wasi:http",
        ),
        (
            with(write("cgi.wasm", &guest::cgi()), sidecar.clone(), None),
            ErrorCode::UnsupportedKind,
            None,
            "a program that answers one request and ends",
        ),
        (
            with(serving.clone(), write("quits.wasm", &guest::server_quits()), None),
            ErrorCode::StartFailed,
            Some(7),
            r#"container "side": it exited with code 7, and every container has to keep running"#,
        ),
        (
            with(serving.clone(), write("gone.txt", b"text"), None),
            ErrorCode::NotWasm,
            None,
            r#"container "side": the artifact holds no WebAssembly"#,
        ),
        (
            with(serving.clone(), sidecar.clone(), Some(tcp(9999))),
            ErrorCode::NotReadyInTime,
            None,
            r#"container "side": its probe has not succeeded yet: nothing listens on port 9999"#,
        ),
        (
            with(
                serving,
                sidecar,
                Some(Probe {
                    handler: Handler::Exec {
                        command: vec!["cat".to_owned()],
                    },
                    ..tcp(0)
                }),
            ),
            ErrorCode::StartFailed,
            Some(127),
            r#"container "side": the readiness probe cannot succeed: there is no program "cat""#,
        ),
    ] {
        let error = prepare(&rig, &revision).await.unwrap_err();
        assert_eq!((error.code, error.exit_code), (code, exit_code), "{error}");
        assert!(error.message.contains(words), "{error}");
    }
    assert_eq!(rig.metric("kittiwake_instances_live"), 0);
}

#[tokio::test]
async fn an_instance_is_ready_when_all_of_its_containers_are() {
    let rig = Rig::new();
    let mut wanted = pair();
    // Answers its probe with 500 until it is told otherwise by time.
    wanted.sidecars[0] = Sidecar {
        env: vec![
            ("PORT".to_owned(), "8882".to_owned()),
            ("READY_DELAY".to_owned(), "700ms".to_owned()),
        ],
        probes: Probes {
            readiness: Some(Probe {
                handler: Handler::Http {
                    path: "/healthz".to_owned(),
                    port: None,
                    headers: Vec::new(),
                },
                ..tcp(0)
            }),
            ..Probes::default()
        },
        ..Sidecar::new("side", image("readiness"))
    };
    let revision = deploy(&rig, wanted).await;
    let mut instances = rig.runtime.instances(&revision);
    rig.runtime.scale(&revision, 1);
    let now = until(&mut instances, |now| now.ready.len() == 1).await;
    let answer = text(call(&now.ready[0], "/").await.unwrap()).await;
    assert!(answer.starts_with("Hello World!"), "{answer}");
}

#[tokio::test]
async fn each_container_has_its_own_limits_and_folders_and_shares_scratch_volumes() {
    let rig = Rig::new();
    let scratch = |path: &str| Mount {
        path: path.into(),
        content: Content::Scratch {
            volume: "shared".into(),
            limit: None,
        },
        fixed: false,
    };
    let mut wanted = pair();
    // The sidecar writes, the container that takes calls reads in each call.
    wanted.image = image("volumes").into();
    wanted.env.push(("DATA_PATH".to_owned(), "/in".to_owned()));
    wanted.env.push(("SKIP_DATA_WRITE".to_owned(), "true".to_owned()));
    wanted.mounts = vec![scratch("/in")];
    wanted.sidecars[0] = Sidecar {
        env: vec![
            ("PORT".to_owned(), "8882".to_owned()),
            ("DATA_PATH".to_owned(), "/out".to_owned()),
        ],
        mounts: vec![scratch("/out")],
        ..Sidecar::new("side", image("volumes"))
    };
    let revision = deploy(&rig, wanted.clone()).await;
    let mut instances = rig.runtime.instances(&revision);
    rig.runtime.scale(&revision, 2);
    let now = until(&mut instances, |now| now.ready.len() == 2).await;
    for instance in now.ready.iter() {
        let answer = text(call(instance, "/").await.unwrap()).await;
        assert_eq!(answer, "From file in empty dir!");
    }
    rig.runtime.scale(&revision, 0);
    until(&mut instances, |now| now.ready.is_empty() && now.stopping == 0).await;
    rig.until_no_own_folders().await;
    wanted.sidecars[0].memory = ByteCount(64 * 1024);
    let error = prepare(&rig, &wanted).await.unwrap_err();
    assert!(error.message.contains(r#"container "side": "#), "{error}");
    assert!(error.message.contains("memory"), "{error}");
}
