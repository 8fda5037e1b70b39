//! Tables for volumes.

use super::*;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

fn revision(volumes: Value, mounts: Value) -> Revision {
    serde_json::from_value(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Revision",
        "metadata": { "name": "hello-00001", "namespace": "ns", "uid": "u", "labels": { "a": "1" } },
        "spec": {
            "containers": [{
                "image": "i", "volumeMounts": mounts,
                "resources": { "limits": { "memory": "64Mi", "cpu": "1500m" } },
            }],
            "volumes": volumes,
        },
    }))
    .unwrap()
}

fn config_map(name: &str) -> Option<Arc<ConfigMap>> {
    (name == "settings").then(|| {
        let data = [("a.txt", "A"), ("b.txt", "B")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        Arc::new(ConfigMap {
            data: Some(data.into()),
            binary_data: Some([("bin".to_owned(), ByteString(vec![0, 255]))].into()),
            ..ConfigMap::default()
        })
    })
}

fn secret(name: &str) -> Option<Arc<Secret>> {
    (name == "keys").then(|| {
        Arc::new(Secret {
            data: Some([("key".to_owned(), ByteString(b"K".to_vec()))].into()),
            ..Secret::default()
        })
    })
}

/// `path: file=content …` of each mount.
fn shown(volumes: Value, mounts: Value) -> Result<Vec<String>, String> {
    let sources = Sources {
        secret: &secret,
        config_map: &config_map,
        token: &|projection| match projection.audience.as_deref() {
            Some("nobody") => Err("failed to fetch token".to_owned()),
            audience => Ok(format!("token for {}", audience.unwrap_or("the API"))),
        },
    };
    let revision = revision(volumes, mounts);
    let mounts = of(&revision, serving_container(&revision), &sources)?;
    let show = |mount: &Mount| match &mount.content {
        Content::Files(files) => {
            let files = files
                .iter()
                .map(|(name, file)| format!("{name}={}", String::from_utf8_lossy(file)));
            format!("{}: {}", mount.path, files.collect::<Vec<_>>().join(" "))
        }
        Content::Scratch { volume, limit } => {
            format!("{}: scratch {volume} {:?}", mount.path, limit.map(|l| l.0))
        }
    };
    Ok(mounts.iter().map(show).collect())
}

#[test]
fn volumes_become_folders() {
    for (volumes, mounts, wanted) in [
        (
            json!([{ "name": "v", "configMap": { "name": "settings", "items": [{ "key": "a.txt", "path": "x/y" }] } }]),
            json!([{ "name": "v", "mountPath": "/etc//conf/" }]),
            &["/etc/conf: x/y=A"][..],
        ),
        (
            json!([{ "name": "v", "secret": { "secretName": "keys" } }]),
            json!([{ "name": "v", "mountPath": "/k" }, { "name": "v", "mountPath": "/a" }]),
            &["/a: key=K", "/k: key=K"],
        ),
        (
            json!([{ "name": "v", "configMap": { "name": "gone", "optional": true } }]),
            json!([{ "name": "v", "mountPath": "/k" }]),
            &["/k: "],
        ),
        (
            json!([{ "name": "v", "emptyDir": { "sizeLimit": "1Mi" } }]),
            json!([{ "name": "v", "mountPath": "/tmp/x" }, { "name": "v", "mountPath": "/y", "subPath": "s" }]),
            &["/tmp/x: scratch v Some(1048576)", "/y: scratch v/s Some(1048576)"],
        ),
        (
            json!([{ "name": "v", "projected": { "sources": [
                { "secret": { "name": "keys" } },
                { "configMap": { "name": "settings", "items": [{ "key": "b.txt", "path": "b" }] } },
                { "downwardAPI": { "items": [
                    { "path": "name", "fieldRef": { "fieldPath": "metadata.name" } },
                    { "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } },
                    { "path": "mem", "resourceFieldRef": { "resource": "limits.memory", "divisor": "1Mi" } },
                ] } },
            ] } }]),
            json!([{ "name": "v", "mountPath": "/p" }]),
            &["/p: b=B key=K labels=a=\"1\" mem=64 name=hello-00001"],
        ),
        (
            json!([{ "name": "v", "projected": { "sources": [
                { "serviceAccountToken": { "path": "token" } },
                { "serviceAccountToken": { "path": "other/token", "audience": "vault" } },
            ] } }]),
            json!([{ "name": "v", "mountPath": "/t" }]),
            &["/t: other/token=token for vault token=token for the API"],
        ),
        // One file of a volume, mounted under a name of its own.
        (
            json!([{ "name": "v", "configMap": { "name": "settings", "items": [{ "key": "a.txt", "path": "d/a" }] } }]),
            json!([{ "name": "v", "mountPath": "/etc/app.conf", "subPath": "d/a" }, { "name": "v", "mountPath": "/d", "subPath": "d" }]),
            &["/d: a=A", "/etc: app.conf=A"],
        ),
    ] {
        assert_eq!(shown(volumes, mounts).unwrap(), wanted);
    }
}

#[test]
fn what_is_missing_is_named_as_kubelet_does() {
    for (source, wanted) in [
        (
            json!({ "configMap": { "name": "gone" } }),
            "MountVolume.SetUp failed for volume \"v\" : configmap \"gone\" not found",
        ),
        (
            json!({ "secret": { "secretName": "gone" } }),
            "MountVolume.SetUp failed for volume \"v\" : secret \"gone\" not found",
        ),
        (
            json!({ "secret": { "secretName": "keys", "items": [{ "key": "no", "path": "p" }] } }),
            "MountVolume.SetUp failed for volume \"v\" : references non-existent secret key: no (of secret \"keys\")",
        ),
        (
            json!({ "secret": { "secretName": "keys", "items": [{ "key": "key", "path": "../p" }] } }),
            "MountVolume.SetUp failed for volume \"v\" : invalid path \"../p\": must be a relative path without '..'",
        ),
        (
            json!({ "projected": { "sources": [{ "serviceAccountToken": { "path": "t", "audience": "nobody" } }] } }),
            "MountVolume.SetUp failed for volume \"v\" : failed to fetch token",
        ),
        (
            json!({ "hostPath": { "path": "/" } }),
            "MountVolume.SetUp failed for volume \"v\" : a WebAssembly function can mount secret, configMap, projected and emptyDir volumes; this one is of another kind",
        ),
    ] {
        let mut volume = source;
        volume["name"] = "v".into();
        let mounts = json!([{ "name": "v", "mountPath": "/m" }]);
        assert_eq!(shown(json!([volume]), mounts), Err(wanted.to_owned()));
    }
}

#[test]
fn fields_are_the_revisions() {
    let revision = revision(json!([]), json!([]));
    for (path, wanted) in [
        ("metadata.name", "hello-00001"),
        ("metadata.namespace", "ns"),
        ("metadata.uid", "u"),
        ("metadata.labels['a']", "1"),
        ("metadata.annotations['none']", ""),
        ("spec.serviceAccountName", "default"),
    ] {
        assert_eq!(field_of(path, &revision).as_deref(), Ok(wanted), "{path}");
    }
    assert!(
        field_of("status.podIP", &revision)
            .unwrap_err()
            .contains("no pod")
    );
    assert!(field_of("metadata.odd", &revision).is_err());
    let container = serving_container(&revision);
    assert_eq!(resource_of("limits.cpu", None, container).as_deref(), Ok("2"));
    assert_eq!(
        resource_of("limits.cpu", Some("1m"), container).as_deref(),
        Ok("1500")
    );
    assert_eq!(resource_of("requests.cpu", None, container).as_deref(), Ok("0"));
}
