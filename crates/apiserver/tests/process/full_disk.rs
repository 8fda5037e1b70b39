//! A file that may not grow any more, as on a full disk: writes are refused with what to do, all else goes on.

use crate::child::Server;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{PostParams, WatchEvent, WatchParams};
use serde_json::json;
use std::pin::pin;
use std::process::Command;

/// What the server's files may grow to at first, in blocks of 1024 bytes.
const BLOCKS: u32 = 2048;

fn config_map(name: &str, bytes: usize) -> ConfigMap {
    let data = json!({"metadata": {"name": name}, "data": {"a": "x".repeat(bytes)}});
    serde_json::from_value(data).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_while_there_is_no_space_and_recover_by_themselves() {
    let directory = tempfile::tempdir().unwrap();
    // Without the signal ignored, going over the limit would end the process.
    let script = format!("trap '' XFSZ; ulimit -S -f {BLOCKS}; exec \"$@\"");
    let mut command = Command::new("bash");
    command
        .args(["-c", &script, "limited"])
        .arg(std::env::current_exe().unwrap());
    let server = Server::start_by(command, &directory.path().join("objects.redb"));
    let api: Api<ConfigMap> = Api::namespaced(server.client.clone(), "default");
    let params = PostParams::default();
    api.create(&params, &config_map("small", 10)).await.unwrap();
    let list = api.list(&Default::default()).await.unwrap();
    let events = api
        .watch(&WatchParams::default(), &list.metadata.resource_version.unwrap())
        .await
        .unwrap();
    let mut events = pin!(events);

    let mut written = 0;
    let refused = loop {
        assert!(written < 100, "the limit has no effect");
        match api
            .create(&params, &config_map(&format!("large-{written}"), 500_000))
            .await
        {
            Ok(_) => written += 1,
            Err(kube::Error::Api(status)) => break status,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((refused.code, &*refused.reason), (507, "InsufficientStorage"));
    assert!(
        refused.message.contains("objects.redb is full") && refused.message.contains("Free some space"),
        "{}",
        refused.message
    );
    assert_eq!(refused.details.unwrap().retry_after_seconds, 1);
    assert_eq!(
        api.list(&Default::default()).await.unwrap().items.len(),
        written + 1
    );

    let id = server.id().to_string();
    let lifted = Command::new("prlimit")
        .args(["--pid", &id, "--fsize=unlimited"])
        .status();
    assert!(lifted.unwrap().success());
    api.create(&params, &config_map("last", 500_000)).await.unwrap();
    loop {
        let event = events.try_next().await.unwrap().expect("the watch goes on");
        let WatchEvent::Added(object) = event else {
            panic!("{event:?}")
        };
        let name = object.metadata.name.unwrap();
        if name == "last" {
            break;
        }
        assert!(name.starts_with("large-"), "{name}");
    }
}
