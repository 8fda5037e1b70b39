//! The `.wasm` inside the layers of a plain container image.

use super::Program;
use super::manifest::Compression;
use kittiwake_core::artifact::PrepareError;
use kittiwake_core::code::ErrorCode;
use kittiwake_core::unit::ByteCount;
use serde::Deserialize;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;

/// Files in one layer that are looked at; an image with more is refused.
const ENTRIES_PER_LAYER_MAX: usize = 100_000;
/// Unpacked size of one layer, in multiples of the largest artifact; stops a small layer from unpacking for ever.
const UNPACKED_PER_ARTIFACT_MAX: u64 = 8;
/// Headers in front of one file of a layer (GNU long names, PAX records, lists of sparse blocks), in bytes. The `tar`
/// crate keeps them in memory whatever length they claim, and zeros compress a thousandfold.
const FILE_HEADERS_BYTES_MAX: u64 = 64 * 1024;
/// What the size of a file in a tar is rounded up to, in bytes.
const TAR_BLOCK_BYTES: u64 = 512;
/// Prefix by which a layer deletes a file of the layers below (OCI image spec, layer.md, "Whiteouts").
const WHITEOUT_PREFIX: &str = ".wh.";
/// Name by which a layer deletes all of a directory of the layers below.
const WHITEOUT_OPAQUE: &str = ".wh..wh..opq";

#[derive(Debug, Default, Deserialize)]
struct ImageFile {
    #[serde(default)]
    config: Option<Execution>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Execution {
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    working_dir: Option<String>,
}

/// Collects the `.wasm` files of an image, layer by layer from the lowest.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    files: BTreeMap<String, Vec<u8>>,
}

impl Unpacked {
    /// Applies one layer on top of those before.
    pub(crate) fn apply(
        &mut self,
        layer: &[u8],
        compression: Compression,
        bytes_max: ByteCount,
    ) -> Result<(), PrepareError> {
        let limit = bytes_max.0.saturating_mul(UNPACKED_PER_ARTIFACT_MAX);
        match compression {
            Compression::None => self.apply_tar(layer.take(limit), bytes_max),
            Compression::Gzip => {
                self.apply_tar(flate2::read::MultiGzDecoder::new(layer).take(limit), bytes_max)
            }
        }
    }

    fn apply_tar(&mut self, reader: impl Read, bytes_max: ByteCount) -> Result<(), PrepareError> {
        let allowance = Cell::new(FILE_HEADERS_BYTES_MAX);
        let mut archive = tar::Archive::new(Allowed {
            reader,
            allowance: &allowance,
        });
        let entries = archive.entries().map_err(|error| broken(&error))?;
        for (count, entry) in entries.enumerate() {
            let mut entry = entry.map_err(|error| broken(&error))?;
            allowance.set(stored_bytes(&entry).saturating_add(FILE_HEADERS_BYTES_MAX));
            if count >= ENTRIES_PER_LAYER_MAX {
                return Err(too_large(&format!(
                    "a layer has more than {ENTRIES_PER_LAYER_MAX} files"
                )));
            }
            let path = normalize(&String::from_utf8_lossy(&entry.path_bytes()));
            if self.white_out(&path) || !path.ends_with(".wasm") || !entry.header().entry_type().is_file() {
                continue;
            }
            let kept: u64 = self.files.values().map(|file| file.len() as u64).sum();
            if kept.saturating_add(entry.size()) > bytes_max.0 {
                return Err(too_large(&format!(
                    "its .wasm files are larger than the limit of {bytes_max}"
                )));
            }
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(|error| broken(&error))?;
            self.files.insert(path, content);
        }
        Ok(())
    }

    /// Deletes what a whiteout entry deletes; `true` when `path` is one.
    fn white_out(&mut self, path: &str) -> bool {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == WHITEOUT_OPAQUE {
            self.files.retain(|file, _| !is_below(file, directory));
            return true;
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) else {
            return false;
        };
        let hidden = if directory.is_empty() {
            hidden.to_owned()
        } else {
            format!("{directory}/{hidden}")
        };
        self.files
            .retain(|file, _| *file != hidden && !is_below(file, &hidden));
        true
    }

    /// The program of the image: the `.wasm` that its entrypoint names, otherwise the only one. It is called by its path,
    /// and by what the image starts with.
    pub(crate) fn program(mut self, config: &[u8]) -> Result<Program, PrepareError> {
        let file: ImageFile = serde_json::from_slice(config).unwrap_or_default();
        let execution = file.config.unwrap_or_default();
        let words = execution.entrypoint.iter().chain(&execution.cmd).flatten();
        let called = |path: String| -> Vec<String> { words.clone().take(1).cloned().chain([path]).collect() };
        if let Some(named) = words.clone().find(|word| word.ends_with(".wasm")) {
            let directory = execution.working_dir.as_deref().unwrap_or("/");
            let path = if named.starts_with('/') {
                normalize(named)
            } else {
                normalize(&format!("{directory}/{named}"))
            };
            let wasm = self.files.remove(&path).ok_or_else(|| {
                not_wasm(
                    &format!("its entrypoint {named} is not among its files"),
                    "correct the ENTRYPOINT",
                )
            })?;
            let names = called(path);
            return Ok(Program { wasm, names });
        }
        if self.files.len() > 1 {
            let names: Vec<_> = self.files.keys().map(String::as_str).collect();
            return Err(not_wasm(
                &format!("it holds several .wasm files ({})", names.join(", ")),
                "name one in its ENTRYPOINT",
            ));
        }
        let only = self.files.into_iter().next().map(|(path, wasm)| Program {
            wasm,
            names: called(path),
        });
        only.ok_or_else(|| {
            let command: Vec<_> = words.map(String::as_str).collect();
            not_wasm(
                &format!(
                    "it is a container image without a .wasm file (its command is [{}])",
                    command.join(" ")
                ),
                "this version runs WebAssembly components: build FROM scratch with the .wasm as ENTRYPOINT",
            )
        })
    }
}

/// A reader that fails once it gave what it is allowed to give. The allowance is renewed with every file of the tar, by
/// the file's own length; what is left over bounds the headers before the next one.
struct Allowed<'a, R> {
    reader: R,
    allowance: &'a Cell<u64>,
}

impl<R: Read> Read for Allowed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = self.allowance.get();
        if left == 0 && !buffer.is_empty() {
            return Err(std::io::Error::other(HeadersTooLong));
        }
        let count = (&mut self.reader).take(left).read(buffer)?;
        self.allowance.set(left.saturating_sub(count as u64));
        Ok(count)
    }
}

/// The headers in front of a file exceed their limit.
#[derive(Debug, thiserror::Error)]
#[error(
    "the headers before one of its files are longer than {}",
    ByteCount(FILE_HEADERS_BYTES_MAX)
)]
struct HeadersTooLong;

/// The bytes that a file takes up in the tar. A sparse file is as long as its header says, not as it will be on disk.
fn stored_bytes(entry: &tar::Entry<'_, impl Read>) -> u64 {
    let size = if entry.header().entry_type().is_gnu_sparse() {
        entry.header().entry_size().unwrap_or_default()
    } else {
        entry.size()
    };
    size.checked_next_multiple_of(TAR_BLOCK_BYTES).unwrap_or(u64::MAX)
}

fn is_below(file: &str, directory: &str) -> bool {
    directory.is_empty()
        || file
            .strip_prefix(directory)
            .is_some_and(|rest| rest.starts_with('/'))
}

/// A path without leading slash, `.` and `..`; it is only ever a key.
fn normalize(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    parts.join("/")
}

fn broken(error: &std::io::Error) -> PrepareError {
    if let Some(headers) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<HeadersTooLong>())
    {
        return too_large(&format!("a layer cannot be unpacked: {headers}"));
    }
    PrepareError::new(
        ErrorCode::NotWasm,
        format!("a layer of the image is damaged or too large to unpack: {error}; push the image again"),
    )
}

fn too_large(why: &str) -> PrepareError {
    PrepareError::new(
        ErrorCode::ArtifactTooLarge,
        format!("the image is too large: {why}"),
    )
}

fn not_wasm(why: &str, advice: &str) -> PrepareError {
    PrepareError::new(
        ErrorCode::NotWasm,
        format!("the image cannot be run: {why}; {advice}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: ByteCount = ByteCount::mib(1);

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpack(layers: &[Vec<u8>]) -> Unpacked {
        let mut unpacked = Unpacked::default();
        for layer in layers {
            unpacked.apply(layer, Compression::None, MAX).unwrap();
        }
        unpacked
    }

    #[test]
    fn the_entrypoint_decides_then_the_only_file() {
        let layers = [tar(&[("a.wasm", b"A"), ("dir/b.wasm", b"B"), ("readme", b"x")])];
        let config = br#"{"config":{"Entrypoint":["/dir/b.wasm"]}}"#;
        assert_eq!(unpack(&layers).program(config).unwrap().wasm, b"B");
        let relative = br#"{"config":{"Cmd":["b.wasm"],"WorkingDir":"/dir"}}"#;
        assert_eq!(unpack(&layers).program(relative).unwrap().wasm, b"B");
        assert!(
            unpack(&layers)
                .program(b"{}")
                .unwrap_err()
                .message
                .contains("a.wasm, dir/b.wasm")
        );
        let only = unpack(&[tar(&[("./only.wasm", b"O")])]);
        let started = br#"{"config":{"Entrypoint":["/app/serve"],"Cmd":["x"]}}"#;
        let wanted = Program {
            wasm: b"O".to_vec(),
            names: vec!["/app/serve".to_owned(), "only.wasm".to_owned()],
        };
        assert_eq!(only.program(started), Ok(wanted));
        let none = unpack(&[tar(&[("bin/sh", b"x")])])
            .program(br#"{"config":{"Cmd":["sh"]}}"#)
            .unwrap_err();
        assert!(none.message.contains("[sh]"), "{}", none.message);
        let gone = unpack(&layers)
            .program(br#"{"config":{"Entrypoint":["/c.wasm"]}}"#)
            .unwrap_err();
        assert!(gone.message.contains("/c.wasm"), "{}", gone.message);
    }

    #[test]
    fn later_layers_replace_and_delete() {
        let first = tar(&[("a.wasm", b"1"), ("d/b.wasm", b"1"), ("e/f/c.wasm", b"1")]);
        let second = tar(&[("a.wasm", b"2"), ("d/.wh.b.wasm", b""), ("e/.wh..wh..opq", b"")]);
        assert_eq!(unpack(&[first, second]).program(b"{}").unwrap().wasm, b"2");
    }

    /// A tar of zeros under one header, as short as gzip makes it.
    fn long_header(kind: tar::EntryType, bytes: u64) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_path("././@LongLink").unwrap();
        header.set_entry_type(kind);
        header.set_size(bytes);
        header.set_cksum();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::copy(&mut header.as_bytes().as_slice(), &mut gzip).unwrap();
        std::io::copy(&mut std::io::repeat(0).take(bytes), &mut gzip).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn headers_are_not_read_without_limit() {
        use tar::EntryType;
        for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
            let layer = long_header(kind, 7 * 1024 * 1024);
            let error = Unpacked::default()
                .apply(&layer, Compression::Gzip, MAX)
                .unwrap_err();
            assert_eq!(error.code, ErrorCode::ArtifactTooLarge, "{kind:?}: {error}");
            assert!(
                error.message.contains("headers before one of its files"),
                "{error}"
            );
            assert!(error.message.contains("64Ki"), "{error}");
        }
    }

    #[test]
    fn long_names_and_files_longer_than_headers_are_read() {
        let directory = "d/".repeat(500);
        let (skipped, kept) = (format!("{directory}a.txt"), format!("{directory}b.wasm"));
        let long = vec![7; 300 * 1024];
        let layer = tar(&[
            (&skipped, &long),
            (&kept, &long),
            ("c.txt", &long),
            ("d.wasm", b"D"),
        ]);
        let unpacked = unpack(&[layer]);
        assert_eq!(unpacked.files.get(&kept), Some(&long));
        assert_eq!(unpacked.files.len(), 2);
    }

    #[test]
    fn broken_and_oversized_layers_are_refused() {
        let mut unpacked = Unpacked::default();
        let error = unpacked
            .apply(
                b"no tar at all, but long enough to be looked at",
                Compression::Gzip,
                MAX,
            )
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::NotWasm);
        let big = tar(&[("big.wasm", &[0; 2048])]);
        let error = unpacked
            .apply(&big, Compression::None, ByteCount(1024))
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::ArtifactTooLarge);
    }

    proptest! {
        #[test]
        fn any_layer_and_configuration_are_read_or_refused(
            layer in proptest::collection::vec(any::<u8>(), 0..2048),
            config in "[ -~]{0,100}",
        ) {
            for compression in [Compression::None, Compression::Gzip] {
                let mut unpacked = Unpacked::default();
                let _ = unpacked.apply(&layer, compression, MAX);
                let _ = unpacked.program(config.as_bytes());
            }
        }

        /// A layer with some bytes of its headers or its compressed form changed, or cut.
        #[test]
        fn a_damaged_layer_is_read_or_refused(
            damage in proptest::collection::vec((0_usize..3000, any::<u8>()), 0..8),
            cut in 0_usize..6000,
            compressed in any::<bool>(),
        ) {
            let whole = tar(&[("d/a.wasm", b"A"), (&format!("{}x.wasm", "d/".repeat(80)), b"B"), ("d/.wh.a.wasm", b"")]);
            let mut layer = if compressed {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                std::io::Write::write_all(&mut gzip, &whole).unwrap();
                gzip.finish().unwrap()
            } else {
                whole
            };
            for (at, byte) in damage {
                if let Some(place) = layer.get_mut(at) {
                    *place = byte;
                }
            }
            layer.truncate(cut);
            let compression = if compressed { Compression::Gzip } else { Compression::None };
            let mut unpacked = Unpacked::default();
            let _ = unpacked.apply(&layer, compression, MAX);
            let kept: usize = unpacked.files.values().map(Vec::len).sum();
            prop_assert!(kept as u64 <= MAX.0);
        }
    }
}
