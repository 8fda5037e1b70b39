//! kube-rs in process: typed objects, reflectors, finalizers and a Controller.

use crate::harness::Api as Server;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("a".into(), "1".into())])),
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn typed_objects_come_back_as_they_went() {
    let server = Server::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    let mut created = maps.create(&PostParams::default(), &map("cm")).await.unwrap();
    created.data.as_mut().unwrap().insert("b".into(), "2".into());
    let replaced = maps
        .replace("cm", &PostParams::default(), &created)
        .await
        .unwrap();
    assert_eq!(replaced.data.as_ref().unwrap().len(), 2);
    let stale = maps
        .replace("cm", &PostParams::default(), &created)
        .await
        .unwrap_err();
    assert!(matches!(stale, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict"));
    let applied = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"c": "3"}});
    let applied = maps
        .patch("cm", &PatchParams::apply("test").force(), &Patch::Apply(&applied))
        .await
        .unwrap();
    assert_eq!(applied.data.unwrap().len(), 3);
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 1);
    maps.delete("cm", &DeleteParams::default()).await.unwrap();
    assert!(maps.get_opt("cm").await.unwrap().is_none());
}

#[tokio::test]
async fn watchers_list_and_stream() {
    let server = Server::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client());
    maps.create(&PostParams::default(), &map("first")).await.unwrap();
    for config in [
        watcher::Config::default(),
        watcher::Config::default().streaming_lists(),
    ] {
        let mut events = watcher(maps.clone(), config).applied_objects().boxed();
        assert_eq!(events.next().await.unwrap().unwrap().name_any(), "first");
    }
}

#[tokio::test]
async fn a_controller_finalizes_and_reports() {
    let server = Server::start().await;
    let client = server.client();
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    maps.create(&PostParams::default(), &map("cm")).await.unwrap();
    let (sender, mut seen) = tokio::sync::mpsc::channel(16);
    let context = Arc::new((maps.clone(), sender));
    let reconcile =
        |object: Arc<ConfigMap>, context: Arc<(Api<ConfigMap>, tokio::sync::mpsc::Sender<&'static str>)>| async move {
            let sender = context.1.clone();
            finalizer(&context.0, "example.com/test", object, |event| async move {
                let word = match event {
                    Event::Apply(_) => "apply",
                    Event::Cleanup(_) => "cleanup",
                };
                let _ = sender.send(word).await;
                Ok::<_, std::convert::Infallible>(Action::await_change())
            })
            .await
        };
    let controller = Controller::new(maps.clone(), watcher::Config::default());
    let running = controller.run(
        reconcile,
        |_, _, _| Action::requeue(Duration::from_secs(1)),
        context,
    );
    let running = tokio::spawn(running.for_each(|_| async {}));
    assert_eq!(seen.recv().await, Some("apply"));
    let object = maps.get("cm").await.unwrap();
    assert_eq!(object.finalizers(), ["example.com/test"]);
    assert!(object.meta().deletion_timestamp.is_none());
    maps.delete("cm", &DeleteParams::default()).await.unwrap();
    while seen.recv().await != Some("cleanup") {}
    server
        .until("/api/v1/namespaces/default/configmaps/cm", |answer| {
            answer.code == 404
        })
        .await;
    running.abort();
}
