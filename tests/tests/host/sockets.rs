//! Who may do what over the local sockets.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use livepatch_agent::sockets::*;
use livepatch_api::daemon::{Failure, Status};

use crate::support::*;

const NOBODY: u32 = 65534;
const SOCKET_VARIABLE: &str = "LIVEPATCH_TEST_SOCKET";

fn ask(socket: &Path, method: &str, path: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

async fn ask_aside(socket: &Path, method: &'static str, path: &'static str) -> (String, String) {
    let socket = socket.to_owned();
    tokio::task::spawn_blocking(move || ask(&socket, method, path)).await.unwrap()
}

#[tokio::test]
async fn reading_is_for_all_and_acting_for_root() {
    let site = Site::new().await;
    let host = Host::new(&site);
    let agent = host.agent().agent;
    let (reading, privileged) = (host.path().join(READ_SOCKET), host.path().join(PRIVILEGED_SOCKET));
    std::fs::set_permissions(host.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&reading, "left behind").unwrap();
    tokio::spawn(serve_reading(Arc::clone(&agent), bind(&reading, 0o666).unwrap()));
    // Wide open, so that the check of the peer is what refuses.
    tokio::spawn(serve_privileged(Arc::clone(&agent), bind(&privileged, 0o666).unwrap()));

    let (line, body) = ask_aside(&reading, "GET", "/status").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert_eq!(serde_json::from_str::<Status>(&body).unwrap(), agent.status());
    let (line, _) = ask_aside(&reading, "POST", "/disable").await;
    assert_eq!(line, "HTTP/1.1 404 Not Found", "the socket for all has no commands");

    if rustix::process::getuid().is_root() {
        let (line, body) = ask_aside(&privileged, "POST", "/refresh").await;
        assert_eq!(line, "HTTP/1.1 409 Conflict");
        assert_eq!(serde_json::from_str::<Failure>(&body).unwrap().code, "not-enabled");
    }
    let program = host.path().join("peer");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(program);
        command
            .args(["--exact", "sockets::peer", "--ignored", "--nocapture"])
            .env(SOCKET_VARIABLE, privileged);
        if rustix::process::getuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.output().unwrap()
    });
    let output = output.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert_eq!(text.matches("HTTP/1.1 403 Forbidden").count(), 6, "{text}");
    assert!(text.contains("not-root"), "{text}");
}

#[test]
#[ignore = "runs in a child of the test above, as another user"]
fn peer() {
    let socket = std::env::var_os(SOCKET_VARIABLE).unwrap();
    for path in ["/enable", "/disable", "/refresh", "/look", "/revert", "/other"] {
        println!("{:?}", ask(Path::new(&socket), "POST", path));
    }
}

#[test]
fn sockets_have_their_modes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let directory = tempfile::tempdir().unwrap();
    for mode in [0o600, 0o666] {
        let path = directory.path().join("socket");
        let _listener = bind(&path, mode).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
    }
}
