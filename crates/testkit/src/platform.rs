//! The whole platform in this process, on free ports, with its state in a folder that goes away with it.

use crate::http::{self, Answer};
use ::http::Method;
use anyhow::{Context, bail};
use kittiwake::cli::ConnectArgs;
use kittiwake::client::Connection;
use kittiwake::command::apply;
use kittiwake::config::Config;
use kittiwake::manifest;
use kittiwake::platform::Platform;
use kittiwake::resource::Resources;
use kittiwake::wait::{self, Outcome, Readiness};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// How long a test waits for something that should happen at once; only reached when it fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A platform under test.
pub struct TestPlatform {
    /// The platform; taken out by [`TestPlatform::restart`] and [`TestPlatform::stop`].
    running: Option<Platform>,
    config: Config,
    folder: TempDir,
    /// Held while the kubeconfig is written: tests do so from many tasks.
    writing: std::sync::Mutex<()>,
}

impl TestPlatform {
    /// Starts a platform and waits until its controllers are in step.
    ///
    /// # Errors
    /// When it cannot start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(|_| {}).await
    }

    /// The same with other settings.
    ///
    /// # Errors
    /// When it cannot start.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut config = Config::resolve(kittiwake::cli::UpArgs {
            data_dir: Some(folder.path().join("data")),
            api_listen: Some("127.0.0.1:0".parse()?),
            http_listen: Some("127.0.0.1:0".parse()?),
            ..kittiwake::cli::UpArgs::default()
        })?;
        change(&mut config);
        let mut running = Platform::start(&config).await?;
        running.synced().await;
        Ok(Self {
            running: Some(running),
            config,
            folder,
            writing: std::sync::Mutex::default(),
        })
    }

    /// Stops the platform and starts it again on the same state and ports.
    ///
    /// # Errors
    /// When it cannot start again.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let (api, gateway) = (self.api(), self.gateway());
        if let Some(running) = self.running.take() {
            running.stop(Duration::from_secs(1)).await;
        }
        self.config.api_listen = api;
        self.config.http_listen = gateway;
        let mut running = Platform::start(&self.config).await?;
        running.synced().await;
        self.running = Some(running);
        Ok(())
    }

    /// Stops the platform; returns how many calls were cut off.
    pub async fn stop(mut self, drain: Duration) -> usize {
        match self.running.take() {
            Some(running) => running.stop(drain).await,
            None => 0,
        }
    }

    /// Address of the Kubernetes API.
    #[must_use]
    pub fn api(&self) -> std::net::SocketAddr {
        self.running
            .as_ref()
            .map_or(self.config.api_listen, |running| running.api)
    }

    /// Address of the gateway.
    #[must_use]
    pub fn gateway(&self) -> std::net::SocketAddr {
        self.running
            .as_ref()
            .map_or(self.config.http_listen, |running| running.http)
    }

    /// Address of the gateway for TLS, where it has one.
    #[must_use]
    pub fn gateway_with_tls(&self) -> Option<std::net::SocketAddr> {
        self.running.as_ref().and_then(|running| running.https)
    }

    /// The metrics, as Prometheus would read them.
    ///
    /// # Errors
    /// When the API does not answer.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let request = ::http::Request::get("/metrics").body(Vec::new())?;
        Ok(self.connection().await?.client.request_text(request).await?)
    }

    /// A folder for this test's files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client of the API over its socket, as any user's would be.
    ///
    /// # Errors
    /// When the kubeconfig cannot be used.
    pub async fn connection(&self) -> anyhow::Result<Connection> {
        Connection::open(&ConnectArgs {
            kubeconfig: Some(self.kubeconfig()?),
            namespace: None,
        })
        .await
    }

    /// Writes the kubeconfig for real clients.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig(&self) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join("kubeconfig");
        let running = self.running.as_ref().context("the platform was stopped")?;
        let _writing = self
            .writing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        kittiwake::kubeconfig::write(&path, &running.access)?;
        Ok(path)
    }

    /// Puts a component into the test's folder and returns the image that names it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn image(&self, name: &str, component: &[u8]) -> anyhow::Result<String> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, component)?;
        Ok(format!("file://{}", path.display()))
    }

    /// Applies the manifests in `yaml` without waiting.
    ///
    /// # Errors
    /// When the text is malformed or the server refuses an object.
    pub async fn apply(&self, yaml: &str) -> anyhow::Result<Vec<wait::Target>> {
        let connection = self.connection().await?;
        let resources = Resources::discover(&connection).await?;
        let mut targets = Vec::new();
        for manifest in manifest::parse(yaml, "test")? {
            targets.push(
                apply::apply(&connection, &resources, &manifest, false)
                    .await?
                    .target,
            );
        }
        Ok(targets)
    }

    /// Applies the manifests in `yaml` and waits for the end of each.
    ///
    /// # Errors
    /// As [`TestPlatform::apply`].
    pub async fn apply_and_wait(&self, yaml: &str) -> anyhow::Result<Vec<Outcome>> {
        let targets = self.apply(yaml).await?;
        wait::wait(&self.connection().await?, &targets, PATIENCE).await
    }

    /// Deploys a Service of one image and waits until it is ready; returns its host.
    ///
    /// # Errors
    /// When it does not become ready; says why.
    pub async fn deploy(&self, name: &str, image: &str) -> anyhow::Result<String> {
        self.deploy_yaml(name, &service(name, image, "")).await
    }

    /// Deploys a Service given as YAML and waits until it is ready; returns its host.
    ///
    /// # Errors
    /// When it does not become ready; says why.
    pub async fn deploy_yaml(&self, name: &str, yaml: &str) -> anyhow::Result<String> {
        for outcome in self.apply_and_wait(yaml).await? {
            match outcome.readiness {
                Readiness::Ready { .. } | Readiness::Unconditional => {}
                other => bail!("{} is not ready: {other:?}", outcome.display),
            }
        }
        Ok(self.host(name))
    }

    /// The host of a Service in the default namespace.
    #[must_use]
    pub fn host(&self, name: &str) -> String {
        format!("{name}.default.localhost")
    }

    /// Calls a host through the gateway.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn call(&self, method: Method, host: &str, path: &str, body: &str) -> anyhow::Result<Answer> {
        http::send(self.gateway(), http::request(method, host, path, body.to_owned())).await
    }

    /// A GET of a host through the gateway.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn get(&self, host: &str, path: &str) -> anyhow::Result<Answer> {
        self.call(Method::GET, host, path, "").await
    }

    /// An object of the default namespace, for example `services/hello` of serving.
    ///
    /// # Errors
    /// When there is none.
    pub async fn object(&self, plural_and_name: &str) -> anyhow::Result<Value> {
        let path = format!("/apis/serving.knative.dev/v1/namespaces/default/{plural_and_name}");
        self.connection().await?.get(&path).await
    }

    /// Looks at an object of the default namespace again and again until `wanted` is true of it.
    ///
    /// # Errors
    /// When that does not happen; shows the last state.
    pub async fn until(
        &self,
        plural_and_name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let path = format!("/apis/serving.knative.dev/v1/namespaces/default/{plural_and_name}");
        self.until_at(&path, wanted).await
    }

    /// The same of whatever is at a path of the API.
    ///
    /// # Errors
    /// When that does not happen; shows the last state.
    pub async fn until_at(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let connection = self.connection().await?;
        let mut last = Value::Null;
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                if let Ok(object) = connection.get(path).await {
                    if wanted(&object) {
                        return object;
                    }
                    last = object;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        found.with_context(|| format!("{path} never came to the wanted state; last seen: {last:#}"))
    }
}

/// The YAML of a Service of one image; `extra` is more YAML of the container, indented by ten blanks.
#[must_use]
pub fn service(name: &str, image: &str, extra: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  template:\n    spec:\n      \
         containers:\n        - image: {image}\n{extra}"
    )
}

/// The condition of a type of an object, as `(status, reason, message)`.
#[must_use]
pub fn condition(object: &Value, kind: &str) -> (String, String, String) {
    let conditions = object
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let found = conditions
        .iter()
        .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind));
    let text = |field: &str| {
        found
            .and_then(|condition| condition.get(field))
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    (text("status"), text("reason"), text("message"))
}
