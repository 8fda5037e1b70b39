//! A runtime in a temporary directory, and short ways to use it.

use bytes::Bytes;
use http_body_util::BodyExt;
use kittiwake_core::artifact::{Prepare, PrepareError, PrepareRequest, Prepared, RegistryCredential};
use kittiwake_core::body::{self, Body};
use kittiwake_core::clock::SystemClock;
use kittiwake_core::inside::Inside;
use kittiwake_core::instances::InstanceHub;
use kittiwake_core::invoke::{CallReport, Invoke, InvokeError};
use kittiwake_core::log::{LogHub, LogStream};
use kittiwake_core::report::{self, Report};
use kittiwake_core::revision::{Limits, RevisionKey, RevisionSpec};
use kittiwake_runtime::{Config, Inputs, Runtime, build};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;

pub struct Rig {
    pub runtime: Arc<Runtime>,
    pub logs: Arc<LogHub>,
    pub reports: mpsc::Receiver<Report>,
    pub metrics: prometheus::Registry,
    pub dir: Arc<TempDir>,
    /// Where it tells what lives, and hears what shall end.
    pub instances: Arc<InstanceHub>,
    /// Time that servers have to become ready.
    pub progress_deadline: Duration,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::in_dir(Arc::new(tempfile::tempdir().unwrap()), change)
    }

    pub fn in_dir(dir: Arc<TempDir>, change: impl FnOnce(&mut Config)) -> Self {
        Self::build(dir, Inside::default(), change)
    }

    /// One whose functions call others of the platform by this way.
    pub fn inside(inside: Inside, change: impl FnOnce(&mut Config)) -> Self {
        Self::build(Arc::new(tempfile::tempdir().unwrap()), inside, change)
    }

    fn build(dir: Arc<TempDir>, inside: Inside, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            data_dir: dir.path().join("data"),
            working_dir: dir.path().to_owned(),
            allow_file_images: true,
            fetch_retry_delay: Duration::from_millis(1),
            instances_max: 16,
            core_modules: crate::CORE_MODULES,
            ..Config::default()
        };
        change(&mut config);
        let logs = Arc::new(LogHub::new(Arc::new(SystemClock::new())));
        let (reporter, reports) = report::channel();
        let metrics = prometheus::Registry::new();
        let instances = Arc::<InstanceHub>::default();
        let inputs = Inputs {
            instances: Arc::clone(&instances),
            logs: Arc::clone(&logs),
            reporter,
            registry: metrics.clone(),
            clock: Arc::new(SystemClock::new()),
            inside,
        };
        let (runtime, task) = build(config, inputs).unwrap();
        tokio::spawn(task);
        Self {
            runtime,
            logs,
            reports,
            metrics,
            dir,
            instances,
            progress_deadline: Duration::from_secs(30),
        }
    }

    pub fn write(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    pub async fn prepare(&self, image: &str) -> Result<Prepared, PrepareError> {
        self.prepare_with(image, Vec::new()).await
    }

    pub async fn prepare_with(
        &self,
        image: &str,
        credentials: Vec<RegistryCredential>,
    ) -> Result<Prepared, PrepareError> {
        let revision = RevisionSpec::new(RevisionKey::new("default", "fn-00001"), "uid-1", image);
        let request = PrepareRequest {
            revision,
            credentials,
            progress_deadline: self.progress_deadline,
        };
        self.runtime.prepare(request, Arc::new(|_| ())).await
    }

    /// A revision that runs the guest, made ready.
    pub async fn deploy(&self, guest: &[u8], limits: Limits) -> Arc<RevisionSpec> {
        self.write("guest.wasm", guest);
        let image = self.prepare("file://guest.wasm").await.unwrap().image;
        Arc::new(spec(&image, limits))
    }

    /// Another revision beside the first, of its own name.
    pub async fn deploy_as(&self, name: &str, guest: &[u8]) -> Arc<RevisionSpec> {
        let file = format!("{name}.wasm");
        self.write(&file, guest);
        let image = self.prepare(&format!("file://{file}")).await.unwrap().image;
        Arc::new(RevisionSpec {
            key: RevisionKey::new("default", name),
            uid: name.into(),
            ..spec(&image, Limits::default())
        })
    }

    pub async fn call(
        &self,
        spec: &Arc<RevisionSpec>,
        body: Body,
    ) -> Result<http::Response<Body>, InvokeError> {
        Self::call_of(&self.runtime, spec, body).await
    }

    /// [`Rig::call`], for a task of its own.
    pub async fn call_of(
        runtime: &Runtime,
        spec: &Arc<RevisionSpec>,
        body: Body,
    ) -> Result<http::Response<Body>, InvokeError> {
        let request = http::Request::post("/a/b?c=d")
            .header("host", "fn.localhost")
            .body(body)
            .unwrap();
        runtime.invoke(Arc::clone(spec), request).await
    }

    pub async fn get(&self, spec: &Arc<RevisionSpec>) -> Result<String, InvokeError> {
        let response = self.call(spec, body::empty()).await?;
        Ok(text(response).await)
    }

    /// The folders of instances and their mounts, below that of this process.
    pub fn folders(&self) -> Vec<PathBuf> {
        let run = std::fs::read_dir(self.dir.path().join("data/run"));
        let processes = run.into_iter().flatten();
        processes
            .flat_map(|process| std::fs::read_dir(process.unwrap().path()).into_iter().flatten())
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.is_dir())
            .collect()
    }

    /// Waits until nothing is left of what instances wrote, which is removed aside from calls.
    pub async fn until_no_own_folders(&self) {
        let is_own = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("i-");
        while self.folders().iter().any(is_own) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub fn log(&self, stream: LogStream) -> String {
        let log = self.logs.revision(&RevisionKey::new("default", "fn-00001"));
        let lines = log.lines();
        lines
            .iter()
            .filter(|l| l.stream == stream)
            .map(|l| format!("{}\n", l.text))
            .collect()
    }

    pub fn metric(&self, name: &str) -> u64 {
        let families = self.metrics.gather();
        let Some(family) = families.iter().find(|family| family.name() == name) else {
            // Only a family with labels is absent until it counts something.
            assert_eq!(name, "kittiwake_calls_failed_total");
            return 0;
        };
        family
            .get_metric()
            .iter()
            .map(|metric| {
                let value = metric.get_counter().get_value() + metric.get_gauge().get_value();
                value as u64 + metric.get_histogram().get_sample_count()
            })
            .sum()
    }
}

pub fn spec(image: &str, limits: Limits) -> RevisionSpec {
    RevisionSpec {
        service: "fn".into(),
        configuration: "fn".into(),
        args: vec!["one".into(), "two".into()],
        env: vec![
            ("K_REVISION".into(), "fn-00001".into()),
            ("GREETING".into(), "hi".into()),
        ],
        limits,
        ..RevisionSpec::new(RevisionKey::new("default", "fn-00001"), "uid-1", image)
    }
}

pub async fn text(response: http::Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

pub fn report_of(response: &http::Response<Body>) -> CallReport {
    *response.extensions().get().unwrap()
}

/// A body whose length is not announced, in pieces.
pub fn pieces(pieces: Vec<Bytes>, trailers: Option<http::HeaderMap>) -> Body {
    let frames = pieces
        .into_iter()
        .map(http_body::Frame::data)
        .chain(trailers.map(http_body::Frame::trailers));
    let frames: Vec<Result<_, kittiwake_core::body::BodyError>> = frames.map(Ok).collect();
    http_body_util::StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

/// The component with `count` more core instances, of an empty module.
pub fn with_core_instances(component: Vec<u8>, count: u8) -> Vec<u8> {
    with_core_instances_of(component, b"\0asm\x01\0\0\0", count)
}

/// The component with `count` more instances of a core module: sections are just added at its end.
pub fn with_core_instances_of(mut component: Vec<u8>, module: &[u8], count: u8) -> Vec<u8> {
    const CORE_MODULE: u8 = 1;
    const CORE_INSTANCES: u8 = 2;
    let (mut modules, mut at) = (0, 8);
    while at < component.len() {
        modules += u8::from(component[at] == CORE_MODULE);
        let (mut size, mut shift) = (0, 0);
        loop {
            at += 1;
            size |= usize::from(component[at] & 0x7f) << shift;
            shift += 7;
            if component[at] & 0x80 == 0 {
                break;
            }
        }
        at += 1 + size;
    }
    component.extend([CORE_MODULE, u8::try_from(module.len()).unwrap()]);
    component.extend(module);
    component.extend([CORE_INSTANCES, 1 + 3 * count, count]);
    component.extend((0..count).flat_map(|_| [0, modules, 0]));
    component
}

/// Files below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect()
}
