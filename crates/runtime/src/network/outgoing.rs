//! Connections to other servers. Towards a guest of WASI 0.2 each is the other end of a connection in memory, so that
//! its streams are the same whatever is behind them.

use super::pipe::{self, End};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Longest time for a connection to another server to be made.
const CONNECT_MAX: Duration = Duration::from_secs(60);
/// How long a connection that the guest has let go of may take to deliver what was written to it.
const LINGER_MAX: Duration = Duration::from_secs(30);
/// Bytes that are taken from one side at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// A connection to another server.
pub(crate) async fn connect(peer: SocketAddr) -> io::Result<TcpStream> {
    let connecting = tokio::time::timeout(CONNECT_MAX, TcpStream::connect(peer));
    let stream = connecting.await.map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// What the guest holds of a connection to another server. It is closed when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _held: watch::Sender<()>,
    broken: Arc<OnceLock<io::ErrorKind>>,
}

impl Held {
    /// Why the connection broke off, if it did. Known before the end of the stream is.
    pub(crate) fn broken(&self) -> Option<io::ErrorKind> {
        self.broken.get().copied()
    }
}

/// Carries bytes between another server and the connection in memory whose end is returned.
pub(crate) fn carry(stream: TcpStream) -> (End, Held) {
    let (guests, ours) = pipe::pair();
    let (held, gone) = watch::channel(());
    let broken = Arc::<OnceLock<io::ErrorKind>>::default();
    let told = Arc::clone(&broken);
    tokio::spawn(async move {
        if let Err(error) = carry_on(stream, &ours, gone).await {
            // Set once, here.
            let _ = told.set(error.kind());
        }
        drop(ours);
    });
    let held = Held { _held: held, broken };
    (guests, held)
}

async fn carry_on(mut stream: TcpStream, ours: &End, mut gone: watch::Receiver<()>) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let mut let_go = gone.clone();
    let upwards = async {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let count = std::future::poll_fn(|cx| ours.poll_read(cx, &mut piece, false)).await;
            match piece.get(..count) {
                Some([]) | None => break,
                Some(bytes) => writer.write_all(bytes).await?,
            }
        }
        writer.shutdown().await?;
        // It may still read.
        let _ = gone.changed().await;
        Ok(())
    };
    let downwards = async {
        let mut piece = vec![0; PIECE_BYTES];
        'all: loop {
            let count = reader.read(&mut piece).await?;
            let mut bytes = match piece.get(..count) {
                Some([]) | None => break,
                Some(bytes) => bytes,
            };
            while !bytes.is_empty() {
                match std::future::poll_fn(|cx| ours.poll_write(cx, bytes)).await {
                    Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                    // The guest reads no more.
                    Err(_) => break 'all,
                }
            }
        }
        ours.end_writing();
        // It may still write.
        std::future::pending::<io::Result<()>>().await
    };
    let lingering = async {
        let _ = let_go.changed().await;
        tokio::time::sleep(LINGER_MAX).await;
    };
    tokio::select! {
        ended = upwards => ended,
        broken = downwards => broken,
        () = lingering => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn pair() -> (End, Held, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (connected, accepted) = tokio::join!(connect(listener.local_addr().unwrap()), listener.accept());
        let (end, held) = carry(connected.unwrap());
        (end, held, accepted.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_each_way_ends_by_itself() {
        let (mut guest, held, mut server) = pair().await;
        let sent = vec![7; 300_000];
        let expected = sent.clone();
        let serving = tokio::spawn(async move {
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            assert!(received == expected);
            server.write_all(b"thanks").await.unwrap();
        });
        guest.write_all(&sent).await.unwrap();
        guest.end_writing();
        let mut back = String::new();
        guest.read_to_string(&mut back).await.unwrap();
        assert_eq!((back.as_str(), held.broken()), ("thanks", None));
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn what_was_written_arrives_when_the_guest_has_gone() {
        let (mut guest, held, mut server) = pair().await;
        guest.write_all(b"last words").await.unwrap();
        drop((guest, held));
        let mut received = String::new();
        server.read_to_string(&mut received).await.unwrap();
        assert_eq!(received, "last words");
        // The server never closes: its socket is closed from the other side all the same.
        while server.write_all(b"x").await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_connection_that_breaks_is_told_from_one_that_ends() {
        let (mut guest, held, server) = pair().await;
        rustix::net::sockopt::set_socket_linger(&server, Some(Duration::ZERO)).unwrap();
        drop(server);
        assert_eq!(guest.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(held.broken(), Some(io::ErrorKind::ConnectionReset));
    }
}
