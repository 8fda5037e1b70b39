//! The `kittiwake` program in a test, as a stranger runs it.

#![allow(dead_code, reason = "no test file uses all of it")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tempfile::TempDir;

pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

pub fn kittiwake() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kittiwake"));
    command
        .current_dir(root())
        .env_remove("KUBECONFIG")
        .env_remove("KITTIWAKE_CONFIG");
    command
}

/// `kittiwake up` on free ports, with its state in `data_dir`.
pub fn up_command(data_dir: &Path) -> Command {
    let mut command = kittiwake();
    command.args([
        "up",
        "--api-listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
        "--data-dir",
    ]);
    command.arg(data_dir);
    command
}

/// `kittiwake up` on free ports, killed at the end of the test.
pub struct Up {
    pub child: Child,
    pub folder: TempDir,
    pub lines: mpsc::Receiver<String>,
    pub first: Vec<String>,
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Up {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments)
    }

    pub fn start_in(folder: TempDir, arguments: &[&str]) -> Self {
        let mut command = up_command(&folder.path().join("data"));
        command.args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(line))
        });
        let mut up = Self {
            child,
            folder,
            lines,
            first: Vec::new(),
        };
        up.first = up.read_until("Press Ctrl-C");
        up
    }

    pub fn read_until(&self, marker: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    seen.push(line);
                    if seen.last().is_some_and(|line| line.contains(marker)) {
                        return seen;
                    }
                }
                Err(error) => panic!("{marker:?} was not printed ({error}); seen: {seen:#?}"),
            }
        }
    }

    pub fn signal(&self, name: &str) {
        assert!(
            Command::new("kill")
                .args([name, &self.child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Runs a client command against this server.
    pub fn client(&self, arguments: &[&str]) -> Output {
        let mut command = kittiwake();
        command
            .args(arguments)
            .env("KUBECONFIG", self.folder.path().join("data/kubeconfig"));
        command.output().unwrap()
    }

    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.client(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }

    pub fn fails(&self, arguments: &[&str]) -> String {
        let output = self.client(arguments);
        assert!(
            !output.status.success(),
            "{arguments:?} should fail: {}",
            String::from_utf8_lossy(&output.stdout)
        );
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// The metrics, read with the administrator's credentials.
    pub fn metrics(&self) -> String {
        let path = self.folder.path().join("data/kubeconfig");
        let read = async {
            let kubeconfig = kube::config::Kubeconfig::read_from(path).unwrap();
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await;
            let client = kube::Client::try_from(config.unwrap()).unwrap();
            let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
            client.request_text(request).await.unwrap()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(read)
    }

    /// The address after `marker` in the first lines.
    pub fn address(&self, marker: &str) -> String {
        let line = self.first.iter().find(|line| line.contains(marker)).unwrap();
        line.split("://")
            .nth(1)
            .unwrap()
            .split_whitespace()
            .next()
            .unwrap()
            .to_owned()
    }
}
