//! A component that runs as a program of the command line: what it is told, and what it reads and prints.

use super::Host;
use super::output::Output;
use crate::preview1::Program;
use kittiwake_core::log::{LogStream, RevisionLog};
use kittiwake_core::revision::RevisionSpec;
use std::sync::Arc;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

impl Host {
    /// Lets the instance find the arguments and variables of `program` instead of its revision's alone, and the streams
    /// that `set` sets. What it says on its error stream goes to the log.
    pub(crate) fn run_as(
        &mut self,
        program: &Program,
        revision: &RevisionSpec,
        log: &Arc<RevisionLog>,
        set: impl FnOnce(&mut WasiCtxBuilder),
    ) {
        let mut told = WasiCtx::builder();
        told.args(&program.arguments)
            .envs(&program.env)
            .stderr(Output::new(log, LogStream::Stderr));
        if let Some(folder) = &revision.working_dir {
            told.initial_cwd(folder);
        }
        set(&mut told);
        *self.wasi.cli() = std::mem::take(told.build().cli());
    }
}
