//! The file behind the audit log: a thread of its own writes it, so that a slow or full disk holds up no request.

use kittiwake_core::unit::ByteCount;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Lines that may wait for the disk; more are lost, and counted.
const QUEUE_LINES_MAX: usize = 10_000;
/// Losses between two words about them in the log.
const LOSSES_PER_WARNING: u64 = 10_000;

/// Where the audit log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file; older ones are beside it, with `.1` (the newest), `.2`, … behind their name.
    pub path: PathBuf,
    /// Size at which a new file is begun.
    pub bytes_max: ByteCount,
    /// Older files that are kept.
    pub backups_max: u32,
}

/// An open audit log. Writing never waits. What waits is written before the last handle is gone.
#[derive(Debug)]
pub struct Log {
    lines: Mutex<Option<SyncSender<String>>>,
    lost: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Opens the file, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(config: Config) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE_LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let mut rotating = Rotating::open(config)?;
        let counted = Arc::clone(&lost);
        let thread = std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || write_all(&receiver, &mut rotating, &counted))?;
        Ok(Self {
            lines: Mutex::new(Some(sender)),
            lost,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hands a line to the writer; when too many wait already, it is lost and counted.
    pub(crate) fn write(&self, line: String) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = lines.as_ref().is_some_and(|lines| lines.try_send(line).is_ok());
        if !taken {
            count_loss(&self.lost, &"too many lines wait for the disk");
        }
    }

    /// Lines that were lost because the disk was full or too slow.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).take();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn write_all(lines: &Receiver<String>, file: &mut Rotating, lost: &AtomicU64) {
    while let Ok(mut line) = lines.recv() {
        line.push('\n');
        if let Err(error) = file.write(line.as_bytes()) {
            count_loss(lost, &error);
        }
    }
}

/// Says so the first time, and again after many more.
fn count_loss(lost: &AtomicU64, why: &dyn std::fmt::Display) {
    let before = lost.fetch_add(1, Ordering::Relaxed);
    if before.is_multiple_of(LOSSES_PER_WARNING) {
        tracing::warn!(%why, lost = before + 1, "the audit log loses lines");
    }
}

/// A file that makes room for itself.
struct Rotating {
    config: Config,
    file: File,
    /// Bytes of whole lines in the file.
    length: u64,
}

impl Rotating {
    fn open(config: Config) -> io::Result<Self> {
        let file = append_to(&config.path)?;
        let length = file.metadata()?.len();
        Ok(Self { config, file, length })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let size = u64::try_from(line.len()).unwrap_or(u64::MAX);
        if self.length > 0 && self.length.saturating_add(size) > self.config.bytes_max.0 {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(line) {
            // Half a line would spoil the next one.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += size;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.config.path;
        let older = |number: u32| {
            let mut name = path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        let rename = |from: &Path, to: &Path| match std::fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        if self.config.backups_max == 0 {
            self.file.set_len(0)?;
            self.length = 0;
            return Ok(());
        }
        for number in (1..self.config.backups_max).rev() {
            rename(&older(number), &older(number + 1))?;
        }
        rename(path, &older(1))?;
        self.file = append_to(path)?;
        self.length = self.file.metadata()?.len();
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(folder: &Path, bytes: u64, backups_max: u32) -> Log {
        Log::open(Config {
            path: folder.join("audit.log"),
            bytes_max: ByteCount(bytes),
            backups_max,
        })
        .unwrap()
    }

    #[test]
    fn old_files_are_bounded_in_size_and_number() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path(), 30, 2);
        for number in 0..20 {
            log.write(format!("line {number:04}"));
        }
        drop(log);
        let mut names: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["audit.log", "audit.log.1", "audit.log.2"]);
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("audit.log"), "line 0018\nline 0019\n");
        assert_eq!(read("audit.log.1"), "line 0015\nline 0016\nline 0017\n");
    }

    #[test]
    fn a_log_goes_on_where_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["a", "b"] {
            log(folder.path(), 1000, 1).write(text.to_owned());
        }
        let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
        assert_eq!(text, "a\nb\n");
    }

    /// `/dev/full` answers every write with "no space left on device".
    #[test]
    fn a_full_disk_loses_lines_and_holds_up_nobody() {
        let log = Log::open(Config {
            path: PathBuf::from("/dev/full"),
            bytes_max: ByteCount::mib(1),
            backups_max: 1,
        })
        .unwrap();
        for _ in 0..QUEUE_LINES_MAX * 3 {
            log.write("x".repeat(100));
        }
        let lost = Arc::clone(&log.lost);
        drop(log);
        assert_eq!(lost.load(Ordering::Relaxed), 3 * QUEUE_LINES_MAX as u64);
    }
}
