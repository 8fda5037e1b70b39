//! Core modules: which kind of program one is, told from what it imports and exports, and how it is linked.

use crate::preview1::{self, Call, Guest};
use kittiwake_core::artifact::{FunctionKind, PrepareError};
use kittiwake_core::code::ErrorCode;
use wasmtime::{InstancePre, Linker, Module};

/// Imports that are named in a message, at most.
const IMPORTS_NAMED_MAX: usize = 8;
/// The modules of WASI preview 1, and of what was before it.
const WASI: [&str; 2] = [preview1::MODULE, "wasi_unstable"];

/// A module that is ready to be instantiated.
pub(crate) struct LoadedModule {
    /// Checked and linked.
    pub pre: InstancePre<Guest>,
    /// Whether it expects to be started with a listening socket.
    pub expects_listener: bool,
}

/// What a module is, told from the names that it imports (module, then name) and exports.
pub(crate) fn kind<'a>(
    imports: impl IntoIterator<Item = (&'a str, &'a str)>,
    exports: impl IntoIterator<Item = &'a str>,
) -> Result<FunctionKind, PrepareError> {
    let mut preview1 = false;
    let mut listens = false;
    for (module, name) in imports {
        preview1 |= WASI.contains(&module);
        listens |= module == preview1::MODULE
            && matches!(
                name.strip_suffix("_v2").unwrap_or(name),
                "sock_listen" | "sock_accept"
            );
    }
    let starts = exports.into_iter().any(|name| name == "_start");
    let what = match (preview1, starts) {
        (_, true) if listens => return Ok(FunctionKind::Server),
        (true, true) => return Ok(FunctionKind::Command),
        (true, false) => "a WASI preview 1 library: it has no `_start`",
        (false, _) => "a core module without WASI",
    };
    Err(PrepareError::new(
        ErrorCode::UnsupportedKind,
        format!(
            "the artifact is {what}; build a program with a main function for wasm32-wasip1, or a component that exports \
             wasi:http/incoming-handler (for wasm32-wasip2, or with `wasm-tools component new`)"
        ),
    ))
}

/// The names by which [`kind`] tells.
pub(crate) fn kind_of(module: &Module) -> Result<FunctionKind, PrepareError> {
    kind(
        module.imports().map(|import| (import.module(), import.name())),
        module.exports().map(|export| export.name()),
    )
}

/// Checks what a module imports, and links it.
pub(crate) fn link(linker: &Linker<Guest>, module: &Module) -> Result<LoadedModule, PrepareError> {
    let is_socket = |module: &str, name: &str| module == preview1::MODULE && Call::is_known(name);
    let mut linker = linker.clone();
    let names: Vec<(&str, &str)> = module
        .imports()
        .map(|import| (import.module(), import.name()))
        .collect();
    if names.iter().any(|(module, name)| is_socket(module, name)) {
        preview1::link_sockets(&mut linker, module)
            .map_err(|error| PrepareError::new(ErrorCode::Internal, format!("{error:#}")))?;
    }
    let pre = linker
        .instantiate_pre(module)
        .map_err(|error| missing(&linker, module, &error))?;
    let imports = |name: &str| names.contains(&(preview1::MODULE, name));
    let opens = ["sock_open", "sock_open_v2"].into_iter().any(imports);
    Ok(LoadedModule {
        pre,
        expects_listener: imports("sock_accept") && !opens,
    })
}

/// Names what nothing provides.
fn missing(linker: &Linker<Guest>, module: &Module, error: &wasmtime::Error) -> PrepareError {
    let unknown: Vec<String> = linker_misses(linker, module);
    let message = if unknown.is_empty() {
        format!("the module cannot be linked: {error:#}; build it with current tools")
    } else {
        let mut named = unknown
            .iter()
            .take(IMPORTS_NAMED_MAX)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        if unknown.len() > IMPORTS_NAMED_MAX {
            named.push_str(", …");
        }
        format!(
            "the module imports {named}, which this platform does not provide; remove the import or use another interface"
        )
    };
    PrepareError::new(ErrorCode::MissingImport, message)
}

fn linker_misses(linker: &Linker<Guest>, module: &Module) -> Vec<String> {
    module
        .imports()
        .filter(|import| {
            let mut known = linker.clone();
            // Whether there is something of this name is seen when another of the name is refused.
            known.allow_shadowing(false);
            let kind = wasmtime::FuncType::new(module.engine(), [], []);
            known
                .func_new(import.module(), import.name(), kind, |_, _, _| Ok(()))
                .is_ok()
        })
        .map(|import| format!("{}::{}", import.module(), import.name()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const P1: &str = preview1::MODULE;

    #[test]
    fn programs_are_told_apart_by_their_imports() {
        let found = |imports: &[(&'static str, &'static str)]| {
            kind(imports.iter().copied(), ["memory", "_start"]).unwrap()
        };
        assert_eq!(found(&[(P1, "fd_write")]), FunctionKind::Command);
        assert_eq!(
            found(&[(P1, "sock_open"), (P1, "sock_connect")]),
            FunctionKind::Command
        );
        assert_eq!(
            found(&[(P1, "sock_open"), (P1, "sock_listen")]),
            FunctionKind::Server
        );
        assert_eq!(found(&[(P1, "sock_accept")]), FunctionKind::Server);
        assert_eq!(found(&[(P1, "sock_accept_v2")]), FunctionKind::Server);
        assert_eq!(found(&[("wasi_unstable", "fd_write")]), FunctionKind::Command);
    }

    #[test]
    fn what_is_no_program_is_named() {
        for (imports, exports, word) in [
            (vec![(P1, "fd_write")], vec!["f"], "library"),
            (vec![], vec!["f"], "without WASI"),
            (vec![("env", "f")], vec!["_start"], "without WASI"),
        ] {
            let error = kind(imports, exports).unwrap_err();
            assert_eq!(error.code, ErrorCode::UnsupportedKind);
            assert!(error.message.contains(word), "{}", error.message);
        }
    }
}
