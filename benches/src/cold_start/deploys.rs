//! A Service that nobody has seen before: from its creation through the API to its first answer. Its component is pulled
//! from a registry on this machine, and compiled.

use super::table::Table;
use super::{Options, with_custom_section};
use crate::load::Connection;
use crate::process;
use crate::registry::Registry;
use crate::workload::{Call, Work};
use anyhow::{Context, ensure};
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long a Service may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Creates one Service after the other.
pub async fn measure(options: &Options, table: &mut Table) -> anyhow::Result<()> {
    let hello = std::fs::read(&options.paths.component).context("no hello component")?;
    let mut registry = Registry::default();
    for index in 0..options.starts {
        registry.push(&name(index), with_custom_section(&hello, &format!("new {index}")));
    }
    let registry = registry.serve().await?;
    let folder = tempfile::tempdir()?;
    let server = process::kittiwake(
        &options.paths.kittiwake()?,
        &folder.path().join("data"),
        &options.paths.kittiwake_flags(),
    )
    .await?;
    let (gateway, api) = (server.address("Functions")?, server.address("Kubernetes API")?);
    let call = Work::Hello.call();
    let mut samples = Vec::new();
    for index in 0..options.starts {
        let image = format!("{registry}/bench/{}:v1", name(index));
        samples.push(deploy(api, gateway, &name(index), &image, &call).await?);
    }
    table.add("kittiwake: new Service, pulled and compiled", samples);
    server.stop().await
}

fn name(index: usize) -> String {
    format!("new-{index}")
}

async fn deploy(
    api: SocketAddr,
    gateway: SocketAddr,
    name: &str,
    image: &str,
    call: &Call,
) -> anyhow::Result<Duration> {
    let service = json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"template": {"spec": {"containers": [{"image": image}]}}},
    });
    let mut to_api = Connection::open(api, "127.0.0.1").await?;
    let host = format!("{name}.default.localhost");
    let start = Instant::now();
    let path = "/apis/serving.knative.dev/v1/namespaces/default/services";
    let (status, body) = to_api.post(path, &service).await?;
    ensure!(status == 201, "{status}: {}", String::from_utf8_lossy(&body));
    // Until there is a route the answer is 404.
    loop {
        let mut connection = Connection::open(gateway, &host).await?;
        match connection.call(call).await {
            Ok(_) => return Ok(start.elapsed()),
            Err(error) => ensure!(start.elapsed() < TIMEOUT, "{name}: {error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
