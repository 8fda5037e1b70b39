//! Files from ConfigMaps and Secrets reach the routing table, and so do their changes.

use crate::platform::{Platform, ready, reason, service};
use k8s_openapi::api::core::v1::ConfigMap;
use kittiwake_api::serving::{Revision, Service};
use kittiwake_core::volume::Content;
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn files_are_mounted_and_follow_their_config_map() {
    let platform = Platform::start().await;
    let mut object = service("hello", "good:v1");
    let spec = &mut object["spec"]["template"]["spec"];
    spec["volumes"] = json!([{ "name": "v", "configMap": { "name": "settings" } }]);
    spec["containers"][0]["volumeMounts"] = json!([{ "name": "v", "mountPath": "/etc/app" }]);
    platform.create::<Service>(object).await;
    let missing = |r: &Revision| reason(r, "ContainerHealthy") == "CreateContainerConfigError";
    platform.wait::<Revision>("hello-00001", missing).await;
    let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" }, "data": { "mode": "a" } });
    platform.create::<ConfigMap>(map).await;
    platform.wait::<Service>("hello", ready).await;
    let has = |table: &kittiwake_core::routing_table::RoutingTable, text: &str| {
        let target = table
            .lookup("hello.default.localhost")
            .and_then(|entry| entry.targets.first().cloned());
        target.is_some_and(|target| match target.revision.mounts.as_slice() {
            [mount] => {
                &*mount.path == "/etc/app"
                    && matches!(&mount.content, Content::Files(files) if files["mode"] == text)
            }
            _ => false,
        })
    };
    platform.wait_for_table(|table| has(table, "a")).await;
    platform
        .merge::<ConfigMap>("settings", json!({ "data": { "mode": "b" } }))
        .await;
    platform.wait_for_table(|table| has(table, "b")).await;
}
