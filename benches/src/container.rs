//! The native server in a container, started by crun: what a first call costs where functions are containers.
//!
//! The root file system is as small as it can be: this program and its libraries. The container has namespaces of its own
//! for processes, mounts, IPC and host name, but the host's network, so nothing is spent on one; and no cgroup.

use anyhow::{Context, bail, ensure};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// Where this program is in the container.
const PROGRAM: &str = "/server";

/// How long crun may take to know a container that it has started.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);

/// A bundle that containers can be started from.
pub struct Bundle {
    folder: PathBuf,
    /// Set on hosts that mount cgroups v1 and v2 side by side, which crun refuses to look at: a process whose mount namespace
    /// has v2 alone. Nothing changes for anyone else; the namespace goes with the process.
    namespace: Option<Child>,
}

impl Bundle {
    /// Makes one in `folder`. The error says why this machine cannot run it.
    pub async fn make(folder: &Path) -> anyhow::Result<Self> {
        ensure!(
            crate::programs::installed("crun"),
            "crun is not installed (a package of the system)"
        );
        ensure!(is_root(), "containers are started as root here");
        let folder = folder.join("bundle");
        fill_root(&folder.join("rootfs")).await?;
        std::fs::write(folder.join("config.json"), config().to_string())?;
        let namespace = match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            true => None,
            false => Some(namespace_with_cgroup2().await?),
        };
        Ok(Self { folder, namespace })
    }

    /// Runs the server in a new container and stays until it ends.
    pub fn run(&self, name: &str) -> Command {
        let mut command = self.crun();
        command.args(["run", "--bundle"]).arg(&self.folder).arg(name);
        command
    }

    /// Ends a container.
    pub async fn delete(&self, name: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + DELETE_TIMEOUT;
        loop {
            let output = self.crun().args(["delete", "--force", name]).output().await?;
            if output.status.success() {
                return Ok(());
            }
            // A server can answer before crun has noted that its container exists.
            ensure!(
                Instant::now() < deadline,
                "crun delete: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn crun(&self) -> Command {
        let mut command = match self.namespace.as_ref().and_then(Child::id) {
            Some(id) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--mount=/proc/{id}/ns/mnt")).arg("crun");
                command
            }
            None => Command::new("crun"),
        };
        command
            .arg("--cgroup-manager=disabled")
            .arg("--root")
            .arg(self.folder.join("state"));
        command
    }
}

/// Whether this process may make namespaces without asking for a user namespace.
fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status
            .lines()
            .any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
    })
}

async fn namespace_with_cgroup2() -> anyhow::Result<Child> {
    let mut child = Command::new("unshare")
        .args(["--mount", "sh", "-c"])
        .arg("mount -t cgroup2 none /sys/fs/cgroup && echo ready && exec sleep 1000000")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start unshare")?;
    let output = child.stdout.take().context("no output")?;
    match BufReader::new(output).lines().next_line().await? {
        Some(line) if line == "ready" => Ok(child),
        _ => bail!("this kernel mounts no cgroup v2, which crun needs"),
    }
}

/// Copies this program and the libraries that it loads.
async fn fill_root(root: &Path) -> anyhow::Result<()> {
    for folder in ["proc", "dev", "sys", "tmp"] {
        std::fs::create_dir_all(root.join(folder))?;
    }
    let program = std::env::current_exe()?;
    std::fs::copy(&program, root.join(PROGRAM.trim_start_matches('/')))?;
    let listed = Command::new("ldd").arg(&program).output().await?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for library in listed.split_whitespace().filter(|word| word.starts_with('/')) {
        let copy = root.join(library.trim_start_matches('/'));
        std::fs::create_dir_all(copy.parent().context("a library without a folder")?)?;
        std::fs::copy(library, copy)?;
    }
    Ok(())
}

/// The OCI runtime's configuration.
fn config() -> serde_json::Value {
    let namespaces = ["pid", "mount", "ipc", "uts"].map(|kind| json!({"type": kind}));
    json!({
        "ociVersion": "1.0.0",
        "root": {"path": "rootfs", "readonly": true},
        "process": {
            "args": [PROGRAM, "native-server"],
            "cwd": "/",
            "env": ["PATH=/"],
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": true,
            "capabilities": {"bounding": [], "effective": [], "permitted": []},
        },
        "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]},
        ],
        "linux": {"namespaces": namespaces},
    })
}
