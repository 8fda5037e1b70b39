//! Get and list: pages, selectors, tables, partial metadata.

use crate::harness::{Api, CONFIG_MAPS, SERVICES, TABLE, config_map, service};
use serde_json::{Value, json};

fn names(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

#[tokio::test]
async fn pages_are_cut_from_one_snapshot() {
    let api = Api::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        api.post(CONFIG_MAPS, &config_map(name)).await;
    }
    let first = api.get(&format!("{CONFIG_MAPS}?limit=2")).await.json;
    assert_eq!(
        (names(&first), &first["metadata"]["remainingItemCount"]),
        (vec!["a", "b"], &json!(3))
    );
    api.delete(&format!("{CONFIG_MAPS}/c")).await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = api
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"))
        .await
        .json;
    assert_eq!(names(&second), ["c", "d"], "the snapshot does not change");
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = api
        .get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"))
        .await
        .json;
    assert_eq!(
        (names(&third), third["metadata"].get("continue")),
        (vec!["e"], None)
    );
    api.clock.advance(std::time::Duration::from_secs(3600));
    let late = api.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).await;
    assert_eq!((late.code, &late.json["reason"]), (410, &json!("Expired")));
    assert_eq!(
        api.get(&format!("{CONFIG_MAPS}?continue=nonsense")).await.code,
        400
    );
}

#[tokio::test]
async fn selectors_choose() {
    let api = Api::start().await;
    for (name, tier) in [("a", "front"), ("b", "back")] {
        let mut map = config_map(name);
        map["metadata"]["labels"] = json!({"tier": tier});
        api.post(CONFIG_MAPS, &map).await;
    }
    for (query, wanted) in [
        ("labelSelector=tier%3Dfront", vec!["a"]),
        ("labelSelector=tier+in+(front,back),tier!%3Dfront", vec!["b"]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        (
            "fieldSelector=metadata.name%3Db&labelSelector=tier%3Dfront",
            vec![],
        ),
    ] {
        assert_eq!(
            names(&api.get(&format!("{CONFIG_MAPS}?{query}")).await.json),
            wanted,
            "{query}"
        );
    }
    let wrong = api.get(&format!("{CONFIG_MAPS}?fieldSelector=spec.x%3D1")).await;
    let text = r#""spec.x" is not a known field selector: only "metadata.name", "metadata.namespace""#;
    assert_eq!((wrong.code, wrong.message()), (400, text));
    assert_eq!(
        api.get(&format!("{CONFIG_MAPS}?labelSelector=a%3D%3D%3D"))
            .await
            .code,
        400
    );
}

#[tokio::test]
async fn lists_honor_resource_versions() {
    let api = Api::start().await;
    let version: u64 = api.get(CONFIG_MAPS).await.version().parse().unwrap();
    let code = async |query: String| api.get(&format!("{CONFIG_MAPS}?{query}")).await.code;
    assert_eq!(code("resourceVersion=0".into()).await, 200);
    assert_eq!(
        code(format!("resourceVersion={version}&resourceVersionMatch=Exact")).await,
        200
    );
    assert_eq!(
        code("resourceVersion=1&resourceVersionMatch=Exact".into()).await,
        410
    );
    assert_eq!(code(format!("resourceVersion={}", version + 100)).await, 504);
    assert_eq!(code("resourceVersionMatch=Exact".into()).await, 422);
    assert_eq!(code("resourceVersion=abc".into()).await, 400);
}

#[tokio::test]
async fn tables_have_the_columns_of_the_crd() {
    let api = Api::start().await;
    api.post(SERVICES, &service("hello")).await;
    let table = api.accept(&format!("{SERVICES}?limit=500"), TABLE).await.json;
    insta::assert_json_snapshot!("service_table", table, {
        ".metadata.resourceVersion" => "[version]",
        ".columnDefinitions[].description" => "[text]",
        ".rows[].object.metadata.uid" => "[uid]",
        ".rows[].object.metadata.resourceVersion" => "[version]",
        ".rows[].object.metadata.managedFields" => "[managed]",
    });
    let with_object = api
        .accept(&format!("{SERVICES}/hello?includeObject=Object"), TABLE)
        .await
        .json;
    assert_eq!(with_object["rows"][0]["object"]["kind"], "Service");
    let without = api
        .accept(&format!("{SERVICES}/hello?includeObject=None"), TABLE)
        .await
        .json;
    assert_eq!(without["rows"][0].get("object"), None);
    assert_eq!(
        api.accept(&format!("{SERVICES}?includeObject=x"), TABLE)
            .await
            .code,
        400
    );
}

#[tokio::test]
async fn core_kinds_have_their_own_columns() {
    let api = Api::start().await;
    api.post(CONFIG_MAPS, &config_map("cm")).await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"p": "q"}});
    assert_eq!(
        api.post("/api/v1/namespaces/default/secrets", &secret).await.json["data"]["p"],
        "cQ=="
    );
    api.clock.advance(std::time::Duration::from_secs(200));
    let cells = async |path: &str| api.accept(path, TABLE).await.json["rows"][0]["cells"].clone();
    assert_eq!(
        cells("/api/v1/namespaces").await,
        json!(["default", "Active", "3m20s"])
    );
    assert_eq!(cells(CONFIG_MAPS).await, json!(["cm", "1", "3m20s"]));
    assert_eq!(
        cells("/api/v1/namespaces/default/secrets").await,
        json!(["s", "Opaque", "1", "3m20s"])
    );
}

#[tokio::test]
async fn metadata_alone_can_be_asked_for() {
    let api = Api::start().await;
    api.post(CONFIG_MAPS, &config_map("a")).await;
    let list = api
        .accept(
            CONFIG_MAPS,
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        )
        .await
        .json;
    assert_eq!(
        (&list["kind"], &list["items"][0]["kind"]),
        (
            &json!("PartialObjectMetadataList"),
            &json!("PartialObjectMetadata")
        )
    );
    assert_eq!(list["items"][0].get("data"), None);
    let yaml = api.accept(&format!("{CONFIG_MAPS}/a"), "application/yaml").await;
    assert!(yaml.text.contains("kind: ConfigMap"), "{}", yaml.text);
    assert_eq!(api.accept(CONFIG_MAPS, "text/html").await.code, 406);
}

#[tokio::test]
async fn logs_of_a_revision() {
    use kittiwake_core::{log::LogStream, revision::RevisionKey};
    let api = Api::start().await;
    let path = "/apis/serving.knative.dev/v1/namespaces/default/revisions";
    assert_eq!(api.get(&format!("{path}/hello-00001/log")).await.code, 404);
    let mut revision = service("hello-00001");
    revision["kind"] = "Revision".into();
    revision["spec"] = revision["spec"]["template"]["spec"].clone();
    assert_eq!(api.post(path, &revision).await.code, 201);
    let log = api.logs.revision(&RevisionKey::new("default", "hello-00001"));
    log.write(LogStream::Stdout, "one\ntwo");
    let answer = api
        .get(&format!("{path}/hello-00001/log?tailLines=1&timestamps=true"))
        .await;
    assert_eq!(answer.text, "2026-01-02T03:04:05Z two\n");
}
