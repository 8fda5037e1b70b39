//! Admission: what looks at an object before it is stored, may complete it, and may refuse it.
//!
//! A row of steps behind one small trait, run in order; policy becomes another step.

use crate::builtin::runtime_class;
use crate::settings::LiveSettings;
use crate::status::ApiError;
use kittiwake_api::admission::dry_run::{self, Needed};
use kittiwake_api::admission::{self, Operation};
use kittiwake_api::config;
use kittiwake_store::{Key, ObjectStore};
use serde_json::Value;

/// The webhooks that users know from error texts, by the group that they look at, and the code of their refusals.
const WEBHOOKS: [(&str, &str, u16); 6] = [
    ("eventing.knative.dev", EVENTING_WEBHOOK, 400),
    ("messaging.knative.dev", EVENTING_WEBHOOK, 400),
    ("flows.knative.dev", EVENTING_WEBHOOK, 400),
    ("sources.knative.dev", EVENTING_WEBHOOK, 400),
    ("templates.gatekeeper.sh", GATEKEEPER_WEBHOOK, 422),
    ("constraints.gatekeeper.sh", GATEKEEPER_WEBHOOK, 422),
];
const SERVING_WEBHOOK: &str = "validation.webhook.serving.knative.dev";
const CONFIG_WEBHOOK: &str = "config.webhook.serving.knative.dev";
const EVENTING_WEBHOOK: &str = "validation.webhook.eventing.knative.dev";
const GATEKEEPER_WEBHOOK: &str = "validation.gatekeeper.sh";

/// What is about to be written.
pub(crate) struct Review<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub subresource: Option<&'a str>,
    /// The object as it is now; `None` on create.
    pub old: Option<&'a Value>,
    /// Who writes.
    pub user: &'a str,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

/// One step of admission.
pub(crate) trait Admit: Send + Sync {
    /// Completes `object` and returns warnings for the client, or refuses it.
    ///
    /// # Errors
    /// The refusal as the client is to see it.
    fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<Vec<String>, ApiError>;
}

/// The plural of ServiceAccounts.
const SERVICE_ACCOUNTS: &str = "serviceaccounts";

/// Defaults and validation of Knative's and Gatekeeper's kinds.
pub(crate) struct Knative {
    pub settings: LiveSettings,
    /// Where what a pod needs is looked for.
    pub store: ObjectStore,
}

impl Knative {
    fn exists(&self, needed: Needed<'_>) -> bool {
        let key = match needed {
            Needed::ServiceAccount { namespace, name } => Key::new(SERVICE_ACCOUNTS, namespace, name),
            Needed::RuntimeClass { name } => Key::new(runtime_class::STORAGE, "", name),
        };
        self.store.get(&key).is_some()
    }
}

impl Admit for Knative {
    fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<Vec<String>, ApiError> {
        let settings = self.settings.load();
        let request = admission::Request {
            api_version: review.api_version,
            kind: review.kind,
            operation: if review.old.is_some() {
                Operation::Update
            } else {
                Operation::Create
            },
            subresource: review.subresource,
            old: review.old,
            user: review.user,
            dry_run: review.dry_run,
            settings: &settings,
        };
        let denied = |why: &str| {
            let (webhook, code) = webhook(review.api_version);
            ApiError::denied(code, webhook, why)
        };
        let warnings = admission::admit(&request, object).map_err(|errors| denied(&errors.to_string()))?;
        if review.subresource.is_none() && dry_run::is_wanted(&request, object) {
            dry_run::check(object, &|needed| self.exists(needed)).map_err(|why| denied(&why))?;
        }
        Ok(warnings)
    }
}

/// What the ConfigMaps of the platform may say.
pub(crate) struct ConfigMaps;

impl Admit for ConfigMaps {
    fn admit(&self, review: &Review<'_>, object: &mut Value) -> Result<Vec<String>, ApiError> {
        if review.kind != "ConfigMap" || review.api_version != "v1" {
            return Ok(Vec::new());
        }
        config::admission::admit(object).map_err(|why| ApiError::denied(400, CONFIG_WEBHOOK, &why))
    }
}

/// Who refuses objects of a group and version, and with which code.
fn webhook(api_version: &str) -> (&'static str, u16) {
    let group = api_version.split('/').next().unwrap_or_default();
    let known = WEBHOOKS.iter().find(|(known, ..)| *known == group);
    known.map_or((SERVING_WEBHOOK, 400), |(_, webhook, code)| (*webhook, *code))
}
