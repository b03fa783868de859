//! Serving a socket: a few threads, one request per connection, a deadline for all of it that depends on the peer.

use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use livepatch_api::daemon::Failure;
use livepatch_loader_api::{Answer, HEAD_BYTES, Head, Request};

use crate::Peers;

/// How many connections of one socket are looked at at a time; others wait in the kernel's queue. The sockets share
/// none, so that nobody on one keeps out whoever is on the other.
pub const THREADS: usize = 4;
/// How long a peer may take to send its request, and to take the answer: local memory is fast.
pub const PEER_BOUND: Duration = Duration::from_secs(5);

/// Makes a socket, in the place of one that was left behind, for those who start the loader by hand.
pub fn bind(path: &Path, mode: u32, owner: Option<u32>) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    if owner.is_some() {
        std::os::unix::fs::chown(path, owner, None)?;
    }
    Ok(listener)
}

/// Serves a socket on threads of its own until accepting fails, which it says through `broken`.
pub fn serve<R: Request>(
    listener: UnixListener,
    peers: &Peers,
    bound: Duration,
    answer: impl Fn(Head<R>, &mut dyn Read) -> Answer + Clone + Send + 'static,
    broken: impl Fn(std::io::Error) + Clone + Send + 'static,
) -> std::io::Result<()> {
    for _ in 0..THREADS {
        let (listener, peers) = (listener.try_clone()?, peers.clone());
        let (answer, broken) = (answer.clone(), broken.clone());
        std::thread::Builder::new().name("loader-socket".into()).spawn(move || {
            loop {
                match listener.accept() {
                    Ok((stream, _)) => connection(&stream, &peers, bound, &answer),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // The peer went away again.
                    Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                    Err(error) => return broken(error),
                }
            }
        })?;
    }
    Ok(())
}

fn connection<R: Request>(
    stream: &UnixStream,
    peers: &Peers,
    bound: Duration,
    answer: &impl Fn(Head<R>, &mut dyn Read) -> Answer,
) {
    let said = if peers.admit(stream) {
        let mut body = Deadline { stream, left: bound };
        let mut head = [0; HEAD_BYTES];
        match body.read_exact(&mut head).map_err(|error| error.to_string()) {
            Ok(()) => match Head::parse(head) {
                Ok(head) => answer(head, &mut body),
                Err(error) => refusal("bad-request", &error.to_string(), DIFFER),
            },
            Err(error) => refusal("bad-request", &format!("the request cannot be read: {error}"), DIFFER),
        }
    } else {
        refusal("not-permitted", "this socket is not for this user", "use sudo")
    };
    let sent = stream.set_write_timeout(Some(bound)).and_then(|()| {
        let bytes = serde_json::to_vec(&said)?;
        (&*stream).write_all(&bytes)
    });
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer was not taken");
    }
}

const DIFFER: &str = "client and loader may differ in version: restart both";

fn refusal(code: &'static str, why: &str, hint: &str) -> Answer {
    tracing::warn!(code, "a request was refused: {why}");
    Answer { failure: Some(Failure::new(code, why, hint)), view: None }
}

/// A stream that ends in an error when its peer was waited for too long in all, however it dribbles in. Neither waiting for a
/// turn nor what is done between two reads is the peer's fault.
struct Deadline<'a> {
    stream: &'a UnixStream,
    left: Duration,
}

impl Read for Deadline<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(self.left))?;
        let (mut stream, began) = (self.stream, Instant::now());
        let read = stream.read(buffer);
        self.left = self.left.saturating_sub(began.elapsed());
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_time_in_which_a_peer_is_waited_for_is_its_own() {
        let bound = Duration::from_secs(1);
        let (stream, mut peer) = UnixStream::pair().unwrap();
        let mut request = Deadline { stream: &stream, left: bound };
        let mut byte = [0];
        peer.write_all(b"ab").unwrap();
        request.read_exact(&mut byte).unwrap();
        let began = Instant::now();
        while began.elapsed() < bound {
            std::thread::yield_now();
        }
        request.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"b", "the loader was busy, and the peer in time");
        // The kernel's own bound may end a moment early.
        while request.read(&mut byte).unwrap_err().kind() == ErrorKind::WouldBlock {}
        peer.write_all(b"c").unwrap();
        assert_eq!(
            request.read(&mut byte).unwrap_err().kind(),
            ErrorKind::TimedOut,
            "it is too late for more"
        );
    }
}
