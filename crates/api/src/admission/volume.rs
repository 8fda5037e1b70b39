//! Volumes and their mounts (serving `pkg/apis/serving/k8s_validation.go`).

use super::{FieldErrors, json, syntax};
use crate::config::features::{self, Features};
use crate::quantity::Quantity;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What a volume may be made of.
const SOURCES: [&str; 4] = ["secret", "configMap", "projected", "emptyDir"];
/// What a projected volume may be made of.
const PROJECTIONS: [&str; 4] = ["secret", "configMap", "serviceAccountToken", "downwardAPI"];
/// Places where nothing can be mounted.
const RESERVED_PATHS: [&str; 3] = ["/", "/dev", "/dev/log"];

/// The names of volumes that may be mounted to be written.
pub fn writable_names(spec: &Value) -> BTreeSet<String> {
    let writable = |volume: &&Value| is_writable(volume);
    json::items(spec, "volumes")
        .iter()
        .filter(writable)
        .map(|v| json::text(v, "name").to_owned())
        .collect()
}

fn is_writable(volume: &Value) -> bool {
    ["emptyDir", "persistentVolumeClaim", "ephemeral"]
        .iter()
        .any(|source| json::object(volume, source).is_some())
}

/// The volumes by name.
pub fn by_name(spec: &Value) -> BTreeMap<&str, &Value> {
    json::items(spec, "volumes")
        .iter()
        .map(|volume| (json::text(volume, "name"), volume))
        .collect()
}

/// What is wrong with the volumes of a pod that these containers mount.
pub fn validate(features: &Features, spec: &Value, containers: &[Value]) -> FieldErrors {
    let mounted: BTreeSet<&str> = containers
        .iter()
        .flat_map(|container| json::items(container, "volumeMounts"))
        .map(|mount| json::text(mount, "name"))
        .collect();
    let mut errors = FieldErrors::none();
    let mut names = BTreeSet::new();
    for (index, volume) in json::items(spec, "volumes").iter().enumerate() {
        let name = json::text(volume, "name");
        let mut wrong = one(features, volume);
        if !names.insert(name) {
            wrong.also(FieldErrors::generic(
                format!("duplicate volume name {name:?}"),
                &["name"],
            ));
        }
        if !mounted.contains(name) {
            wrong.also(FieldErrors::generic(
                format!("volume with name {name:?} not mounted"),
                &["name"],
            ));
        }
        errors.also(wrong.via_index("volumes", index));
    }
    errors
}

fn one(features: &Features, volume: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let name = json::text(volume, "name");
    if name.is_empty() {
        errors.also(FieldErrors::missing(&["name"]));
    } else if !syntax::dns_1123_label(name).is_empty() {
        errors.also(FieldErrors::invalid(name, "name"));
    }
    let beyond: Vec<&str> = json::set_beyond(volume, &SOURCES)
        .into_iter()
        .filter(|field| *field != "name")
        .collect();
    if !beyond.is_empty() {
        errors.also(FieldErrors::disallowed(&beyond));
    }
    match sources(volume, &SOURCES).as_slice() {
        [] if beyond.is_empty() => errors.also(FieldErrors::missing_one_of(&SOURCES)),
        [] | [_] => {}
        several => errors.also(FieldErrors::multiple_one_of(several)),
    }
    for source in ["secret", "configMap"] {
        if let Some(files) = json::object(volume, source) {
            errors.also(keys_to_paths(files).via(source));
        }
    }
    if let Some(projected) = json::object(volume, "projected") {
        for (index, projection) in json::items(projected, "sources").iter().enumerate() {
            errors.also(self::projection(projection).via_index("projected", index));
        }
    }
    if let Some(directory) = json::object(volume, "emptyDir") {
        if !features.has(features::EMPTY_DIR) {
            let message = format!("EmptyDir volume support is disabled, but found EmptyDir volume {name}");
            errors.also(FieldErrors::generic(message, &[""]));
        }
        errors.also(empty_dir(directory).via("emptyDir"));
    }
    errors
}

fn sources<'a>(volume: &Value, names: &[&'a str]) -> Vec<&'a str> {
    names
        .iter()
        .copied()
        .filter(|source| json::object(volume, source).is_some())
        .collect()
}

fn keys_to_paths(files: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    for (index, item) in json::items(files, "items").iter().enumerate() {
        let missing: Vec<&str> = ["key", "path"]
            .into_iter()
            .filter(|f| json::text(item, f).is_empty())
            .collect();
        if !missing.is_empty() {
            errors.also(FieldErrors::missing(&missing).via_index("items", index));
        }
    }
    errors
}

fn projection(projection: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let beyond = json::set_beyond(projection, &PROJECTIONS);
    if !beyond.is_empty() {
        errors.also(FieldErrors::disallowed(&beyond));
    }
    match sources(projection, &PROJECTIONS).as_slice() {
        [] => errors.also(FieldErrors::missing_one_of(&PROJECTIONS)),
        [_] => {}
        several => errors.also(FieldErrors::multiple_one_of(several)),
    }
    for source in ["secret", "configMap"] {
        let Some(files) = json::object(projection, source) else {
            continue;
        };
        if json::text(files, "name").is_empty() {
            errors.also(FieldErrors::missing(&["name"]).via(source));
        }
        errors.also(keys_to_paths(files).via(source));
    }
    if let Some(token) = json::object(projection, "serviceAccountToken")
        && json::text(token, "path").is_empty()
    {
        errors.also(FieldErrors::missing(&["serviceAccountToken.path"]));
    }
    if let Some(downward) = json::object(projection, "downwardAPI") {
        for (index, file) in json::items(downward, "items").iter().enumerate() {
            errors.also(downward_file(file).via_index("items", index).via("downwardAPI"));
        }
    }
    errors
}

fn downward_file(file: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    match sources(file, &["fieldRef", "resourceFieldRef"]).as_slice() {
        [] => errors.also(FieldErrors::missing_one_of(&["fieldRef", "resourceFieldRef"])),
        [_] => {}
        both => errors.also(FieldErrors::generic(
            "Within a single item, cannot set both",
            both,
        )),
    }
    if json::text(file, "path").is_empty() {
        errors.also(FieldErrors::missing(&["path"]));
    }
    errors
}

fn empty_dir(directory: &Value) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let medium = json::text(directory, "medium");
    if !["", "Memory"].contains(&medium) {
        errors.also(FieldErrors::invalid(medium, "medium"));
    }
    let limit = json::text(directory, "sizeLimit");
    if !limit.is_empty() && limit.parse::<Quantity>().map_or(true, Quantity::is_negative) {
        errors.also(FieldErrors::invalid(limit, "sizeLimit"));
    }
    errors
}

/// What is wrong with the mounts of a container. `volumes`: those of the pod, by name.
pub fn validate_mounts(mounts: &[Value], volumes: &BTreeMap<&str, &Value>) -> FieldErrors {
    let mut errors = FieldErrors::none();
    let mut paths = BTreeSet::new();
    for (index, mount) in mounts.iter().enumerate() {
        let mut wrong = FieldErrors::none();
        let beyond = json::set_beyond(mount, &["name", "readOnly", "mountPath", "subPath"]);
        if !beyond.is_empty() {
            wrong.also(FieldErrors::disallowed(&beyond));
        }
        let volume = volumes.get(json::text(mount, "name"));
        if volume.is_none() {
            wrong.also(FieldErrors::generic(
                "volumeMount has no matching volume",
                &["name"],
            ));
        }
        wrong.also(mount_path(json::text(mount, "mountPath"), &mut paths));
        let read_only = mount.get("readOnly").is_some_and(json::is_set);
        if !read_only && !volume.is_some_and(|volume| is_writable(volume)) {
            let message = "volume mount should be readOnly for this type of volume";
            wrong.also(FieldErrors::generic(message, &["readOnly"]));
        }
        errors.also(wrong.via(&format!("[{index}]")));
    }
    errors
}

fn mount_path(path: &str, seen: &mut BTreeSet<String>) -> FieldErrors {
    if path.is_empty() {
        return FieldErrors::missing(&["mountPath"]);
    }
    if !path.starts_with('/') {
        return FieldErrors::invalid(path, "mountPath");
    }
    let clean = clean(path);
    if RESERVED_PATHS.contains(&clean.as_str()) {
        return FieldErrors::generic(format!("mountPath {clean:?} is a reserved path"), &["mountPath"]);
    }
    if !seen.insert(clean) {
        return FieldErrors::invalid(format!("{path:?} must be unique"), "mountPath");
    }
    FieldErrors::none()
}

/// An absolute path without `.`, `..` and doubled slashes (Go `path.Clean`).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned() {
        for (path, wanted) in [
            ("/", "/"),
            ("//a/./b/", "/a/b"),
            ("/a/../dev", "/dev"),
            ("/../..", "/"),
            ("/dev/log/", "/dev/log"),
        ] {
            assert_eq!(clean(path), wanted, "{path}");
        }
    }
}
