//! Guest components for tests: a few lines of WebAssembly text each (`guests/*.wat`), made into components when first
//! asked for. No Wasm toolchain is needed.

#![allow(
    clippy::panic,
    reason = "only tests use it, and a guest that cannot be made is a broken test"
)]

use std::sync::LazyLock;
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

const WIT: &str = include_str!("../guests/wit/guest.wit");
const PRELUDE: &str = include_str!("../guests/prelude.wat");

/// Puts a module that implements `world` into a component.
fn encode(world: &str, text: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).unwrap_or_else(|error| panic!("guest text: {error}"));
    let mut resolve = Resolve::default();
    let package = resolve
        .push_source("guest.wit", WIT)
        .unwrap_or_else(|error| panic!("guest WIT: {error:?}"));
    let world = resolve
        .select_world(&[package], Some(world))
        .unwrap_or_else(|error| panic!("guest world: {error:?}"));
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)
        .and_then(|()| {
            ComponentEncoder::default()
                .validate(true)
                .module(&module)?
                .encode()
        })
        .unwrap_or_else(|error| panic!("guest component: {error:?}"))
}

/// An HTTP handler: the prelude and the guest's own fields make one module. A guest's own imports come first, as the
/// text format wants it.
fn handler(world: &str, fields: &str) -> Vec<u8> {
    let (imports, rest): (Vec<&str>, Vec<&str>) =
        fields.lines().partition(|line| line.starts_with("(import "));
    encode(
        world,
        &format!(
            "(module\n{}\n{PRELUDE}\n{}\n)",
            imports.join("\n"),
            rest.join("\n")
        ),
    )
}

/// A core module.
fn module(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("guest text: {error}"))
}

macro_rules! guests {
    ($($(#[doc = $doc:literal])+ $name:ident = $make:expr;)+) => {
        $(
            $(#[doc = $doc])+
            #[must_use]
            pub fn $name() -> Vec<u8> {
                static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| $make(include_str!(concat!("../guests/", stringify!($name), ".wat"))));
                BYTES.clone()
            }
        )+

        /// Every guest with its name.
        #[must_use]
        pub fn all() -> Vec<(&'static str, Vec<u8>)> {
            vec![$((stringify!($name), $name())),+]
        }
    };
}

guests! {
    /// Answers every request with `Hello from WebAssembly!`.
    hello = |text| handler("handler", text);
    /// Sends back header fields, body (streamed) and trailers; `x-method` (a number) and `x-path` tell the first line.
    echo = |text| handler("handler", text);
    /// Answers with its arguments, one a line, then `NAME=value` lines.
    env = |text| handler("handler", text);
    /// Traps before it answers.
    trap = |text| handler("handler", text);
    /// Traps when the request has a body, answers `fine` otherwise.
    trap_once_told = |text| handler("handler", text);
    /// Traps right after it has set its response.
    trap_after_set = |text| handler("handler", text);
    /// Sends `partial`, waits a little, then traps.
    trap_after_first_byte = |text| handler("handler", text);
    /// Answers with fib(27), which it computes by recursion.
    fib = |text| handler("handler", text);
    /// Computes for ever.
    spin = |text| handler("handler", text);
    /// Takes memory until it is refused.
    grow = |text| handler("handler", text);
    /// Makes resources on the host's side until it is refused.
    hoard = |text| handler("handler", text);
    /// Writes `one`, `two`, `unfinished` (no line end) to its output and `oh no` to its error stream.
    lines = |text| handler("handler", text);
    /// Returns without answering.
    no_answer = |text| handler("handler", text);
    /// Answers `late` after 50 ms on the guest's clock.
    delayed = |text| handler("handler", text);
    /// Answers after 10 s on the guest's clock.
    pause = |text| handler("handler", text);
    /// Waits an hour before it answers.
    asleep = |text| handler("handler", text);
    /// Sends `begun`, then is silent for an hour.
    stall = |text| handler("handler", text);
    /// Answers with [`BIG_BYTES`] bytes.
    big = |text| handler("handler", text);
    /// Answers `11`: the first call, by its global and by its memory.
    counter = |text| handler("handler", text);
    /// Answers `clean` when it finds nothing of an earlier guest, `dirty` otherwise, and leaves traces everywhere.
    residue = |text| handler("handler", text);
    /// Exits with a failure before it answers.
    exit_failed = |text| handler("handler", text);
    /// Exits without a failure and without an answer.
    exit_quietly = |text| handler("handler", text);
    /// Answers with a wasi:http error instead of a response.
    error_code = |text| handler("handler", text);
    /// Asks example.com and answers `denied` or `reached`.
    fetch = |text| handler("handler", text);
    /// Traps while its instance is made.
    start_trap = |text| handler("handler", text);
    /// Imports `acme:store/shelf@1.2.0`, which nothing provides.
    missing_import = |text| handler("shopper", text);
    /// A component that exports `answer`, and nothing that is known here.
    not_http = |text| encode("oracle", text);
    /// A WASI preview 1 command: a core module, no component.
    core_module = module;
    /// A server through WasmEdge's sockets that does what the path says: see its text.
    server = module;
    /// A server of plain WASI, whose listening socket has the number 3.
    server_preopened = module;
    /// A server of plain WASI that answers with `file` in the first folder that it finds.
    server_reader = module;
    /// A server that never listens.
    server_deaf = module;
    /// A server of plain WASI that computes for ever with one argument, and takes all memory with two.
    server_probed = module;
    /// A server that ends with code 7 before it listens.
    server_quits = module;
    /// A CGI program that does what the path says: see its text.
    cgi = module;
    /// A command that imports functions of WasmEdge's plugins.
    alien_imports = module;
}

/// An echo server of hyper's, as forked for WasmEdge, that listens on port 3000: see `guests/prebuilt/README.md`.
pub const HYPER_ECHO: &[u8] = include_bytes!("../guests/prebuilt/hyper_echo.wasm");

/// Length of the response of [`big`], in bytes.
pub const BIG_BYTES: usize = 8 * 1024 * 1024;

#[cfg(test)]
mod tests {
    #[test]
    fn every_guest_can_be_made() {
        for (name, bytes) in super::all() {
            assert!(bytes.starts_with(b"\0asm"), "{name}");
        }
    }
}
