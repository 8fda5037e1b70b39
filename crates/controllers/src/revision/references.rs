//! Which Secrets and ConfigMaps a Revision reads.

use crate::object::ObjectKey;
use k8s_openapi::api::core::v1::ServiceAccount;
use kittiwake_api::serving::Revision;
use std::collections::BTreeSet;

/// The Secrets and ConfigMaps that a Revision reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Secrets, those for pulling included.
    pub secrets: BTreeSet<ObjectKey>,
    /// ConfigMaps.
    pub config_maps: BTreeSet<ObjectKey>,
    /// Names in `imagePullSecrets`, in order.
    pub pull_secrets: Vec<String>,
}

/// What a Revision reads.
#[must_use]
pub fn of(revision: &Revision) -> References {
    let key = ObjectKey::of(revision);
    let pod = &revision.spec.pod_spec;
    let pull_secrets: Vec<String> = pod
        .image_pull_secrets
        .iter()
        .flatten()
        .map(|secret| secret.name.clone())
        .filter(|n| !n.is_empty())
        .collect();
    let mut references = References {
        secrets: pull_secrets
            .iter()
            .map(|name| key.sibling(name.as_str()))
            .collect(),
        config_maps: BTreeSet::new(),
        pull_secrets,
    };
    for volume in pod.volumes.iter().flatten() {
        let mut secrets = Vec::new();
        let mut config_maps = Vec::new();
        secrets.extend(volume.secret.as_ref().and_then(|s| s.secret_name.as_deref()));
        config_maps.extend(volume.config_map.as_ref().map(|c| c.name.as_str()));
        let projected = volume.projected.as_ref();
        for projection in projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            secrets.extend(projection.secret.as_ref().map(|s| s.name.as_str()));
            config_maps.extend(projection.config_map.as_ref().map(|c| c.name.as_str()));
        }
        let key = |name: &str| key.sibling(name);
        references.secrets.extend(secrets.into_iter().map(key));
        references.config_maps.extend(config_maps.into_iter().map(key));
    }
    for container in &pod.containers {
        for source in container.env_from.iter().flatten() {
            references
                .config_maps
                .extend(source.config_map_ref.iter().map(|r| key.sibling(r.name.as_str())));
            references
                .secrets
                .extend(source.secret_ref.iter().map(|r| key.sibling(r.name.as_str())));
        }
        for source in container
            .env
            .iter()
            .flatten()
            .filter_map(|variable| variable.value_from.as_ref())
        {
            references.config_maps.extend(
                source
                    .config_map_key_ref
                    .iter()
                    .map(|r| key.sibling(r.name.as_str())),
            );
            references
                .secrets
                .extend(source.secret_key_ref.iter().map(|r| key.sibling(r.name.as_str())));
        }
    }
    references
}

/// The ServiceAccount of a Revision.
#[must_use]
pub fn service_account(revision: &Revision) -> &str {
    let name = revision.spec.pod_spec.service_account_name.as_deref();
    name.filter(|name| !name.is_empty()).unwrap_or("default")
}

/// The Secrets that artifacts are pulled with: the Revision's own, else those of its ServiceAccount (kubernetes
/// `plugin/pkg/admission/serviceaccount`).
#[must_use]
pub fn pull_secrets(references: &References, account: Option<&ServiceAccount>) -> Vec<String> {
    if !references.pull_secrets.is_empty() {
        return references.pull_secrets.clone();
    }
    let secrets = account
        .iter()
        .flat_map(|account| account.image_pull_secrets.iter().flatten());
    secrets
        .map(|secret| secret.name.clone())
        .filter(|name| !name.is_empty())
        .collect()
}
