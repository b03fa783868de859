use std::process::Command;

use livepatch_api::daemon::*;
use livepatch_loader_api::View;
use livepatch_types::*;
use serde_json::json;

use crate::support::*;

#[test]
fn a_mirror_that_answered_is_named() {
    let mut status = status();
    status.check.mirror = Some("https://mirror.example.org".into());
    let text = status_text(&status);
    insta::assert_snapshot!(text.lines().find(|line| line.starts_with("last check")).unwrap(), @"last check  succeeded 10 minutes ago, 2026-11-24 12:00:00 UTC, from the mirror https://mirror.example.org");
}

#[test]
fn a_verbose_status_says_what_the_settings_leave_open() {
    let shown = |status: &Status| {
        let directory = tempfile::tempdir().unwrap();
        let asked =
            answer(directory.path(), "livepatchd.sock", "200 OK", &serde_json::to_string(status).unwrap());
        let output = livepatch(directory.path(), &["status", "--verbose"], "");
        asked.join().unwrap();
        text(&output.stdout).strip_prefix(&status_text_now(status)).unwrap().trim_start().to_owned()
    };
    assert_eq!(shown(&status()), "");
    let mut held = status();
    held.patch.waiting = Some(waiting());
    insta::assert_snapshot!(shown(&held), @"
    left open by the settings of this host (after-cutoff):
    CVE-2026-0002       LSN-0114-1  released 2026-11-20 12:00:00 UTC
    CVE-2026-123457     LSN-0114-1  released 2026-11-20 12:00:00 UTC
    ");
    held.patch.waiting = Some(Waiting { open_cves: vec![], ..waiting() });
    insta::assert_snapshot!(shown(&held), @"
    left open by the settings of this host (after-cutoff):
    none: what is held back fixes nothing that is not fixed here
    ");
}

#[test]
fn status_is_printed_in_both_forms() {
    let json = serde_json::to_string(&status()).unwrap();
    for (arguments, expected) in [
        (&["status"][..], status_text_now(&status())),
        (&["status", "--format", "json"], serde_json::to_string_pretty(&status()).unwrap() + "\n"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let daemon = answer(directory.path(), "livepatchd.sock", "200 OK", &json);
        let output = livepatch(directory.path(), arguments, "");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), expected.as_str()));
        assert!(daemon.join().unwrap().starts_with("GET /status HTTP/1.1\r\n"));
    }
}

#[test]
fn exit_codes() {
    let mut disabled = status();
    (disabled.enabled, disabled.patch.state) = (false, PatchState::Unknown);
    let disabled = serde_json::to_string(&disabled).unwrap();
    let failure = |code: &str| {
        let hints = vec!["do this".into()];
        serde_json::to_string(&Failure { code: code.into(), message: "it is so".into(), hints }).unwrap()
    };
    let cases = [
        ("livepatchd.sock", "status", "200 OK", disabled, 3),
        ("livepatchd-priv.sock", "refresh", "409 Conflict", failure("not-enabled"), 3),
        ("livepatchd-priv.sock", "refresh", "500 Internal Server Error", failure("server-unreachable"), 1),
        ("livepatchd-priv.sock", "apply", "500 Internal Server Error", failure("transition-stalled"), 1),
        ("livepatchd-priv.sock", "apply", "403 Forbidden", failure("not-root"), 5),
        ("livepatchd-priv.sock", "disable", "200 OK", "not json".into(), 1),
    ];
    for (socket, command, line, body, expected) in cases {
        let directory = tempfile::tempdir().unwrap();
        let daemon = answer(directory.path(), socket, line, &body);
        let output = livepatch(directory.path(), &[command], "");
        assert_eq!(output.status.code(), Some(expected), "{command}");
        if body.contains("it is so") {
            assert_eq!(text(&output.stderr), "error: it is so\n\nhint: do this\n");
        }
        daemon.join().unwrap();
    }
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(livepatch(empty.path(), &["refresh"], "").status.code(), Some(4));
    assert_eq!(livepatch(empty.path(), &["enable"], "").status.code(), Some(2));
    assert_eq!(livepatch(empty.path(), &["enable", "a", "--token-file", "b"], "").status.code(), Some(2));
    assert_eq!(
        livepatch(empty.path(), &["enable", "--token-file", "/no/such/file"], "").status.code(),
        Some(2)
    );
    assert_eq!(livepatch(empty.path(), &["enable", "--token-file", "-"], " \n").status.code(), Some(2));
}

/// What changes the kernel is said to the loader first; what it refuses the agent does not even hear of.
#[test]
fn the_loader_comes_first() {
    let agent = |directory: &std::path::Path| {
        std::os::unix::net::UnixListener::bind(directory.join("livepatchd-priv.sock")).unwrap()
    };
    let refusal = |code: &str| {
        let (message, hints) = ("it is so".into(), vec!["do this".into()]);
        Some(Failure { code: code.into(), message, hints })
    };
    for (arguments, code, expected) in [
        (&["revert"][..], "transition-stalled", 1),
        (&["revert", "--all"], "transition-stalled", 1),
        (&["apply"], "not-permitted", 5),
        (&["disable"], "not-enabled", 3),
        (&["prepare-image"], "transition-stalled", 1),
        (&["enable", "a"], "trust-missing", 1),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let asked = agent(directory.path());
        asked.set_nonblocking(true).unwrap();
        // Without it.
        let output = livepatch(directory.path(), arguments, "");
        assert_eq!(output.status.code(), Some(4), "{arguments:?}");
        assert!(text(&output.stderr).starts_with("error: the loader cannot be reached on "));
        loader(directory.path(), refusal(code));
        let output = livepatch(directory.path(), arguments, "");
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}");
        assert_eq!(text(&output.stderr), "error: it is so\n\nhint: do this\n");
        assert_eq!(asked.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }
}

#[test]
fn a_token_comes_from_argument_file_or_input() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret-1\n").unwrap();
    let path = file.path().to_str().unwrap();
    for arguments in
        [&["enable", "secret-1"][..], &["enable", "--token-file", path], &["enable", "--token-file", "-"]]
    {
        let directory = tempfile::tempdir().unwrap();
        let body = serde_json::to_string(&status()).unwrap();
        let daemon = answer(directory.path(), "livepatchd-priv.sock", "200 OK", &body);
        let output = livepatch(directory.path(), arguments, "secret-1\n");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let asked = daemon.join().unwrap();
        assert!(
            asked.starts_with("POST /enable HTTP/1.1\r\n") && asked.ends_with("{\"token\":\"secret-1\"}"),
            "{asked}"
        );
        assert!(!text(&output.stdout).contains("secret-1"));
    }
}

#[test]
fn why_a_token_is_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let said = [&["enable", " "][..], &["enable", "--token-file", "/no/such/file"]].map(|arguments| {
        let output = livepatch(directory.path(), arguments, "");
        assert_eq!(output.status.code(), Some(2));
        text(&output.stderr).to_owned()
    });
    insta::assert_snapshot!(said.join("---\n"), @"
    error: cannot read the token: it is empty or holds other than printable characters

    hint: `livepatch enable --token-file FILE`, or `-` to read it from standard input
    ---
    error: cannot read the token: /no/such/file: No such file or directory (os error 2)

    hint: `livepatch enable --token-file FILE`, or `-` to read it from standard input
    ");
}

#[test]
fn what_is_said_when_a_host_left() {
    let body = serde_json::to_string(&status()).unwrap();
    let said = ["disable", "prepare-image"].map(|command| {
        let directory = tempfile::tempdir().unwrap();
        let daemon = answer(directory.path(), "livepatchd-priv.sock", "200 OK", &body);
        let output = livepatch(directory.path(), &[command], "");
        daemon.join().unwrap();
        assert_eq!(output.status.code(), Some(0));
        text(&output.stdout).to_owned()
    });
    insta::assert_snapshot!(said.join("---\n"), @"
    This host is not enrolled, and no livepatch of it is applied.
    ---
    Nothing of this machine is remembered, and no livepatch of it is applied: shut it down and take the image.
    On each clone: `livepatch enable --token-file FILE`.
    ");
}

/// The status of a host whose server could not be asked.
fn offline() -> Status {
    let mut status = status();
    status.check.state = CheckState::CheckFailed;
    status.problem = Some(server_unreachable());
    status
}

fn server_unreachable() -> Failure {
    let (code, message) = ("server-unreachable".into(), "the server cannot be reached".into());
    Failure { code, message, hints: vec!["look at the network".into()] }
}

const OFFLINE: &str = "note: the server cannot be reached (server-unreachable)\nhint: look at the network\n";

/// What was asked for is done: what is wrong besides does not make a failure of it.
#[test]
fn what_is_wrong_besides_is_a_note() {
    let body = serde_json::to_string(&offline()).unwrap();
    let shown = status_text_now(&Status { problem: None, ..offline() });
    for arguments in [&["revert"][..], &["apply"], &["refresh"], &["enable", "a"]] {
        let directory = tempfile::tempdir().unwrap();
        let daemon = answer(directory.path(), "livepatchd-priv.sock", "200 OK", &body);
        let output = livepatch(directory.path(), arguments, "");
        daemon.join().unwrap();
        assert_eq!(
            (output.status.code(), text(&output.stdout), text(&output.stderr)),
            (Some(0), shown.as_str(), OFFLINE),
            "{arguments:?}"
        );
    }
    let directory = tempfile::tempdir().unwrap();
    let daemon = answer(directory.path(), "livepatchd-priv.sock", "200 OK", &body);
    let output = livepatch(directory.path(), &["--quiet", "revert"], "");
    daemon.join().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), "", ""));
}

/// The loader reverts; the agent may say what it likes, or nothing.
#[test]
fn a_revert_is_done_when_the_loader_said_so() {
    let failure = serde_json::to_string(&server_unreachable()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let daemon = answer(directory.path(), "livepatchd-priv.sock", "500 Internal Server Error", &failure);
    let refused = livepatch(directory.path(), &["revert"], "");
    daemon.join().unwrap();
    let silent = tempfile::tempdir().unwrap();
    loader(silent.path(), None);
    let gone = livepatch(silent.path(), &["revert"], "");
    let said = [refused, gone].map(|output| {
        assert_eq!(output.status.code(), Some(0));
        format!("{}{}", text(&output.stdout), text(&output.stderr))
    });
    insta::assert_snapshot!(said.join("---\n").replace(silent.path().to_str().unwrap(), "DIRECTORY"), @"
    The livepatch is reverted, and held back until `livepatch apply` or another version.
    note: the server cannot be reached (server-unreachable)
    hint: look at the network
    ---
    The livepatch is reverted, and held back until `livepatch apply` or another version.
    note: the daemon cannot be reached on DIRECTORY/livepatchd-priv.sock: No such file or directory (os error 2)
    hint: `systemctl status livepatchd` says whether it runs; a livepatch that is applied stays applied
    ");
}

/// A view of a loader that believes a document in which this livepatch is offered.
fn offers(version: &str) -> View {
    let document = json!({
        "schema": 1, "kernel": status().kernel, "channel": "stable", "version": 7,
        "issued": "2026-11-24T00:00:00Z", "expires": "2026-12-01T00:00:00Z",
        "target": {
            "version": version, "module": { "sha256": "00".repeat(32), "size_bytes": 1 },
            "cves": [], "released": "2026-11-24T00:00:00Z",
        },
    });
    View { document: serde_json::from_value(document).unwrap(), ..View::default() }
}

/// Without a server `apply` can still bring back what is here.
#[test]
fn apply_without_a_server_is_done_when_what_is_offered_is_in_force() {
    let mut reverted = offline();
    reverted.patch.state = PatchState::Unapplied;
    for (offered, status, code) in [("113.1", offline(), 0), ("113.1", reverted, 1), ("114.1", offline(), 1)]
    {
        let directory = tempfile::tempdir().unwrap();
        loader_with(directory.path(), None, Some(offers(offered)));
        let failure = serde_json::to_string(&server_unreachable()).unwrap();
        let asked =
            answer_alone(directory.path(), "livepatchd-priv.sock", "500 Internal Server Error", &failure);
        let body = serde_json::to_string(&status).unwrap();
        let looked = answer_alone(directory.path(), "livepatchd.sock", "200 OK", &body);
        let output = livepatch(directory.path(), &["apply"], "");
        assert_eq!(output.status.code(), Some(code), "{offered}: {}", text(&output.stderr));
        if code == 0 {
            let shown = status_text_now(&Status { problem: None, ..status });
            assert_eq!((text(&output.stdout), text(&output.stderr)), (shown.as_str(), OFFLINE));
        } else {
            let said = "error: the server cannot be reached\n\nhint: look at the network\n";
            assert_eq!((text(&output.stdout), text(&output.stderr)), ("", said));
        }
        assert!(asked.join().unwrap().starts_with("POST /refresh "));
        assert!(looked.join().unwrap().starts_with("GET /status "));
    }
}

/// A host with the livepatch of a bundle was never enrolled: that is no reason to say that nothing was done.
#[test]
fn a_host_with_a_bundle_leaves() {
    let applied = json!({
        "target": {
            "version": "1.1", "module": { "sha256": "00".repeat(32), "size_bytes": 1 },
            "cves": [], "released": "2026-11-24T00:00:00Z",
        },
        "at": "2026-11-24T00:00:00Z",
    });
    let with_livepatch = View { applied: serde_json::from_value(applied).unwrap(), ..View::default() };
    let failure = Failure::new("not-enabled", "this host is not enrolled", "");
    let failure = serde_json::to_string(&failure).unwrap();
    for (view, code, stdout, stderr) in [
        (with_livepatch, 0, "This host is not enrolled, and no livepatch of it is applied.\n", ""),
        // It is of another kernel.
        (
            View { comes_back: true, ..View::default() },
            0,
            "This host is not enrolled, and no livepatch of it is applied.\n",
            "",
        ),
        (View::default(), 3, "", "error: this host is not enrolled\n"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        loader_with(directory.path(), None, Some(view));
        let daemon = answer_alone(directory.path(), "livepatchd-priv.sock", "409 Conflict", &failure);
        let output = livepatch(directory.path(), &["disable"], "");
        assert!(daemon.join().unwrap().starts_with("POST /disable "));
        assert_eq!(
            (output.status.code(), text(&output.stdout), text(&output.stderr)),
            (Some(code), stdout, stderr)
        );
    }
}

/// The hooks of kernel packages start this unit: an installed kernel must not leave one that failed, whatever the network does.
#[test]
fn the_unit_of_the_hooks_does_not_fail_without_network_daemon_or_enrolment() {
    let unit = include_str!("../../../../dist/livepatch/usr/lib/systemd/system/livepatch-refresh.service");
    let codes = unit.lines().find_map(|line| line.strip_prefix("SuccessExitStatus=")).unwrap();
    let codes: Vec<i32> = codes.split(' ').map(|code| code.parse().unwrap()).collect();
    assert!(unit.contains("\nExecStart=/usr/bin/livepatch refresh\n"));
    let not_enabled = Failure::new("not-enabled", "this host is not enrolled", "");
    let mut ended = vec![];
    for failure in [server_unreachable(), not_enabled] {
        let directory = tempfile::tempdir().unwrap();
        let failure = serde_json::to_string(&failure).unwrap();
        let daemon = answer(directory.path(), "livepatchd-priv.sock", "500 Internal Server Error", &failure);
        ended.push(livepatch(directory.path(), &["refresh"], "").status.code().unwrap());
        daemon.join().unwrap();
    }
    let empty = tempfile::tempdir().unwrap();
    ended.push(livepatch(empty.path(), &["refresh"], "").status.code().unwrap());
    assert_eq!((&ended, ended.iter().all(|code| codes.contains(code))), (&vec![1, 3, 4], true), "{codes:?}");
}

/// Where no thread can be made: the standard library takes the size of its stack from there, and so much is never free.
#[test]
fn a_machine_without_room_for_a_thread() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_livepatch"))
            .env("RUST_MIN_STACK", (1_u64 << 47).to_string())
            .args([&["--runtime-dir", ".", "--loader-dir", ".", "--system-root", "."], arguments].concat())
            .current_dir(directory.path())
            .output()
            .unwrap();
        (output.status.code(), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    let (code, _, said) = run(&["revert"]);
    assert_eq!(code, Some(4));
    assert!(
        said.starts_with(
            "error: the loader cannot be reached on ./root.sock: no thread can be made to ask it: "
        ),
        "{said}"
    );
    let (code, _, said) = run(&["status"]);
    assert_eq!(code, Some(4));
    assert!(said.contains("livepatchd.sock: no thread can be made to ask it: "), "{said}");
    std::fs::write(directory.path().join("status.json"), serde_json::to_string(&status()).unwrap()).unwrap();
    let (code, shown, said) = run(&["status"]);
    assert_eq!((code, said.as_str()), (Some(4), ""));
    assert!(shown.contains("livepatch   113.1 applied since "), "{shown}");
    // Here no journal is asked.
    let (code, shown, _) = run(&["bug-report", "--config", "none"]);
    assert_eq!(code, Some(0));
    assert!(shown.contains("== log ==\njournalctl: "), "{shown}");
}

/// What is longer than a token is none, not the beginning of one.
#[test]
fn a_token_that_is_too_long() {
    let directory = tempfile::tempdir().unwrap();
    let asked = |bytes: usize| {
        let output = livepatch(directory.path(), &["enable", "--token-file", "-"], &"a".repeat(bytes));
        (output.status.code(), text(&output.stderr).lines().next().unwrap().to_owned())
    };
    // No loader is there: the token was taken.
    assert_eq!(asked(4096).0, Some(4));
    assert_eq!(asked(4097), (Some(2), "error: cannot read the token: it has more than 4096 bytes".into()));
}

#[test]
fn times_have_a_unit() {
    let directory = tempfile::tempdir().unwrap();
    let output = livepatch(directory.path(), &["wait", "--timeout", "5"], "");
    assert_eq!(output.status.code(), Some(2));
    insta::assert_snapshot!(text(&output.stderr), @"
    error: invalid value '5' for '--timeout <TIME>': it is not a number with s, m, h or d

    For more information, try '--help'.
    ");
}

#[test]
fn help() {
    let help = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_livepatch")).args(arguments).output().unwrap();
        text(&output.stdout).to_owned()
    };
    insta::assert_snapshot!(help(&["--help"]), @r"
    Livepatches for the running kernel

    Usage: livepatch [OPTIONS] <COMMAND>

    Commands:
      enable                   Enrol this host and apply what its server offers
      disable                  Revert the livepatch, unload it and leave the fleet; asks nothing
      prepare-image            Revert the livepatch and forget all that is of this machine, before its disk becomes an image; clones enrol by themselves
      status                   Show the state of this host; answers within a second
      explain                  Say why this host has the livepatch that it has, and what the next one waits for
      cves                     Say which CVEs are fixed in the running kernel: exit code 0 all, 1 not all, 6 nothing is known of one
      wait                     Wait until this host is in a state, and show the status: exit code 0 if it is, 1 if not in time, 7 at once if somebody must act first
      hold                     Hold back livepatches with a fix for a CVE or from a notice on, by the daemon's configuration; none: show what is held
      unhold                   Hold them back no longer
      config                   The settings of this host: those of the original client are imported once
      refresh                  Ask the server now, and wait until what it offers is applied
      revert                   Disable and unload the livepatch; it is held back until `apply` or another version
      apply                    Apply what is offered: at once, and even if it was reverted here or a host went down with it
      inspect                  Show all that a bundle holds: kernel, build-ids, CVEs, sources, report, proof, sizes, licence; verifies no signature
      locks                    What keeps livepatches from this kernel: held back, blocked after a crash, stalled
      kernel-upgrade-required  Say whether a newer kernel must be booted to be safe: exit code 0 if so, 1 if not
      reboot-required          Write /run/reboot-required if a newer kernel must be booted, and take our own away if not: exit code 0 if so, 1 if not
      check                    Say in one line how this host is, for monitoring: exit code 0 ok, 1 warning, 2 critical, 3 unknown
      metrics                  Print the status as metrics in the text format of Prometheus
      motd                     Say what needs a look, for the message at login; asks nobody, and says nothing when all is well
      doctor                   Say what keeps this host from being covered and what to do: exit code 0 nothing, 1 something; changes nothing
      bug-report               Show what those who help need to know of this host, with names, addresses and secrets taken out
      secure-boot              Whose modules this machine's kernel takes, and how it comes to take livepatches under Secure Boot
      trust                    Show which vendor's repository and operator's root this host is held to, what was seen, what is allowed here; for root
      completions              Print what makes a shell complete these commands; the package has it for bash, zsh and fish
      help                     Print this message or the help of the given subcommand(s)

    Options:
          --runtime-dir <RUNTIME_DIR>  Directory of the daemon's sockets [default: /run/livepatch]
          --loader-dir <LOADER_DIR>    Directory of the loader's sockets [default: /run/livepatch-loader]
      -q, --quiet                      Print nothing but errors; the exit code tells
      -h, --help                       Print help
      -V, --version                    Print version

    Exit codes: 0 done, 1 failed or no, 2 usage, 3 not enabled, 4 the daemon cannot be reached, 5 only root may do this, 6 nothing is known of it, 7 it does not come by itself; `check` has its own.
    ");
    insta::assert_snapshot!(help(&["enable", "--help"]), @r"
    Enrol this host and apply what its server offers

    Usage: livepatch enable [OPTIONS] <TOKEN|--token-file <FILE>>

    Arguments:
      [TOKEN]  The token. Others can see it in the process list and it stays in the shell's history: prefer --token-file

    Options:
          --runtime-dir <RUNTIME_DIR>  Directory of the daemon's sockets [default: /run/livepatch]
          --token-file <FILE>          File with the token, or - for standard input
          --loader-dir <LOADER_DIR>    Directory of the loader's sockets [default: /run/livepatch-loader]
      -q, --quiet                      Print nothing but errors; the exit code tells
      -h, --help                       Print help
    ");
    insta::assert_snapshot!(help(&["config", "import", "--help"]), @r"
    Take over what `canonical-livepatch config` of the original printed: all of it, or nothing and why

    Usage: livepatch config import [OPTIONS] <FILE>

    Arguments:
      <FILE>
              The file, or - for standard input

    Options:
          --dry-run
              Only say what would become of each setting

          --runtime-dir <RUNTIME_DIR>
              Directory of the daemon's sockets
              
              [default: /run/livepatch]

          --config <CONFIG>
              Configuration of the daemon
              
              [default: /etc/livepatch/livepatch.toml]

          --loader-dir <LOADER_DIR>
              Directory of the loader's sockets
              
              [default: /run/livepatch-loader]

          --format <FORMAT>
              For people or for programs

              Possible values:
              - text: A table
              - json: A versioned schema
              
              [default: text]

      -q, --quiet
              Print nothing but errors; the exit code tells

      -h, --help
              Print help (see a summary with '-h')
    ");
}

#[test]
fn completions_of_every_shell() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = livepatch(directory.path(), &["completions", shell], "");
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("kernel-upgrade-required"), "{shell}");
    }
    assert_eq!(livepatch(directory.path(), &["completions", "csh"], "").status.code(), Some(2));
}
