//! `config-deployment`: how revisions are brought up (serving `pkg/deployment/config.go`).

use super::reader::{ConfigError, Reader};
use crate::duration::GoDuration;
use std::time::Duration;

/// The ConfigMap's name.
pub const NAME: &str = "config-deployment";

/// The settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Time that a Revision has to become ready, where its annotation does not say. `None`: what the platform says.
    pub progress_deadline: Option<Duration>,
    /// Time that turning a tag into a digest may take.
    pub digest_resolution_timeout: Duration,
    /// Registries whose tags are not turned into digests.
    pub registries_skipping_tag_resolving: Vec<String>,
}

impl Default for Deployment {
    fn default() -> Self {
        Self {
            progress_deadline: None,
            digest_resolution_timeout: Duration::from_secs(10),
            registries_skipping_tag_resolving: ["kind.local", "ko.local", "dev.local"]
                .map(str::to_owned)
                .into(),
        }
    }
}

/// Keys for Knative's sidecar: read for their form only, because there is none here.
const SIDECAR_QUANTITIES: [[&str; 2]; 6] = [
    ["queue-sidecar-cpu-request", "queueSidecarCPURequest"],
    ["queue-sidecar-cpu-limit", "queueSidecarCPULimit"],
    ["queue-sidecar-memory-request", "queueSidecarMemoryRequest"],
    ["queue-sidecar-memory-limit", "queueSidecarMemoryLimit"],
    [
        "queue-sidecar-ephemeral-storage-request",
        "queueSidecarEphemeralStorageRequest",
    ],
    [
        "queue-sidecar-ephemeral-storage-limit",
        "queueSidecarEphemeralStorageLimit",
    ],
];
/// Other keys of Knative's that mean nothing without pods.
const WITHOUT_MEANING: [[&str; 2]; 9] = [
    ["queue-sidecar-image", "queueSidecarImage"],
    ["concurrency-state-endpoint", "concurrencyStateEndpoint"],
    ["queue-sidecar-tokens", "queue-sidecar-token-audiences"],
    ["queue-sidecar-rootca", "queue-sidecar-rootca"],
    ["runtime-class-name", "runtime-class-name"],
    ["affinity", "affinity"],
    ["default-affinity-type", "default-affinity-type"],
    ["pod-is-always-schedulable", "pod-is-always-schedulable"],
    ["queueSidecarTokens", "queueSidecarTokenAudiences"],
];

impl Deployment {
    /// Reads the ConfigMap.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let defaults = Self::default();
        for keys in SIDECAR_QUANTITIES {
            reader.quantity(&keys)?;
        }
        for keys in WITHOUT_MEANING {
            reader.find(&keys);
        }
        let registries = reader.find(&[
            "registries-skipping-tag-resolving",
            "registriesSkippingTagResolving",
        ]);
        Ok(Self {
            progress_deadline: positive(
                reader,
                ["progress-deadline", "progressDeadline"],
                "progress-deadline",
                true,
            )?,
            digest_resolution_timeout: positive(
                reader,
                ["digest-resolution-timeout", "digestResolutionTimeout"],
                "digest-resolution-timeout",
                false,
            )?
            .unwrap_or(defaults.digest_resolution_timeout),
            registries_skipping_tag_resolving: registries
                .map_or(defaults.registries_skipping_tag_resolving, |(_, text)| {
                    text.split(',').map(|name| name.trim().to_owned()).collect()
                }),
        })
    }
}

fn positive(
    reader: &Reader<'_>,
    keys: [&'static str; 2],
    name: &str,
    whole_seconds: bool,
) -> Result<Option<Duration>, ConfigError> {
    let Some((_, text)) = reader.find(&keys) else {
        return Ok(None);
    };
    let duration = reader.duration(&keys, GoDuration::default())?;
    let std = duration.to_std().filter(|duration| !duration.is_zero());
    let Some(std) = std else {
        let message = format!("{name} cannot be a non-positive duration, was {duration}");
        return Err(ConfigError::new(name, text, message));
    };
    if whole_seconds && !duration.is_whole_seconds() {
        let message = format!("{name} must be rounded to a whole second, was: {duration}");
        return Err(ConfigError::new(name, text, message));
    }
    Ok(Some(std))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Data;

    fn read(pairs: &[(&str, &str)]) -> Result<Deployment, String> {
        let data: Data = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Deployment::read(&Reader::new(&data)).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_read() {
        assert_eq!(read(&[]), Ok(Deployment::default()));
        let set = read(&[
            ("progressDeadline", "2m"),
            ("registries-skipping-tag-resolving", "a, b"),
            ("queue-sidecar-image", "x"),
        ])
        .unwrap();
        assert_eq!(set.progress_deadline, Some(Duration::from_secs(120)));
        assert_eq!(set.registries_skipping_tag_resolving, ["a", "b"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for (key, value, wanted) in [
            (
                "progress-deadline",
                "0s",
                "progress-deadline cannot be a non-positive duration, was 0s",
            ),
            (
                "progress-deadline",
                "1500ms",
                "progress-deadline must be rounded to a whole second, was: 1.5s",
            ),
            (
                "digest-resolution-timeout",
                "-1s",
                "digest-resolution-timeout cannot be a non-positive duration, was -1s",
            ),
            (
                "queue-sidecar-cpu-request",
                "much",
                "failed to parse \"queue-sidecar-cpu-request\": \"much\" is not a quantity such as 100m or 64Mi",
            ),
        ] {
            assert_eq!(read(&[(key, value)]), Err(wanted.to_owned()));
        }
    }
}
