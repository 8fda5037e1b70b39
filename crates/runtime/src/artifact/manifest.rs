//! OCI manifests: which part of an image is its WebAssembly. The forms are those that tools have pushed over the
//! years: the CNCF Wasm artifact, Spin, runwasi and oci-distribution layers, and plain images with a `.wasm` inside.

use super::MANIFEST_BYTES_MAX;
use crate::digest::Digest;
use kittiwake_core::artifact::PrepareError;
use kittiwake_core::code::ErrorCode;
use serde::Deserialize;
use std::collections::HashMap;

/// Media types of manifests that are asked for.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
    application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.list.v2+json";

const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Layers that are a bare `.wasm`.
const WASM_LAYER_TYPES: [&str; 4] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];
const TAR_LAYER_TYPES: [&str; 3] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
];
const TAR_GZIP_LAYER_TYPES: [&str; 3] = [
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
];

/// Annotations by which tools mark an image of another platform as WebAssembly, with their values.
const WASM_ANNOTATIONS: [(&str, &[&str]); 2] = [
    ("module.wasm.image/variant", &["compat", "compat-smart"]),
    ("run.oci.handler", &["wasm", "wasm-smart"]),
];

/// The annotation by which a layer has a file's name (OCI image spec, annotations.md).
const TITLE: &str = "org.opencontainers.image.title";

/// Layers and index entries of one manifest that are looked at; more is refused.
const DESCRIPTORS_MAX: usize = 256;

/// A pointer to a blob or manifest.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    /// Type of what it points to.
    #[serde(default)]
    pub media_type: String,
    digest: String,
    /// Its size in bytes.
    pub size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    /// Free-form notes; `org.opencontainers.image.ref.name` is the tag in a layout.
    #[serde(default)]
    pub annotations: HashMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    media_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

/// What to fetch next.
#[derive(Debug)]
pub(crate) enum Plan {
    /// The manifest of one platform.
    Manifest(Descriptor),
    /// A layer that is the `.wasm` itself.
    Wasm(Descriptor),
    /// A plain image: the `.wasm` is a file in its layers.
    Layers {
        /// Its configuration, which names the entrypoint.
        config: Descriptor,
        /// Its layers, lowest first.
        layers: Vec<(Descriptor, Compression)>,
    },
}

/// How a tar layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    /// Not at all.
    None,
    /// With gzip.
    Gzip,
}

impl Descriptor {
    /// Its digest.
    pub(crate) fn digest(&self) -> Result<Digest, PrepareError> {
        Digest::parse(&self.digest).ok_or_else(|| {
            unusable(&format!(
                "it has the digest {:?}; only sha256 is supported",
                self.digest
            ))
        })
    }

    /// The name of the file that it is.
    pub(crate) fn title(&self) -> Option<&str> {
        self.annotations.get(TITLE).map(String::as_str)
    }

    fn is_platform(&self, os: &str, architectures: &[&str]) -> bool {
        self.platform
            .as_ref()
            .is_some_and(|p| p.os == os && architectures.contains(&p.architecture.as_str()))
    }

    fn is_marked_wasm(&self) -> bool {
        WASM_ANNOTATIONS.iter().any(|(key, values)| {
            self.annotations
                .get(*key)
                .is_some_and(|v| values.contains(&v.as_str()))
        })
    }
}

fn unusable(why: &str) -> PrepareError {
    PrepareError::new(
        ErrorCode::NotWasm,
        format!("the image's manifest cannot be used: {why}"),
    )
}

/// Reads a manifest or index (`content_type` is what the source called it, if it did) and decides what to fetch.
pub(crate) fn plan(content: &[u8], content_type: Option<&str>) -> Result<Plan, PrepareError> {
    let document: Document = serde_json::from_slice(content).map_err(|error| unusable(&error.to_string()))?;
    let kind = if document.media_type.is_empty() {
        content_type.unwrap_or_default()
    } else {
        &document.media_type
    };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if INDEX_TYPES.contains(&kind) || (kind.is_empty() && document.manifests.is_some()) {
        return choose_platform(bounded(document.manifests.unwrap_or_default())?).map(Plan::Manifest);
    }
    let is_manifest = MANIFEST_TYPES.contains(&kind) || (kind.is_empty() && document.layers.is_some());
    if !is_manifest {
        return Err(unusable(&format!(
            "its media type {kind:?} is neither an OCI nor a docker v2 manifest; push it with current tools"
        )));
    }
    let layers = bounded(document.layers.unwrap_or_default())?;
    choose_layers(document.config, layers)
}

fn bounded(descriptors: Vec<Descriptor>) -> Result<Vec<Descriptor>, PrepareError> {
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(unusable(&format!(
            "it has {} entries, more than {DESCRIPTORS_MAX}",
            descriptors.len()
        )));
    }
    Ok(descriptors)
}

/// The entry of an index to run: WebAssembly by platform, else by annotation, else linux/amd64, else the only one.
fn choose_platform(entries: Vec<Descriptor>) -> Result<Descriptor, PrepareError> {
    let choices: [&dyn Fn(&Descriptor) -> bool; 5] = [
        &|entry| entry.is_platform("wasi", &["wasm", "wasm32"]),
        &|entry| {
            ["wasip2", "wasip1"]
                .iter()
                .any(|os| entry.is_platform(os, &["wasm", "wasm32"]))
        },
        &Descriptor::is_marked_wasm,
        &|entry| WASM_LAYER_TYPES.contains(&entry.media_type.as_str()),
        &|entry| entry.is_platform("linux", &["amd64"]),
    ];
    for wanted in choices {
        if let Some(entry) = entries.iter().find(|entry| wanted(entry)) {
            return Ok(entry.clone());
        }
    }
    let names: Vec<_> = entries
        .iter()
        .map(|e| {
            e.platform.as_ref().map_or_else(
                || "unknown".to_owned(),
                |p| format!("{}/{}", p.os, p.architecture),
            )
        })
        .collect();
    let mut entries = entries;
    match (entries.pop(), entries.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => Err(PrepareError::new(
            ErrorCode::NotWasm,
            format!(
                "the image has no platform wasi/wasm, only [{}]; build it with --platform=wasi/wasm",
                names.join(", ")
            ),
        )),
    }
}

fn choose_layers(config: Option<Descriptor>, layers: Vec<Descriptor>) -> Result<Plan, PrepareError> {
    let mut wasm = layers
        .iter()
        .filter(|layer| WASM_LAYER_TYPES.contains(&layer.media_type.as_str()));
    if let Some(first) = wasm.next() {
        return match wasm.count() {
            0 => Ok(Plan::Wasm(first.clone())),
            more => Err(PrepareError::new(
                ErrorCode::UnsupportedKind,
                format!(
                    "the image holds {} components; this version runs images with one: split it",
                    more + 1
                ),
            )),
        };
    }
    let mut tars = Vec::new();
    for layer in layers {
        let kind = layer.media_type.as_str();
        if TAR_LAYER_TYPES.contains(&kind) {
            tars.push((layer, Compression::None));
        } else if TAR_GZIP_LAYER_TYPES.contains(&kind) {
            tars.push((layer, Compression::Gzip));
        } else if kind.ends_with("tar+zstd") {
            return Err(unusable(
                "its layers are compressed with zstd; build it with gzip compression",
            ));
        } else {
            return Err(unusable(&format!(
                "a layer has the media type {kind:?}, which is no WebAssembly and no image layer"
            )));
        }
    }
    match config {
        Some(config) if config.size <= MANIFEST_BYTES_MAX && !tars.is_empty() => {
            Ok(Plan::Layers { config, layers: tars })
        }
        Some(_) if tars.is_empty() => Err(unusable("it has no layers")),
        Some(_) => Err(unusable("its configuration is too large")),
        None => Err(unusable("it has no configuration")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn descriptor(media_type: &str, extra: &str) -> String {
        format!(
            r#"{{"mediaType":"{media_type}","digest":"sha256:{}","size":1{extra}}}"#,
            "0".repeat(64)
        )
    }

    fn image(layers: &[&str]) -> String {
        let layers: Vec<_> = layers.iter().map(|layer| descriptor(layer, "")).collect();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{},"layers":[{}]}}"#,
            MANIFEST_TYPES[0],
            descriptor("application/vnd.wasm.config.v0+json", ""),
            layers.join(",")
        )
    }

    fn index(platforms: &[&str]) -> String {
        let entries: Vec<_> = platforms
            .iter()
            .enumerate()
            .map(|(n, platform)| {
                let (os, rest) = platform.split_once('/').unwrap();
                let (architecture, annotation) = rest.split_once('+').unwrap_or((rest, "none"));
                descriptor(
                    MANIFEST_TYPES[0],
                    &format!(
                        r#","platform":{{"os":"{os}","architecture":"{architecture}"}},"annotations":{{"module.wasm.image/variant":"{annotation}","n":"{n}"}}"#
                    ),
                )
            })
            .collect();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[{}]}}"#,
            INDEX_TYPES[0],
            entries.join(",")
        )
    }

    #[test]
    fn every_kind_of_wasm_layer_is_found() {
        for kind in WASM_LAYER_TYPES {
            assert!(
                matches!(plan(image(&[kind]).as_bytes(), None), Ok(Plan::Wasm(_))),
                "{kind}"
            );
        }
        for (kind, compression) in [
            (TAR_LAYER_TYPES[0], Compression::None),
            (TAR_GZIP_LAYER_TYPES[0], Compression::Gzip),
            (TAR_GZIP_LAYER_TYPES[2], Compression::Gzip),
        ] {
            let Ok(Plan::Layers { layers, .. }) = plan(image(&[kind]).as_bytes(), None) else {
                panic!("{kind}")
            };
            assert_eq!(layers[0].1, compression);
        }
    }

    #[test]
    fn the_platform_is_chosen_by_what_runs_here() {
        for (platforms, wanted) in [
            (&["linux/amd64", "wasi/wasm"][..], "1"),
            (&["linux/arm64", "linux/amd64", "wasi/wasm32"], "2"),
            (&["linux/amd64", "linux/arm64+compat"], "1"),
            (&["linux/arm64", "linux/amd64"], "1"),
            (&["linux/arm64"], "0"),
        ] {
            let Ok(Plan::Manifest(entry)) = plan(index(platforms).as_bytes(), None) else {
                panic!("{platforms:?}")
            };
            assert_eq!(entry.annotations["n"], wanted, "{platforms:?}");
        }
        let error = plan(index(&["linux/arm64", "linux/s390x"]).as_bytes(), None).unwrap_err();
        assert!(
            error.message.contains("linux/arm64, linux/s390x"),
            "{}",
            error.message
        );
    }

    #[test]
    fn unusable_manifests_say_why() {
        let two = image(&["application/wasm", "application/wasm"]);
        assert_eq!(
            plan(two.as_bytes(), None).unwrap_err().code,
            ErrorCode::UnsupportedKind
        );
        for (content, word) in [
            ("{", "EOF"),
            (
                r#"{"schemaVersion":1,"mediaType":"application/vnd.docker.distribution.manifest.v1+json"}"#,
                "v1+json",
            ),
            (&image(&[]), "no layers"),
            (&image(&["application/vnd.oci.image.layer.v1.tar+zstd"]), "zstd"),
            (&image(&["application/octet-stream"]), "octet-stream"),
        ] {
            let error = plan(content.as_bytes(), None).unwrap_err();
            assert_eq!(error.code, ErrorCode::NotWasm);
            assert!(error.message.contains(word), "{}", error.message);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = plan(&content, None);
        }

        /// A manifest or an index with a part of it replaced by something else that JSON has.
        #[test]
        fn a_changed_manifest_is_read_or_refused(
            is_index in any::<bool>(),
            at in 0_usize..600,
            length in 0_usize..40,
            instead in "[0-9]{1,25}|null|[{}\\[\\],:\"]{1,4}|\"[ -~]{0,20}\"|true",
            content_type in proptest::option::of("[ -~]{0,60}"),
        ) {
            let text = if is_index { index(&["linux/amd64", "wasi/wasm+compat"]) } else { image(&WASM_LAYER_TYPES) };
            let (before, rest) = text.split_at(at.min(text.len()));
            let changed = format!("{before}{instead}{}", rest.get(length..).unwrap_or_default());
            if let Ok(Plan::Wasm(entry) | Plan::Manifest(entry)) = plan(changed.as_bytes(), content_type.as_deref()) {
                let _ = entry.digest();
            }
        }
    }
}
