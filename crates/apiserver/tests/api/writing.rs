//! Create, update, patch, apply: what is stored, what is refused, what changes nothing.

use crate::harness::{APPLY, Api, CONFIG_MAPS, JSON, MERGE, SERVICES, config_map, service};
use serde_json::json;

#[tokio::test]
async fn a_new_object_gets_what_the_server_gives() {
    let api = Api::start().await;
    let mut given = service("hello");
    given["status"] = json!({"url": "http://forged"});
    given["metadata"]["uid"] = json!("forged");
    let answer = api.post(SERVICES, &given).await;
    assert_eq!(answer.code, 201);
    let metadata = &answer.json["metadata"];
    assert_eq!(
        (&metadata["generation"], &metadata["namespace"]),
        (&json!(1), &json!("default"))
    );
    assert_eq!(metadata["creationTimestamp"], "2026-01-02T03:04:05Z");
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert_eq!(answer.json.get("status"), None, "status belongs to /status");
    assert_eq!(metadata["managedFields"][0]["manager"], "unknown");
    let again = api.post(SERVICES, &service("hello")).await;
    assert_eq!(
        (again.code, again.message()),
        (409, r#"services.serving.knative.dev "hello" already exists"#)
    );
}

#[tokio::test]
async fn names_are_generated() {
    let api = Api::start().await;
    let map = json!({"metadata": {"generateName": "job-"}});
    let answer = api.post(CONFIG_MAPS, &map).await;
    let name = answer.json["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("job-") && name.len() == 9, "{name}");
}

#[tokio::test]
async fn generation_counts_changes_of_the_spec_only() {
    let api = Api::start().await;
    let path = format!("{SERVICES}/hello");
    let mut object = api.post(SERVICES, &service("hello")).await.json;
    object["status"] = json!({"url": "http://x"});
    let answer = api.put(&format!("{path}/status"), &object).await;
    assert_eq!(
        (
            &answer.json["metadata"]["generation"],
            &answer.json["status"]["url"]
        ),
        (&json!(1), &json!("http://x"))
    );
    let spec =
        json!({"spec": {"template": {"spec": {"timeoutSeconds": 10}}}, "status": {"url": "http://forged"}});
    let answer = api.patch(&path, MERGE, &spec).await;
    assert_eq!(
        (
            &answer.json["metadata"]["generation"],
            &answer.json["status"]["url"]
        ),
        (&json!(2), &json!("http://x"))
    );
    let answer = api
        .patch(&path, MERGE, &json!({"metadata": {"labels": {"a": "b"}}}))
        .await;
    assert_eq!(answer.json["metadata"]["generation"], 2);
    let status =
        json!({"spec": {"template": {"spec": {"timeoutSeconds": 99}}}, "status": {"url": "http://y"}});
    let answer = api.patch(&format!("{path}/status"), MERGE, &status).await;
    assert_eq!(
        answer.json["spec"]["template"]["spec"]["timeoutSeconds"], 10,
        "/status writes only the status"
    );
    assert_eq!(answer.json["status"]["url"], "http://y");
}

#[tokio::test]
async fn a_write_that_changes_nothing_stores_nothing() {
    let api = Api::start().await;
    let path = format!("{SERVICES}/hello");
    let created = api.post(SERVICES, &service("hello")).await;
    let again = api.put(&path, &created.json).await;
    assert_eq!((again.code, again.version()), (200, created.version()));
    for managed in [json!(null), json!([])] {
        let mut stripped = created.json.clone();
        stripped["metadata"]["managedFields"] = managed;
        let again = api.put(&path, &stripped).await;
        assert_eq!(
            (again.code, again.version()),
            (200, created.version()),
            "{}",
            again.text
        );
    }
    let again = api.patch(&path, MERGE, &json!({})).await;
    assert_eq!(again.version(), created.version());
    // Applied twice, with a list that admission completes: the second time changes nothing.
    let first = api
        .send(
            "PATCH",
            &format!("{SERVICES}/applied?fieldManager=m"),
            APPLY,
            service("applied").to_string(),
        )
        .await;
    assert_eq!(first.code, 201, "{}", first.text);
    api.clock.advance(std::time::Duration::from_secs(60));
    let second = api
        .send(
            "PATCH",
            &format!("{SERVICES}/applied?fieldManager=m"),
            APPLY,
            service("applied").to_string(),
        )
        .await;
    assert_eq!((second.code, second.version()), (200, first.version()));
}

#[tokio::test]
async fn stale_writes_conflict_and_patches_do_not() {
    let api = Api::start().await;
    let path = format!("{SERVICES}/hello");
    let old = api.post(SERVICES, &service("hello")).await.json;
    api.patch(&path, MERGE, &json!({"metadata": {"labels": {"a": "1"}}}))
        .await;
    let answer = api.put(&path, &old).await;
    assert_eq!(answer.code, 409);
    assert_eq!(
        answer.message(),
        "Operation cannot be fulfilled on services.serving.knative.dev \"hello\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let stale =
        json!({"metadata": {"resourceVersion": old["metadata"]["resourceVersion"], "labels": {"a": "2"}}});
    assert_eq!(api.patch(&path, MERGE, &stale).await.code, 409);
    let mut without = old.clone();
    without["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("resourceVersion");
    let answer = api.put(&path, &without).await;
    assert_eq!(answer.code, 422);
    assert!(
        answer
            .message()
            .ends_with("metadata.resourceVersion: Invalid value: 0x0: must be specified for an update")
    );
    let patches = (0..20).map(|n| {
        let (api, path) = (&api, &path);
        async move {
            api.patch(
                path,
                MERGE,
                &json!({"metadata": {"annotations": {format!("n{n}"): "x"}}}),
            )
            .await
            .code
        }
    });
    assert_eq!(futures::future::join_all(patches).await, vec![200; 20]);
    let object = api.get(&path).await.json;
    let numbered = object["metadata"]["annotations"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|key| key.starts_with('n'));
    assert_eq!(numbered.count(), 20, "no patch was lost");
    assert_eq!(
        api.put(&format!("{SERVICES}/none"), &service("none")).await.code,
        404,
        "PUT never creates"
    );
}

#[tokio::test]
async fn patches_come_in_four_forms() {
    let api = Api::start().await;
    let (map, path) = (config_map("cm"), format!("{CONFIG_MAPS}/cm"));
    api.post(CONFIG_MAPS, &map).await;
    let strategic = "application/strategic-merge-patch+json";
    let answer = api.patch(&path, strategic, &json!({"data": {"b": "2"}})).await;
    assert_eq!(answer.json["data"], json!({"a": "1", "b": "2"}));
    let json_patch = "application/json-patch+json";
    let operations = json!([{"op": "test", "path": "/metadata/finalizers", "value": null}, {"op": "remove", "path": "/data/a"}]);
    assert_eq!(
        api.patch(&path, json_patch, &operations).await.json["data"],
        json!({"b": "2"})
    );
    let failing = json!([{"op": "test", "path": "/data/b", "value": "9"}]);
    assert_eq!(api.patch(&path, json_patch, &failing).await.code, 422);
    api.post(SERVICES, &service("hello")).await;
    let answer = api
        .patch(&format!("{SERVICES}/hello"), strategic, &json!({}))
        .await;
    assert_eq!(answer.code, 415, "custom resources have no strategic merge patch");
}

#[tokio::test]
async fn appliers_own_fields() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/cm");
    let map = |value: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cm"}, "data": {"a": value}})
            .to_string()
    };
    let apply = async |manager: &str, force: bool, body: String| {
        api.send(
            "PATCH",
            &format!("{path}?fieldManager={manager}&force={force}"),
            APPLY,
            body,
        )
        .await
    };
    assert_eq!(apply("one", false, map("1")).await.code, 201);
    let conflict = apply("two", false, map("2")).await;
    assert_eq!(
        (conflict.code, &conflict.json["details"]["causes"][0]["reason"]),
        (409, &json!("FieldManagerConflict"))
    );
    assert_eq!(conflict.json["details"]["causes"][0]["field"], ".data.a");
    assert_eq!(apply("two", true, map("2")).await.json["data"]["a"], "2");
    let nameless = api.send("PATCH", &path, APPLY, map("1")).await;
    assert_eq!(nameless.code, 422);
    assert!(
        nameless.message().contains("fieldManager: Required value"),
        "{}",
        nameless.message()
    );
}

#[tokio::test]
async fn server_side_apply_takes_over_from_client_side_apply() {
    let api = Api::start().await;
    let mut given = service("hello");
    given["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": service("hello").to_string()});
    api.send(
        "POST",
        &format!("{SERVICES}?fieldManager=kubectl-client-side-apply"),
        JSON,
        given.to_string(),
    )
    .await;
    let path = format!("{SERVICES}/hello?fieldManager=kubectl&force=false");
    let answer = api
        .send("PATCH", &path, APPLY, service("hello").to_string())
        .await;
    assert_eq!(answer.code, 200, "{}", answer.text);
    // Somebody else changed it: then it is a conflict.
    let change = json!({"spec": {"template": {"spec": {"containers": [{"image": "example.com/other"}]}}}});
    api.patch(&format!("{SERVICES}/hello?fieldManager=stranger"), MERGE, &change)
        .await;
    assert_eq!(
        api.send("PATCH", &path, APPLY, service("hello").to_string())
            .await
            .code,
        409
    );
}

#[tokio::test]
async fn what_admission_adds_is_owned_by_nobody() {
    let api = Api::start().await;
    let created = api
        .send(
            "POST",
            &format!("{SERVICES}?fieldManager=m"),
            JSON,
            service("hello").to_string(),
        )
        .await
        .json;
    assert_eq!(
        created["metadata"]["annotations"]["serving.knative.dev/creator"],
        "kubernetes-admin"
    );
    let fields = &created["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(
        fields,
        &json!({"f:spec": {".": {}, "f:template": {".": {}, "f:spec": {".": {}, "f:containers": {}}}}})
    );
}

#[tokio::test]
async fn dry_runs_store_nothing() {
    let api = Api::start().await;
    let answer = api
        .post(&format!("{SERVICES}?dryRun=All"), &service("hello"))
        .await;
    assert_eq!(answer.code, 201);
    assert_eq!(api.get(&format!("{SERVICES}/hello")).await.code, 404);
    let created = api.post(SERVICES, &service("hello")).await;
    let path = format!("{SERVICES}/hello");
    let answer = api
        .patch(
            &format!("{path}?dryRun=All"),
            MERGE,
            &json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await;
    assert_eq!(answer.json["metadata"]["labels"]["a"], "b");
    assert_eq!(api.delete(&format!("{path}?dryRun=All")).await.code, 200);
    assert_eq!(api.get(&path).await.version(), created.version());
    assert_eq!(
        api.post(&format!("{SERVICES}?dryRun=yes"), &service("x"))
            .await
            .code,
        422
    );
}

#[tokio::test]
async fn unknown_fields_by_validation_mode() {
    let api = Api::start().await;
    let given = |name: &str| {
        let mut object = service(name);
        object["spec"]["wrong"] = 1.into();
        object
    };
    let strict = api
        .post(&format!("{SERVICES}?fieldValidation=Strict"), &given("a"))
        .await;
    assert_eq!(strict.code, 400);
    assert!(
        strict
            .message()
            .ends_with(r#"strict decoding error: unknown field "spec.wrong""#),
        "{}",
        strict.message()
    );
    let warned = api.post(SERVICES, &given("a")).await;
    assert_eq!(
        (warned.code, warned.warnings()),
        (201, vec![r#"299 - "unknown field \"spec.wrong\"""#])
    );
    assert_eq!(warned.json["spec"].get("wrong"), None);
    let ignored = api
        .post(&format!("{SERVICES}?fieldValidation=Ignore"), &given("b"))
        .await;
    assert_eq!((ignored.code, ignored.warnings().len()), (201, 0));
    let twice = service("c")
        .to_string()
        .replacen("\"spec\":", "\"kind\":\"Service\",\"spec\":", 1);
    let twice = api
        .send("POST", &format!("{SERVICES}?fieldValidation=Strict"), JSON, twice)
        .await;
    assert!(
        twice.message().contains(r#"duplicate field "kind""#),
        "{}",
        twice.message()
    );
}

#[tokio::test]
async fn knative_refuses_in_its_own_words() {
    let api = Api::start().await;
    let mut object = service("hello");
    object["spec"]["template"]["spec"]["containers"] = json!([]);
    let answer = api.post(SERVICES, &object).await;
    assert_eq!(answer.code, 400);
    let wanted = r#"admission webhook "validation.webhook.serving.knative.dev" denied the request: validation failed: missing field(s): spec.template.spec.containers"#;
    assert_eq!(answer.message(), wanted);
}

#[tokio::test]
async fn immutable_metadata_stays() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/cm");
    let created = api.post(CONFIG_MAPS, &config_map("cm")).await.json;
    let forged = json!({"metadata": {"creationTimestamp": "2000-01-01T00:00:00Z", "generation": 9}});
    let answer = api.patch(&path, MERGE, &forged).await.json;
    assert_eq!(
        answer["metadata"]["creationTimestamp"],
        created["metadata"]["creationTimestamp"]
    );
    assert_eq!(
        api.patch(&path, MERGE, &json!({"metadata": {"name": "other"}}))
            .await
            .code,
        400
    );
    assert_eq!(
        api.patch(&path, MERGE, &json!({"metadata": {"uid": "other"}}))
            .await
            .code,
        409
    );
    assert_eq!(
        api.get(&path).await.json["metadata"]["uid"],
        created["metadata"]["uid"]
    );
}
