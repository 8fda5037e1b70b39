//! Which Secrets and ConfigMaps a Revision reads.

use crate::object::ObjectKey;
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
