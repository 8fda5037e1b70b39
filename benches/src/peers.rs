//! The servers that are compared. Each is started for one kind of work with the settings that suit it best; a peer that is
//! not installed is left out.

use crate::load::Connection;
use crate::process::{self, Server};
use crate::workload::{Call, Work};
use crate::{Paths, programs};
use anyhow::Context;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a server may take from its start to its first right answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Slots beyond the connections, for calls that a gateway still ends while the next has come.
const SPARE_SLOTS: usize = 64;

/// A component of WASI 0.3 that greets, sends bodies back, and waits.
pub const SHARED_COMPONENT: &str = "examples/concurrent/concurrent.wasm";

/// Names that ratios refer to.
pub const NATIVE: &str = "native hyper";
pub const WASMTIME: &str = "wasmtime serve";

/// A server that does the work, under one name in the tables.
pub struct Contender {
    pub name: &'static str,
    /// Shared by two contenders that are two functions of one platform.
    pub server: Rc<Server>,
    pub address: SocketAddr,
    pub host: String,
}

impl Contender {
    /// A server that has printed its address, once it gives the right answer.
    pub async fn answering(name: &'static str, server: Server, call: &Call) -> anyhow::Result<Self> {
        let address = server.address("http://")?;
        Self::at(name, server, address, "localhost", call).await
    }

    /// A server at an address, once it gives the right answer.
    pub async fn at(
        name: &'static str,
        server: Server,
        address: SocketAddr,
        host: &str,
        call: &Call,
    ) -> anyhow::Result<Self> {
        let contender = Self {
            name,
            address,
            server: Rc::new(server),
            host: host.into(),
        };
        contender.wait_until_it_answers(call).await?;
        Ok(contender)
    }

    async fn wait_until_it_answers(&self, call: &Call) -> anyhow::Result<()> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let answered = match Connection::open(self.address, &self.host).await {
                Ok(mut connection) => connection.call(call).await.map(drop),
                Err(error) => Err(error),
            };
            match answered {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error).context(self.name),
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    }
}

/// Starts all that are installed for `work`, with room for `connections`. Files are kept in `folder`.
pub async fn start(
    paths: &Paths,
    work: Work,
    connections: usize,
    folder: &Path,
) -> anyhow::Result<Vec<Contender>> {
    let call = work.call();
    let component = work.component(&paths.component, folder)?;
    let shared = work.shared_component()?;
    let mut commands = vec![(NATIVE, programs::native()?)];
    if work == Work::Hello && programs::installed("nginx") {
        commands.push(("nginx, 1 process", programs::nginx(folder, connections)?));
    }
    if programs::installed("node") {
        commands.push(("node, 1 process", programs::node(folder)?));
    }
    if let Some(workerd) = paths.workerd() {
        commands.push(("workerd, JS", programs::workerd(&workerd, folder)?));
    }
    if programs::installed("spin") {
        commands.push(("spin", programs::spin(&component, folder)?));
    }
    if programs::installed(&paths.wasmtime) {
        commands.push((
            WASMTIME,
            programs::wasmtime(&paths.wasmtime, &component, connections),
        ));
        if let Some(shared) = &shared {
            let command = programs::wasmtime(&paths.wasmtime, shared, connections);
            commands.push(("wasmtime serve, WASI 0.3", command));
        }
    }
    let mut contenders = Vec::new();
    for (name, command) in commands {
        let server = Server::start(command, |line| line.contains("http://")).await?;
        contenders.push(Contender::answering(name, server, &call).await?);
    }
    contenders.extend(kittiwake(paths, &call, &component, shared, connections, folder).await?);
    Ok(contenders)
}

/// One platform with the component twice: a fresh instance for each request, and instances that are kept. Where there is
/// one of WASI 0.3 for the work, also that one, whose instances are in many calls at a time.
async fn kittiwake(
    paths: &Paths,
    call: &Call,
    component: &Path,
    shared: Option<PathBuf>,
    connections: usize,
    folder: &Path,
) -> anyhow::Result<Vec<Contender>> {
    let slots = (connections * 2 + SPARE_SLOTS).max(1000).to_string();
    let program = paths.kittiwake()?;
    let data_dir = folder.join("data");
    let mut flags = vec!["--max-calls".to_owned(), slots];
    flags.extend(paths.kittiwake_flags());
    let server = Rc::new(process::kittiwake(&program, &data_dir, &flags).await?);
    let component = component.display().to_string();
    let serial = with_isolation(&service("serial", &component), "serial");
    let manifest = folder.join("services.yaml");
    let mut services = service("fresh", &component) + &serial;
    if let Some(shared) = &shared {
        services += &with_isolation(
            &service("concurrent", &shared.display().to_string()),
            "concurrent",
        );
    }
    std::fs::write(&manifest, services)?;
    process::apply(&program, &data_dir, &manifest).await?;
    let contender = |name, host: &str| {
        anyhow::Ok(Contender {
            name,
            address: server.address("Functions")?,
            server: Rc::clone(&server),
            host: host.into(),
        })
    };
    let mut all = vec![
        contender("kittiwake", "fresh.default.localhost")?,
        contender("kittiwake, serial", "serial.default.localhost")?,
    ];
    if shared.is_some() {
        all.push(contender("kittiwake, WASI 0.3", "concurrent.default.localhost")?);
    }
    for contender in &all {
        contender.wait_until_it_answers(call).await?;
    }
    Ok(all)
}

/// The same Service with a choice of how calls share instances.
pub fn with_isolation(service: &str, isolation: &str) -> String {
    let annotated = format!(
        "  template:\n    metadata:\n      annotations:\n        kittiwake.dev/isolation: {isolation}\n"
    );
    service.replace("  template:\n", &annotated)
}

/// A Service whose image is a file.
pub fn service(name: &str, path: &str) -> String {
    service_of_image(name, &format!("file://{path}"))
}

/// A Service of any image.
pub fn service_of_image(name: &str, image: &str) -> String {
    format!(
        "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n  template:\n    spec:\n      \
         containers:\n        - image: {image}\n---\n"
    )
}

/// Says which peers are not installed, and how they could be.
pub fn tell_what_is_missing(paths: &Paths) {
    let missing = [
        ("nginx", programs::installed("nginx"), "a package of the system"),
        ("node", programs::installed("node"), "a package of the system"),
        (
            "workerd",
            paths.workerd().is_some(),
            "npm ci --prefix benches/peers",
        ),
        (
            "wasmtime",
            programs::installed(&paths.wasmtime),
            "cargo install --locked wasmtime-cli --version 48.0.8",
        ),
        ("spin", programs::installed("spin"), "https://spinframework.dev"),
    ];
    for (name, _, source) in missing.iter().filter(|(_, there, _)| !there) {
        println!("{name} is not installed and left out ({source})");
    }
}
