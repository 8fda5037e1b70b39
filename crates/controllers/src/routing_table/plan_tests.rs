//! Tables for the routing table.

use super::*;
use kittiwake_core::revision::{RevisionKey, RevisionSpec};
use serde_json::{Value, json};

fn route(name: &str, second: i64, labels: Value, traffic: Value) -> Arc<Route> {
    let mut route: Route = serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Route",
        "metadata": { "name": name, "namespace": "default", "labels": labels },
        "spec": {}, "status": { "traffic": traffic },
    }))
    .unwrap();
    let created = jiff::Timestamp::from_second(second).unwrap();
    route.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
    Arc::new(route)
}

/// Every Revision can be called but those named `lost…`.
fn servable(key: &ObjectKey) -> Option<Arc<RevisionSpec>> {
    (!key.name.starts_with("lost")).then(|| {
        Arc::new(RevisionSpec::new(
            RevisionKey::new(Arc::clone(&key.namespace), Arc::clone(&key.name)),
            "u",
            "i",
        ))
    })
}

fn table(routes: &[Arc<Route>]) -> RoutingTable {
    plan(routes, servable, &Config::default())
}

/// `a:70 b:30` of a host.
fn split(table: &RoutingTable, host: &str) -> String {
    let entry = table.lookup(host).unwrap_or_else(|| panic!("{host} is routed"));
    entry
        .targets
        .iter()
        .map(|t| format!("{}:{}", t.revision.key.name, t.percent))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn every_host_of_a_route_and_its_tags_is_there() {
    let traffic = json!([
        { "revisionName": "a", "percent": 70 },
        { "revisionName": "b", "percent": 20, "tag": "next" },
        { "revisionName": "a", "percent": 10 },
        { "revisionName": "c", "tag": "old" },
    ]);
    let table = table(&[route("hello", 0, json!({}), traffic)]);
    for host in [
        "hello.default.localhost",
        "hello.default",
        "hello.default.svc",
        "hello.default.svc.cluster.local",
    ] {
        assert_eq!(split(&table, host), "a:80 b:20", "{host}");
    }
    assert_eq!(split(&table, "next-hello.default.localhost"), "b:100");
    assert_eq!(split(&table, "old-hello.default.svc"), "c:100");
    assert_eq!(table.len(), 12);
}

#[test]
fn local_routes_have_no_outer_host() {
    let labels = json!({ "networking.knative.dev/visibility": "cluster-local" });
    let table = table(&[route(
        "hello",
        0,
        labels,
        json!([{ "revisionName": "a", "percent": 100 }]),
    )]);
    assert!(table.lookup("hello.default.localhost").is_none());
    assert_eq!(split(&table, "hello.default"), "a:100");
}

#[test]
fn revisions_that_cannot_be_called_leave_their_share_to_the_others() {
    let third = json!([
        { "revisionName": "a", "percent": 30 }, { "revisionName": "b", "percent": 30 },
        { "revisionName": "lost", "percent": 40 },
    ]);
    let none = json!([{ "revisionName": "lost", "percent": 100 }]);
    let table = table(&[
        route("one", 0, json!({}), third),
        route("two", 0, json!({}), none),
    ]);
    assert_eq!(split(&table, "one.default"), "a:50 b:50");
    let entry = table.lookup("two.default").unwrap();
    assert_eq!(entry.unready.as_deref(), Some("revision lost is not ready"));
    assert!(entry.targets.is_empty());
}

#[test]
fn the_older_route_keeps_a_host_that_two_claim() {
    let tagged = route(
        "b",
        1,
        json!({}),
        json!([{ "revisionName": "tagged", "percent": 100, "tag": "a" }]),
    );
    let named = route(
        "a-b",
        2,
        json!({}),
        json!([{ "revisionName": "named", "percent": 100 }]),
    );
    assert_eq!(
        split(&table(&[named, tagged]), "a-b.default.localhost"),
        "tagged:100"
    );
}
