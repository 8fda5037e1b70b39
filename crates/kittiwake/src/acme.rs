//! Where the account with an ACME authority and what it issued are kept: in Secrets. Whoever orders writes them through
//! the API; every gateway, of this process or of a worker, follows them there.

use crate::config::Acme;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kittiwake_core::routing_table::Certificate;
use kittiwake_gateway::acme::{self, Account, Issued, Vault, VaultError};
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, ResourceExt};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Label of the Secrets; its value says what is in one.
const LABEL: &str = "networking.kittiwake.dev/acme";
const ACCOUNT: &str = "account";
const CERTIFICATE: &str = "certificate";
/// Annotation of a certificate's Secret: the host.
const HOST: &str = "networking.kittiwake.dev/host";
/// Namespace and name of the account's Secret.
const SYSTEM_NAMESPACE: &str = "knative-serving";
const ACCOUNT_NAME: &str = "acme-account";
/// Who writes them, for server-side apply.
const MANAGER: &str = "kittiwake-acme";
/// Keys of the account's Secret.
const DIRECTORY: &str = "directory";
const THUMBPRINT: &str = "thumbprint";
const CREDENTIALS: &str = "credentials.json";
/// The ConfigMap that switches certificates of external hosts on and off, and the class that means ours.
const CONFIG_NETWORK: &str = "config-network";
const CLASS: &str = "acme.certificate.kittiwake.dev";

/// Keeps everything in Secrets.
struct Secrets(kube::Client);

impl Secrets {
    async fn apply(&self, namespace: &str, secret: &Secret) -> Result<(), VaultError> {
        let api = Api::<Secret>::namespaced(self.0.clone(), namespace);
        let how = PatchParams::apply(MANAGER).force();
        api.patch(&secret.name_any(), &how, &Patch::Apply(secret)).await?;
        Ok(())
    }

    async fn account(&self) -> Result<Option<Account>, VaultError> {
        let api = Api::<Secret>::namespaced(self.0.clone(), SYSTEM_NAMESPACE);
        let secret = api.get_opt(ACCOUNT_NAME).await?;
        Ok(secret.as_ref().and_then(account))
    }

    async fn certificates(&self) -> Result<BTreeMap<Box<str>, Certificate>, VaultError> {
        let all = ListParams::default().labels(&format!("{LABEL}={CERTIFICATE}"));
        let secrets = Api::<Secret>::all(self.0.clone()).list(&all).await?;
        Ok(secrets.iter().filter_map(certificate).collect())
    }
}

impl Vault for Secrets {
    fn account(&self) -> BoxFuture<'_, Result<Option<Account>, VaultError>> {
        self.account().boxed()
    }

    fn keep_account(&self, account: Account) -> BoxFuture<'_, Result<(), VaultError>> {
        async move { self.apply(SYSTEM_NAMESPACE, &account_secret(account)).await }.boxed()
    }

    fn certificates(&self) -> BoxFuture<'_, Result<BTreeMap<Box<str>, Certificate>, VaultError>> {
        self.certificates().boxed()
    }

    fn keep_certificate<'a>(
        &'a self,
        namespace: &'a str,
        host: &'a str,
        certificate: &'a Certificate,
    ) -> BoxFuture<'a, Result<(), VaultError>> {
        async move {
            let secret = certificate_secret(host, certificate);
            self.apply(namespace, &secret).await
        }
        .boxed()
    }
}

fn metadata(name: String, what: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        labels: Some([(LABEL.to_owned(), what.to_owned())].into()),
        ..ObjectMeta::default()
    }
}

fn account_secret(account: Account) -> Secret {
    Secret {
        metadata: metadata(ACCOUNT_NAME.to_owned(), ACCOUNT),
        data: Some(
            [
                (DIRECTORY.to_owned(), ByteString(account.directory.into_bytes())),
                (THUMBPRINT.to_owned(), ByteString(account.thumbprint.into_bytes())),
                (CREDENTIALS.to_owned(), ByteString(account.credentials)),
            ]
            .into(),
        ),
        ..Secret::default()
    }
}

fn account(secret: &Secret) -> Option<Account> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    Some(Account {
        directory: text(DIRECTORY)?,
        thumbprint: text(THUMBPRINT)?,
        credentials: data.get(CREDENTIALS)?.0.clone(),
    })
}

fn certificate_secret(host: &str, certificate: &Certificate) -> Secret {
    // A host may be longer than a name.
    let mut name = "acme-".to_owned();
    for byte in Sha256::digest(host).iter().take(16) {
        // Writing to a string cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    Secret {
        metadata: ObjectMeta {
            annotations: Some([(HOST.to_owned(), host.to_owned())].into()),
            ..metadata(name, CERTIFICATE)
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(
            [
                ("tls.crt".to_owned(), ByteString(certificate.chain.to_vec())),
                ("tls.key".to_owned(), ByteString(certificate.key.to_vec())),
            ]
            .into(),
        ),
        ..Secret::default()
    }
}

fn certificate(secret: &Secret) -> Option<(Box<str>, Certificate)> {
    let data = secret.data.as_ref()?;
    let bytes = |key: &str| Some(data.get(key)?.0.clone().into());
    let certificate = Certificate {
        chain: bytes("tls.crt")?,
        key: bytes("tls.key")?,
    };
    Some((secret.annotations().get(HOST)?.as_str().into(), certificate))
}

/// Takes a Secret into what is known, or out of it.
fn note(issued: &mut Issued, secret: &Secret, is_there: bool) {
    match secret.labels().get(LABEL).map(String::as_str) {
        // Anyone may label a Secret of theirs; only that of the system is the account.
        Some(ACCOUNT) if secret.namespace().as_deref() == Some(SYSTEM_NAMESPACE) => {
            let account = account(secret).filter(|_| is_there);
            issued.thumbprint = account.map(|account| account.thumbprint.into());
        }
        Some(CERTIFICATE) => {
            let Some((host, certificate)) = certificate(secret) else {
                return;
            };
            if is_there {
                issued.certificates.insert(host, certificate);
            } else {
                issued.certificates.remove(&host);
            }
        }
        _ => {}
    }
}

/// What was issued, from the API, and the task that follows it there.
#[must_use]
pub fn follow(
    client: &kube::Client,
    shutdown: CancellationToken,
) -> (watch::Receiver<Arc<Issued>>, BoxFuture<'static, ()>) {
    let (sender, receiver) = watch::channel(Arc::default());
    let secrets = Api::<Secret>::all(client.clone());
    let events = watch_objects(secrets, watcher::Config::default().labels(LABEL)).default_backoff();
    let task = async move {
        tokio::select! {
            () = pass_on(events, sender) => {}
            () = shutdown.cancelled() => {}
        }
    };
    (receiver, task.boxed())
}

async fn pass_on(
    events: impl Stream<Item = watcher::Result<Event<Secret>>>,
    sender: watch::Sender<Arc<Issued>>,
) {
    let mut events = pin!(events);
    let mut issued = Issued::default();
    let mut listing = Issued::default();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listing = Issued::default(),
            Ok(Event::InitApply(secret)) => note(&mut listing, &secret, true),
            Ok(Event::InitDone) => issued = std::mem::take(&mut listing),
            Ok(Event::Apply(secret)) => note(&mut issued, &secret, true),
            Ok(Event::Delete(secret)) => note(&mut issued, &secret, false),
            Err(error) => {
                tracing::debug!(%error, "the issued certificates cannot be followed now");
                continue;
            }
        }
        if **sender.borrow() != issued {
            sender.send_replace(Arc::new(issued.clone()));
        }
    }
}

/// Whether certificates of external hosts are to be ordered, by the data of config-network (knative/networking
/// `pkg/config`): who names an authority on the command line wants it, unless the cluster's settings say otherwise.
fn is_enabled(data: Option<&BTreeMap<String, String>>) -> bool {
    let said = |new: &str, old: &str| {
        let value = data.and_then(|data| data.get(new).or_else(|| data.get(old)));
        value.map(|value| value.trim().to_ascii_lowercase())
    };
    let is_on = said("external-domain-tls", "auto-tls").is_none_or(|value| value == "enabled");
    let is_ours = said("certificate-class", "certificate.class").is_none_or(|class| class == CLASS);
    is_on && is_ours
}

async fn follow_config(client: kube::Client, sender: watch::Sender<bool>) {
    let maps = Api::<ConfigMap>::namespaced(client, SYSTEM_NAMESPACE);
    let name = format!("metadata.name={CONFIG_NETWORK}");
    let events = watch_objects(maps, watcher::Config::default().fields(&name)).default_backoff();
    let mut events = pin!(events);
    let mut listed = true;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = is_enabled(None),
            Ok(Event::InitApply(map)) => listed = is_enabled(map.data.as_ref()),
            Ok(Event::InitDone) => drop(sender.send_replace(listed)),
            Ok(Event::Apply(map)) => drop(sender.send_replace(is_enabled(map.data.as_ref()))),
            Ok(Event::Delete(_)) => drop(sender.send_replace(is_enabled(None))),
            Err(error) => tracing::debug!(%error, "config-network cannot be followed now"),
        }
    }
}

/// The task that orders certificates.
///
/// # Errors
/// When the authority's own certificates cannot be used.
pub fn order(
    config: &Acme,
    client: &kube::Client,
    routes: watch::Receiver<Arc<kittiwake_core::routing_table::RoutingTable>>,
    registry: prometheus::Registry,
    clock: Arc<dyn kittiwake_core::clock::Clock>,
    shutdown: CancellationToken,
) -> Result<BoxFuture<'static, ()>, acme::BuildError> {
    let (switch, is_enabled) = watch::channel(false);
    let ordering = acme::build(
        acme::Config {
            email: config.email.clone(),
            ca_file: config.ca_file.clone(),
            ..acme::Config::new(&config.directory)
        },
        acme::Inputs {
            routes,
            is_enabled,
            vault: Arc::new(Secrets(client.clone())),
            registry,
            clock,
            shutdown,
        },
    )?;
    let following = follow_config(client.clone(), switch);
    Ok(async move {
        tokio::select! {
            () = ordering => {}
            () = following => {}
        }
    }
    .boxed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(host: &str) -> Secret {
        let certificate = Certificate {
            chain: b"chain".as_slice().into(),
            key: b"key".as_slice().into(),
        };
        certificate_secret(host, &certificate)
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let kept = Account {
            directory: "https://a/dir".into(),
            thumbprint: "thumb".into(),
            credentials: b"{}".to_vec(),
        };
        let mut secret = account_secret(kept.clone());
        assert!(account(&secret) == Some(kept));
        let mut issued = Issued::default();
        note(&mut issued, &secret, true);
        assert_eq!(issued.thumbprint, None, "not of the system's namespace");
        secret.metadata.namespace = Some(SYSTEM_NAMESPACE.to_owned());
        note(&mut issued, &secret, true);
        assert_eq!(issued.thumbprint.as_deref(), Some("thumb"));
        note(&mut issued, &made("a.example"), true);
        note(&mut issued, &made("b.example"), true);
        note(&mut issued, &made("a.example"), false);
        assert_eq!(
            issued.certificates.keys().map(|host| &**host).collect::<Vec<_>>(),
            ["b.example"]
        );
        let long = made(&format!("{}.example", "a".repeat(200)));
        assert_eq!(long.name_any().len(), "acme-".len() + 32);
    }

    #[test]
    fn config_network_decides() {
        for (said, wanted) in [
            (vec![], true),
            (vec![("external-domain-tls", "Enabled")], true),
            (vec![("external-domain-tls", "Disabled")], false),
            (vec![("auto-tls", "disabled")], false),
            (
                vec![("external-domain-tls", "enabled"), ("auto-tls", "Disabled")],
                true,
            ),
            (vec![("certificate-class", CLASS)], true),
            (
                vec![(
                    "certificate-class",
                    "cert-manager.certificate.networking.knative.dev",
                )],
                false,
            ),
        ] {
            let data = said
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            assert_eq!(is_enabled(Some(&data)), wanted, "{said:?}");
        }
        assert!(is_enabled(None));
    }
}
