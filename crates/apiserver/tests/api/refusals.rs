//! Bad input: every request gets a `Status` that names what is wrong, and nothing is stored.

use crate::harness::{APPLY, Api, CONFIG_MAPS, JSON, MERGE, SERVICES, StoreFile, config_map, service};
use axum::body::{Body, Bytes};
use futures::stream;
use http::Request;
use serde_json::{Map, Value, json};
use std::convert::Infallible;

#[tokio::test]
async fn bad_bodies_are_refused() {
    let api = Api::start().await;
    let yaml = "application/yaml";
    for (content_type, body, code, text) in [
        ("text/plain", "x".as_bytes(), 415, "unknown format"),
        (JSON, b"{", 400, ""),
        (JSON, b"", 400, ""),
        (JSON, b"[]", 400, "must be an object"),
        (JSON, b"{\"kind\": \"\xff\"}", 400, "UTF-8"),
        (yaml, b"a: [", 400, ""),
        (yaml, b"a: &x [*x]", 400, ""),
        (JSON, br#"{"kind": "Service"}"#, 400, "apiVersion"),
        (
            JSON,
            br#"{"apiVersion": "v1", "kind": "Service"}"#,
            400,
            "does not match",
        ),
        (
            JSON,
            br#"{"apiVersion": "serving.knative.dev/v1", "kind": "Route"}"#,
            400,
            "does not match",
        ),
        (
            JSON,
            br#"{"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": 1}"#,
            400,
            "metadata",
        ),
        (
            JSON,
            br#"{"apiVersion": "serving.knative.dev/v1", "kind": "Service"}"#,
            422,
            "name or generateName is required",
        ),
        (
            "application/vnd.kubernetes.protobuf",
            b"k8s\0\xff",
            415,
            "application/json, application/yaml",
        ),
    ] {
        let answer = api
            .send("POST", SERVICES, content_type, Bytes::copy_from_slice(body))
            .await;
        assert_eq!(
            (answer.code, &answer.json["kind"]),
            (code, &json!("Status")),
            "{body:?}: {}",
            answer.text
        );
        assert!(answer.message().contains(text), "{body:?}: {}", answer.message());
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(api.send("POST", SERVICES, JSON, deep).await.code, 400);
    assert_eq!(api.get(SERVICES).await.json["items"], json!([]));
}

#[tokio::test]
async fn ten_megabytes_are_too_much_announced_or_not() {
    let api = Api::start().await;
    let body = Bytes::from(vec![b' '; 10 << 20]);
    let answer = api.send("POST", SERVICES, JSON, body.clone()).await;
    assert_eq!(
        (answer.code, &answer.json["reason"]),
        (413, &json!("RequestEntityTooLarge"))
    );
    let chunks: Vec<Result<Bytes, Infallible>> = body
        .chunks(64 << 10)
        .map(|c| Ok(Bytes::copy_from_slice(c)))
        .collect();
    let request = Request::post(SERVICES).header("content-type", JSON);
    let answer = api
        .request(request.body(Body::from_stream(stream::iter(chunks))).unwrap())
        .await;
    assert_eq!(
        (answer.code, answer.message()),
        (413, "Request entity too large: limit is 3145728")
    );
}

#[tokio::test]
async fn bad_names_labels_and_places_are_refused() {
    let api = Api::start().await;
    for name in ["A", "-a", "a_b", &"a".repeat(254)] {
        let answer = api.post(CONFIG_MAPS, &config_map(name)).await;
        assert_eq!(
            (answer.code, &answer.json["reason"]),
            (422, &json!("Invalid")),
            "{name}"
        );
        assert_eq!(answer.json["details"]["causes"][0]["field"], "metadata.name");
    }
    let mut map = config_map("cm");
    map["metadata"]["labels"] = json!({"a": "not a label"});
    assert_eq!(api.post(CONFIG_MAPS, &map).await.code, 422);
    let answer = api
        .post("/api/v1/namespaces/none/configmaps", &config_map("cm"))
        .await;
    assert_eq!(
        (answer.code, answer.message()),
        (404, r#"namespaces "none" not found"#)
    );
    let mut map = config_map("cm");
    map["metadata"]["namespace"] = "other".into();
    assert_eq!(api.post(CONFIG_MAPS, &map).await.code, 400);
    assert_eq!(api.post("/api/v1/configmaps", &config_map("cm")).await.code, 405);
    let mut map = config_map("cm");
    map["data"] = json!({"a": 1});
    let answer = api.post(CONFIG_MAPS, &map).await;
    assert_eq!(
        (answer.code, &answer.json["details"]["causes"][0]["field"]),
        (422, &json!("data.a")),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn bad_patches_are_refused() {
    let api = Api::start().await;
    api.post(SERVICES, &service("hello")).await;
    let path = format!("{SERVICES}/hello");
    for (content_type, body, code) in [
        (MERGE, "{", 400),
        (MERGE, "[]", 400),
        (MERGE, r#"{"spec": 1}"#, 422),
        (MERGE, r#"{"metadata": []}"#, 400),
        (MERGE, r#"{"kind": "Route"}"#, 400),
        ("application/json-patch+json", "{}", 400),
        (
            "application/json-patch+json",
            r#"[{"op": "jump", "path": "/a"}]"#,
            400,
        ),
        (
            "application/json-patch+json",
            r#"[{"op": "remove", "path": "/none"}]"#,
            422,
        ),
        ("text/plain", "x", 415),
    ] {
        let answer = api.send("PATCH", &path, content_type, body).await;
        assert_eq!(answer.code, code, "{content_type} {body}: {}", answer.text);
    }
    let operations = vec![json!({"op": "test", "path": "/spec", "value": 1}); 10_001];
    assert_eq!(
        api.patch(&path, "application/json-patch+json", &json!(operations))
            .await
            .code,
        413
    );
    let answer = api
        .send("PATCH", &format!("{path}?fieldManager=m"), APPLY, "a: [")
        .await;
    assert_eq!(answer.code, 400);
    assert_eq!(
        api.patch(&format!("{SERVICES}/none"), MERGE, &json!({}))
            .await
            .code,
        404
    );
}

#[tokio::test]
async fn patches_cannot_nest_without_end() {
    let api = Api::start().await;
    let before = api.post(CONFIG_MAPS, &config_map("cm")).await.json;
    let path = format!("{CONFIG_MAPS}/cm");
    let list = (1..95).fold(json!([]), |inner, _| json!([inner]));
    let mut operations = vec![json!({"op": "add", "path": "/x", "value": list})];
    for doublings in 0..10 {
        let inner = "/0".repeat(95 << doublings);
        operations.push(json!({"op": "copy", "from": "/x", "path": format!("/x{inner}")}));
    }
    for query in ["?dryRun=All", ""] {
        let answer = api
            .patch(
                &format!("{path}{query}"),
                "application/json-patch+json",
                &json!(operations),
            )
            .await;
        assert_eq!(
            (answer.code, &answer.json["reason"]),
            (422, &json!("Invalid")),
            "{}",
            answer.text
        );
        assert!(answer.message().contains("at most 100 levels"), "{}", answer.text);
    }
    assert_eq!(api.get(&path).await.json, before);
}

#[tokio::test]
async fn patches_cannot_grow_an_object_without_end() {
    const PATCHES_MAX: usize = 20;
    let file = StoreFile::new("growing");
    let store = file.open();
    let api = Api::start_with(store.clone()).await;
    let path = format!("{CONFIG_MAPS}/cm");
    let mut last = api.post(CONFIG_MAPS, &config_map("cm")).await;
    let mut refused = None;
    for patch in 0..PATCHES_MAX {
        let prefix = ["a".repeat(60), "b".repeat(60), "c".repeat(60)].join(".");
        let labels: Map<String, Value> = (0..1000)
            .map(|n| (format!("{prefix}/{patch}-{n}"), "v".repeat(63).into()))
            .collect();
        let labels = json!({"metadata": {"labels": labels}});
        let answer = api.patch(&path, MERGE, &labels).await;
        if answer.code != 200 {
            refused = Some(answer);
            break;
        }
        last = answer;
    }
    let refused = refused.expect("growth ends");
    assert_eq!(
        (refused.code, &refused.json["reason"], refused.message()),
        (
            413,
            &json!("RequestEntityTooLarge"),
            "Request entity too large: the object with metadata.name \"cm\" would be too large, limit is 3145728 bytes"
        )
    );
    assert!(last.text.len() > 2 << 20, "the limit is not far away");
    assert_eq!(api.get(&path).await.json, last.json);
    store.close();
    drop((api, store));
    let api = Api::start_with(file.open()).await;
    assert_eq!(api.get(&path).await.json, last.json);
}

#[tokio::test]
async fn wrong_places_and_methods() {
    let api = Api::start().await;
    for (method, path, code) in [
        (
            "GET",
            "/apis/serving.knative.dev/v1/namespaces/default/nothing",
            404,
        ),
        ("GET", "/api/v1/namespaces/default/configmaps/none", 404),
        ("GET", "/api/v1/namespaces/default/namespaces", 404),
        ("GET", "/nothing", 404),
        ("POST", "/version", 405),
        ("PUT", CONFIG_MAPS, 405),
        ("POST", "/api/v1/namespaces/default/configmaps/cm", 405),
        (
            "GET",
            "/apis/serving.knative.dev/v1/namespaces/default/services/x/scale",
            404,
        ),
        ("GET", "/api/v1/%ff", 400),
        ("GET", "/api/v1/configmaps?limit=-1", 400),
    ] {
        let answer = api.send(method, path, JSON, "").await;
        assert_eq!(
            (answer.code, &answer.json["kind"]),
            (code, &json!("Status")),
            "{method} {path}"
        );
    }
}
