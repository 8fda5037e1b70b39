//! Deployments and ServerlessServices: how far Revisions are scaled, as kubectl shows it.

use crate::harness::{Api, JSON, MERGE, TABLE, step};
use serde_json::{Value, json};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const SERVICES: &str = "/apis/networking.internal.knative.dev/v1alpha1/namespaces/default/serverlessservices";
const REVISIONS: &str = "/apis/serving.knative.dev/v1/namespaces/default/revisions";
const SCALERS: &str = "/apis/autoscaling.internal.knative.dev/v1alpha1/namespaces/default/podautoscalers";

/// A Revision and its PodAutoscaler.
async fn deploy(api: &Api, name: &str) {
    let revision = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
        "metadata": {"name": name, "labels": {"serving.knative.dev/service": "hello"}},
        "spec": {"containers": [{"image": "example.com/hello:v1"}]},
    });
    assert_eq!(api.post(REVISIONS, &revision).await.code, 201);
    let scaler = json!({
        "apiVersion": "autoscaling.internal.knative.dev/v1alpha1", "kind": "PodAutoscaler", "metadata": {"name": name},
        "spec": {"protocolType": "http1",
            "scaleTargetRef": {"apiVersion": "serving.knative.dev/v1", "kind": "Revision", "name": name}},
    });
    assert_eq!(api.post(SCALERS, &scaler).await.code, 201);
}

async fn scale(api: &Api, name: &str, replicas: &str, ready: u32, mode: &str) {
    let status = json!({"status": {"actualScale": ready, "annotations": {
        "kittiwake.dev/replicas": replicas, "kittiwake.dev/serving-mode": mode, "kittiwake.dev/activators": "3"}}});
    let answer = api
        .patch(&format!("{SCALERS}/{name}/status"), MERGE, &status)
        .await;
    assert_eq!(answer.code, 200, "{}", answer.text);
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn they_are_there_when_first_asked_for_and_follow() {
    let api = Api::start().await;
    deploy(&api, "hello-00001").await;
    deploy(&api, "other-00001").await;
    scale(&api, "hello-00001", "3", 2, "Proxy").await;
    // The first answer has all.
    let list = api.get(DEPLOYMENTS).await;
    assert_eq!(
        names(&list.json),
        ["hello-00001-deployment", "other-00001-deployment"]
    );
    let selected = api
        .get(&format!(
            "{DEPLOYMENTS}?labelSelector=serving.knative.dev/revision%3Dother-00001"
        ))
        .await;
    assert_eq!(names(&selected.json), ["other-00001-deployment"]);
    let path = format!("{DEPLOYMENTS}/hello-00001-deployment");
    let table = api.accept(&path, TABLE).await.json;
    assert_eq!(
        table["rows"][0]["cells"].as_array().unwrap()[..4],
        [json!("hello-00001-deployment"), json!("2/3"), json!(3), json!(2)]
    );
    let service = format!("{SERVICES}/hello-00001");
    let table = api.accept(&service, TABLE).await.json;
    assert_eq!(
        table["rows"][0]["cells"].as_array().unwrap()[..6],
        [
            json!("hello-00001"),
            json!("Proxy"),
            json!(3),
            json!("hello-00001"),
            json!("hello-00001-private"),
            json!("True")
        ]
    );
    let version = list.version();
    let mut watch = api
        .watch(&format!("{DEPLOYMENTS}?watch=true&resourceVersion={version}"))
        .await;
    scale(&api, "hello-00001", "3", 3, "Serve").await;
    assert_eq!(watch.step().await, step("MODIFIED", "hello-00001-deployment"));
    assert_eq!(api.get(&path).await.json["status"]["readyReplicas"], 3);
    api.until(&service, |answer| answer.json["spec"]["mode"] == "Serve")
        .await;

    let refused = api.send("DELETE", &path, JSON, "{}".to_owned()).await;
    assert_eq!(refused.code, 405, "{}", refused.text);
    assert!(
        refused.message().contains("deploy a Service"),
        "{}",
        refused.message()
    );
    assert_eq!(api.delete(&format!("{SCALERS}/hello-00001")).await.code, 200);
    assert_eq!(watch.step().await, step("DELETED", "hello-00001-deployment"));
    api.until(&service, |answer| answer.code == 404).await;
    assert_eq!(names(&api.get(SERVICES).await.json), ["other-00001"]);
}
