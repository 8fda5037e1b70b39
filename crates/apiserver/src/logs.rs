//! `GET …/pods/{name}/log` and `…/revisions/{name}/log`: what a function printed.
//!
//! A pod stands for a revision that is in memory; both have the same log. The container [`QUEUE_PROXY`] has the lines of
//! the platform alone, each of the user's containers has its own. The log of a revision has all, and says of each line of a
//! container that takes no calls which one that is.

use crate::handler::{Call, reply};
use crate::object::text;
use crate::pods::{PODS, QUEUE_PROXY, default_container};
use crate::registry::Served;
use crate::request_info::ResourcePath;
use crate::server::Server;
use crate::status::{ApiError, Cause};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use kittiwake_core::log::{LogLine, LogStream};
use kittiwake_core::revision::RevisionKey;
use serde_json::Value;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// The kinds that have logs, and the part that they are.
const RESOURCES: [&str; 2] = ["revisions.serving.knative.dev", PODS];
const SUBRESOURCE: &str = "log";

/// Whether a kind has logs.
pub(crate) fn has_log(storage_resource: &str) -> bool {
    RESOURCES.contains(&storage_resource)
}

/// Whether a request is for a log.
pub(crate) fn is_log(served: &Served, path: &ResourcePath) -> bool {
    path.subresource.as_deref() == Some(SUBRESOURCE) && has_log(&served.kind.storage_resource)
}

/// Answers with the lines that are kept and, with `follow=true`, with those that come.
pub(crate) fn handle(call: &Call) -> Result<Response, ApiError> {
    let key = Server::key(&call.served, &call.path.namespace, call.name());
    let stored = call.server.store_of(&call.served.kind).get(&key);
    let stored = stored.ok_or_else(|| ApiError::not_found(call.served.names(), call.name()))?;
    let options = Options::read(call)?;
    let (revision, from) = if &*call.served.kind.storage_resource == PODS {
        let pod = stored.object.tree();
        let container = container(&pod, call.query.get("container"))?;
        if call.query.flag("previous") {
            return Err(ApiError::bad_request(format!(
                "previous terminated container {container:?} in pod {:?} not found",
                call.name()
            )));
        }
        (
            text(&pod, "/metadata/labels/serving.knative.dev~1revision").to_owned(),
            From::container(container, default_container(&pod)),
        )
    } else {
        (call.name().to_owned(), From::Everyone)
    };
    let log = call
        .server
        .logs
        .revision(&RevisionKey::new(call.path.namespace.as_str(), revision));
    let (lines, feed) = log.follow();
    let mut writer = Writer {
        timestamps: options.timestamps,
        from,
        left: options.limit_bytes,
    };
    let history = Bytes::from(history(&lines, &options, &mut writer));
    let body = if call.query.flag("follow") {
        let follower = Follower {
            history: Some(history),
            feed,
            writer,
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

/// The container that is asked for (kubernetes `pkg/registry/core/pod/strategy.go`, `LogLocation`).
fn container<'c>(pod: &'c Value, wanted: Option<&'c str>) -> Result<&'c str, ApiError> {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let names: Vec<&str> = containers
        .into_iter()
        .flatten()
        .map(|container| text(container, "/name"))
        .collect();
    let pod = crate::object::name(pod);
    match wanted {
        Some(wanted) if names.contains(&wanted) => Ok(wanted),
        Some(wanted) => Err(ApiError::bad_request(format!(
            "container {wanted} is not valid for pod {pod}: choose one of: [{}]",
            names.join(" ")
        ))),
        None => Err(ApiError::bad_request(format!(
            "a container name must be specified for pod {pod}, choose one of: [{}]",
            names.join(" ")
        ))),
    }
}

/// Which lines are wanted (`PodLogOptions`).
#[derive(Debug, Default)]
struct Options {
    tail: Option<usize>,
    since: Option<Timestamp>,
    timestamps: bool,
    limit_bytes: Option<usize>,
}

impl Options {
    fn read(call: &Call) -> Result<Self, ApiError> {
        let query = &call.query;
        let seconds = query.number("sinceSeconds")?;
        let time = query.get("sinceTime");
        let invalid = |field: &str, why: &str| {
            let cause = Cause::new(field, "FieldValueInvalid", format!("Invalid value: {why}"));
            Err(ApiError::invalid_options("PodLogOptions", &[cause]))
        };
        let since = match (seconds, time) {
            (Some(_), Some(_)) => {
                return invalid(
                    "sinceSeconds",
                    "at most one of `sinceTime` or `sinceSeconds` may be specified",
                );
            }
            (Some(0), None) => return invalid("sinceSeconds", "must be greater than 0"),
            (Some(seconds), None) => {
                let ago = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
                // So long ago that there is no such time: everything is newer.
                call.server.clock.now().checked_sub(ago).ok()
            }
            (None, Some(time)) => match time.parse() {
                Ok(time) => Some(time),
                Err(_) => return invalid("sinceTime", "must be a time such as 2026-01-02T03:04:05Z"),
            },
            (None, None) => None,
        };
        let count = |key: &str| -> Result<Option<usize>, ApiError> {
            Ok(query
                .number(key)?
                .map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
        };
        let limit_bytes = count("limitBytes")?;
        if limit_bytes == Some(0) {
            return invalid("limitBytes", "must be greater than 0");
        }
        Ok(Self {
            tail: count("tailLines")?,
            since,
            timestamps: query.flag("timestamps"),
            limit_bytes,
        })
    }
}

/// The last lines since a time, as far as they are wanted.
fn history(lines: &[LogLine], options: &Options, writer: &mut Writer) -> String {
    let recent: Vec<&LogLine> = lines
        .iter()
        .filter(|line| writer.wants(line) && options.since.is_none_or(|since| line.at >= since))
        .collect();
    let skipped = options.tail.map_or(0, |tail| recent.len().saturating_sub(tail));
    recent
        .into_iter()
        .skip(skipped)
        .map_while(|line| writer.write(line))
        .collect()
}

/// Whose lines are wanted.
enum From {
    /// All there are.
    Everyone,
    /// Those of the platform.
    Platform,
    /// Those of one container: see [`LogLine::sidecar`].
    Container(Arc<str>),
}

impl From {
    /// A container of a pod whose calls are taken by `serving`.
    fn container(name: &str, serving: &str) -> Self {
        match name {
            QUEUE_PROXY => Self::Platform,
            name if name == serving => Self::Container(Arc::default()),
            name => Self::Container(name.into()),
        }
    }
}

/// Writes lines until as many bytes are written as are wanted.
struct Writer {
    timestamps: bool,
    from: From,
    /// Bytes that may still be written; `None`: any number.
    left: Option<usize>,
}

impl Writer {
    fn wants(&self, line: &LogLine) -> bool {
        match &self.from {
            From::Everyone => true,
            From::Platform => line.stream == LogStream::Platform,
            From::Container(name) => line.sidecar == *name,
        }
    }

    /// One line, cut where the bytes end; `None` when they have ended.
    fn write(&mut self, line: &LogLine) -> Option<String> {
        let mut written = if self.timestamps {
            format!("{} ", line.at)
        } else {
            String::new()
        };
        if !line.sidecar.is_empty() && !matches!(self.from, From::Container(_)) {
            written.push_str(&format!("[{}] ", line.sidecar));
        }
        written.push_str(&line.text);
        written.push('\n');
        if let Some(left) = &mut self.left {
            if *left == 0 {
                return None;
            }
            written.truncate(written.floor_char_boundary(*left));
            *left = if written.ends_with('\n') {
                *left - written.len()
            } else {
                0
            };
        }
        Some(written)
    }
}

struct Follower {
    history: Option<Bytes>,
    feed: Receiver<LogLine>,
    writer: Writer,
    shutdown: CancellationToken,
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(history) = self.history.take().filter(|history| !history.is_empty()) {
            return Some(history);
        }
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return None,
                line = self.feed.recv() => match line {
                    Ok(line) if !self.writer.wants(&line) => {}
                    Ok(line) => return self.writer.write(&line).map(Bytes::from),
                    Err(RecvError::Lagged(lines)) => return Some(format!("… {lines} lines were skipped: the reader is too slow\n").into()),
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(second: i64, stream: LogStream, text: &str) -> LogLine {
        LogLine {
            at: Timestamp::from_second(second).unwrap(),
            revision: RevisionKey::new("a", "b"),
            sidecar: Arc::default(),
            stream,
            text: text.into(),
        }
    }

    #[test]
    fn history_is_cut_by_time_number_and_bytes() {
        let lines = [
            line(1, LogStream::Stdout, "one"),
            line(2, LogStream::Platform, "twö"),
            line(3, LogStream::Stderr, "three"),
        ];
        let since = Timestamp::from_second(2).ok();
        for (tail, since, timestamps, limit_bytes, platform_only, wanted) in [
            (Some(1), None, false, None, false, "three\n"),
            (
                None,
                since,
                true,
                None,
                false,
                "1970-01-01T00:00:02Z twö\n1970-01-01T00:00:03Z three\n",
            ),
            (None, None, false, Some(4), false, "one\n"),
            (None, None, false, Some(6), false, "one\ntw"),
            (None, None, false, Some(7), false, "one\ntw"),
            (None, None, false, None, true, "twö\n"),
        ] {
            let options = Options {
                tail,
                since,
                timestamps,
                limit_bytes,
            };
            let mut writer = Writer {
                timestamps,
                from: if platform_only {
                    From::Platform
                } else {
                    From::Everyone
                },
                left: limit_bytes,
            };
            assert_eq!(history(&lines, &options, &mut writer), wanted);
        }
    }

    #[test]
    fn each_container_has_its_own_lines() {
        let side = |line: LogLine| LogLine {
            sidecar: "side".into(),
            ..line
        };
        let lines = [
            line(1, LogStream::Stdout, "one"),
            side(line(2, LogStream::Stdout, "two")),
            side(line(3, LogStream::Platform, "three")),
        ];
        for (from, wanted) in [
            (From::Everyone, "one\n[side] two\n[side] three\n"),
            (From::container("app", "app"), "one\n"),
            (From::container("side", "app"), "two\nthree\n"),
            (From::container("other", "app"), ""),
            (From::container(QUEUE_PROXY, "app"), "[side] three\n"),
        ] {
            let mut writer = Writer {
                timestamps: false,
                from,
                left: None,
            };
            assert_eq!(history(&lines, &Options::default(), &mut writer), wanted);
        }
    }

    #[test]
    fn a_container_is_named() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "queue-proxy"}]}});
        assert_eq!(container(&pod, Some("a")).ok(), Some("a"));
        let message = |wanted| container(&pod, wanted).err().unwrap().message;
        assert_eq!(
            message(None),
            "a container name must be specified for pod p, choose one of: [a queue-proxy]"
        );
        assert_eq!(
            message(Some("b")),
            "container b is not valid for pod p: choose one of: [a queue-proxy]"
        );
    }
}
