//! What hosts say: by the wire, and in the lists of the operator.

use livepatch_api::server::{EnrollResponse, Report};
use livepatch_types::PatchState;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::http::{MACHINE, enroll, error, report, send_report};
use crate::support::*;

/// A report as the wire has it, with what it is for.
fn event(number: u8, phase: &str, state: PatchState, why: Option<&str>) -> Value {
    let id = format!("{number:02x}").repeat(32);
    let report = Report { patch_state: state, error: why.map(str::to_owned), ..report() };
    let mut report = json!(report);
    report["event"] = json!({ "id": id, "phase": phase, "dropped": 2, "detail": ["a line"] });
    report["machine"] = json!({
        "cpu_model": "A Processor", "boot_time": "2026-11-24T00:00:00Z", "uptime_seconds": 60,
        "last_check": null,
    });
    report
}

fn listed(site: &Site, arguments: &[&str]) -> Value {
    serde_json::from_str(&site.good(&[arguments, &["--format", "json"]].concat())).unwrap()
}

#[tokio::test]
async fn an_event_is_taken_once_and_listed() {
    let site = Site::new();
    let token = site.token(&[]);
    let server = site.serve().await;
    let machine: EnrollResponse = enroll(&server, &token, MACHINE).await.json().await.unwrap();
    let token = machine.machine_token.expose();
    assert_eq!(listed(&site, &["machine", "list"])[0]["health"], "not-known");

    let before = event(1, "before-insert", PatchState::Unapplied, None);
    let failed = event(2, "failed", PatchState::ApplyFailed, Some("transition-stalled: it took too long"));
    for report in [&before, &before, &failed, &before] {
        assert_eq!(send_report(&server, token, report).await.status(), StatusCode::NO_CONTENT);
    }
    let list = listed(&site, &["machine", "list", "--unhealthy"]);
    assert_eq!((&list[0]["health"], &list[0]["report"]), (&json!("failed"), &failed));
    let shown = listed(&site, &["machine", "show", &MACHINE[..12]]);
    let phases: Vec<_> =
        shown.as_array().unwrap().iter().map(|row| &row["report"]["event"]["phase"]).collect();
    assert_eq!(phases, ["failed", "before-insert"]);
    let table = site.good(&["machine", "show", MACHINE]);
    assert!(table.starts_with("RECEIVED") && table.contains("before-insert"), "{table}");

    // Clients of both kinds, one after the other.
    assert_eq!(send_report(&server, token, &json!(report())).await.status(), StatusCode::NO_CONTENT);
    assert_eq!(listed(&site, &["machine", "list"])[0]["health"], "ok");
    assert_eq!(listed(&site, &["machine", "list", "--unhealthy"]), json!([]));
}

#[tokio::test]
async fn what_is_no_report_is_refused() {
    let site = Site::new();
    let token = site.token(&[]);
    let server = site.serve().await;
    let machine: EnrollResponse = enroll(&server, &token, MACHINE).await.json().await.unwrap();
    for (place, value) in [
        ("/event/id", json!("1")),
        ("/event/phase", json!("later")),
        ("/event/dropped", json!(-1)),
        ("/event/detail", json!(vec!["x"; 17])),
        ("/event/detail", json!(["x".repeat(301)])),
        ("/event/detail", json!(["a\nb"])),
        ("/event", json!({})),
        ("/machine/cpu_model", json!("x".repeat(129))),
        ("/machine/cpu_model", json!("\u{1b}[2J")),
        ("/machine/boot_time", json!("yesterday")),
        ("/machine", json!({ "host": "name" })),
    ] {
        let mut report = event(1, "applied", PatchState::Applied, None);
        *report.pointer_mut(place).unwrap() = value;
        let refused = send_report(&server, machine.machine_token.expose(), &report).await;
        assert!(refused.status().is_client_error(), "{place}");
        let status = refused.status();
        assert_eq!(error(refused, status).await, "bad-request");
    }
    assert_eq!(listed(&site, &["machine", "show", MACHINE]), json!([]));
}

#[tokio::test]
async fn a_machine_is_shown_by_its_beginning() {
    let site = Site::new();
    let token = site.token(&[]);
    let server = site.serve().await;
    let other = MACHINE.replacen("0123456789abcdef0123", "0123456789abcdef0124", 1);
    for machine in [MACHINE, &other] {
        assert_eq!(enroll(&server, &token, machine).await.status(), StatusCode::OK);
    }
    for (beginning, why) in [
        ("012", "is too short to be one machine"),
        ("", "is too short to be one machine"),
        ("0123456789ab", "more than one machine begins with 0123456789ab"),
        ("f123", "there is no machine \"f123\""),
        ("ÄÖ", "there is no machine"),
    ] {
        let (code, said) = site.bad(&["machine", "show", beginning]);
        assert!(code == 3 && said.contains(why), "{code} {said}");
    }
    assert_eq!(listed(&site, &["machine", "show", &other[..20]]), json!([]));
}
