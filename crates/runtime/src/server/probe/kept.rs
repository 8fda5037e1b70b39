//! What a command prints, of which the beginning is kept for a message.

use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError};

/// Bytes that are kept, of both streams together. Conditions and log lines have them; Kubernetes keeps ten times as much in
/// an event.
const KEPT_BYTES_MAX: usize = 1024;
/// Bytes that a guest may write at a time before it has to ask again.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// See the module's documentation. Clones keep together.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn accept(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend(bytes.iter().take(room));
    }

    /// It in one line; `None` when nothing was printed.
    pub(super) fn line(&self) -> Option<String> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let words: Vec<&str> = text.split_whitespace().collect();
        (!words.is_empty()).then(|| words.join(" "))
    }
}

impl IsTerminal for Kept {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Kept {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl Pollable for Kept {
    /// Always ready. (This is `async fn ready` as the `async_trait` macro writes it.)
    fn ready<'life, 'future>(&'life mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(std::future::ready(()))
    }
}

impl OutputStream for Kept {
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

impl AsyncWrite for Kept {
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

    #[test]
    fn the_beginning_is_kept_in_one_line() {
        let kept = Kept::default();
        assert_eq!(kept.line(), None);
        kept.accept(b" no\n");
        kept.clone().accept(b"\xff database\n");
        assert_eq!(kept.line().unwrap(), "no \u{fffd} database");
        kept.accept(&[b'x'; 4 * KEPT_BYTES_MAX]);
        assert_eq!(
            kept.line().unwrap().chars().filter(|c| *c == 'x').count(),
            KEPT_BYTES_MAX - 15
        );
    }
}
