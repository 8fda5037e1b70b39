//! What administrators set while the platform runs: the ConfigMaps `config-*` in the namespace `knative-serving`.
//!
//! Each map has its file, with its keys, their older spellings, their defaults and what is refused. [`Settings`] is all
//! of them together. A map that is refused leaves the settings as they were.

pub mod admission;
pub mod autoscaler;
pub mod defaults;
pub mod deployment;
pub mod domain;
pub mod example;
pub mod features;
pub mod gc;
pub mod network;
pub mod observability;
pub mod reader;
pub mod template;

pub use autoscaler::Autoscaler;
pub use defaults::Defaults;
pub use deployment::Deployment;
pub use domain::Domains;
pub use features::Features;
pub use gc::GarbageCollection;
pub use network::Network;
pub use observability::Observability;
pub use reader::{ConfigError, Data};

use reader::Reader;
use std::sync::{Arc, LazyLock};

/// Where the ConfigMaps are.
pub const NAMESPACE: &str = "knative-serving";

/// The settings of all ConfigMaps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// `config-network`.
    pub network: Network,
    /// `config-domain`.
    pub domains: Domains,
    /// `config-features`.
    pub features: Features,
    /// `config-gc`.
    pub gc: GarbageCollection,
    /// `config-defaults`.
    pub defaults: Defaults,
    /// `config-deployment`.
    pub deployment: Deployment,
    /// `config-observability`.
    pub observability: Observability,
    /// `config-autoscaler`.
    pub autoscaler: Arc<Autoscaler>,
}

static STOCK: LazyLock<Settings> = LazyLock::new(Settings::default);

/// The ConfigMaps that are read here, in the order in which `kubectl get` lists them.
pub const NAMES: [&str; 8] = [
    autoscaler::NAME,
    defaults::NAME,
    deployment::NAME,
    domain::NAME,
    features::NAME,
    gc::NAME,
    network::NAME,
    observability::NAME,
];

impl Settings {
    /// The settings of a platform whose ConfigMaps say nothing.
    #[must_use]
    pub fn stock() -> &'static Self {
        &STOCK
    }

    /// Takes over what the ConfigMap `name` says; `None` when it is not there. Gives its keys that change nothing. A
    /// ConfigMap of another name changes nothing.
    ///
    /// # Errors
    /// The first value that cannot be used. Nothing is changed then.
    pub fn set(&mut self, name: &str, data: Option<&Data>) -> Result<Vec<String>, ConfigError> {
        static EMPTY: Data = Data::new();
        let reader = Reader::new(data.unwrap_or(&EMPTY));
        match name {
            network::NAME => self.network = Network::read(&reader)?,
            domain::NAME => {
                self.domains = Domains::read(&reader)?;
                return Ok(Vec::new());
            }
            features::NAME => self.features = Features::read(&reader)?,
            gc::NAME => self.gc = GarbageCollection::read(&reader)?,
            defaults::NAME => self.defaults = Defaults::read(&reader)?,
            deployment::NAME => self.deployment = Deployment::read(&reader)?,
            observability::NAME => {
                let (settings, ignored) = Observability::read(&reader)?;
                self.observability = settings;
                return Ok(ignored);
            }
            autoscaler::NAME => {
                let data = data.unwrap_or(&EMPTY);
                self.autoscaler = Arc::new(Autoscaler::from_data(data)?);
                let unknown = data
                    .keys()
                    .filter(|key| !autoscaler::KEYS.contains(&key.as_str()));
                let unknown = unknown.filter(|key| *key != example::EXAMPLE_KEY);
                return Ok(unknown.cloned().collect());
            }
            _ => return Ok(Vec::new()),
        }
        Ok(reader.unknown())
    }
}
