//! Watchers that note when they were told of what.

use super::objects::{KINDS, Kind, kind_of_turn};
use crate::load::Connection;
use anyhow::{Context, ensure};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long all watchers may take to be told of all that was written.
const PATIENCE: Duration = Duration::from_secs(600);
/// Deliveries that wait to be counted; more make their watchers wait, which a measurement must not: so it is large.
const SEEN_MAX: usize = 1 << 20;
/// What marks an update in the text of an object.
const MARK: &[u8] = b"\"bench\":\"mark-";

/// Open watches, spread over the kinds.
pub struct Watchers {
    seen: mpsc::Receiver<(u64, Instant)>,
    count: usize,
}

impl Watchers {
    /// Opens watches from now on.
    pub async fn open(api: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let mut connection = Connection::open(api, "127.0.0.1").await?;
        let (_, list) = connection
            .get(&format!("{}?limit=1", Kind::of("services").collection()))
            .await?;
        let list: serde_json::Value = serde_json::from_slice(&list)?;
        let version = list
            .pointer("/metadata/resourceVersion")
            .and_then(serde_json::Value::as_str);
        let version = version.context("no resource version")?.to_owned();
        let (sender, seen) = mpsc::channel(SEEN_MAX);
        for watcher in 0..count {
            let kind = kind_of_turn(watcher);
            let path = format!(
                "{}?watch=true&resourceVersion={version}&timeoutSeconds=3600",
                kind.collection()
            );
            let connection = Connection::open(api, "127.0.0.1").await?;
            let body = connection.stream(&path).await?;
            tokio::spawn(read(body, sender.clone()));
        }
        Ok(Self { seen, count })
    }

    /// Waits until every watcher was told of every update of its kind; how long after its sending each was.
    pub async fn deliveries(&mut self, sent: &[(String, Instant)]) -> anyhow::Result<Vec<Duration>> {
        let mut at = HashMap::new();
        let mut expected = 0;
        for (mark, when) in sent {
            let number = number(mark.as_bytes(), b"mark-").context("no mark")?;
            at.insert(number, *when);
            let kind = usize::try_from(number)? % KINDS.len();
            expected += (0..self.count)
                .filter(|watcher| watcher % KINDS.len() == kind)
                .count();
        }
        let mut deliveries = Vec::with_capacity(expected);
        let collect = async {
            while deliveries.len() < expected {
                let (number, when) = self.seen.recv().await.context("all watches ended")?;
                if let Some(sent) = at.get(&number) {
                    deliveries.push(when.saturating_duration_since(*sent));
                }
            }
            anyhow::Ok(())
        };
        let ended = tokio::time::timeout(PATIENCE, collect).await;
        let told = ended
            .map(|collected| collected.map(|()| true))
            .unwrap_or(Ok(false))?;
        ensure!(told, "watchers were not told of everything");
        Ok(deliveries)
    }
}

/// Reads lines as they come and notes their marks.
async fn read(mut body: Incoming, seen: mpsc::Sender<(u64, Instant)>) {
    let mut line = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let now = Instant::now();
        for byte in frame.data_ref().into_iter().flat_map(|data| data.iter()) {
            if *byte != b'\n' {
                line.push(*byte);
                continue;
            }
            if let Some(number) = number(&line, MARK)
                && seen.send((number, now)).await.is_err()
            {
                return;
            }
            line.clear();
        }
    }
}

/// The number after a mark.
fn number(text: &[u8], mark: &[u8]) -> Option<u64> {
    let place = text.windows(mark.len()).position(|window| window == mark)?;
    let digits = text.get(place + mark.len()..)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found() {
        assert_eq!(number(b"{\"bench\":\"mark-17-end\"}", MARK), Some(17));
        assert_eq!(number(b"{\"bench\":\"mark-\"}", MARK), None);
        assert_eq!(number(b"{}", MARK), None);
    }
}
