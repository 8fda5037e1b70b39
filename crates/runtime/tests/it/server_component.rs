//! Components that listen through `wasi:sockets` and stay. What holds for every server is tested in `server.rs`; this is
//! what is their own: their kind, their sockets, and their way to others.

use crate::server::{call, one, send, until};
use crate::support::{Rig, report_of, text};
use http_body_util::BodyExt;
use kittiwake_core::artifact::{FunctionKind, Prepare, PrepareRequest};
use kittiwake_core::body;
use kittiwake_core::code::ErrorCode;
use kittiwake_core::invoke::InvokeError;
use kittiwake_core::log::LogStream;
use kittiwake_core::report::Health;
use kittiwake_core::resident::{Resident, ResidentError, Residents};
use kittiwake_core::revision::{Limits, RevisionSpec};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const SERVER: &[u8] = include_bytes!("../../../../examples/component-server/component-server.wasm");

async fn get(instance: &Arc<dyn Resident>, path: &str) -> String {
    text(call(instance, path).await.unwrap()).await
}

#[tokio::test]
async fn a_component_that_listens_is_found_started_called_and_stopped() {
    let rig = Rig::new();
    rig.write("guest.wasm", SERVER);
    let prepared = rig.prepare("file://guest.wasm").await.unwrap();
    assert_eq!(prepared.kind, FunctionKind::Server);
    assert_eq!(rig.runtime.recall(&prepared.image), Some(prepared.clone()));
    let revision = Arc::new(RevisionSpec {
        env: vec![("TARGET".into(), "Socket".into())],
        ..crate::support::spec(&prepared.image, Limits::default())
    });
    let mut instances = rig.runtime.instances(&revision);
    rig.runtime.scale(&revision, 3);
    // All of them listen on port 8080.
    let now = until(&mut instances, |now| now.ready.len() == 3).await;
    for instance in now.ready.iter() {
        assert_eq!(get(instance, "/").await, "Hello Socket!\n");
    }
    assert_eq!(
        rig.log(LogStream::Stdout).lines().last(),
        Some("listening on port 8080")
    );
    rig.runtime.scale(&revision, 1);
    let now = until(&mut instances, |now| now.ready.len() == 1 && now.stopping == 0).await;
    // A call that runs is finished before its instance goes.
    let running = call(&now.ready[0], "/sleep?ms=300");
    let mut running = std::pin::pin!(running);
    assert!(futures::poll!(running.as_mut()).is_pending());
    rig.runtime.scale(&revision, 0);
    assert_eq!(text(running.await.unwrap()).await, "slept for 300 ms\n");
    until(&mut instances, |now| now.ready.is_empty() && now.stopping == 0).await;
    while rig.metric("kittiwake_instances_live") > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_connections_are_served_at_a_time_and_kept() {
    let rig = Rig::new();
    let revision = rig.deploy(SERVER, Limits::default()).await;
    let instance = one(&rig, &revision).await;
    let slow = call(&instance, "/sleep?ms=600000");
    let mut slow = std::pin::pin!(slow);
    assert!(futures::poll!(slow.as_mut()).is_pending());
    let calls = (0..64_u8).map(|n| {
        let instance = Arc::clone(&instance);
        async move {
            let sent = vec![n; 300_000];
            let response = send(&instance, "/echo", body::full(sent.clone())).await.unwrap();
            assert!(
                response.into_body().collect().await.unwrap().to_bytes() == sent,
                "{n}"
            );
        }
    });
    futures::future::join_all(calls).await;
    assert!(futures::poll!(slow.as_mut()).is_pending());
    let response = call(&instance, "/calls").await.unwrap();
    assert!(report_of(&response).reused);
    assert_eq!(text(response).await, "66\n");
}

#[tokio::test]
async fn its_end_is_told_and_another_instance_started() {
    let mut rig = Rig::new();
    let revision = rig.deploy(SERVER, Limits::default()).await;
    let mut instances = rig.runtime.instances(&revision);
    for (path, words, code) in [("/crash", "code 1", 1), ("/fill", "memory limit", 134)] {
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
        let Health::Failing { message, exit_code } = rig.reports.recv().await.unwrap().health else {
            panic!("{path}")
        };
        assert!(message.contains(words), "{path}: {message}");
        assert_eq!(exit_code, code, "{path}");
        assert_eq!(rig.reports.recv().await.unwrap().health, Health::Recovered);
        let next = until(&mut instances, |now| now.ready.len() == 1).await;
        assert_eq!(get(&next.ready[0], "/calls").await, "1\n");
    }
    assert!(rig.log(LogStream::Stderr).contains("asked to end"));
}

#[tokio::test]
async fn one_that_listens_elsewhere_is_not_ready_in_time() {
    let rig = Rig::new();
    rig.write("guest.wasm", SERVER);
    let request = |port: &str| PrepareRequest {
        revision: RevisionSpec {
            env: vec![("PORT".into(), port.into())],
            ..crate::support::spec("file://guest.wasm", Limits::default())
        },
        credentials: Vec::new(),
        progress_deadline: Duration::from_millis(300),
    };
    let error = rig
        .runtime
        .prepare(request("9090"), Arc::new(|_| ()))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::NotReadyInTime);
    assert!(error.message.contains("listens on port 9090"), "{error}");
}

#[tokio::test]
async fn only_named_servers_are_reached_over_its_sockets() {
    let rig = Rig::new();
    let revision = rig.deploy(SERVER, Limits::default()).await;
    let instance = one(&rig, &revision).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let connect = format!("/connect?to={address}");
    for path in [connect.as_str(), "/lookup?name=example.invalid", "/udp"] {
        assert_eq!(get(&instance, path).await, "access-denied\n", "{path}");
    }
    assert_eq!(
        get(&instance, "/lookup?name=198.51.100.7").await,
        "198.51.100.7\n",
        "nobody is asked"
    );
    assert_eq!(get(&instance, "/lookup?name=a/b").await, "invalid-argument\n");
    let told = rig.log(LogStream::Platform);
    for words in [
        format!("a connection to {address} was denied"),
        "\"example.invalid\" were not looked up".to_owned(),
    ] {
        assert!(told.contains(&words), "{told}");
    }
    let open = Arc::new(RevisionSpec {
        uid: "uid-2".into(),
        outbound: format!("{address}, example.invalid:80").parse().unwrap(),
        ..RevisionSpec::clone(&revision)
    });
    let instance = one(&rig, &open).await;
    let serving = async {
        let (mut connection, _) = server.accept().await.unwrap();
        let mut asked = [0; 4];
        connection.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"ping");
        connection.write_all(b"pong").await.unwrap();
    };
    let (answer, ()) = tokio::join!(get(&instance, &connect), serving);
    assert_eq!(answer, "pong\n");
    drop(server);
    assert_eq!(get(&instance, &connect).await, "connection-refused\n");
    // It may be asked for, and no name server knows it.
    let unknown = get(&instance, "/lookup?name=example.invalid").await;
    assert!(
        ["name-unresolvable\n", "temporary-resolver-failure\n"].contains(&unknown.as_str()),
        "{unknown}"
    );
}
