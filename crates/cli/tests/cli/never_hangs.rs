//! Whatever the daemon does: a status within a second, in both faces.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use livepatch_api::daemon::*;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::*;

/// What the programs promise, and room for a machine that is busy with other tests.
const PROMISE: Duration = Duration::from_secs(1);
const ROOM: Duration = Duration::from_secs(2);

/// How often a command is run: what waits too long by itself does so every time, a busy machine does not.
const TRIES: usize = 5;

/// Runs a command and checks how long it took.
pub(crate) fn in_time(what: &str, run: impl Fn() -> Output) -> Output {
    let timed = || {
        let start = Instant::now();
        (run(), start.elapsed())
    };
    let (mut output, mut took) = timed();
    for _ in 1..TRIES {
        if took < PROMISE + ROOM {
            break;
        }
        (output, took) = timed();
    }
    assert!(took < PROMISE + ROOM, "{what}: {took:?}");
    output
}

/// The daemon answers, and within the time that the program gives it.
fn answers(what: &str, directory: &Path) {
    let code = || in_time(what, || livepatch(directory, &["status"], "")).status.code();
    assert!((0..TRIES).any(|_| code() == Some(0)), "{what}");
}

pub(crate) fn leave(directory: &Path, status: &Status) {
    std::fs::write(directory.join("status.json"), serde_json::to_string(status).unwrap()).unwrap();
}

/// That both faces answer from the file.
fn answers_from_the_file(what: &str, directory: &Path) {
    let output = in_time(what, || livepatch(directory, &["status"], ""));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(4), ""), "{what}");
    let shown = text(&output.stdout);
    assert!(shown.contains("livepatch   113.1 applied since 2026-11-24 11:00:00 UTC\n"), "{what}: {shown}");
    assert!(shown.contains("; this is what it knew on "), "{what}: {shown}");
    let output = in_time(what, || canonical_livepatch(directory, &["status", "--format", "json"], ""));
    assert_eq!(output.status.code(), Some(0), "{what}");
    assert!(text(&output.stdout).contains("\"State\":\"applied\""), "{what}");
    assert!(text(&output.stderr).contains("; this is what it knew on "), "{what}");
}

/// The head of an answer.
fn head(length: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").into_bytes()
}

/// A daemon that says the same to everybody and keeps the connection open.
fn says(directory: &Path, bytes: Vec<u8>) {
    let listener = UnixListener::bind(directory.join("livepatchd.sock")).unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            // The client may have enough before the end.
            let _ = stream.write_all(&bytes);
            open.push(stream);
        }
    });
}

#[test]
fn what_is_said_of_a_daemon_that_is_silent() {
    let directory = tempfile::tempdir().unwrap();
    says(directory.path(), Vec::new());
    let output = in_time("silent", || livepatch(directory.path(), &["status"], ""));
    insta::assert_snapshot!(text(&output.stderr).replace(directory.path().to_str().unwrap(), "DIRECTORY"), @"
    error: the daemon cannot be reached on DIRECTORY/livepatchd.sock: no answer within 700 ms

    hint: `systemctl status livepatchd` says whether it runs; a livepatch that is applied stays applied
    ");
}

#[test]
fn answers_that_are_none() {
    let later = serde_json::to_vec(&Status { schema: 2, ..status() }).unwrap();
    let cases: [(&str, Vec<u8>); 8] = [
        ("silent", Vec::new()),
        ("half a head", b"HTTP/1.1 200 OK\r\n".to_vec()),
        ("garbage", vec![0xff; 100_000]),
        ("another protocol", b"SSH-2.0-x\r\n\r\n".to_vec()),
        ("half a body", [head(1000), b"{".to_vec()].concat()),
        ("not a status", [head(2), b"{}".to_vec()].concat()),
        ("a later schema", [head(later.len()), later].concat()),
        ("huge", [head(64 << 20), vec![b' '; 64 << 20]].concat()),
    ];
    for (what, bytes) in cases {
        let directory = tempfile::tempdir().unwrap();
        leave(directory.path(), &status());
        says(directory.path(), bytes);
        answers_from_the_file(what, directory.path());
    }
}

#[test]
fn an_answer_that_drips() {
    let directory = tempfile::tempdir().unwrap();
    leave(directory.path(), &status());
    let listener = UnixListener::bind(directory.path().join("livepatchd.sock")).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let mut asked = [0; 4096];
                let _ = stream.read(&mut asked);
                stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                // A byte, and the read's time-out as the pause, until the client is gone.
                while stream.write_all(b"H").is_ok() {
                    let _ = stream.read(&mut asked);
                }
            });
        }
    });
    answers_from_the_file("dripping", directory.path());
}

#[test]
fn errors_of_the_daemon() {
    for code in ["500 Internal Server Error", "403 Forbidden"] {
        let directory = tempfile::tempdir().unwrap();
        leave(directory.path(), &status());
        let body =
            serde_json::to_string(&Failure { code: "x".into(), message: "it is so".into(), hints: vec![] });
        let body = body.unwrap();
        let bytes = format!("HTTP/1.1 {code}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes();
        let listener = UnixListener::bind(directory.path().join("livepatchd.sock")).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(&bytes);
            }
        });
        answers_from_the_file(code, directory.path());
    }
}

#[test]
fn sockets_without_a_daemon() {
    let directory = tempfile::tempdir().unwrap();
    leave(directory.path(), &status());
    answers_from_the_file("no socket", directory.path());
    // The socket of one that died.
    drop(UnixListener::bind(directory.path().join("livepatchd.sock")).unwrap());
    answers_from_the_file("a dead socket", directory.path());
    std::fs::remove_file(directory.path().join("livepatchd.sock")).unwrap();
    std::fs::write(directory.path().join("livepatchd.sock"), "").unwrap();
    answers_from_the_file("a file in its place", directory.path());
}

/// When nobody accepts and the queue is full, connecting itself waits.
#[test]
fn a_full_queue() {
    let directory = tempfile::tempdir().unwrap();
    leave(directory.path(), &status());
    let path = directory.path().join("livepatchd.sock");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    answers_from_the_file("a full queue", directory.path());
}

/// A daemon in a process of its own: this program again, told so by the environment.
const DAEMON_DIRECTORY: &str = "LIVEPATCH_TEST_DAEMON_DIRECTORY";

/// Not a test by itself: the daemon of the next one, and a loader.
#[test]
fn daemon_process() {
    let Some(directory) = std::env::var_os(DAEMON_DIRECTORY) else { return };
    loader_with(directory.as_ref(), None, Some(livepatch_loader_api::View::default()));
    let body = serde_json::to_vec(&status()).unwrap();
    let listener = UnixListener::bind(Path::new(&directory).join("livepatchd.sock")).unwrap();
    // Whoever started this ends it.
    while let Ok((mut stream, _)) = listener.accept() {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&[head(body.len()), body.clone()].concat());
    }
}

pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn start(directory: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "never_hangs::daemon_process"])
            .env(DAEMON_DIRECTORY, directory)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Self(child);
        let start = Instant::now();
        while std::os::unix::net::UnixStream::connect(directory.join("livepatchd.sock")).is_err() {
            assert!(start.elapsed() < Duration::from_secs(30), "the daemon does not start");
            std::thread::yield_now();
        }
        daemon
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_daemon_that_is_stopped_or_killed() {
    let directory = tempfile::tempdir().unwrap();
    leave(directory.path(), &status());
    let mut daemon = Daemon::start(directory.path());
    answers("a daemon that runs", directory.path());
    daemon.signal(Signal::STOP);
    answers_from_the_file("SIGSTOP", directory.path());
    daemon.signal(Signal::CONT);
    answers("SIGCONT", directory.path());
    daemon.signal(Signal::KILL);
    daemon.0.wait().unwrap();
    answers_from_the_file("SIGKILL", directory.path());
}

#[test]
fn what_the_daemon_left_and_when() {
    let directory = tempfile::tempdir().unwrap();
    let mut left = status();
    left.problem = Some(Failure { code: "x".into(), message: "it was so".into(), hints: vec![] });
    leave(directory.path(), &left);
    let at = std::time::UNIX_EPOCH + Duration::from_secs(1_795_526_400);
    let file = std::fs::File::options().write(true).open(directory.path().join("status.json")).unwrap();
    file.set_modified(at).unwrap();
    let output = livepatch(directory.path(), &["status"], "");
    let problem = "problem: the daemon does not answer; this is what it knew on 2026-11-24 13:20:00 UTC (daemon-unreachable)
hint: `systemctl status livepatchd` says whether it runs; a livepatch that is applied stays applied

note: what was wrong then: it was so (x)
";
    assert!(text(&output.stdout).ends_with(problem), "{}", text(&output.stdout));
    let output = livepatch(directory.path(), &["status", "--format", "json"], "");
    let json: Status = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json.problem.unwrap().code.as_str(), json.patch), ("daemon-unreachable", left.patch));
}

#[test]
fn files_that_are_no_status() {
    let later = serde_json::to_string(&Status { schema: 2, ..status() }).unwrap();
    let mut over_the_cap = serde_json::to_string(&status()).unwrap();
    over_the_cap.push_str(&" ".repeat(4 << 20));
    for bytes in [&b""[..], b"{}", b"\xff\xff", b"{\"schema\":1", later.as_bytes()] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("status.json"), bytes).unwrap();
        no_answer("a bad file", directory.path());
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("status.json");
    std::fs::write(&file, [over_the_cap.as_bytes(), b"x"].concat()).unwrap();
    no_answer("a file over the cap", directory.path());
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    no_answer("a directory", directory.path());
    std::fs::remove_dir(&file).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    no_answer("a pipe", directory.path());
}

/// Both faces give up, in time and with the reason.
fn no_answer(what: &str, directory: &Path) {
    let output = in_time(what, || livepatch(directory, &["status"], ""));
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(4), ""), "{what}");
    assert!(text(&output.stderr).starts_with("error: the daemon cannot be reached on "), "{what}");
    let output = in_time(what, || canonical_livepatch(directory, &["status"], ""));
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""), "{what}");
}
