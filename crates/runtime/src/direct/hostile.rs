//! What a hostile guest can hand to the functions here: any address, length, handle and case, in any order, over any
//! memory. It gets a result or is ended; nothing panics, and nothing outside of its memory is touched (indices are
//! checked, since `unsafe` is denied).

use super::*;
use crate::config::Config;
use crate::engine::{Resets, WasmEngine};
use crate::files::FileRoot;
use crate::outside::Outside;
use bytes::Bytes;
use futures::FutureExt;
use http_body_util::{BodyExt, Full};
use kittiwake_core::clock::SystemClock;
use kittiwake_core::log::LogHub;
use kittiwake_core::outbound::Outbound;
use kittiwake_core::revision::{RevisionKey, RevisionSpec};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;
use tokio::runtime::Runtime;
use wasmtime::{Func, Val, ValType};
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::{Error as HttpError, WasiHttpView as _};

/// The guest's memory, in bytes.
const MEMORY: u32 = 64 * 1024;
/// The guest: a memory.
const GUEST: &str = r#"(module (memory (export "memory") 1))"#;
/// Calls of one guest.
const CALLS: usize = 40;

/// A number of those that matter: a handle or a case, an address within the memory or at its end, a length, or anything.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0..24_u32,
        4 => (0..MEMORY / 8).prop_map(|word| word * 8),
        2 => 0..MEMORY,
        1 => MEMORY - 24..=MEMORY + 8,
        1 => u32::MAX - 24..=u32::MAX,
        1 => any::<u32>(),
    ]
}

/// What stands for one parameter: as 32 bits, and as 64, which is `room` or a count of bytes or of nanoseconds.
fn parameter() -> impl Strategy<Value = (u32, i64)> {
    let long = prop_oneof![
        5 => Just(-1),
        2 => (0..i64::from(MEMORY) / 8).prop_map(|word| word * 8),
        1 => 0..5000_i64,
        1 => any::<i64>(),
    ];
    (word(), long)
}

/// The functions, what they are called, and what they are called with.
struct Rig {
    runtime: Runtime,
    engine: WasmEngine,
    functions: Functions,
    names: Vec<(String, String)>,
    guest: Module,
    revision: Arc<RevisionSpec>,
    logs: LogHub,
    files: Arc<FileRoot>,
    _data: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let config = Config {
            instances_max: 4,
            ..Config::default()
        };
        let engine = WasmEngine::new(&config, Resets::AllPages).unwrap();
        let functions = Functions::new(engine.engine()).unwrap();
        // In the same order each time, so that a failure can be played again.
        let mut names: Vec<_> = functions.0.offered.iter().cloned().collect();
        names.sort();
        let data = tempfile::tempdir().unwrap();
        let revision = RevisionSpec {
            env: vec![("A".to_owned(), "b".to_owned())],
            args: vec!["one".to_owned()],
            outbound: "127.0.0.1:1".parse::<Outbound>().unwrap(),
            ..RevisionSpec::new(RevisionKey::new("default", "a"), "uid", "image")
        };
        Self {
            guest: Module::new(engine.engine(), GUEST).unwrap(),
            runtime,
            engine,
            functions,
            names,
            revision: Arc::new(revision),
            logs: LogHub::new(Arc::new(SystemClock::new())),
            files: Arc::new(FileRoot::new(data.path())),
            _data: data,
        }
    }

    /// A guest that has such a memory, and a request to answer.
    async fn store(&self, memory: &[u32]) -> Store<Host> {
        let log = self.logs.revision(&self.revision.key);
        let outside = Arc::new(Outside::new(&Arc::default()));
        let host = Host::new(&self.revision, &self.files, &log, &outside);
        let mut wasm_store = host.into_store(self.engine.engine());
        let linker = Linker::<Host>::new(self.engine.engine());
        let instance = linker.instantiate_async(&mut wasm_store, &self.guest).await;
        let exported = instance.unwrap().get_memory(&mut wasm_store, "memory").unwrap();
        let pattern = memory.iter().flat_map(|word| word.to_le_bytes());
        let filled: Vec<u8> = pattern.cycle().take(MEMORY as usize).collect();
        exported.write(&mut wasm_store, 0, &filled).unwrap();
        wasm_store.data_mut().direct_mut().set_memory(exported);
        let body = Full::new(Bytes::from_static(b"a body")).map_err(|never| -> HttpError { match never {} });
        let request = ::http::Request::post("http://a.b/c?d")
            .header("x", "y")
            .body(body)
            .unwrap();
        let mut http = wasm_store.data_mut().http();
        http.new_incoming_request(Scheme::Http, request).unwrap();
        let (sender, _) = tokio::sync::oneshot::channel();
        http.new_response_outparam(sender).unwrap();
        wasm_store
    }

    /// Calls one of the functions; `false` once the guest has ended, or waits.
    async fn call(&self, wasm_store: &mut Store<Host>, which: usize, parameters: &[(u32, i64)]) -> bool {
        let (interface, name) = &self.names[which % self.names.len()];
        let found = self.functions.0.linker.get(&mut *wasm_store, interface, name);
        let func: Func = found.unwrap().into_func().unwrap();
        let ty = func.ty(&*wasm_store);
        let values: Vec<Val> = ty
            .params()
            .zip(parameters)
            .map(|(ty, (short, long))| match ty {
                ValType::I32 => Val::I32(short.cast_signed()),
                ValType::I64 => Val::I64(*long),
                other => panic!("{interface} {name} wants a {other}"),
            })
            .collect();
        assert_eq!(
            values.len(),
            ty.params().len(),
            "{interface} {name} has more parameters"
        );
        let mut results = vec![Val::I32(0); ty.results().len()];
        let called = func.call_async(wasm_store, &values, &mut results).now_or_never();
        matches!(called, Some(Ok(())))
    }
}

thread_local! {
    // One for all cases of a test: making an engine takes longer than all calls of a case.
    static RIG: Rig = Rig::new();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_a_guest_hands_over_it_gets_a_result_or_ends(
        memory in vec(word(), 1..64),
        calls in vec((any::<usize>(), vec(parameter(), 16)), 1..CALLS),
    ) {
        RIG.with(|rig| rig.runtime.block_on(async {
            let mut wasm_store = rig.store(&memory).await;
            for (which, parameters) in &calls {
                if !rig.call(&mut wasm_store, *which, parameters).await {
                    // The next one is called by another guest.
                    wasm_store = rig.store(&memory).await;
                }
            }
        }));
    }

    /// What looks right in all but one place gets further than noise does.
    #[test]
    fn lists_of_header_fields_may_point_anywhere(
        memory in vec(word(), 64),
        list in word(),
        entries in 0..8_u32,
        last in word(),
    ) {
        RIG.with(|rig| rig.runtime.block_on(async {
            let mut wasm_store = rig.store(&memory).await;
            let from_list = rig.names.iter().position(|(_, name)| name == "[static]fields.from-list");
            let parameters = [(list & !3, 0), (entries, 0), (last, 0)];
            rig.call(&mut wasm_store, from_list.unwrap(), &parameters).await;
        }));
    }
}

/// The rig calls what a real guest calls: without a hostile argument these are no errors.
#[test]
fn a_friendly_guest_is_served() {
    RIG.with(|rig| {
        rig.runtime.block_on(async {
            let mut wasm_store = rig.store(&[0]).await;
            let place = |wanted: &str| rig.names.iter().position(|(_, name)| name == wanted).unwrap();
            let calls: [(&str, &[(u32, i64)]); 4] = [
                ("[method]incoming-request.headers", &[(1, 0)]),
                ("[method]incoming-request.consume", &[(1, 0), (128, 0)]),
                ("[constructor]fields", &[]),
                (
                    "[method]incoming-request.path-with-query",
                    &[(1, 0), (64, 0), (0, -1)],
                ),
            ];
            for (name, parameters) in calls {
                assert!(rig.call(&mut wasm_store, place(name), parameters).await, "{name}");
            }
        });
    });
}
