//! What components find in their file system, and what they are told of it: mounts, `/tmp`, arguments, the folder that
//! they begin in. The guests are those of `guests/knative`; their sources tell what each does.

use crate::support::{Rig, report_of, text};
use bytes::Bytes;
use kittiwake_core::body;
use kittiwake_core::invoke::{Invoke, InvokeError};
use kittiwake_core::revision::{Isolation, Limits, RevisionSpec};
use kittiwake_core::unit::ByteCount;
use kittiwake_core::volume::{Content, Mount};
use std::sync::Arc;
use std::time::Duration;

/// Answers with the file at `/hello` that the path names.
const READER: &[u8] = include_bytes!("../../../../guests/knative/hellovolume.wasm");
/// Writes a file into the folder `DATA_PATH`, unless `SKIP_DATA_WRITE` is set, and answers with what is in it.
const WRITER: &[u8] = include_bytes!("../../../../guests/knative/volumes.wasm");
/// What it writes.
const WRITTEN: &str = "From file in empty dir!";
/// Tells its arguments and the folder that it begins in.
const TELLER: &[u8] = include_bytes!("../../../../guests/knative/runtime.wasm");

async fn deploy(rig: &Rig, guest: &[u8], change: impl FnOnce(&mut RevisionSpec)) -> Arc<RevisionSpec> {
    let mut revision = RevisionSpec::clone(&*rig.deploy(guest, Limits::default()).await);
    change(&mut revision);
    Arc::new(revision)
}

/// The status and the text of an answer, and whether the instance had served before.
async fn get(rig: &Rig, revision: &Arc<RevisionSpec>, path: &str) -> (u16, String, bool) {
    try_get(rig, revision, path).await.unwrap()
}

async fn try_get(
    rig: &Rig,
    revision: &Arc<RevisionSpec>,
    path: &str,
) -> Result<(u16, String, bool), InvokeError> {
    let request = http::Request::get(path)
        .header("host", "fn.localhost")
        .body(body::empty())
        .unwrap();
    let answer = rig.runtime.invoke(Arc::clone(revision), request).await?;
    let (status, reused) = (answer.status().as_u16(), report_of(&answer).reused);
    Ok((status, text(answer).await, reused))
}

fn files(path: &str, files: &[(&str, &str)]) -> Mount {
    let files = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), Bytes::from((*text).to_owned())));
    Mount {
        path: path.into(),
        content: Content::Files(Arc::new(files.collect())),
        fixed: false,
    }
}

fn scratch(path: &str, limit: Option<ByteCount>) -> Mount {
    Mount {
        path: path.into(),
        content: Content::Scratch {
            volume: "v".into(),
            limit,
        },
        fixed: false,
    }
}

fn env(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn mounted_files_are_read_and_written_by_nobody() {
    let rig = Rig::new();
    for isolation in [Isolation::Request, Isolation::Serial] {
        let revision = deploy(&rig, READER, |revision| {
            revision.isolation = isolation;
            revision.mounts = vec![files("/hello", &[("world", "a map"), ("deep/er", "below")])];
        })
        .await;
        for _ in 0..2 {
            assert_eq!(get(&rig, &revision, "/").await.1, "a map\n");
            assert_eq!(get(&rig, &revision, "/deep/er").await.1, "below\n");
            let (status, missing, _) = get(&rig, &revision, "/nothing").await;
            assert_eq!(status, 500);
            assert!(missing.contains("No such file"), "{missing}");
        }
    }
    let refused = deploy(&rig, WRITER, |revision| {
        revision.uid = "a writer".into();
        revision.mounts = vec![files("/hello", &[("testfile", "as it was")])];
        revision.env.push(env("DATA_PATH", "/hello"));
    })
    .await;
    let (status, why, _) = get(&rig, &refused, "/").await;
    assert_eq!(status, 500, "{why}");
    let reads = Arc::new(RevisionSpec {
        env: vec![env("DATA_PATH", "/hello"), env("SKIP_DATA_WRITE", "true")],
        ..RevisionSpec::clone(&refused)
    });
    assert_eq!(get(&rig, &reads, "/").await.1, "as it was");
    // Those of two Services: each finds its own, and nothing of the other.
    let other = deploy(&rig, READER, |revision| {
        revision.uid = "another".into();
        revision.mounts = vec![files("/hello", &[("world", "another map")])];
    })
    .await;
    assert_eq!(get(&rig, &other, "/").await.1, "another map\n");
}

#[tokio::test]
async fn each_instance_has_its_own_place_to_write() {
    let rig = Rig::new();
    for folder in ["/data", "/tmp"] {
        let writes = deploy(&rig, WRITER, |revision| {
            revision.uid = folder.into();
            revision.mounts = vec![scratch("/data", None)];
            revision.env.push(env("DATA_PATH", folder));
        })
        .await;
        let mut looks = RevisionSpec::clone(&writes);
        looks.env.push(env("SKIP_DATA_WRITE", "true"));
        let looks = Arc::new(looks);
        for _ in 0..2 {
            assert_eq!(get(&rig, &writes, "/").await.1, WRITTEN);
            let (status, missing, _) = get(&rig, &looks, "/").await;
            assert!(status == 500 && missing.contains("No such file"), "{missing}");
        }
    }
    rig.until_no_own_folders().await;
}

#[tokio::test]
async fn who_asks_for_no_folder_has_none() {
    let rig = Rig::new();
    let revision = deploy(
        &rig,
        include_bytes!("../../../../examples/hello/hello.wasm"),
        |revision| {
            revision.isolation = Isolation::Serial;
            revision.mounts = vec![files("/hello", &[("world", "a map")])];
        },
    )
    .await;
    assert_eq!(get(&rig, &revision, "/").await.0, 200);
    assert!(rig.folders().is_empty(), "{:?}", rig.folders());
}

#[tokio::test]
async fn an_instance_that_is_kept_keeps_its_folder_until_it_holds_too_much() {
    let rig = Rig::new();
    let small = ByteCount(WRITTEN.len() as u64 - 1);
    for (limit, is_kept) in [(None, true), (Some(small), false)] {
        let revision = deploy(&rig, WRITER, |revision| {
            revision.uid = format!("{limit:?}").into();
            revision.isolation = Isolation::Serial;
            revision.mounts = vec![scratch("/data", limit)];
        })
        .await;
        assert!(!get(&rig, &revision, "/").await.2);
        if is_kept {
            assert!(get(&rig, &revision, "/").await.2);
            continue;
        }
        // Far fewer calls than an instance serves, and far more time than its folders are looked at again. It ends
        // between two calls, or in one.
        let mut calls = 1;
        loop {
            match try_get(&rig, &revision, "/").await {
                Ok((_, _, true)) => {}
                Ok((_, _, false)) => break,
                Err(InvokeError::Trapped(why)) if why.contains("holds more than its limit") => break,
                Err(error) => panic!("{error}"),
            }
            calls += 1;
            assert!(calls < 900, "it is never given up");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_guest_is_told_its_command_its_arguments_and_where_it_begins() {
    let rig = Rig::new();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let told = |revision: Arc<RevisionSpec>| {
        let rig = &rig;
        async move {
            let (status, told, _) = get(rig, &revision, "/").await;
            assert_eq!(status, 200, "{told}");
            serde_json::from_str::<serde_json::Value>(&told).unwrap()
        }
    };
    let plain = deploy(&rig, TELLER, |_| {}).await;
    let info = told(Arc::clone(&plain)).await;
    assert_eq!(info["host"]["args"], serde_json::json!(["one", "two"]));
    assert_eq!(info["host"]["user"]["cwd"]["directory"], "/");
    let tmp = &info["host"]["files"]["/tmp"];
    assert_eq!(
        (&tmp["isDir"], &tmp["mode"]),
        (&true.into(), &"rwxrwxrwx".into()),
        "{tmp}"
    );
    let changed = Arc::new(RevisionSpec {
        command: words(&["/ko-app/runtime", "abra"]),
        args: words(&["cadabra", "do"]),
        working_dir: Some("/tmp".into()),
        ..RevisionSpec::clone(&plain)
    });
    let info = told(changed).await;
    assert_eq!(
        info["host"]["args"],
        serde_json::json!(["/ko-app/runtime", "abra", "cadabra", "do"])
    );
    assert_eq!(info["host"]["user"]["cwd"]["directory"], "/tmp");
}
