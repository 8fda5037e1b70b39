//! `config-features`: what users may write that is not for everyone (serving `pkg/apis/config/features.go`).

use super::reader::{ConfigError, Reader};
use std::collections::BTreeMap;

/// The ConfigMap's name.
pub const NAME: &str = "config-features";

/// Whether a feature can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// It is on.
    Enabled,
    /// Users may ask for it.
    Allowed,
    /// It is off.
    Disabled,
}

/// Several containers in one Revision.
pub const MULTI_CONTAINER: &str = "multi-container";
/// Probes of containers that do not take the calls.
pub const MULTI_CONTAINER_PROBING: &str = "multi-container-probing";
/// `fieldRef` and `resourceFieldRef` in environment variables.
pub const FIELD_REF: &str = "kubernetes.podspec-fieldref";
/// Scratch folders.
pub const EMPTY_DIR: &str = "kubernetes.podspec-volumes-emptydir";
/// Containers that run before the others.
pub const INIT_CONTAINERS: &str = "kubernetes.podspec-init-containers";
/// The request header `Knative-Serving-Tag`.
pub const TAG_HEADER: &str = "tag-header-based-routing";
/// That the pod of a template is tried before the template is accepted.
pub const POD_DRY_RUN: &str = "kubernetes.podspec-dryrun";
/// Capabilities that are added.
pub const ADD_CAPABILITIES: &str = "kubernetes.containerspec-addcapabilities";

const OFF: Flag = Flag::Disabled;

/// Every flag with its default.
const FLAGS: [(&str, Flag); 33] = [
    ("autodetect-http2", OFF),
    (ADD_CAPABILITIES, OFF),
    ("kubernetes.podspec-affinity", OFF),
    ("kubernetes.podspec-dnsconfig", OFF),
    ("kubernetes.podspec-dnspolicy", OFF),
    (POD_DRY_RUN, Flag::Allowed),
    (FIELD_REF, OFF),
    ("kubernetes.podspec-hostaliases", OFF),
    ("kubernetes.podspec-hostipc", OFF),
    ("kubernetes.podspec-hostnetwork", OFF),
    ("kubernetes.podspec-hostpid", OFF),
    (INIT_CONTAINERS, OFF),
    ("kubernetes.podspec-nodeselector", OFF),
    ("kubernetes.podspec-persistent-volume-claim", OFF),
    ("kubernetes.podspec-persistent-volume-write", OFF),
    ("kubernetes.podspec-priorityclassname", OFF),
    ("kubernetes.podspec-runtimeclassname", OFF),
    ("kubernetes.podspec-schedulername", OFF),
    ("kubernetes.podspec-securitycontext", OFF),
    ("kubernetes.podspec-shareprocessnamespace", OFF),
    ("kubernetes.podspec-tolerations", OFF),
    ("kubernetes.podspec-topologyspreadconstraints", OFF),
    ("kubernetes.podspec-volumes-csi", OFF),
    (EMPTY_DIR, Flag::Enabled),
    ("kubernetes.podspec-volumes-ephemeral", OFF),
    ("kubernetes.podspec-volumes-hostpath", OFF),
    ("kubernetes.podspec-volumes-image", OFF),
    ("kubernetes.podspec-volumes-mount-propagation", OFF),
    (MULTI_CONTAINER, Flag::Enabled),
    (MULTI_CONTAINER_PROBING, OFF),
    ("queueproxy.mount-podinfo", OFF),
    ("queueproxy.resource-defaults", OFF),
    (TAG_HEADER, OFF),
];
/// The flag that has one value more.
const SECURE_POD_DEFAULTS: &str = "secure-pod-defaults";

/// The fields of a pod's spec that a flag opens.
const FIELDS: [(&str, &str); 14] = [
    ("kubernetes.podspec-affinity", "affinity"),
    ("kubernetes.podspec-dnsconfig", "dnsConfig"),
    ("kubernetes.podspec-dnspolicy", "dnsPolicy"),
    ("kubernetes.podspec-hostaliases", "hostAliases"),
    ("kubernetes.podspec-hostipc", "hostIPC"),
    ("kubernetes.podspec-hostnetwork", "hostNetwork"),
    ("kubernetes.podspec-hostpid", "hostPID"),
    ("kubernetes.podspec-nodeselector", "nodeSelector"),
    ("kubernetes.podspec-priorityclassname", "priorityClassName"),
    ("kubernetes.podspec-schedulername", "schedulerName"),
    ("kubernetes.podspec-securitycontext", "securityContext"),
    (
        "kubernetes.podspec-shareprocessnamespace",
        "shareProcessNamespace",
    ),
    ("kubernetes.podspec-tolerations", "tolerations"),
    (
        "kubernetes.podspec-topologyspreadconstraints",
        "topologySpreadConstraints",
    ),
];

/// The flags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    flags: BTreeMap<&'static str, Flag>,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            flags: FLAGS.into_iter().collect(),
        }
    }
}

impl Features {
    /// Reads the ConfigMap.
    ///
    /// # Errors
    /// The first value that is no flag's.
    pub fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let words = [
            ("enabled", Flag::Enabled),
            ("allowed", Flag::Allowed),
            ("disabled", Flag::Disabled),
        ];
        let mut flags = BTreeMap::new();
        for (key, default) in FLAGS {
            flags.insert(key, reader.word(&[key], default, &words)?);
        }
        let secure = [
            ("enabled", ()),
            ("allowed", ()),
            ("disabled", ()),
            ("allowrootbounded", ()),
        ];
        reader.word(&[SECURE_POD_DEFAULTS], (), &secure)?;
        Ok(Self { flags })
    }

    /// Whether a feature can be had: enabled or allowed.
    #[must_use]
    pub fn has(&self, flag: &str) -> bool {
        self.flags.get(flag).is_some_and(|flag| *flag != Flag::Disabled)
    }

    /// Whether a feature is on without being asked for.
    #[must_use]
    pub fn is_enabled(&self, flag: &str) -> bool {
        self.flags.get(flag) == Some(&Flag::Enabled)
    }

    /// The fields of a pod's spec that flags open.
    pub fn pod_fields(&self) -> impl Iterator<Item = &'static str> {
        FIELDS
            .iter()
            .filter(|(flag, _)| self.has(flag))
            .map(|(_, field)| *field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Data;

    #[test]
    fn flags_are_off_but_for_two() {
        let features = Features::default();
        let on: Vec<&str> = FLAGS
            .iter()
            .map(|(key, _)| *key)
            .filter(|key| features.is_enabled(key))
            .collect();
        assert_eq!(on, [EMPTY_DIR, MULTI_CONTAINER]);
        assert_eq!(features.pod_fields().count(), 0);
    }

    #[test]
    fn flags_are_read_in_any_case_and_nonsense_is_refused() {
        let data = |value: &str| Data::from([("kubernetes.podspec-affinity".to_owned(), value.to_owned())]);
        let features = Features::read(&Reader::new(&data("Allowed"))).unwrap();
        assert_eq!(features.pod_fields().collect::<Vec<_>>(), ["affinity"]);
        assert!(
            features.has("kubernetes.podspec-affinity")
                && !features.is_enabled("kubernetes.podspec-affinity")
        );
        assert_eq!(
            Features::read(&Reader::new(&data("on"))).unwrap_err().to_string(),
            "failed to parse \"kubernetes.podspec-affinity\": \"on\" is not one of enabled, allowed, disabled"
        );
    }
}
