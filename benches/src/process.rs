//! Servers as child processes: started, found by the address they print, measured, killed.

use anyhow::{Context, bail};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

/// How long a server may take to say where it listens.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Ticks per second of /proc/PID/stat: fixed at 100 on Linux for user space (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Bytes of a page of memory.
const PAGE_BYTES: f64 = 4096.0;

/// What a process has used since its start.
pub struct Used {
    pub user_micros: f64,
    pub system_micros: f64,
    pub page_faults: f64,
}

impl Used {
    /// Reads it of a process by its id, or of `self`.
    pub fn by(process: &str) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
        // After the name in brackets comes field 3; minflt is field 10, utime 14, stime 15 (proc(5)).
        let (_, fields) = stat.rsplit_once(')').context("unexpected /proc/PID/stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |number: usize| -> anyhow::Result<f64> {
            Ok(fields
                .get(number - 3)
                .context("unexpected /proc/PID/stat")?
                .parse()?)
        };
        let micros = |ticks: f64| ticks * 1e6 / TICKS_PER_SECOND;
        Ok(Self {
            user_micros: micros(field(14)?),
            system_micros: micros(field(15)?),
            page_faults: field(10)?,
        })
    }

    /// User and system time together.
    pub fn cpu_micros(&self) -> f64 {
        self.user_micros + self.system_micros
    }
}

/// Reads all that a server prints, so that the pipe never fills; once it is up nobody listens any more.
fn forward_lines(output: impl AsyncRead + Unpin + Send + 'static, sender: mpsc::Sender<String>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            drop(sender.try_send(line));
        }
    });
}

/// The processes that a process has started itself and that still run.
fn children(id: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task"));
    let lists = tasks.into_iter().flatten().flatten().map(|task| {
        // A thread may end while it is looked at.
        std::fs::read_to_string(task.path().join("children")).unwrap_or_default()
    });
    let ids = lists.flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>());
    ids.collect()
}

/// A server that was started for a measurement; killed when dropped.
pub struct Server {
    child: Child,
    /// Lines it printed until it was up.
    pub lines: Vec<String>,
}

impl Server {
    /// Starts `command` and reads what it prints until `is_up` is true of a line.
    pub async fn start(mut command: Command, is_up: impl Fn(&str) -> bool) -> anyhow::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let (sender, mut receiver) = mpsc::channel(256);
        let out = child.stdout.take().context("no output")?;
        let err = child.stderr.take().context("no output")?;
        forward_lines(out, sender.clone());
        forward_lines(err, sender);
        let mut lines = Vec::new();
        let up = async {
            while let Some(line) = receiver.recv().await {
                let found = is_up(&line);
                lines.push(line);
                if found {
                    return true;
                }
            }
            false
        };
        if !tokio::time::timeout(START_TIMEOUT, up).await.unwrap_or(false) {
            bail!("{command:?} did not start; it printed:\n{}", lines.join("\n"));
        }
        Ok(Self { child, lines })
    }

    /// The first `http://ADDRESS` in the lines that contain `marker`.
    pub fn address(&self, marker: &str) -> anyhow::Result<SocketAddr> {
        let line = self
            .lines
            .iter()
            .find(|line| line.contains(marker))
            .context("no address printed")?;
        let (_, rest) = line.split_once("http://").context("no address printed")?;
        let text: String = rest
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.' || *c == ':')
            .collect();
        text.parse().with_context(|| format!("{text:?} is no address"))
    }

    /// Its process and all below it.
    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let mut found = vec![self.id()?];
        let mut next = 0;
        while let Some(id) = found.get(next) {
            let children = children(*id);
            found.extend(children);
            next += 1;
        }
        Ok(found)
    }

    /// Id of the process that was started.
    pub fn id(&self) -> anyhow::Result<u32> {
        self.child.id().context("the server has ended")
    }

    /// CPU time (user and system) that its processes have used, in microseconds.
    pub fn cpu_micros(&self) -> anyhow::Result<f64> {
        let mut micros = 0.0;
        for id in self.processes()? {
            micros += Used::by(&id.to_string())?.cpu_micros();
        }
        Ok(micros)
    }

    /// Resident memory of its processes in MiB; what they may share (files, shared memory) counts once.
    pub fn resident_mib(&self) -> anyhow::Result<f64> {
        let (mut own, mut shared) = (0.0, 0.0_f64);
        for id in self.processes()? {
            // In pages: size, resident, shared (proc(5)).
            let statm = std::fs::read_to_string(format!("/proc/{id}/statm"))?;
            let mut pages = statm.split(' ').skip(1).map(str::parse::<f64>);
            let mut next = || pages.next().context("unexpected /proc/PID/statm");
            let (resident, may_be_shared) = (next()??, next()??);
            own += resident - may_be_shared;
            shared = shared.max(may_be_shared);
        }
        Ok((own + shared) * PAGE_BYTES / f64::from(1 << 20))
    }

    /// Kills the server as a crash would, and waits.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Ends the server as Ctrl-C would, and waits.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(id) = self.child.id() {
            Command::new("kill")
                .args(["-INT", &id.to_string()])
                .status()
                .await?;
        }
        if tokio::time::timeout(Duration::from_secs(10), self.child.wait())
            .await
            .is_err()
        {
            self.child.kill().await?;
        }
        Ok(())
    }
}

/// Starts `kittiwake up` on free ports with its state in `data_dir` and more flags.
pub async fn kittiwake(program: &Path, data_dir: &Path, flags: &[String]) -> anyhow::Result<Server> {
    kittiwake_up(kittiwake_command(program, data_dir, flags)).await
}

/// The command line of [`kittiwake`].
pub fn kittiwake_command(program: &Path, data_dir: &Path, flags: &[String]) -> Command {
    let mut command = Command::new(program);
    command
        .args([
            "up",
            "--api-listen",
            "127.0.0.1:0",
            "--http-listen",
            "127.0.0.1:0",
            "--api-insecure",
            "--data-dir",
        ])
        .arg(data_dir)
        .args(flags);
    command
}

/// Runs such a command until it serves.
pub async fn kittiwake_up(command: Command) -> anyhow::Result<Server> {
    Server::start(command, |line| line.starts_with("Press Ctrl-C")).await
}

/// Applies a manifest to the server whose state is in `data_dir`, and waits until all in it is ready.
pub async fn apply(program: &Path, data_dir: &Path, manifest: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(program);
    command
        .args(["apply", "--wait-timeout", "1800", "-f"])
        .arg(manifest)
        .arg("--kubeconfig")
        .arg(data_dir.join("kubeconfig"));
    let output = command.output().await?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
