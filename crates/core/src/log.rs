//! What functions print, kept in memory for `kittiwake logs`: the newest lines of each revision, and a live feed.

use crate::clock::Clock;
use crate::revision::RevisionKey;
use jiff::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::broadcast;

/// Lines kept for each revision; the oldest goes first.
pub const LINES_PER_REVISION_MAX: usize = 1000;
/// Longest line, in bytes; a longer one is cut and marked with `…`.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// Lines a follower may lag behind before it misses some (it is told how many).
pub const FOLLOW_LAG_LINES_MAX: usize = 1024;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// The guest's standard output.
    Stdout,
    /// The guest's standard error.
    Stderr,
    /// The platform, about the guest: a trap with its backtrace, a time-out, a limit that was hit.
    Platform,
}

/// One line of a function's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub at: Timestamp,
    /// The revision that wrote it.
    pub revision: RevisionKey,
    /// Where it came from.
    pub stream: LogStream,
    /// The text, without its line end.
    pub text: Arc<str>,
}

/// The logs of all revisions.
pub struct LogHub {
    clock: Arc<dyn Clock>,
    revisions: RwLock<HashMap<RevisionKey, Arc<RevisionLog>>>,
}

/// The log of one revision; cheap to write to from many calls at once.
pub struct RevisionLog {
    clock: Arc<dyn Clock>,
    revision: RevisionKey,
    lines: Mutex<VecDeque<LogLine>>,
    feed: broadcast::Sender<LogLine>,
}

impl LogHub {
    /// An empty hub that stamps lines with `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            revisions: RwLock::default(),
        }
    }

    /// The log of a revision, made when it is first asked for.
    #[must_use]
    pub fn revision(&self, key: &RevisionKey) -> Arc<RevisionLog> {
        if let Some(log) = self
            .revisions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
        {
            return Arc::clone(log);
        }
        let mut revisions = self.revisions.write().unwrap_or_else(PoisonError::into_inner);
        let log = revisions.entry(key.clone()).or_insert_with(|| {
            Arc::new(RevisionLog {
                clock: Arc::clone(&self.clock),
                revision: key.clone(),
                lines: Mutex::default(),
                feed: broadcast::Sender::new(FOLLOW_LAG_LINES_MAX),
            })
        });
        Arc::clone(log)
    }

    /// Forgets the log of a revision that was deleted; its followers see the end of the feed.
    pub fn forget(&self, key: &RevisionKey) {
        self.revisions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }
}

impl RevisionLog {
    /// Adds a text: one entry for each of its lines.
    pub fn write(&self, stream: LogStream, text: &str) {
        for line in text.lines() {
            let line = LogLine {
                at: self.clock.now(),
                revision: self.revision.clone(),
                stream,
                text: cut(line).into(),
            };
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LINES_PER_REVISION_MAX {
                lines.pop_front();
            }
            lines.push_back(line.clone());
            // Sent under the lock, so that `follow` can neither miss nor repeat a line. No follower is no error.
            let _ = self.feed.send(line);
        }
    }

    /// The lines that are kept, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<LogLine> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    /// The lines that are kept, and a feed that continues exactly where they end.
    #[must_use]
    pub fn follow(&self) -> (Vec<LogLine>, broadcast::Receiver<LogLine>) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        (lines.iter().cloned().collect(), self.feed.subscribe())
    }
}

/// Cuts a line at [`LINE_BYTES_MAX`], between characters.
fn cut(line: &str) -> String {
    if line.len() <= LINE_BYTES_MAX {
        return line.to_owned();
    }
    let end = line.floor_char_boundary(LINE_BYTES_MAX);
    format!("{}…", line.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn hub() -> LogHub {
        LogHub::new(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)))
    }

    #[test]
    fn the_newest_lines_stay() {
        let hub = hub();
        let log = hub.revision(&RevisionKey::new("default", "a-00001"));
        for n in 0..LINES_PER_REVISION_MAX + 5 {
            log.write(LogStream::Stdout, &format!("line {n}"));
        }
        let lines = log.lines();
        assert_eq!(lines.len(), LINES_PER_REVISION_MAX);
        assert_eq!(&*lines[0].text, "line 5");
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let hub = hub();
        let log = hub.revision(&RevisionKey::new("default", "a-00001"));
        log.write(LogStream::Stderr, &"é".repeat(LINE_BYTES_MAX));
        let text = log.lines()[0].text.to_string();
        assert!(text.ends_with('…') && text.len() <= LINE_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn a_follower_continues_where_the_history_ends() {
        let hub = hub();
        let log = hub.revision(&RevisionKey::new("default", "a-00001"));
        log.write(LogStream::Stdout, "one\ntwo");
        let (history, mut feed) = log.follow();
        log.write(LogStream::Platform, "three");
        assert_eq!(
            history.iter().map(|l| &*l.text).collect::<Vec<_>>(),
            ["one", "two"]
        );
        assert_eq!(&*feed.try_recv().unwrap().text, "three");
    }
}
