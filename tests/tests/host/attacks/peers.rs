//! Whoever is on the daemon's own sockets. That others than root are refused on the one for root is seen in `sockets.rs`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use livepatch_agent::sockets::{READ_SOCKET, bind, serve_reading};

use super::*;

/// What a user sends to learn or do more than the status; more bytes than any request has are among it.
fn requests() -> Vec<Vec<u8>> {
    let mut requests = vec![b"\0\xff\x16\x03\x01".to_vec(), b"GET /status".to_vec(), Vec::new()];
    for method in ["POST", "PUT", "DELETE", "PATCH", "CONNECT", "OPTIONS"] {
        for path in ["/enable?auth-token=x", "/disable", "/refresh", "/look", "/revert", "/status"] {
            requests.push(format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").into());
        }
    }
    for path in ["/../../etc/shadow", "/%2e%2e/state.json", "/status/../../x", "//x", "*", "http://x/status"]
    {
        requests.push(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into());
    }
    let long = "a".repeat(1 << 20);
    requests.push(format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n").into());
    requests.push(format!("GET /status HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n").into());
    requests.push(b"POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx".to_vec());
    requests
        .push(b"POST /status HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\nx".to_vec());
    requests
}

/// Sends it, perhaps says that it was all, and hears what is said until the other end hangs up.
fn say(socket: &PathBuf, bytes: &[u8], ends: bool) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    // It may hang up before it has read all.
    let _ = stream.write_all(bytes);
    if ends {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// How many of so many connections are kept open in the end.
fn open_of(count: usize, socket: &PathBuf) -> usize {
    let flood: Vec<_> = (0..count).map(|_| UnixStream::connect(socket).unwrap()).collect();
    let is_open = |mut stream: &UnixStream| {
        stream.set_nonblocking(true).unwrap();
        stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    let (began, mut open) = (Instant::now(), count);
    while open > 16 && began.elapsed() < Duration::from_secs(10) {
        open = flood.iter().filter(|stream| is_open(stream)).count();
    }
    open
}

/// The daemon's socket for all gives the status and nothing else, whatever is sent, while others hold connections open.
#[tokio::test]
async fn attack_any_bytes_on_the_daemons_socket() {
    let scene = unattacked().await;
    let socket = scene.host.path().join(READ_SOCKET);
    tokio::spawn(serve_reading(std::sync::Arc::clone(&scene.daemons.agent), bind(&socket, 0o666).unwrap()));
    let before = scene.daemons.status();
    // What was asked until now.
    scene.site.asked();
    let path = socket.clone();
    let attack = move || {
        assert_eq!(open_of(200, &path), 16, "no user has all connections");
        let good = || say(&path, b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", false);
        let began = Instant::now();
        while !good().starts_with("HTTP/1.1 200 OK") {
            assert!(began.elapsed() < BOUND, "they are not given back");
        }
        let held: Vec<_> = (0..8).map(|_| UnixStream::connect(&path).unwrap()).collect();
        for mut stream in &held {
            stream.write_all(b"GET /sta").unwrap();
        }
        for request in requests() {
            let said = say(&path, &request, true);
            let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
            let status = said.starts_with("HTTP/1.1 200 OK") && !request.starts_with(b"GET /status");
            assert!(!status || request.starts_with(b"GET http://x/status"), "{shown}: {said}");
        }
        let said = good();
        assert!(said.starts_with("HTTP/1.1 200 OK"), "{said}");
    };
    tokio::task::spawn_blocking(attack).await.unwrap();
    assert_eq!(scene.daemons.status(), before);
    assert_eq!(scene.site.asked(), [""; 0], "the server was not asked for anything");
    scene.untouched();
    scene.loaded().await;
}
