//! Asking the loader: one connection, one request, one answer.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::{Answer, Head, Request};

const MAX_ANSWER_BYTES: u64 = 4 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The socket is not there, or closed to us, or nobody answers in time.
    #[error("{0}")]
    Unreachable(#[from] std::io::Error),
    /// The answer is not one.
    #[error("the loader's answer is not understood: {0}")]
    Answer(String),
}

/// Asks and waits for the answer: connecting and each write and read at most for `timeout`.
pub fn ask<R: Request>(
    socket: &Path,
    request: R,
    body: &[u8],
    timeout: Duration,
) -> Result<Answer, AskError> {
    let mut stream = connect(socket, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    let body_bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let head = Head { request, body_bytes }.to_bytes();
    // It may refuse before it has read all: what it says then is worth more than that it hung up.
    let sent = stream.write_all(&head).and_then(|()| stream.write_all(body));
    let mut text = Vec::new();
    let read = stream.take(MAX_ANSWER_BYTES).read_to_end(&mut text);
    if text.is_empty() {
        sent?;
        read?;
        return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into());
    }
    serde_json::from_slice(&text).map_err(|error| AskError::Answer(error.to_string()))
}

/// Connects, and may write from then on, at most for `timeout`: who does not accept has a queue that fills up, and then
/// connecting itself waits, by the bound of writing (unix(7), connect(2): `EAGAIN`).
fn connect(path: &Path, timeout: Duration) -> std::io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(timeout))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}
