//! `config-defaults`: what is filled in where users say nothing, and how far they may go (serving
//! `pkg/apis/config/defaults.go`).

use super::reader::{ConfigError, Reader};
use super::template::{Shape, Template, Values};
use std::collections::BTreeMap;

/// The ConfigMap's name.
pub const NAME: &str = "config-defaults";

/// The settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// `timeoutSeconds`.
    pub revision_timeout_seconds: i64,
    /// The greatest `timeoutSeconds`.
    pub max_revision_timeout_seconds: i64,
    /// `responseStartTimeoutSeconds`.
    pub revision_response_start_timeout_seconds: i64,
    /// `idleTimeoutSeconds`; 0 for none.
    pub revision_idle_timeout_seconds: i64,
    /// `containerConcurrency`; 0 for no limit.
    pub container_concurrency: i64,
    /// The greatest `containerConcurrency`.
    pub container_concurrency_max_limit: i64,
    /// Whether `containerConcurrency` may be 0.
    pub allow_container_concurrency_zero: bool,
    /// `enableServiceLinks`; `None` leaves it to the platform.
    pub enable_service_links: Option<bool>,
    /// Requests and limits by resource: (`requests` or `limits`, `cpu`, …) and quantity.
    pub resources: Vec<(&'static str, &'static str, String)>,
    container_name: Template,
}

/// What a template of a container's name may speak of: the metadata of the object that has the template.
const CONTAINER_NAME_SHAPE: Shape = Shape {
    name: "container-template",
    texts: &["Name", "GenerateName", "Namespace", "UID"],
    maps: &["Labels", "Annotations"],
};
/// The name of a container without one.
const CONTAINER_NAME: &str = "user-container";

const RESOURCES: [(&str, &str, &str); 6] = [
    ("revision-cpu-request", "requests", "cpu"),
    ("revision-memory-request", "requests", "memory"),
    (
        "revision-ephemeral-storage-request",
        "requests",
        "ephemeral-storage",
    ),
    ("revision-cpu-limit", "limits", "cpu"),
    ("revision-memory-limit", "limits", "memory"),
    ("revision-ephemeral-storage-limit", "limits", "ephemeral-storage"),
];

impl Default for Defaults {
    fn default() -> Self {
        Self {
            revision_timeout_seconds: 300,
            max_revision_timeout_seconds: 600,
            revision_response_start_timeout_seconds: 300,
            revision_idle_timeout_seconds: 0,
            container_concurrency: 0,
            container_concurrency_max_limit: 1000,
            allow_container_concurrency_zero: true,
            enable_service_links: Some(false),
            resources: Vec::new(),
            container_name: Template::trusted(CONTAINER_NAME_SHAPE, CONTAINER_NAME),
        }
    }
}

impl Defaults {
    /// Reads the ConfigMap.
    ///
    /// # Errors
    /// The first value that cannot be used, or two that contradict each other.
    pub fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let stock = Self::default();
        let timeout = reader.integer(&["revision-timeout-seconds"], stock.revision_timeout_seconds)?;
        let read = Self {
            revision_timeout_seconds: timeout,
            max_revision_timeout_seconds: reader.integer(
                &["max-revision-timeout-seconds"],
                stock.max_revision_timeout_seconds,
            )?,
            revision_response_start_timeout_seconds: reader
                .integer(&["revision-response-start-timeout-seconds"], timeout)?,
            revision_idle_timeout_seconds: reader.integer(&["revision-idle-timeout-seconds"], 0)?,
            container_concurrency: reader.integer(&["container-concurrency"], 0)?,
            container_concurrency_max_limit: reader.integer(
                &["container-concurrency-max-limit"],
                stock.container_concurrency_max_limit,
            )?,
            allow_container_concurrency_zero: reader.boolean(&["allow-container-concurrency-zero"], true)?,
            enable_service_links: reader.word(
                &["enable-service-links"],
                stock.enable_service_links,
                &[("true", Some(true)), ("false", Some(false)), ("default", None)],
            )?,
            resources: resources(reader)?,
            container_name: template(reader, "container-name-template", stock.container_name)?,
        };
        // Read for its form only: there are no init containers here.
        template(
            reader,
            "init-container-name-template",
            read.container_name.clone(),
        )?;
        read.check()?;
        Ok(read)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let timeout = self.revision_timeout_seconds;
        for (key, value, other, limit) in [
            (
                "revision-timeout-seconds",
                timeout,
                "max-revision-timeout-seconds",
                self.max_revision_timeout_seconds,
            ),
            (
                "revision-response-start-timeout-seconds",
                self.revision_response_start_timeout_seconds,
                "revision-timeout-seconds",
                timeout,
            ),
            (
                "revision-idle-timeout-seconds",
                self.revision_idle_timeout_seconds,
                "revision-timeout-seconds",
                timeout,
            ),
        ] {
            if value > limit {
                let message = format!("{key} ({value}) cannot be greater than {other} ({limit})");
                return Err(ConfigError::new(key, value, message));
            }
            if value < 0 {
                let message = format!("{key} ({value}) cannot be less than 0");
                return Err(ConfigError::new(key, value, message));
            }
        }
        let max = self.container_concurrency_max_limit;
        for (key, value, range) in [
            ("container-concurrency-max-limit", max, 1..=i64::from(i32::MAX)),
            ("container-concurrency", self.container_concurrency, 0..=max),
        ] {
            if !range.contains(&value) {
                let message = format!("expected {} <= {value} <= {}: {key}", range.start(), range.end());
                return Err(ConfigError::new(key, value, message));
            }
        }
        Ok(())
    }

    /// The name of a container that has none, in an object of this name and namespace.
    #[must_use]
    pub fn container_name(
        &self,
        name: &str,
        generate_name: &str,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> String {
        self.container_name.fill(&Values {
            texts: &[
                ("Name", name),
                ("GenerateName", generate_name),
                ("Namespace", namespace),
            ],
            maps: &[("Labels", labels), ("Annotations", annotations)],
        })
    }
}

fn resources(reader: &Reader<'_>) -> Result<Vec<(&'static str, &'static str, String)>, ConfigError> {
    let mut resources = Vec::new();
    for (key, list, resource) in RESOURCES {
        if let Some(quantity) = reader.quantity(&[key])? {
            resources.push((list, resource, quantity));
        }
    }
    Ok(resources)
}

fn template(reader: &Reader<'_>, key: &'static str, default: Template) -> Result<Template, ConfigError> {
    match reader.find(&[key]) {
        None => Ok(default),
        Some((key, text)) => {
            Template::parse(CONTAINER_NAME_SHAPE, text).map_err(|why| ConfigError::new(key, text, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Data;

    fn read(pairs: &[(&str, &str)]) -> Result<Defaults, String> {
        let data: Data = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Defaults::read(&Reader::new(&data)).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_read() {
        assert_eq!(read(&[]), Ok(Defaults::default()));
        let set = read(&[
            ("revision-timeout-seconds", "100"),
            ("revision-cpu-request", "400m"),
            ("container-name-template", "{{.Name}}-c"),
            ("enable-service-links", "default"),
        ])
        .unwrap();
        assert_eq!(
            set.revision_response_start_timeout_seconds, 100,
            "it follows the timeout"
        );
        assert_eq!(set.resources, [("requests", "cpu", "400m".to_owned())]);
        assert_eq!(set.enable_service_links, None);
        let nothing = BTreeMap::new();
        assert_eq!(set.container_name("a", "", "ns", &nothing, &nothing), "a-c");
    }

    #[test]
    fn nonsense_is_refused() {
        for (pairs, wanted) in [
            (
                &[("revision-timeout-seconds", "700")][..],
                "revision-timeout-seconds (700) cannot be greater than max-revision-timeout-seconds (600)",
            ),
            (
                &[("revision-idle-timeout-seconds", "301")],
                "revision-idle-timeout-seconds (301) cannot be greater than revision-timeout-seconds (300)",
            ),
            (
                &[("container-concurrency", "1001")],
                "expected 0 <= 1001 <= 1000: container-concurrency",
            ),
            (
                &[("container-concurrency-max-limit", "0")],
                "expected 1 <= 0 <= 2147483647: container-concurrency-max-limit",
            ),
            (
                &[("revision-memory-limit", "lots")],
                "failed to parse \"revision-memory-limit\": \"lots\" is not a quantity such as 100m or 64Mi",
            ),
            (
                &[("container-name-template", "{{.Nope}}")],
                "template: container-template:1: no field .Nope; there are .Name, .GenerateName, .Namespace, .UID, .Labels, .Annotations",
            ),
        ] {
            assert_eq!(read(pairs), Err(wanted.to_owned()));
        }
    }
}
