//! Programs with the sockets of Rust's standard library, which wasi-libc gives them (`guests/std-net`).

use crate::server::{call, one, send};
use crate::support::{Rig, spec, text};
use kittiwake_core::artifact::{FunctionKind, Prepare, PrepareError, PrepareRequest, Prepared};
use kittiwake_core::body;
use kittiwake_core::code::ErrorCode;
use kittiwake_core::invoke::Invoke;
use kittiwake_core::log::LogStream;
use kittiwake_core::probe::{Handler, Probe, Probes};
use kittiwake_core::revision::{Limits, RevisionSpec};
use kittiwake_testkit::guest;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const LISTENS: &[u8] = include_bytes!("../../../../guests/std-net/listens.wasm");
const CONNECTS: &[u8] = include_bytes!("../../../../guests/std-net/connects.wasm");

async fn prepare(rig: &Rig, revision: RevisionSpec) -> Result<Prepared, PrepareError> {
    let request = PrepareRequest {
        revision,
        credentials: Vec::new(),
        progress_deadline: rig.progress_deadline,
    };
    rig.runtime.prepare(request, Arc::new(|_| ())).await
}

fn named(image: &str, kind: FunctionKind) -> RevisionSpec {
    RevisionSpec {
        named_kind: Some(kind),
        ..spec(image, Limits::default())
    }
}

#[test]
fn its_components_are_built_from_the_sources_beside_them() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guests/std-net/build.sh");
    let check = Command::new(script).arg("--check").output().unwrap();
    assert!(
        check.status.success(),
        "a source changed after its component was built; run guests/std-net/build.sh\n{}{}",
        String::from_utf8_lossy(&check.stdout),
        String::from_utf8_lossy(&check.stderr)
    );
}

#[tokio::test]
async fn a_listener_of_the_standard_library_is_a_server() {
    let rig = Rig::new();
    let revision = rig.deploy(LISTENS, Limits::default()).await;
    assert_eq!(
        rig.runtime.recall(&revision.image).unwrap().kind,
        FunctionKind::Server
    );
    let instance = one(&rig, &revision).await;
    for path in ["/a", "/b?c=d"] {
        assert_eq!(
            text(call(&instance, path).await.unwrap()).await,
            format!("{path} \n")
        );
    }
    let answer = send(&instance, "/post", body::full("said")).await.unwrap();
    assert_eq!(text(answer).await, "/post said\n");
    let printed = rig.log(LogStream::Stdout);
    assert_eq!(printed.lines().last(), Some("listening on 0.0.0.0:8080"));
}

#[tokio::test]
async fn the_command_of_a_probe_finds_the_files_of_its_instance() {
    let rig = Rig::new();
    rig.write("listens.wasm", LISTENS);
    let asked = Probe {
        handler: Handler::Exec {
            command: vec!["listens".into(), "probe".into()],
        },
        initial_delay: Duration::ZERO,
        period: Duration::from_millis(20),
        timeout: Duration::from_secs(5),
        success_threshold: 1,
        failure_threshold: 10_000,
    };
    let probed = RevisionSpec {
        kind: FunctionKind::Server,
        args: Vec::new(),
        probes: Probes {
            readiness: Some(asked.clone()),
            liveness: Some(asked),
            ..Probes::default()
        },
        ..spec("file://listens.wasm", Limits::default())
    };
    let prepared = prepare(&rig, probed.clone()).await.unwrap();
    let revision = Arc::new(RevisionSpec {
        image: prepared.image.into(),
        ..probed
    });
    let instance = one(&rig, &revision).await;
    assert_eq!(text(call(&instance, "/").await.unwrap()).await, "/ \n");
}

#[tokio::test]
async fn one_that_only_connects_is_a_command_where_its_template_says_so() {
    let rig = Rig::new();
    rig.write("connects.wasm", CONNECTS);
    let error = prepare(&rig, spec("file://connects.wasm", Limits::default()))
        .await
        .unwrap_err();
    assert_eq!((error.code, error.exit_code), (ErrorCode::StartFailed, Some(1)));
    let hint = "It never listened on a port: if it prints its answer as a CGI program does, say so with the annotation \
                kittiwake.dev/kind: command of the template";
    assert!(error.message.ends_with(hint), "{error}");

    let prepared = prepare(&rig, named("file://connects.wasm", FunctionKind::Command))
        .await
        .unwrap();
    assert_eq!(prepared.kind, FunctionKind::Command);
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap().to_string();
    let revision = Arc::new(RevisionSpec {
        outbound: address.parse().unwrap(),
        env: vec![("UPSTREAM".into(), address)],
        ..named(&prepared.image, FunctionKind::Command)
    });
    for _ in 0..2 {
        let serving = async {
            let (mut connection, _) = upstream.accept().await.unwrap();
            let mut asked = [0; 4];
            connection.read_exact(&mut asked).await.unwrap();
            assert_eq!(&asked, b"ping");
            connection.write_all(b"pong").await.unwrap();
        };
        let request = http::Request::get("/").body(body::empty()).unwrap();
        let call = rig.runtime.invoke(Arc::clone(&revision), request);
        let (answer, ()) = tokio::join!(call, serving);
        assert_eq!(text(answer.unwrap()).await, "pong\n");
    }
}

#[tokio::test]
async fn a_named_kind_holds_for_modules_and_not_for_handlers() {
    let rig = Rig::new();
    rig.write("server.wasm", &guest::server());
    for kind in [FunctionKind::Command, FunctionKind::Server] {
        let prepared = prepare(&rig, named("file://server.wasm", kind)).await.unwrap();
        assert_eq!(prepared.kind, kind);
    }
    rig.write(
        "hello.wasm",
        include_bytes!("../../../../examples/hello/hello.wasm"),
    );
    let error = prepare(&rig, named("file://hello.wasm", FunctionKind::Server))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::UnsupportedKind);
    assert!(error.message.contains("kittiwake.dev/kind"), "{error}");
}
