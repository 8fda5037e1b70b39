//! Deletion: finalizers, propagation, garbage collection, namespaces, events.

use crate::harness::{Api, CONFIG_MAPS, JSON, MERGE, StoreFile, config_map};
use serde_json::{Value, json};
use std::sync::Arc;

fn owned(name: &str, owner: &Value) -> Value {
    let mut map = config_map(name);
    map["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    }]);
    map
}

async fn delete(api: &Api, name: &str, policy: &str) -> u16 {
    let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
    api.send("DELETE", &format!("{CONFIG_MAPS}/{name}"), JSON, body.to_string())
        .await
        .code
}

#[tokio::test]
async fn a_deletion_says_what_was_deleted() {
    let api = Api::start().await;
    let uid = api.post(CONFIG_MAPS, &config_map("cm")).await.json["metadata"]["uid"].clone();
    let path = format!("{CONFIG_MAPS}/cm");
    let wrong = json!({"preconditions": {"uid": "other"}}).to_string();
    assert_eq!(api.send("DELETE", &path, JSON, wrong).await.code, 409);
    let answer = api.delete(&path).await;
    assert_eq!(
        answer.json,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {"name": "cm", "kind": "configmaps", "uid": uid}})
    );
    assert_eq!(api.delete(&path).await.code, 404);
    assert_eq!(api.delete(&format!("{path}?propagationPolicy=x")).await.code, 422);
}

#[tokio::test]
async fn finalizers_hold_an_object_back() {
    let api = Api::start().await;
    let path = format!("{CONFIG_MAPS}/cm");
    let mut map = config_map("cm");
    map["metadata"]["finalizers"] = json!(["example.com/hold"]);
    api.post(CONFIG_MAPS, &map).await;
    let marked = api.delete(&path).await;
    assert_eq!(
        marked.json["metadata"]["deletionTimestamp"],
        "2026-01-02T03:04:05Z"
    );
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/new"]}});
    assert_eq!(api.patch(&path, MERGE, &more).await.code, 422);
    assert_eq!(
        api.patch(&path, MERGE, &json!({"metadata": {"finalizers": null}}))
            .await
            .code,
        200
    );
    assert_eq!(api.get(&path).await.code, 404);
}

#[tokio::test]
async fn dependents_follow_their_owner() {
    let api = Api::start().await;
    let owner = api.post(CONFIG_MAPS, &config_map("owner")).await.json;
    let child = api.post(CONFIG_MAPS, &owned("child", &owner)).await.json;
    api.post(CONFIG_MAPS, &owned("grandchild", &child)).await;
    api.post(CONFIG_MAPS, &config_map("bystander")).await;
    assert_eq!(delete(&api, "owner", "Background").await, 200);
    api.until(&format!("{CONFIG_MAPS}/grandchild"), |answer| answer.code == 404)
        .await;
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/child")).await.code, 404);
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/bystander")).await.code, 200);
    // One whose owner is gone already is collected as soon as it is made.
    api.post(CONFIG_MAPS, &owned("late", &owner)).await;
    api.until(&format!("{CONFIG_MAPS}/late"), |answer| answer.code == 404)
        .await;
}

#[tokio::test]
async fn a_foreground_owner_goes_last() {
    let api = Api::start().await;
    let owner = api.post(CONFIG_MAPS, &config_map("owner")).await.json;
    let mut child = owned("child", &owner);
    child["metadata"]["finalizers"] = json!(["example.com/hold"]);
    api.post(CONFIG_MAPS, &child).await;
    assert_eq!(delete(&api, "owner", "Foreground").await, 200);
    let marked = |answer: &crate::harness::Answer| answer.json["metadata"].get("deletionTimestamp").is_some();
    api.until(&format!("{CONFIG_MAPS}/child"), marked).await;
    assert_eq!(
        api.get(&format!("{CONFIG_MAPS}/owner")).await.json["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    let release = json!([{"op": "remove", "path": "/metadata/finalizers/0"}]);
    let held = api.get(&format!("{CONFIG_MAPS}/child")).await.json["metadata"]["finalizers"].clone();
    assert_eq!(held[0], "example.com/hold");
    api.patch(
        &format!("{CONFIG_MAPS}/child"),
        "application/json-patch+json",
        &release,
    )
    .await;
    api.until(&format!("{CONFIG_MAPS}/owner"), |answer| answer.code == 404)
        .await;
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/child")).await.code, 404);
}

#[tokio::test]
async fn orphans_stay() {
    let api = Api::start().await;
    let owner = api.post(CONFIG_MAPS, &config_map("owner")).await.json;
    api.post(CONFIG_MAPS, &owned("child", &owner)).await;
    assert_eq!(delete(&api, "owner", "Orphan").await, 200);
    api.until(&format!("{CONFIG_MAPS}/owner"), |answer| answer.code == 404)
        .await;
    let child = api.get(&format!("{CONFIG_MAPS}/child")).await.json;
    assert_eq!(child["metadata"].get("ownerReferences"), None);
}

#[tokio::test]
async fn namespaces_end_with_what_is_in_them() {
    let api = Api::start().await;
    let namespaces = "/api/v1/namespaces";
    let created = api.post(namespaces, &json!({"metadata": {"name": "team"}})).await;
    assert_eq!(created.json["status"]["phase"], "Active");
    assert_eq!(
        created.json["metadata"]["labels"]["kubernetes.io/metadata.name"],
        "team"
    );
    let inside = format!("{namespaces}/team/configmaps");
    let mut held = config_map("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    api.post(&inside, &held).await;
    let answer = api.delete(&format!("{namespaces}/team")).await;
    assert_eq!(answer.json["status"]["phase"], "Terminating");
    let refused = api.post(&inside, &config_map("new")).await;
    assert_eq!(
        (refused.code, &refused.json["details"]["causes"][0]["reason"]),
        (403, &json!("NamespaceTerminating"))
    );
    let marked = |answer: &crate::harness::Answer| answer.json["metadata"].get("deletionTimestamp").is_some();
    api.until(&format!("{inside}/held"), marked).await;
    api.patch(
        &format!("{inside}/held"),
        MERGE,
        &json!({"metadata": {"finalizers": null}}),
    )
    .await;
    api.until(&format!("{namespaces}/team"), |answer| answer.code == 404)
        .await;
    let refused = api.delete(&format!("{namespaces}/default")).await;
    assert_eq!(
        (refused.code, refused.message()),
        (
            403,
            r#"namespaces "default" is forbidden: this namespace may not be deleted"#
        )
    );
}

/// Creates race the end of their namespace, over a disk, so that decided writes are under way for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_outlives_its_namespace() {
    const ROUNDS: usize = 8;
    const WRITERS: usize = 8;
    let file = StoreFile::new("namespaces");
    let api = Arc::new(Api::start_with(file.open()).await);
    for round in 0..ROUNDS {
        let namespace = format!("/api/v1/namespaces/team-{round}");
        let body = json!({"metadata": {"name": format!("team-{round}")}});
        assert_eq!(api.post("/api/v1/namespaces", &body).await.code, 201);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (api, inside) = (Arc::clone(&api), format!("{namespace}/configmaps"));
                tokio::spawn(async move {
                    for n in 0.. {
                        let answer = api.post(&inside, &config_map(&format!("cm-{writer}-{n}"))).await;
                        if answer.code != 201 {
                            return answer.code;
                        }
                    }
                    unreachable!("the namespace ends first")
                })
            })
            .collect();
        api.until(&format!("{namespace}/configmaps/cm-0-0"), |answer| {
            answer.code == 200
        })
        .await;
        assert_eq!(api.delete(&namespace).await.code, 200);
        for writer in writers {
            let refused = writer.await.unwrap();
            assert!(matches!(refused, 403 | 404), "{refused}");
        }
        api.until(&namespace, |answer| answer.code == 404).await;
        let left = api.get(&format!("{namespace}/configmaps")).await;
        assert_eq!(left.json["items"], json!([]), "round {round}");
    }
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let api = Api::start().await;
    for (name, tier) in [("a", "x"), ("b", "x"), ("c", "y")] {
        let mut map = config_map(name);
        map["metadata"]["labels"] = json!({"tier": tier});
        api.post(CONFIG_MAPS, &map).await;
    }
    let answer = api.delete(&format!("{CONFIG_MAPS}?labelSelector=tier%3Dx")).await;
    assert_eq!(answer.json["items"].as_array().unwrap().len(), 2);
    assert_eq!(
        api.get(CONFIG_MAPS).await.json["items"].as_array().unwrap().len(),
        1
    );
}

#[tokio::test]
async fn events_have_two_shapes() {
    let api = Api::start().await;
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "eventTime": "2026-01-02T03:04:05.000000Z", "action": "Made", "reason": "Created", "type": "Normal", "note": "hi",
        "regarding": {"apiVersion": "v1", "kind": "ConfigMap", "name": "cm", "namespace": "default", "uid": "u"},
        "reportingController": "c", "reportingInstance": "i",
    });
    let answer = api
        .post("/apis/events.k8s.io/v1/namespaces/default/events", &event)
        .await;
    assert_eq!(
        (answer.code, &answer.json["note"]),
        (201, &json!("hi")),
        "{}",
        answer.text
    );
    let query = "fieldSelector=involvedObject.name%3Dcm,involvedObject.namespace%3Ddefault,involvedObject.kind%3DConfigMap,involvedObject.uid%3Du&limit=500";
    let core = api
        .get(&format!("/api/v1/namespaces/default/events?{query}"))
        .await;
    assert_eq!(core.json["items"][0]["message"], "hi");
}
