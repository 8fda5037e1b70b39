//! Cold start: the first call of each of many revisions, all at zero, their compiled artifacts on disk.
//!
//! Every revision has a component of its own (the hello component with a different custom section), so that nothing
//! is shared between them. They are deployed first; then the server is started anew, so that none is loaded; then
//! each is called twice over one connection. The difference between first and second call is what coming from zero adds.

use crate::Paths;
use crate::load::Connection;
use crate::peers::service;
use crate::process;
use crate::statistics::{micros, percentile};
use crate::workload::Work;
use anyhow::Context;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the platform may take until it serves again after a start.
const READY_TIMEOUT: Duration = Duration::from_secs(300);

/// What to run.
#[derive(clap::Args)]
pub struct Options {
    #[command(flatten)]
    paths: Paths,
    /// Revisions
    #[arg(long, default_value_t = 1000)]
    revisions: usize,
}

/// Deploys, restarts, calls, prints.
pub async fn run(options: Options) -> anyhow::Result<()> {
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
    server.stop().await?;

    let start = Instant::now();
    let server = process::kittiwake(&program, &data_dir, &flags).await?;
    let address = server.address("Functions")?;
    wait_until_ready(server.address("Kubernetes API")?).await?;
    println!(
        "served again {:.2} s after the start, {:.1} MiB resident",
        start.elapsed().as_secs_f64(),
        server.resident_mib()?
    );

    let hello_call = Work::Hello.call();
    let (mut first, mut second, mut added) = (Vec::new(), Vec::new(), Vec::new());
    for index in 0..options.revisions {
        let mut connection = Connection::open(address, &format!("{}.default.localhost", name(index))).await?;
        let cold = connection.call(&hello_call).await.with_context(|| name(index))?;
        let warm = connection.call(&hello_call).await?;
        first.push(cold);
        second.push(warm);
        added.push(cold.saturating_sub(warm));
    }
    println!(
        "{:<42} {:>10} {:>10} {:>10} {:>10}",
        "", "p50 µs", "p90 µs", "p99 µs", "most µs"
    );
    for (label, mut samples) in [
        ("first call", first),
        ("second call", second),
        ("added by coming from zero", added),
    ] {
        samples.sort_unstable();
        let at = |percent| micros(percentile(&samples, percent));
        println!(
            "{label:<42} {:>10.0} {:>10.0} {:>10.0} {:>10.0}",
            at(50.0),
            at(90.0),
            at(99.0),
            at(100.0)
        );
    }
    println!("{:.1} MiB resident after calling all", server.resident_mib()?);
    server.stop().await
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

/// A Wasm binary with one more custom section at its end: another content, the same program.
fn with_custom_section(wasm: &[u8], text: &str) -> Vec<u8> {
    const NAME: &[u8] = b"bench";
    let mut bytes = wasm.to_vec();
    let length = 1 + NAME.len() + text.len();
    // Section 0, its length and the name's length: all below 128, where LEB128 is one byte.
    bytes.extend([0, length as u8, NAME.len() as u8]);
    bytes.extend(NAME);
    bytes.extend(text.as_bytes());
    bytes
}

/// Waits until the platform says that what was deployed before is served again.
async fn wait_until_ready(api: std::net::SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    while Connection::open(api, "127.0.0.1").await?.get("/readyz").await?.0 != 200 {
        anyhow::ensure!(Instant::now() < deadline, "not ready after {READY_TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_section_changes_only_the_content() {
        let empty_component = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
        let changed = with_custom_section(&empty_component, "7");
        assert_eq!(
            changed.get(8..),
            Some(&[0u8, 7, 5, b'b', b'e', b'n', b'c', b'h', b'7'][..])
        );
    }
}
