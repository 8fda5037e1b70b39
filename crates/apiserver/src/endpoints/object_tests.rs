//! What Endpoints and EndpointSlices say, in tables.

use super::*;

fn scaler(ready: u32, mode: &str, protocol: &str) -> Value {
    json!({
        "apiVersion": "autoscaling.internal.knative.dev/v1alpha1", "kind": "PodAutoscaler",
        "metadata": {"name": "hello-00001", "namespace": "default", "uid": "p",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"serving.knative.dev/service": "hello"},
            "annotations": {"autoscaling.knative.dev/metric": "concurrency"}},
        "spec": {"protocolType": protocol},
        "status": {"actualScale": ready, "annotations": {"kittiwake.dev/serving-mode": mode}},
    })
}

fn pod(name: &str) -> Backend {
    Backend::of_pod(&json!({
        "metadata": {"name": name, "uid": format!("uid of {name}")}, "status": {"podIP": "10.0.0.1"},
    }))
}

fn ending(name: &str) -> Backend {
    Backend {
        terminating: true,
        ..pod(name)
    }
}

/// The pods that Endpoints lead to; an empty name for the activator.
fn targets(endpoints: &Value) -> Vec<String> {
    let addresses = endpoints
        .pointer("/subsets/0/addresses")
        .and_then(Value::as_array);
    let name = |address| text(address, "/targetRef/name").to_owned();
    addresses.into_iter().flatten().map(name).collect()
}

#[test]
fn the_public_one_leads_to_the_activator_or_to_instances() {
    let activator: &[&str] = &[""];
    let (a, b) = (pod("a"), pod("b"));
    for (why, scaler, pods, public, private) in [
        ("at zero", scaler(0, "Proxy", "http1"), vec![], activator, vec![]),
        (
            "a burst may come",
            scaler(2, "Proxy", "http1"),
            vec![a.clone(), b.clone()],
            activator,
            vec!["a", "b"],
        ),
        (
            "there is room for a burst",
            scaler(2, "Serve", "http1"),
            vec![a.clone(), b.clone()],
            &["a", "b"],
            vec!["a", "b"],
        ),
        (
            "one finishes its last calls",
            scaler(1, "Serve", "http1"),
            vec![a.clone(), ending("b")],
            &["a"],
            vec!["a"],
        ),
        (
            "all finish their last calls",
            scaler(1, "Serve", "http1"),
            vec![ending("b")],
            activator,
            vec![],
        ),
        (
            "in memory and idle",
            scaler(0, "Serve", "http1"),
            vec![a.clone()],
            activator,
            vec![],
        ),
    ] {
        let [first, second] = of_revision(&scaler, &pods).map(|facade| facade.endpoints());
        assert_eq!(targets(&first), public, "{why}");
        assert_eq!(targets(&second), private, "{why}");
    }
}

#[test]
fn they_look_like_knatives() {
    let facades = of_revision(&scaler(1, "Proxy", "h2c"), &[pod("a")]);
    let [public, private] = facades.map(|facade| facade.endpoints());
    assert_eq!(object::name(&public), "hello-00001");
    assert_eq!(
        public["metadata"]["labels"],
        json!({"serving.knative.dev/service": "hello",
            "networking.internal.knative.dev/serverlessservice": "hello-00001",
            "networking.internal.knative.dev/serviceType": "Public"})
    );
    assert!(public["metadata"].get("annotations").is_none());
    let owner = &public["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["name"]),
        (&json!("ServerlessService"), &json!("hello-00001"))
    );
    assert_eq!(
        public["subsets"],
        json!([{"addresses": [{"ip": "127.0.0.1", "nodeName": "kittiwake"}],
            "ports": [{"name": "http2", "port": 8013, "protocol": "TCP"}]}])
    );
    assert_eq!(object::name(&private), "hello-00001-private");
    assert_eq!(
        private["subsets"][0]["addresses"],
        json!([{"ip": "10.0.0.1", "nodeName": "kittiwake",
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "a", "uid": "uid of a"}}])
    );
    assert_ne!(object::uid(&public), object::uid(&private));
    let [_, empty] = of_revision(&scaler(0, "Proxy", "http1"), &[]).map(|facade| facade.endpoints());
    assert!(empty.get("subsets").is_none());
}

#[test]
fn slices_have_a_hundred_endpoints_each() {
    for (count, wanted) in [
        (0, vec![0]),
        (1, vec![1]),
        (100, vec![100]),
        (250, vec![100, 100, 50]),
    ] {
        let pods: Vec<Backend> = (0..count).map(|number| pod(&number.to_string())).collect();
        let [_, private] = of_revision(&scaler(count, "Proxy", "http1"), &pods);
        let slices = private.slices();
        let sizes: Vec<usize> = slices
            .iter()
            .map(|(_, slice)| slice["endpoints"].as_array().unwrap().len())
            .collect();
        assert_eq!(sizes, wanted);
        let names: std::collections::BTreeSet<&str> =
            slices.iter().map(|(_, slice)| object::name(slice)).collect();
        assert_eq!(names.len(), slices.len());
        for (number, (_, slice)) in slices.iter().enumerate() {
            assert_eq!(object::name(slice), private.slice_name(number));
            assert_eq!(
                slice["metadata"]["labels"]["kubernetes.io/service-name"],
                "hello-00001-private"
            );
        }
    }
    let [_, private] = of_revision(&scaler(1, "Proxy", "http1"), &[ending("a")]);
    assert_eq!(
        private.slices()[0].1["endpoints"][0]["conditions"],
        json!({"ready": false, "serving": true, "terminating": true})
    );
}
