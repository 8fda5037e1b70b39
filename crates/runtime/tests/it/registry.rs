//! Images from a registry: a small one in this process, with the faults that real ones have.

use crate::support::{Rig, spec};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use http::{StatusCode, header};
use kittiwake_core::artifact::RegistryCredential;
use kittiwake_core::code::ErrorCode;
use kittiwake_core::invoke::InvokeError;
use kittiwake_core::log::LogStream;
use kittiwake_core::revision::Limits;
use kittiwake_core::unit::ByteCount;
use kittiwake_testkit::guest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

mod hostile;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn hex(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A manifest and everything it points to.
#[derive(Clone, Default)]
pub struct Image {
    manifest: Vec<u8>,
    blobs: HashMap<String, Vec<u8>>,
    wasm: String,
}

impl Image {
    fn add(&mut self, media_type: &str, content: &[u8]) -> Value {
        self.blobs.insert(hex(content), content.to_vec());
        json!({ "mediaType": media_type, "digest": format!("sha256:{}", hex(content)), "size": content.len() })
    }

    fn of(config_type: &str, config: &[u8], layer_type: &str, layer: &[u8]) -> Self {
        let mut image = Self {
            wasm: hex(layer),
            ..Self::default()
        };
        let (config, layer) = (image.add(config_type, config), image.add(layer_type, layer));
        let manifest =
            json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        image.manifest = serde_json::to_vec(&manifest).unwrap();
        image
    }

    /// The CNCF form.
    pub fn artifact(wasm: &[u8]) -> Self {
        Self::of(
            "application/vnd.wasm.config.v0+json",
            b"{}",
            "application/wasm",
            wasm,
        )
    }

    fn container(wasm: &[u8], gzip: bool) -> Self {
        let mut builder = tar::Builder::new(Vec::new());
        let mut head = tar::Header::new_gnu();
        head.set_size(wasm.len() as u64);
        builder.append_data(&mut head, "app.wasm", wasm).unwrap();
        let mut layer = builder.into_inner().unwrap();
        if gzip {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut encoder, &layer).unwrap();
            layer = encoder.finish().unwrap();
        }
        let config = br#"{"config":{"Entrypoint":["/app.wasm"]}}"#;
        Self::of(
            "application/vnd.oci.image.config.v1+json",
            config,
            if gzip { TAR_GZIP } else { TAR },
            &layer,
        )
    }

    /// An index with this image for one platform, and another that must not be chosen.
    fn indexed(self, os: &str, architecture: &str, annotations: Value) -> Self {
        let decoy = json!({ "mediaType": MANIFEST, "digest": format!("sha256:{}", "0".repeat(64)), "size": 2,
            "platform": { "os": "linux", "architecture": "s390x" } });
        let mut image = self.clone();
        let mut entry = image.add(MANIFEST, &self.manifest);
        entry["platform"] = json!({ "os": os, "architecture": architecture });
        entry["annotations"] = annotations;
        image.manifest = serde_json::to_vec(
            &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [decoy, entry] }),
        )
        .unwrap();
        image
    }

    pub fn digest(&self) -> String {
        format!("sha256:{}", hex(&self.manifest))
    }

    pub fn wasm_hex(&self) -> String {
        self.wasm.clone()
    }

    pub fn write_layout(&self, path: &Path, tag: &str) {
        let blobs = path.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        for (hex, content) in &self.blobs {
            std::fs::write(blobs.join(hex), content).unwrap();
        }
        std::fs::write(blobs.join(hex(&self.manifest)), &self.manifest).unwrap();
        let entry = json!({ "mediaType": MANIFEST, "digest": self.digest(), "size": self.manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": tag } });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        std::fs::write(path.join("index.json"), index.to_string()).unwrap();
        std::fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Auth {
    Anonymous,
    Basic,
    Bearer,
    /// A token for everyone, as Docker Hub gives for public images.
    AnonymousBearer,
}

struct Fake {
    image: Mutex<Image>,
    auth: Auth,
    /// Answers to give before the right ones.
    faults: Mutex<Vec<StatusCode>>,
    hang: bool,
    /// When set, requests wait until it has a permit.
    door: Option<Arc<Semaphore>>,
    requests: AtomicUsize,
    address: String,
}

async fn start(image: Image, auth: Auth, change: impl FnOnce(&mut Fake)) -> Arc<Fake> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut fake = Fake {
        image: Mutex::new(image),
        auth,
        faults: Mutex::default(),
        hang: false,
        door: None,
        requests: AtomicUsize::new(0),
        address: listener.local_addr().unwrap().to_string(),
    };
    change(&mut fake);
    let fake = Arc::new(fake);
    let router = Router::new().fallback(serve).with_state(Arc::clone(&fake));
    tokio::spawn(async move { axum::serve(listener, router).await });
    fake
}

impl Fake {
    fn name(&self) -> String {
        format!("{}/team/app", self.address)
    }

    fn basic() -> String {
        format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode("user:pass")
        )
    }

    /// A refusal, when the request does not bring what the registry wants.
    fn refusal(&self, authorization: &str) -> Option<Response> {
        let (wanted, challenge) = match self.auth {
            Auth::Anonymous => return None,
            Auth::Basic => (Self::basic(), r#"Basic realm="fake""#.to_owned()),
            Auth::Bearer | Auth::AnonymousBearer => (
                "Bearer secret-token".to_owned(),
                format!(
                    r#"Bearer realm="http://{}/token",service="fake",scope="repository:team/app:pull""#,
                    self.address
                ),
            ),
        };
        let refused = (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, challenge)],
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"log in"}]}"#,
        );
        (authorization != wanted).then(|| refused.into_response())
    }

    fn token(&self, query: &str, authorization: &str) -> Response {
        let right = query.contains("service=fake") && query.contains("scope=repository%3Ateam%2Fapp%3Apull");
        if !right || (self.auth == Auth::Bearer && authorization != Self::basic()) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        r#"{"token":"secret-token"}"#.into_response()
    }
}

async fn serve(State(fake): State<Arc<Fake>>, request: Request<Body>) -> Response {
    fake.requests.fetch_add(1, Ordering::SeqCst);
    if fake.hang {
        std::future::pending::<()>().await;
    }
    if let Some(door) = &fake.door {
        let _ = door.acquire().await.unwrap();
    }
    let authorization = request
        .headers()
        .get(header::AUTHORIZATION)
        .map_or("", |v| v.to_str().unwrap())
        .to_owned();
    let path = request.uri().path().to_owned();
    if path == "/token" {
        return fake.token(request.uri().query().unwrap_or_default(), &authorization);
    }
    if let Some(status) = fake.faults.lock().unwrap().pop() {
        return (status, [(header::RETRY_AFTER, "0")]).into_response();
    }
    if let Some(refusal) = fake.refusal(&authorization) {
        return refusal;
    }
    let image = fake.image.lock().unwrap();
    let digest = image.digest();
    let name = path.rsplit('/').next().unwrap();
    let content = if name == "v1" || name == digest {
        Some(&image.manifest)
    } else {
        image.blobs.get(name.trim_start_matches("sha256:"))
    };
    match content {
        Some(content) if path.starts_with("/v2/team/app/") => content.clone().into_response(),
        _ => (
            StatusCode::NOT_FOUND,
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
        )
            .into_response(),
    }
}

fn user(registry: &str, password: &str) -> RegistryCredential {
    RegistryCredential {
        registry: registry.into(),
        username: "user".into(),
        password: password.into(),
    }
}

#[tokio::test]
async fn every_form_of_image_runs_and_is_pinned() {
    let wasm = guest::hello();
    let forms = [
        ("CNCF artifact", Image::artifact(&wasm)),
        (
            "oci-distribution",
            Image::of(
                "application/vnd.wasm.config.v1+json",
                b"{}",
                "application/vnd.wasm.content.layer.v1+wasm",
                &wasm,
            ),
        ),
        (
            "spin",
            Image::of(
                "application/vnd.fermyon.spin.application.v1+config",
                b"{}",
                "application/vnd.wasm.content.layer.v1+wasm",
                &wasm,
            ),
        ),
        (
            "runwasi",
            Image::of(
                "application/vnd.oci.image.config.v1+json",
                b"{}",
                "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
                &wasm,
            ),
        ),
        (
            "module layer",
            Image::of(
                "application/vnd.wasm.config.v1+json",
                b"{}",
                "application/vnd.module.wasm.content.layer.v1+wasm",
                &wasm,
            ),
        ),
        ("image, tar", Image::container(&wasm, false)),
        ("image, gzip", Image::container(&wasm, true)),
        (
            "wasi/wasm",
            Image::container(&wasm, true).indexed("wasi", "wasm", json!({})),
        ),
        (
            "wasi/wasm32",
            Image::container(&wasm, true).indexed("wasi", "wasm32", json!({})),
        ),
        (
            "annotated",
            Image::container(&wasm, true).indexed(
                "linux",
                "amd64",
                json!({ "module.wasm.image/variant": "compat" }),
            ),
        ),
    ];
    let rig = Rig::new();
    for (form, image) in forms {
        let fake = start(image.clone(), Auth::Anonymous, |_| ()).await;
        let prepared = rig
            .prepare(&format!("{}:v1", fake.name()))
            .await
            .unwrap_or_else(|e| panic!("{form}: {e}"));
        assert_eq!(
            prepared.image,
            format!("{}@{}", fake.name(), image.digest()),
            "{form}"
        );
        let mut revision = spec(&prepared.image, Limits::default());
        revision.uid = form.into();
        assert_eq!(
            rig.get(&Arc::new(revision)).await.unwrap(),
            "Hello from WebAssembly!\n",
            "{form}"
        );
    }
    assert_eq!(
        rig.metric("kittiwake_compile_seconds"),
        1,
        "the same .wasm is compiled once"
    );
}

#[tokio::test]
async fn credentials_open_what_they_should() {
    for auth in [Auth::Basic, Auth::Bearer] {
        let fake = start(Image::artifact(&guest::hello()), auth, |_| ()).await;
        let name = format!("{}:v1", fake.name());
        let rig = Rig::new();
        let error = rig.prepare(&name).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::RegistryUnauthorized);
        assert!(error.message.contains("imagePullSecrets"), "{error}");
        let wrong = rig
            .prepare_with(&name, vec![user(&fake.address, "wrong")])
            .await
            .unwrap_err();
        assert_eq!(wrong.code, ErrorCode::RegistryUnauthorized);
        let elsewhere = rig
            .prepare_with(&name, vec![user("ghcr.io", "pass")])
            .await
            .unwrap_err();
        assert_eq!(elsewhere.code, ErrorCode::RegistryUnauthorized);
        let secrets = vec![user(&fake.address, "wrong"), user(&fake.address, "pass")];
        rig.prepare_with(&name, secrets).await.unwrap();
    }
    let fake = start(Image::artifact(&guest::hello()), Auth::AnonymousBearer, |_| ()).await;
    Rig::new().prepare(&format!("{}:v1", fake.name())).await.unwrap();
}

#[tokio::test]
async fn docker_configuration_is_used() {
    let fake = start(Image::artifact(&guest::hello()), Auth::Basic, |_| ()).await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let path = dir.path().join("config.json");
    let auth = base64::engine::general_purpose::STANDARD.encode("user:pass");
    std::fs::write(
        &path,
        json!({ "auths": { &fake.address: { "auth": auth } } }).to_string(),
    )
    .unwrap();
    let rig = Rig::in_dir(dir, |config| config.docker_config = Some(path));
    rig.prepare(&format!("{}:v1", fake.name())).await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let fake = start(Image::artifact(&guest::hello()), Auth::Anonymous, |_| ()).await;
    let error = Rig::new()
        .prepare(&format!("{}:v2", fake.name()))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::ArtifactNotFound);
    assert!(
        error.message.contains("team/app:v2") && error.message.contains("manifest unknown"),
        "{error}"
    );
    assert_eq!(
        fake.requests.load(Ordering::SeqCst),
        1,
        "a plain no is not asked for again"
    );
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_and_a_failing_one_given_up() {
    let busy = [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    let fake = start(Image::artifact(&guest::hello()), Auth::Anonymous, |fake| {
        fake.faults = Mutex::new(busy.to_vec())
    })
    .await;
    Rig::new().prepare(&format!("{}:v1", fake.name())).await.unwrap();

    let down = vec![StatusCode::BAD_GATEWAY; 100];
    let fake = start(Image::artifact(&guest::hello()), Auth::Anonymous, |fake| {
        fake.faults = Mutex::new(down)
    })
    .await;
    let rig = Rig::with(|config| config.fetch_retries_max = 2);
    let error = rig.prepare(&format!("{}:v1", fake.name())).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::RegistryUnavailable);
    assert!(error.is_transient() && error.message.contains("502"), "{error}");
    assert_eq!(fake.requests.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_registry_that_hangs_or_is_away_is_given_up() {
    let fake = start(Image::artifact(&guest::hello()), Auth::Anonymous, |fake| {
        fake.hang = true
    })
    .await;
    let name = format!("{}:v1", fake.name());
    let silence = Rig::with(|config| {
        config.fetch_silence_timeout = Duration::from_millis(50);
        config.fetch_retries_max = 1;
    });
    let error = silence.prepare(&name).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::RegistryUnavailable);
    assert!(error.message.contains("did not answer in time"), "{error}");
    assert_eq!(fake.requests.load(Ordering::SeqCst), 2);
    let overall = Rig::with(|config| config.fetch_timeout = Duration::from_millis(50));
    assert_eq!(
        overall.prepare(&name).await.unwrap_err().code,
        ErrorCode::RegistryUnavailable
    );

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = format!("{}/team/app:v1", listener.local_addr().unwrap());
    drop(listener);
    let error = Rig::new().prepare(&away).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::RegistryUnavailable);
    assert!(error.message.contains("refused"), "{error}");
}

#[tokio::test]
async fn what_does_not_match_its_digest_or_limit_is_refused() {
    let mut image = Image::artifact(&guest::hello());
    let wasm = image.wasm_hex();
    image.blobs.insert(wasm, guest::counter());
    let fake = start(image.clone(), Auth::Anonymous, |_| ()).await;
    let rig = Rig::with(|config| config.artifact_bytes_max = ByteCount::kib(512));
    let error = rig.prepare(&format!("{}:v1", fake.name())).await.unwrap_err();
    // The other guest may be longer than announced, which is found first.
    assert!(
        matches!(
            error.code,
            ErrorCode::DigestMismatch | ErrorCode::ArtifactTooLarge
        ),
        "{error}"
    );

    let mut same_length = Image::artifact(&guest::hello());
    let mut changed = guest::hello();
    *changed.last_mut().unwrap() ^= 1;
    let wasm = same_length.wasm_hex();
    same_length.blobs.insert(wasm, changed);
    let fake = start(same_length, Auth::Anonymous, |_| ()).await;
    let error = rig.prepare(&format!("{}:v1", fake.name())).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::DigestMismatch);

    let small = Rig::with(|config| config.artifact_bytes_max = ByteCount(100));
    let error = small.prepare(&format!("{}:v1", fake.name())).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ArtifactTooLarge);
}

#[tokio::test]
async fn a_pinned_image_needs_no_registry_after_the_first_time() {
    let fake = start(Image::artifact(&guest::hello()), Auth::Anonymous, |_| ()).await;
    let first = Rig::new();
    let prepared = first.prepare(&format!("{}:v1", fake.name())).await.unwrap();
    let asked = fake.requests.load(Ordering::SeqCst);
    assert_eq!(first.prepare(&prepared.image).await.unwrap(), prepared);
    let dir = Arc::clone(&first.dir);
    drop(first);
    let restarted = Rig::in_dir(dir, |_| ());
    let revision = Arc::new(spec(&prepared.image, Limits::default()));
    assert_eq!(
        restarted.get(&revision).await.unwrap(),
        "Hello from WebAssembly!\n"
    );
    assert_eq!(fake.requests.load(Ordering::SeqCst), asked);
    assert_eq!(restarted.metric("kittiwake_compile_seconds"), 0);
    assert_eq!(restarted.metric("kittiwake_image_fetches_total"), 0);
    assert_eq!(restarted.metric("kittiwake_cache_hits_total"), 1);
    // A tag is asked for again, but its layers are not fetched twice.
    restarted.prepare(&format!("{}:v1", fake.name())).await.unwrap();
    assert_eq!(fake.requests.load(Ordering::SeqCst), asked + 1);
}

#[tokio::test]
async fn a_cold_call_keeps_its_time_limit_while_the_load_goes_on() {
    let (image, door) = (Image::artifact(&guest::hello()), Arc::new(Semaphore::new(0)));
    let digest = image.digest();
    let fake = start(image, Auth::Anonymous, |fake| fake.door = Some(Arc::clone(&door))).await;
    let rig = Rig::new();
    let pinned = format!("{}@{digest}", fake.name());
    let mut limits = Limits {
        timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let hurried = Arc::new(spec(&pinned, limits.clone()));
    for _ in 0..2 {
        assert!(matches!(rig.get(&hurried).await, Err(InvokeError::TimedOut)));
    }
    limits.timeout = Duration::from_secs(60);
    limits.response_start_timeout = Some(Duration::from_millis(50));
    let early = Arc::new(spec(&pinned, limits));
    assert!(matches!(rig.get(&early).await, Err(InvokeError::TimedOut)));
    assert!(rig.log(LogStream::Platform).contains("loading goes on"));
    door.add_permits(1);
    let patient = Arc::new(spec(&pinned, Limits::default()));
    assert_eq!(rig.get(&patient).await.unwrap(), "Hello from WebAssembly!\n");
    assert_eq!(
        rig.metric("kittiwake_image_fetches_total"),
        1,
        "one load for all of them"
    );
}
