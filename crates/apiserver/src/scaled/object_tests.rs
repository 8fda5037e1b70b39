//! What Deployments and ServerlessServices say, in tables.

use super::*;

fn revision() -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
        "metadata": {"name": "hello-00001", "namespace": "default", "uid": "r",
            "annotations": {"autoscaling.knative.dev/window": "6s", "serving.knative.dev/routes": "hello"},
            "labels": {"serving.knative.dev/service": "hello", "serving.knative.dev/routingState": "active"}},
        "spec": {"runtimeClassName": "wasmedge", "containers": [{"image": "hello:v1"}]},
    })
}

fn scaler(replicas: &str, ready: i64, mode: &str) -> Value {
    json!({
        "apiVersion": "autoscaling.internal.knative.dev/v1alpha1", "kind": "PodAutoscaler",
        "metadata": {"name": "hello-00001", "namespace": "default", "uid": "p",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "hello-00001"},
            "annotations": {"autoscaling.knative.dev/metric": "concurrency", "autoscaling.knative.dev/window": "6s"}},
        "spec": {"protocolType": "h2c"},
        "status": {"actualScale": ready, "conditions": [{"type": "Active", "lastTransitionTime": "2026-01-01T00:00:07Z"}],
            "annotations": {"kittiwake.dev/replicas": replicas, "kittiwake.dev/serving-mode": mode,
                "kittiwake.dev/activators": "3"}},
    })
}

#[test]
fn a_deployment_looks_like_knatives() {
    let made = deployment(&revision(), &scaler("3", 1, "Proxy"), None);
    let metadata = &made["metadata"];
    assert_eq!(metadata["name"], "hello-00001-deployment");
    assert_eq!(metadata["generation"], 1);
    assert_eq!(metadata["ownerReferences"][0]["uid"], "r");
    assert_eq!(
        metadata["labels"],
        json!({"serving.knative.dev/service": "hello", "app": "hello-00001",
            "serving.knative.dev/revision": "hello-00001", "serving.knative.dev/revisionUID": "r"})
    );
    assert_eq!(
        metadata["annotations"],
        json!({"autoscaling.knative.dev/window": "6s"})
    );
    assert_eq!(
        made["spec"]["selector"],
        json!({"matchLabels": {"serving.knative.dev/revisionUID": "r"}})
    );
    assert_eq!(made["spec"]["template"]["spec"]["runtimeClassName"], "wasmedge");
    assert_eq!(
        made["spec"]["template"]["spec"]["containers"][0]["image"],
        "hello:v1"
    );
    let counts = |made: &Value| {
        let status = &made["status"];
        [
            "replicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
        ]
        .map(|field| status[field].as_i64().unwrap())
    };
    assert_eq!(counts(&made), [3, 1, 1, 2]);
    assert_eq!(made["status"]["conditions"][0]["status"], "False");
    assert_eq!(
        made["status"]["conditions"][0]["reason"],
        "MinimumReplicasUnavailable"
    );

    let grown = deployment(&revision(), &scaler("3", 3, "Proxy"), Some(&made));
    assert_eq!(counts(&grown), [3, 3, 3, 0]);
    assert_eq!(grown["metadata"]["generation"], 1, "the spec is the same");
    assert_eq!(
        grown["status"]["conditions"][0]["lastTransitionTime"],
        "2026-01-01T00:00:07Z"
    );
    let zero = deployment(&revision(), &scaler("0", 0, "Proxy"), Some(&grown));
    assert_eq!(counts(&zero), [0, 0, 0, 0]);
    assert_eq!(zero["metadata"]["generation"], 2);
    assert_eq!(zero["status"]["observedGeneration"], 2);
    assert_eq!(zero["metadata"]["uid"], made["metadata"]["uid"]);
    let again = deployment(&revision(), &scaler("0", 0, "Proxy"), Some(&zero));
    assert_eq!(again, zero, "nothing changed");
}

#[test]
fn a_serverless_service_says_where_calls_go() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let cold = serverless_service(&scaler("0", 0, "Proxy"), None, at(1));
    assert_eq!(
        cold["spec"],
        json!({"mode": "Proxy", "numActivators": 3, "protocolType": "h2c",
            "objectRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hello-00001-deployment"}})
    );
    assert_eq!(
        cold["metadata"]["annotations"],
        json!({"autoscaling.knative.dev/window": "6s"})
    );
    assert_eq!(cold["metadata"]["ownerReferences"][0]["kind"], "PodAutoscaler");
    assert_eq!(cold["status"]["serviceName"], "hello-00001");
    assert_eq!(cold["status"]["privateServiceName"], "hello-00001-private");
    let said = |made: &Value| -> Vec<String> {
        let conditions = made["status"]["conditions"].as_array().unwrap();
        let one = |one: &Value| {
            format!(
                "{} {} {}",
                text(one, "/type"),
                text(one, "/status"),
                text(one, "/reason")
            )
        };
        conditions.iter().map(one).collect()
    };
    assert_eq!(
        said(&cold),
        [
            "ActivatorEndpointsPopulated True ActivatorEndpointsPopulated",
            "EndpointsPopulated Unknown NoHealthyBackends",
            "Ready Unknown NoHealthyBackends"
        ]
    );
    let warm = serverless_service(&scaler("1", 1, "Serve"), Some(&cold), at(2));
    assert_eq!(warm["spec"]["mode"], "Serve");
    assert_eq!(warm["metadata"]["generation"], 2);
    assert_eq!(
        said(&warm),
        [
            "ActivatorEndpointsPopulated False ActivatorEndpointsPopulated",
            "EndpointsPopulated True ",
            "Ready True "
        ]
    );
    let same = serverless_service(&scaler("1", 1, "Serve"), Some(&warm), at(3));
    assert_eq!(same, warm, "nothing changed");
}
