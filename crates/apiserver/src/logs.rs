//! `GET …/revisions/{name}/log`: what a function printed, in the manner of a pod's log.

use crate::handler::{Call, reply};
use crate::registry::Served;
use crate::request_info::ResourcePath;
use crate::server::Server;
use crate::status::ApiError;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use kittiwake_core::log::LogLine;
use kittiwake_core::revision::RevisionKey;
use std::convert::Infallible;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// The kind that has logs, and the part that they are.
const RESOURCE: &str = "revisions.serving.knative.dev";
const SUBRESOURCE: &str = "log";

/// Whether a request is for a log.
pub(crate) fn is_log(served: &Served, path: &ResourcePath) -> bool {
    path.subresource.as_deref() == Some(SUBRESOURCE) && &*served.kind.storage_resource == RESOURCE
}

/// Answers with the lines that are kept and, with `follow=true`, with those that come.
pub(crate) fn handle(call: &Call) -> Result<Response, ApiError> {
    let key = Server::key(&call.served, &call.path.namespace, call.name());
    if call.server.store.get(&key).is_none() {
        return Err(ApiError::not_found(call.served.names(), call.name()));
    }
    let tail = call
        .query
        .number("tailLines")?
        .and_then(|lines| usize::try_from(lines).ok());
    let since = call
        .query
        .number("sinceSeconds")?
        .and_then(|seconds| i64::try_from(seconds).ok());
    let since = since.and_then(|seconds| {
        call.server
            .clock
            .now()
            .checked_sub(SignedDuration::from_secs(seconds))
            .ok()
    });
    let timestamps = call.query.flag("timestamps");
    let log = call
        .server
        .logs
        .revision(&RevisionKey::new(call.path.namespace.as_str(), call.name()));
    let (lines, feed) = log.follow();
    let history = Bytes::from(history(&lines, tail, since, timestamps));
    let body = if call.query.flag("follow") {
        let follower = Follower {
            history: Some(history),
            feed,
            timestamps,
            shutdown: call.server.shutdown.clone(),
        };
        Body::from_stream(futures::stream::unfold(follower, |mut follower| async move {
            let chunk = follower.next().await?;
            Some((Ok::<_, Infallible>(chunk), follower))
        }))
    } else {
        Body::from(history)
    };
    Ok(reply::bytes(200, "text/plain; charset=utf-8", body))
}

/// The last `tail` of the lines since a time.
fn history(lines: &[LogLine], tail: Option<usize>, since: Option<Timestamp>, timestamps: bool) -> String {
    let recent: Vec<&LogLine> = lines
        .iter()
        .filter(|line| since.is_none_or(|since| line.at >= since))
        .collect();
    let skipped = tail.map_or(0, |tail| recent.len().saturating_sub(tail));
    recent
        .into_iter()
        .skip(skipped)
        .map(|line| written(line, timestamps))
        .collect()
}

fn written(line: &LogLine, timestamps: bool) -> String {
    if timestamps {
        format!("{} {}\n", line.at, line.text)
    } else {
        format!("{}\n", line.text)
    }
}

struct Follower {
    history: Option<Bytes>,
    feed: Receiver<LogLine>,
    timestamps: bool,
    shutdown: CancellationToken,
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(history) = self.history.take().filter(|history| !history.is_empty()) {
            return Some(history);
        }
        tokio::select! {
            () = self.shutdown.cancelled() => None,
            line = self.feed.recv() => match line {
                Ok(line) => Some(written(&line, self.timestamps).into()),
                Err(RecvError::Lagged(lines)) => Some(format!("… {lines} lines were skipped: the reader is too slow\n").into()),
                Err(RecvError::Closed) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_core::log::LogStream;

    #[test]
    fn history_is_cut_by_time_and_number() {
        let line = |second: i64, text: &str| LogLine {
            at: Timestamp::from_second(second).unwrap(),
            revision: RevisionKey::new("a", "b"),
            stream: LogStream::Stdout,
            text: text.into(),
        };
        let lines = [line(1, "one"), line(2, "two"), line(3, "three")];
        assert_eq!(history(&lines, Some(1), None, false), "three\n");
        let since = Timestamp::from_second(2).ok();
        assert_eq!(
            history(&lines, None, since, true),
            "1970-01-01T00:00:02Z two\n1970-01-01T00:00:03Z three\n"
        );
    }
}
