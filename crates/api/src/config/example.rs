//! The ConfigMaps as they are at the first start: only the key `_example`, which explains the others (knative/pkg
//! `configmap/example.go`).

use super::{NAMES, NAMESPACE};
use serde_json::{Value, json};

/// The key that is never read.
pub const EXAMPLE_KEY: &str = "_example";
/// The annotation with the example's checksum: by it one is found who changed the example instead of the settings.
pub const CHECKSUM_ANNOTATION: &str = "knative.dev/example-checksum";

/// The example of a ConfigMap; empty for one that is not ours.
#[must_use]
pub fn text(name: &str) -> &'static str {
    match name {
        "config-autoscaler" => include_str!("example/config-autoscaler.yaml"),
        "config-defaults" => include_str!("example/config-defaults.yaml"),
        "config-deployment" => include_str!("example/config-deployment.yaml"),
        "config-domain" => include_str!("example/config-domain.yaml"),
        "config-features" => include_str!("example/config-features.yaml"),
        "config-gc" => include_str!("example/config-gc.yaml"),
        "config-network" => include_str!("example/config-network.yaml"),
        "config-observability" => include_str!("example/config-observability.yaml"),
        _ => "",
    }
}

/// The checksum of an example: CRC-32 of it without blanks at its ends, in hexadecimal.
#[must_use]
pub fn checksum(example: &str) -> String {
    format!("{:08x}", crc32fast::hash(example.trim().as_bytes()))
}

/// A ConfigMap as it is to be: that of the first start, or the one that is there with the example of this version.
/// `None` when nothing has to change.
#[must_use]
pub fn ensured(name: &str, old: Option<&Value>) -> Option<Value> {
    let example = text(name);
    let mut map = old.cloned().unwrap_or_else(|| {
        let component = match name {
            "config-autoscaler" => "autoscaler",
            "config-network" => "networking",
            "config-observability" => "observability",
            _ => "controller",
        };
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": name, "namespace": NAMESPACE,
                "labels": {"app.kubernetes.io/name": "knative-serving", "app.kubernetes.io/component": component},
            },
        })
    });
    for (parent, key, value) in [
        ("/data", EXAMPLE_KEY, example.to_owned()),
        ("/metadata/annotations", CHECKSUM_ANNOTATION, checksum(example)),
    ] {
        let (above, member) = parent.rsplit_once('/').unwrap_or_default();
        let above = map.pointer_mut(above)?.as_object_mut()?;
        let entries = above.entry(member).or_insert(Value::Null);
        if !entries.is_object() {
            *entries = json!({});
        }
        entries.as_object_mut()?.insert(key.to_owned(), value.into());
    }
    (Some(&map) != old).then_some(map)
}

/// The ConfigMaps that are there from the first start.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Data, Settings};

    #[test]
    fn examples_say_the_defaults() {
        for name in names().filter(|name| *name != "config-domain") {
            let data: Data = serde_yaml_ng::from_str(text(name)).unwrap();
            let mut settings = Settings::default();
            let unknown = settings.set(name, Some(&data)).unwrap();
            assert_eq!(unknown, [""; 0], "{name}");
            // Said and not said differ here alone.
            settings.deployment.progress_deadline = None;
            assert_eq!(settings, Settings::default(), "{name}");
        }
        let domains: Data = serde_yaml_ng::from_str(text("config-domain")).unwrap();
        assert!(Settings::default().set("config-domain", Some(&domains)).is_ok());
    }

    #[test]
    fn checksums_are_knatives() {
        // `printf %s "hello" | gzip -c | tail -c8 | od -tx4`
        assert_eq!(checksum("\n hello\n"), "3610a686");
        assert_eq!(checksum(""), "00000000");
    }

    #[test]
    fn what_users_set_stays_and_the_example_is_renewed() {
        let first = ensured("config-gc", None).unwrap();
        assert_eq!(ensured("config-gc", Some(&first)), None);
        let mut old = first.clone();
        old["data"] = json!({"_example": "old", "max-non-active-revisions": "7"});
        let renewed = ensured("config-gc", Some(&old)).unwrap();
        assert_eq!(renewed["data"]["max-non-active-revisions"], "7");
        assert_eq!(renewed["data"][EXAMPLE_KEY], text("config-gc"));
        assert_eq!(
            renewed["metadata"]["annotations"][CHECKSUM_ANNOTATION],
            checksum(text("config-gc"))
        );
    }
}
