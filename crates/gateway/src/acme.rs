//! Certificates from an authority that issues them by itself (ACME, RFC 8555).
//!
//! One task of the platform orders them ([`build`]); every gateway answers the authority's challenges and serves what
//! was issued ([`Issued`]). Between them stands a [`Vault`], which keeps account and certificates: so workers, and the
//! program after a restart, have what one of them got.
//!
//! A challenge (HTTP-01, §8.3) is answered out of its own token and the fingerprint of the account's key. So no gateway
//! has to be told of an order, and none can be asked too early.

pub(crate) mod challenge;
mod client;
mod order;
mod plan;

use futures::future::BoxFuture;
use kittiwake_core::clock::Clock;
use kittiwake_core::routing_table::{Certificate, RoutingTable};
use plan::{Known, Next};
use prometheus::{IntCounterVec, Opts, Registry};
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Longest pause between two looks at what is due: the wall clock may jump.
const LOOK_PERIOD: Duration = Duration::from_secs(60 * 60);
/// Pause after the vault or the authority's account could not be had. It doubles each time, up to the longest.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(300);

/// How certificates are ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// URL of the authority's directory (§7.1.1), such as `https://acme-v02.api.letsencrypt.org/directory`.
    pub directory: String,
    /// Where the authority writes when something is wrong with a certificate. Some demand it.
    pub email: Option<String>,
    /// File of certificates in PEM by which the authority itself is believed; `None`: the machine's own.
    pub ca_file: Option<PathBuf>,
    /// Orders in an hour; the next one waits. Default 50, half of what Let's Encrypt lets an account order.
    pub orders_per_hour_max: usize,
}

impl Config {
    /// Orders from the authority with this directory.
    #[must_use]
    pub fn new(directory: impl Into<String>) -> Self {
        Self {
            directory: directory.into(),
            email: None,
            ca_file: None,
            orders_per_hour_max: 50,
        }
    }
}

/// What was issued so far, and what it takes to answer challenges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Issued {
    /// Fingerprint of the account's key (RFC 7638); `None` while there is no account.
    pub thumbprint: Option<Box<str>>,
    /// The certificate of each host.
    pub certificates: BTreeMap<Box<str>, Certificate>,
}

/// An account with an authority.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The authority's directory.
    pub directory: String,
    /// Fingerprint of its key.
    pub thumbprint: String,
    /// Address and key of the account, as JSON. A secret.
    pub credentials: Vec<u8>,
}

/// What goes wrong in a vault.
pub type VaultError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps account and certificates.
pub trait Vault: Send + Sync + 'static {
    /// The account that was kept last.
    fn account(&self) -> BoxFuture<'_, Result<Option<Account>, VaultError>>;

    /// Keeps an account. When this returns, every gateway answers challenges with it, or soon will.
    fn keep_account(&self, account: Account) -> BoxFuture<'_, Result<(), VaultError>>;

    /// The certificates that are kept, by host.
    fn certificates(&self) -> BoxFuture<'_, Result<BTreeMap<Box<str>, Certificate>, VaultError>>;

    /// Keeps the certificate of a host that belongs to a Route in `namespace`, in place of an older one.
    fn keep_certificate<'a>(
        &'a self,
        namespace: &'a str,
        host: &'a str,
        certificate: &'a Certificate,
    ) -> BoxFuture<'a, Result<(), VaultError>>;
}

/// What the task is handed.
pub struct Inputs {
    /// Whose hosts need certificates.
    pub routes: watch::Receiver<Arc<RoutingTable>>,
    /// Whether certificates shall be ordered now.
    pub is_enabled: watch::Receiver<bool>,
    /// Keeps what was got.
    pub vault: Arc<dyn Vault>,
    /// Where the metrics are registered.
    pub registry: Registry,
    /// For dates.
    pub clock: Arc<dyn Clock>,
    /// Ends the task.
    pub shutdown: CancellationToken,
}

/// Why certificates cannot be ordered at all.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The authority's certificates are no good.
    #[error("{path} cannot be used as the ACME authority's certificates: {why}")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The client of the authority cannot be made.
    #[error("no client of the ACME authority can be made")]
    Client(#[source] reqwest::Error),
    /// A metric of the same name is there already.
    #[error("the metrics of ACME cannot be registered")]
    Metrics(#[source] prometheus::Error),
}

/// Makes the task that orders certificates and renews them.
///
/// # Errors
/// See [`BuildError`].
pub fn build(config: Config, inputs: Inputs) -> Result<BoxFuture<'static, ()>, BuildError> {
    let client = client::Client::new(&config)?;
    let orders = IntCounterVec::new(
        Opts::new(
            "kittiwake_acme_orders_total",
            "Certificates ordered from the ACME authority, by result (issued, failed).",
        ),
        &["result"],
    )
    .map_err(BuildError::Metrics)?;
    let Inputs {
        routes,
        is_enabled,
        vault,
        registry,
        clock,
        shutdown,
    } = inputs;
    registry
        .register(Box::new(orders.clone()))
        .map_err(BuildError::Metrics)?;
    let mut orderer = Orderer {
        config,
        client,
        vault,
        clock,
        orders,
        recent: VecDeque::new(),
        known: BTreeMap::new(),
    };
    Ok(Box::pin(async move {
        tokio::select! {
            () = orderer.run(routes, is_enabled) => {}
            () = shutdown.cancelled() => {}
        }
    }))
}

struct Orderer {
    config: Config,
    client: client::Client,
    vault: Arc<dyn Vault>,
    clock: Arc<dyn Clock>,
    orders: IntCounterVec,
    /// When orders were made within the last hour, as Unix times; the oldest first.
    recent: VecDeque<i64>,
    /// What is known of each host.
    known: BTreeMap<Box<str>, Known>,
}

impl Orderer {
    async fn run(
        &mut self,
        mut routes: watch::Receiver<Arc<RoutingTable>>,
        mut is_enabled: watch::Receiver<bool>,
    ) {
        // Nothing is asked of the authority before there is a use for it.
        if is_enabled.wait_for(|is_enabled| *is_enabled).await.is_err() {
            return;
        }
        let mut pause = RETRY_PAUSE;
        let account = loop {
            match self.begin().await {
                Ok(account) => break account,
                Err(error) => {
                    tracing::warn!(
                        directory = self.config.directory,
                        error = &*error as &dyn std::error::Error,
                        "no account with the ACME authority"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_PAUSE_MAX);
                }
            }
        };
        loop {
            let table = Arc::clone(&routes.borrow_and_update());
            let next = if *is_enabled.borrow_and_update() {
                let now = self.clock.now().as_second();
                plan::forget(&mut self.recent, now);
                let wanted = plan::wanted(&table);
                plan::next(
                    &wanted,
                    &self.known,
                    &self.recent,
                    self.config.orders_per_hour_max,
                    now,
                )
            } else {
                Next::Wait(LOOK_PERIOD)
            };
            let pause = match next {
                Next::Order { host, namespace } => {
                    self.order(&account, &host, &namespace).await;
                    continue;
                }
                Next::Wait(pause) => pause.min(LOOK_PERIOD),
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = routes.changed() => if changed.is_err() { return },
                changed = is_enabled.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The account, and the certificates of earlier times.
    async fn begin(&mut self) -> Result<instant_acme::Account, VaultError> {
        for (host, certificate) in self.vault.certificates().await? {
            match plan::lifetime(&certificate) {
                Some(lifetime) => drop(self.known.insert(host, Known::issued(lifetime))),
                None => {
                    tracing::warn!(%host, "a kept certificate cannot be read; another one will be ordered")
                }
            }
        }
        let kept = self.vault.account().await?;
        let builder = self.client.account();
        if let Some(kept) = kept.filter(|kept| kept.directory == self.config.directory) {
            let credentials = serde_json::from_slice(&kept.credentials)?;
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact = self.config.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let wish = instant_acme::NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials) = builder.create(&wish, self.config.directory.clone(), None).await?;
        let keep = Account {
            directory: self.config.directory.clone(),
            thumbprint: account.key_thumbprint().to_owned(),
            credentials: serde_json::to_vec(&credentials)?,
        };
        self.vault.keep_account(keep).await?;
        Ok(account)
    }

    /// Orders one certificate and takes note of how that went.
    async fn order(&mut self, account: &instant_acme::Account, host: &str, namespace: &str) {
        self.recent.push_back(self.clock.now().as_second());
        let ordered = async {
            let certificate = order::order(account, host).await?;
            let lifetime = plan::lifetime(&certificate)
                .ok_or("the authority issued something that is no certificate")?;
            self.vault.keep_certificate(namespace, host, &certificate).await?;
            Ok::<_, VaultError>(lifetime)
        };
        let result = ordered.await;
        let now = self.clock.now().as_second();
        let known = self.known.entry(host.into()).or_default();
        let result = match result {
            Ok(lifetime) => {
                tracing::info!(host, "a certificate was issued");
                *known = Known::issued(lifetime);
                "issued"
            }
            Err(error) => {
                known.failed(now);
                tracing::warn!(
                    host,
                    error = &*error as &dyn std::error::Error,
                    next_try_seconds = known.pause(now).as_secs(),
                    "no certificate was issued"
                );
                "failed"
            }
        };
        self.orders.with_label_values(&[result]).inc();
    }
}
