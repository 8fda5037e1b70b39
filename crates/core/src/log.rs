//! What functions print, kept in memory for `kittiwake logs`: the newest lines of each revision, and a live feed.

use crate::clock::Clock;
use crate::revision::RevisionKey;
use jiff::Timestamp;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::{broadcast, mpsc};

/// Lines kept for each revision; the oldest goes first.
pub const LINES_PER_REVISION_MAX: usize = 1000;
/// Text kept for each revision, in bytes; the oldest line goes first.
pub const TEXT_PER_REVISION_BYTES_MAX: usize = 1 << 20;
/// Text kept for all revisions together, in bytes. At the limit, a revision that writes gives up its own older lines.
pub const TEXT_BYTES_MAX: usize = 256 << 20;
/// Longest line, in bytes; a longer one is cut and marked with `…`.
pub const LINE_BYTES_MAX: usize = 16 * 1024;
/// Lines a follower may lag behind before it misses some (it is told how many).
pub const FOLLOW_LAG_LINES_MAX: usize = 1024;
/// Lines that may wait to be forwarded to the process that keeps them; more are lost, and counted.
pub const FORWARD_LINES_MAX: usize = 4096;

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
    /// The sidecar that wrote it; empty for the container that takes calls.
    pub sidecar: Arc<str>,
    /// Where it came from.
    pub stream: LogStream,
    /// The text, without its line end.
    pub text: Arc<str>,
}

/// The logs of all revisions.
pub struct LogHub {
    clock: Arc<dyn Clock>,
    /// Bytes of text kept in all logs.
    total: Arc<AtomicUsize>,
    revisions: RwLock<HashMap<RevisionKey, Arc<RevisionLog>>>,
    /// Where lines go instead of being kept.
    forward: Option<Forward>,
}

/// Where the lines of a process go whose logs another one keeps.
#[derive(Clone)]
struct Forward {
    lines: mpsc::Sender<LogLine>,
    lost: Arc<AtomicU64>,
}

/// The log of one revision; cheap to write to from many calls at once, and small while nothing was written.
pub struct RevisionLog {
    book: Arc<Book>,
    /// Who writes by this: see [`LogLine::sidecar`].
    sidecar: Arc<str>,
}

/// What all containers of a revision write into.
struct Book {
    clock: Arc<dyn Clock>,
    revision: RevisionKey,
    total: Arc<AtomicUsize>,
    kept: Mutex<Kept>,
    forward: Option<Forward>,
}

#[derive(Default)]
struct Kept {
    lines: VecDeque<LogLine>,
    /// Bytes of text in `lines`.
    bytes: usize,
    /// Made by the first follower, dropped when the last one has gone: its buffer is large.
    feed: Option<broadcast::Sender<LogLine>>,
}

impl LogHub {
    /// An empty hub that stamps lines with `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            total: Arc::default(),
            revisions: RwLock::default(),
            forward: None,
        }
    }

    /// A hub that keeps nothing: lines go to the receiver, and the number counts those that found it full.
    #[must_use]
    pub fn forwarding(clock: Arc<dyn Clock>) -> (Self, mpsc::Receiver<LogLine>, Arc<AtomicU64>) {
        let (lines, receiver) = mpsc::channel(FORWARD_LINES_MAX);
        let lost = Arc::<AtomicU64>::default();
        let forward = Forward {
            lines,
            lost: Arc::clone(&lost),
        };
        let hub = Self {
            forward: Some(forward),
            ..Self::new(clock)
        };
        (hub, receiver, lost)
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
            let book = Book {
                clock: Arc::clone(&self.clock),
                revision: key.clone(),
                total: Arc::clone(&self.total),
                kept: Mutex::default(),
                forward: self.forward.clone(),
            };
            Arc::new(RevisionLog {
                book: Arc::new(book),
                sidecar: Arc::default(),
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
    /// The same log, whose lines are from now on those of a sidecar.
    #[must_use]
    pub fn of_sidecar(&self, name: &Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            book: Arc::clone(&self.book),
            sidecar: Arc::clone(name),
        })
    }

    /// Adds a text: one entry for each of its lines.
    pub fn write(&self, stream: LogStream, text: &str) {
        for line in text.lines() {
            let line = LogLine {
                at: self.book.clock.now(),
                revision: self.book.revision.clone(),
                sidecar: Arc::clone(&self.sidecar),
                stream,
                text: cut(line).into(),
            };
            self.append(line);
        }
    }

    /// Adds a line that was written elsewhere, as it is.
    pub fn append(&self, line: LogLine) {
        match &self.book.forward {
            Some(forward) => {
                if forward.lines.try_send(line).is_err() {
                    forward.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            None => self.kept().push(line, &self.book.total),
        }
    }

    /// The lines that are kept, oldest first.
    #[must_use]
    pub fn lines(&self) -> Vec<LogLine> {
        self.kept().lines.iter().cloned().collect()
    }

    /// The lines that are kept, and a feed that continues exactly where they end.
    #[must_use]
    pub fn follow(&self) -> (Vec<LogLine>, broadcast::Receiver<LogLine>) {
        let mut kept = self.kept();
        let feed = kept
            .feed
            .get_or_insert_with(|| broadcast::Sender::new(FOLLOW_LAG_LINES_MAX))
            .subscribe();
        (kept.lines.iter().cloned().collect(), feed)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.book.kept()
    }
}

impl Book {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        self.total.fetch_sub(self.kept().bytes, Ordering::Relaxed);
    }
}

impl Kept {
    fn push(&mut self, line: LogLine, total: &AtomicUsize) {
        let added = line.text.len();
        self.bytes += added;
        let mut all = total.fetch_add(added, Ordering::Relaxed) + added;
        while self.lines.len() >= LINES_PER_REVISION_MAX
            || self.bytes > TEXT_PER_REVISION_BYTES_MAX
            || all > TEXT_BYTES_MAX
        {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= oldest.text.len();
            all = total.fetch_sub(oldest.text.len(), Ordering::Relaxed) - oldest.text.len();
        }
        self.lines.push_back(line.clone());
        // Sent under the lock, so that `follow` can neither miss nor repeat a line.
        if self.feed.as_ref().is_some_and(|feed| feed.send(line).is_err()) {
            self.feed = None;
        }
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
    fn the_text_of_a_revision_is_bounded_and_counted() {
        let hub = hub();
        let key = RevisionKey::new("default", "a-00001");
        let log = hub.revision(&key);
        for _ in 0..200 {
            log.write(LogStream::Stdout, &"x".repeat(LINE_BYTES_MAX));
        }
        assert_eq!(log.lines().len(), TEXT_PER_REVISION_BYTES_MAX / LINE_BYTES_MAX);
        assert_eq!(hub.total.load(Ordering::Relaxed), TEXT_PER_REVISION_BYTES_MAX);
        hub.forget(&key);
        drop(log);
        assert_eq!(hub.total.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn lines_of_sidecars_are_in_their_order_among_the_others() {
        let log = hub().revision(&RevisionKey::new("default", "a-00001"));
        let side = log.of_sidecar(&"side".into());
        log.write(LogStream::Stdout, "one");
        side.write(LogStream::Stdout, "two");
        log.write(LogStream::Stdout, "three");
        let lines = side.lines();
        let lines: Vec<_> = lines.iter().map(|line| (&*line.sidecar, &*line.text)).collect();
        assert_eq!(lines, [("", "one"), ("side", "two"), ("", "three")]);
    }

    #[test]
    fn a_follower_sees_the_end_of_a_deleted_log() {
        let hub = hub();
        let key = RevisionKey::new("default", "a-00001");
        let (_, mut feed) = hub.revision(&key).follow();
        hub.forget(&key);
        assert!(matches!(
            feed.try_recv(),
            Err(broadcast::error::TryRecvError::Closed)
        ));
    }

    #[test]
    fn a_forwarding_hub_keeps_nothing_and_counts_what_it_loses() {
        let (hub, mut lines, lost) = LogHub::forwarding(Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH)));
        let log = hub.revision(&RevisionKey::new("default", "a-00001"));
        for n in 0..=FORWARD_LINES_MAX {
            log.write(LogStream::Stdout, &format!("line {n}"));
        }
        assert!(log.lines().is_empty());
        assert_eq!(&*lines.try_recv().unwrap().text, "line 0");
        assert_eq!(lost.load(Ordering::Relaxed), 1);
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
