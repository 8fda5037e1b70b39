//! Services of WASI 0.3: what their instances share, what they do not, and how each limit ends them.
//!
//! The guest is the example `concurrent`; its source tells what each path does.

use crate::support::{Rig, pieces, report_of, text};
use bytes::Bytes;
use http_body_util::BodyExt;
use kittiwake_core::body::{self, Body};
use kittiwake_core::invoke::{Invoke, InvokeError};
use kittiwake_core::log::LogStream;
use kittiwake_core::revision::{Isolation, Limits, RevisionSpec};
use kittiwake_core::unit::ByteCount;
use std::sync::Arc;
use std::time::Duration;

const GUEST: &[u8] = include_bytes!("../../../../examples/concurrent/concurrent.wasm");

async fn deploy(rig: &Rig, isolation: Isolation, limits: Limits) -> Arc<RevisionSpec> {
    let spec = rig.deploy(GUEST, limits).await;
    Arc::new(RevisionSpec {
        isolation,
        ..RevisionSpec::clone(&spec)
    })
}

async fn ask(
    rig: &Rig,
    revision: &Arc<RevisionSpec>,
    path: &str,
) -> Result<http::Response<Body>, InvokeError> {
    send(rig, revision, path, body::empty()).await
}

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

/// Which call of its instance answered, and how many were in it then.
async fn told(answer: Result<http::Response<Body>, InvokeError>) -> (u32, u32) {
    let text = text(answer.unwrap()).await;
    let mut numbers = text.split(' ').filter_map(|word| word.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

async fn until_idle(rig: &Rig) {
    while rig.metric("kittiwake_instances_live") > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits {
        timeout: Duration::from_secs(60),
        ..Limits::default()
    };
    change(&mut limits);
    limits
}

#[tokio::test]
async fn a_request_passes_whole_and_back() {
    let rig = Rig::new();
    for isolation in [Isolation::Request, Isolation::Serial, Isolation::Concurrent] {
        let revision = deploy(&rig, isolation, Limits::default()).await;
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        let parts = (0..64).map(|n| Bytes::from(vec![n; 10_000])).collect::<Vec<_>>();
        let sent = parts.concat();
        let response = send(&rig, &revision, "/echo", pieces(parts, Some(trailers)))
            .await
            .unwrap();
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-sum"], "42");
        assert!(collected.to_bytes() == sent, "{isolation:?}");
    }
}

#[tokio::test]
async fn by_default_every_call_has_an_instance_of_its_own() {
    let rig = Rig::new();
    let revision = deploy(&rig, Isolation::Request, Limits::default()).await;
    for _ in 0..3 {
        let response = ask(&rig, &revision, "/calls").await.unwrap();
        assert!(!report_of(&response).reused);
        assert!(report_of(&response).instantiated > Duration::ZERO);
        assert_eq!(told(Ok(response)).await, (1, 1));
    }
    until_idle(&rig).await;
}

#[tokio::test]
async fn serial_instances_take_one_call_at_a_time() {
    let rig = Rig::new();
    let revision = deploy(&rig, Isolation::Serial, Limits::default()).await;
    let (one, two) = tokio::join!(
        ask(&rig, &revision, "/wait?ms=50"),
        ask(&rig, &revision, "/wait?ms=50")
    );
    assert_eq!((told(one).await, told(two).await), ((1, 1), (1, 1)));
    // An instance takes the next call once it has seen that the one before it has gone.
    let mut reused = false;
    while !reused {
        let response = ask(&rig, &revision, "/calls").await.unwrap();
        reused = report_of(&response).reused;
        let (number, inside) = told(Ok(response)).await;
        assert_eq!((number > 1, inside), (reused, 1));
    }
}

#[tokio::test]
async fn concurrent_calls_share_an_instance_up_to_a_number() {
    let rig = Rig::new();
    let revision = deploy(&rig, Isolation::Concurrent, Limits::default()).await;
    let calls = (0..40).map(|_| async { told(ask(&rig, &revision, "/wait?ms=300").await).await });
    let answers = futures::future::join_all(calls).await;
    let most = answers.iter().map(|(_, inside)| *inside).max().unwrap();
    assert!((2..=16).contains(&most), "{most} calls were in one instance");
    assert!(
        rig.metric("kittiwake_instances_live") < 16,
        "far fewer than calls"
    );
    // Another version of the revision (its environment changed, say) gets none of the old instances.
    let changed = Arc::new(RevisionSpec::clone(&revision));
    assert_eq!(told(ask(&rig, &changed, "/calls").await).await, (1, 1));
}

#[tokio::test]
async fn instances_that_wait_for_their_turn_are_not_taken_for_full_ones() {
    // One turn, which rests again and again in so many calls; no guest is stopped by a tick, as one that computes would be.
    let rig = Rig::with(|config| {
        config.instances_max = 64;
        config.threads = std::num::NonZeroU32::MIN;
        config.epoch_tick = Duration::from_secs(10);
    });
    let revision = deploy(&rig, Isolation::Concurrent, Limits::default()).await;
    let callers = (0..64).map(|_| async {
        for _ in 0..20 {
            told(ask(&rig, &revision, "/calls").await).await;
        }
    });
    futures::future::join_all(callers).await;
    let live = rig.metric("kittiwake_instances_live");
    assert!((1..=8).contains(&live), "{live} instances for 64 calls at a time");
}

#[tokio::test]
async fn a_trap_ends_the_calls_of_its_instance_and_no_other() {
    let rig = Rig::new();
    let revision = deploy(&rig, Isolation::Concurrent, Limits::default()).await;
    assert_eq!(told(ask(&rig, &revision, "/calls").await).await, (1, 1));
    let beside = ask(&rig, &revision, "/wait?ms=5000");
    let crash = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        ask(&rig, &revision, "/crash").await
    };
    let (beside, crash) = tokio::join!(beside, crash);
    for answer in [beside, crash] {
        match answer {
            Err(InvokeError::Trapped(message)) => assert!(message.contains("unreachable"), "{message}"),
            other => panic!("{:?}", other.map(|response| response.status())),
        }
    }
    let log = rig.log(LogStream::Platform);
    assert_eq!(log.matches("wasm backtrace").count(), 1, "told once: {log}");
    assert!(rig.log(LogStream::Stderr).contains("asked to"));
    assert_eq!(
        told(ask(&rig, &revision, "/calls").await).await,
        (1, 1),
        "another one"
    );
}

#[tokio::test]
async fn a_trap_after_the_first_byte_breaks_the_body() {
    let rig = Rig::new();
    for isolation in [Isolation::Request, Isolation::Concurrent] {
        let revision = deploy(&rig, isolation, Limits::default()).await;
        let mut body = ask(&rig, &revision, "/crash-later").await.unwrap().into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, "partial");
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("unreachable"), "{error}");
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test]
async fn an_error_instead_of_a_response_is_told() {
    let rig = Rig::new();
    let revision = deploy(&rig, Isolation::Concurrent, Limits::default()).await;
    match ask(&rig, &revision, "/refuse").await {
        Err(InvokeError::Trapped(message)) => assert!(message.contains("asked to"), "{message}"),
        other => panic!("{:?}", other.map(|response| response.status())),
    }
    assert_eq!(
        told(ask(&rig, &revision, "/calls").await).await,
        (2, 1),
        "that is no trap"
    );
}

#[tokio::test]
async fn time_limits_hold_for_waiting_and_for_computing_guests() {
    for isolation in [Isolation::Request, Isolation::Serial, Isolation::Concurrent] {
        let rig = Rig::new();
        let short = limits(|limits| limits.timeout = Duration::from_millis(200));
        let revision = deploy(&rig, isolation, short).await;
        for path in ["/wait?ms=60000", "/spin"] {
            let answer = ask(&rig, &revision, path).await;
            assert!(
                matches!(answer, Err(InvokeError::TimedOut)),
                "{isolation:?} {path}"
            );
            until_idle(&rig).await;
        }
        assert_eq!(told(ask(&rig, &revision, "/calls").await).await, (1, 1));
    }
}

#[tokio::test]
async fn a_silent_body_is_ended() {
    for (change, word) in [
        (
            (|limits: &mut Limits| limits.timeout = Duration::from_millis(300)) as fn(&mut Limits),
            "request timeout",
        ),
        (
            |limits| limits.idle_timeout = Some(Duration::from_millis(300)),
            "idleTimeoutSeconds",
        ),
    ] {
        let rig = Rig::new();
        let revision = deploy(&rig, Isolation::Serial, limits(change)).await;
        let (_sender, silence) = http_body_util::channel::Channel::<Bytes, body::BodyError>::new(1);
        let mut body = send(&rig, &revision, "/echo", silence.boxed_unsync())
            .await
            .unwrap()
            .into_body();
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        until_idle(&rig).await;
    }
}

#[tokio::test]
async fn the_request_body_is_limited() {
    let rig = Rig::new();
    let small = limits(|limits| limits.request_body = ByteCount(10));
    let revision = deploy(&rig, Isolation::Concurrent, small).await;
    let long = pieces(vec![Bytes::from_static(&[0; 11])], None);
    match send(&rig, &revision, "/echo", long).await {
        Err(InvokeError::BodyTooLarge) => {}
        // The head may have been sent before the body was read.
        Ok(response) => assert!(response.into_body().collect().await.is_err()),
        Err(other) => panic!("{other:?}"),
    }
    let fits = pieces(vec![Bytes::from_static(b"0123456789")], None);
    let response = send(&rig, &revision, "/echo", fits).await.unwrap();
    assert_eq!(text(response).await, "0123456789");
}

#[tokio::test]
async fn leaving_ends_an_instance_that_serves_nobody_else() {
    let rig = Rig::new();
    for isolation in [Isolation::Request, Isolation::Serial, Isolation::Concurrent] {
        let revision = deploy(&rig, isolation, limits(|_| ())).await;
        for path in ["/wait?ms=60000", "/spin"] {
            let call = ask(&rig, &revision, path);
            assert!(
                tokio::time::timeout(Duration::from_millis(100), call)
                    .await
                    .is_err()
            );
            until_idle(&rig).await;
        }
    }
}

#[tokio::test]
async fn instances_with_nothing_to_do_give_way() {
    let rig = Rig::with(|config| {
        config.instances_max = 1;
        config.slot_wait_max = Duration::from_secs(5);
    });
    let one = deploy(&rig, Isolation::Concurrent, Limits::default()).await;
    let other = rig.deploy_as("other", GUEST).await;
    for _ in 0..3 {
        assert_eq!(told(ask(&rig, &one, "/calls").await).await, (1, 1));
        assert_eq!(told(ask(&rig, &other, "/calls").await).await, (1, 1));
    }
}

#[tokio::test]
async fn a_full_pool_is_a_clean_refusal() {
    let rig = Rig::with(|config| {
        config.instances_max = 1;
        config.slot_wait_max = Duration::from_millis(20);
    });
    let revision = deploy(&rig, Isolation::Request, limits(|_| ())).await;
    let (held, refused) = tokio::join!(ask(&rig, &revision, "/wait?ms=300"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        ask(&rig, &revision, "/calls").await
    });
    assert!(matches!(refused, Err(InvokeError::Overloaded { .. })));
    assert_eq!(told(held).await, (1, 1));
}

#[tokio::test]
async fn an_instance_serves_a_limited_number_of_calls() {
    let rig = Rig::new();
    let revision = deploy(&rig, Isolation::Concurrent, Limits::default()).await;
    let mut last = 0;
    for _ in 0..1000 {
        last = told(ask(&rig, &revision, "/calls").await).await.0;
    }
    assert!(last <= 1000);
    assert!(told(ask(&rig, &revision, "/calls").await).await.0 < last);
}
