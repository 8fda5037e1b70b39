//! Lines on their way out: those of the access log are gathered and written together, since a system call for each is
//! a third of what a line costs, and threads wait for each other to make it. All other lines are written at once, after
//! those that were gathered before them.
//!
//! Gathered lines are written when there are [`GATHERED_MAX`] bytes, after [`WAIT_MAX`], and when the process ends. One
//! that is killed or aborts loses those of the last [`WAIT_MAX`].

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes at which gathered lines are written. Whoever adds the last one writes them, and waits for whoever reads.
const GATHERED_MAX: usize = 32 * 1024;
/// Longest time that a line is kept.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// See the module's documentation.
pub(super) struct Lines<W> {
    inner: Mutex<Inner<W>>,
    /// There is a first line to be kept.
    begun: Condvar,
}

struct Inner<W> {
    gathered: Vec<u8>,
    out: W,
}

impl<W: Write> Lines<W> {
    /// Lines to `out`.
    pub(super) fn new(out: W) -> Self {
        let inner = Inner {
            gathered: Vec::new(),
            out,
        };
        Self {
            inner: Mutex::new(inner),
            begun: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<W>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a line until there are more.
    pub(super) fn gather(&self, line: &[u8]) {
        let mut inner = self.lock();
        let is_first = inner.gathered.is_empty();
        inner.gathered.extend_from_slice(line);
        if inner.gathered.len() >= GATHERED_MAX {
            inner.flush();
        } else if is_first {
            drop(inner);
            self.begun.notify_one();
        }
    }

    /// Writes a line, after those that are kept.
    pub(super) fn write(&self, line: &[u8]) {
        let mut inner = self.lock();
        inner.flush();
        inner.out_write(line);
    }

    /// Writes what is kept.
    pub(super) fn flush(&self) {
        self.lock().flush();
    }

    fn wait_for_first(&self) {
        let mut inner = self.lock();
        while inner.gathered.is_empty() {
            inner = self.begun.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<W: Write> Inner<W> {
    fn flush(&mut self) {
        if !self.gathered.is_empty() {
            let gathered = std::mem::take(&mut self.gathered);
            self.out_write(&gathered);
            // Its room is kept for the next ones.
            self.gathered = gathered;
            self.gathered.clear();
        }
    }

    /// Where nobody reads the log there is nobody to tell.
    fn out_write(&mut self, bytes: &[u8]) {
        let _ = self.out.write_all(bytes);
    }
}

/// Starts a thread that writes what is kept in time. It sleeps while nothing is.
///
/// # Errors
/// When there can be no further thread.
pub(super) fn write_in_time<W: Write + Send + 'static>(lines: Arc<Lines<W>>) -> std::io::Result<()> {
    let thread = std::thread::Builder::new().name("kittiwake-log".to_owned());
    thread.spawn(move || {
        loop {
            lines.wait_for_first();
            std::thread::sleep(WAIT_MAX);
            lines.flush();
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written, by each call.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<String>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.0.lock().unwrap().push(text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Written {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut *self.0.lock().unwrap())
        }
    }

    #[test]
    fn gathered_lines_go_out_together_and_in_order() {
        let written = Written::default();
        let lines = Lines::new(written.clone());
        lines.gather(b"a\n");
        lines.gather(b"b\n");
        assert!(written.take().is_empty());
        lines.write(b"an error\n");
        assert_eq!(written.take(), ["a\nb\n", "an error\n"]);
        lines.write(b"another\n");
        assert_eq!(written.take(), ["another\n"]);
        lines.gather(b"c\n");
        lines.flush();
        lines.flush();
        assert_eq!(written.take(), ["c\n"]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let written = Written::default();
        let lines = Lines::new(written.clone());
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        for _ in 0..1000 {
            lines.gather(&line);
        }
        lines.flush();
        let written = written.take();
        assert_eq!(written.iter().map(String::len).sum::<usize>(), 100_000);
        assert!(written.len() == 4 && written.iter().all(|text| text.len() < GATHERED_MAX + line.len()));
        assert!(written.iter().all(|text| text.ends_with('\n')), "no line is torn");
    }

    #[test]
    fn a_kept_line_goes_out_by_itself() {
        let written = Written::default();
        let lines = Arc::new(Lines::new(written.clone()));
        write_in_time(Arc::clone(&lines)).unwrap();
        for text in ["first\n", "second\n"] {
            lines.gather(text.as_bytes());
            let gone = || {
                let written = written.take();
                (!written.is_empty()).then_some(written)
            };
            let went = loop {
                match gone() {
                    Some(went) => break went,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(went, [text]);
        }
    }
}
