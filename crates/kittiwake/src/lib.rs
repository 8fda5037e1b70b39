//! The binary's library: command line, configuration, roles and wiring.
//!
//! Architecture invariant: this is the only crate that sees two services. It hands the runtime's `Invoke` and
//! `Prepare` to gateway and controllers, and the API server's router to the controllers' client.

pub mod acme;
pub mod api_listener;
pub mod api_security;
pub mod cli;
pub mod client;
pub mod command;
pub mod config;
pub mod doors;
pub mod host_limits;
pub mod keys;
pub mod kubeconfig;
pub mod manifest;
pub mod output;
pub mod pki;
pub mod platform;
pub mod resource;
pub mod table;
pub mod telemetry;
pub mod threads;
pub mod wait;
pub mod worker;

use clap::Parser;
use std::process::ExitCode;

/// Every call makes and frees some hundred small things, often on another thread than the one that made them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Parses the command line and runs the command it names.
///
/// # Errors
/// Whatever made the command fail, with its causes; the caller prints it as one line.
pub fn run() -> anyhow::Result<ExitCode> {
    let cli = cli::Cli::parse();
    // One provider for every TLS client of the process; a second call in tests is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ended = command::run(cli);
    telemetry::flush();
    ended
}
