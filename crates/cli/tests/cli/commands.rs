use std::process::Command;

use livepatch_api::daemon::*;

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
    disabled.enabled = false;
    let disabled = serde_json::to_string(&disabled).unwrap();
    let failure = |code: &str| {
        let hints = vec!["do this".into()];
        serde_json::to_string(&Failure { code: code.into(), message: "it is so".into(), hints }).unwrap()
    };
    let cases = [
        ("livepatchd.sock", "status", "200 OK", disabled, 3),
        ("livepatchd-priv.sock", "refresh", "409 Conflict", failure("not-enabled"), 3),
        ("livepatchd-priv.sock", "revert", "500 Internal Server Error", failure("transition-stalled"), 1),
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
    This host is not enrolled any more, and no livepatch of it is applied.
    ---
    Nothing of this machine is remembered, and no livepatch of it is applied: shut it down and take the image.
    On each clone: `livepatch enable --token-file FILE`.
    ");
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
      wait                     Wait until this host is in a state, and show the status: exit code 0 if it is, 1 if not in time
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

    Exit codes: 0 done, 1 failed or no, 2 usage, 3 not enabled, 4 the daemon cannot be reached, 5 only root may do this, 6 nothing is known of it; `check` has its own.
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
      <FILE>  The file, or - for standard input

    Options:
          --dry-run                    Only say what would become of each setting
          --runtime-dir <RUNTIME_DIR>  Directory of the daemon's sockets [default: /run/livepatch]
          --config <CONFIG>            Configuration of the daemon [default: /etc/livepatch/livepatch.toml]
          --loader-dir <LOADER_DIR>    Directory of the loader's sockets [default: /run/livepatch-loader]
      -q, --quiet                      Print nothing but errors; the exit code tells
      -h, --help                       Print help
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
