//! Functions that listen by themselves: their instances, calls to them, and what every failure leaves behind.

use crate::support::{Rig, pieces, report_of, text};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use kittiwake_core::artifact::{FunctionKind, Prepare, PrepareRequest};
use kittiwake_core::body::{self, Body};
use kittiwake_core::code::ErrorCode;
use kittiwake_core::instances::{Ending, Instance, InstanceId};
use kittiwake_core::invoke::InvokeError;
use kittiwake_core::log::LogStream;
use kittiwake_core::report::Health;
use kittiwake_core::resident::{Instances, Resident, ResidentError, Residents};
use kittiwake_core::revision::{Limits, RevisionSpec};
use kittiwake_core::unit::ByteCount;
use kittiwake_core::volume::{Content, Mount};
use kittiwake_testkit::guest;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;

/// Waits until the instances are as wanted.
pub async fn until(
    instances: &mut watch::Receiver<Instances>,
    wanted: impl Fn(&Instances) -> bool,
) -> Instances {
    let found = tokio::time::timeout(Duration::from_secs(60), instances.wait_for(|now| wanted(now))).await;
    found.unwrap().unwrap().clone()
}

/// Starts one instance.
pub async fn one(rig: &Rig, revision: &Arc<RevisionSpec>) -> Arc<dyn Resident> {
    let mut instances = rig.runtime.instances(revision);
    rig.runtime.scale(revision, 1);
    Arc::clone(&until(&mut instances, |now| now.ready.len() == 1).await.ready[0])
}

pub async fn call(instance: &Arc<dyn Resident>, path: &str) -> Result<http::Response<Body>, ResidentError> {
    send(instance, path, body::empty()).await
}

pub async fn send(
    instance: &Arc<dyn Resident>,
    path: &str,
    body: Body,
) -> Result<http::Response<Body>, ResidentError> {
    let request = http::Request::post(path)
        .header("host", "fn.localhost")
        .body(body)
        .unwrap();
    instance.invoke(request, Instant::now()).await
}

#[tokio::test]
async fn a_server_is_found_started_called_and_stopped() {
    let rig = Rig::new();
    rig.write("guest.wasm", &guest::server());
    let prepared = rig.prepare("file://guest.wasm").await.unwrap();
    assert_eq!(prepared.kind, FunctionKind::Server);
    assert_eq!(rig.runtime.recall(&prepared.image), Some(prepared.clone()));
    let revision = Arc::new(crate::support::spec(&prepared.image, Limits::default()));
    let mut instances = rig.runtime.instances(&revision);
    assert!(instances.borrow().ready.is_empty());
    rig.runtime.scale(&revision, 3);
    assert_eq!(instances.borrow_and_update().starting, 3);
    // All of them listen on port 8080.
    let now = until(&mut instances, |now| now.ready.len() == 3).await;
    assert_eq!(now.starting, 0);
    for instance in now.ready.iter() {
        assert_eq!(text(call(instance, "/").await.unwrap()).await, "hello");
    }
    assert_eq!(rig.log(LogStream::Stdout).lines().last(), Some("listening"));
    let oldest = now.ready[0].id();
    rig.runtime.scale(&revision, 1);
    let now = until(&mut instances, |now| now.stopping == 0).await;
    assert_eq!(now.ready.iter().map(|one| one.id()).collect::<Vec<_>>(), [oldest]);
    rig.runtime.scale(&revision, 0);
    until(&mut instances, |now| now.ready.is_empty() && now.stopping == 0).await;
    while rig.metric("kittiwake_instances_live") > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn connections_are_kept_and_the_first_call_tells_of_the_start() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::server(), Limits::default()).await;
    let begun = Instant::now();
    let instance = one(&rig, &revision).await;
    let request = http::Request::get("/").body(body::empty()).unwrap();
    let response = instance.invoke(request, begun).await.unwrap();
    assert!(report_of(&response).cold_start.is_some() && !report_of(&response).reused);
    assert_eq!(text(response).await, "hello");
    for _ in 0..100 {
        let response = call(&instance, "/").await.unwrap();
        assert!(report_of(&response).cold_start.is_none() && report_of(&response).reused);
        // The guest serves one connection at a time, so this only works if it is the same.
        assert_eq!(text(response).await, "hello");
    }
}

#[tokio::test]
async fn a_server_of_plain_wasi_is_given_its_socket() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::server_preopened(), Limits::default()).await;
    let instance = one(&rig, &revision).await;
    for _ in 0..3 {
        let answer = text(call(&instance, "/").await.unwrap()).await;
        assert_eq!(answer, "31", "it finds one folder behind its socket: /tmp");
    }
}

#[tokio::test]
async fn a_server_finds_new_contents_of_its_volumes_while_it_runs() {
    let rig = Rig::new();
    let prepared = rig.deploy(&guest::server_reader(), Limits::default()).await;
    let version = |content: &str| {
        let files = [("file".to_owned(), Bytes::from(content.to_owned()))];
        let mount = Mount {
            path: "/etc/config".into(),
            content: Content::Files(Arc::new(files.into())),
            fixed: false,
        };
        Arc::new(RevisionSpec {
            kind: FunctionKind::Server,
            mounts: vec![mount],
            ..RevisionSpec::clone(&prepared)
        })
    };
    let instance = one(&rig, &version("first")).await;
    assert_eq!(text(call(&instance, "/").await.unwrap()).await, "first");
    for content in ["second", "third"] {
        // As the activator does when the routing table has another version of the revision.
        rig.runtime.scale(&version(content), 1);
        while text(call(&instance, "/").await.unwrap()).await != content {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let mut instances = rig.runtime.instances(&prepared);
    let now = instances.borrow_and_update().clone();
    assert_eq!(now.ready[0].id(), instance.id(), "it is the same instance");
    rig.runtime.scale(&version("third"), 2);
    let now = until(&mut instances, |now| now.ready.len() == 2).await;
    assert_eq!(text(call(&now.ready[1], "/").await.unwrap()).await, "third");
}

#[tokio::test]
async fn servers_that_cannot_start_say_why() {
    let mut rig = Rig::new();
    rig.progress_deadline = Duration::from_millis(300);
    for (name, guest, code, exit_code, words) in [
        (
            "quits",
            guest::server_quits(),
            ErrorCode::StartFailed,
            Some(7),
            "code 7",
        ),
        (
            "deaf",
            guest::server_deaf(),
            ErrorCode::NotReadyInTime,
            None,
            "does not listen on port 8080",
        ),
        (
            "alien",
            guest::alien_imports(),
            ErrorCode::MissingImport,
            None,
            "wasi_nn::load, wasmedge_process::wasmedge_process_run",
        ),
    ] {
        rig.write("guest.wasm", &guest);
        let error = rig.prepare("file://guest.wasm").await.unwrap_err();
        assert_eq!((error.code, error.exit_code), (code, exit_code), "{name}");
        assert!(error.message.contains(words), "{name}: {error}");
    }
    assert_eq!(rig.metric("kittiwake_instances_live"), 0);
}

#[tokio::test]
async fn a_crash_is_told_and_another_instance_started() {
    let mut rig = Rig::new();
    let revision = rig.deploy(&guest::server(), Limits::default()).await;
    let mut instances = rig.runtime.instances(&revision);
    for (path, words, code) in [
        ("/t", "unreachable", 134),
        ("/e", "code 3", 3),
        ("/m", "memory limit", 134),
    ] {
        let instance = one(&rig, &revision).await;
        let error = call(&instance, path).await.unwrap_err();
        assert!(
            matches!(error, ResidentError::Failed(InvokeError::BadGateway(_))),
            "{path}: {error}"
        );
        until(&mut instances, |now| {
            now.ready.first().is_none_or(|one| one.id() != instance.id())
        })
        .await;
        let report = rig.reports.recv().await.unwrap();
        let Health::Failing { message, exit_code } = report.health else {
            panic!("{report:?}")
        };
        assert!(message.contains(words), "{path}: {message}");
        assert_eq!(exit_code, code, "{path}");
        assert_eq!(rig.reports.recv().await.unwrap().health, Health::Recovered);
        let mine = send(&instance, "/mine", body::full("my body")).await.unwrap_err();
        let ResidentError::Ended(mine) = mine else {
            panic!("the old one takes no calls: {mine}")
        };
        let (parts, body) = mine.into_parts();
        assert_eq!(
            (parts.uri.path(), &parts.headers["host"]),
            ("/mine", &"fn.localhost".parse().unwrap())
        );
        assert_eq!(body.collect().await.unwrap().to_bytes(), "my body");
        let next = until(&mut instances, |now| now.ready.len() == 1).await;
        assert_eq!(text(call(&next.ready[0], "/").await.unwrap()).await, "hello");
    }
    assert!(rig.log(LogStream::Platform).contains("wasm backtrace"));
}

#[tokio::test]
async fn guests_that_misbehave_harm_one_call() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::server(), Limits::default()).await;
    let instance = one(&rig, &revision).await;
    for path in ["/c", "/g"] {
        let error = call(&instance, path).await.unwrap_err();
        assert!(
            matches!(error, ResidentError::Failed(InvokeError::BadGateway(_))),
            "{path}: {error}"
        );
        assert_eq!(
            text(call(&instance, "/").await.unwrap()).await,
            "hello",
            "after {path}"
        );
    }
    let cut = call(&instance, "/h").await.unwrap();
    assert_eq!(cut.status(), 200);
    assert!(
        cut.into_body().collect().await.is_err(),
        "less came than was announced"
    );
    assert_eq!(text(call(&instance, "/").await.unwrap()).await, "hello");
    let cut = call(&instance, "/p").await.unwrap();
    assert!(
        cut.into_body().collect().await.is_err(),
        "it trapped within its answer"
    );
}

#[tokio::test]
async fn time_limits_hold_before_and_within_an_answer() {
    let rig = Rig::new();
    let limits = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        limits
    };
    let revision = rig
        .deploy(
            &guest::server(),
            limits(|limits| limits.timeout = Duration::from_millis(100)),
        )
        .await;
    let instance = one(&rig, &revision).await;
    assert!(matches!(
        call(&instance, "/w").await,
        Err(ResidentError::Failed(InvokeError::TimedOut))
    ));
    assert_eq!(
        text(call(&instance, "/").await.unwrap()).await,
        "hello",
        "its connection was closed"
    );
    let stalled = call(&instance, "/s").await.unwrap();
    let error = stalled.into_body().collect().await.unwrap_err();
    assert_eq!(error.to_string(), "request timeout");
    // Time that passed before the instance was reached counts.
    let request = http::Request::get("/").body(body::empty()).unwrap();
    let late = instance
        .invoke(request, Instant::now() - Duration::from_secs(1))
        .await;
    assert!(matches!(late, Err(ResidentError::Failed(InvokeError::TimedOut))));
    let idle = Arc::new(RevisionSpec {
        uid: "uid-2".into(),
        limits: limits(|limits| limits.idle_timeout = Some(Duration::from_millis(100))),
        ..RevisionSpec::clone(&revision)
    });
    let instance = one(&rig, &idle).await;
    let stalled = call(&instance, "/s").await.unwrap();
    let error = stalled.into_body().collect().await.unwrap_err();
    assert!(error.to_string().contains("idleTimeoutSeconds"), "{error}");
}

#[tokio::test]
async fn one_instance_is_renewed_once_its_calls_are_answered() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::server(), Limits::default()).await;
    let mut instances = rig.runtime.instances(&revision);
    rig.runtime.scale(&revision, 2);
    let before = until(&mut instances, |now| now.ready.len() == 2).await;
    let told = async |done: &dyn Fn(&[Instance]) -> bool| {
        let mut changes = rig.instances.changes();
        loop {
            changes.borrow_and_update();
            let live = rig.instances.live();
            let of = live.get(&revision.uid).map(|live| live.instances.clone());
            if let Some(of) = of.filter(|of| done(of)) {
                return of;
            }
            tokio::time::timeout(Duration::from_secs(60), changes.changed())
                .await
                .unwrap()
                .unwrap();
        }
    };
    let ready = told(&|told| told.len() == 2 && told.iter().all(|one| !one.ending)).await;
    // A call is open on the one that is to go.
    let request = http::Request::get("/u")
        .header("connection", "Upgrade")
        .header("upgrade", "echo")
        .body(body::empty())
        .unwrap();
    let mut response = before.ready[0].invoke(request, Instant::now()).await.unwrap();
    let mut connection = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let ending = |process, place| Ending {
        revision: Arc::clone(&revision.uid),
        instance: Some(InstanceId { process, place }),
    };
    // Another process has places of its own.
    rig.instances.end(ending(1, ready[1].id.place));
    rig.instances.end(ending(ready[0].id.process, ready[0].id.place));
    let now = until(&mut instances, |now| now.ready.len() == 2 && now.stopping == 1).await;
    let ids = |instances: &Instances| instances.ready.iter().map(|one| one.id()).collect::<Vec<_>>();
    assert_eq!(ids(&now)[0], ids(&before)[1], "the other one stays");
    assert!(!ids(&before).contains(&ids(&now)[1]), "and another one comes");
    let told_now = told(&|told| told.len() == 3).await;
    let of = |place| told_now.iter().find(|one| one.id == place).unwrap();
    assert!(of(ready[0].id).ending && !of(ready[1].id).ending);
    assert_eq!(of(ready[0].id).since, ready[0].since);
    connection.write_all(b"still here").await.unwrap();
    let mut back = [0; 10];
    connection.read_exact(&mut back).await.unwrap();
    drop(connection);
    until(&mut instances, |now| now.stopping == 0).await;
    told(&|told| told.len() == 2).await;
    rig.runtime.scale(&revision, 0);
    until(&mut instances, |now| now.ready.is_empty() && now.stopping == 0).await;
}

#[tokio::test]
async fn a_loop_holds_up_nobody_else() {
    let rig = Rig::new();
    let revision = rig
        .deploy(
            &guest::server(),
            Limits {
                timeout: Duration::from_millis(200),
                ..Limits::default()
            },
        )
        .await;
    // Others have all the time they need, however busy the machine is.
    let patient = rig.deploy_as("patient", &guest::server()).await;
    let other = one(&rig, &patient).await;
    let mut instances = rig.runtime.instances(&revision);
    rig.runtime.scale(&revision, 1);
    let now = until(&mut instances, |now| now.ready.len() == 1).await;
    let looping = call(&now.ready[0], "/l");
    let others = async {
        for _ in 0..10 {
            assert_eq!(text(call(&other, "/").await.unwrap()).await, "hello");
        }
    };
    let (looped, ()) = tokio::join!(looping, others);
    assert!(matches!(
        looped,
        Err(ResidentError::Failed(InvokeError::TimedOut))
    ));
    rig.runtime.scale(&patient, 0);
    rig.runtime.scale(&revision, 0);
    until(&mut instances, |now| now.ready.is_empty() && now.stopping == 0).await;
}

#[tokio::test]
async fn calls_go_over_to_other_protocols() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::server(), Limits::default()).await;
    let instance = one(&rig, &revision).await;
    let request = http::Request::get("/u")
        .header("connection", "Upgrade")
        .header("upgrade", "echo")
        .body(body::empty())
        .unwrap();
    let mut response = instance.invoke(request, Instant::now()).await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "echo");
    let mut connection = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    connection.write_all(b"to and fro").await.unwrap();
    let mut back = [0; 10];
    connection.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"to and fro");
    // It is a call as long as it is open: the instance waits for it.
    let mut instances = rig.runtime.instances(&revision);
    rig.runtime.scale(&revision, 0);
    assert_eq!(
        until(&mut instances, |now| now.ready.is_empty()).await.stopping,
        1
    );
    connection.write_all(b"still here").await.unwrap();
    connection.read_exact(&mut back).await.unwrap();
    drop(connection);
    until(&mut instances, |now| now.stopping == 0).await;
}

#[tokio::test]
async fn a_body_waits_until_it_is_asked_for() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::server(), Limits::default()).await;
    let instance = one(&rig, &revision).await;
    let (mut sender, channel) = http_body_util::channel::Channel::<Bytes, body::BodyError>::new(1);
    let request = http::Request::post("/a")
        .header("expect", "100-continue")
        .header("content-length", "4")
        .body(channel.boxed_unsync())
        .unwrap();
    let calling = instance.invoke(request, Instant::now());
    let sending = async move { sender.send_data(Bytes::from_static(b"body")).await.unwrap() };
    let (answered, ()) = tokio::join!(calling, sending);
    assert_eq!(text(answered.unwrap()).await, "hello");
}

#[tokio::test]
async fn bodies_and_concurrency_are_limited() {
    let rig = Rig::new();
    let limits = Limits {
        request_body: ByteCount(10),
        concurrency: NonZeroU32::new(1),
        timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let revision = rig.deploy(&guest::server(), limits).await;
    let instance = one(&rig, &revision).await;
    let announced = send(&instance, "/", body::full(vec![0; 11])).await;
    assert!(matches!(
        announced,
        Err(ResidentError::Failed(InvokeError::BodyTooLarge))
    ));
    let parts = vec![Bytes::from_static(b"12345678"); 2];
    let found_out = send(&instance, "/w", pieces(parts, None)).await;
    assert!(
        matches!(found_out, Err(ResidentError::Failed(InvokeError::BodyTooLarge))),
        "{found_out:?}"
    );
    // One call is in, ten wait, the next is refused (Knative's breaker).
    let calls = (0..12).map(|_| call(&instance, "/w"));
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    for call in &mut calls[..11] {
        assert!(futures::poll!(call.as_mut()).is_pending());
    }
    let refused = calls.pop().unwrap().await;
    assert!(
        matches!(
            refused,
            Err(ResidentError::Failed(InvokeError::Overloaded { .. }))
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn only_named_servers_are_reached() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::server(), Limits::default()).await;
    let instance = one(&rig, &revision).await;
    assert_eq!(text(call(&instance, "/o").await.unwrap()).await, "02", "EACCES");
    assert!(
        rig.log(LogStream::Platform)
            .contains("kittiwake.dev/allowed-outbound")
    );
    let open = Arc::new(RevisionSpec {
        uid: "uid-2".into(),
        outbound: "127.0.0.1:1".parse().unwrap(),
        ..RevisionSpec::clone(&revision)
    });
    let instance = one(&rig, &open).await;
    assert_eq!(
        text(call(&instance, "/o").await.unwrap()).await,
        "14",
        "ECONNREFUSED"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_made_for_wasmedge_runs_as_it_is() {
    let rig = Rig::new();
    rig.write("echo.wasm", guest::HYPER_ECHO);
    let spec = |image: &str| RevisionSpec {
        port: 3000,
        ..crate::support::spec(image, Limits::default())
    };
    let request = PrepareRequest {
        revision: spec("file://echo.wasm"),
        credentials: Vec::new(),
        progress_deadline: Duration::from_secs(30),
    };
    let prepared = rig.runtime.prepare(request, Arc::new(|_| ())).await.unwrap();
    assert_eq!(prepared.kind, FunctionKind::Server);
    let revision = Arc::new(spec(&prepared.image));
    let instance = one(&rig, &revision).await;
    let get = http::Request::get("/").body(body::empty()).unwrap();
    let hint = text(instance.invoke(get, Instant::now()).await.unwrap()).await;
    assert!(hint.contains("curl localhost:3000/echo"), "{hint}");
    // Many at a time, each streamed to and fro.
    let calls = (0..64_u8).map(|n| {
        let instance = Arc::clone(&instance);
        async move {
            let parts = vec![Bytes::from(vec![n; 10_000]); 20];
            let sent = parts.concat();
            let response = send(&instance, "/echo", pieces(parts, None)).await.unwrap();
            assert!(
                response.into_body().collect().await.unwrap().to_bytes() == sent,
                "{n}"
            );
        }
    });
    futures::future::join_all(calls).await;
    let (mut sender, channel) = http_body_util::channel::Channel::<Bytes, body::BodyError>::new(1);
    let mut answer = send(&instance, "/echo", channel.boxed_unsync())
        .await
        .unwrap()
        .into_body();
    for part in ["one", "two", "three"] {
        sender.send_data(Bytes::from(part)).await.unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), part);
    }
}
