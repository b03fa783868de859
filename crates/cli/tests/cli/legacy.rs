//! The program under its other name.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::Output;

use livepatch_api::daemon::*;
use livepatch_types::PatchState;
use serde_json::Value;

use crate::support::*;

fn failure(code: &str) -> String {
    let failure = Failure { code: code.into(), message: "it is so".into(), hints: vec!["do this".into()] };
    serde_json::to_string(&failure).unwrap()
}

/// Runs with a daemon that answers the status.
fn with_status(status: &Status, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let daemon =
        answer(directory.path(), "livepatchd.sock", "200 OK", &serde_json::to_string(status).unwrap());
    let output = canonical_livepatch(directory.path(), arguments, "");
    daemon.join().unwrap();
    output
}

#[test]
fn status_off_a_terminal_is_yaml() {
    for arguments in
        [&["status"][..], &["status", "--summary"], &["status", "--format", "yaml", "--show-secrets"]]
    {
        let output = with_status(&status(), arguments);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
        let yaml = text(&output.stdout);
        assert!(yaml.starts_with("client-version: 0.1.0\nmachine-id: "), "{yaml}");
        assert!(yaml.contains("\nlast-check: 2026-11-24T12:00:00Z\n"), "{yaml}");
        assert!(yaml.contains("    version: \"113.1\"\n    fixes: |-\n      * CVE-2026-0001\n"), "{yaml}");
    }
}

#[test]
fn status_in_json_and_for_people() {
    let output = with_status(&status(), &["status", "--verbose", "--format", "json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["Status"][0]["Livepatch"]["State"], "applied");
    let uptime = json["Uptime"].as_str().unwrap();
    assert!(uptime.parse::<u64>().unwrap() > 0, "this machine is up: {uptime}");
    assert!(!json["CPU-Model"].as_str().unwrap().is_empty());

    let output = with_status(&status(), &["status", "--format", "humane"]);
    let humane = text(&output.stdout);
    assert!(humane.starts_with("last check: ") && humane.contains("\npatch version: 113.1\n"), "{humane}");
    assert!(humane.lines().all(|line| line.contains(": ")), "{humane}");
    assert!(!humane.contains("\nfixed: "), "{humane}");
    let output = with_status(&status(), &["status", "--format", "humane", "--verbose"]);
    assert!(text(&output.stdout).contains("\nfixed: CVE-2026-0001 net: a use after free\n"));
}

#[test]
fn a_machine_that_is_not_enabled() {
    let mut status = status();
    status.enabled = false;
    for arguments in [&["status"][..], &["status", "--verbose", "--format", "json"]] {
        let output = with_status(&status, arguments);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
        assert!(text(&output.stderr).contains("Machine is not enabled"), "{}", text(&output.stderr));
    }
    assert_eq!(with_status(&status, &["kernel-upgrade-required"]).status.code(), Some(1));
}

#[test]
fn kernel_upgrade_required_by_exit_code() {
    let mut status = status();
    let output = with_status(&status, &["kernel-upgrade-required"]);
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(1), "", ""));
    status.patch.state = PatchState::KernelUpgradeRequired;
    let output = with_status(&status, &["kernel-upgrade-required"]);
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), "", ""));
}

#[test]
fn commands_their_messages_and_exit_codes() {
    let healthy = serde_json::to_string(&status()).unwrap();
    let cases = [
        (&["enable", "secret-1"][..], "200 OK", healthy.clone(), 0, "Successfully enabled device.\n", ""),
        (&["disable"], "200 OK", healthy.clone(), 0, "Successfully disabled device.\n", ""),
        (
            &["enable", "secret-1"],
            "500 Internal Server Error",
            failure("unknown-token"),
            1,
            "",
            "Unknown Auth-Token",
        ),
        (
            &["enable", "secret-1"],
            "409 Conflict",
            failure("already-enabled"),
            1,
            "",
            "Machine-token already exists! Please use 'disable' to delete existing machine-token.",
        ),
        (&["disable"], "409 Conflict", failure("not-enabled"), 1, "", "Machine is not enabled"),
        (&["refresh"], "409 Conflict", failure("not-enabled"), 1, "", "Machine is not enabled"),
        (&["refresh"], "403 Forbidden", failure("not-root"), 1, "", "error: it is so"),
    ];
    let mut said = String::new();
    for (arguments, line, body, code, stdout, stderr) in cases {
        let directory = tempfile::tempdir().unwrap();
        let daemon = answer(directory.path(), "livepatchd-priv.sock", line, &body);
        let output = canonical_livepatch(directory.path(), arguments, "");
        let asked = daemon.join().unwrap();
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(code), stdout),
            "{arguments:?} {body}"
        );
        assert!(text(&output.stderr).starts_with(stderr), "{}", text(&output.stderr));
        assert!(!text(&output.stdout).contains("secret-1") && !text(&output.stderr).contains("secret-1"));
        assert!(asked.starts_with(&format!("POST /{} HTTP/1.1\r\n", arguments[0])), "{asked}");
        said += &format!("$ {}\n{}{}", arguments.join(" "), text(&output.stdout), text(&output.stderr));
    }
    insta::assert_snapshot!(said, @"
    $ enable secret-1
    Successfully enabled device.
    $ disable
    Successfully disabled device.
    $ enable secret-1
    Unknown Auth-Token

    hint: do this
    $ enable secret-1
    Machine-token already exists! Please use 'disable' to delete existing machine-token.
    $ disable
    Machine is not enabled. Please run 'sudo canonical-livepatch enable' with a token of your server.
    $ refresh
    Machine is not enabled. Please run 'sudo canonical-livepatch enable' with a token of your server.
    $ refresh
    error: it is so

    hint: do this
    ");
    let directory = tempfile::tempdir().unwrap();
    let daemon = answer(directory.path(), "livepatchd-priv.sock", "200 OK", &healthy);
    let output = canonical_livepatch(directory.path(), &["refresh"], "");
    daemon.join().unwrap();
    assert!(text(&output.stdout).starts_with("client-version: "), "{}", text(&output.stdout));
}

#[test]
fn what_the_daemon_left_when_it_does_not_answer() {
    let directory = tempfile::tempdir().unwrap();
    let output = canonical_livepatch(directory.path(), &["status"], "");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    assert!(text(&output.stderr).starts_with("error: the daemon cannot be reached on "));

    std::fs::write(directory.path().join("status.json"), serde_json::to_string(&status()).unwrap()).unwrap();
    let _silent = UnixListener::bind(directory.path().join("livepatchd.sock")).unwrap();
    let output = canonical_livepatch(directory.path(), &["status", "--format", "json"], "");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).starts_with("the daemon does not answer; this is what it knew on "));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["Status"][0]["Livepatch"]["CheckState"], "check-failed");
    assert_eq!(json["Status"][0]["Livepatch"]["State"], "applied");
}

#[test]
fn settings() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("livepatch.toml");
    std::fs::write(&file, "# ours\nserver = \"https://a.example\"\n").unwrap();
    let shown = |arguments: &[&str], input: &str| {
        let output = canonical_livepatch(directory.path(), arguments, input);
        (output.status.code(), text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    let (code, all, _) = shown(&["config"], "");
    assert_eq!((code, all.lines().count()), (Some(0), 11));
    assert!(all.contains("remote-server: https://a.example\n"), "{all}");
    let (code, json, _) = shown(&["config", "remote-server", "--format", "json"], "");
    assert_eq!((code, json.as_str()), (Some(0), "{\"remote-server\":\"https://a.example\"}\n"));

    let (code, out, err) =
        shown(&["config", "remote-server=@stdin", "check-interval=120"], "https://b.example\n");
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert!(err.contains("systemctl restart livepatchd"), "{err}");
    let written = "# ours\nserver = \"https://b.example\"\ncheck-interval = \"120m\"\n";
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written);

    // All or nothing.
    let (code, _, err) =
        shown(&["config", "remote-server=https://c.example", "tls-patch-download=false"], "");
    assert_eq!(code, Some(1));
    assert!(err.starts_with("error: tls-patch-download: this client does not have it\n"), "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), written);
    assert_eq!(shown(&["config", "http-proxy="], ""), (Some(0), String::new(), String::new()));
    assert_eq!(shown(&["config", "remote-server", "http-proxy="], "").0, Some(1));
}

/// What the daemons' own reader refuses is not written: they would end, and the next boot would be unpatched.
#[test]
fn what_the_daemons_refuse_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("livepatch.toml");
    let config = |settings: &[&str]| {
        let output = canonical_livepatch(directory.path(), &[&["config"], settings].concat(), "");
        (output.status.code(), text(&output.stderr).lines().next().unwrap_or_default().to_owned())
    };
    let before = "server = \"https://a\"\n";
    std::fs::write(&file, before).unwrap();
    for (settings, said) in [
        (
            &["dial-timeout=99999h", "remote-server=https:///x"][..],
            "error: dial-timeout: it is not a number with s, m, h, d or w, or longer than a year",
        ),
        (
            &["remote-server=https:///x"],
            "error: remote-server: it is not an https URL; plain http is not spoken",
        ),
        (
            &["cutoff-date=2999-01-01T00:00:00Z"],
            "error: cutoff-date: it is still to come: a cutoff date is in the past",
        ),
        (&["log-level=loud"], "error: log-level: it is neither debug, info, notice, warning nor error"),
        (
            &["ca-certs=x", "log-level=debug"],
            "error: ca-certs: not a usable certificate: there is no PEM certificate in the file",
        ),
        (&["ca-certs=@stdin", "no-proxy=@stdin"], "error: ca-certs: standard input is read once"),
    ] {
        assert_eq!(config(settings), (Some(1), said.to_owned()), "{settings:?}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "the file and the program");

    // One that is wrong already stays as it is, unless it is mended.
    let wrong = "transition-timeout = \"0s\"\ndial-timeout = \"99999h\"\n";
    std::fs::write(&file, wrong).unwrap();
    let (code, said) = config(&["dial-timeout=5s"]);
    assert_eq!(code, Some(1));
    assert!(said.ends_with("transition-timeout = \"0s\": it must be a second or more"), "{said}");
    let held =
        livepatch(directory.path(), &["hold", "CVE-2026-1001", "--config", file.to_str().unwrap()], "");
    assert_eq!(held.status.code(), Some(1), "{}", text(&held.stderr));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), wrong);
    std::fs::write(&file, "dial-timeout = \"99999h\"\n").unwrap();
    assert_eq!(config(&["dial-timeout=5s"]).0, Some(0));
}

/// What does not fit is refused, and not cut.
#[test]
fn a_value_that_is_too_long() {
    let directory = tempfile::tempdir().unwrap();
    let long = "a,".repeat(1 << 19) + "b";
    let output = canonical_livepatch(directory.path(), &["config", "no-proxy=@stdin"], &long);
    assert_eq!(output.status.code(), Some(1));
    let said = "error: no-proxy: it has more than 1048576 bytes\n";
    assert!(text(&output.stderr).starts_with(said), "{}", text(&output.stderr));
    assert!(!directory.path().join("livepatch.toml").exists());
}

/// As ubuntu-pro-client does for a server of its own, with the value and with standard input.
#[test]
fn certificates_go_into_a_file_of_their_own() {
    let pem = include_str!("ca.pem");
    for (setting, input) in [(format!("ca-certs={pem}"), ""), ("ca-certs=@stdin".into(), pem)] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca-certs.pem");
        let output = canonical_livepatch(directory.path(), &["config", &setting], input);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), pem.trim());
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
        let written = std::fs::read_to_string(directory.path().join("livepatch.toml")).unwrap();
        assert_eq!(written, format!("ca-file = \"{}\"\n", file.display()));
        let output = canonical_livepatch(directory.path(), &["config", "ca-certs", "--format", "json"], "");
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(shown["ca-certs"].as_str().unwrap().trim(), pem.trim());
        let output = canonical_livepatch(directory.path(), &["config", "ca-certs="], "");
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(std::fs::read_to_string(directory.path().join("livepatch.toml")).unwrap(), "");
    }
}

#[test]
fn what_is_said_of_settings() {
    let directory = tempfile::tempdir().unwrap();
    let said: String = [
        &["check-interval=120"][..],
        &["nonsense"],
        &["remote-server", "http-proxy="],
        &["tls-patch-download=false"],
        &["ca-certs=x"],
        &["remote-server=http://a"],
        &["http-proxy=a:1"],
        &["dial-timeout=0s"],
        &["patch-delay=1y"],
        &["cutoff-date=2026-01-01"],
        &["check-interval=59"],
        &["cutoff-date=2999-01-01T00:00:00Z"],
        &["ca-certs=@stdin", "no-proxy=@stdin"],
    ]
    .into_iter()
    .map(|settings| {
        let output = canonical_livepatch(directory.path(), &[&["config"], settings].concat(), "");
        format!("$ config {}\n{}", settings.join(" "), text(&output.stderr))
    })
    .collect();
    insta::assert_snapshot!(said, @"
    $ config check-interval=120
    hint: `systemctl restart livepatchd` makes the daemon read its configuration
    $ config nonsense
    error: nonsense: there is no such key; there are http-proxy, https-proxy, no-proxy, remote-server, ca-certs, dial-timeout, check-interval, log-level, tls-patch-download, cutoff-date, patch-delay

    hint: `canonical-livepatch config` shows every key with its value
    $ config remote-server http-proxy=
    error: remote-server: it has no value beside others that have one

    hint: `canonical-livepatch config` shows every key with its value
    $ config tls-patch-download=false
    error: tls-patch-download: this client does not have it

    hint: `canonical-livepatch config` shows every key with its value
    $ config ca-certs=x
    error: ca-certs: not a usable certificate: there is no PEM certificate in the file

    hint: `canonical-livepatch config` shows every key with its value
    $ config remote-server=http://a
    error: remote-server: it is not an https URL; plain http is not spoken

    hint: `canonical-livepatch config` shows every key with its value
    $ config http-proxy=a:1
    error: http-proxy: it is not a URL that begins with http://, https://, socks5:// or socks5h://

    hint: `canonical-livepatch config` shows every key with its value
    $ config dial-timeout=0s
    error: dial-timeout: it is not a time of a second or more, such as 12s, 5m or 1h

    hint: `canonical-livepatch config` shows every key with its value
    $ config patch-delay=1y
    error: patch-delay: it is neither 0 nor a time such as 30m, 12h, 3d or 2w, at most a year

    hint: `canonical-livepatch config` shows every key with its value
    $ config cutoff-date=2026-01-01
    error: cutoff-date: it is not a time in RFC 3339, such as 2026-01-31T00:00:00Z

    hint: `canonical-livepatch config` shows every key with its value
    $ config check-interval=59
    error: check-interval: it is neither 0 nor a number of minutes from 60 to a year

    hint: `canonical-livepatch config` shows every key with its value
    $ config cutoff-date=2999-01-01T00:00:00Z
    error: cutoff-date: it is still to come: a cutoff date is in the past

    hint: `canonical-livepatch config` shows every key with its value
    $ config ca-certs=@stdin no-proxy=@stdin
    error: ca-certs: standard input is read once

    hint: `canonical-livepatch config` shows every key with its value
    ");
}

#[test]
fn help_and_version() {
    let directory = tempfile::tempdir().unwrap();
    let output = canonical_livepatch(directory.path(), &["--version"], "");
    assert_eq!(text(&output.stdout), concat!("canonical-livepatch ", env!("CARGO_PKG_VERSION"), "\n"));
    let output = canonical_livepatch(directory.path(), &["version"], "");
    assert_eq!(text(&output.stdout), concat!(env!("CARGO_PKG_VERSION"), "\n"));
    let output = canonical_livepatch(directory.path(), &["help"], "");
    insta::assert_snapshot!(text(&output.stdout), @r"
    Livepatches for the running kernel, for programs that know the snap of this name

    Usage: canonical-livepatch <COMMAND>

    Commands:
      enable                   Enrol this host with a token
      disable                  Take the livepatch out and leave the fleet
      status                   Show the state of this host; answers within a second
      refresh                  Ask the server now, and wait until what it offers is applied
      config                   Show settings, or change them with KEY=VALUE
      kernel-upgrade-required  Whether this kernel gets no livepatches any more: exit code 0 if so, otherwise 1
      version                  Print the version
      help                     Print this message or the help of the given subcommand(s)

    Options:
      -h, --help     Print help
      -V, --version  Print version

    Exit codes: 0 done, 1 failed or not enabled, 2 usage. The same client with more commands is livepatch(1).
    ");
}

/// What systemd starts for a connection to root's socket of the snap: the loader is told first, then the agent.
#[test]
fn requests_on_roots_socket_are_answered_as_the_commands_are() {
    if !rustix::process::getuid().is_root() {
        println!("SKIPPED: only root may ask");
        return;
    }
    let put = |directory: &std::path::Path, request: &str| {
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.write_all(request.as_bytes()).unwrap();
        let output = on_a_socket(directory, theirs);
        let mut answer = String::new();
        ours.read_to_string(&mut answer).unwrap();
        (output, answer)
    };
    for (line, body, request, expected) in [
        (
            "200 OK",
            serde_json::to_string(&status()).unwrap(),
            "PUT /enable?auth-token=a%2Dtoken",
            "HTTP/1.1 200 OK",
        ),
        ("200 OK", serde_json::to_string(&status()).unwrap(), "PUT /disable", "HTTP/1.1 200 OK"),
        ("409 Conflict", failure("not-enabled"), "PUT /disable", "HTTP/1.1 409 Conflict"),
        (
            "409 Conflict",
            failure("already-enabled"),
            "PUT /enable?auth-token=a-token",
            "HTTP/1.1 409 Conflict",
        ),
        (
            "500 Internal Server Error",
            failure("unknown-token"),
            "PUT /enable?auth-token=a-token",
            "HTTP/1.1 500 Internal Server Error",
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let daemon = answer(directory.path(), "livepatchd-priv.sock", line, &body);
        let (output, answer) =
            put(directory.path(), &format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"));
        let asked = daemon.join().unwrap();
        assert!(asked.starts_with("POST /"), "{asked}");
        assert_eq!(asked.contains("{\"token\":\"a-token\"}"), request.contains("enable?"), "{asked}");
        assert!(answer.starts_with(&format!("{expected}\r\n")), "{answer}");
        let (_, text) = answer.split_once("\r\n\r\n").unwrap();
        let is_done = expected.ends_with("OK");
        assert_eq!((text.is_empty(), output.status.code()), (is_done, Some(i32::from(!is_done))), "{answer}");
        assert!(
            is_done
                || ["Machine is not enabled", "Machine-token already exists!", "Unknown Auth-Token"]
                    .iter()
                    .any(|words| text.starts_with(words)),
            "{text}"
        );
    }

    // Neither is asked for what is no request, and what is no connection has no peer.
    let directory = tempfile::tempdir().unwrap();
    let (_, answer) = put(directory.path(), "GET /status HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    let output = canonical_livepatch(directory.path(), &["answer-socket"], "PUT /disable HTTP/1.1\r\n\r\n");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
    assert!(text(&output.stderr).starts_with("error: standard input is no connection: "));
}

fn on_a_socket(directory: &std::path::Path, stream: std::os::unix::net::UnixStream) -> Output {
    let program = directory.join("canonical-livepatch");
    if !program.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_livepatch"), &program).unwrap();
    }
    let mut command = std::process::Command::new(program);
    command.arg("--runtime-dir").arg(directory).arg("--loader-dir").arg(directory).arg("answer-socket");
    command.stdin(std::os::fd::OwnedFd::from(stream)).output().unwrap()
}

const SOCKET_VARIABLE: &str = "LIVEPATCH_TEST_SOCKET";
const NOBODY: u32 = 65534;

/// Whoever gets past the socket's mode: the kernel says who it is, and neither loader nor agent hears of it.
#[test]
fn attack_peer_on_roots_socket() {
    if !rustix::process::getuid().is_root() {
        println!("SKIPPED: only root may become another user");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory.path(), open.clone()).unwrap();
    let socket = directory.path().join("theirs.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, open).unwrap();
    let program = directory.path().join("peer");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let agent = UnixListener::bind(directory.path().join("livepatchd-priv.sock")).unwrap();
    agent.set_nonblocking(true).unwrap();
    for (user, expected) in
        [(NOBODY, "HTTP/1.1 403 Forbidden\r\n"), (0, "HTTP/1.1 500 Internal Server Error\r\n")]
    {
        let mut peer = std::process::Command::new(&program);
        peer.args(["--exact", "legacy::peer", "--ignored", "--nocapture"]).env(SOCKET_VARIABLE, &socket);
        let peer = peer.uid(user).gid(user).stdout(std::process::Stdio::piped()).spawn().unwrap();
        let output = on_a_socket(directory.path(), listener.accept().unwrap().0);
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        let answer = peer.wait_with_output().unwrap().stdout;
        assert!(text(&answer).contains(expected), "{}", text(&answer));
        // There is no loader: root's request gets so far, and no further.
        assert_eq!(text(&answer).contains("the loader cannot be reached"), user == 0);
    }
    assert_eq!(agent.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
#[ignore = "runs in a child of the test above, as another user"]
fn peer() {
    let mut stream =
        std::os::unix::net::UnixStream::connect(std::env::var_os(SOCKET_VARIABLE).unwrap()).unwrap();
    stream.write_all(b"PUT /disable HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    println!("{answer}");
}
