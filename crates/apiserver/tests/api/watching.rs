//! Watches: history, selectors, bookmarks, ends.

use crate::harness::{Api, CONFIG_MAPS, MERGE, SERVICES, config_map, service, step};
use serde_json::json;

#[tokio::test]
async fn a_watch_continues_a_list_without_gap() {
    let api = Api::start().await;
    let version = api.get(CONFIG_MAPS).await.version().to_owned();
    api.post(CONFIG_MAPS, &config_map("a")).await;
    api.patch(&format!("{CONFIG_MAPS}/a"), MERGE, &json!({"data": {"b": "2"}}))
        .await;
    let mut watch = api
        .watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion={version}"))
        .await;
    assert_eq!(watch.step().await, step("ADDED", "a"));
    assert_eq!(watch.step().await, step("MODIFIED", "a"));
    let last = api.get(&format!("{CONFIG_MAPS}/a")).await.version().to_owned();
    api.delete(&format!("{CONFIG_MAPS}/a")).await;
    let deleted = watch.next().await.unwrap();
    assert_eq!(deleted["type"], "DELETED");
    assert_ne!(
        deleted["object"]["metadata"]["resourceVersion"],
        json!(last),
        "it carries the deletion's version"
    );
}

#[tokio::test]
async fn kn_sees_modified_first_after_the_version_it_read() {
    let api = Api::start().await;
    let created = api.post(SERVICES, &service("hello")).await;
    let path = format!(
        "{SERVICES}?fieldSelector=metadata.name%3Dhello&resourceVersion={}&timeoutSeconds=630&watch=true",
        created.version()
    );
    let mut watch = api.watch(&path).await;
    api.post(SERVICES, &service("other")).await;
    api.patch(
        &format!("{SERVICES}/hello/status"),
        MERGE,
        &json!({"status": {"observedGeneration": 1}}),
    )
    .await;
    assert_eq!(watch.step().await, step("MODIFIED", "hello"));
}

#[tokio::test]
async fn versions_that_are_too_old_or_too_new_end_with_410() {
    let api = Api::start().await;
    let version: u64 = api.get(CONFIG_MAPS).await.version().parse().unwrap();
    let mut watch = api
        .watch(&format!(
            "{CONFIG_MAPS}?watch=true&resourceVersion={}",
            version + 1000
        ))
        .await;
    let event = watch.next().await.unwrap();
    assert_eq!(
        (
            &event["type"],
            &event["object"]["code"],
            &event["object"]["reason"]
        ),
        (&json!("ERROR"), &json!(410), &json!("Expired"))
    );
    assert!(watch.next().await.is_none(), "nothing follows");
    assert_eq!(
        api.get(&format!("{CONFIG_MAPS}?watch=true&resourceVersion=abc"))
            .await
            .code,
        400
    );
}

#[tokio::test]
async fn selectors_turn_changes_into_comings_and_goings() {
    let api = Api::start().await;
    let mut watch = api
        .watch(&format!("{CONFIG_MAPS}?watch=true&labelSelector=on%3Dyes"))
        .await;
    api.post(CONFIG_MAPS, &config_map("a")).await;
    let label = async |value: serde_json::Value| {
        api.patch(
            &format!("{CONFIG_MAPS}/a"),
            MERGE,
            &json!({"metadata": {"labels": {"on": value}}}),
        )
        .await
    };
    label(json!("yes")).await;
    assert_eq!(watch.step().await, step("ADDED", "a"));
    let last = label(json!(null)).await;
    let gone = watch.next().await.unwrap();
    assert_eq!(
        (&gone["type"], &gone["object"]["metadata"]["labels"]["on"]),
        (&json!("DELETED"), &json!("yes"))
    );
    assert_eq!(
        gone["object"]["metadata"]["resourceVersion"],
        json!(last.version())
    );
}

#[tokio::test]
async fn streaming_lists_end_their_state_with_a_bookmark() {
    let api = Api::start().await;
    api.post(CONFIG_MAPS, &config_map("a")).await;
    let query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=0&allowWatchBookmarks=true";
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    assert_eq!(watch.step().await, step("ADDED", "a"));
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(
        bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    api.post(CONFIG_MAPS, &config_map("b")).await;
    assert_eq!(watch.step().await, step("ADDED", "b"));
    let answer = api
        .get(&format!("{CONFIG_MAPS}?watch=true&sendInitialEvents=true"))
        .await;
    assert_eq!(answer.code, 422);
}

#[tokio::test(start_paused = true)]
async fn watches_send_bookmarks_and_end_in_time() {
    let api = Api::start().await;
    let mut watch = api
        .watch(&format!(
            "{CONFIG_MAPS}?watch=true&resourceVersion=0&allowWatchBookmarks=true&timeoutSeconds=70"
        ))
        .await;
    assert_eq!(watch.next_patiently().await.unwrap()["type"], "BOOKMARK");
    assert!(watch.next_patiently().await.is_none());
}

#[tokio::test]
async fn a_stopping_server_ends_its_watches() {
    let api = Api::start().await;
    let mut watch = api.watch(&format!("{CONFIG_MAPS}?watch=true")).await;
    api.handle.shutdown().cancel();
    assert!(watch.next().await.is_none());
}
