//! The kinds that are served now, and the documents made from them: replaced as a whole when a kind comes, changes or
//! goes, and read without a lock.

use crate::openapi::OpenApi;
use crate::registry::{Registry, RegistryError};
use crate::{builtin, constraint_kinds};
use arc_swap::ArcSwap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kittiwake_store::ObjectStore;
use std::sync::Arc;
use tokio::sync::watch;

/// What is served at one moment.
pub(crate) struct Kinds {
    pub registry: Registry,
    pub open_api: OpenApi,
}

/// What is served now.
pub(crate) struct CurrentKinds {
    now: ArcSwap<Kinds>,
    /// Rings when it changed.
    changes: watch::Sender<()>,
}

impl CurrentKinds {
    /// The built-in kinds, those of `crds`, and those that the stored ConstraintTemplates make.
    pub(crate) fn new(
        crds: &[CustomResourceDefinition],
        store: &ObjectStore,
    ) -> Result<(Self, constraint_kinds::Made), RegistryError> {
        let fixed = Registry::new(builtin::kinds()?, crds)?;
        let made = constraint_kinds::Made::load(store);
        let registry = fixed.with_group(constraint_kinds::GROUP, made.kinds())?;
        let open_api = OpenApi::new(&registry);
        let current = Self {
            now: ArcSwap::from_pointee(Kinds { registry, open_api }),
            changes: watch::Sender::new(()),
        };
        Ok((current, made))
    }

    /// The kinds as they are; later changes are not seen through the answer.
    pub(crate) fn load(&self) -> Arc<Kinds> {
        self.now.load_full()
    }

    /// Replaces the registry; documents are made anew for one group only, the others stay as they are.
    pub(crate) fn replace(&self, registry: Registry, changed_group: &str) {
        let open_api = self.now.load().open_api.with_group(&registry, changed_group);
        self.now.store(Arc::new(Kinds { registry, open_api }));
        self.changes.send_replace(());
    }

    /// Rings when the kinds change.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }
}
