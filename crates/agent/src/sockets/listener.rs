//! The bounds of the socket that any user may connect to: nobody takes it, or the daemon's descriptors, away from the others.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Sleep, sleep};

/// Connections of one user at a time; one more is closed at once.
const MOST_OF_A_USER: usize = 16;
/// Connections of all users but root at a time.
const MOST: usize = 128;
/// How long a connection lasts: all that is asked here is answered at once.
const LONGEST: Duration = Duration::from_secs(30);
const ROOT: u32 = 0;

/// Connections by user.
type Held = BTreeMap<u32, usize>;

/// A listener whose connections are counted and end.
pub(super) struct Bounded {
    listener: UnixListener,
    held: Arc<Mutex<Held>>,
}

impl Bounded {
    pub(super) fn new(listener: UnixListener) -> Self {
        Self { listener, held: Arc::default() }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            let Ok(peer) = stream.peer_cred() else { continue };
            if let Some(place) = Place::take(&self.held, peer.uid()) {
                return (Connection { stream, ends: Box::pin(sleep(LONGEST)), _place: place }, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Whether a user may have one more connection.
fn has_room(held: &Held, user: u32) -> bool {
    let of_others: usize = held.iter().filter(|(user, _)| **user != ROOT).map(|(_, count)| count).sum();
    held.get(&user).is_none_or(|count| *count < MOST_OF_A_USER) && (user == ROOT || of_others < MOST)
}

/// One of the connections that a user may have.
struct Place {
    held: Arc<Mutex<Held>>,
    user: u32,
}

impl Place {
    fn take(held: &Arc<Mutex<Held>>, user: u32) -> Option<Self> {
        let mut counts = held.lock().unwrap_or_else(PoisonError::into_inner);
        if !has_room(&counts, user) {
            return None;
        }
        *counts.entry(user).or_default() += 1;
        Some(Self { held: Arc::clone(held), user })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

/// A connection that fails when its time is over and its peer keeps it waiting.
pub(super) struct Connection {
    stream: UnixStream,
    ends: Pin<Box<Sleep>>,
    _place: Place,
}

impl Connection {
    fn or_over<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            return done;
        }
        self.ends.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.or_over(context, read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.or_over(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_has_all_connections() {
        let held = Arc::default();
        let take = |user, count: usize| -> Vec<Place> {
            std::iter::repeat_with(|| Place::take(&held, user)).take(count).flatten().collect()
        };
        let first = take(1000, 1000);
        assert_eq!(first.len(), MOST_OF_A_USER);
        // Another user has as many; together they have no more than all but root may have.
        let others: Vec<Place> = (1001..1100).flat_map(|user| take(user, 1000)).collect();
        assert_eq!(first.len() + others.len(), MOST);
        assert_eq!(take(ROOT, 1000).len(), MOST_OF_A_USER);
        // What is given back is there for others.
        drop(first);
        assert_eq!(take(2000, 1000).len(), MOST_OF_A_USER);
        drop(others);
        assert!(held.lock().unwrap().is_empty());
    }
}
