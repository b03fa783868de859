use jiff::SignedDuration;
use livepatch_api::server::{Report, ReportEvent, ReportPhase, ReportedMachine};
use livepatch_manifest::sha256;
use livepatch_types::{CheckState, PatchState};

use super::{enrolment, kernel, machine, new_token, now, presented, tier, version};
use crate::*;

/// As an earlier client says it.
fn report(state: PatchState) -> Report {
    Report {
        kernel: kernel(1),
        client_version: "0.1.0".into(),
        at: now(),
        check_state: CheckState::Checked,
        patch_state: state,
        patch_version: Some(version("1.1")),
        error: None,
        event: None,
        machine: None,
    }
}

/// As a client says it that tells what it is for.
fn event(number: u64, phase: ReportPhase, state: PatchState) -> Report {
    let id = sha256(&number.to_be_bytes());
    let detail = if phase == ReportPhase::Failed { vec!["blocked 1.1: why".into()] } else { vec![] };
    let machine = ReportedMachine {
        cpu_model: "A Processor".into(),
        boot_time: Some(now()),
        uptime_seconds: number,
        last_check: None,
    };
    let event = ReportEvent { id, phase, dropped: 3, detail };
    Report { event: Some(event), machine: Some(machine), ..report(state) }
}

async fn latest(store: &impl Store) -> Option<Report> {
    store.machines().await.unwrap().remove(0).report.map(|received| received.report)
}

async fn with_a_machine(store: &impl Store) {
    store.create_token(&new_token("a")).await.unwrap();
    store.enrol(&enrolment(1, presented(10, "m"))).await.unwrap();
}

pub(super) async fn with_a_report(store: &impl Store) -> Report {
    with_a_machine(store).await;
    let report = report(PatchState::Applied);
    store.save_report(&machine(1), &report, now()).await.unwrap();
    report
}

pub(super) async fn a_report_replaces_the_one_before(store: &impl Store) {
    with_a_machine(store).await;
    assert_eq!(latest(store).await, None);
    let failed = Report { error: Some("it went wrong".into()), ..report(PatchState::ApplyFailed) };
    for report in [failed, report(PatchState::Applied), report(PatchState::Applied)] {
        assert_eq!(store.save_report(&machine(1), &report, now()).await.unwrap(), SavedReport::New);
        assert_eq!(latest(store).await, Some(report));
    }
    assert!(
        store.save_report(&machine(2), &report(PatchState::Applied), now()).await.is_err(),
        "not enrolled"
    );
    assert_eq!(store.reports(&machine(2)).await.unwrap(), []);

    let kernels = store.kernels().await.unwrap();
    assert_eq!(kernels, [KernelRecord { kernel: kernel(1), machines: 1, targets: vec![], coverage: None }]);
    let of_reported = store.document(&kernel(1).build_id, &tier("stable")).await.unwrap();
    assert_eq!(of_reported, None, "a report makes no kernel known");
}

pub(super) async fn a_report_is_taken_once(store: &impl Store) {
    with_a_machine(store).await;
    let applied = event(1, ReportPhase::Applied, PatchState::Applied);
    let failed = event(2, ReportPhase::Failed, PatchState::ApplyFailed);
    let later = now() + SignedDuration::from_secs(60);
    for (report, expected) in [
        (&applied, SavedReport::New),
        (&applied, SavedReport::Known),
        (&failed, SavedReport::New),
        // It does not become the latest again.
        (&applied, SavedReport::Known),
    ] {
        assert_eq!(store.save_report(&machine(1), report, later).await.unwrap(), expected);
    }
    assert_eq!(latest(store).await.as_ref(), Some(&failed));
    let received = |report: &Report| ReceivedReport { received: later, report: report.clone() };
    assert_eq!(store.reports(&machine(1)).await.unwrap(), [received(&failed), received(&applied)]);

    // The same id of another machine is another report.
    store.enrol(&enrolment(2, presented(11, "m"))).await.unwrap();
    assert_eq!(store.save_report(&machine(2), &applied, now()).await.unwrap(), SavedReport::New);
}

pub(super) async fn the_last_reports_are_kept(store: &impl Store) {
    with_a_machine(store).await;
    store.enrol(&enrolment(2, presented(11, "m"))).await.unwrap();
    let of_other = event(0, ReportPhase::Changed, PatchState::Unapplied);
    store.save_report(&machine(2), &of_other, now()).await.unwrap();
    let most = u64::from(MAX_REPORTS_OF_A_MACHINE);
    for number in 0..most + 5 {
        let report = event(number, ReportPhase::Changed, PatchState::Applied);
        store.save_report(&machine(1), &report, now()).await.unwrap();
    }
    let kept = store.reports(&machine(1)).await.unwrap();
    let uptimes = kept.iter().filter_map(|kept| Some(kept.report.machine.as_ref()?.uptime_seconds));
    assert_eq!(uptimes.collect::<Vec<_>>(), (5..most + 5).rev().collect::<Vec<_>>());
    assert_eq!(store.reports(&machine(2)).await.unwrap().len(), 1);
}
