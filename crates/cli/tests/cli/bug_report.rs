//! The report of this machine, with a journal of the test's making.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::*;

const LOG: &str =
    "2026-11-24T12:00:00+0000 livepatchd[7]: the server 192.0.2.7 (https://patches.lan:8443/v1) refuses
2026-11-24T12:00:01+0000 livepatchd[7]: link 52:54:00:12:34:56, fe80::7, carol@example.org, token=abc123
2026-11-24T12:00:01+0000 livepatchd[7]: dns error: failed to lookup patches.lan and gone.example, past db.inner.corp and intranet
2026-11-24T12:00:02+0000 livepatchd[7]: livepatch_113_1 is applied to 6.1.0-50-cloud-amd64
";

const SETTINGS: &str = "server = \"https://patches.lan\"
check-interval = \"90m\"
no-proxy = \".inner.corp,intranet\"
https-proxy = \"http://u:pa)s!t@gate.corp:3128\"
";

fn report(directory: &Path, journalctl: &str, arguments: &[&str]) -> Output {
    answered(directory, journalctl, arguments, "")
}

/// The same with an answer to what is asked.
fn answered(directory: &Path, journalctl: &str, arguments: &[&str], answer: &str) -> Output {
    let program = directory.join("journalctl");
    std::fs::write(&program, journalctl).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(directory.join("log"), LOG).unwrap();
    let config = directory.join("livepatch.toml");
    std::fs::write(&config, SETTINGS).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_livepatch"))
        .arg("--runtime-dir")
        .arg(directory)
        .arg("--system-root")
        .arg(directory)
        .arg("bug-report")
        .arg("--config")
        .arg(config)
        .args(arguments)
        .env("PATH", directory)
        .env("SUDO_USER", "carol")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended already, without having read.
    let _ = child.stdin.take().unwrap().write_all(answer.as_bytes());
    child.wait_with_output().unwrap()
}

fn journal(directory: &Path) -> String {
    format!("#!/bin/sh\nwhile read -r line; do echo \"$line\"; done < {}/log\n", directory.display())
}

#[test]
fn it_is_shown_then_written_and_has_nothing_private() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("status.json"), serde_json::to_string(&status()).unwrap()).unwrap();
    let file = directory.path().join("report");
    let arguments = ["--output", file.to_str().unwrap()];
    // Shown, and not written before somebody says yes.
    for answer in ["", "n\n", "\n"] {
        let output = answered(directory.path(), &journal(directory.path()), &arguments, answer);
        assert_eq!((output.status.code(), file.exists()), (Some(1), false), "{answer:?}");
        assert!(text(&output.stdout).contains("== log =="));
        assert!(text(&output.stderr).contains("error: nothing is written: nobody said yes\n"));
    }
    let quiet = [&arguments[..], &["--quiet"]].concat();
    let output = answered(directory.path(), &journal(directory.path()), &quiet, "y\n");
    assert_eq!((output.status.code(), file.exists()), (Some(1), false), "what was not shown");
    let confirmed = || answered(directory.path(), &journal(directory.path()), &arguments, "y\n");
    let mut output = confirmed();
    for _ in 0..5 {
        // A busy machine: the journal was not there in time.
        if !text(&output.stdout).contains("journalctl: no answer within ") {
            break;
        }
        std::fs::remove_file(&file).unwrap();
        output = confirmed();
    }
    assert_eq!(output.status.code(), Some(0));
    let asked = text(&output.stderr).replace(file.to_str().unwrap(), "FILE");
    insta::assert_snapshot!(asked, @"Write this to FILE? [y/N]");
    let shown = text(&output.stdout);
    let ours = shown.lines().enumerate().filter(|(at, line)| *at < 2 || line.starts_with("== "));
    let ours: Vec<&str> = ours.map(|(_, line)| line).collect();
    insta::assert_snapshot!(ours.join("\n").replace(env!("CARGO_PKG_VERSION"), "VERSION"), @"
    livepatch bug report, version VERSION
    Secrets, names of machines and people, and addresses are taken out. Read it before you send it.
    == status ==
    == kernel ==
    == livepatches ==
    == os-release ==
    == configuration ==
    == keys ==
    == lockdown ==
    == log ==
    ");
    for stays in [
        "\"version\": \"113.1\"",
        "abababababababababababababababababababab",
        "check-interval = \"90m\"",
        "server = \"https://[host]\"",
        "livepatchd[7]: the server [ip] (https://[host]/v1) refuses",
        "dns error: failed to lookup [host] and [host], past [host] and [host]",
        "no-proxy = \"[host],[host]\"",
        "https-proxy = \"[secret]\"",
        "link [mac], [ip], [email], token=[secret]",
        "livepatch_113_1 is applied to 6.1.0-50-cloud-amd64",
    ] {
        assert!(shown.contains(stays), "{stays}: {shown}");
    }
    for goes in [
        "patches.lan",
        "gone.example",
        "inner.corp",
        "intranet",
        "s!t",
        "gate.corp",
        "192.0.2.7",
        "carol",
        "abc123",
        "livepatch.example.org",
    ] {
        assert!(!shown.contains(goes), "{goes}: {shown}");
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut words = shown.split(|c: char| !c.is_alphanumeric() && c != '_');
    assert!(host.trim() == "localhost" || words.all(|word| word != host.trim()), "{host}: {shown}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), shown);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // What is there stays, and scripts say yes beforehand.
    let arguments = ["--yes", "--output", file.to_str().unwrap()];
    let output = report(directory.path(), &journal(directory.path()), &arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: cannot write "), "{}", text(&output.stderr));
    std::fs::remove_file(&file).unwrap();
    let output = report(directory.path(), &journal(directory.path()), &arguments);
    assert_eq!((output.status.code(), text(&output.stderr), file.exists()), (Some(0), "", true));
}

/// A file that cannot be written whole is not there, so that nothing is in the way of the next try.
#[test]
fn a_full_disk_leaves_no_half_report() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report");
    // One block of 512 bytes; whoever wants more gets an error instead of a signal.
    let limited = |limit: &str| {
        Command::new("/bin/sh")
            .args(["-c", &format!("trap '' XFSZ; {limit}exec \"$@\""), "sh", env!("CARGO_BIN_EXE_livepatch")])
            .args(["bug-report", "--yes", "--output", file.to_str().unwrap(), "--config", "/none"])
            .arg("--runtime-dir")
            .arg(directory.path())
            .env("PATH", directory.path())
            .output()
            .unwrap()
    };
    let output = limited("ulimit -f 1; ");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: cannot write "), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let output = limited("");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text(&output.stdout));
}

#[test]
fn without_a_daemon_and_a_journal_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let output = report(directory.path(), "", &[]);
    std::fs::remove_file(directory.path().join("journalctl")).unwrap();
    assert_eq!(output.status.code(), Some(0));
    let output = Command::new(env!("CARGO_BIN_EXE_livepatch"))
        .arg("--runtime-dir")
        .arg(directory.path())
        .arg("--system-root")
        .arg(directory.path())
        .arg("bug-report")
        .env("PATH", directory.path())
        .output()
        .unwrap();
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(shown.contains("== status ==\nerror: the daemon cannot be reached on "), "{shown}");
    assert!(shown.contains("== log ==\njournalctl: "), "{shown}");
}

/// More than the cap, from a program that does not end by itself.
#[test]
fn a_journal_without_end_is_cut() {
    let directory = tempfile::tempdir().unwrap();
    // In lines of 16 kB, so that the cap is reached long before the time is over in which the journal is waited for.
    let endless = format!("#!/bin/sh\nwhile :; do echo '{}'; done\n", "0123456789 ".repeat(1500));
    let output = report(directory.path(), &endless, &[]);
    assert_eq!(output.status.code(), Some(0));
    assert!((1 << 20..2 << 20).contains(&output.stdout.len()), "{}", output.stdout.len());
}

/// A journal on a slow disk holds nobody up.
#[test]
fn a_journal_that_does_not_answer_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let silent = "#!/bin/sh\nexec /bin/sleep 60\n";
    let output = crate::never_hangs::in_time("silent", || report(directory.path(), silent, &[]));
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("== log ==\njournalctl: no answer within 800 ms"));
}
