//! What the daemon says when it fails, as people read it: one of each kind, by where it comes from.

use std::io;
use std::path::Path;

use livepatch_types::{Stage, StageEvent};
use reqwest::StatusCode;

use livepatch_loader_api::View;

use super::*;
use crate::server::problems::{Odd, bad_ca_file, bad_proxy, bad_tls, odd, refusal_of, too_large};
use crate::{agent, cohort, log, sockets, state, status, vendor};

/// As the client prints it: a line, and what to do. Each is in the style of the house.
fn said(problems: impl IntoIterator<Item = Problem>) -> String {
    let mut text = String::new();
    for Problem { code, message, hints, .. } in problems {
        let first = message.chars().next().unwrap();
        assert!(!first.is_uppercase() && !message.contains('\n') && !message.ends_with('.'), "{message}");
        assert!(!hints.is_empty() && hints.iter().all(|hint| !hint.contains('\n')), "{code}: {hints:?}");
        text += &format!("{message} ({code})\n");
        hints.iter().for_each(|hint| text += &format!("hint: {hint}\n"));
    }
    text
}

fn io_error() -> io::Error {
    io::Error::other("so it is")
}

#[test]
fn of_the_host() {
    let path = Path::new("/the/file");
    let ours = [
        agent::stopped(&"the mode file"),
        agent::already_enabled(),
        agent::not_enabled(),
        agent::no_server(),
        status::reports_refused(&Problem::new("server-refused", "so it is", "a hint")),
        state::unreadable(path, "so it is"),
        state::not_written(path, &io_error()),
        sockets::not_root(),
        sockets::broke_off(&"so it is"),
        AskError::Unreachable(io_error()).into(),
        AskError::Answer("so it is".into()).into(),
    ];
    insta::assert_snapshot!(said(ours), @r#"
    the daemon is stopped by the mode file (stopped)
    hint: set the mode back to normal there, and restart the daemon
    this host is enrolled already (already-enabled)
    hint: `livepatch disable` first, if it shall join another fleet
    this host is not enrolled (not-enabled)
    hint: `livepatch enable --token-file FILE` enrols it
    no server is configured (no-server)
    hint: set server = "https://…" in the configuration and restart the daemon
    the server does not take what this host tells: so it is (reports-refused)
    hint: a hint
    cannot use /the/file: so it is (state-unreadable)
    hint: `livepatch enable` sets the file aside and begins anew
    cannot write /the/file: so it is (state-not-written)
    hint: the daemon needs its state directory: free space, mount it writable, let user livepatch write there
    only root may do this (not-root)
    hint: use sudo
    the command failed: so it is (internal)
    hint: report this with the daemon's log: `journalctl -u livepatchd`
    the loader cannot be reached: so it is (loader-unreachable)
    hint: `systemctl status livepatch-loader` says whether it runs; a livepatch that is applied stays applied
    the loader's answer is not understood: so it is (loader-unreachable)
    hint: agent and loader may differ in version: restart both
    "#);
}

#[test]
fn of_the_cohort() {
    let cohort = |text: &str| livepatch_types::Cohort::parse(text).ok();
    let host = Some(livepatch_types::HostId::from_bytes([1; 16]));
    let view = |text: &str| View { enabled: true, host, cohort: cohort(text), ..View::default() };
    let refused =
        Problem::new("server-refused", "the server refuses (404 Not Found, not-found): no", "a hint");
    let unreachable =
        Problem::new("server-unreachable", "the server does not answer", "look whether it is up");
    let before = View { host: None, ..view("") };
    let not_assigned = |view: &View, wanted: &str, why: Option<&Problem>| {
        cohort::not_assigned(view, cohort(wanted).as_ref(), why)
    };
    for (view, wanted) in [(view(""), ""), (view("a/1"), "a/1"), (View { enabled: false, ..view("") }, "a")] {
        assert_eq!(not_assigned(&view, wanted, None), None);
    }
    let all = [
        not_assigned(&view("a/1"), "a/2", None).unwrap(),
        not_assigned(&view("a"), "", Some(&unreachable)).unwrap(),
        not_assigned(&view(""), "a", Some(&refused)).unwrap(),
        not_assigned(&before, "a", None).unwrap(),
        cohort::refused_with_cohort(refused),
        cohort::refused_with_cohort(unreachable),
    ];
    insta::assert_snapshot!(said(all), @"
    this host is in cohort a/1 until the operator assigns it to cohort a/2 (cohort-not-assigned)
    hint: `livepatch refresh` asks the server for it now
    this host is in cohort a until the operator assigns it to no cohort: the server does not answer (cohort-not-assigned)
    hint: look whether it is up
    this host is in no cohort until the operator assigns it to cohort a: the server refuses (404 Not Found, not-found): no (cohort-not-assigned)
    hint: the server is of an earlier version, or one enrolled this host: upgrade it, and enrol this host anew with `livepatch disable` and `livepatch enable`
    this host is in no cohort until the operator assigns it to cohort a (cohort-not-assigned)
    hint: the server is of an earlier version, or one enrolled this host: upgrade it, and enrol this host anew with `livepatch disable` and `livepatch enable`
    the server refuses (404 Not Found, not-found): no (server-refused)
    hint: a server of an earlier version knows no cohorts: upgrade it, or take `cohort` out of /etc/livepatch/livepatch.toml, and restart the daemon
    the server does not answer (server-unreachable)
    hint: look whether it is up
    ");
}

#[test]
fn of_what_the_server_answers() {
    let answers = |status: u16, code: &str| {
        let body = serde_json::json!({ "code": code, "message": "so it is" }).to_string();
        refusal_of(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    };
    let refusals = [
        answers(403, "unknown-token"),
        answers(403, "token-expired"),
        answers(403, "token-exhausted"),
        answers(500, "internal"),
        answers(429, "too-many"),
        refusal_of(StatusCode::BAD_GATEWAY, b"<html>"),
        refusal_of(StatusCode::NOT_FOUND, b"<html>"),
    ];
    let odds = [
        Odd::Json(serde_json::from_str::<u8>("").unwrap_err()),
        Odd::NotFound,
        Odd::Long(9),
        Odd::Status(StatusCode::IM_A_TEAPOT),
    ];
    let ours = [
        too_large(1 << 30),
        agent::mirror_behind("https://mirror.example.org"),
        vendor::not_served("metadata/timestamp.json", &"debian-12-6.1"),
        vendor::endless(&"debian-12-6.1"),
        log::not_proven(),
        log::not_served("tile/0/000"),
        log::inconsistent(livepatch_transparency::Refusal::NotATile),
    ];
    insta::assert_snapshot!(said(refusals.into_iter().chain(odds.iter().map(odd)).chain(ours)), @"
    the server does not know the token (unknown-token)
    hint: ask the server's operator for a new token; each may be limited in uses and time
    the token has expired (token-expired)
    hint: ask the server's operator for a new token; what is enrolled already stays so
    the token has enrolled as many machines as it may (token-exhausted)
    hint: ask the server's operator for a new token, or for one without a limit
    the server failed to answer (500 Internal Server Error) (server-failed)
    hint: nothing is wrong with this host; tell the server's operator, whose log says why
    the server refuses (429 Too Many Requests, too-many): so it is (server-refused)
    hint: tell the server's operator, whose log says why
    the server or a proxy before it is out of order (502 Bad Gateway) (server-failed)
    hint: nothing is wrong with this host; the check is repeated by itself
    the server does not answer like a livepatch server: it answers 404 Not Found (server-unexpected-answer)
    hint: check the server URL in the configuration
    the server does not answer like a livepatch server: its answer does not parse: EOF while parsing a value at line 1 column 0 (server-unexpected-answer)
    hint: check the server URL in the configuration
    the server does not answer like a livepatch server: it answers 404 without naming the kernel as unknown (server-unexpected-answer)
    hint: check the server URL in the configuration
    the server does not answer like a livepatch server: its answer is longer than 9 bytes (server-unexpected-answer)
    hint: check the server URL in the configuration
    the server does not answer like a livepatch server: it answers 418 I'm a teapot (server-unexpected-answer)
    hint: check the server URL in the configuration
    the module has 1073741824 bytes where 33554432 are allowed (oversized-module)
    hint: tell the server's operator
    the mirror https://mirror.example.org has nothing for this kernel (server-unexpected-answer)
    hint: bring the mirror up to date
    the server does not have metadata/timestamp.json of the vendor's repository debian-12-6.1 (vendor-not-served)
    hint: its operator must import the vendor's repository: `livepatch-server vendor import`
    the vendor's repository debian-12-6.1 has no end of files (vendor-endless)
    hint: tell the server's operator
    the server has no proof that what it offers is in its transparency log (log-not-proven)
    hint: tell the server's operator and those who watch the log
    the server does not have tile/0/000 of its transparency log (log-not-served)
    hint: tell the server's operator and those who watch the log
    the transparency log: this is not the path of a tile (log-inconsistent)
    hint: tell the server's operator and those who watch the log
    ");
}

#[test]
fn of_a_stage_that_cannot_be() {
    let forbidden = Stage::Blocked.next(StageEvent::Fetched).unwrap_err();
    insta::assert_snapshot!(said([Problem::from(forbidden)]), @"
    a livepatch that is blocked cannot be fetched (stage-transition)
    hint: tell the developers; `livepatch status` shows where it is
    ");
}

#[test]
fn of_the_configuration() {
    let ours =
        [bad_proxy(&io_error()), bad_tls(&io_error()), bad_ca_file(Path::new("/the/file"), "so it is")];
    let none = tempfile::NamedTempFile::new().unwrap();
    let empty = crate::server::read_certificates(none.path()).unwrap_err();
    let text = said(ours.into_iter().chain([empty])).replace(none.path().to_str().unwrap(), "FILE");
    insta::assert_snapshot!(text, @"
    cannot use the proxy: so it is (proxy-setup)
    hint: https-proxy in the configuration is a URL such as http://proxy.example.org:3128
    cannot set TLS up: so it is (tls-setup)
    hint: install the system's CA certificates or set ca-file in the configuration
    cannot use /the/file: so it is (tls-setup)
    hint: ca-file in the configuration must name a PEM file with the server's CA
    cannot use FILE: there is no certificate in it (tls-setup)
    hint: ca-file in the configuration must name a PEM file with the server's CA
    ");
}
