//! `kittiwake version`.

use crate::cli::{Output, VersionArgs};
use crate::client::Connection;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Runs the command.
///
/// # Errors
/// When the output cannot be encoded.
pub async fn run(args: VersionArgs) -> anyhow::Result<ExitCode> {
    let client = env!("CARGO_PKG_VERSION");
    let server = if args.client { None } else { server(&args).await };
    if let Some(output) = args.output {
        super::get::print_objects(&[json!({"client": client, "server": server})], output_of(output))?;
        return Ok(ExitCode::SUCCESS);
    }
    crate::outln!("Client: kittiwake {client}");
    if !args.client {
        match server {
            Some(version) => crate::outln!("Server: {version}"),
            None => crate::outln!("Server: not reached"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn output_of(output: Output) -> Output {
    if output == Output::Json {
        Output::Json
    } else {
        Output::Yaml
    }
}

/// The server's version, if one answers: asking for a version must work without a server.
async fn server(args: &VersionArgs) -> Option<String> {
    let connection = Connection::open(&args.connect).await.ok()?;
    let version = connection.get("/version").await.ok()?;
    version
        .get("gitVersion")
        .and_then(Value::as_str)
        .map(str::to_owned)
}
