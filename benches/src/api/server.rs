//! The API server in a process of its own, without controllers, runtime and gateway.

use crate::process::Server;
use anyhow::Context;
use kittiwake_apiserver::{Config, Inputs, build};
use kittiwake_core::clock::SystemClock;
use kittiwake_core::log::LogHub;
use kittiwake_store::{Encryption, Keyring, ObjectStore};
use std::path::Path;
use std::sync::Arc;
use tokio::process::Command;

/// Serves until killed, over the objects in `file`; prints its address first.
pub async fn serve(file: &Path) -> anyhow::Result<()> {
    let keys = Keyring::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")?;
    let store = kittiwake_store::Config {
        encryption: Some(Arc::new(Encryption::of_secrets(keys))),
        ..kittiwake_store::Config::default()
    };
    let clock = Arc::new(SystemClock::new());
    let inputs = Inputs {
        store: ObjectStore::open(file, store)?,
        crds: kittiwake_api::crd::all(),
        clock: clock.clone(),
        logs: Arc::new(LogHub::new(clock)),
        instances: Arc::default(),
    };
    let (handle, task) = build(Config::default(), inputs)?;
    tokio::spawn(task);
    handle.started().await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("API on http://{}/", listener.local_addr()?);
    axum::serve(listener, handle.router()).await?;
    Ok(())
}

/// Starts such a process; it answers when this returns.
pub async fn start(file: &Path) -> anyhow::Result<Server> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.arg("api-server").arg(file);
    Server::start(command, |line| line.starts_with("API on ")).await
}
