//! kube-rs over the socket, with the kubeconfig that users get: reflector, finalizer and Controller.

use futures::StreamExt;
use kittiwake_testkit::platform::{PATIENCE, TestPlatform};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::reflector::store::Writer;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

async fn client(platform: &TestPlatform) -> Client {
    let kubeconfig = Kubeconfig::read_from(platform.kubeconfig().unwrap()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

fn maps() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "ConfigMap"))
}

async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what} never happened"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reflector_has_what_the_server_has() {
    let platform = TestPlatform::start().await.unwrap();
    let api: Api<DynamicObject> = Api::default_namespaced_with(client(&platform).await, &maps());
    for streaming in [false, true] {
        let config = if streaming {
            watcher::Config::default().streaming_lists()
        } else {
            watcher::Config::default().page_size(2)
        };
        let writer = Writer::new(maps());
        let store = writer.as_reader();
        let following = watcher(api.clone(), config).default_backoff().reflect(writer);
        let following = tokio::spawn(following.for_each(|_| async {}));
        patiently("the first state", store.wait_until_ready())
            .await
            .unwrap();
        let names: Vec<String> = (0..5).map(|n| format!("m{n}")).collect();
        for name in &names {
            let object = DynamicObject::new(name, &maps());
            api.create(&PostParams::default(), &object).await.unwrap();
        }
        api.delete("m0", &DeleteParams::default()).await.unwrap();
        let same = async {
            loop {
                let mut known: Vec<String> = store.state().iter().map(|object| object.name_any()).collect();
                known.sort();
                if known == names[1..] {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        patiently("the same state", same).await;
        for name in &names[1..] {
            api.delete(name, &DeleteParams::default()).await.unwrap();
        }
        following.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_finalizes() {
    type Context = (Api<DynamicObject>, mpsc::Sender<&'static str>);
    let platform = TestPlatform::start().await.unwrap();
    let api: Api<DynamicObject> = Api::default_namespaced_with(client(&platform).await, &maps());
    let (sender, mut seen) = mpsc::channel(16);
    let reconcile = |object: Arc<DynamicObject>, context: Arc<Context>| async move {
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
    let controller = Controller::new_with(api.clone(), watcher::Config::default(), maps());
    let retry = |_: Arc<DynamicObject>, _: &_, _: Arc<Context>| Action::requeue(Duration::from_millis(100));
    let running = controller.run(reconcile, retry, Arc::new((api.clone(), sender)));
    let running = tokio::spawn(running.for_each(|_| async {}));
    let object = DynamicObject::new("held", &maps());
    api.create(&PostParams::default(), &object).await.unwrap();
    assert_eq!(patiently("apply", seen.recv()).await, Some("apply"));
    api.delete("held", &DeleteParams::default()).await.unwrap();
    let cleanup = async { while seen.recv().await != Some("cleanup") {} };
    patiently("cleanup", cleanup).await;
    let gone = async {
        while api.get_opt("held").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently("the end", gone).await;
    running.abort();
}
