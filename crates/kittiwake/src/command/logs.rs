//! `kittiwake logs`: what a function has written, over all its revisions, in order of time.

use crate::cli::LogsArgs;
use crate::client::{Connection, is_status};
use anyhow::{Context, bail};
use futures::stream::SelectAll;
use futures::{AsyncBufReadExt, StreamExt};
use http::{Method, Request};
use serde_json::Value;
use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

/// How often a followed Service is asked for new revisions.
const NEW_REVISIONS: Duration = Duration::from_secs(2);

/// Runs the command.
///
/// # Errors
/// When there is no such Service or revision, or the server cannot be reached.
pub async fn run(args: LogsArgs) -> anyhow::Result<ExitCode> {
    let connection = Connection::open(&args.connect).await?;
    let revisions = revisions(&connection, &args.name).await?;
    let mut lines = Vec::new();
    for revision in &revisions {
        let text = text(&connection, &path(&connection, &args, revision, false)).await?;
        lines.extend(text.lines().map(str::to_owned));
    }
    // Every line begins with an RFC 3339 time, so that sorting lines sorts by time.
    lines.sort();
    let skipped = args.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
    for line in lines.iter().skip(skipped) {
        print(line, args.timestamps);
    }
    if lines.is_empty() && !args.follow {
        eprintln!("{} has written nothing yet", args.name);
    }
    if args.follow {
        follow(&connection, &args, revisions).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The revisions whose logs are meant: one when given as `revision/NAME`, else all of the Service.
async fn revisions(connection: &Connection, name: &str) -> anyhow::Result<Vec<String>> {
    let root = format!("/apis/serving.knative.dev/v1/namespaces/{}", connection.namespace);
    if let Some(revision) = name
        .strip_prefix("revision/")
        .or_else(|| name.strip_prefix("rev/"))
    {
        connection.get(&format!("{root}/revisions/{revision}")).await?;
        return Ok(vec![revision.to_owned()]);
    }
    let service = name.strip_prefix("ksvc/").unwrap_or(name);
    connection.get(&format!("{root}/services/{service}")).await?;
    let list = connection
        .get(&format!(
            "{root}/revisions?labelSelector=serving.knative.dev%2Fservice%3D{service}"
        ))
        .await?;
    let items = list
        .get("items")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let names = items
        .iter()
        .filter_map(|item| item.pointer("/metadata/name").and_then(Value::as_str));
    Ok(names.map(str::to_owned).collect())
}

fn path(connection: &Connection, args: &LogsArgs, revision: &str, follow: bool) -> String {
    let mut path = format!(
        "/apis/serving.knative.dev/v1/namespaces/{}/revisions/{revision}/log?timestamps=true",
        connection.namespace
    );
    match (follow, args.since) {
        // What was kept is printed already: the feed begins now.
        (true, _) => path.push_str("&follow=true&tailLines=0"),
        (false, Some(seconds)) => path.push_str(&format!("&sinceSeconds={seconds}")),
        (false, None) => {}
    }
    path
}

async fn text(connection: &Connection, path: &str) -> anyhow::Result<String> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .body(Vec::new())
        .context("cannot make the request")?;
    connection
        .client
        .request_text(request)
        .await
        .context("cannot read the log")
}

/// Prints lines as they come, also of revisions that appear later.
async fn follow(connection: &Connection, args: &LogsArgs, revisions_now: Vec<String>) -> anyhow::Result<()> {
    let mut known = HashSet::new();
    let mut feeds = SelectAll::new();
    let mut found = revisions_now;
    let mut ticks = tokio::time::interval(NEW_REVISIONS);
    loop {
        for revision in found.drain(..) {
            if known.insert(revision.clone()) {
                let request = Request::get(path(connection, args, &revision, true))
                    .body(Vec::new())
                    .context("cannot make the request")?;
                let feed = connection
                    .client
                    .request_stream(request)
                    .await
                    .context("cannot follow the log")?;
                feeds.push(Box::pin(feed).lines());
            }
        }
        tokio::select! {
            line = feeds.next(), if !feeds.is_empty() => {
                if let Some(line) = line {
                    print(&line.context("the log broke off")?, args.timestamps);
                }
            }
            _ = ticks.tick() => match revisions(connection, &args.name).await {
                Ok(now) => found = now,
                Err(error) if is_status(&error, 404) => bail!("{} was deleted", args.name),
                Err(error) => return Err(error),
            },
        }
    }
}

fn print(line: &str, timestamps: bool) {
    let text = if timestamps {
        line
    } else {
        line.split_once(' ').map_or(line, |(_, text)| text)
    };
    crate::outln!("{text}");
}
