//! The folders that a Revision's containers find: volumes and their mounts, with ConfigMaps and Secrets looked up.
//!
//! Files of `subPath` mounts are put where they are mounted: a mount is a folder here, so the mount of one file becomes
//! a mount of the folder that it lies in. Instances that stay see new contents of a volume, but not of a part of one; a file
//! that is mounted into the folder of a whole volume goes with that.

use super::environment::serving_container;
use super::spec::bytes;
use crate::object::{Map, Meta};
use bytes::Bytes;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, DownwardAPIVolumeFile, KeyToPath, Secret, ServiceAccountTokenProjection, Volume,
    VolumeProjection,
};
use kittiwake_api::serving::Revision;
use kittiwake_core::volume::{Content, Mount};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most files over all mounts of a Revision.
const FILES_MAX: usize = 10_000;

type Files = BTreeMap<String, Bytes>;

/// What volumes are made of.
pub struct Sources<'a> {
    /// A Secret of the Revision's namespace.
    pub secret: &'a dyn Fn(&str) -> Option<Arc<Secret>>,
    /// A ConfigMap of the Revision's namespace.
    pub config_map: &'a dyn Fn(&str) -> Option<Arc<ConfigMap>>,
    /// A token of the Revision's ServiceAccount, or why there is none.
    pub token: &'a dyn Fn(&ServiceAccountTokenProjection) -> Result<String, String>,
}

/// The mounts of a container, those of outer folders first.
///
/// # Errors
/// A volume that cannot be set up, in kubelet's words.
pub fn of(
    revision: &Revision,
    container: Option<&Container>,
    sources: &Sources<'_>,
) -> Result<Vec<Mount>, String> {
    let volumes = revision.spec.pod_spec.volumes.as_deref().unwrap_or_default();
    let mut mounts = Vec::new();
    // Files that are mounted one by one, by the folder that they lie in.
    let mut single: BTreeMap<String, Files> = BTreeMap::new();
    let mut count = 0;
    for mount in container.iter().flat_map(|c| c.volume_mounts.iter().flatten()) {
        let volume = volumes
            .iter()
            .find(|volume| volume.name == mount.name)
            .ok_or_else(|| format!("volumeMount {:?} has no matching volume", mount.name))?;
        let path = clean(&mount.mount_path);
        let sub_path = mount.sub_path.as_deref().unwrap_or_default();
        if let Some(directory) = &volume.empty_dir {
            let name = if sub_path.is_empty() {
                volume.name.clone()
            } else {
                format!("{}/{}", volume.name, relative(sub_path)?)
            };
            mounts.push(Mount {
                path: path.into(),
                content: Content::Scratch {
                    volume: name.into(),
                    limit: directory.size_limit.as_ref().and_then(bytes),
                },
                fixed: false,
            });
            continue;
        }
        let files = files(volume, revision, sources)?;
        count += files.len();
        if count > FILES_MAX {
            return Err(format!(
                "MountVolume.SetUp failed for volume {:?} : more than {FILES_MAX} files",
                volume.name
            ));
        }
        if sub_path.is_empty() {
            mounts.push(folder(path, files, false));
            continue;
        }
        let sub_path = relative(sub_path)?;
        if let Some(file) = files.get(&sub_path) {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            single
                .entry(parent.to_owned())
                .or_default()
                .insert(name.to_owned(), file.clone());
            continue;
        }
        let below = format!("{sub_path}/");
        let inside = files
            .into_iter()
            .filter_map(|(name, file)| Some((name.strip_prefix(&below)?.to_owned(), file)));
        mounts.push(folder(path, inside.collect(), true));
    }
    for (parent, files) in single {
        if parent.is_empty() {
            return Err("subPath: a single file cannot be mounted in /; choose a folder below it".to_owned());
        }
        match mounts.iter_mut().find(|mount| *mount.path == *parent) {
            Some(Mount {
                content: Content::Files(there),
                ..
            }) => Arc::make_mut(there).extend(files),
            Some(_) => {
                return Err(format!(
                    "subPath: a single file cannot be mounted in {parent:?}, which is an emptyDir"
                ));
            }
            None => mounts.push(folder(parent, files, true)),
        }
    }
    mounts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(mounts)
}

fn folder(path: String, files: Files, fixed: bool) -> Mount {
    Mount {
        path: path.into(),
        content: Content::Files(Arc::new(files)),
        fixed,
    }
}

/// An absolute path without `.`, `..`, doubled slashes and a slash at its end.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A path below a volume.
fn relative(path: &str) -> Result<String, String> {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    if path.starts_with('/') || parts.is_empty() || parts.contains(&"..") {
        return Err(format!(
            "invalid path {path:?}: must be a relative path without '..'"
        ));
    }
    Ok(parts.join("/"))
}

/// The files of a volume.
fn files(volume: &Volume, revision: &Revision, sources: &Sources<'_>) -> Result<Files, String> {
    let failed = |why: String| format!("MountVolume.SetUp failed for volume {:?} : {why}", volume.name);
    if let Some(source) = &volume.config_map {
        let wanted = Wanted {
            name: &source.name,
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
        };
        return of_config_map(&wanted, sources).map_err(failed);
    }
    if let Some(source) = &volume.secret {
        let wanted = Wanted {
            name: source.secret_name.as_deref().unwrap_or_default(),
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
        };
        return of_secret(&wanted, sources).map_err(failed);
    }
    if let Some(projected) = &volume.projected {
        let mut files = Files::new();
        for projection in projected.sources.iter().flatten() {
            files.extend(projection_files(projection, revision, sources).map_err(failed)?);
        }
        return Ok(files);
    }
    Err(failed(
        "a WebAssembly function can mount secret, configMap, projected and emptyDir volumes; this one is of another kind"
            .to_owned(),
    ))
}

fn projection_files(
    projection: &VolumeProjection,
    revision: &Revision,
    sources: &Sources<'_>,
) -> Result<Files, String> {
    if let Some(source) = &projection.config_map {
        let wanted = Wanted {
            name: &source.name,
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
        };
        return of_config_map(&wanted, sources);
    }
    if let Some(source) = &projection.secret {
        let wanted = Wanted {
            name: &source.name,
            items: source.items.as_deref(),
            optional: source.optional == Some(true),
        };
        return of_secret(&wanted, sources);
    }
    if let Some(source) = &projection.downward_api {
        let mut files = Files::new();
        for item in source.items.iter().flatten() {
            files.insert(relative(&item.path)?, downward(item, revision)?.into());
        }
        return Ok(files);
    }
    if let Some(source) = &projection.service_account_token {
        let token = (sources.token)(source)?;
        return Ok([(relative(&source.path)?, token.into())].into());
    }
    Err("a projection of an unknown kind".to_owned())
}

/// What is wanted of a ConfigMap or Secret.
struct Wanted<'a> {
    name: &'a str,
    items: Option<&'a [KeyToPath]>,
    optional: bool,
}

fn of_config_map(wanted: &Wanted<'_>, sources: &Sources<'_>) -> Result<Files, String> {
    let Some(object) = (sources.config_map)(wanted.name) else {
        return wanted.missing("configmap");
    };
    let texts = object.data.iter().flatten();
    let mut all: Files = texts
        .map(|(key, text)| (key.clone(), Bytes::from(text.clone())))
        .collect();
    let binary = object.binary_data.iter().flatten();
    all.extend(binary.map(|(key, bytes)| (key.clone(), Bytes::from(bytes.0.clone()))));
    wanted.choose(all, "configmap")
}

fn of_secret(wanted: &Wanted<'_>, sources: &Sources<'_>) -> Result<Files, String> {
    let Some(object) = (sources.secret)(wanted.name) else {
        return wanted.missing("secret");
    };
    let data = object.data.iter().flatten();
    let all = data.map(|(key, bytes)| (key.clone(), Bytes::from(bytes.0.clone())));
    wanted.choose(all.collect(), "secret")
}

impl Wanted<'_> {
    fn missing(&self, word: &str) -> Result<Files, String> {
        if self.optional {
            return Ok(Files::new());
        }
        Err(format!("{word} {:?} not found", self.name))
    }

    /// All files, or those that `items` names under their paths.
    fn choose(&self, mut all: Files, word: &str) -> Result<Files, String> {
        let Some(items) = self.items.filter(|items| !items.is_empty()) else {
            return Ok(all);
        };
        let mut chosen = Files::new();
        for item in items {
            match all.remove(&item.key) {
                Some(file) => {
                    chosen.insert(relative(&item.path)?, file.clone());
                    // A key may be wanted under several paths.
                    all.insert(item.key.clone(), file);
                }
                None if self.optional => {}
                None => {
                    return Err(format!(
                        "references non-existent {word} key: {} (of {word} {:?})",
                        item.key, self.name
                    ));
                }
            }
        }
        Ok(chosen)
    }
}

fn downward(item: &DownwardAPIVolumeFile, revision: &Revision) -> Result<String, String> {
    if let Some(field) = &item.field_ref {
        return field_of(&field.field_path, revision);
    }
    match &item.resource_field_ref {
        Some(field) => {
            // In a volume the container is always named, in Kubernetes.
            let named = field.container_name.as_deref();
            let containers = &revision.spec.pod_spec.containers;
            let found = containers
                .iter()
                .find(|container| Some(&*container.name) == named);
            resource_of(
                &field.resource,
                field.divisor.as_ref().map(|d| d.0.as_str()),
                found.or_else(|| serving_container(revision)),
            )
        }
        None => Err(format!("downwardAPI item {:?} has no source", item.path)),
    }
}

/// What a `fieldRef` stands for: the pod's metadata is the Revision's here.
///
/// # Errors
/// For fields that only a pod has.
pub fn field_of(path: &str, revision: &Revision) -> Result<String, String> {
    let meta = &revision.metadata;
    let entry = |map: &Option<Map>, key: &str| {
        map.as_ref()
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default()
    };
    let all = |map: &Option<Map>| -> String {
        let lines = map
            .iter()
            .flatten()
            .map(|(key, value)| format!("{key}={value:?}"));
        lines.collect::<Vec<_>>().join("\n")
    };
    if let Some((map, rest)) = path.split_once('[')
        && let Some(key) = rest.strip_suffix(']')
    {
        let key = key.trim_matches(['\'', '"']);
        match map {
            "metadata.labels" => return Ok(entry(&meta.labels, key)),
            "metadata.annotations" => return Ok(entry(&meta.annotations, key)),
            _ => {}
        }
    }
    match path {
        "metadata.name" => Ok(revision.name_str().to_owned()),
        "metadata.namespace" => Ok(meta.namespace.clone().unwrap_or_default()),
        "metadata.uid" => Ok(revision.uid_str().to_owned()),
        "metadata.labels" => Ok(all(&meta.labels)),
        "metadata.annotations" => Ok(all(&meta.annotations)),
        "spec.serviceAccountName" => Ok(revision
            .spec
            .pod_spec
            .service_account_name
            .clone()
            .unwrap_or_else(|| "default".to_owned())),
        "spec.nodeName" | "status.hostIP" | "status.hostIPs" | "status.podIP" | "status.podIPs" => {
            Err(format!(
                "fieldRef {path}: a function has no pod and no address of its own; there are metadata.name, metadata.namespace, \
             metadata.uid, metadata.labels, metadata.annotations and spec.serviceAccountName"
            ))
        }
        other => Err(format!("unsupported fieldPath: {other}")),
    }
}

/// What a `resourceFieldRef` stands for: a limit or request of a container in units of the divisor.
///
/// # Errors
/// For a resource that is not known.
pub fn resource_of(
    resource: &str,
    divisor: Option<&str>,
    container: Option<&Container>,
) -> Result<String, String> {
    use kittiwake_api::quantity::Quantity;
    let unsupported = || format!("unsupported container resource: {resource}");
    let (list, name) = resource.split_once('.').ok_or_else(unsupported)?;
    let resources = container.and_then(|c| c.resources.as_ref());
    let quantities = match list {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(unsupported()),
    };
    let text = quantities
        .and_then(|all| all.get(name))
        .map_or("0", |quantity| quantity.0.as_str());
    let divisor = divisor
        .filter(|text| !text.is_empty() && *text != "0")
        .unwrap_or("1");
    let read = |text: &str| {
        text.parse::<Quantity>()
            .map_err(|error| format!("resourceFieldRef {resource}: {text:?}: {error}"))
    };
    let (value, divisor) = (read(text)?, read(divisor)?);
    let (value, divisor) = if name == "cpu" {
        (value.milli_cpu(), divisor.milli_cpu())
    } else {
        (value.bytes(), divisor.bytes())
    };
    Ok(value.div_ceil(divisor.max(1)).to_string())
}

#[cfg(test)]
#[path = "volumes_tests.rs"]
mod tests;
