//! Certificates from an ACME authority: Pebble, which is Let's Encrypt's own for tests and refuses on purpose some of
//! what clients ask.

use crate::secure::{Authority, served};
use crate::support::{bind, entry, table, try_start_issued};
use crate::tool::{find, free_port};
use futures::future::BoxFuture;
use kittiwake_core::clock::{Clock, ManualClock};
use kittiwake_core::routing_table::{Certificate, RoutingTable};
use kittiwake_gateway::acme::{self, Account, Issued, Vault, VaultError};
use kittiwake_gateway::{Config, Listeners};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const HOST: &str = "shop.example.com";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A vault in memory that tells the gateway of all it keeps.
struct Kept {
    account: Mutex<Option<Account>>,
    issued: watch::Sender<Arc<Issued>>,
    /// Whether gateways are told of the account; else they cannot answer challenges.
    tells: AtomicBool,
}

impl Vault for Kept {
    fn account(&self) -> BoxFuture<'_, Result<Option<Account>, VaultError>> {
        Box::pin(async { Ok(self.account.lock().unwrap().clone()) })
    }

    fn keep_account(&self, account: Account) -> BoxFuture<'_, Result<(), VaultError>> {
        Box::pin(async move {
            if self.tells.load(Ordering::SeqCst) {
                self.tell(&account);
            }
            *self.account.lock().unwrap() = Some(account);
            Ok(())
        })
    }

    fn certificates(&self) -> BoxFuture<'_, Result<BTreeMap<Box<str>, Certificate>, VaultError>> {
        Box::pin(async { Ok(self.issued.borrow().certificates.clone()) })
    }

    fn keep_certificate<'a>(
        &'a self,
        namespace: &'a str,
        host: &'a str,
        certificate: &'a Certificate,
    ) -> BoxFuture<'a, Result<(), VaultError>> {
        assert_eq!(namespace, "default");
        self.issued.send_modify(|issued| {
            let issued = Arc::make_mut(issued);
            issued.certificates.insert(host.into(), certificate.clone());
        });
        Box::pin(async { Ok(()) })
    }
}

impl Kept {
    fn new(tells: bool) -> Arc<Self> {
        Arc::new(Self {
            account: Mutex::default(),
            issued: watch::Sender::default(),
            tells: tells.into(),
        })
    }

    fn tell(&self, account: &Account) {
        self.issued.send_modify(|issued| {
            Arc::make_mut(issued).thumbprint = Some(account.thumbprint.as_str().into());
        });
    }
}

/// A running Pebble that validates at a gateway's port.
struct Pebble {
    directory: String,
    management: u16,
    authority: Authority,
    ca_file: std::path::PathBuf,
    _programs: [Child; 2],
    _folder: tempfile::TempDir,
}

fn run(program: &Path, arguments: &[&str], folder: &Path) -> Child {
    Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("PEBBLE_VA_NOSLEEP", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

impl Pebble {
    async fn start(gateway_port: u16) -> Option<Self> {
        let (pebble, names) = (find("pebble")?, find("pebble-challtestsrv")?);
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let own = authority.issue(&["127.0.0.1", "localhost"], 2100);
        std::fs::write(folder.path().join("cert.pem"), &own.chain).unwrap();
        std::fs::write(folder.path().join("key.pem"), &own.key).unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, authority.pem()).unwrap();
        let (listen, management, dns) = (free_port(), free_port(), free_port());
        let config = format!(
            r#"{{"pebble": {{"listenAddress": "127.0.0.1:{listen}", "managementListenAddress": "127.0.0.1:{management}",
                "certificate": "cert.pem", "privateKey": "key.pem", "httpPort": {gateway_port}, "tlsPort": 1,
                "profiles": {{"default": {{"description": "90 days", "validityPeriod": 7776000}}}}}}}}"#
        );
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let dns = format!("127.0.0.1:{dns}");
        let resolver = run(
            &names,
            &[
                "-defaultIPv6",
                "",
                "-dnsserver",
                &dns,
                "-doh",
                "",
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
                "-management",
                &format!("127.0.0.1:{}", free_port()),
            ],
            folder.path(),
        );
        let pebble = run(
            &pebble,
            &["-config", "config.json", "-dnsserver", &dns],
            folder.path(),
        );
        let pebble = Self {
            directory: format!("https://127.0.0.1:{listen}/dir"),
            management,
            authority,
            ca_file,
            _programs: [resolver, pebble],
            _folder: folder,
        };
        while pebble.get(&pebble.directory).await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(pebble)
    }

    async fn get(&self, url: &str) -> Option<String> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let trusted = reqwest::Certificate::from_der(&self.authority.certificate).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_only([trusted])
            .build()
            .unwrap();
        client.get(url).send().await.ok()?.text().await.ok()
    }

    /// Whose certificates Pebble issues.
    async fn issuer(&self) -> Authority {
        let url = format!("https://127.0.0.1:{}/roots/0", self.management);
        Authority::known(self.get(&url).await.unwrap().as_bytes())
    }
}

struct Orderer {
    registry: prometheus::Registry,
    end: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Orderer {
    fn start(
        pebble: &Pebble,
        vault: &Arc<Kept>,
        routes: watch::Receiver<Arc<RoutingTable>>,
        clock: &Arc<ManualClock>,
    ) -> Self {
        let (registry, end) = (prometheus::Registry::new(), CancellationToken::new());
        // Kept for as long as the task: whoever switches ACME on and off lives on.
        let (switch, is_enabled) = watch::channel(true);
        let config = acme::Config {
            email: Some("ops@example.com".into()),
            ca_file: Some(pebble.ca_file.clone()),
            ..acme::Config::new(&pebble.directory)
        };
        let inputs = acme::Inputs {
            routes,
            is_enabled,
            vault: Arc::clone(vault) as Arc<dyn Vault>,
            registry: registry.clone(),
            clock: Arc::clone(clock) as Arc<dyn Clock>,
            shutdown: end.clone(),
        };
        let task = acme::build(config, inputs).unwrap();
        let task = tokio::spawn(async move {
            task.await;
            drop(switch);
        });
        Self { registry, end, task }
    }

    async fn until(&self, result: &str, count: u32) {
        let line = format!("kittiwake_acme_orders_total{{result=\"{result}\"}} {count}\n");
        let shown = || {
            prometheus::TextEncoder::new()
                .encode_to_string(&self.registry.gather())
                .unwrap()
        };
        while !shown().contains(&line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn end(self) {
        self.end.cancel();
        self.task.await.unwrap();
    }
}

fn routes() -> Arc<RoutingTable> {
    table(vec![(HOST, entry(&[("hello-00001", 100)], None))])
}

#[tokio::test]
async fn a_certificate_is_issued_served_kept_and_renewed() {
    let vault = Kept::new(true);
    let also = Listeners {
        https: Some(bind()),
        ..Listeners::default()
    };
    let server = try_start_issued(
        bind(),
        Config::default(),
        routes(),
        also,
        vault.issued.subscribe(),
    )
    .unwrap();
    let Some(pebble) = Pebble::start(server.handle.local_addr().port()).await else {
        return;
    };
    let clock = Arc::new(ManualClock::new(kittiwake_core::clock::SystemClock::new().now()));
    let ordering = Orderer::start(&pebble, &vault, server.routes.subscribe(), &clock);
    ordering.until("issued", 1).await;
    let line = format!("kittiwake_gateway_certificate_expiry_seconds{{host=\"{HOST}\"}}");
    server.until_metric(&line).await;
    let issuer = pebble.issuer().await;
    assert_eq!(served(&issuer, &server, HOST).await, format!("DNSName({HOST})"));
    ordering.end().await;

    // Another program takes up what the first one kept: nothing is ordered before it is time.
    let account = vault.account.lock().unwrap().clone();
    let first = vault.issued.borrow().certificates[HOST].clone();
    let ordering = Orderer::start(&pebble, &vault, server.routes.subscribe(), &clock);
    clock.advance(DAY * 61);
    server.routes.send_replace(routes());
    ordering.until("issued", 1).await;
    assert!(
        vault.account.lock().unwrap().clone() == account,
        "the account stays"
    );
    let second = vault.issued.borrow().certificates[HOST].clone();
    assert!(first != second, "it was renewed");
    ordering.end().await;
}

#[tokio::test]
async fn an_order_that_fails_is_tried_again_later() {
    let vault = Kept::new(false);
    let server = try_start_issued(
        bind(),
        Config::default(),
        routes(),
        Listeners::default(),
        vault.issued.subscribe(),
    )
    .unwrap();
    let Some(pebble) = Pebble::start(server.handle.local_addr().port()).await else {
        return;
    };
    let clock = Arc::new(ManualClock::new(kittiwake_core::clock::SystemClock::new().now()));
    let ordering = Orderer::start(&pebble, &vault, server.routes.subscribe(), &clock);
    ordering.until("failed", 1).await;
    assert!(vault.issued.borrow().certificates.is_empty());
    let account = vault.account.lock().unwrap().clone().unwrap();
    vault.tell(&account);
    clock.advance(Duration::from_secs(5 * 60));
    server.routes.send_replace(routes());
    ordering.until("issued", 1).await;
    ordering.end().await;
}

#[tokio::test]
async fn challenges_are_answered_for_those_who_have_an_account() {
    let path = "/.well-known/acme-challenge/abc-_123";
    let (issued, receiver) = watch::channel(Arc::new(Issued::default()));
    let server = try_start_issued(
        bind(),
        Config::default(),
        routes(),
        Listeners::default(),
        receiver,
    )
    .unwrap();
    let answer = server.get(HOST, path).await;
    assert!(answer.ends_with("hello-00001"), "the function is asked: {answer}");
    issued.send_replace(Arc::new(Issued {
        thumbprint: Some("thumb".into()),
        ..Issued::default()
    }));
    loop {
        let answer = server.get(HOST, path).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        if answer.ends_with("\r\n\r\nabc-_123.thumb") {
            break;
        }
    }
}
