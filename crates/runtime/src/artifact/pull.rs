//! From an image name to its WebAssembly.

use super::credentials::{self, Credential};
use super::layers::Unpacked;
use super::layout::Layout;
use super::manifest::{self, Compression, Descriptor, Plan};
use super::reference::ImageRef;
use super::registry::Repository;
use super::registry::clients::Http;
use super::slots::Slots;
use super::{Found, MANIFEST_BYTES_MAX, Program, file, registry};
use crate::config::Config;
use crate::digest::Digest;
use crate::error::BuildError;
use kittiwake_core::artifact::{PrepareError, RegistryCredential};
use kittiwake_core::code::ErrorCode;
use kittiwake_core::unit::ByteCount;
use oci_client::Reference;
use std::path::PathBuf;
use std::time::Duration;

/// Indexes within indexes that are followed before an image is refused.
const INDEX_DEPTH_MAX: usize = 3;

/// Fetches images.
pub(crate) struct Puller {
    http: Http,
    insecure_registries: Vec<String>,
    docker_config: Option<PathBuf>,
    allow_file_images: bool,
    artifact_bytes_max: ByteCount,
    timeout: Duration,
    slots: Slots,
}

/// Whether what a pinned name means is here already, so that its layers need not be fetched.
pub(crate) type Known<'a> = dyn Fn(&str) -> bool + Send + Sync + 'a;

/// Where the manifests and blobs of one image are.
enum Source {
    Registry(Box<Repository>),
    Layout(Layout),
}

impl Source {
    /// A manifest by digest, with the media type the source gives it.
    async fn manifest(&mut self, digest: &Digest) -> Result<(Vec<u8>, Option<String>), PrepareError> {
        match self {
            Self::Registry(repository) => {
                let (content, _, kind) = repository.manifest(&digest.to_string()).await?;
                Ok((content, kind))
            }
            Self::Layout(_) => Ok((self.blob(digest, MANIFEST_BYTES_MAX).await?, None)),
        }
    }

    async fn blob(&mut self, digest: &Digest, bytes_max: u64) -> Result<Vec<u8>, PrepareError> {
        match self {
            Self::Registry(repository) => repository.blob(digest, bytes_max).await,
            Self::Layout(layout) => {
                let (layout, digest) = (layout.clone(), digest.clone());
                blocking(move || layout.blob(&digest, bytes_max)).await
            }
        }
    }
}

/// Runs work that blocks on a thread made for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrepareError> + Send + 'static,
) -> Result<T, PrepareError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(PrepareError::new(
            ErrorCode::Internal,
            format!("a background task failed: {error}"),
        )),
    }
}

impl Puller {
    /// A puller with the limits of `config`.
    pub(crate) fn new(config: &Config) -> Result<Self, BuildError> {
        Ok(Self {
            http: Http::new(config)?,
            insecure_registries: config.insecure_registries.clone(),
            docker_config: config.docker_config.clone(),
            allow_file_images: config.allow_file_images,
            artifact_bytes_max: config.artifact_bytes_max,
            timeout: config.fetch_timeout,
            slots: Slots::new(config.fetches_parallel_max),
        })
    }

    /// Fetches the image, within the time limit. `known` spares the layers of what is here already.
    pub(crate) async fn pull(
        &self,
        image: &ImageRef,
        given: &[RegistryCredential],
        known: &Known<'_>,
    ) -> Result<Found, PrepareError> {
        if image.is_local() && !self.allow_file_images {
            return Err(PrepareError::new(
                ErrorCode::FileNotAllowed,
                "images of this machine's disk (file://, oci-layout://) are switched off on this server; push the \
                 image to a registry, or start the server with file images allowed",
            ));
        }
        // This machine's disk needs no slot: registries that hang must not hold up images that are here.
        let _slot = match image {
            ImageRef::Registry(reference) => {
                Some(self.slots.acquire(registry::host(reference.registry())).await)
            }
            ImageRef::File { .. } | ImageRef::Layout { .. } => None,
        };
        match tokio::time::timeout(self.timeout, self.find(image, given, known)).await {
            Ok(found) => found,
            Err(_) => Err(PrepareError::new(
                ErrorCode::RegistryUnavailable,
                format!(
                    "the image was not fetched within {} s; it is tried again",
                    self.timeout.as_secs_f32()
                ),
            )),
        }
    }

    async fn find(
        &self,
        image: &ImageRef,
        given: &[RegistryCredential],
        known: &Known<'_>,
    ) -> Result<Found, PrepareError> {
        match image {
            ImageRef::File { path, digest } => {
                let (image, path, digest) = (image.clone(), path.clone(), digest.clone());
                let bytes_max = self.artifact_bytes_max;
                blocking(move || file::read(&image, &path, digest.as_ref(), bytes_max)).await
            }
            ImageRef::Layout { path, tag, digest } => {
                let layout = Layout::new(path);
                let (resolver, tag) = (layout.clone(), tag.clone());
                let digest = match digest {
                    Some(digest) => digest.clone(),
                    None => blocking(move || resolver.resolve(tag.as_deref())).await?,
                };
                let mut source = Source::Layout(layout);
                let (manifest, kind) = source.manifest(&digest).await?;
                let program = self.follow(&mut source, manifest, kind).await?;
                Ok(Found {
                    pinned: image.pinned(&digest),
                    program: Some(program),
                })
            }
            ImageRef::Registry(reference) => self.find_in_registry(image, reference, given, known).await,
        }
    }

    /// Tries each credential until one is let in.
    async fn find_in_registry(
        &self,
        image: &ImageRef,
        reference: &Reference,
        given: &[RegistryCredential],
        known: &Known<'_>,
    ) -> Result<Found, PrepareError> {
        let (registry, given) = (reference.registry().to_owned(), given.to_vec());
        let docker_config = self.docker_config.clone();
        let candidates = blocking(move || {
            Ok(credentials::candidates(
                &registry,
                &given,
                docker_config.as_deref(),
            ))
        })
        .await?;
        let mut refusal = None;
        for credential in candidates {
            match self.find_with(image, reference, credential, known).await {
                // What the best credential was told is the most useful.
                Err(error) if error.code == ErrorCode::RegistryUnauthorized => {
                    refusal = refusal.or(Some(error))
                }
                done => return done,
            }
        }
        Err(refusal
            .unwrap_or_else(|| PrepareError::new(ErrorCode::RegistryUnauthorized, "no credential was tried")))
    }

    async fn find_with(
        &self,
        image: &ImageRef,
        reference: &Reference,
        credential: Credential,
        known: &Known<'_>,
    ) -> Result<Found, PrepareError> {
        let mut repository = Repository::new(&self.http, reference, &self.insecure_registries, credential);
        let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
        let (manifest, digest, kind) = repository.manifest(wanted).await?;
        let pinned = image.pinned(&digest);
        if known(&pinned) {
            return Ok(Found {
                pinned,
                program: None,
            });
        }
        let mut source = Source::Registry(Box::new(repository));
        let program = self.follow(&mut source, manifest, kind).await?;
        Ok(Found {
            pinned,
            program: Some(program),
        })
    }

    /// Follows a manifest down to the WebAssembly.
    async fn follow(
        &self,
        source: &mut Source,
        mut content: Vec<u8>,
        mut kind: Option<String>,
    ) -> Result<Program, PrepareError> {
        for _ in 0..INDEX_DEPTH_MAX {
            match manifest::plan(&content, kind.as_deref())? {
                Plan::Manifest(entry) => (content, kind) = source.manifest(&entry.digest()?).await?,
                Plan::Wasm(layer) => {
                    let wasm = source.blob(&layer.digest()?, self.size(&layer)?).await?;
                    let names = layer.title().map(str::to_owned).into_iter().collect();
                    return Ok(Program { wasm, names });
                }
                Plan::Layers { config, layers } => return self.unpack(source, &config, layers).await,
            }
        }
        Err(PrepareError::new(
            ErrorCode::NotWasm,
            format!(
                "the image has indexes within indexes, more than {INDEX_DEPTH_MAX} deep; push a plain image"
            ),
        ))
    }

    async fn unpack(
        &self,
        source: &mut Source,
        config: &Descriptor,
        layers: Vec<(Descriptor, Compression)>,
    ) -> Result<Program, PrepareError> {
        let config = source.blob(&config.digest()?, MANIFEST_BYTES_MAX).await?;
        let mut unpacked = Unpacked::default();
        let bytes_max = self.artifact_bytes_max;
        for (layer, compression) in layers {
            let content = source.blob(&layer.digest()?, self.size(&layer)?).await?;
            unpacked = blocking(move || {
                unpacked.apply(&content, compression, bytes_max)?;
                Ok(unpacked)
            })
            .await?;
        }
        unpacked.program(&config)
    }

    /// The size that a layer announces, within the limit.
    fn size(&self, layer: &Descriptor) -> Result<u64, PrepareError> {
        if layer.size > self.artifact_bytes_max.0 {
            return Err(PrepareError::new(
                ErrorCode::ArtifactTooLarge,
                format!(
                    "a layer of the image has {} bytes, more than the limit of {}",
                    layer.size, self.artifact_bytes_max
                ),
            ));
        }
        Ok(layer.size)
    }
}
