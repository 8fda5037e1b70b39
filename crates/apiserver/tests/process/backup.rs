//! A backup taken from a running server while clients write, restored under another one.

use crate::child::{self, Server};
use futures::{AsyncReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use std::pin::pin;

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_is_backed_up_and_comes_back_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("objects.redb"));
    let config_maps: Api<ConfigMap> = Api::namespaced(server.client.clone(), "default");
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), "default");
    let params = PostParams::default();
    let object = |n: usize| {
        let data = json!({"metadata": {"name": format!("c{n}")}, "data": {"pad": "x".repeat(1000)}});
        serde_json::from_value(data).unwrap()
    };
    for n in 0..100 {
        config_maps.create(&params, &object(n)).await.unwrap();
    }
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "correct horse"}});
    secrets
        .create(&params, &serde_json::from_value(secret).unwrap())
        .await
        .unwrap();

    let request = http::Request::get("/backup").body(Vec::new()).unwrap();
    let mut stream = pin!(server.client.request_stream(request).await.unwrap());
    let mut backup = vec![0; 10_000];
    stream.read_exact(&mut backup).await.unwrap();
    // What happens after the backup began is not in it.
    for n in 100..110 {
        config_maps.create(&params, &object(n)).await.unwrap();
    }
    stream.read_to_end(&mut backup).await.unwrap();
    let text = |text: &str| backup.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(text("xxxxxxxxxx") && !text("correct horse") && !text("Y29ycmVjdCBob3JzZQ"));
    let seen = config_maps.list(&ListParams::default()).await.unwrap();
    let seen = seen.metadata.resource_version.unwrap();
    drop(server);

    let file = directory.path().join("elsewhere.redb");
    let config = child::config();
    kittiwake_store::restore(&mut &*backup, &file, config.encryption.as_deref(), false).unwrap();
    let server = Server::start(&file);
    let config_maps: Api<ConfigMap> = Api::namespaced(server.client.clone(), "default");
    let secrets: Api<Secret> = Api::namespaced(server.client.clone(), "default");
    let list = config_maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(list.items.len(), 100);
    let version: u64 = list.metadata.resource_version.unwrap().parse().unwrap();
    assert!(version > seen.parse().unwrap());
    assert_eq!(
        secrets.get("s").await.unwrap().data.unwrap()["password"].0,
        b"correct horse"
    );
    let events = config_maps.watch(&WatchParams::default(), &seen).await.unwrap();
    let event = pin!(events).try_next().await.unwrap().unwrap();
    assert!(
        matches!(&event, WatchEvent::Error(status) if status.code == 410),
        "{event:?}"
    );
}
