//! Serving the socket: one request per connection, and none of anybody but the user that is allowed.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use livepatch_observer_api::{REQUEST_BYTES, Request};
use serde::Serialize;

use crate::{Log, stall};

/// Connections at a time; more are closed at once.
pub const MOST_CONNECTIONS: usize = 8;
/// How long a peer may take to send its request, and to take the answer.
const PEER_BOUND: Duration = Duration::from_secs(5);

/// Makes the socket, in the place of one that was left behind, for its owner alone.
pub fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers the requests of a user until accepting fails. What is looked at is below the root.
pub fn serve(listener: &UnixListener, allowed: u32, log: &Arc<Log>, root: &Path) -> std::io::Error {
    let connections = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // The peer went away again.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return error,
        };
        if !is_user(&stream, allowed) || connections.load(Ordering::SeqCst) >= MOST_CONNECTIONS {
            tracing::warn!("a connection was refused");
            continue;
        }
        connections.fetch_add(1, Ordering::SeqCst);
        let (log, root, count) = (Arc::clone(log), root.to_owned(), Arc::clone(&connections));
        let thread = std::thread::Builder::new().name("observer-socket".into()).spawn(move || {
            if let Err(error) = connection(stream, &log, root) {
                tracing::debug!(%error, "a request was not answered");
            }
            count.fetch_sub(1, Ordering::SeqCst);
        });
        if let Err(error) = thread {
            connections.fetch_sub(1, Ordering::SeqCst);
            tracing::warn!(%error, "a connection was not served");
        }
    }
}

/// Whether the peer is this user, by `SO_PEERCRED`.
fn is_user(stream: &UnixStream, uid: u32) -> bool {
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid.as_raw() == uid)
}

fn connection(mut stream: UnixStream, log: &Log, root: PathBuf) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PEER_BOUND))?;
    stream.set_write_timeout(Some(PEER_BOUND))?;
    let mut bytes = [0; REQUEST_BYTES];
    stream.read_exact(&mut bytes)?;
    match Request::parse(bytes) {
        Some(Request::Seen(from)) => answer(stream, &log.seen(from)),
        Some(Request::Wait(from)) => answer(stream, &log.wait(from)),
        Some(Request::Stall) => answer(stream, &stall(&root)),
        None => Err(ErrorKind::InvalidInput.into()),
    }
}

fn answer(mut stream: UnixStream, answer: &impl Serialize) -> std::io::Result<()> {
    stream.write_all(&serde_json::to_vec(answer)?)
}

#[cfg(test)]
mod tests {
    use livepatch_observer_api::{AskError, Seen, Stall, seen, stall};

    use super::*;

    const BOUND: Duration = Duration::from_secs(10);

    /// A served socket; the thread ends with the process.
    fn served(allowed: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = bind(&path).unwrap();
        std::thread::spawn(move || {
            serve(&listener, allowed, &Arc::new(Log::default()), Path::new("/no/such/root"))
        });
        (directory, path)
    }

    #[test]
    fn requests_of_the_user_are_answered() {
        let (_directory, path) = served(rustix::process::getuid().as_raw());
        assert_eq!(seen(&path, 0, BOUND).unwrap(), Seen::default());
        assert_eq!(stall(&path, BOUND).unwrap(), Stall::default());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        // Any other bytes end the connection.
        for bytes in [vec![0; 9], vec![4; 9], vec![255; 1000]] {
            let mut stream = UnixStream::connect(&path).unwrap();
            // It may have hung up already.
            let _ = stream.write_all(&bytes);
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            assert!(said.is_empty());
        }
    }

    #[test]
    fn attack_peers_on_the_observers_socket() {
        // The same question by the user who may ask.
        let (_directory, path) = served(rustix::process::getuid().as_raw());
        assert_eq!(seen(&path, 0, BOUND).unwrap(), Seen::default());
        let (_directory, path) = served(rustix::process::getuid().as_raw() + 1);
        for _ in 0..2 * MOST_CONNECTIONS {
            assert!(matches!(seen(&path, 0, BOUND), Err(AskError::Unreachable(_))));
        }
    }
}
