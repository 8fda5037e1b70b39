//! Discovery, OpenAPI, version and health.

use crate::harness::{Api, JSON};
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

#[tokio::test]
async fn kubectl_finds_every_kind_in_two_requests() {
    let api = Api::start().await;
    let core = api.accept("/api", AGGREGATED).await;
    assert_eq!(
        core.header("content-type"),
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    insta::assert_json_snapshot!("discovery_core", core.json);
    let groups = api.accept("/apis", AGGREGATED).await;
    insta::assert_json_snapshot!("discovery_groups", groups.json);
    assert_eq!(groups.header("vary"), "Accept");
    let again = Request::get("/apis")
        .header("accept", AGGREGATED)
        .header("if-none-match", groups.header("etag"));
    assert_eq!(api.request(again.body(Body::empty()).unwrap()).await.code, 304);
}

#[tokio::test]
async fn older_clients_find_the_same() {
    let api = Api::start().await;
    assert_eq!(api.get("/api").await.json["versions"], json!(["v1"]));
    let groups = api.get("/apis").await.json;
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|g| g["name"].as_str())
        .collect();
    assert!(names.contains(&"serving.knative.dev"), "{names:?}");
    let list = api.get("/apis/serving.knative.dev/v1").await.json;
    let services = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["name"] == "services")
        .unwrap();
    assert_eq!(services["shortNames"], json!(["kservice", "ksvc"]));
    assert_eq!(api.get("/apis/nothing.here/v1").await.code, 404);
}

#[tokio::test]
async fn open_api_documents_are_hashed_and_cacheable() {
    let api = Api::start().await;
    let root = api.get("/openapi/v3").await.json;
    let url = root["paths"]["apis/serving.knative.dev/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    let document = api.get(url).await;
    assert_eq!(document.header("cache-control"), "public, immutable");
    assert!(!document.header("expires").is_empty());
    let patch = &document.json["paths"]["/apis/serving.knative.dev/v1/namespaces/{namespace}/services/{name}"]
        ["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "serving.knative.dev", "version": "v1", "kind": "Service"})
    );
    let schema = &document.json["components"]["schemas"]["dev.knative.serving.v1.Service"];
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Service");
    let v2 = api.get("/openapi/v2").await;
    assert_eq!(
        v2.header("content-type"),
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    assert_eq!(v2.text.len(), 19);
}

#[tokio::test]
async fn version_and_health() {
    let api = Api::start().await;
    let version = api.get("/version").await.json["gitVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        version.starts_with("v1.31.") && version.contains("+kittiwake"),
        "{version}"
    );
    for path in ["/healthz", "/livez", "/readyz"] {
        assert_eq!(api.get(path).await.text, "ok");
    }
    api.handle
        .set_readiness(Box::new(|| Err("the gateway is not listening".into())));
    let answer = api.get("/readyz").await;
    assert_eq!(
        (answer.code, answer.text.as_str()),
        (503, "not ready: the gateway is not listening\n")
    );
}

#[tokio::test]
async fn crds_can_be_read_and_not_written() {
    let api = Api::start().await;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let list = api.get(path).await.json;
    assert_eq!(
        list["items"].as_array().unwrap().len(),
        kittiwake_api::crd::all().len()
    );
    assert_eq!(api.post(path, &json!({})).await.code, 405);
    assert_eq!(
        api.delete(&format!("{path}/services.serving.knative.dev"))
            .await
            .code,
        405
    );
}

#[tokio::test]
async fn who_holds_the_router_may_do_everything_and_learns_so() {
    let api = Api::start().await;
    let asked = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": {"verb": "get"}}});
    let answer = api
        .send(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            JSON,
            asked.to_string(),
        )
        .await;
    assert_eq!(
        (answer.code, &answer.json["status"]["allowed"]),
        (201, &Value::Bool(true))
    );
    let answer = api
        .post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({}))
        .await;
    assert_eq!(answer.json["status"]["userInfo"]["username"], "kubernetes-admin");
}
