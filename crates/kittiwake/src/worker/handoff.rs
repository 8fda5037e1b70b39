//! Handing sockets to another program, with a few words about them, over a Unix socket (`SCM_RIGHTS`, unix(7)).

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Most sockets in one message: Linux takes 253 (`SCM_MAX_FD`).
pub const SOCKETS_MAX: usize = 253;
/// Longest words about them, in bytes; they must fit a socket's buffer, since nobody reads while they are written.
const WORDS_BYTES_MAX: usize = 64 * 1024;

/// Sends `words`, and `sockets` beside their length.
///
/// # Errors
/// When there is too much of either, or the other side has gone.
pub fn send(stream: &mut UnixStream, words: &impl Serialize, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(words)?;
    if text.len() > WORDS_BYTES_MAX || sockets.len() > SOCKETS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "too much to hand over",
        ));
    }
    let length = u32::try_from(text.len()).map_err(io::Error::other)?.to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(sockets));
    let sent = sendmsg(
        &*stream,
        &[IoSlice::new(&length)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    stream.write_all(length.get(sent..).unwrap_or_default())?;
    stream.write_all(&text)
}

/// Receives what [`send`] sent. The sockets are closed when this process starts another program.
///
/// # Errors
/// When the other side has gone or sent something else.
pub fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        &*stream,
        &mut [IoSliceMut::new(&mut length)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received);
        }
    }
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    stream.read_exact(length.get_mut(received.bytes..).unwrap_or_default())?;
    let bytes = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if bytes > WORDS_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "that is no handing over",
        ));
    }
    let mut text = vec![0; bytes];
    stream.read_exact(&mut text)?;
    Ok((serde_json::from_slice(&text)?, sockets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    #[test]
    fn a_listening_socket_goes_on_listening_elsewhere() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        send(&mut one, &"words", &[listener.as_fd()]).unwrap();
        drop(listener);
        let _waiting = TcpStream::connect(address).unwrap();
        let (words, mut sockets) = receive::<String>(&mut other).unwrap();
        assert_eq!((words.as_str(), sockets.len()), ("words", 1));
        TcpListener::from(sockets.remove(0)).accept().unwrap();
    }

    #[test]
    fn nothing_and_nonsense_are_refused() {
        let (one, mut other) = UnixStream::pair().unwrap();
        drop(one);
        assert!(receive::<String>(&mut other).is_err());
        let (mut one, mut other) = UnixStream::pair().unwrap();
        one.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(receive::<String>(&mut other).is_err());
        assert!(send(&mut one, &"x".repeat(WORDS_BYTES_MAX + 1), &[]).is_err());
    }
}
