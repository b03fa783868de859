use livepatch_api::daemon::{Telemetry, TelemetryReport, TelemetryStanding};

use crate::support::{answer, fits, livepatch, text};

fn telemetry() -> Telemetry {
    let report = |standing, body: &str| TelemetryReport { standing, body: body.into() };
    Telemetry {
        schema: 1,
        on: true,
        poll: Some("https://livepatch.example.org/v1/kernels/stable/abab".into()),
        report_to: Some("https://livepatch.example.org/v1/reports".into()),
        dropped: 2,
        reports: vec![
            report(TelemetryStanding::Sent, r#"{"at":"2026-11-24T12:00:00Z"}"#),
            report(TelemetryStanding::Waiting, r#"{"at":"2026-11-24T13:00:00Z"}"#),
            report(TelemetryStanding::Next, r#"{"at":"2026-11-24T14:00:00Z"}"#),
        ],
    }
}

fn shown(telemetry: &Telemetry, more: &[&str]) -> std::process::Output {
    let directory = tempfile::tempdir().unwrap();
    let asked =
        answer(directory.path(), "livepatchd.sock", "200 OK", &serde_json::to_string(telemetry).unwrap());
    let output = livepatch(directory.path(), &[&["explain", "--telemetry"], more].concat(), "");
    assert!(asked.join().unwrap().starts_with("GET /telemetry HTTP/1.1\r\n"));
    output
}

#[test]
fn for_people() {
    insta::assert_snapshot!(text(&shown(&telemetry(), &[]).stdout), @r#"
    poll     GET https://livepatch.example.org/v1/kernels/stable/abab
    reports  POST https://livepatch.example.org/v1/reports, with this host's token
    dropped  2
    sent     {"at":"2026-11-24T12:00:00Z"}
    waiting  {"at":"2026-11-24T13:00:00Z"}
    next     {"at":"2026-11-24T14:00:00Z"}
    "#);
    let off = Telemetry { on: false, report_to: None, dropped: 0, reports: vec![], ..telemetry() };
    insta::assert_snapshot!(text(&shown(&off, &[]).stdout), @r"
    poll     GET https://livepatch.example.org/v1/kernels/stable/abab
    reports  none: telemetry is off in the configuration
    ");
    let alone = Telemetry { poll: None, report_to: None, dropped: 0, reports: vec![], ..telemetry() };
    insta::assert_snapshot!(text(&shown(&alone, &[]).stdout), @r"
    poll     none: not enrolled
    reports  none: there is no server
    ");
}

#[test]
fn for_programs() {
    let output = shown(&telemetry(), &["--format", "json"]);
    assert_eq!(serde_json::from_slice::<Telemetry>(&output.stdout).unwrap(), telemetry());
    fits("telemetry", &output.stdout);
}

#[test]
fn of_another_version_or_without_a_daemon() {
    let output = shown(&Telemetry { schema: 2, ..telemetry() }, &[]);
    assert!(text(&output.stderr).contains("its schema is 2"), "{}", text(&output.stderr));
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(livepatch(directory.path(), &["explain", "--telemetry"], "").status.code(), Some(4));
}
