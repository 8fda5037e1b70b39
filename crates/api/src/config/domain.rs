//! `config-domain`: below which domain the hosts of a Route are (serving `pkg/reconciler/route/config/domain.go`).

use super::reader::{ConfigError, Reader};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The ConfigMap's name.
pub const NAME: &str = "config-domain";

/// The domains, each for the Routes with certain labels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domains {
    /// By domain; an empty map of labels stands for all Routes.
    selectors: BTreeMap<String, BTreeMap<String, String>>,
}

/// The value of a key.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Value {
    #[serde(default)]
    selector: Option<BTreeMap<String, String>>,
}

impl Domains {
    /// Reads the ConfigMap.
    ///
    /// # Errors
    /// The first domain or selector that cannot be used.
    pub fn read(reader: &Reader<'_>) -> Result<Self, ConfigError> {
        let mut selectors = BTreeMap::new();
        for (domain, text) in reader.all() {
            if !is_domain(domain) {
                let message = format!(
                    "{domain:?} is not a domain; keys of {NAME} are domains such as example.com, in lower case"
                );
                return Err(ConfigError::new(domain, text, message));
            }
            let value: Option<Value> = serde_yaml_ng::from_str(text).map_err(|error| {
                ConfigError::unreadable(
                    domain,
                    text,
                    format!(
                        "is not empty and not a selector: {error}; write \"selector:\" with labels below it"
                    ),
                )
            })?;
            let selector = value.unwrap_or_default().selector.unwrap_or_default();
            selectors.insert(domain.to_owned(), selector);
        }
        Ok(Self { selectors })
    }

    /// The domain for a Route with these labels: that of the selector with most labels, of those the first by name.
    /// `None` where the ConfigMap has none for it.
    #[must_use]
    pub fn find(&self, labels: &BTreeMap<String, String>) -> Option<&str> {
        let matches = |selector: &BTreeMap<String, String>| {
            selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        let mut best: Option<(&str, usize)> = None;
        for (domain, selector) in self.selectors.iter().filter(|(_, selector)| matches(selector)) {
            if best.is_none_or(|(_, most)| selector.len() > most) {
                best = Some((domain, selector.len()));
            }
        }
        best.map(|(domain, _)| domain)
    }
}

/// Labels of letters, digits and hyphens, with dots between them.
fn is_domain(text: &str) -> bool {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    text.len() <= 253
        && text
            .split('.')
            .all(|label| (1..=63).contains(&label.len()) && label.bytes().all(good))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Data;

    fn read(pairs: &[(&str, &str)]) -> Result<Domains, String> {
        let data: Data = pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        Domains::read(&Reader::new(&data)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_most_specific_selector_wins() {
        let domains = read(&[
            ("_example", "example.org: |"),
            ("z.example.com", ""),
            ("a.example.com", ""),
            ("app.example.com", "selector:\n  app: prod"),
            ("eu.example.com", "selector:\n  app: prod\n  zone: eu"),
            ("dev.example.com", "selector: {app: dev}"),
        ])
        .unwrap();
        for (labels, wanted) in [
            (&[][..], "a.example.com"),
            (&[("app", "prod")], "app.example.com"),
            (&[("app", "prod"), ("zone", "eu"), ("x", "y")], "eu.example.com"),
            (&[("app", "dev")], "dev.example.com"),
            (&[("zone", "eu")], "a.example.com"),
        ] {
            let labels = labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect();
            assert_eq!(domains.find(&labels), Some(wanted), "{labels:?}");
        }
        let only = read(&[("app.example.com", "selector: {app: prod}")]).unwrap();
        assert_eq!(only.find(&BTreeMap::new()), None);
        assert_eq!(read(&[]).unwrap().find(&BTreeMap::new()), None);
    }

    #[test]
    fn nonsense_is_refused() {
        for (domain, text, wanted) in [
            ("Example.com", "", "\"Example.com\" is not a domain"),
            ("a..b", "", "\"a..b\" is not a domain"),
            (
                "a.com",
                "selector: 3",
                "failed to parse \"a.com\": \"selector: 3\"",
            ),
            ("a.com", "labels: {}", "failed to parse \"a.com\": \"labels: {}\""),
        ] {
            let error = read(&[(domain, text)]).unwrap_err();
            assert!(error.starts_with(wanted), "{error}");
        }
    }
}
