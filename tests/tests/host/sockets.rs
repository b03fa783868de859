//! Who may do what over the local sockets.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use livepatch_agent::sockets::*;
use livepatch_api::daemon::Status;
use livepatch_types::Redacted;

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

/// A host that runs 1.1, whose operator offers 1.2, with both sockets of its daemon.
async fn offered() -> (Site, Host, Daemons, [PathBuf; 2]) {
    let site = Site::new().await;
    let host = Host::new(&site);
    site.publish(&document(&kernel(1), 1, Some(site.target("1.1", &kernel(1)))));
    let daemons = host.enabled().await;
    assert_eq!(host.livepatches(), ["livepatch_1_1"]);
    site.publish(&document(&kernel(1), 2, Some(site.target("1.2", &kernel(1)))));
    let sockets = [READ_SOCKET, PRIVILEGED_SOCKET].map(|name| host.path().join(name));
    std::fs::set_permissions(host.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(&sockets[0], "left behind").unwrap();
    tokio::spawn(serve_reading(Arc::clone(&daemons.agent), bind(&sockets[0], 0o666).unwrap()));
    // Wide open, so that the check of the peer is what refuses.
    tokio::spawn(serve_privileged(Arc::clone(&daemons.agent), bind(&sockets[1], 0o666).unwrap()));
    (site, host, daemons, sockets)
}

/// Root asks the daemon to go on, which loads what is offered.
async fn root_refreshes(host: &Host, daemons: &Daemons, privileged: &Path) {
    if rustix::process::getuid().is_root() {
        assert_eq!(ask_aside(privileged, "POST", "/refresh").await.0, "HTTP/1.1 200 OK");
    } else {
        daemons.refresh().await.unwrap();
    }
    assert_eq!(host.livepatches(), ["livepatch_1_2"]);
}

/// Reading is for all, and acting for root.
#[tokio::test]
async fn attack_peers_on_the_daemons_sockets() {
    let (_site, host, daemons, [_, privileged]) = offered().await;
    root_refreshes(&host, &daemons, &privileged).await;

    let (site, host, daemons, [reading, privileged]) = offered().await;
    let agent = Arc::clone(&daemons.agent);
    let (line, body) = ask_aside(&reading, "GET", "/status").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert_eq!(serde_json::from_str::<Status>(&body).unwrap(), agent.status());
    // What a scraper reads is what `livepatch metrics` prints.
    let (line, body) = ask_aside(&reading, "GET", "/metrics").await;
    assert_eq!((line.as_str(), body), ("HTTP/1.1 200 OK", livepatch_api::metrics(&agent.status())));
    let (line, _) = ask_aside(&reading, "POST", "/disable").await;
    assert_eq!(line, "HTTP/1.1 404 Not Found", "the socket for all has no commands");

    // Reports of the application may still be told; documents are asked for by nobody.
    let documents = |site: &Site| site.asked().iter().filter(|asked| asked.starts_with("document")).count();
    documents(&site);
    let program = host.path().join("peer");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let socket = privileged.clone();
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(program);
        command.args(["--exact", "sockets::peer", "--ignored", "--nocapture"]).env(SOCKET_VARIABLE, socket);
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
    assert_eq!((host.livepatches(), host.kernel.loads().len()), (vec!["livepatch_1_1".to_owned()], 1));
    assert!(agent.status().enabled);
    assert_eq!(documents(&site), 0, "the server was not asked");
    root_refreshes(&host, &daemons, &privileged).await;
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

/// update-manager asks with `verbose`, software-properties with `verbosity` and `format`; each reads the answer without
/// knowing of our own form.
#[tokio::test]
async fn both_query_styles_get_the_forms_of_the_snap() {
    let site = Site::new().await;
    let host = Host::new(&site);
    site.publish(&document(&kernel(1), 1, Some(site.target("7.1", &kernel(1)))));
    let daemons = host.agent();
    let reading = host.path().join(READ_SOCKET);
    tokio::spawn(serve_reading(Arc::clone(&daemons.agent), bind(&reading, 0o666).unwrap()));
    for path in ["/status?verbose=True", "/status?verbosity=3&format=json"] {
        let (line, body) = ask_aside(&reading, "GET", path).await;
        assert_eq!(line, "HTTP/1.1 400 Bad Request");
        assert!(body.starts_with("Machine is not enabled"), "{body}");
    }
    daemons.start().await.unwrap();
    daemons.enable(Redacted::new(TOKEN.into())).await.unwrap();
    for path in
        ["/status?verbose=True", "/status?verbose=false", "/status?verbosity=3", "/status?format=yaml"]
    {
        let (line, body) = ask_aside(&reading, "GET", path).await;
        assert_eq!(line, "HTTP/1.1 200 OK", "{path}");
        assert!(body.starts_with("client-version: "), "{body}");
        assert!(body.contains("\n    patchState: applied\n    version: \"7.1\"\n"), "{body}");
    }
    for path in ["/status?verbosity=3&format=json", "/status?format=json&verbose=true"] {
        let (line, body) = ask_aside(&reading, "GET", path).await;
        assert_eq!(line, "HTTP/1.1 200 OK", "{path}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["Status"][0]["Running"], true);
        assert_eq!(body["Status"][0]["Livepatch"]["Version"], "7.1");
    }
    for path in ["/status?format=xml", "/status?other=1", "/status?verbose=1&verbose=2"] {
        assert_eq!(ask_aside(&reading, "GET", path).await.0, "HTTP/1.1 400 Bad Request", "{path}");
    }
    let (line, body) = ask_aside(&reading, "GET", "/status").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
    assert!(serde_json::from_str::<Status>(&body).unwrap().enabled);
}
