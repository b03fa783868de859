//! Who is at the other end, as the kernel says.

use std::os::unix::net::UnixStream;

/// Who may speak on a socket.
#[derive(Debug, Clone)]
pub struct Peers {
    allowed: Vec<u32>,
    credentials: fn(&UnixStream) -> Option<u32>,
}

impl Peers {
    /// These users, by `SO_PEERCRED`.
    pub fn of(allowed: &[u32]) -> Self {
        Self { allowed: allowed.to_vec(), credentials: peer_uid }
    }

    /// These users, by another way to learn who it is: tests have one user only.
    pub fn with_credentials(allowed: &[u32], credentials: fn(&UnixStream) -> Option<u32>) -> Self {
        Self { allowed: allowed.to_vec(), credentials }
    }

    /// Whether the peer of a connection may speak.
    pub fn admit(&self, stream: &UnixStream) -> bool {
        (self.credentials)(stream).is_some_and(|uid| self.allowed.contains(&uid))
    }
}

fn peer_uid(stream: &UnixStream) -> Option<u32> {
    Some(rustix::net::sockopt::socket_peercred(stream).ok()?.uid.as_raw())
}

/// The uid of a user in the text of /etc/passwd (passwd(5)). System users are there and nowhere else.
pub fn uid_of(passwd: &str, user: &str) -> Option<u32> {
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = lines.find(|fields| fields.len() == 7 && fields[0] == user)?;
    fields[2].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Also where tests are run by root, whose uid is what a wrong answer would most likely be.
    #[test]
    fn the_peer_is_who_made_the_socket() {
        const NOBODY: u32 = 65534;
        let by = |uid: u32| {
            std::thread::spawn(move || {
                let euid = rustix::thread::Uid::from_raw(uid);
                rustix::thread::set_thread_res_uid(None, euid, None).map(|()| UnixStream::pair().unwrap())
            })
        };
        let me = rustix::process::geteuid().as_raw();
        for uid in if me == 0 { vec![0, NOBODY] } else { vec![me] } {
            let (stream, _other) = by(uid).join().unwrap().unwrap();
            assert_eq!(peer_uid(&stream), Some(uid));
        }
    }

    #[test]
    fn users() {
        let text = "root:x:0:0:root:/root:/bin/sh\nlivepatch:x:998:997::/:/usr/sbin/nologin\nbad:x:-1:1::/:/\nshort:x:5\n";
        assert_eq!(uid_of(text, "livepatch"), Some(998));
        assert_eq!(uid_of(text, "root"), Some(0));
        for user in ["", "live", "bad", "short", "x"] {
            assert_eq!(uid_of(text, user), None, "{user}");
        }
    }
}
