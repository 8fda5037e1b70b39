//! Programs that answer as CGI programs do, and the files that they find.

use crate::support::{Rig, pieces, report_of, text};
use bytes::Bytes;
use http_body_util::BodyExt;
use kittiwake_core::artifact::{FunctionKind, Prepare};
use kittiwake_core::body::{self, Body};
use kittiwake_core::invoke::{Invoke, InvokeError};
use kittiwake_core::log::LogStream;
use kittiwake_core::revision::{Limits, RevisionSpec};
use kittiwake_core::unit::ByteCount;
use kittiwake_core::volume::{Content, Mount};
use kittiwake_testkit::guest;
use std::sync::Arc;
use std::time::Duration;

async fn send(
    rig: &Rig,
    revision: &Arc<RevisionSpec>,
    path: &str,
    body: Body,
) -> Result<http::Response<Body>, InvokeError> {
    let request = http::Request::post(path)
        .header("host", "fn.localhost")
        .body(body)
        .unwrap();
    rig.runtime.invoke(Arc::clone(revision), request).await
}

async fn until_idle(rig: &Rig) {
    while rig.metric("kittiwake_instances_live") > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_program_reads_the_body_and_prints_the_answer() {
    let rig = Rig::new();
    rig.write("guest.wasm", &guest::cgi());
    assert_eq!(
        rig.prepare("file://guest.wasm").await.unwrap().kind,
        FunctionKind::Command
    );
    let revision = rig.deploy(&guest::cgi(), Limits::default()).await;
    let parts: Vec<Bytes> = (0..64_u8).map(|n| Bytes::from(vec![n; 10_000])).collect();
    let sent = parts.concat();
    let response = send(&rig, &revision, "/", pieces(parts, None)).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert!(!report_of(&response).reused);
    assert!(response.into_body().collect().await.unwrap().to_bytes() == sent);
    until_idle(&rig).await;
    assert_eq!(rig.log(LogStream::Stderr), "said aside\n");
    let response = send(&rig, &revision, "/s", body::empty()).await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["x-a"]),
        (http::StatusCode::NOT_FOUND, &"b".parse().unwrap())
    );
    assert_eq!(text(response).await, "nope");
}

#[tokio::test]
async fn programs_that_fail_fail_alone() {
    let rig = Rig::new();
    let limits = Limits {
        timeout: Duration::from_millis(300),
        request_body: ByteCount(1000),
        memory: ByteCount::mib(4),
        ..Limits::default()
    };
    let revision = rig.deploy(&guest::cgi(), limits).await;
    let fails = |path: &'static str| {
        let (rig, revision) = (&rig, &revision);
        async move {
            send(rig, revision, path, body::empty())
                .await
                .map(drop)
                .unwrap_err()
        }
    };
    let error = fails("/x").await;
    assert!(
        matches!(&error, InvokeError::Trapped(why) if why == "it exited with code 5"),
        "{error}"
    );
    let error = fails("/g").await;
    assert!(
        matches!(&error, InvokeError::BadGateway(why) if why.contains("hello, world")),
        "{error}"
    );
    assert!(matches!(fails("/n").await, InvokeError::NoResponse));
    assert!(matches!(fails("/l").await, InvokeError::TimedOut));
    let error = fails("/m").await;
    assert!(
        matches!(&error, InvokeError::Trapped(why) if why.contains("memory limit")),
        "{error}"
    );
    let large = send(
        &rig,
        &revision,
        "/",
        pieces(vec![Bytes::from(vec![0; 600]); 2], None),
    )
    .await;
    match large {
        Err(error) => assert!(matches!(error, InvokeError::BodyTooLarge), "{error}"),
        Ok(begun) => assert!(
            begun.into_body().collect().await.is_err(),
            "it had begun to answer"
        ),
    }
    let cut = send(&rig, &revision, "/t", body::empty()).await.unwrap();
    assert!(
        cut.into_body()
            .collect()
            .await
            .unwrap_err()
            .to_string()
            .contains("unreachable")
    );
    until_idle(&rig).await;
    assert_eq!(
        text(send(&rig, &revision, "/", body::full("fine")).await.unwrap()).await,
        "fine"
    );
}

#[tokio::test]
async fn what_a_caller_leaves_ends() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::cgi(), Limits::default()).await;
    let call = send(&rig, &revision, "/l", body::empty());
    let mut call = Box::pin(call);
    assert!(futures::poll!(call.as_mut()).is_pending());
    while rig.metric("kittiwake_instances_live") == 0 {
        assert!(futures::poll!(call.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    drop(call);
    until_idle(&rig).await;
}

/// A program of the command line as a component, whose source tells what it does.
const COMPONENT: &[u8] = include_bytes!("../../../../examples/cgi-component/cgi-component.wasm");

#[tokio::test]
async fn a_component_of_the_command_line_answers_as_a_cgi_program_does() {
    let rig = Rig::new();
    rig.write("guest.wasm", COMPONENT);
    let prepared = rig.prepare("file://guest.wasm").await.unwrap();
    assert_eq!(prepared.kind, FunctionKind::Command);
    let revision = rig.deploy(COMPONENT, Limits::default()).await;
    let answer = |path: &'static str, body: Body| {
        let (rig, revision) = (&rig, &revision);
        async move { text(send(rig, revision, path, body).await.unwrap()).await }
    };
    assert_eq!(
        answer("/?a=1&b", body::empty()).await,
        "Hello World!\n? one\n? two\n? a=1\n? b\n"
    );
    let lines: Vec<Bytes> = (0..64_u8)
        .map(|n| [&vec![n | 128; 9_999][..], b"\n"].concat().into())
        .collect();
    assert_eq!(
        answer("/count", pieces(lines, None)).await,
        "64 lines, 639936 bytes without their ends\n"
    );
    for _ in 0..2 {
        assert_eq!(
            answer("/file", body::full("kept")).await,
            "kept",
            "in a /tmp of its own, where nothing was"
        );
    }
    let response = send(&rig, &revision, "/nowhere", body::empty()).await.unwrap();
    assert_eq!(response.status(), http::StatusCode::NOT_FOUND);
    let error = send(&rig, &revision, "/fail", body::empty())
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(&error, InvokeError::Trapped(why) if why == "it exited with code 1"),
        "{error}"
    );
    until_idle(&rig).await;
    rig.until_no_own_folders().await;
    assert_eq!(rig.log(LogStream::Stderr), "asked to fail\n");
    // What an earlier process compiled is taken up as what it is.
    let next = Rig::in_dir(Arc::clone(&rig.dir), |_| ());
    assert_eq!(next.runtime.recall(&prepared.image), Some(prepared));
    assert_eq!(
        text(send(&next, &revision, "/", body::empty()).await.unwrap()).await,
        "Hello World!\n? one\n? two\n"
    );
}

#[tokio::test]
async fn components_of_the_command_line_are_held_to_their_limits() {
    let rig = Rig::new();
    let limits = Limits {
        timeout: Duration::from_millis(300),
        request_body: ByteCount(1000),
        ..Limits::default()
    };
    let revision = rig.deploy(COMPONENT, limits).await;
    // It waits for the end of its body, which does not come.
    let (_sender, endless) = http_body_util::channel::Channel::<Bytes, body::BodyError>::new(1);
    let begun = send(&rig, &revision, "/count", endless.boxed_unsync()).await;
    match begun {
        Err(error) => assert!(matches!(error, InvokeError::TimedOut), "{error}"),
        Ok(begun) => assert!(
            begun.into_body().collect().await.is_err(),
            "it had begun to answer"
        ),
    }
    let large = pieces(vec![Bytes::from(vec![0; 600]); 2], None);
    match send(&rig, &revision, "/file", large).await {
        Err(error) => assert!(matches!(error, InvokeError::BodyTooLarge), "{error}"),
        Ok(begun) => assert!(
            begun.into_body().collect().await.is_err(),
            "it had begun to answer"
        ),
    }
    let small = Arc::new(RevisionSpec {
        uid: "small".into(),
        limits: Limits {
            memory: ByteCount(64 * 1024),
            ..Limits::default()
        },
        ..RevisionSpec::clone(&revision)
    });
    let error = send(&rig, &small, "/", body::empty())
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(&error, InvokeError::Trapped(why) if why.contains("memory limit")),
        "{error}"
    );
    until_idle(&rig).await;
    assert!(
        text(send(&rig, &revision, "/", body::empty()).await.unwrap())
            .await
            .starts_with("Hello")
    );
}

#[tokio::test]
async fn mounted_files_are_read_and_only_scratch_is_written() {
    let rig = Rig::new();
    let plain = rig.deploy(&guest::cgi(), Limits::default()).await;
    let files = [("file".to_owned(), Bytes::from("from a ConfigMap"))];
    let revision = Arc::new(RevisionSpec {
        uid: "uid-2".into(),
        mounts: vec![Mount {
            path: "/etc/config".into(),
            content: Content::Files(Arc::new(files.into())),
            fixed: false,
        }],
        ..RevisionSpec::clone(&plain)
    });
    for _ in 0..2 {
        let answer = |path: &'static str| {
            let (rig, revision) = (&rig, &revision);
            async move { text(send(rig, revision, path, body::empty()).await.unwrap()).await }
        };
        assert_eq!(answer("/r").await, "from a ConfigMap");
        assert_ne!(answer("/f").await, "00", "it is written to by nobody");
        assert_eq!(answer("/k").await, "00", "/tmp is");
    }
    rig.until_no_own_folders().await;
}
