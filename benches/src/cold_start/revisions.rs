//! Many revisions at zero, compiled on disk. They are deployed, and each is called twice over one connection, in random
//! order: the difference between first and second call is what coming from zero adds. Their programs are in memory since
//! they were deployed, as long as there is room. Then the server is started anew, so that none is in memory, and the same
//! is done again; and once more after all functions have been unloaded for being idle, of which the programs stay.

use super::table::Table;
use super::{Options, with_custom_section};
use crate::load::{self, Connection};
use crate::peers::service;
use crate::process;
use crate::workload::Work;
use anyhow::Context;
use rand::seq::SliceRandom;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the platform may take until it serves again after a start.
const READY_TIMEOUT: Duration = Duration::from_secs(300);

/// Deploys, restarts, calls.
pub async fn measure(options: &Options, table: &mut Table) -> anyhow::Result<()> {
    let program = options.paths.kittiwake()?;
    let hello = std::fs::read(&options.paths.component).context("no hello component")?;
    let folder = tempfile::tempdir()?;
    let data_dir = folder.path().join("data");
    let flags = options.paths.kittiwake_flags();

    let server = process::kittiwake(&program, &data_dir, &flags).await?;
    let start = Instant::now();
    let manifest = write_services(folder.path(), &hello, options.revisions)?;
    process::apply(&program, &data_dir, &manifest).await?;
    println!(
        "deployed {} services in {:.1} s",
        options.revisions,
        start.elapsed().as_secs_f64()
    );
    let (gateway, api) = (server.address("Functions")?, server.address("Kubernetes API")?);
    call_all(gateway, options.revisions, "after deployment (kept)", table).await?;
    println!(
        "{:.1} MiB resident after calling all; {} programs were in memory",
        server.resident_mib()?,
        load::metric(api, "kittiwake_programs_found_total").await?
    );
    server.stop().await?;

    let start = Instant::now();
    let server = process::kittiwake(&program, &data_dir, &flags).await?;
    let (gateway, api) = (server.address("Functions")?, server.address("Kubernetes API")?);
    wait_until_ready(api).await?;
    println!(
        "served again {:.2} s after the start, {:.1} MiB resident",
        start.elapsed().as_secs_f64(),
        server.resident_mib()?
    );
    call_all(gateway, options.revisions, "after a restart (on disk)", table).await?;
    println!("{:.1} MiB resident after calling all", server.resident_mib()?);

    if options.idle_wait > 0 {
        tokio::time::sleep(Duration::from_secs(options.idle_wait)).await;
        println!(
            "{} functions and {} programs in memory after {} s without calls, {:.1} MiB resident",
            load::metric(api, "kittiwake_functions_loaded").await?,
            load::metric(api, "kittiwake_programs_kept").await?,
            options.idle_wait,
            server.resident_mib()?
        );
        call_all(gateway, options.revisions, "after unloading (kept)", table).await?;
    }
    server.stop().await
}

/// Calls each revision twice.
async fn call_all(gateway: SocketAddr, count: usize, when: &str, table: &mut Table) -> anyhow::Result<()> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut rand::rng());
    let call = Work::Hello.call();
    let (mut first, mut second, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for index in order {
        let mut connection = Connection::open(gateway, &format!("{}.default.localhost", name(index))).await?;
        let cold = connection.call(&call).await.with_context(|| name(index))?;
        let warm = connection.call(&call).await?;
        first.push(cold);
        second.push(warm);
        added.push(cold.saturating_sub(warm));
    }
    table.add(format!("kittiwake: first call {when}"), first);
    table.add("  second call", second);
    table.add("  added by coming from zero", added);
    Ok(())
}

fn name(index: usize) -> String {
    format!("hello-{index}")
}

/// Writes a component and a manifest for each revision; returns the manifest's path.
fn write_services(folder: &Path, hello: &[u8], count: usize) -> anyhow::Result<PathBuf> {
    let mut manifests = String::new();
    for index in 0..count {
        let path = folder.join(format!("{index}.wasm"));
        std::fs::write(&path, with_custom_section(hello, &index.to_string()))?;
        write!(
            manifests,
            "{}",
            service(&name(index), &path.display().to_string())
        )?;
    }
    let path = folder.join("services.yaml");
    std::fs::write(&path, manifests)?;
    Ok(path)
}

/// Waits until the platform says that what was deployed before is served again.
async fn wait_until_ready(api: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    while Connection::open(api, "127.0.0.1").await?.get("/readyz").await?.0 != 200 {
        anyhow::ensure!(Instant::now() < deadline, "not ready after {READY_TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
