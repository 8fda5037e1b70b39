//! This very test program, started again as an API server on a free port.

use kittiwake_apiserver::{Inputs, build};
use kittiwake_core::clock::SystemClock;
use kittiwake_core::log::LogHub;
use kittiwake_store::{Config, Encryption, Keyring, ObjectStore};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// Names the file to the child; when it is set, this program is the child.
const FILE: &str = "KITTIWAKE_API_PROCESS_FILE";
/// What the child says before its address.
const LISTENS: &str = "listens on ";

/// How the store is opened, with the same key in every process.
pub fn config() -> Config {
    let keys = Keyring::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
    Config {
        encryption: Some(Arc::new(Encryption::of_secrets(keys))),
        ..Config::default()
    }
}

/// Not a test of its own: the server. It never ends by itself.
#[test]
fn child() {
    let Ok(file) = std::env::var(FILE) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let clock = Arc::new(SystemClock::new());
        let inputs = Inputs {
            store: ObjectStore::open(Path::new(&file), config()).unwrap(),
            crds: kittiwake_api::crd::all(),
            clock: clock.clone(),
            logs: Arc::new(LogHub::new(clock)),
            instances: Arc::default(),
        };
        let (handle, task) = build(kittiwake_apiserver::Config::default(), inputs).unwrap();
        tokio::spawn(task);
        handle.started().await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("\n{LISTENS}{}", listener.local_addr().unwrap());
        axum::serve(listener, handle.router()).await.unwrap();
    });
}

/// A running child; killed when dropped.
pub struct Server {
    process: Child,
    pub client: kube::Client,
}

impl Server {
    /// Starts a server over the store in `file`.
    pub fn start(file: &Path) -> Self {
        Self::start_by(Command::new(std::env::current_exe().unwrap()), file)
    }

    /// Starts it by a command to which the arguments of the test program are added.
    pub fn start_by(mut command: Command, file: &Path) -> Self {
        let mut process = command
            .args(["--exact", "child::child", "--nocapture", "--test-threads=1"])
            .env(FILE, file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().strip_prefix(LISTENS).map(str::to_owned))
            .expect("the server starts");
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        Self {
            process,
            client: kube::Client::try_from(config).unwrap(),
        }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
