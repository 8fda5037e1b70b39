//! What a guest prints: a stream into whatever takes it, and what most have, which puts it line by line into the log of
//! the revision.

use bytes::Bytes;
use kittiwake_core::log::{LINE_BYTES_MAX, LogStream, RevisionLog};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

/// Bytes that a guest may write at a time before it has to ask again.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// What takes what is printed. It never makes a guest wait.
pub(crate) trait Takes: Send + Sync + 'static {
    /// Takes bytes, as many as there are.
    fn accept(&self, bytes: &[u8]);
}

/// A stream on which a guest prints. Clones lead to the same place.
#[derive(Debug, Default)]
pub(crate) struct Stream<T>(Arc<T>);

/// One of the two streams into a log. Clones share the line that is being written.
pub(crate) type Output = Stream<Lines>;

impl<T> Clone for Stream<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Stream<T> {
    /// Where it leads.
    pub(crate) fn taker(&self) -> &T {
        &self.0
    }
}

impl<T: Takes> Stream<T> {
    /// Prints.
    pub(crate) fn accept(&self, bytes: &[u8]) {
        self.0.accept(bytes);
    }
}

/// The log of a revision, to which whole lines are written.
pub(crate) struct Lines {
    log: Arc<RevisionLog>,
    stream: LogStream,
    /// The line that has no end yet; flushed when it is too long or the instance ends.
    partial: Mutex<Vec<u8>>,
}

impl Output {
    /// The stream `stream` of an instance.
    pub(crate) fn new(log: &Arc<RevisionLog>, stream: LogStream) -> Self {
        Self(Arc::new(Lines {
            log: Arc::clone(log),
            stream,
            partial: Mutex::default(),
        }))
    }
}

impl Takes for Lines {
    fn accept(&self, bytes: &[u8]) {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(partial.len());
            // One byte more than fits, so that the log marks the line as cut.
            partial.extend(piece.iter().take(room.saturating_add(1)));
            if piece.ends_with(b"\n") {
                self.write(&partial);
                partial.clear();
            }
        }
    }
}

impl Lines {
    fn write(&self, line: &[u8]) {
        self.log.write(self.stream, &String::from_utf8_lossy(line));
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let partial = std::mem::take(self.partial.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !partial.is_empty() {
            self.write(&partial);
        }
    }
}

impl<T: Takes> IsTerminal for Stream<T> {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl<T: Takes> StdoutStream for Stream<T> {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl<T: Takes> Pollable for Stream<T> {
    /// Always ready: nobody who takes it makes a guest wait. (This is `async fn ready` as the `async_trait` macro writes it.)
    fn ready<'life, 'future>(&'life mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(std::future::ready(()))
    }
}

impl<T: Takes> OutputStream for Stream<T> {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.accept(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl<T: Takes> AsyncWrite for Stream<T> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.accept(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kittiwake_core::clock::SystemClock;
    use kittiwake_core::log::LogHub;
    use kittiwake_core::revision::RevisionKey;

    #[test]
    fn lines_are_whole_and_bounded() {
        let hub = LogHub::new(Arc::new(SystemClock::new()));
        let log = hub.revision(&RevisionKey::new("default", "a-00001"));
        let output = Output::new(&log, LogStream::Stdout);
        output.accept(b"he");
        output.accept(b"llo\nwor");
        output.accept(b"ld\n\xff\nx");
        output.accept(&vec![b'y'; LINE_BYTES_MAX * 3]);
        drop(output);
        let lines: Vec<_> = log.lines().iter().map(|line| line.text.to_string()).collect();
        assert_eq!(lines[..3], ["hello", "world", "\u{fffd}"]);
        assert!(lines[3].starts_with("xy") && lines[3].ends_with('…'));
        assert_eq!(lines.len(), 4);
    }
}
