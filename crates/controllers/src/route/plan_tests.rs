//! Tables for the plan of a Route.

use super::*;
use crate::object::ObjectKey;
use kittiwake_api::condition::find;
use kittiwake_core::revision::{RevisionKey, RevisionSpec};
use kittiwake_core::routing_table::RoutingTable;
use serde_json::{Value, json};

fn route(traffic: Value, labels: Value) -> Route {
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Route",
        "metadata": { "name": "hello", "namespace": "default", "generation": 1, "labels": labels },
        "spec": { "traffic": traffic },
    }))
    .unwrap()
}

/// `ready`, `failed`, `waiting` and `gone`, each with a latest ready Revision or not, as the name says.
fn configuration(name: &str) -> Option<Arc<Configuration>> {
    let (latest, status) = match name {
        "ready" => (Some("one"), "True"),
        "dangling" => (Some("gone"), "True"),
        "failed" => (None, "False"),
        "waiting" => (None, "Unknown"),
        _ => return None,
    };
    let object = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Configuration", "metadata": { "name": name },
        "spec": {}, "status": { "latestReadyRevisionName": latest, "conditions": [{ "type": "Ready", "status": status }] },
    });
    Some(Arc::new(serde_json::from_value(object).unwrap()))
}

fn revision(name: &str) -> Option<Arc<Revision>> {
    let status = match name {
        "one" | "two" => "True",
        "failed" => "False",
        "waiting" => "Unknown",
        _ => return None,
    };
    let object = json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision", "metadata": { "name": name, "namespace": "default" },
        "spec": { "containers": [] }, "status": { "conditions": [{ "type": "Ready", "status": status }] },
    });
    Some(Arc::new(serde_json::from_value(object).unwrap()))
}

fn config() -> Config {
    Config {
        external_port: Some(8080),
        ..Config::default()
    }
}

fn run(route: &Route, table: &RoutingTable) -> Plan {
    plan(
        route,
        &configuration,
        &revision,
        &|host: &str| table.lookup(host).cloned(),
        &config(),
        Timestamp::UNIX_EPOCH,
    )
}

/// The routing table that is made of a Route.
fn table(route: &Route) -> RoutingTable {
    let servable = |key: &ObjectKey| {
        Some(Arc::new(RevisionSpec::new(
            RevisionKey::new(Arc::clone(&key.namespace), Arc::clone(&key.name)),
            "u",
            "i",
        )))
    };
    crate::routing_table::plan::plan(&[Arc::new(route.clone())], servable, &config())
}

fn says(status: &RouteStatus, type_: &str) -> (&'static str, String, String) {
    let condition = find(&status.conditions, type_).unwrap();
    (
        condition.status.as_str(),
        condition.reason.clone(),
        condition.message.clone(),
    )
}

#[test]
fn traffic_becomes_revisions_with_urls() {
    let traffic = json!([
        { "configurationName": "ready", "latestRevision": true, "percent": 90 },
        { "revisionName": "two", "percent": 10, "tag": "next" },
    ]);
    let mut route = route(traffic, json!({}));
    let status = run(&route, &RoutingTable::default()).status.unwrap();
    assert_eq!(status.url.as_deref(), Some("http://hello.default.localhost:8080"));
    assert_eq!(
        status.address.as_ref().unwrap().url.as_deref(),
        Some("http://hello.default.svc.cluster.local")
    );
    assert_eq!(
        serde_json::to_value(&status.traffic).unwrap(),
        json!([
            { "revisionName": "one", "latestRevision": true, "percent": 90 },
            { "tag": "next", "revisionName": "two", "latestRevision": false, "percent": 10,
              "url": "http://next-hello.default.localhost:8080" },
        ])
    );
    assert_eq!(says(&status, "AllTrafficAssigned").0, "True");
    assert_eq!(says(&status, "CertificateProvisioned").1, "TLSNotEnabled");
    assert_eq!(
        says(&status, "Ready").1,
        "Uninitialized",
        "the gateway does not have it yet"
    );

    route.status = Some(status);
    assert_eq!(run(&route, &RoutingTable::default()).status, None, "nothing new");
    let published = run(&route, &table(&route));
    assert_eq!(published.notices[0].reason, "RouteReady");
    route.status = published.status;
    assert_eq!(says(route.status.as_ref().unwrap(), "Ready").0, "True");
    assert_eq!(
        run(&route, &RoutingTable::default()).status,
        None,
        "after a restart it stays ready"
    );

    // Moving traffic is not ready before the gateway has it.
    let old = table(&route);
    route.spec.traffic = vec![TrafficTarget {
        revision_name: Some("two".to_owned()),
        percent: Some(100),
        ..TrafficTarget::default()
    }];
    let moved = run(&route, &old).status.unwrap();
    assert_eq!(
        (says(&moved, "Ready").0, says(&moved, "Ready").1),
        ("Unknown", "Uninitialized".to_owned())
    );
}

#[test]
fn local_routes_have_local_urls() {
    let labels = json!({ "networking.knative.dev/visibility": "cluster-local" });
    let traffic = json!([{ "revisionName": "one", "percent": 100, "tag": "t" }]);
    let status = run(&route(traffic, labels), &RoutingTable::default())
        .status
        .unwrap();
    assert_eq!(
        status.url.as_deref(),
        Some("http://hello.default.svc.cluster.local")
    );
    assert_eq!(
        status.traffic[0].url.as_deref(),
        Some("http://t-hello.default.svc.cluster.local")
    );
}

#[test]
fn bad_targets_are_named_and_leave_the_traffic_where_it_is() {
    for (target, status, reason, message) in [
        (
            json!({ "configurationName": "gone" }),
            "False",
            "ConfigurationMissing",
            "Configuration \"gone\" referenced in traffic not found.",
        ),
        (
            json!({ "configurationName": "failed" }),
            "False",
            "RevisionMissing",
            "Configuration \"failed\" does not have any ready Revision.",
        ),
        (
            json!({ "configurationName": "waiting" }),
            "Unknown",
            "RevisionMissing",
            "Configuration \"waiting\" is waiting for a Revision to become ready.",
        ),
        (
            json!({ "configurationName": "dangling" }),
            "False",
            "RevisionMissing",
            "Revision \"gone\" referenced in traffic not found.",
        ),
        (
            json!({ "revisionName": "gone" }),
            "False",
            "RevisionMissing",
            "Revision \"gone\" referenced in traffic not found.",
        ),
        (
            json!({ "revisionName": "failed" }),
            "False",
            "RevisionMissing",
            "Revision \"failed\" failed to become ready.",
        ),
        (
            json!({ "revisionName": "waiting" }),
            "Unknown",
            "RevisionMissing",
            "Revision \"waiting\" is not yet ready.",
        ),
    ] {
        let mut target = target;
        target["percent"] = 100.into();
        let mut route = route(json!([target]), json!({}));
        route.status = Some(
            serde_json::from_value(json!({ "traffic": [{ "revisionName": "one", "percent": 100 }] }))
                .unwrap(),
        );
        let got = run(&route, &RoutingTable::default()).status.unwrap();
        assert_eq!(
            says(&got, "AllTrafficAssigned"),
            (status, reason.to_owned(), message.to_owned())
        );
        assert_eq!(
            says(&got, "Ready"),
            (status, reason.to_owned(), message.to_owned())
        );
        assert_eq!(got.traffic[0].revision_name.as_deref(), Some("one"));
    }
}
