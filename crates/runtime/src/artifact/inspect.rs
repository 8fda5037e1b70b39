//! What a file is, told from its first bytes, so that the message can name it.

use crate::component::LISTENS;
use crate::module;
use kittiwake_core::artifact::{FunctionKind, PrepareError};
use kittiwake_core::code::ErrorCode;
use std::path::Path;

const WASM_MAGIC: &[u8] = b"\0asm";
/// Version field of a component (layer 1) as the component model's binary format has it now.
const COMPONENT_VERSION: [u8; 4] = [0x0d, 0x00, 0x01, 0x00];
/// Version field of a core module.
const MODULE_VERSION: [u8; 4] = [0x01, 0x00, 0x00, 0x00];
/// Length of magic and version.
const PREAMBLE_BYTES: usize = 8;
/// Where a tar header has its magic.
const TAR_MAGIC_AT: std::ops::Range<usize> = 257..262;

/// The WebAssembly layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    /// A component.
    Component,
    /// A core module.
    Module,
}

/// Which WebAssembly it is; otherwise an error that says what it is instead.
pub(crate) fn layer(content: &[u8]) -> Result<Layer, PrepareError> {
    if !content.starts_with(WASM_MAGIC) {
        let message = format!(
            "the artifact holds no WebAssembly: it is {}; build a component that exports wasi:http/incoming-handler, or a program for wasm32-wasip2 or wasm32-wasip1",
            describe(content)
        );
        return Err(PrepareError::new(ErrorCode::NotWasm, message));
    }
    match content.get(WASM_MAGIC.len()..PREAMBLE_BYTES) {
        Some(version) if version == COMPONENT_VERSION => Ok(Layer::Component),
        Some(version) if version == MODULE_VERSION => Ok(Layer::Module),
        Some(version) => Err(PrepareError::new(
            ErrorCode::CompileFailed,
            format!(
                "the artifact has an unknown WebAssembly version {version:02x?}; build it with current tools"
            ),
        )),
        None => Err(PrepareError::new(
            ErrorCode::CompileFailed,
            "the WebAssembly file is truncated: it ends within its first 8 bytes; build or push it again",
        )),
    }
}

/// Whether a file is WebAssembly text.
pub(crate) fn is_text(path: &Path, content: &[u8]) -> bool {
    let named = path.extension().is_some_and(|extension| extension == "wat");
    named && !content.starts_with(WASM_MAGIC)
}

/// A few words for what is not WebAssembly.
fn describe(content: &[u8]) -> &'static str {
    let text: Vec<u8> = content
        .iter()
        .copied()
        .skip_while(u8::is_ascii_whitespace)
        .take(9)
        .map(|b| b.to_ascii_lowercase())
        .collect();
    if content.is_empty() {
        "empty"
    } else if content.starts_with(b"\x7fELF") {
        "an ELF file (a native program, or WebAssembly that was already compiled)"
    } else if text.starts_with(b"<!doctype") || text.starts_with(b"<html") {
        "an HTML page (often the error page of a download)"
    } else if content.get(TAR_MAGIC_AT).is_some_and(|magic| magic == b"ustar") {
        "a tar archive"
    } else if content.starts_with(b"\x1f\x8b") {
        "gzip-compressed"
    } else if content.starts_with(b"\x28\xb5\x2f\xfd") {
        "zstd-compressed"
    } else if content.starts_with(b"PK\x03\x04") {
        "a zip archive"
    } else if content.starts_with(b"#!") {
        "a script"
    } else if content.starts_with(b"MZ") {
        "a Windows program"
    } else if text.starts_with(b"{") || text.starts_with(b"[") {
        "JSON"
    } else if text.starts_with(b"(module") || text.starts_with(b"(componen") {
        "WebAssembly text (name the file .wat, or turn it into a binary)"
    } else if std::str::from_utf8(content).is_ok() {
        "plain text"
    } else {
        "an unknown binary format"
    }
}

/// What kind of program a core module is, told from its imports and exports without compiling it. The module was found
/// to be valid.
pub(crate) fn module_kind(content: &[u8]) -> Result<FunctionKind, PrepareError> {
    let broken = |error: wasmparser::BinaryReaderError| unreadable(&error);
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    for payload in wasmparser::Parser::new(0).parse_all(content) {
        match payload.map_err(broken)? {
            wasmparser::Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.map_err(broken)?;
                    imports.push((import.module, import.name));
                }
            }
            wasmparser::Payload::ExportSection(section) => {
                for export in section {
                    exports.push(export.map_err(broken)?.name);
                }
            }
            _ => {}
        }
    }
    module::kind(imports, exports)
}

/// What kind of program a component is, told from its exports without compiling it. The component was found to be
/// valid. One that exports nothing which is known counts as one that should answer HTTP.
pub(crate) fn component_kind(content: &[u8]) -> Result<FunctionKind, PrepareError> {
    let broken = |error: wasmparser::BinaryReaderError| unreadable(&error);
    let (mut depth, mut answers_http, mut runs, mut listens) = (0_u32, false, false, false);
    for payload in wasmparser::Parser::new(0).parse_all(content) {
        match payload.map_err(broken)? {
            wasmparser::Payload::Version { .. } => depth += 1,
            wasmparser::Payload::End(_) => depth = depth.saturating_sub(1),
            wasmparser::Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    let name = export.map_err(broken)?.name.name;
                    answers_http |= name.starts_with("wasi:http/incoming-handler@")
                        || name.starts_with("wasi:http/handler@");
                    runs |= name.starts_with("wasi:cli/run@0.2.");
                }
            }
            wasmparser::Payload::ComponentTypeSection(section) if depth == 1 => {
                for kind in section {
                    listens |= has_listener(&kind.map_err(broken)?);
                }
            }
            _ => {}
        }
    }
    match (answers_http, runs) {
        (false, true) if listens => Ok(FunctionKind::Server),
        (false, true) => Ok(FunctionKind::Command),
        _ => Ok(FunctionKind::Component),
    }
}

/// Whether a type, that of an imported instance, has the function by which `wasi:sockets/tcp` listens.
fn has_listener(kind: &wasmparser::ComponentType<'_>) -> bool {
    let wasmparser::ComponentType::Instance(declarations) = kind else {
        return false;
    };
    declarations.iter().any(|declaration| {
        matches!(declaration, wasmparser::InstanceTypeDeclaration::Export { name, .. } if name.name == LISTENS)
    })
}

fn unreadable(error: &wasmparser::BinaryReaderError) -> PrepareError {
    PrepareError::new(
        ErrorCode::CompileFailed,
        format!("the WebAssembly cannot be read: {error}; build it again"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_wasm_is_named() {
        let mut tar = vec![0_u8; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (content, word) in [
            (&b""[..], "empty"),
            (b"\x7fELF\x02", "ELF"),
            (b"\n <!DOCTYPE html><html>", "HTML"),
            (b"<html>", "HTML"),
            (&tar, "tar"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"PK\x03\x04", "zip"),
            (b"#!/bin/sh", "script"),
            (b"{}", "JSON"),
            (b"(module)", ".wat"),
            (b"hello", "plain text"),
            (b"\xff\xfe\x00", "unknown"),
        ] {
            let error = layer(content).unwrap_err();
            assert_eq!(error.code, ErrorCode::NotWasm);
            assert!(error.message.contains(word), "{word}: {}", error.message);
        }
    }

    #[test]
    fn wasm_is_told_apart() {
        assert_eq!(layer(b"\0asm\x0d\0\x01\0"), Ok(Layer::Component));
        assert_eq!(layer(b"\0asm\x01\0\0\0"), Ok(Layer::Module));
        for wrong in [&b"\0asm\x01\0"[..], b"\0asm\x09\0\0\0"] {
            assert_eq!(layer(wrong).unwrap_err().code, ErrorCode::CompileFailed);
        }
    }

    #[test]
    fn programs_are_told_apart() {
        let kind = |text: &str| module_kind(&wat::parse_str(text).unwrap());
        let import = |name: &str| {
            format!(
                "(module (import \"wasi_snapshot_preview1\" \"{name}\" (func (param i32 i32) (result i32))) (func (export \"_start\")))"
            )
        };
        assert_eq!(kind(&import("sock_listen")), Ok(FunctionKind::Server));
        assert_eq!(kind(&import("fd_fdstat_get")), Ok(FunctionKind::Command));
        assert!(kind("(module)").is_err());
    }

    /// A component that exports an instance of this name, and imports what the first text says.
    fn component(imports: &str, export: &str) -> Vec<u8> {
        let text = format!(r#"(component {imports} (instance $own) (export "{export}" (instance $own)))"#);
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn components_are_told_apart() {
        for (export, wanted) in [
            ("wasi:cli/run@0.2.6", FunctionKind::Command),
            ("wasi:cli/run@0.3.0", FunctionKind::Component),
            ("wasi:http/incoming-handler@0.2.4", FunctionKind::Component),
            ("a:b/c@1.0.0", FunctionKind::Component),
        ] {
            assert_eq!(component_kind(&component("", export)), Ok(wanted), "{export}");
        }
        let both = r#"(component (instance $own) (export "wasi:cli/run@0.2.6" (instance $own))
            (export "wasi:http/incoming-handler@0.2.4" (instance $own)))"#;
        let both = wat::parse_str(both).unwrap();
        assert_eq!(component_kind(&both), Ok(FunctionKind::Component));
        let within =
            r#"(component (component (instance $own) (export "wasi:cli/run@0.2.6" (instance $own))))"#;
        let within = wat::parse_str(within).unwrap();
        assert_eq!(component_kind(&within), Ok(FunctionKind::Component));
    }

    #[test]
    fn a_program_that_listens_is_a_server() {
        let sockets = |method: &str| {
            format!(
                r#"(import "wasi:sockets/tcp@0.2.6" (instance (export "tcp-socket" (type $socket (sub resource)))
                (export "{method}" (func (param "self" (borrow $socket))))))"#
            )
        };
        let kind = |method: &str, export: &str| component_kind(&component(&sockets(method), export));
        for (method, export, wanted) in [
            (LISTENS, "wasi:cli/run@0.2.6", FunctionKind::Server),
            (
                "[method]tcp-socket.start-connect",
                "wasi:cli/run@0.2.6",
                FunctionKind::Command,
            ),
            (
                LISTENS,
                "wasi:http/incoming-handler@0.2.4",
                FunctionKind::Component,
            ),
        ] {
            assert_eq!(kind(method, export), Ok(wanted), "{method} {export}");
        }
    }

    proptest! {
        /// Sections of any length and content behind a right beginning, which a stranger may push.
        #[test]
        fn any_bytes_are_read_or_refused(
            magic in prop_oneof![Just(&b"\0asm\x0d\0\x01\0"[..]), Just(&b"\0asm\x01\0\0\0"[..]), Just(&b""[..])],
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let content = [magic, &rest].concat();
            let _ = (layer(&content), module_kind(&content), component_kind(&content));
        }

        /// A program that was damaged on its way.
        #[test]
        fn a_damaged_program_is_read_or_refused(at in 8_usize..400, byte in any::<u8>(), cut in 8_usize..400) {
            let module = wat::parse_str(
                r#"(module (import "wasi_snapshot_preview1" "sock_listen" (func (param i32 i32) (result i32)))
                (memory (export "memory") 1) (func (export "_start")))"#,
            ).unwrap();
            for mut content in [module, component("", "wasi:cli/run@0.2.6")] {
                if let Some(place) = content.get_mut(at) {
                    *place = byte;
                }
                content.truncate(cut);
                let _ = (layer(&content), module_kind(&content), component_kind(&content));
            }
        }
    }
}
