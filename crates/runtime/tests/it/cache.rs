//! The cache between runtimes, and functions that leave memory.

use crate::support::{Rig, files, report_of, spec, with_core_instances_of};
use kittiwake_core::body;
use kittiwake_core::invoke::InvokeError;
use kittiwake_core::revision::Limits;
use kittiwake_core::unit::ByteCount;
use kittiwake_testkit::guest;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn two_runtimes_share_one_cache() {
    let one = Rig::new();
    let two = Rig::in_dir(Arc::clone(&one.dir), |_| ());
    one.write("x.wasm", &guest::hello());
    let (a, b) = tokio::join!(one.prepare("file://x.wasm"), two.prepare("file://x.wasm"));
    assert_eq!(a.unwrap(), b.unwrap());
    let compiled = one.metric("kittiwake_compile_seconds") + two.metric("kittiwake_compile_seconds");
    assert_eq!(
        compiled, 1,
        "the second one waits for the first and takes its result"
    );
}

#[tokio::test]
async fn one_runtime_compiles_once_for_many() {
    let rig = Rig::new();
    rig.write("x.wasm", &guest::hello());
    let all = futures::future::join_all((0..8).map(|_| rig.prepare("file://x.wasm"))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(rig.metric("kittiwake_compile_seconds"), 1);
    assert_eq!(rig.metric("kittiwake_image_fetches_total"), 1);
}

#[tokio::test]
async fn a_damaged_cache_is_made_again() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::hello(), Limits::default()).await;
    let dir = Arc::clone(&rig.dir);
    drop(rig);
    for path in files(&dir.path().join("data/cache/blobs")) {
        let mut content = std::fs::read(&path).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 0xff;
        std::fs::write(&path, content).unwrap();
    }
    let again = Rig::in_dir(dir, |_| ());
    assert_eq!(again.get(&revision).await.unwrap(), "Hello from WebAssembly!\n");
    assert_eq!(again.metric("kittiwake_cache_corrupt_total"), 2);
    assert_eq!(again.metric("kittiwake_compile_seconds"), 1);
}

#[tokio::test]
async fn idle_functions_leave_memory_and_come_back() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::hello(), Limits::default()).await;
    let first = rig.call(&revision, body::empty()).await.unwrap();
    assert!(report_of(&first).cold_start.is_some());
    let warm = rig.call(&revision, body::empty()).await.unwrap();
    assert!(report_of(&warm).cold_start.is_none());
    assert!(report_of(&warm).instantiated > Duration::ZERO);
    drop((first, warm));
    rig.runtime.unload_idle(Duration::from_secs(3600));
    assert_eq!(rig.metric("kittiwake_functions_loaded"), 1);
    while rig.metric("kittiwake_instances_live") > 0 {
        tokio::task::yield_now().await;
    }
    rig.runtime.unload_idle(Duration::ZERO);
    assert_eq!(rig.metric("kittiwake_functions_loaded"), 0);
    let back = rig.call(&revision, body::empty()).await.unwrap();
    assert!(report_of(&back).cold_start.is_some());
    assert_eq!(rig.metric("kittiwake_compile_seconds"), 1);
}

#[tokio::test]
async fn the_program_of_a_function_at_zero_stays_in_memory() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::hello(), Limits::default()).await;
    let read_before = rig.metric("kittiwake_cache_hits_total");
    // Neither the first call after deployment nor one after unloading needs any file.
    std::fs::remove_dir_all(rig.dir.path().join("data/cache")).unwrap();
    for found in 1..=2 {
        let back = rig.call(&revision, body::empty()).await.unwrap();
        assert!(report_of(&back).cold_start.is_some());
        drop(back);
        while rig.metric("kittiwake_instances_live") > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(rig.metric("kittiwake_programs_found_total"), found);
        rig.runtime.unload_idle(Duration::ZERO);
        assert_eq!(rig.metric("kittiwake_functions_loaded"), 0);
    }
    assert_eq!(rig.metric("kittiwake_cache_hits_total"), read_before);
    assert_eq!(rig.metric("kittiwake_programs_kept"), 1);
    assert!(rig.metric("kittiwake_programs_kept_bytes") > 0);
}

#[tokio::test]
async fn programs_beyond_the_limit_are_loaded_again() {
    let rig = Rig::with(|config| config.programs_bytes_max = ByteCount(0));
    let revision = rig.deploy(&guest::hello(), Limits::default()).await;
    let read_before = rig.metric("kittiwake_cache_hits_total");
    assert!(rig.get(&revision).await.is_ok());
    assert_eq!(rig.metric("kittiwake_cache_hits_total"), read_before + 1);
    assert_eq!(rig.metric("kittiwake_programs_found_total"), 0);
    rig.runtime.unload_idle(Duration::ZERO);
    assert_eq!(rig.metric("kittiwake_programs_kept"), 0);
}

#[tokio::test]
async fn an_instance_that_finds_no_room_has_what_is_only_kept_let_go() {
    let rig = Rig::with(|config| config.instances_max = 2);
    // The pool has two memories for each slot, and this has three.
    let memory = wat::parse_str("(module (memory 1))").unwrap();
    let greedy = with_core_instances_of(guest::stall(), &memory, 2);
    let greedy = rig.deploy(&greedy, Limits::default()).await;
    let other = rig.deploy_as("other", &guest::hello()).await;
    rig.runtime.unload_idle(Duration::ZERO);
    assert_eq!(rig.metric("kittiwake_programs_kept"), 2);
    // It has its instance until its answer is dropped.
    let holding = rig.call(&greedy, body::empty()).await.unwrap();
    let full = rig.call(&greedy, body::empty()).await.unwrap_err();
    assert!(matches!(full, InvokeError::Overloaded { .. }), "{full}");
    assert_eq!(rig.metric("kittiwake_calls_failed_total"), 1);
    rig.runtime.unload_idle(Duration::ZERO);
    assert_eq!(rig.metric("kittiwake_programs_kept"), 0);
    // Once there is room both are served, the other one from the disk.
    drop(holding);
    while rig.metric("kittiwake_instances_live") > 0 {
        tokio::task::yield_now().await;
    }
    assert!(rig.call(&greedy, body::empty()).await.is_ok());
    let found = rig.metric("kittiwake_programs_found_total");
    assert_eq!(rig.get(&other).await.unwrap(), "Hello from WebAssembly!\n");
    assert_eq!(rig.metric("kittiwake_programs_found_total"), found);
}

#[tokio::test]
async fn no_program_of_an_engine_that_was_replaced_stays() {
    let rig = Rig::new();
    let revision = rig.deploy(&guest::hello(), Limits::default()).await;
    assert!(rig.get(&revision).await.is_ok());
    rig.runtime.unload_idle(Duration::ZERO);
    assert_eq!(rig.metric("kittiwake_programs_kept"), 1);
    rig.runtime.reset_all_pages();
    rig.runtime.unload_idle(Duration::ZERO);
    assert_eq!(rig.metric("kittiwake_programs_kept"), 0);
    assert_eq!(rig.get(&revision).await.unwrap(), "Hello from WebAssembly!\n");
    assert_eq!(rig.metric("kittiwake_programs_found_total"), 1);
}

#[tokio::test]
async fn a_function_that_is_lost_and_cannot_be_fetched_says_so() {
    let rig = Rig::new();
    let image = format!("file:///nowhere/x.wasm@sha256:{}", "0".repeat(64));
    let error = rig
        .get(&Arc::new(spec(&image, Limits::default())))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/nowhere/x.wasm"), "{error}");
}
