//! The program against sockets that a test answers.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use livepatch_api::daemon::*;
use livepatch_cli::status_text;
use livepatch_types::*;

fn status() -> Status {
    let cve = |id: &str, rating, coverage, patched, title: &str| Cve {
        id: CveId::parse(id).unwrap(),
        rating,
        coverage,
        patched,
        title: title.into(),
    };
    Status {
        schema: 1,
        client_version: "0.1.0".into(),
        enabled: true,
        tier: Some(Tier::parse("stable").unwrap()),
        server: Some("https://livepatch.example.org".into()),
        kernel: Some(KernelIdentity {
            architecture: Architecture::Amd64,
            release: KernelRelease::parse("6.1.0-50-cloud-amd64").unwrap(),
            build_id: BuildId::from_bytes(&[0xab; 20]).unwrap(),
        }),
        check: Check {
            state: CheckState::Checked,
            at: Some("2026-11-24T12:00:00Z".parse().unwrap()),
            document_version: Some(7),
            document_expires: Some("2026-12-01T00:00:00Z".parse().unwrap()),
        },
        patch: Patch {
            state: PatchState::Applied,
            version: Some(PatchVersion::parse("113.1").unwrap()),
            applied_at: Some("2026-11-24T11:00:00Z".parse().unwrap()),
            held: false,
            cves: vec![
                cve("CVE-2026-0001", Rating::High, CveCoverage::Whole, true, "net: a use after free"),
                cve("CVE-2026-123456", Rating::Critical, CveCoverage::Partial, false, "bad\u{1b}[31mtitle"),
            ],
        },
        problem: None,
    }
}

#[test]
fn a_status_in_good_health() {
    insta::assert_snapshot!(status_text(&status()), @r"
    enabled     yes
    kernel      6.1.0-50-cloud-amd64 (amd64)
    build-id    abababababababababababababababababababab
    server      https://livepatch.example.org
    tier        stable
    last check  succeeded, 2026-11-24 12:00:00 UTC
    livepatch   113.1 applied since 2026-11-24 11:00:00 UTC

    CVE              rating    here        title
    CVE-2026-0001    high      fixed       net: a use after free
    CVE-2026-123456  critical  not wholly  bad [31mtitle
    ");
}

#[test]
fn a_status_with_a_problem() {
    let mut status = status();
    status.check.state = CheckState::CheckFailed;
    status.patch.state = PatchState::ApplyFailed;
    status.patch.applied_at = None;
    status.patch.cves.truncate(1);
    status.patch.cves[0].patched = false;
    status.problem = Some(Failure {
        code: "wrong-signer".into(),
        message: "the module is refused: signed by a key that is not trusted: ab".into(),
        hints: vec!["compare vendor.pem with the certificate of the module signer".into()],
    });
    insta::assert_snapshot!(status_text(&status), @r"
    enabled     yes
    kernel      6.1.0-50-cloud-amd64 (amd64)
    build-id    abababababababababababababababababababab
    server      https://livepatch.example.org
    tier        stable
    last check  failed, 2026-11-24 12:00:00 UTC
    livepatch   113.1 not applied: the last attempt failed

    CVE            rating  here       title
    CVE-2026-0001  high    not fixed  net: a use after free

    problem: the module is refused: signed by a key that is not trusted: ab (wrong-signer)
    hint: compare vendor.pem with the certificate of the module signer
    ");
}

#[test]
fn a_status_before_anything() {
    let mut status = status();
    (status.enabled, status.tier, status.server, status.kernel) = (false, None, None, None);
    status.check =
        Check { state: CheckState::NeedsCheck, at: None, document_version: None, document_expires: None };
    status.patch =
        Patch { state: PatchState::Unknown, version: None, applied_at: None, held: false, cves: vec![] };
    insta::assert_snapshot!(status_text(&status), @r"
    enabled     no
    kernel      not recognised
    server      none
    tier        none
    last check  none since the daemon started
    livepatch   not known yet
    ");
}

#[test]
fn the_words_of_each_state() {
    let mut all = String::new();
    for state in [
        PatchState::Unapplied,
        PatchState::Applying,
        PatchState::Applied,
        PatchState::AppliedWithBug,
        PatchState::ApplyFailed,
        PatchState::NothingToApply,
        PatchState::KernelUpgradeRequired,
        PatchState::Unknown,
    ] {
        for held in [false, true] {
            let mut status = status();
            (status.patch.state, status.patch.held, status.patch.applied_at) = (state, held, None);
            let text = status_text(&status);
            let line = text.lines().find(|line| line.starts_with("livepatch")).unwrap();
            if !all.contains(line) {
                all.push_str(line);
                all.push('\n');
            }
        }
    }
    insta::assert_snapshot!(all, @r"
    livepatch   113.1 not applied
    livepatch   113.1 not applied: held back since it was reverted here
    livepatch   113.1 being applied
    livepatch   113.1 applied
    livepatch   113.1 applied, but the kernel complained afterwards
    livepatch   113.1 not applied: the last attempt failed
    livepatch   none for this kernel
    livepatch   none any more for this kernel: a newer kernel is needed
    livepatch   not known yet
    ");
}

/// Answers one request on a socket; gives back what was asked.
fn answer(directory: &Path, socket: &str, line: &str, body: &str) -> JoinHandle<String> {
    let listener = UnixListener::bind(directory.join(socket)).unwrap();
    let answer = format!("HTTP/1.1 {line}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut buffer = [0; 4096];
        while !complete(&asked) {
            let length = stream.read(&mut buffer).unwrap();
            asked.extend_from_slice(&buffer[..length]);
        }
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    })
}

fn complete(asked: &[u8]) -> bool {
    let text = String::from_utf8_lossy(asked);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
    body.len() == length.unwrap_or(0)
}

fn livepatch(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_livepatch"))
        .arg("--runtime-dir")
        .arg(directory)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn status_is_printed_in_both_forms() {
    let json = serde_json::to_string(&status()).unwrap();
    for (arguments, expected) in [
        (&["status"][..], status_text(&status())),
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
fn a_daemon_that_hangs_does_not_hang_the_status() {
    let directory = tempfile::tempdir().unwrap();
    let _listener = UnixListener::bind(directory.path().join("livepatchd.sock")).unwrap();
    let start = Instant::now();
    let output = livepatch(directory.path(), &["status"], "");
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(output.status.code(), Some(4));
    let error = text(&output.stderr);
    assert!(error.starts_with("error: the daemon cannot be reached on "), "{error}");
    assert!(error.contains("no answer within 900 ms\n\nhint: "), "{error}");
}

#[test]
fn what_the_daemon_left_is_shown_when_it_does_not_answer() {
    let directory = tempfile::tempdir().unwrap();
    let mut left = status();
    left.problem = Some(Failure { code: "x".into(), message: "it was so".into(), hints: vec![] });
    let path = directory.path().join("status.json");
    std::fs::write(&path, serde_json::to_string(&left).unwrap()).unwrap();
    let at = std::time::UNIX_EPOCH + Duration::from_secs(1_795_526_400);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    let shows = |output: &Output| {
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(4), ""));
        let text = text(&output.stdout);
        assert!(text.contains("livepatch   113.1 applied since 2026-11-24 11:00:00 UTC\n"), "{text}");
        let problem = "problem: the daemon does not answer; this is what it knew on 2026-11-24 13:20:00 UTC (daemon-unreachable)
hint: `systemctl status livepatchd` says whether it runs; a livepatch that is applied stays applied
hint: its last problem was: it was so
";
        assert!(text.ends_with(problem), "{text}");
    };
    shows(&livepatch(directory.path(), &["status"], ""));
    let output = livepatch(directory.path(), &["status", "--format", "json"], "");
    let json: Status = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((json.problem.unwrap().code.as_str(), json.patch), ("daemon-unreachable", left.patch.clone()));

    // One that hangs.
    let _listener = UnixListener::bind(directory.path().join("livepatchd.sock")).unwrap();
    let start = Instant::now();
    shows(&livepatch(directory.path(), &["status"], ""));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());

    // Not a status, or one of a later version.
    let later = serde_json::to_string(&Status { schema: 2, ..left }).unwrap();
    for text in ["", "{}", later.as_str()] {
        std::fs::write(&path, text).unwrap();
        let output = livepatch(directory.path(), &["status"], "");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(4), 0), "{text}");
    }
    assert_eq!(livepatch(directory.path(), &["refresh"], "").status.code(), Some(4));
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
fn help() {
    let help = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_livepatch")).args(arguments).output().unwrap();
        text(&output.stdout).to_owned()
    };
    insta::assert_snapshot!(help(&["--help"]), @r"
    Livepatches for the running kernel

    Usage: livepatch [OPTIONS] <COMMAND>

    Commands:
      enable       Enrol this host and apply what its server offers
      disable      Revert the livepatch, unload it and leave the fleet; asks nothing
      status       Show the state of this host; answers within a second
      refresh      Ask the server now, and wait until what it offers is applied
      revert       Disable and unload the livepatch; it is held back until `apply` or another version
      apply        Apply what is offered, even if it was reverted here or a host went down with it
      secure-boot  Whose modules this machine's kernel takes, and how it comes to take livepatches under Secure Boot
      help         Print this message or the help of the given subcommand(s)

    Options:
          --runtime-dir <RUNTIME_DIR>  Directory of the daemon's sockets [default: /run/livepatch]
      -h, --help                       Print help
      -V, --version                    Print version

    Exit codes: 0 done, 1 failed, 2 usage, 3 not enabled, 4 the daemon cannot be reached, 5 only root may do this.
    ");
    insta::assert_snapshot!(help(&["enable", "--help"]), @r"
    Enrol this host and apply what its server offers

    Usage: livepatch enable [OPTIONS] <TOKEN|--token-file <FILE>>

    Arguments:
      [TOKEN]  The token. Others can see it in the process list and it stays in the shell's history: prefer --token-file

    Options:
          --runtime-dir <RUNTIME_DIR>  Directory of the daemon's sockets [default: /run/livepatch]
          --token-file <FILE>          File with the token, or - for standard input
      -h, --help                       Print help
    ");
}
