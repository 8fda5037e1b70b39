//! Becoming another program without closing a socket: SIGUSR2 makes `up --workers` run the program that is on disk now,
//! in the same process, and that program replaces the workers one by one. Meanwhile the old workers answer calls, and
//! requests to the API wait in the queue of its socket.

use super::handoff;
use super::supervisor::Adopted;
use crate::doors::{Doors, Names};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The hidden flag that tells the new program to read [`Handover`] from its standard input.
const FLAG: &str = "--take-over";
/// Longest time that a program may take to say its version.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// What one program leaves to the next.
#[derive(Debug)]
pub struct Handover {
    /// Where the API listens.
    pub api: TcpListener,
    /// Where functions are called: a socket for each worker.
    pub http: Vec<TcpListener>,
    /// Where they are called beside that.
    pub doors: Doors,
    /// The workers that listen there.
    pub workers: Vec<Adopted>,
}

#[derive(Serialize, Deserialize)]
struct Words {
    workers: Vec<Adopted>,
    /// Which sockets come last; a program before there were any says nothing.
    #[serde(default)]
    doors: Names,
}

/// Sees whether the program on disk can be run at all, before anything is given up for it. Returns its version.
///
/// # Errors
/// When it cannot.
pub async fn try_out(program: &Path) -> anyhow::Result<String> {
    let run = tokio::process::Command::new(program)
        .arg("--version")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(TRIAL_TIMEOUT, run)
        .await
        .with_context(|| format!("{} --version does not end", program.display()))?
        .with_context(|| format!("cannot run {}", program.display()))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || !version.starts_with("kittiwake ") {
        bail!("{} --version failed: {}", program.display(), output.status);
    }
    Ok(version)
}

/// Becomes the program. Returns only when that fails.
///
/// # Errors
/// Always: when it succeeds there is nobody to return to.
pub fn become_program(program: &Path, handover: &Handover) -> anyhow::Error {
    let exec = || -> std::io::Result<std::convert::Infallible> {
        let (mut ours, theirs) = UnixStream::pair()?;
        let (doors, also) = handover.doors.to_send();
        let words = Words {
            workers: handover.workers.clone(),
            doors,
        };
        let mut sockets = vec![handover.api.as_fd()];
        sockets.extend(handover.http.iter().map(AsFd::as_fd));
        sockets.extend(also);
        handoff::send(&mut ours, &words, &sockets)?;
        // The end that is read lives on as standard input; all else is closed on the way.
        rustix::stdio::dup2_stdin(&theirs)?;
        let arguments: Vec<OsString> = std::env::args_os()
            .skip(1)
            .filter(|argument| argument != FLAG)
            .collect();
        crate::telemetry::flush();
        Err(Command::new(program).args(arguments).arg(FLAG).exec())
    };
    let Err(error) = exec();
    anyhow::Error::new(error).context(format!("cannot become {}", program.display()))
}

/// Takes over what the program before left on standard input.
///
/// # Errors
/// When there is nothing.
pub fn take_over() -> anyhow::Result<Handover> {
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    let (words, mut sockets): (Words, Vec<OwnedFd>) = handoff::receive(&mut UnixStream::from(input))
        .context("--take-over is for kittiwake itself: it is given when SIGUSR2 replaces a running one")?;
    let doors = Doors::received(words.doors, &mut sockets);
    let mut sockets = sockets.into_iter().map(TcpListener::from);
    Ok(Handover {
        api: sockets.next().context("no socket of the API was handed over")?,
        http: sockets.collect(),
        doors,
        workers: words.workers,
    })
}
