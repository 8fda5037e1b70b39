//! A program's standard input and output, as the ends of two pipes.

use crate::network::pipe::End;
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError};

/// Bytes that are read at a time.
const READ_BYTES_MAX: usize = 64 * 1024;

/// What a program reads.
#[derive(Clone)]
pub(super) struct Stdin(pub Arc<End>);

/// Where a program writes.
#[derive(Clone)]
pub(super) struct Stdout(pub Arc<End>);

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl IsTerminal for Stdout {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

impl StdoutStream for Stdout {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl Pollable for Stdin {
    // This is `async fn ready` as the `async_trait` macro writes it.
    fn ready<'life, 'future>(&'life mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(std::future::poll_fn(|cx| self.0.poll_readable(cx).map(drop)))
    }
}

impl Pollable for Stdout {
    fn ready<'life, 'future>(&'life mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(std::future::poll_fn(|cx| self.0.poll_writable(cx).map(drop)))
    }
}

impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        let mut buffer = vec![0; size.min(READ_BYTES_MAX)];
        match self
            .0
            .poll_read(&Context::from_waker(Waker::noop()), &mut buffer, false)
        {
            Poll::Ready(0) if size > 0 => Err(StreamError::Closed),
            Poll::Ready(count) => {
                buffer.truncate(count);
                Ok(buffer.into())
            }
            Poll::Pending => Ok(Bytes::new()),
        }
    }
}

impl OutputStream for Stdout {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        // No more than `check_write` allowed, so all of it has room.
        match self.0.poll_write(&Context::from_waker(Waker::noop()), &bytes) {
            Poll::Ready(Ok(count)) if count == bytes.len() => Ok(()),
            Poll::Ready(Ok(_)) | Poll::Pending => Err(StreamError::Trap(wasmtime::Error::msg(
                "more was written than there was room for",
            ))),
            Poll::Ready(Err(_)) => Err(StreamError::Closed),
        }
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        match self.0.poll_writable(&Context::from_waker(Waker::noop())) {
            Poll::Ready((_, true)) => Err(StreamError::Closed),
            Poll::Ready((room, false)) => Ok(room),
            Poll::Pending => Ok(0),
        }
    }
}

impl AsyncRead for Stdin {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = std::task::ready!(self.0.poll_read(cx, buffer.initialize_unfilled(), false));
        buffer.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stdout {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
