//! ConfigMaps of the platform are followed while it runs.

use crate::platform::{Platform, ready, service};
use k8s_openapi::api::core::v1::ConfigMap;
use kittiwake_api::serving::{Route, Service};
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

fn has_url(wanted: &'static str) -> impl Fn(&Service) -> bool {
    move |service| ready(service) && service.status.as_ref().unwrap().url.as_deref() == Some(wanted)
}

#[tokio::test(start_paused = true)]
async fn the_maps_are_there_from_the_start_with_an_example_only() {
    let platform = Platform::start().await;
    let api: Api<ConfigMap> = Api::namespaced(platform.client.clone(), "knative-serving");
    let maps = api.list(&ListParams::default()).await.unwrap();
    let names: Vec<String> = maps.iter().map(ResourceExt::name_any).collect();
    assert_eq!(
        names,
        [
            "config-autoscaler",
            "config-defaults",
            "config-deployment",
            "config-domain",
            "config-features",
            "config-gc",
            "config-network",
            "config-observability"
        ]
    );
    for map in maps {
        let keys: Vec<_> = map.data.as_ref().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["_example"]);
        assert!(map.annotations().contains_key("knative.dev/example-checksum"));
    }
}

#[tokio::test(start_paused = true)]
async fn urls_follow_config_domain_and_config_network() {
    let platform = Platform::start().await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform
        .wait::<Service>("hello", has_url("http://hello.default.localhost:8080"))
        .await;
    platform
        .set("config-domain", json!({ "example.com": "" }))
        .await
        .unwrap();
    platform
        .wait::<Service>("hello", has_url("http://hello.default.example.com:8080"))
        .await;
    assert_eq!(platform.split("hello.default.example.com"), "hello-00001:100");
    assert!(platform.table().lookup("hello.default.localhost").is_none());
    platform
        .set(
            "config-network",
            json!({ "domain-template": "{{.Name}}-{{.Namespace}}.{{.Domain}}" }),
        )
        .await
        .unwrap();
    platform
        .wait::<Service>("hello", has_url("http://hello-default.example.com:8080"))
        .await;
    platform
        .set("config-domain", json!({ "example.com": null }))
        .await
        .unwrap();
    platform
        .wait::<Service>("hello", has_url("http://hello-default.localhost:8080"))
        .await;
    // After a restart the settings are those of the ConfigMaps from the first moment.
    let mut platform = platform;
    platform.restart().await;
    assert_eq!(platform.split("hello-default.localhost"), "hello-00001:100");
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_refused_and_changes_nothing() {
    let platform = Platform::start().await;
    let refusal = platform
        .set("config-network", json!({ "rollout-duration": "soon" }))
        .await
        .unwrap_err();
    assert!(
        refusal.contains(
            "admission webhook \"config.webhook.serving.knative.dev\" denied the request: validation failed: failed to parse \"rollout-duration\": \"soon\" is not a whole number"
        ),
        "{refusal}"
    );
    let refusal = platform
        .set("config-gc", json!({ "_example": "max-non-active-revisions: 3" }))
        .await
        .unwrap_err();
    assert!(refusal.contains("copy the respective setting"), "{refusal}");
}

/// What another version accepted, or what was edited beside the API: it is kept out, and an Event tells so.
#[tokio::test(start_paused = true)]
async fn nonsense_that_is_stored_leaves_the_last_good_settings_and_is_told() {
    let platform = Platform::start().await;
    platform
        .set("config-domain", json!({ "example.com": "" }))
        .await
        .unwrap();
    platform.create::<Service>(service("hello", "good:v1")).await;
    let url = "http://hello.default.example.com:8080";
    platform.wait::<Service>("hello", has_url(url)).await;
    let key = kittiwake_store::Key::new("configmaps", "knative-serving", "config-domain");
    let nonsense = |old: Option<&kittiwake_store::Stored>| {
        let mut map = (*old.unwrap().object.tree()).clone();
        map["data"] = json!({ "example.com": "selector: [", "other.com": "" });
        Ok::<_, std::convert::Infallible>((kittiwake_store::Change::Put(map), ()))
    };
    platform.store.write(key, nonsense).await.unwrap();
    platform
        .wait_for_event_in("knative-serving", "InvalidConfiguration")
        .await;
    platform.settle().await;
    platform.create::<Service>(service("later", "good:v1")).await;
    let url = "http://later.default.example.com:8080";
    platform.wait::<Service>("later", has_url(url)).await;
}

#[tokio::test(start_paused = true)]
async fn limits_and_defaults_of_new_objects_follow_config_defaults() {
    let platform = Platform::start().await;
    platform
        .set(
            "config-defaults",
            json!({
                "revision-timeout-seconds": "20", "max-revision-timeout-seconds": "30",
                "container-name-template": "{{.Name}}-main", "revision-memory-limit": "32Mi",
            }),
        )
        .await
        .unwrap();
    platform.settle().await;
    let mut object = service("hello", "good:v1");
    object["spec"]["template"]["spec"]["containers"][0]["name"] = json!(null);
    let created = platform.create::<Service>(object.clone()).await;
    let spec = created.spec.template.spec;
    assert_eq!(spec.timeout_seconds, Some(20));
    let container = &spec.pod_spec.containers[0];
    assert_eq!(container.name, "hello-main");
    assert_eq!(
        container.resources.as_ref().unwrap().limits.as_ref().unwrap()["memory"].0,
        "32Mi"
    );
    object["metadata"]["name"] = "slow".into();
    object["spec"]["template"]["spec"]["timeoutSeconds"] = 31.into();
    let slow: Service = serde_json::from_value(object).unwrap();
    let refusal = platform
        .api::<Service>()
        .create(&PostParams::default(), &slow)
        .await
        .unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("expected 0 <= 31 <= 30: spec.template.spec.timeoutSeconds"),
        "{refusal}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_label_takes_a_service_from_the_outside_and_back() {
    let platform = Platform::start().await;
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.wait::<Service>("hello", ready).await;
    let label = |value: serde_json::Value| json!({ "metadata": { "labels": { "networking.knative.dev/visibility": value } } });
    platform
        .merge::<Service>("hello", label(json!("cluster-local")))
        .await;
    platform
        .wait::<Service>("hello", has_url("http://hello.default.svc.cluster.local"))
        .await;
    platform
        .wait_for_table(|table| table.lookup("hello.default.localhost").is_none())
        .await;
    assert_eq!(
        platform.split("hello.default.svc.cluster.local"),
        "hello-00001:100"
    );
    platform.merge::<Service>("hello", label(json!(null))).await;
    platform
        .wait::<Service>("hello", has_url("http://hello.default.localhost:8080"))
        .await;
    let route = platform.get::<Route>("hello").await;
    assert!(ready(&route));
}
