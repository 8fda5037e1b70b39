//! `kittiwake backup`: all objects of a running server, into a file or to standard output.

use crate::cli::objects::BackupArgs;
use crate::client::{ApiError, Connection};
use anyhow::{Context, bail};
use http::Request;
use http_body_util::{BodyExt, Limited};
use kittiwake_store::Verifier;
use kube::client::Body;
use serde_json::Value;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

/// Longest refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// Runs the command.
///
/// # Errors
/// When the server refuses or breaks off, or the file cannot be written. Then no file of that name is made or changed.
pub async fn run(args: BackupArgs) -> anyhow::Result<ExitCode> {
    let to_stdout = args.file.as_os_str() == "-";
    if to_stdout && std::io::stdout().is_terminal() {
        bail!("a backup is nothing to look at: name a file, or send standard output to one");
    }
    let connection = Connection::open(&args.connect).await?;
    let body = request(&connection).await?;
    if to_stdout {
        receive(body, &mut std::io::stdout().lock())
            .await
            .context("what was written to standard output is no backup")?;
        return Ok(ExitCode::SUCCESS);
    }
    let bytes = into_file(body, &args.file).await?;
    crate::outln!(
        "{}: {bytes} bytes. Secrets in it are encrypted: keep the server's key file too, apart from it.",
        args.file.display()
    );
    Ok(ExitCode::SUCCESS)
}

async fn request(connection: &Connection) -> anyhow::Result<Body> {
    let request = Request::get("/backup")
        .body(Body::empty())
        .context("cannot make the request")?;
    let response = connection
        .client
        .send(request)
        .await
        .with_context(|| format!("cannot reach the API server at {}", connection.server))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response.into_body());
    }
    let refusal = Limited::new(response.into_body(), REFUSAL_BYTES_MAX)
        .collect()
        .await;
    let refusal = refusal
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let value: Value = serde_json::from_slice(&refusal).unwrap_or_default();
    let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
    Err(ApiError {
        code: status.as_u16(),
        reason: text("reason").unwrap_or_else(|| status.to_string()),
        message: text("message").unwrap_or_else(|| String::from_utf8_lossy(&refusal).trim().to_owned()),
    }
    .into())
}

/// Writes the file whole or not at all, readable by its owner only.
async fn into_file(body: Body, path: &Path) -> anyhow::Result<u64> {
    let mut name = path
        .file_name()
        .context("the backup's file has no name")?
        .to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .with_context(|| format!("cannot write {}", part.display()))?;
    let received = receive(body, &mut file).await;
    let written = received.and_then(|bytes| {
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        Ok(bytes)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written.with_context(|| format!("no backup was written to {}", path.display()))
}

/// Copies a backup and checks it on the way; returns its size in bytes.
async fn receive(mut body: Body, to: &mut impl Write) -> anyhow::Result<u64> {
    let mut verifier = Verifier::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.context("the server broke off")?;
        if let Some(bytes) = frame.data_ref() {
            verifier.update(bytes);
            to.write_all(bytes).context("cannot write")?;
        }
    }
    to.flush().context("cannot write")?;
    verifier.finish().context("the server's answer is not whole")
}
