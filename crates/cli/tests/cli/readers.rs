//! Every command that reads, not only `status`: an answer within a second, whatever daemon and loader do.

use std::io::Write as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use livepatch_loader_api::ROOT_SOCKET;
use rustix::process::Signal;

use crate::never_hangs::{Daemon, in_time, leave};
use crate::support::*;

/// Commands that only read, with the exit code that each has where a status was left behind and nobody answers; none: it
/// depends on the machine.
const READERS: &[(&[&str], Option<i32>)] = &[
    (&["status"], Some(4)),
    (&["status", "--verbose"], Some(4)),
    (&["status", "--format", "json"], Some(4)),
    (&["explain"], Some(0)),
    (&["explain", "--telemetry"], Some(4)),
    (&["cves"], Some(4)),
    (&["wait", "--timeout", "0s"], Some(1)),
    (&["kernel-upgrade-required"], Some(1)),
    (&["reboot-required", "--directory", "DIRECTORY"], Some(1)),
    (&["check"], None),
    (&["metrics"], Some(0)),
    (&["motd"], Some(0)),
    (&["doctor"], Some(1)),
    (&["bug-report", "--config", "DIRECTORY/livepatch.toml"], Some(0)),
    (&["secure-boot", "--trust-dir", "DIRECTORY", "--keys-dir", "DIRECTORY", "status"], None),
    (&["hold", "--config", "DIRECTORY/livepatch.toml"], Some(0)),
    (&["unhold", "--config", "DIRECTORY/livepatch.toml"], Some(0)),
    (&["config", "import", "--dry-run", "DIRECTORY/none", "--config", "DIRECTORY/livepatch.toml"], Some(1)),
    (&["locks", "list"], Some(4)),
    (&["locks", "list", "--format", "json"], Some(4)),
    (&["completions", "bash"], Some(0)),
    (&["inspect", "DIRECTORY/none.lpb"], Some(1)),
    (&["trust"], Some(4)),
    (&["trust", "--format", "json"], Some(4)),
];

/// The same of the other face.
const LEGACY_READERS: &[(&[&str], i32)] = &[
    (&["status"], 0),
    (&["status", "--format", "json", "--verbose"], 0),
    (&["config"], 0),
    (&["kernel-upgrade-required"], 1),
    (&["version"], 0),
];

/// Commands that do something, and may take their time for it.
const ACTORS: &[&str] = &["enable", "disable", "prepare-image", "refresh", "revert", "apply"];

fn all_answer(what: &str, directory: &Path) {
    let here = |arguments: &[&str]| -> Vec<String> {
        let directory = directory.to_str().unwrap();
        arguments.iter().map(|argument| argument.replace("DIRECTORY", directory)).collect()
    };
    for (arguments, expected) in READERS {
        let what = format!("{what}: {arguments:?}");
        let arguments = here(arguments);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = in_time(&what, || livepatch(directory, &arguments, ""));
        let code = output.status.code().unwrap();
        assert!(expected.is_none_or(|expected| expected == code), "{what}: {code} {}", text(&output.stderr));
    }
    for (arguments, expected) in LEGACY_READERS {
        let what = format!("{what}: {arguments:?} of the other face");
        let output = in_time(&what, || canonical_livepatch(directory, arguments, ""));
        assert_eq!(output.status.code(), Some(*expected), "{what}: {}", text(&output.stderr));
    }
}

#[test]
fn a_daemon_and_a_loader_that_are_stopped() {
    let directory = tempfile::tempdir().unwrap();
    leave(directory.path(), &status());
    let daemon = Daemon::start(directory.path());
    assert_eq!(livepatch(directory.path(), &["trust"], "").status.code(), Some(0));
    daemon.signal(Signal::STOP);
    all_answer("SIGSTOP", directory.path());
}

/// When nobody accepts and the queues are full, connecting itself waits.
#[test]
fn full_queues() {
    let directory = tempfile::tempdir().unwrap();
    leave(directory.path(), &status());
    let _held: Vec<(UnixListener, UnixStream)> = ["livepatchd.sock", ROOT_SOCKET]
        .map(|name| {
            let path = directory.path().join(name);
            let listener = UnixListener::bind(&path).unwrap();
            rustix::net::listen(&listener, 0).unwrap();
            (listener, UnixStream::connect(&path).unwrap())
        })
        .into();
    all_answer("full queues", directory.path());
}

/// A loader that sends a byte now and then: no single wait is long.
#[test]
fn a_loader_that_drips() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join(ROOT_SOCKET)).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
                // A byte, and the read's time-out as the pause, until the client is gone.
                while stream.write_all(b" ").is_ok() {
                    let _ = std::io::Read::read(&mut stream, &mut [0; 64]);
                }
            });
        }
    });
    for arguments in [&["locks", "list"], &["trust", "--quiet"]] {
        let output = in_time("dripping", || livepatch(directory.path(), arguments, ""));
        let said = text(&output.stderr).replace(directory.path().to_str().unwrap(), "DIRECTORY");
        let expected = format!(
            "error: the loader cannot be reached on DIRECTORY/{ROOT_SOCKET}: no answer within 700 ms\n\n\
            hint: `systemctl status livepatch-loader` says whether it runs; a livepatch that is applied stays applied\n"
        );
        assert_eq!((output.status.code(), said), (Some(4), expected));
    }
}

/// A command that is new is in one of the lists.
#[test]
fn every_command_is_known_here() {
    let help = livepatch(Path::new("/"), &["help"], "");
    let (_, commands) = text(&help.stdout).split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    for command in commands.lines().filter_map(|line| line.split_whitespace().next()) {
        let reads = READERS.iter().any(|(arguments, _)| arguments[0] == command);
        assert!(reads || ACTORS.contains(&command) || command == "help", "{command}");
    }
}
