//! Endpoints and EndpointSlices: where calls of Revisions go, as kubectl shows it.

use crate::harness::{Api, JSON, MERGE, TABLE, step};
use kittiwake_core::instances::{Live, Usage};
use kittiwake_core::revision::RevisionKey;
use serde_json::{Value, json};

const ENDPOINTS: &str = "/api/v1/namespaces/default/endpoints";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const ACTIVATOR: &str = "/api/v1/namespaces/knative-serving/endpoints/activator-service";
const PODS: &str = "/api/v1/namespaces/default/pods";
const REVISIONS: &str = "/apis/serving.knative.dev/v1/namespaces/default/revisions";
const SCALERS: &str = "/apis/autoscaling.internal.knative.dev/v1alpha1/namespaces/default/podautoscalers";

/// A Revision and its PodAutoscaler; the Revision's uid.
async fn deploy(api: &Api, name: &str) -> String {
    let revision = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": {"name": name},
        "spec": {"containers": [{"image": "example.com/hello:v1"}]},
    });
    let made = api.post(REVISIONS, &revision).await;
    assert_eq!(made.code, 201);
    let scaler = json!({
        "apiVersion": "autoscaling.internal.knative.dev/v1alpha1", "kind": "PodAutoscaler",
        "metadata": {"name": name, "labels": {"serving.knative.dev/revision": name}},
        "spec": {"protocolType": "http1",
            "scaleTargetRef": {"apiVersion": "serving.knative.dev/v1", "kind": "Revision", "name": name}},
    });
    assert_eq!(api.post(SCALERS, &scaler).await.code, 201);
    made.json["metadata"]["uid"].as_str().unwrap().to_owned()
}

async fn scale(api: &Api, name: &str, ready: u32, mode: &str) {
    let status =
        json!({"status": {"actualScale": ready, "annotations": {"kittiwake.dev/serving-mode": mode}}});
    let path = format!("{SCALERS}/{name}/status");
    assert_eq!(api.patch(&path, MERGE, &status).await.code, 200);
}

fn addresses(endpoints: &Value) -> Vec<Value> {
    let addresses = endpoints.pointer("/subsets/0/addresses");
    addresses.and_then(Value::as_array).cloned().unwrap_or_default()
}

#[tokio::test]
async fn they_are_there_when_first_asked_for_and_follow_scale_and_pods() {
    let api = Api::start().await;
    let uid = deploy(&api, "hello-00001").await;
    deploy(&api, "other-00001").await;
    // The first answer has all.
    let list = api.accept(ENDPOINTS, TABLE).await.json;
    let rows: Vec<&[Value]> = list["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["cells"].as_array().unwrap()[..2])
        .collect();
    assert_eq!(
        rows,
        [
            [json!("hello-00001"), json!("127.0.0.1:8012")],
            [json!("hello-00001-private"), json!("<none>")],
            [json!("other-00001"), json!("127.0.0.1:8012")],
            [json!("other-00001-private"), json!("<none>")],
        ]
    );
    let activator = api.get(ACTIVATOR).await.json;
    assert_eq!(
        addresses(&activator),
        addresses(&api.get(&format!("{ENDPOINTS}/hello-00001")).await.json)
    );

    let private = format!("{ENDPOINTS}/hello-00001-private");
    let list = api.get(ENDPOINTS).await;
    let version = list.version();
    let mut watch = api
        .watch(&format!(
            "{ENDPOINTS}?watch=true&resourceVersion={version}&fieldSelector=metadata.name%3Dhello-00001-private"
        ))
        .await;
    api.instances.tell(
        0,
        vec![Live {
            revision: RevisionKey::new("default", "hello-00001"),
            uid: uid.as_str().into(),
            since: "2026-01-02T03:04:00Z".parse().unwrap(),
            usage: Usage::default(),
            instances: Vec::new(),
        }],
    );
    scale(&api, "hello-00001", 1, "Proxy").await;
    assert_eq!(watch.step().await, step("MODIFIED", "hello-00001-private"));
    let pods = api.get(PODS).await.json;
    let pod = &pods["items"][0]["metadata"];
    let one = api.get(&private).await.json;
    assert_eq!(
        addresses(&one),
        [
            json!({"ip": pods["items"][0]["status"]["podIP"], "nodeName": "kittiwake",
            "targetRef": {"kind": "Pod", "namespace": "default", "name": pod["name"], "uid": pod["uid"]}})
        ]
    );
    let public = format!("{ENDPOINTS}/hello-00001");
    assert!(
        addresses(&api.get(&public).await.json)[0]
            .get("targetRef")
            .is_none()
    );
    scale(&api, "hello-00001", 1, "Serve").await;
    api.until(&public, |answer| addresses(&answer.json) == addresses(&one))
        .await;

    let slices = format!("{SLICES}?labelSelector=kubernetes.io/service-name%3Dhello-00001-private");
    let slice = api.get(&slices).await.json;
    assert_eq!(slice["items"][0]["endpoints"][0]["targetRef"]["uid"], pod["uid"]);
    let table = api.accept(&slices, TABLE).await.json;
    assert_eq!(
        table["rows"][0]["cells"].as_array().unwrap()[1..4],
        [json!("IPv4"), json!("8012"), json!("127.0.0.1")]
    );

    // A pod that is deleted takes no calls any more.
    let path = format!("{PODS}/{}", pod["name"].as_str().unwrap());
    assert_eq!(api.send("DELETE", &path, JSON, "").await.code, 200);
    assert_eq!(watch.step().await, step("MODIFIED", "hello-00001-private"));
    let left = api.get(&private).await.json;
    assert!(addresses(&left).is_empty(), "{left}");
    let conditions = api.get(&slices).await.json["items"][0]["endpoints"][0]["conditions"].clone();
    assert_eq!(
        conditions,
        json!({"ready": false, "serving": true, "terminating": true})
    );

    assert_eq!(api.delete(&format!("{SCALERS}/hello-00001")).await.code, 200);
    assert_eq!(watch.step().await, step("DELETED", "hello-00001-private"));
    api.until(SLICES, |answer| {
        answer.json["items"].as_array().unwrap().len() == 2
    })
    .await;
    assert_eq!(api.get(&public).await.code, 404);
}

#[tokio::test]
async fn nobody_writes_them() {
    let api = Api::start().await;
    let object = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "a"}});
    for (method, path) in [
        ("POST", ENDPOINTS.to_owned()),
        ("PUT", format!("{ENDPOINTS}/a")),
        ("PATCH", format!("{ENDPOINTS}/a")),
        ("DELETE", format!("{ENDPOINTS}/a")),
        ("POST", SLICES.to_owned()),
        ("DELETE", SLICES.to_owned()),
    ] {
        let answer = api.send(method, &path, JSON, object.to_string()).await;
        assert_eq!(answer.code, 405, "{method} {path}");
        assert!(answer.message().contains("deploy a Service"), "{}", answer.text);
    }
}
