//! Many objects, many events: lists in pieces, and watchers that do not read.

use crate::harness::{Api, CONFIG_MAPS, SERVICES, config_map, service};
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use kittiwake_store::ObjectStore;
use serde_json::{Value, json};
use std::io::Read;
use tower::ServiceExt;

#[tokio::test]
async fn long_lists_are_streamed_and_hold_what_single_reads_give() {
    let api = Api::start().await;
    for n in 0..60 {
        let mut object = config_map(&format!("c{n:02}"));
        object["data"]["pad"] = "é\"\\\n".repeat(2000).into();
        object["metadata"]["labels"] =
            json!({"half": if n % 2 == 0 { "even" } else { "odd" }, "n": n.to_string()});
        assert_eq!(api.post(CONFIG_MAPS, &object).await.code, 201);
    }
    let list = api.get(CONFIG_MAPS).await;
    assert!(list.text.len() > 600_000, "several pieces");
    assert!(
        list.text
            .starts_with(r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"#),
        "{}",
        &list.text[..100]
    );
    let packed = Request::get(CONFIG_MAPS)
        .header("accept-encoding", "gzip")
        .body(Body::empty());
    let packed = api.handle.router().oneshot(packed.unwrap()).await.unwrap();
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let packed = packed.into_body().collect().await.unwrap().to_bytes();
    assert!(packed.len() < list.text.len() / 4);
    let mut unpacked = String::new();
    let mut decoder = flate2::read::GzDecoder::new(&packed[..]);
    decoder.read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, list.text);
    let items = list.json["items"].as_array().unwrap();
    assert_eq!(items.len(), 60);
    for item in items {
        let name = item["metadata"]["name"].as_str().unwrap();
        assert_eq!(api.get(&format!("{CONFIG_MAPS}/{name}")).await.json, *item);
    }
    for (selector, wanted) in [
        ("labelSelector=half%3Deven", 30),
        ("labelSelector=half%21%3Deven", 30),
        ("labelSelector=half+in+(even,odd),n%3E49", 10),
        ("labelSelector=half,n%3D7", 1),
        ("labelSelector=nowhere", 0),
        ("labelSelector=pad", 0),
        ("fieldSelector=metadata.name%3Dc07", 1),
        ("fieldSelector=metadata.name%21%3Dc07", 59),
        ("fieldSelector=metadata.name%3Dc07,metadata.namespace%3Dother", 0),
    ] {
        let found = api.get(&format!("{CONFIG_MAPS}?{selector}")).await;
        assert_eq!(
            found.json["items"].as_array().map(Vec::len),
            Some(wanted),
            "{selector}: {}",
            found.text
        );
    }
    let pretty = api.get(&format!("{CONFIG_MAPS}?pretty=true")).await;
    assert_eq!(pretty.json, list.json);
}

#[tokio::test]
async fn objects_say_their_version_first_however_they_were_written() {
    let api = Api::start().await;
    let written = service("a");
    let turned: Value = json!({"spec": written["spec"], "metadata": written["metadata"], "kind": "Service", "apiVersion": "serving.knative.dev/v1"});
    assert_eq!(api.post(SERVICES, &turned).await.code, 201);
    for path in [SERVICES, &format!("{SERVICES}/a")] {
        let text = api.get(path).await.text;
        assert!(
            text.contains(r#"{"apiVersion":"serving.knative.dev/v1","kind":"Service","#),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_watcher_that_does_not_read_costs_nothing_and_is_cut_off_with_410() {
    let config = kittiwake_store::Config {
        events_kept: 50,
        ..kittiwake_store::Config::default()
    };
    let api = Api::start_with(ObjectStore::in_memory(config)).await;
    let version = api.get(CONFIG_MAPS).await.version().to_owned();
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={version}");
    let mut idle = api.watch(&path).await;
    let mut reading = api.watch(&path).await;
    for n in 0..120 {
        assert_eq!(
            api.post(CONFIG_MAPS, &config_map(&format!("c{n}"))).await.code,
            201
        );
        assert_eq!(reading.step().await.1, format!("c{n}"));
    }
    let event = idle.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    assert_eq!(idle.next().await, None, "and the stream ends");
}
