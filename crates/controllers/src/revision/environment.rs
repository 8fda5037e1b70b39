//! The environment variables of a Revision's containers, with ConfigMaps and Secrets looked up.

use super::volumes;
use crate::object::Meta;
use k8s_openapi::api::core::v1::{
    ConfigMap, Container, EnvFromSource, EnvVar, Secret, ServiceAccountTokenProjection,
};
use kittiwake_api::meta;
use kittiwake_api::serving::Revision;
use kittiwake_core::revision::PORT_DEFAULT;
use kittiwake_core::volume::Mount;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The container that takes the calls: the one with a port, else the first.
#[must_use]
pub fn serving_container(revision: &Revision) -> Option<&Container> {
    let containers = &revision.spec.pod_spec.containers;
    containers
        .iter()
        .find(|c| c.ports.as_ref().is_some_and(|p| !p.is_empty()))
        .or_else(|| containers.first())
}

/// The containers beside it, in their order.
pub fn sidecars(revision: &Revision) -> impl Iterator<Item = &Container> {
    let serving = serving_container(revision);
    let containers = revision.spec.pod_spec.containers.iter();
    containers.filter(move |container| !serving.is_some_and(|serving| std::ptr::eq(*container, serving)))
}

/// The port that the container of a Revision takes calls on. A port that is only named has Knative's default (serving
/// `pkg/reconciler/revision/resources/deploy.go`, `getUserPort`).
#[must_use]
pub fn serving_port(revision: &Revision) -> u16 {
    serving_container(revision)
        .and_then(|container| container.ports.as_ref()?.first())
        .and_then(|port| u16::try_from(port.container_port).ok())
        .filter(|port| *port != 0)
        .unwrap_or(PORT_DEFAULT)
}

/// What a container finds around it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Surroundings {
    /// Environment variables, in order.
    pub env: Vec<(String, String)>,
    /// Folders.
    pub mounts: Vec<Mount>,
    /// What those beside it find.
    pub sidecars: Vec<Surroundings>,
}

/// The surroundings of the serving container, and of those beside it.
///
/// # Errors
/// What is missing, in kubelet's words.
pub fn surroundings(
    revision: &Revision,
    secret: &dyn Fn(&str) -> Option<Arc<Secret>>,
    config_map: &dyn Fn(&str) -> Option<Arc<ConfigMap>>,
    token: &dyn Fn(&ServiceAccountTokenProjection) -> Result<String, String>,
) -> Result<Surroundings, String> {
    let sources = volumes::Sources {
        secret,
        config_map,
        token,
    };
    let one = |container: Option<&Container>, port: Option<u16>| {
        Ok::<_, String>(Surroundings {
            env: of(revision, container, port, secret, config_map)?,
            mounts: volumes::of(revision, container, &sources)?,
            sidecars: Vec::new(),
        })
    };
    let beside = sidecars(revision).map(|container| {
        let found = one(Some(container), None);
        found.map_err(|missing| format!("container {:?}: {missing}", container.name))
    });
    Ok(Surroundings {
        sidecars: beside.collect::<Result<_, _>>()?,
        ..one(serving_container(revision), Some(serving_port(revision)))?
    })
}

/// Environment of a container in order, Knative's own variables last: `PORT` for the one that takes calls there (serving
/// `pkg/reconciler/revision/resources/deploy.go`, `makeContainer` and `makeServingContainer`).
///
/// # Errors
/// A Secret, a ConfigMap or a key in one that is missing, or a source that is not supported, in kubelet's words.
pub fn of(
    revision: &Revision,
    container: Option<&Container>,
    port: Option<u16>,
    secret: impl Fn(&str) -> Option<Arc<Secret>>,
    config_map: impl Fn(&str) -> Option<Arc<ConfigMap>>,
) -> Result<Vec<(String, String)>, String> {
    let mut environment = Vec::new();
    for source in container.iter().flat_map(|c| c.env_from.iter().flatten()) {
        for (name, value) in all_of(source, &secret, &config_map)? {
            set(&mut environment, name, value);
        }
    }
    for variable in container.iter().flat_map(|c| c.env.iter().flatten()) {
        if let Some(value) = value_of(variable, revision, container, &secret, &config_map)? {
            set(&mut environment, variable.name.clone(), value);
        }
    }
    if let Some(port) = port {
        set(&mut environment, "PORT".to_owned(), port.to_string());
    }
    set(
        &mut environment,
        "K_REVISION".to_owned(),
        revision.name_str().to_owned(),
    );
    for (name, label) in [
        ("K_CONFIGURATION", meta::CONFIGURATION_LABEL),
        ("K_SERVICE", meta::SERVICE_LABEL),
    ] {
        set(
            &mut environment,
            name.to_owned(),
            revision.label(label).unwrap_or_default().to_owned(),
        );
    }
    Ok(environment)
}

/// A later variable replaces an earlier one of its name, as in a pod.
fn set(environment: &mut Vec<(String, String)>, name: String, value: String) {
    environment.retain(|(other, _)| *other != name);
    environment.push((name, value));
}

fn all_of(
    source: &EnvFromSource,
    secret: &impl Fn(&str) -> Option<Arc<Secret>>,
    config_map: &impl Fn(&str) -> Option<Arc<ConfigMap>>,
) -> Result<Vec<(String, String)>, String> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    if let Some(reference) = &source.config_map_ref {
        match config_map(&reference.name) {
            Some(object) => found.extend(
                object
                    .data
                    .iter()
                    .flatten()
                    .map(|(k, v)| (format!("{prefix}{k}"), v.clone())),
            ),
            None if reference.optional == Some(true) => {}
            None => return Err(format!("configmap {:?} not found", reference.name)),
        }
    }
    if let Some(reference) = &source.secret_ref {
        match secret(&reference.name) {
            Some(object) => found.extend(
                texts(&object)
                    .into_iter()
                    .map(|(k, v)| (format!("{prefix}{k}"), v)),
            ),
            None if reference.optional == Some(true) => {}
            None => return Err(format!("secret {:?} not found", reference.name)),
        }
    }
    Ok(found)
}

/// The values of a Secret that are text; others cannot be environment variables.
fn texts(secret: &Secret) -> BTreeMap<String, String> {
    let text = |(key, value): (&String, &k8s_openapi::ByteString)| {
        String::from_utf8(value.0.clone())
            .ok()
            .map(|value| (key.clone(), value))
    };
    secret.data.iter().flatten().filter_map(text).collect()
}

/// The value of one variable; `None` when its optional source is not there.
fn value_of(
    variable: &EnvVar,
    revision: &Revision,
    container: Option<&Container>,
    secret: &impl Fn(&str) -> Option<Arc<Secret>>,
    config_map: &impl Fn(&str) -> Option<Arc<ConfigMap>>,
) -> Result<Option<String>, String> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(variable.value.clone().unwrap_or_default()));
    };
    let namespace = revision.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(reference) = &source.config_map_key_ref {
        let object = config_map(&reference.name);
        let found = object
            .as_ref()
            .map(|o| o.data.as_ref().and_then(|data| data.get(&reference.key)).cloned());
        return one(
            "configmap",
            "ConfigMap",
            namespace,
            &reference.name,
            &reference.key,
            reference.optional,
            found,
        );
    }
    if let Some(reference) = &source.secret_key_ref {
        let object = secret(&reference.name);
        let found = object.as_ref().map(|o| texts(o).remove(&reference.key));
        return one(
            "secret",
            "Secret",
            namespace,
            &reference.name,
            &reference.key,
            reference.optional,
            found,
        );
    }
    let named = |why: String| format!("env {}: {why}", variable.name);
    if let Some(field) = &source.field_ref {
        return volumes::field_of(&field.field_path, revision)
            .map(Some)
            .map_err(named);
    }
    if let Some(field) = &source.resource_field_ref {
        let divisor = field.divisor.as_ref().map(|divisor| divisor.0.as_str());
        return volumes::resource_of(&field.resource, divisor, container)
            .map(Some)
            .map_err(named);
    }
    Err(named(
        "valueFrom takes configMapKeyRef, secretKeyRef, fieldRef or resourceFieldRef".to_owned(),
    ))
}

fn one(
    word: &str,
    kind: &str,
    namespace: &str,
    name: &str,
    key: &str,
    optional: Option<bool>,
    found: Option<Option<String>>,
) -> Result<Option<String>, String> {
    match found {
        Some(Some(value)) => Ok(Some(value)),
        _ if optional == Some(true) => Ok(None),
        Some(None) => Err(format!("couldn't find key {key} in {kind} {namespace}/{name}")),
        None => Err(format!("{word} {name:?} not found")),
    }
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
