//! The commands, one file each.

pub mod apply;
pub mod backup;
pub mod check;
pub mod delete;
pub mod describe;
pub mod doctor;
pub mod get;
pub mod invoke;
pub mod logs;
pub mod restore;
pub mod simulate;
pub mod up;
pub mod version;

use crate::cli::{Cli, Command};
use crate::threads::Threads;
use anyhow::Context;
use clap::CommandFactory;
use std::process::ExitCode;

/// Runs the command that the command line names.
///
/// # Errors
/// Whatever made it fail.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Up(args) => Threads::start()?.run(|control| up::run(*args, control)),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "kittiwake", &mut script);
            crate::out!("{}", String::from_utf8_lossy(&script));
            Ok(ExitCode::SUCCESS)
        }
        Command::Worker => crate::worker::process::run(),
        Command::Doctor(args) => doctor::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Restore(args) => restore::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Backup(args) => on_one_core()?.block_on(backup::run(args)),
        Command::Apply(args) => on_one_core()?.block_on(apply::run(args)),
        Command::Get(args) => on_one_core()?.block_on(get::run(args)),
        Command::Describe(args) => on_one_core()?.block_on(describe::run(args)),
        Command::Delete(args) => on_one_core()?.block_on(delete::run(args)),
        Command::Invoke(args) => on_one_core()?.block_on(invoke::run(args)),
        Command::Logs(args) => on_one_core()?.block_on(logs::run(args)),
        Command::Version(args) => on_one_core()?.block_on(version::run(args)),
    }
}

/// Clients only wait: one thread starts faster than many.
fn on_one_core() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")
}
