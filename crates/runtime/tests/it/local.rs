//! Images from this machine's disk, and artifacts that cannot run.

use crate::support::{Rig, spec};
use kittiwake_core::artifact::{Prepare, PreparePhase, PrepareRequest};
use kittiwake_core::code::ErrorCode;
use kittiwake_core::log::LogStream;
use kittiwake_core::revision::{Limits, RevisionKey, RevisionSpec};
use kittiwake_testkit::guest;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[tokio::test]
async fn what_cannot_run_says_why() {
    let rig = Rig::new();
    let hello = guest::hello();
    let cases: Vec<(&str, Vec<u8>, ErrorCode, &str)> = vec![
        ("empty", vec![], ErrorCode::NotWasm, "empty"),
        ("elf", b"\x7fELF\x02\x01".to_vec(), ErrorCode::NotWasm, "ELF"),
        ("html", b"<!doctype html>".to_vec(), ErrorCode::NotWasm, "HTML"),
        (
            "truncated",
            hello[..hello.len() / 2].to_vec(),
            ErrorCode::CompileFailed,
            "truncated",
        ),
        (
            "cut short",
            hello[..6].to_vec(),
            ErrorCode::CompileFailed,
            "truncated",
        ),
        (
            "module",
            b"\0asm\x01\0\0\0".to_vec(),
            ErrorCode::UnsupportedKind,
            "a core module without WASI",
        ),
        (
            "oracle",
            guest::not_http(),
            ErrorCode::NotHttpHandler,
            "exports answer but none of",
        ),
        (
            "import",
            guest::missing_import(),
            ErrorCode::MissingImport,
            "acme:store/shelf@1.2.0",
        ),
        (
            "start",
            guest::start_trap(),
            ErrorCode::StartFailed,
            "unreachable",
        ),
    ];
    for (name, content, code, word) in cases {
        rig.write("x.wasm", &content);
        let error = rig.prepare("file://x.wasm").await.unwrap_err();
        assert_eq!(error.code, code, "{name}: {error}");
        assert!(error.message.contains(word), "{name}: {error}");
        assert!(!error.is_transient(), "{name}");
        assert_eq!(
            error.exit_code,
            (code == ErrorCode::StartFailed).then_some(134),
            "{name}"
        );
    }
    assert!(
        rig.log(LogStream::Platform).contains("wasm backtrace"),
        "{}",
        rig.log(LogStream::Platform)
    );
    rig.write("x.wat", b"(component (oops))");
    let error = rig.prepare("file://x.wat").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::CompileFailed);
    assert!(error.message.contains("line 1"), "{error}");
    assert!(
        !error.message.contains("oops"),
        "the file's text is its owner's: {error}"
    );
}

#[tokio::test]
async fn files_that_are_missing_too_large_or_not_allowed() {
    let rig = Rig::with(|config| config.artifact_bytes_max = kittiwake_core::unit::ByteCount::kib(1));
    let error = rig.prepare("file://nowhere.wasm").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ArtifactNotFound);
    assert!(
        error.message.contains("nowhere.wasm") && error.message.contains("build it first"),
        "{error}"
    );
    rig.write("big.wasm", &guest::hello());
    assert_eq!(
        rig.prepare("file://big.wasm").await.unwrap_err().code,
        ErrorCode::ArtifactTooLarge
    );
    let directory = format!("file://{}", rig.dir.path().display());
    assert!(
        rig.prepare(&directory)
            .await
            .unwrap_err()
            .message
            .contains("directory")
    );

    let rig = Rig::with(|config| config.allow_file_images = false);
    rig.write("x.wasm", &guest::hello());
    for image in ["file://x.wasm", "oci-layout://x"] {
        assert_eq!(
            rig.prepare(image).await.unwrap_err().code,
            ErrorCode::FileNotAllowed
        );
    }
}

#[tokio::test]
async fn a_file_is_pinned_and_later_edits_do_not_change_the_revision() {
    let rig = Rig::new();
    rig.write("x.wasm", &guest::hello());
    let first = rig.prepare("file://x.wasm").await.unwrap();
    let path = rig.dir.path().join("x.wasm");
    assert!(
        first
            .image
            .starts_with(&format!("file://{}@sha256:", path.display())),
        "{}",
        first.image
    );
    rig.write("x.wasm", &guest::counter());
    assert_eq!(
        rig.get(&Arc::new(spec(&first.image, Limits::default())))
            .await
            .unwrap(),
        "Hello from WebAssembly!\n"
    );
    let second = rig.prepare("file://x.wasm").await.unwrap();
    assert_ne!(first.image, second.image);
}

#[tokio::test]
async fn text_files_are_accepted() {
    let rig = Rig::new();
    rig.write("x.wat", b"(component)");
    let error = rig.prepare("file://x.wat").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NotHttpHandler, "it was read: {error}");
    assert!(error.message.contains("exports nothing"), "{error}");
}

#[tokio::test]
async fn phases_are_told_in_order() {
    let rig = Rig::new();
    rig.write("x.wasm", &guest::hello());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let request = PrepareRequest {
        revision: RevisionSpec::new(RevisionKey::new("default", "fn-00001"), "u", "file://x.wasm"),
        credentials: vec![],
        progress_deadline: Duration::from_secs(30),
    };
    let sink = Arc::clone(&seen);
    rig.runtime
        .prepare(request, Arc::new(move |phase| sink.lock().unwrap().push(phase)))
        .await
        .unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.first(), Some(&PreparePhase::Pulling));
    assert_eq!(seen.last(), Some(&PreparePhase::Starting));
    assert!(seen.contains(&PreparePhase::Compiling), "{seen:?}");
}

#[tokio::test]
async fn oci_layouts_are_read_by_tag_and_checked() {
    let rig = Rig::new();
    let layout = rig.dir.path().join("layout");
    let image = crate::registry::Image::artifact(&guest::hello());
    image.write_layout(&layout, "v1");
    for name in ["oci-layout://layout", "oci-layout://layout:v1"] {
        let prepared = rig.prepare(name).await.unwrap();
        assert_eq!(
            prepared.image,
            format!("oci-layout://{}@{}", layout.display(), image.digest())
        );
        assert_eq!(rig.prepare(&prepared.image).await.unwrap(), prepared);
    }
    let error = rig.prepare("oci-layout://layout:v2").await.unwrap_err();
    assert!(
        error.code == ErrorCode::ArtifactNotFound && error.message.contains("[v1]"),
        "{error}"
    );
    let error = rig.prepare("oci-layout://.").await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ArtifactNotFound);

    let fresh = Rig::in_dir(Arc::clone(&rig.dir), |config| {
        config.data_dir = rig.dir.path().join("other")
    });
    let wasm = layout.join("blobs/sha256").join(image.wasm_hex());
    let mut changed = guest::hello();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(wasm, changed).unwrap();
    assert_eq!(
        fresh.prepare("oci-layout://layout").await.unwrap_err().code,
        ErrorCode::DigestMismatch
    );
}
