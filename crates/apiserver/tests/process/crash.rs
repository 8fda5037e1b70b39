//! SIGKILL under clients that create, update, patch and delete: what they were told holds.

use crate::child::Server;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How often the server is killed, where something else is wanted than [`KILLS`].
const KILLS_WANTED: &str = "KITTIWAKE_TEST_KILLS";
const KILLS: u64 = 8;
const WRITERS: u64 = 6;
const NAMESPACES: u64 = 3;
/// Objects of each writer.
const NAMES: u64 = 3;

/// What is known of one object: kind, namespace and name are its key.
#[derive(Clone, Default, Debug)]
struct Known {
    /// What was acknowledged last: a number, or that it is gone.
    acknowledged: Option<u64>,
    /// What is under way, if anything is.
    under_way: Option<Option<u64>>,
}

#[derive(Default)]
struct Model {
    objects: BTreeMap<(u64, u64), Known>,
    /// The highest resource version in any answer.
    newest: u64,
}

fn namespace(writer: u64) -> String {
    format!("ns{}", writer % NAMESPACES)
}

fn name(writer: u64, place: u64) -> String {
    format!("w{writer}-{place}")
}

fn version(metadata: &ObjectMeta) -> u64 {
    metadata.resource_version.as_ref().unwrap().parse().unwrap()
}

/// The number that an object holds; Secrets hold it as bytes.
fn number(config_map: &ConfigMap) -> u64 {
    config_map.data.as_ref().unwrap()["n"].parse().unwrap()
}

/// One operation: even writers write ConfigMaps, odd ones Secrets. The answer's version, if there is one.
async fn operate(
    client: &Client,
    writer: u64,
    place: u64,
    before: Option<u64>,
    after: Option<u64>,
) -> Result<u64, kube::Error> {
    let (namespace, name) = (namespace(writer), name(writer, place));
    if writer.is_multiple_of(2) {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
        let object = |n: u64| -> ConfigMap {
            serde_json::from_value(json!({"metadata": {"name": name}, "data": {"n": n.to_string()}})).unwrap()
        };
        let written = match (before, after) {
            (None, Some(n)) => api.create(&PostParams::default(), &object(n)).await?,
            // Updates by PATCH and by PUT in turn.
            (Some(_), Some(n)) if n.is_multiple_of(2) => {
                let patch = json!({"data": {"n": n.to_string()}});
                api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                    .await?
            }
            (Some(_), Some(n)) => {
                let mut changed = api.get(&name).await?;
                changed.data = object(n).data;
                api.replace(&name, &PostParams::default(), &changed).await?
            }
            (_, None) => {
                api.delete(&name, &DeleteParams::default()).await?;
                return Ok(0);
            }
        };
        return Ok(version(&written.metadata));
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    match after {
        Some(n) => {
            let apply = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"n": n.to_string()}, "type": "Opaque"});
            let params = PatchParams::apply("crash").force();
            let written = api.patch(&name, &params, &Patch::Apply(apply)).await?;
            Ok(version(&written.metadata))
        }
        None => {
            api.delete(&name, &DeleteParams::default()).await?;
            Ok(0)
        }
    }
}

/// Writes until the server is gone.
async fn write(client: Client, writer: u64, mut n: u64, model: Arc<Mutex<Model>>) -> u64 {
    loop {
        n += 1;
        let key = (writer, n % NAMES);
        let before = model
            .lock()
            .unwrap()
            .objects
            .get(&key)
            .cloned()
            .unwrap_or_default()
            .acknowledged;
        // Every fourth deletes what is there.
        let after = if n.is_multiple_of(4) && before.is_some() {
            None
        } else {
            Some(n)
        };
        model.lock().unwrap().objects.entry(key).or_default().under_way = Some(after);
        match operate(&client, writer, n % NAMES, before, after).await {
            Ok(version) => {
                let mut model = model.lock().unwrap();
                model.newest = model.newest.max(version);
                model.objects.insert(
                    key,
                    Known {
                        acknowledged: after,
                        under_way: None,
                    },
                );
            }
            // An answer with a status would be a refusal, which nothing here deserves.
            Err(kube::Error::Api(status)) => panic!("writer {writer}, {n}: {status:?}"),
            Err(_) => return n,
        }
    }
}

/// What the server has of each object, and the version of its lists.
async fn read(client: &Client) -> (BTreeMap<(String, String), u64>, u64) {
    let config_maps: Api<ConfigMap> = Api::all(client.clone());
    let secrets: Api<Secret> = Api::all(client.clone());
    let config_maps = config_maps.list(&ListParams::default()).await.unwrap();
    let secrets = secrets.list(&ListParams::default()).await.unwrap();
    let newest = config_maps.metadata.resource_version.unwrap().parse().unwrap();
    let key = |metadata: &ObjectMeta| {
        (
            metadata.namespace.clone().unwrap(),
            metadata.name.clone().unwrap(),
        )
    };
    let mut found = BTreeMap::new();
    let written = |object: &&ConfigMap| object.metadata.namespace.as_deref() != Some("knative-serving");
    for object in config_maps.items.iter().filter(written) {
        found.insert(key(&object.metadata), number(object));
    }
    for object in &secrets.items {
        let bytes = &object.data.as_ref().unwrap()["n"].0;
        found.insert(
            key(&object.metadata),
            str::from_utf8(bytes).unwrap().parse().unwrap(),
        );
    }
    (found, newest)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_were_told_survives_kills() {
    let kills = std::env::var(KILLS_WANTED).map_or(KILLS, |kills| kills.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("objects.redb");
    let model = Arc::new(Mutex::new(Model::default()));
    let mut numbers = vec![0; WRITERS as usize];
    let mut random: u64 = 11;
    for round in 0..=kills {
        let mut server = Server::start(&file);
        if round == 0 {
            let api: Api<Namespace> = Api::all(server.client.clone());
            for writer in 0..NAMESPACES {
                let object = json!({"metadata": {"name": namespace(writer)}});
                let object = serde_json::from_value(object).unwrap();
                api.create(&PostParams::default(), &object).await.unwrap();
            }
        }
        let (mut found, newest) = read(&server.client).await;
        {
            let mut model = model.lock().unwrap();
            assert!(
                newest >= model.newest,
                "round {round}: {newest} after {}",
                model.newest
            );
            model.newest = newest;
            for ((writer, place), known) in &mut model.objects {
                let found = found.remove(&(namespace(*writer), name(*writer, *place)));
                assert!(
                    found == known.acknowledged || known.under_way == Some(found),
                    "round {round}, writer {writer}, object {place}: {found:?}, known {known:?}"
                );
                *known = Known {
                    acknowledged: found,
                    under_way: None,
                };
            }
            assert!(found.is_empty(), "round {round}: nobody made {found:?}");
        }
        if round == kills {
            break;
        }
        let writers = numbers.iter().enumerate().map(|(writer, n)| {
            let (client, model) = (server.client.clone(), Arc::clone(&model));
            tokio::spawn(write(client, writer as u64, *n, model))
        });
        let writers: Vec<_> = writers.collect();
        // A linear congruential generator (Knuth, MMIX): the moments differ, and are the same in every run.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_micros((random >> 33) % 300_000)).await;
        server.kill();
        for (n, writer) in numbers.iter_mut().zip(writers) {
            *n = writer.await.unwrap();
        }
    }
    let written: u64 = numbers.iter().sum();
    assert!(
        written > kills * WRITERS,
        "only {written} operations: nothing was tested"
    );
}
