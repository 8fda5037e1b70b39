//! Calls: what passes, what each limit does, and what a failure leaves untouched.

use crate::support::{Rig, pieces, report_of, text, with_core_instances};
use bytes::Bytes;
use http_body_util::BodyExt;
use kittiwake_core::body;
use kittiwake_core::invoke::{Invoke, InvokeError};
use kittiwake_core::log::LogStream;
use kittiwake_core::report::Health;
use kittiwake_core::revision::{Isolation, Limits, RevisionSpec};
use kittiwake_core::unit::ByteCount;
use kittiwake_runtime::Resets;
use kittiwake_testkit::guest;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits {
        timeout: Duration::from_secs(60),
        ..Limits::default()
    };
    change(&mut limits);
    limits
}

async fn until_idle(rig: &Rig) {
    while rig.metric("kittiwake_instances_live") > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_request_passes_whole_and_back() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::echo(), Limits::default()).await;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    let parts = (0..64).map(|n| Bytes::from(vec![n; 10_000])).collect::<Vec<_>>();
    let sent = parts.concat();
    let request = http::Request::patch("http://fn.localhost/a/b?c=d&e")
        .header("x-color", "blue")
        .header("x-color", "green")
        .body(pieces(parts, Some(trailers)))
        .unwrap();
    let response = rig.runtime.invoke(Arc::clone(&revision), request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-path"], "/a/b?c=d&e");
    assert_eq!(
        response.headers()["x-method"],
        "8",
        "patch is the ninth case of wasi:http's method"
    );
    assert_eq!(
        response.headers().get_all("x-color").iter().collect::<Vec<_>>(),
        ["blue", "green"]
    );
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "42");
    assert!(collected.to_bytes() == sent);
}

#[tokio::test]
async fn bodies_stream_in_both_directions() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::echo(), Limits::default()).await;
    let (mut sender, channel) = http_body_util::channel::Channel::<Bytes, body::BodyError>::new(1);
    let response = rig.call(&revision, channel.boxed_unsync()).await.unwrap();
    let mut answer = response.into_body();
    for part in ["one", "two", "three"] {
        // Each part comes back before the next one is sent: nothing waits for the end.
        sender.send_data(Bytes::from(part)).await.unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), part);
    }
    drop(sender);
    assert!(answer.frame().await.is_none());
}

#[tokio::test]
async fn environment_arguments_and_output() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::env(), Limits::default()).await;
    assert_eq!(
        rig.get(&revision).await.unwrap(),
        "one\ntwo\nK_REVISION=fn-00001\nGREETING=hi\n"
    );
    let rig = Rig::new();
    let revision = rig.deploy(&guest::lines(), Limits::default()).await;
    assert_eq!(rig.get(&revision).await.unwrap(), "ok\n");
    until_idle(&rig).await;
    assert_eq!(rig.log(LogStream::Stdout), "one\ntwo\nunfinished\n");
    assert_eq!(rig.log(LogStream::Stderr), "oh no\n");
}

#[tokio::test]
async fn every_call_has_an_instance_of_its_own() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::counter(), Limits::default()).await;
    for _ in 0..100 {
        assert_eq!(rig.get(&revision).await.unwrap(), "11");
    }
}

/// The revision, with instances that are kept.
fn keeping(revision: &Arc<RevisionSpec>) -> Arc<RevisionSpec> {
    Arc::new(RevisionSpec {
        isolation: Isolation::Serial,
        ..RevisionSpec::clone(revision)
    })
}

#[tokio::test]
async fn a_revision_may_keep_its_instances() {
    let rig = Rig::new();
    let fresh = rig.deploy(&guest::counter(), Limits::default()).await;
    let kept = keeping(&fresh);
    for answer in ["11", "22", "33"] {
        let response = rig.call(&kept, body::empty()).await.unwrap();
        assert_eq!(report_of(&response).reused, answer != "11");
        assert_eq!(text(response).await, answer);
    }
    assert_eq!(
        rig.get(&fresh).await.unwrap(),
        "11",
        "who does not keep gets none"
    );
    // Another version of the revision (its environment changed, say) gets none of the old instances.
    assert_eq!(rig.get(&keeping(&fresh)).await.unwrap(), "11");
    assert!(rig.metric("kittiwake_instances_waiting") >= 1);
    rig.runtime.unload_idle(Duration::ZERO);
    assert_eq!(rig.metric("kittiwake_instances_waiting"), 0);
    assert_eq!(rig.metric("kittiwake_instances_live"), 0);
}

#[tokio::test]
async fn instances_that_wait_give_way_and_those_that_leak_or_fail_are_not_kept() {
    let rig = Rig::with(|config| config.instances_max = 2);
    let one = keeping(&rig.deploy(&guest::counter(), Limits::default()).await);
    let other = rig.deploy_as("other", &guest::counter()).await;
    let leaky = keeping(&rig.deploy_as("leaky", &guest::trap_once_told()).await);
    let waiting = || rig.metric("kittiwake_instances_waiting");
    assert_eq!(rig.get(&one).await.unwrap(), "11");
    assert_eq!(rig.get(&keeping(&other)).await.unwrap(), "11");
    assert_eq!(waiting(), 2, "all slots are taken");
    assert_eq!(rig.get(&other).await.unwrap(), "11", "a call needs one of them");
    assert_eq!(waiting(), 0);
    assert_eq!(rig.get(&leaky).await.unwrap(), "fine\n");
    assert_eq!(waiting(), 0, "it still holds its request");
    let told = rig.call(&leaky, body::full("now")).await;
    assert!(matches!(told, Err(InvokeError::Trapped(_))));
    assert_eq!(waiting(), 0);
    assert_eq!(rig.get(&leaky).await.unwrap(), "fine\n", "another one answers");
}

#[tokio::test]
async fn nothing_of_a_guest_is_left_for_the_next_in_its_slot() {
    for resets in [Resets::WrittenPages, Resets::AllPages] {
        // One slot, so that every call gets what the one before it left, be it the same function or another.
        let rig = Rig::with(|config| {
            config.instances_max = 1;
            config.resets = Some(resets);
        });
        let one = rig.deploy(&guest::residue(), Limits::default()).await;
        let mut other = guest::residue();
        other.extend([0, 2, 1, b'x']);
        let other = rig.deploy_as("other", &other).await;
        for _ in 0..20 {
            for revision in [&one, &one, &other] {
                assert_eq!(rig.get(revision).await.unwrap(), "clean", "{resets:?}");
                until_idle(&rig).await;
            }
        }
    }
}

#[tokio::test]
async fn functions_go_over_to_a_new_engine() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::counter(), Limits::default()).await;
    let asleep = rig.deploy_as("asleep", &guest::asleep()).await;
    let call = rig.call(&asleep, body::empty());
    let mut call = std::pin::pin!(call);
    assert!(futures::poll!(call.as_mut()).is_pending());
    assert_eq!(rig.get(&revision).await.unwrap(), "11");
    rig.runtime.reset_all_pages();
    assert_eq!(rig.get(&revision).await.unwrap(), "11");
    assert!(
        futures::poll!(call.as_mut()).is_pending(),
        "a call in flight stays where it is"
    );
}

#[tokio::test]
async fn guests_that_fail_fail_alone() {
    for (guest, word) in [
        (guest::trap(), "unreachable"),
        (guest::trap_after_set(), "unreachable"),
        (guest::exit_failed(), "exited with code 1"),
        (guest::error_code(), "HttpResponseIncomplete"),
    ] {
        let rig = Rig::new();
        let revision = rig.deploy(&guest, Limits::default()).await;
        match rig.get(&revision).await {
            Err(InvokeError::Trapped(message)) => assert!(message.contains(word), "{message}"),
            other => panic!("{word}: {other:?}"),
        }
        assert!(rig.log(LogStream::Platform).contains("the function failed"));
    }
    for guest in [guest::no_answer(), guest::exit_quietly()] {
        let rig = Rig::new();
        let revision = rig.deploy(&guest, Limits::default()).await;
        assert!(matches!(rig.get(&revision).await, Err(InvokeError::NoResponse)));
        assert!(rig.log(LogStream::Platform).contains("without an answer"));
    }
}

#[tokio::test]
async fn a_trap_is_logged_with_its_backtrace() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::trap(), Limits::default()).await;
    rig.get(&revision).await.unwrap_err();
    let log = rig.log(LogStream::Platform);
    assert!(
        log.contains("wasm backtrace") && log.contains("unreachable"),
        "{log}"
    );
    assert_eq!(rig.metric("kittiwake_calls_failed_total"), 1);
}

#[tokio::test]
async fn health_is_reported_when_it_changes() {
    let mut rig = Rig::new();
    let revision = rig.deploy(&guest::trap_once_told(), Limits::default()).await;
    for _ in 0..2 {
        rig.call(&revision, body::full("x")).await.unwrap_err();
    }
    let report = rig.reports.try_recv().unwrap();
    assert_eq!(
        (report.revision, report.uid),
        (revision.key.clone(), Arc::clone(&revision.uid))
    );
    assert!(
        matches!(report.health, Health::Failing { message, exit_code: 134 } if message.contains("unreachable"))
    );
    assert!(rig.reports.try_recv().is_err(), "one report is enough");
    assert_eq!(rig.get(&revision).await.unwrap(), "fine\n");
    assert_eq!(rig.reports.try_recv().unwrap().health, Health::Recovered);
    rig.call(&revision, body::full("x")).await.unwrap_err();
    assert!(rig.reports.try_recv().is_err(), "it has answered");
    until_idle(&rig).await;
    rig.runtime.unload_idle(Duration::ZERO);
    assert_eq!(rig.metric("kittiwake_functions_loaded"), 0);
    rig.call(&revision, body::full("x")).await.unwrap_err();
    assert!(
        rig.reports.try_recv().is_err(),
        "it had answered before it was unloaded"
    );
}

#[tokio::test]
async fn a_trap_after_the_first_byte_breaks_the_body() {
    let rig = Rig::new();
    let revision = rig
        .deploy(&guest::trap_after_first_byte(), Limits::default())
        .await;
    let response = rig.call(&revision, body::empty()).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "partial"
    );
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("unreachable"), "{error}");
    assert!(body.frame().await.is_none());
    assert!(rig.log(LogStream::Platform).contains("wasm backtrace"));
}

#[tokio::test]
async fn memory_is_limited() {
    let rig = Rig::new();
    let revision = rig
        .deploy(&guest::grow(), limits(|limits| limits.memory = ByteCount::mib(8)))
        .await;
    match rig.get(&revision).await {
        Err(InvokeError::Trapped(message)) => assert!(message.contains("memory limit exceeded"), "{message}"),
        other => panic!("{other:?}"),
    }
    let log = rig.log(LogStream::Platform);
    assert!(
        log.contains("memory limit exceeded")
            && log.contains("8Mi")
            && log.contains("resources.limits.memory"),
        "{log}"
    );
}

#[tokio::test]
async fn memory_on_the_side_of_the_host_is_limited() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::hoard(), limits(|_| ())).await;
    match rig.get(&revision).await {
        Err(InvokeError::Trapped(message)) => assert!(message.contains("resource table"), "{message}"),
        other => panic!("{other:?}"),
    }
    assert!(
        rig.log(LogStream::Platform).contains("pushing fields"),
        "the log tells which call was refused"
    );
}

#[tokio::test]
async fn an_endless_loop_ends_by_its_time_limit_and_holds_up_nobody() {
    // One thread: what computes must yield for the other call to be answered at all.
    let rig = Arc::new(Rig::new());
    let spin = rig.deploy(&guest::spin(), Limits::default()).await;
    let brief = Arc::new(RevisionSpec {
        uid: "uid-brief".into(),
        limits: limits(|limits| limits.timeout = Duration::from_secs(1)),
        ..(*spin).clone()
    });
    let mut hello = (*rig.deploy(&guest::hello(), Limits::default()).await).clone();
    hello.uid = "uid-hello".into();
    let hello = Arc::new(hello);
    let spinning = tokio::spawn({
        let rig = Arc::clone(&rig);
        async move { rig.get(&spin).await }
    });
    for _ in 0..10 {
        rig.get(&hello).await.unwrap();
    }
    assert!(
        !spinning.is_finished(),
        "answered while the other one still computed"
    );
    spinning.abort();
    assert!(spinning.await.unwrap_err().is_cancelled());
    let spun = rig.get(&brief).await;
    assert!(matches!(spun, Err(InvokeError::TimedOut)), "{spun:?}");
    assert!(rig.log(LogStream::Platform).contains("time limit"));
    until_idle(&rig).await;
}

#[tokio::test]
async fn input_is_looked_for_while_a_guest_computes() {
    const ECHOES: u8 = 100;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let rig = Arc::new(Rig::new());
    let spin = rig.deploy(&guest::spin(), Limits::default()).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    tokio::spawn(async move {
        while let Ok(byte) = server.read_u8().await {
            server.write_u8(byte).await.unwrap();
        }
    });
    let polls = Arc::new(AtomicUsize::new(0));
    let computing = tokio::spawn({
        let (rig, polls) = (Arc::clone(&rig), Arc::clone(&polls));
        async move {
            let mut call = pin!(rig.get(&spin));
            std::future::poll_fn(|context| {
                polls.fetch_add(1, Ordering::Relaxed);
                call.as_mut().poll(context)
            })
            .await
        }
    });
    // A thread that looks for input only every so many tasks (61 of them) would let the guest go on as often for each of
    // the two ways of each byte.
    for byte in 0..ECHOES {
        client.write_u8(byte).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), byte);
    }
    assert!(!computing.is_finished(), "the guest still computes");
    let polls = polls.load(Ordering::Relaxed);
    let echoes = usize::from(ECHOES);
    assert!(
        (echoes / 2..echoes * 20).contains(&polls),
        "the guest went on {polls} times"
    );
    computing.abort();
    assert!(computing.await.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn the_three_time_limits() {
    let rig = Rig::new();
    let late = rig.deploy(&guest::delayed(), Limits::default()).await;
    assert_eq!(rig.get(&late).await.unwrap(), "late\n");
    for change in [
        (|limits: &mut Limits| limits.timeout = Duration::from_millis(20)) as fn(&mut Limits),
        |limits| limits.response_start_timeout = Some(Duration::from_millis(20)),
        |limits| limits.idle_timeout = Some(Duration::from_millis(20)),
    ] {
        let rig = Rig::new();
        let asleep = rig.deploy(&guest::asleep(), limits(change)).await;
        assert!(matches!(rig.get(&asleep).await, Err(InvokeError::TimedOut)));
    }
    for (change, word) in [
        (
            (|limits: &mut Limits| limits.timeout = Duration::from_millis(200)) as fn(&mut Limits),
            "request timeout",
        ),
        (
            |limits| limits.idle_timeout = Some(Duration::from_millis(200)),
            "idleTimeoutSeconds",
        ),
    ] {
        let rig = Rig::new();
        let stall = rig.deploy(&guest::stall(), limits(change)).await;
        let mut body = rig.call(&stall, body::empty()).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "begun");
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        until_idle(&rig).await;
    }
}

#[tokio::test]
async fn the_request_body_is_limited_announced_or_not() {
    let rig = Rig::new();
    let revision = rig
        .deploy(
            &guest::trap_once_told(),
            limits(|limits| limits.request_body = ByteCount(10)),
        )
        .await;
    let announced = rig.call(&revision, body::full(vec![0; 11])).await;
    assert!(matches!(announced, Err(InvokeError::BodyTooLarge)));
    let streamed = rig
        .call(&revision, pieces(vec![Bytes::from_static(&[0; 11])], None))
        .await;
    assert!(matches!(streamed, Err(InvokeError::BodyTooLarge)));
    let mut echo = (*rig
        .deploy(
            &guest::echo(),
            limits(|limits| limits.request_body = ByteCount(10)),
        )
        .await)
        .clone();
    echo.uid = "uid-echo".into();
    let fits = rig
        .call(
            &Arc::new(echo),
            pieces(vec![Bytes::from_static(b"0123456789")], None),
        )
        .await
        .unwrap();
    assert_eq!(text(fits).await, "0123456789");
}

#[tokio::test]
async fn a_large_answer_waits_for_its_reader() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::big(), Limits::default()).await;
    let mut body = rig.call(&revision, body::empty()).await.unwrap().into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        rig.metric("kittiwake_instances_live"),
        1,
        "the guest waits, it does not fill memory"
    );
    let rest = body.collect().await.unwrap().to_bytes();
    assert_eq!(first.len() + rest.len(), guest::BIG_BYTES);
    assert!(rest.iter().all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn leaving_cancels_the_guest() {
    let rig = Rig::new();
    let stall = rig.deploy(&guest::stall(), Limits::default()).await;
    let mut body = rig.call(&stall, body::empty()).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(rig.metric("kittiwake_instances_live"), 1);
    drop(body);
    until_idle(&rig).await;

    let rig = Rig::new();
    let asleep = rig.deploy(&guest::asleep(), Limits::default()).await;
    let call = rig.call(&asleep, body::empty());
    assert!(
        tokio::time::timeout(Duration::from_millis(50), call)
            .await
            .is_err()
    );
    assert_eq!(rig.metric("kittiwake_instances_live"), 0);
}

#[tokio::test]
async fn a_full_pool_is_a_clean_refusal() {
    let rig = Rig::with(|config| {
        config.instances_max = 1;
        config.slot_wait_max = Duration::from_millis(20);
    });
    let revision = rig.deploy(&guest::stall(), Limits::default()).await;
    let held = rig.call(&revision, body::empty()).await.unwrap();
    assert!(matches!(
        rig.call(&revision, body::empty()).await,
        Err(InvokeError::Overloaded { .. })
    ));
    drop(held);
    until_idle(&rig).await;
    let free = rig.call(&revision, body::empty()).await.unwrap();
    assert!(report_of(&free).queued < Duration::from_secs(60));
}

#[tokio::test]
async fn a_full_pool_is_not_the_fault_of_what_is_made_ready() {
    let rig = Rig::with(|config| {
        config.instances_max = 1;
        config.slot_wait_max = Duration::from_millis(20);
    });
    let revision = rig.deploy(&guest::stall(), Limits::default()).await;
    let held = rig.call(&revision, body::empty()).await.unwrap();
    let error = rig.prepare("file://guest.wasm").await.unwrap_err();
    assert!(error.is_transient() && error.exit_code.is_none(), "{error}");
    drop(held);
    until_idle(&rig).await;
    // More core instances than the whole pool has.
    rig.write("guest.wasm", &with_core_instances(guest::hello(), 40));
    let error = rig.prepare("file://guest.wasm").await.unwrap_err();
    assert!(error.is_transient() && error.exit_code.is_none(), "{error}");
}

#[tokio::test]
async fn a_guest_of_many_modules_fits_into_its_part_of_the_pool() {
    let rig = Rig::with(|config| config.instances_max = 1);
    let guest = with_core_instances(guest::hello(), 25);
    let revision = rig.deploy(&guest, Limits::default()).await;
    assert_eq!(rig.get(&revision).await.unwrap(), "Hello from WebAssembly!\n");
}

#[tokio::test]
async fn other_servers_cannot_be_reached() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::fetch(), Limits::default()).await;
    assert_eq!(rig.get(&revision).await.unwrap(), "denied\n");
    assert!(rig.log(LogStream::Platform).contains("example.com"));
}

#[tokio::test]
async fn many_calls_at_once_share_one_load() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::hello(), Limits::default()).await;
    let calls = futures::future::join_all((0..64).map(|_| rig.get(&revision))).await;
    assert!(
        calls
            .iter()
            .all(|answer| answer.as_deref().is_ok_and(|text| text.starts_with("Hello")))
    );
    assert_eq!(rig.metric("kittiwake_functions_loaded").max(1), 1);
}
