//! Pods: what lives now, as kubectl sees it.

use crate::harness::{Api, CONFIG_MAPS, JSON, MERGE, TABLE, config_map, step};
use jiff::Timestamp;
use kittiwake_core::instances::{Ending, Instance, InstanceId, Live, Usage};
use kittiwake_core::log::LogStream;
use kittiwake_core::revision::RevisionKey;
use kittiwake_core::unit::ByteCount;
use serde_json::{Value, json};
use std::time::Duration;

const PODS: &str = "/api/v1/namespaces/default/pods";
const METRICS: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";
const REVISIONS: &str = "/apis/serving.knative.dev/v1/namespaces/default/revisions";

/// A revision that is in memory; its uid.
async fn live(api: &Api, name: &str) -> String {
    let revision = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
        "metadata": {"name": name, "labels": {"serving.knative.dev/service": "hello"}},
        "spec": {"containers": [{"image": "example.com/hello:v1"}]},
    });
    let answer = api.post(REVISIONS, &revision).await;
    assert_eq!(answer.code, 201, "{}", answer.text);
    answer.json["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn tell(api: &Api, revisions: &[(&str, &str)]) {
    let live = revisions.iter().map(|(name, uid)| Live {
        revision: RevisionKey::new("default", *name),
        uid: (*uid).into(),
        since: "2026-01-02T03:04:00Z".parse::<Timestamp>().unwrap(),
        usage: Usage {
            cpu: Duration::from_millis(20),
            window: Duration::from_secs(1),
            memory: ByteCount::mib(3),
        },
        instances: Vec::new(),
    });
    api.instances.tell(0, live.collect());
}

/// All that there is of a revision shall end.
fn all_of(uid: &str) -> Ending {
    Ending {
        revision: uid.into(),
        instance: None,
    }
}

fn count(list: &Value) -> usize {
    list["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn a_pod_is_there_while_its_revision_is_in_memory() {
    let api = Api::start().await;
    assert_eq!(count(&api.get(PODS).await.json), 0);
    let mut watch = api
        .watch(&format!(
            "{PODS}?watch=true&labelSelector=serving.knative.dev/service%3Dhello"
        ))
        .await;
    let uid = live(&api, "hello-00001").await;
    tell(&api, &[("hello-00001", &uid), ("ghost-00001", "no-such-uid")]);
    let list = api.until(PODS, |answer| count(&answer.json) == 1).await.json;
    let pod = &list["items"][0];
    let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
    assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], uid);
    assert_eq!(
        pod["metadata"]["labels"]["serving.knative.dev/revision"],
        "hello-00001"
    );
    assert_eq!(watch.step().await, step("ADDED", &name));

    let table = api.accept(PODS, TABLE).await.json;
    assert_eq!(
        table["rows"][0]["cells"].as_array().unwrap()[..5],
        [json!(name), json!("2/2"), json!("Running"), json!(0), json!("5s")]
    );
    let other = format!("{PODS}?labelSelector=serving.knative.dev/service%3Dother");
    assert_eq!(count(&api.get(&other).await.json), 0);
    let running = format!("{PODS}?fieldSelector=status.phase%3DRunning");
    assert_eq!(count(&api.get(&running).await.json), 1);
    assert_eq!(count(&api.get("/api/v1/pods").await.json), 1);

    let metrics = api.get(&format!("{METRICS}/{name}")).await.json;
    assert_eq!(metrics["kind"], "PodMetrics");
    assert_eq!(
        metrics["containers"][0]["usage"],
        json!({"cpu": "20000000n", "memory": "3072Ki"})
    );

    api.instances.tell(0, Vec::new());
    assert_eq!(watch.step().await, step("DELETED", &name));
    api.until(METRICS, |answer| count(&answer.json) == 0).await;
}

#[tokio::test]
async fn a_deleted_revision_takes_its_pod_with_it() {
    let api = Api::start().await;
    let uid = live(&api, "hello-00001").await;
    tell(&api, &[("hello-00001", &uid)]);
    api.until(PODS, |answer| count(&answer.json) == 1).await;
    api.delete(&format!("{REVISIONS}/hello-00001")).await;
    api.until(PODS, |answer| count(&answer.json) == 0).await;
}

#[tokio::test]
async fn what_a_pod_owns_goes_with_the_pod_and_not_before() {
    let api = Api::start().await;
    let uid = live(&api, "hello-00001").await;
    tell(&api, &[("hello-00001", &uid)]);
    let list = api.until(PODS, |answer| count(&answer.json) == 1).await.json;
    let pod = &list["items"][0]["metadata"];
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": pod["name"], "uid": pod["uid"]});
    let mut owned = config_map("lock");
    owned["metadata"]["ownerReferences"] = json!([owner]);
    assert_eq!(api.post(CONFIG_MAPS, &owned).await.code, 201);
    // One whose owner never was goes at once; when it is gone, the other was looked at too.
    let mut orphan = config_map("orphan");
    orphan["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}]);
    assert_eq!(api.post(CONFIG_MAPS, &orphan).await.code, 201);
    let path = |name: &str| format!("{CONFIG_MAPS}/{name}");
    api.until(&path("orphan"), |answer| answer.code == 404).await;
    assert_eq!(api.get(&path("lock")).await.code, 200);
    api.instances.tell(0, Vec::new());
    api.until(&path("lock"), |answer| answer.code == 404).await;
}

#[tokio::test]
async fn logs_are_those_of_the_revision() {
    let api = Api::start().await;
    let uid = live(&api, "hello-00001").await;
    tell(&api, &[("hello-00001", &uid)]);
    let list = api.until(PODS, |answer| count(&answer.json) == 1).await.json;
    let name = list["items"][0]["metadata"]["name"].as_str().unwrap();
    let log = api.logs.revision(&RevisionKey::new("default", "hello-00001"));
    log.write(LogStream::Stdout, "one");
    log.write(LogStream::Platform, "two");
    let path = |query: &str| format!("{PODS}/{name}/log?{query}");
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let answer = api.send(method, &path(""), JSON, "{}").await;
        assert_eq!(answer.code, 405, "only reading reads: {method}");
    }
    for (query, wanted) in [
        ("container=user-container", "one\ntwo\n"),
        ("container=queue-proxy", "two\n"),
        ("container=user-container&tailLines=1", "two\n"),
        ("container=user-container&limitBytes=2", "on"),
        (
            "container=user-container&timestamps=true&tailLines=1",
            "2026-01-02T03:04:05Z two\n",
        ),
        ("container=user-container&sinceTime=2027-01-01T00:00:00Z", ""),
        ("container=user-container&sinceSeconds=60", "one\ntwo\n"),
    ] {
        let answer = api.get(&path(query)).await;
        assert_eq!((answer.code, answer.text.as_str()), (200, wanted), "{query}");
    }
    for (query, code, wanted) in [
        ("", 400, "a container name must be specified for pod"),
        (
            "container=other",
            400,
            "choose one of: [user-container queue-proxy]",
        ),
        (
            "container=user-container&previous=true",
            400,
            "previous terminated container",
        ),
        ("container=user-container&tailLines=-1", 400, "tailLines"),
        ("container=user-container&sinceTime=now", 422, "sinceTime"),
        (
            "container=user-container&sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
            422,
            "at most one of",
        ),
        ("container=user-container&limitBytes=0", 422, "limitBytes"),
    ] {
        let answer = api.get(&path(query)).await;
        assert_eq!(answer.code, code, "{query} {}", answer.text);
        assert!(answer.message().contains(wanted), "{query} {}", answer.message());
    }
    assert_eq!(
        api.get(&format!("{PODS}/other/log?container=user-container"))
            .await
            .code,
        404
    );
}

#[tokio::test]
async fn a_deleted_pod_goes_once_its_revision_has_begun_anew() {
    let api = Api::start().await;
    let mut endings = api.instances.endings();
    let uid = live(&api, "hello-00001").await;
    tell(&api, &[("hello-00001", &uid)]);
    let list = api.until(PODS, |answer| count(&answer.json) == 1).await.json;
    let name = list["items"][0]["metadata"]["name"].as_str().unwrap().to_owned();
    let path = format!("{PODS}/{name}");
    let wrong = json!({"preconditions": {"uid": "another"}});
    let refused = api.send("DELETE", &path, JSON, wrong.to_string()).await;
    assert_eq!(refused.code, 409, "{}", refused.text);
    let dry = api.send("DELETE", &format!("{path}?dryRun=All"), JSON, "").await;
    assert_eq!(dry.code, 200, "{}", dry.text);
    assert!(endings.try_recv().is_err(), "neither of them asked for anything");

    let deleted = api.send("DELETE", &path, JSON, "").await;
    assert_eq!(deleted.code, 200, "{}", deleted.text);
    assert!(deleted.json["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(endings.try_recv().unwrap(), all_of(&uid));
    let table = api.accept(&path, TABLE).await.json;
    assert_eq!(table["rows"][0]["cells"][2], "Terminating");

    // What began anew is another pod, and nobody has a pod of a name that is gone.
    let since = "2026-01-02T03:04:06Z".parse::<Timestamp>().unwrap();
    let mut again = api.instances.of(0);
    again[0].since = since;
    api.instances.tell(0, again);
    api.until(&path, |answer| answer.code == 404).await;
    let list = api.until(PODS, |answer| count(&answer.json) == 1).await.json;
    let pod = &list["items"][0]["metadata"];
    assert!(pod["name"] != name.as_str() && pod.get("deletionTimestamp").is_none());
    let gone = api.send("DELETE", &path, JSON, "").await;
    assert_eq!(gone.code, 404, "{}", gone.text);
    let all = api.send("DELETE", PODS, JSON, "").await;
    assert_eq!(all.code, 200, "{}", all.text);
    assert_eq!(endings.try_recv().unwrap(), all_of(&uid));
}

#[tokio::test]
async fn a_pod_of_an_instance_that_stays_is_that_instance() {
    let api = Api::start().await;
    let mut endings = api.instances.endings();
    let uid = live(&api, "hello-00001").await;
    let server = json!({"status": {"annotations": {"kittiwake.dev/kind": "server"}}});
    let path = format!("{REVISIONS}/hello-00001/status");
    assert_eq!(api.patch(&path, MERGE, &server).await.code, 200);
    let since = "2026-01-02T03:04:00Z".parse::<Timestamp>().unwrap();
    let instance = |place, ending| Instance {
        id: InstanceId { process: 0, place },
        since,
        ending,
    };
    // Two processes, with places of the same number.
    let tell = |process, instances: &[Instance]| {
        tell(&api, &[("hello-00001", &uid)]);
        let mut live = api.instances.of(0);
        live[0].instances = instances.to_vec();
        api.instances.tell(process, live);
    };
    tell(1, &[instance(1, false)]);
    tell(0, &[instance(1, false), instance(2, false)]);
    let list = api.until(PODS, |answer| count(&answer.json) == 3).await.json;
    let of = |list: &Value, id: &str| -> Value {
        let pods = list["items"].as_array().unwrap().iter();
        let mut found = pods.filter(|pod| pod["metadata"]["annotations"]["kittiwake.dev/instance"] == id);
        found.next().unwrap()["metadata"].clone()
    };
    let metrics = format!("{METRICS}/{}", of(&list, "0/2")["name"].as_str().unwrap());
    assert_eq!(
        api.get(&metrics).await.json["containers"][0]["usage"]["memory"],
        "2048Ki",
        "its part of what the two processes use"
    );

    let deleted = of(&list, "0/2");
    let path = format!("{PODS}/{}", deleted["name"].as_str().unwrap());
    assert_eq!(api.send("DELETE", &path, JSON, "").await.code, 200);
    let wanted = Ending {
        revision: uid.as_str().into(),
        instance: Some(InstanceId { process: 0, place: 2 }),
    };
    assert_eq!(endings.try_recv().unwrap(), wanted);
    // It finishes its calls while another one is there already.
    tell(0, &[instance(1, false), instance(3, false), instance(2, true)]);
    let list = api.until(PODS, |answer| count(&answer.json) == 4).await.json;
    let ends = |id: &str| of(&list, id).get("deletionTimestamp").is_some();
    assert_eq!(
        ["0/1", "0/2", "0/3", "1/1"].map(ends),
        [false, true, false, false]
    );
    // One too many ends by itself and is shown so.
    tell(0, &[instance(3, false), instance(1, true)]);
    let list = api.until(PODS, |answer| count(&answer.json) == 3).await.json;
    let ends = of(&list, "0/1");
    assert!(ends["deletionTimestamp"].is_string(), "{ends}");
    assert!(endings.try_recv().is_err(), "nobody asked for it");
    api.instances.tell(1, Vec::new());
    tell(0, &[]);
    api.until(PODS, |answer| count(&answer.json) == 0).await;
}

#[tokio::test]
async fn nobody_writes_pods() {
    let api = Api::start().await;
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": []}});
    for (method, path) in [
        ("POST", PODS.to_owned()),
        ("PUT", format!("{PODS}/a")),
        ("PATCH", format!("{PODS}/a")),
        ("POST", METRICS.to_owned()),
        ("DELETE", METRICS.to_owned()),
        ("DELETE", format!("{METRICS}/a")),
    ] {
        let answer = api.send(method, &path, JSON, pod.to_string()).await;
        assert_eq!(answer.code, 405, "{method} {path}");
        assert!(
            answer.message().contains("change the Service instead"),
            "{}",
            answer.message()
        );
    }
}

#[tokio::test]
async fn runtime_classes_are_there_from_the_start() {
    let api = Api::start().await;
    let list = api.get("/apis/node.k8s.io/v1/runtimeclasses").await.json;
    let names: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|class| class["handler"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["crun", "wasmedge", "wasmtime"]);
}
