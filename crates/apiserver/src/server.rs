//! The state that all requests share.

use crate::admission::{Admit, ConfigMaps, Knative};
use crate::auth::{self, Auth, Identity};
use crate::builtin::{self, runtime_class};
use crate::config::Config;
use crate::constraint_kinds::Made;
use crate::handler::pages::Snapshots;
use crate::handler::write::{Actor, Proposal, Write};
use crate::kinds::CurrentKinds;
use crate::made::OnDemand;
use crate::query::FieldValidation;
use crate::registry::{Kind, Served};
use crate::settings::{self, LiveSettings};
use crate::status::ApiError;
use crate::{BuildError, Inputs, Readiness};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kittiwake_core::clock::Clock;
use kittiwake_core::instances::InstanceHub;
use kittiwake_core::log::LogHub;
use kittiwake_store::{DiskError, Key, ObjectStore, WriteError};
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Field manager of what the server itself writes.
pub(crate) const MANAGER: &str = "kittiwake-apiserver";

/// The state that all requests share.
pub(crate) struct Server {
    pub config: Config,
    pub store: ObjectStore,
    /// Objects that are made from others and from what lives now: pods, Deployments, ServerlessServices, Endpoints. In
    /// memory only, with versions of their own.
    pub made: ObjectStore,
    /// Whether those were made that nobody needs before somebody asks: Deployments and ServerlessServices.
    pub scaled: OnDemand,
    /// The same for Endpoints and EndpointSlices.
    pub endpoints: OnDemand,
    pub instances: Arc<InstanceHub>,
    pub kinds: CurrentKinds,
    /// The kinds that ConstraintTemplates made; held while they change.
    pub constraint_kinds: tokio::sync::Mutex<Made>,
    pub clock: Arc<dyn Clock>,
    pub logs: Arc<LogHub>,
    pub admission: Vec<Box<dyn Admit>>,
    /// What administrators set in ConfigMaps.
    pub settings: LiveSettings,
    pub snapshots: Snapshots,
    pub shutdown: CancellationToken,
    pub auth: Auth,
    crds: Vec<CustomResourceDefinition>,
    readiness: RwLock<Option<Readiness>>,
    bootstrapped: watch::Sender<bool>,
}

impl Server {
    pub(crate) fn new(config: Config, inputs: Inputs) -> Result<Self, BuildError> {
        let (kinds, made) = CurrentKinds::new(&inputs.crds, &inputs.store)?;
        let settings = LiveSettings::default();
        let auth = Auth::new(&config.auth, inputs.store.clone(), Arc::clone(&inputs.clock));
        let knative = Knative {
            settings: settings.clone(),
            store: inputs.store.clone(),
        };
        Ok(Self {
            auth: auth.map_err(BuildError::Auth)?,
            config,
            store: inputs.store,
            made: ObjectStore::in_memory(kittiwake_store::Config::default()),
            scaled: OnDemand::default(),
            endpoints: OnDemand::default(),
            instances: inputs.instances,
            kinds,
            constraint_kinds: tokio::sync::Mutex::new(made),
            clock: inputs.clock,
            logs: inputs.logs,
            admission: vec![Box::new(knative), Box::new(ConfigMaps)],
            settings,
            snapshots: Snapshots::default(),
            shutdown: CancellationToken::new(),
            crds: inputs.crds,
            readiness: RwLock::default(),
            bootstrapped: watch::Sender::new(false),
        })
    }

    pub(crate) fn set_readiness(&self, readiness: Readiness) {
        *self.readiness.write().unwrap_or_else(PoisonError::into_inner) = Some(readiness);
    }

    /// Resolves once the default namespaces and the CRD objects are there.
    pub(crate) async fn started(&self) {
        // The sender lives as long as the server, so waiting cannot fail.
        let _ = self.bootstrapped.subscribe().wait_for(|done| *done).await;
    }

    /// Whether the platform is ready, or what is missing.
    pub(crate) fn ready(&self) -> Result<(), String> {
        if !*self.bootstrapped.borrow() {
            return Err("the default namespaces are not there yet".to_owned());
        }
        match &*self.readiness.read().unwrap_or_else(PoisonError::into_inner) {
            Some(readiness) => readiness(),
            None => Ok(()),
        }
    }

    /// Where the objects of a kind are.
    pub(crate) fn store_of(&self, kind: &Kind) -> &ObjectStore {
        if kind.made { &self.made } else { &self.store }
    }

    /// The store's key of an object.
    pub(crate) fn key(served: &Served, namespace: &str, name: &str) -> Key {
        Key {
            resource: Arc::clone(&served.kind.storage_resource),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// Makes what must always be there: namespaces, and the objects of the CRDs that are served.
    pub(crate) async fn bootstrap(&self) {
        for name in builtin::NAMESPACES {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            self.ensure("", "v1", "namespaces", namespace).await;
        }
        for name in runtime_class::NAMES {
            let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": name});
            self.ensure("node.k8s.io", "v1", runtime_class::PLURAL, class)
                .await;
        }
        for crd in &self.crds {
            match serde_json::to_value(crd) {
                Ok(mut object) => {
                    accept_crd(&mut object);
                    self.ensure("apiextensions.k8s.io", "v1", "customresourcedefinitions", object)
                        .await;
                }
                Err(error) => tracing::error!(%error, "a CRD cannot be written as JSON"),
            }
        }
        settings::bootstrap(self).await;
        auth::default_accounts::sweep(self).await;
        auth::rbac::bootstrap::run(self).await;
        self.bootstrapped.send_replace(true);
    }

    /// Creates or updates one object of the server's own.
    async fn ensure(&self, group: &str, version: &str, plural: &str, object: Value) {
        let kinds = self.kinds.load();
        let Some(served) = kinds.registry.find(group, version, plural) else {
            return;
        };
        let write = self.own_write(served, "");
        if let Err(error) = write.put_own(object).await {
            tracing::error!(%error, plural, "an object that must always be there cannot be written");
        }
    }

    /// Changes or creates one object of the server's own; `propose` sees it as it is, and answers `None` to leave it so.
    pub(crate) async fn put_own(
        &self,
        group: &str,
        version: &str,
        plural: &str,
        namespace: &str,
        name: &str,
        propose: impl FnOnce(Option<&Value>) -> Option<Value> + Send,
    ) {
        let kinds = self.kinds.load();
        let Some(served) = kinds.registry.find(group, version, plural) else {
            return;
        };
        let write = self.own_write(served, namespace);
        let written = write.change(name, |old| {
            let unchanged = || {
                old.cloned()
                    .ok_or_else(|| ApiError::not_found(served.names(), name))
            };
            Ok(Proposal {
                object: propose(old).map_or_else(unchanged, Ok)?,
                ..Proposal::default()
            })
        });
        if let Err(error) = written.await {
            tracing::warn!(%error, plural, namespace, name, "an object of the server's own cannot be written");
        }
    }

    /// A write of the server itself.
    pub(crate) fn own_write<'a>(&'a self, served: &'a Served, namespace: &str) -> Write<'a> {
        Write {
            server: self,
            served,
            namespace: namespace.to_owned(),
            subresource: None,
            actor: Actor {
                manager: MANAGER.to_owned(),
                identity: Arc::new(Identity::new(MANAGER, &[auth::MASTERS])),
            },
            dry_run: false,
            validation: FieldValidation::Ignore,
        }
    }
}

/// Gives a CRD object the status of one that is established.
pub(crate) fn accept_crd(crd: &mut Value) {
    let names = crd.pointer("/spec/names").cloned().unwrap_or_default();
    let storage = crd
        .pointer("/spec/versions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let storage: Vec<Value> = storage
        .filter(|v| v["storage"] == true)
        .filter_map(|v| v.get("name").cloned())
        .collect();
    let condition = |kind: &str, reason: &str| json!({"type": kind, "status": "True", "reason": reason, "message": "", "lastTransitionTime": "1970-01-01T00:00:00Z"});
    let status = json!({
        "acceptedNames": names,
        "conditions": [condition("NamesAccepted", "NoConflicts"), condition("Established", "InitialNamesAccepted")],
        "storedVersions": storage,
    });
    crate::object::map_mut(crd).insert("status".into(), status);
}

/// A failure of the store as a client sees it. Nothing was changed; a full disk and a server that stops are worth
/// another try.
pub(crate) fn store_failure<E>(error: WriteError<E>) -> ApiError {
    match error {
        WriteError::Disk(error) => match &*error {
            DiskError::Full { path } => ApiError::insufficient_storage(path),
            other => ApiError::internal(other),
        },
        WriteError::Closed => ApiError::unavailable("the server is stopping"),
        WriteError::NotAnObject | WriteError::Refused(_) => {
            ApiError::internal("an object must be a JSON object with an object as its metadata")
        }
    }
}
