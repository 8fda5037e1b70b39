//! Loading compiled components. The only module of the project with `unsafe`.

use std::path::Path;
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

/// Maps a compiled component into memory. The caller has checked that the file's content has the digest under which
/// this crate itself stored it after compiling.
#[allow(
    unsafe_code,
    reason = "compiled code can only be loaded by trusting the file it is in"
)]
pub(crate) fn load(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize_file` requires that the file was made by `Engine::precompile_component` of a compatible
    // engine and that it does not change while it is mapped. `cache` only names files whose SHA-256 equals the one
    // recorded when this crate wrote the compiler's output, or that are (by inode, size and time) the file for which
    // that was found before; it never writes to a file after the rename that made it
    // visible (content-addressed, replaced by new inodes), and unlinking leaves the mapping intact. wasmtime itself
    // checks its version and the engine's settings. Someone with write access to the data directory can still change
    // a file; that is the trust placed in the directory of the program's own user, as with the program itself.
    unsafe { Component::deserialize_file(engine, path) }
}

/// The same for a core module.
#[allow(
    unsafe_code,
    reason = "compiled code can only be loaded by trusting the file it is in"
)]
pub(crate) fn load_module(engine: &Engine, path: &Path) -> wasmtime::Result<Module> {
    // SAFETY: as in `load`; the file was made by `Engine::precompile_module`.
    unsafe { Module::deserialize_file(engine, path) }
}
