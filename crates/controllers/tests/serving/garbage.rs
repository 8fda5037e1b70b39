//! Old Revisions go, with virtual time.

use crate::platform::{Platform, image, ready, service};
use kittiwake_api::serving::{Revision, Service};
use serde_json::json;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn old_revisions_go_and_those_in_use_stay() {
    let platform = Platform::start().await;
    let limits = json!({
        "min-non-active-revisions": "1", "max-non-active-revisions": "disabled",
        "retain-since-create-time": "1h", "retain-since-last-active-time": "disabled",
    });
    platform.set("config-gc", limits).await.unwrap();
    platform.create::<Service>(service("hello", "good:v1")).await;
    platform.wait::<Service>("hello", ready).await;
    for version in ["good:v2", "good:v3", "good:v4"] {
        platform.merge::<Service>("hello", image(version)).await;
        platform.settle().await;
        platform.wait::<Service>("hello", ready).await;
    }
    assert_eq!(platform.names::<Revision>().await.len(), 4, "all are young");
    // Nothing happens in between: the collector comes by itself.
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    let mut names = platform.names::<Revision>().await;
    names.sort();
    assert_eq!(names, ["hello-00003", "hello-00004"]);
    // No minimum any more: settings count at once.
    platform
        .set("config-gc", json!({ "min-non-active-revisions": "0" }))
        .await
        .unwrap();
    platform.wait_until_gone::<Revision>("hello-00003").await;
    platform.wait::<Service>("hello", ready).await;
}
