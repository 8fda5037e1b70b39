//! `config-network`: host names, schemes, certificates, rollouts (networking `pkg/config/config.go`).

use super::reader::{ConfigError, Reader};
use super::template::{Shape, Template, Values};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::labels::{Selector, SelectorExt};
use std::collections::BTreeMap;

/// The ConfigMap's name.
pub const NAME: &str = "config-network";
/// The shape of host names, where nobody says otherwise, and of cluster-local ones always.
pub const DOMAIN_TEMPLATE: &str = "{{.Name}}.{{.Namespace}}.{{.Domain}}";
/// The shape of tags' names, where nobody says otherwise.
pub const TAG_TEMPLATE: &str = "{{.Tag}}-{{.Name}}";

/// What a domain template may speak of.
const DOMAIN_SHAPE: Shape = Shape {
    name: "domain-template",
    texts: &["Name", "Namespace", "Domain"],
    maps: &["Labels", "Annotations"],
};
/// What a tag template may speak of.
const TAG_SHAPE: Shape = Shape {
    name: "tag-template",
    texts: &["Name", "Tag"],
    maps: &[],
};

/// What is done with HTTP without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HttpProtocol {
    /// It is served.
    #[default]
    Enabled,
    /// It is not served where there is a certificate.
    Disabled,
    /// It is sent to HTTPS.
    Redirected,
}

/// The spellings of [`HttpProtocol`].
pub const HTTP_PROTOCOLS: [(&str, HttpProtocol); 3] = [
    ("enabled", HttpProtocol::Enabled),
    ("disabled", HttpProtocol::Disabled),
    ("redirected", HttpProtocol::Redirected),
];

/// The settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The shape of host names.
    pub domain_template: Template,
    /// The shape of a tag's name, which stands for `.Name` in a domain template.
    pub tag_template: Template,
    /// Whether hosts outside of the cluster get certificates: `external-domain-tls`, once `auto-tls`.
    pub external_domain_tls: bool,
    /// Whether cluster-local hosts get certificates. Accepted; there is no hop inside that could be listened to.
    pub cluster_local_domain_tls: bool,
    /// Whether the platform's parts speak TLS with each other. Accepted; they are one process.
    pub system_internal_tls: bool,
    /// What is done with HTTP without TLS.
    pub http_protocol: HttpProtocol,
    /// Whether a DomainMapping claims its name by itself.
    pub autocreate_cluster_domain_claims: bool,
    /// The scheme of URLs while `external-domain-tls` is off, for those who have TLS in front of the platform.
    pub default_external_scheme: String,
    /// Seconds that a new revision takes to get all traffic; 0 for at once.
    pub rollout_duration_seconds: u32,
    /// Which namespaces have one certificate for all their hosts.
    pub wildcard_namespaces: Option<Namespaces>,
}

/// Namespaces chosen by their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Namespaces {
    selector: LabelSelector,
}

impl Namespaces {
    /// Whether a namespace with these labels is chosen.
    #[must_use]
    pub fn contain(&self, labels: &BTreeMap<String, String>) -> bool {
        Selector::try_from(self.selector.clone()).is_ok_and(|selector| selector.matches(labels))
    }
}

impl Default for Network {
    fn default() -> Self {
        Self {
            domain_template: Template::trusted(DOMAIN_SHAPE, DOMAIN_TEMPLATE),
            tag_template: Template::trusted(TAG_SHAPE, TAG_TEMPLATE),
            external_domain_tls: false,
            cluster_local_domain_tls: false,
            system_internal_tls: false,
            http_protocol: HttpProtocol::Enabled,
            autocreate_cluster_domain_claims: false,
            default_external_scheme: "http".to_owned(),
            rollout_duration_seconds: 0,
            wildcard_namespaces: None,
        }
    }
}

impl Network {
    /// Reads the ConfigMap.
    ///
    /// # Errors
    /// The first value that cannot be used.
    pub fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        const DISABLED_OR_ENABLED: [(&str, bool); 2] = [("disabled", false), ("enabled", true)];
        // Read for their form only: there is one gateway here and nobody else who makes certificates.
        for keys in [
            ["ingress-class", "ingress.class"],
            ["certificate-class", "certificate.class"],
        ] {
            reader.text(&keys, "");
        }
        reader.boolean(&["enable-mesh-pod-addressability"], false)?;
        reader.boolean(&["internal-encryption"], false)?;
        reader.word(
            &["mesh-compatibility-mode"],
            (),
            &[("auto", ()), ("enabled", ()), ("disabled", ())],
        )?;
        let rollout = ["rollout-duration", "rolloutDuration"];
        let rollout_duration = reader.integer(&rollout, 0)?;
        let rollout_duration_seconds = u32::try_from(rollout_duration).map_err(|_| {
            let message = format!("rollout-duration must be a positive integer, but was {rollout_duration}");
            ConfigError::new("rollout-duration", rollout_duration, message)
        })?;
        let scheme = ["default-external-scheme", "defaultExternalScheme"];
        let default_external_scheme =
            reader.word(&scheme, "http", &[("http", "http"), ("https", "https")])?;
        Ok(Self {
            domain_template: domain_template(reader)?,
            tag_template: tag_template(reader)?,
            external_domain_tls: reader.word(
                &["external-domain-tls", "auto-tls", "autoTLS"],
                false,
                &DISABLED_OR_ENABLED,
            )?,
            cluster_local_domain_tls: reader.word(
                &["cluster-local-domain-tls"],
                false,
                &DISABLED_OR_ENABLED,
            )?,
            system_internal_tls: reader.word(&["system-internal-tls"], false, &DISABLED_OR_ENABLED)?,
            http_protocol: reader.word(
                &["http-protocol", "httpProtocol"],
                HttpProtocol::Enabled,
                &HTTP_PROTOCOLS,
            )?,
            autocreate_cluster_domain_claims: reader.boolean(
                &[
                    "autocreate-cluster-domain-claims",
                    "autocreateClusterDomainClaims",
                ],
                false,
            )?,
            default_external_scheme: default_external_scheme.to_owned(),
            rollout_duration_seconds,
            wildcard_namespaces: wildcard_namespaces(reader)?,
        })
    }

    /// The host of a Route in `domain`; `name` is its own, or that of one of its tags.
    #[must_use]
    pub fn host(
        &self,
        name: &str,
        namespace: &str,
        domain: &str,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> String {
        self.domain_template.fill(&Values {
            texts: &[("Name", name), ("Namespace", namespace), ("Domain", domain)],
            maps: &[("Labels", labels), ("Annotations", annotations)],
        })
    }

    /// What stands for the name of `route` in the host of one of its tags.
    #[must_use]
    pub fn tag_name(&self, route: &str, tag: &str) -> String {
        self.tag_template.fill(&Values {
            texts: &[("Name", route), ("Tag", tag)],
            maps: &[],
        })
    }
}

fn domain_template(reader: &Reader<'_>) -> Result<Template, ConfigError> {
    let Some((key, text)) = reader.find(&["domain-template", "domainTemplate"]) else {
        return Ok(Template::trusted(DOMAIN_SHAPE, DOMAIN_TEMPLATE));
    };
    let template = Template::parse(DOMAIN_SHAPE, text).map_err(|why| ConfigError::new(key, text, why))?;
    let nothing = BTreeMap::new();
    let tried = template.fill(&Values {
        texts: &[("Name", "foo"), ("Namespace", "bar"), ("Domain", "baz.com")],
        maps: &[("Labels", &nothing), ("Annotations", &nothing)],
    });
    let host = tried.split(['/', '?', '#']).next().unwrap_or_default();
    if host.is_empty() {
        return Err(ConfigError::new(
            key,
            text,
            format!("empty hostname: {key} {text:?} gives {tried:?}"),
        ));
    }
    if let Some(path) = tried.get(host.len()..).filter(|path| !path.is_empty()) {
        let message = format!("domain template has url path: {path} (of {key} {text:?})");
        return Err(ConfigError::new(key, text, message));
    }
    if !host
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
    {
        let message = format!("{key} {text:?} gives {host:?}, which is not a host name");
        return Err(ConfigError::new(key, text, message));
    }
    Ok(template)
}

fn tag_template(reader: &Reader<'_>) -> Result<Template, ConfigError> {
    match reader.find(&["tag-template", "tagTemplate"]) {
        None => Ok(Template::trusted(TAG_SHAPE, TAG_TEMPLATE)),
        Some((key, text)) => Template::parse(TAG_SHAPE, text).map_err(|why| ConfigError::new(key, text, why)),
    }
}

fn wildcard_namespaces(reader: &Reader<'_>) -> Result<Option<Namespaces>, ConfigError> {
    let key = "namespace-wildcard-cert-selector";
    let Some((_, text)) = reader.find(&[key]).filter(|(_, text)| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let selector: LabelSelector = serde_yaml_ng::from_str(text)
        .map_err(|error| ConfigError::unreadable(key, text, format!("is not a label selector: {error}")))?;
    if let Err(error) = Selector::try_from(selector.clone()) {
        return Err(ConfigError::unreadable(
            key,
            text,
            format!("is not a label selector: {error}"),
        ));
    }
    Ok(Some(Namespaces { selector }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Data;

    fn read(pairs: &[(&str, &str)]) -> Result<Network, String> {
        let data: Data = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Network::read(&Reader::new(&data)).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(read(&[]), Ok(Network::default()));
    }

    #[test]
    fn old_spellings_count_and_new_ones_win() {
        let network = read(&[
            ("autoTLS", "Enabled"),
            ("httpProtocol", "Redirected"),
            ("rolloutDuration", "10"),
        ])
        .unwrap();
        assert!(network.external_domain_tls);
        assert_eq!(network.http_protocol, HttpProtocol::Redirected);
        assert_eq!(network.rollout_duration_seconds, 10);
        let network = read(&[("auto-tls", "enabled"), ("external-domain-tls", "disabled")]).unwrap();
        assert!(!network.external_domain_tls);
    }

    #[test]
    fn hosts_follow_their_template() {
        let labels = BTreeMap::from([("team".to_owned(), "blue".to_owned())]);
        let annotations = BTreeMap::from([("sub".to_owned(), "x".to_owned())]);
        for (template, host) in [
            (DOMAIN_TEMPLATE, "a.ns.example.com"),
            ("{{.Name}}-{{.Namespace}}.{{.Domain}}", "a-ns.example.com"),
            ("{{.Name}}.{{.Labels.team}}.{{ .Domain }}", "a.blue.example.com"),
            (
                "{{.Name}}.{{if index .Annotations \"sub\"}}{{index .Annotations \"sub\"}}.{{end}}{{.Domain}}",
                "a.x.example.com",
            ),
        ] {
            let network = read(&[("domain-template", template)]).unwrap();
            assert_eq!(
                network.host("a", "ns", "example.com", &labels, &annotations),
                host,
                "{template}"
            );
        }
        let network = read(&[("tag-template", "{{.Name}}-{{.Tag}}")]).unwrap();
        assert_eq!(network.tag_name("a", "v2"), "a-v2");
    }

    #[test]
    fn nonsense_is_refused() {
        for (key, value, wanted) in [
            (
                "rollout-duration",
                "-1",
                "rollout-duration must be a positive integer, but was -1",
            ),
            (
                "rollout-duration",
                "soon",
                "failed to parse \"rollout-duration\": \"soon\" is not a whole number",
            ),
            (
                "http-protocol",
                "maybe",
                "failed to parse \"http-protocol\": \"maybe\" is not one of enabled, disabled, redirected",
            ),
            (
                "domain-template",
                "{{.Name",
                "template: domain-template:1: unclosed action in \"{{.Name\"",
            ),
            (
                "domain-template",
                "{{.Nom}}",
                "template: domain-template:1: no field .Nom; there are .Name, .Namespace, .Domain, .Labels, .Annotations",
            ),
            (
                "domain-template",
                "",
                "empty hostname: domain-template \"\" gives \"\"",
            ),
            (
                "domain-template",
                "{{.Name}}/{{.Domain}}",
                "domain template has url path: /baz.com (of domain-template \"{{.Name}}/{{.Domain}}\")",
            ),
            (
                "tag-template",
                "{{.Domain}}",
                "template: tag-template:1: no field .Domain; there are .Name, .Tag",
            ),
            (
                "external-domain-tls",
                "yes",
                "failed to parse \"external-domain-tls\": \"yes\" is not one of disabled, enabled",
            ),
        ] {
            assert_eq!(read(&[(key, value)]), Err(wanted.to_owned()));
        }
        assert!(read(&[("namespace-wildcard-cert-selector", "matchLabels: 3")]).is_err());
    }

    #[test]
    fn namespaces_are_chosen_by_label() {
        let text =
            "matchExpressions:\n- {key: kubernetes.io/metadata.name, operator: NotIn, values: [kube-system]}";
        let chosen = read(&[("namespace-wildcard-cert-selector", text)])
            .unwrap()
            .wildcard_namespaces
            .unwrap();
        let named =
            |name: &str| BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), name.to_owned())]);
        assert!(chosen.contain(&named("default")));
        assert!(!chosen.contain(&named("kube-system")));
    }
}
