//! Tables for the placeholders of a Route.

use super::*;
use crate::Config;
use kittiwake_api::config::Settings;
use serde_json::{Value, json};

fn route(tags: &[&str]) -> Route {
    let traffic: Vec<Value> = tags
        .iter()
        .map(|tag| json!({"tag": tag, "revisionName": "hello-00001", "percent": 100}))
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Route",
        "metadata": {"name": "hello", "namespace": "default", "uid": "u-1",
            "labels": {"team": "a", meta::VISIBILITY_LABEL: "cluster-local"}, "annotations": {"note": "x"}},
        "spec": {"traffic": traffic},
    }))
    .unwrap()
}

fn run(route: &Route, there: &[Service]) -> Result<Placeholders, String> {
    let there: Vec<Arc<Service>> = there.iter().cloned().map(Arc::new).collect();
    let find = |name: &str| there.iter().find(|service| service.name_str() == name).cloned();
    let labelled: Vec<_> = there
        .iter()
        .filter(|service| service.label(meta::ROUTE_LABEL) == Some("hello"))
        .cloned()
        .collect();
    let settings = Settings::default();
    let naming = Naming {
        config: &Config::default(),
        settings: &settings,
        kept_inside: &|_, _| false,
    };
    plan(
        route,
        Observed {
            service: &find,
            labelled: &labelled,
        },
        naming,
    )
}

fn created(plan: &Placeholders) -> Vec<Service> {
    let created = plan.writes.iter().map(|write| match write {
        Write::Create(service) => service.clone(),
        other => panic!("{other:?}"),
    });
    created.collect()
}

#[test]
fn each_name_of_a_route_has_its_placeholder_and_a_lost_tag_loses_it() {
    let two = run(&route(&["blue", ""]), &[]).unwrap();
    let services = created(&two);
    let names: Vec<&str> = services.iter().map(Meta::name_str).collect();
    assert_eq!(names, ["blue-hello", "hello"]);
    let made = serde_json::to_value(&services[0]).unwrap();
    assert_eq!(
        made["spec"],
        json!({"type": "ExternalName", "externalName": "kittiwake-internal.knative-serving.svc.cluster.local",
            "sessionAffinity": "None",
            "ports": [{"name": "http2", "port": 80, "protocol": "TCP", "targetPort": 80}]})
    );
    assert_eq!(
        made["metadata"]["labels"],
        json!({"team": "a", "serving.knative.dev/route": "hello"}),
        "the Route's visibility stays with the Route"
    );
    assert_eq!(made["metadata"]["annotations"], json!({"note": "x"}));
    assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "u-1");
    assert_eq!(two.notices.len(), 2);

    let again = run(&route(&["blue"]), &services).unwrap();
    assert_eq!(again, Placeholders::default(), "nothing is left to do");
    let fewer = run(&route(&[]), &services).unwrap();
    let removed: Vec<&str> = fewer.remove.iter().map(|service| service.name_str()).collect();
    assert_eq!(removed, ["blue-hello"]);
}

#[test]
fn where_it_points_is_put_right_and_labels_are_the_users() {
    let mut services = created(&run(&route(&[]), &[]).unwrap());
    services[0].spec.as_mut().unwrap().external_name = Some("elsewhere".to_owned());
    let labels = services[0].metadata.labels.as_mut().unwrap();
    labels.insert(
        meta::VISIBILITY_LABEL.to_owned(),
        meta::VISIBILITY_CLUSTER_LOCAL.to_owned(),
    );
    labels.remove("team");
    let plan = run(&route(&[]), &services).unwrap();
    let [Write::Replace(service)] = plan.writes.as_slice() else {
        panic!("{:?}", plan.writes)
    };
    assert_eq!(
        service.metadata.labels, services[0].metadata.labels,
        "left as they are"
    );
    assert_ne!(service.spec, services[0].spec);
    assert!(keeps_inside(&route(&[]), Some(service)));
}

#[test]
fn a_name_that_is_taken_stops_everything() {
    let mut services = created(&run(&route(&["blue"]), &[]).unwrap());
    services[0].metadata.owner_references = None;
    assert_eq!(run(&route(&["blue"]), &services), Err("blue-hello".to_owned()));
    // Somebody else's Service with the Route's label is left alone.
    assert_eq!(run(&route(&[]), &services), Ok(Placeholders::default()));
}

#[test]
fn only_a_placeholder_of_the_route_keeps_a_name_inside() {
    let labelled = |labels: Value| {
        serde_json::from_value::<Service>(json!({"metadata": {"name": "hello", "labels": labels}})).unwrap()
    };
    let (local, of) = (meta::VISIBILITY_LABEL, meta::ROUTE_LABEL);
    for (labels, kept) in [
        (json!({of: "hello", local: "cluster-local"}), true),
        (json!({of: "other", local: "cluster-local"}), false),
        (json!({of: "hello"}), false),
        (json!({local: "cluster-local"}), false),
    ] {
        assert_eq!(
            keeps_inside(&route(&[]), Some(&labelled(labels.clone()))),
            kept,
            "{labels}"
        );
    }
    assert!(!keeps_inside(&route(&[]), None));
}

#[test]
fn a_name_that_is_too_long_has_no_placeholder() {
    let names = created(&run(&route(&[&"x".repeat(60)]), &[]).unwrap());
    assert_eq!(names.len(), 1);
}
