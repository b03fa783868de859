//! Reports as values: what is told of a status, and by which id.

use jiff::Timestamp;
use livepatch_api::daemon::{Failure, Status};
use livepatch_api::server::{
    MAX_CPU_MODEL_CHARS, MAX_DETAIL_CHARS, MAX_DETAIL_LINES, MAX_ERROR_CHARS, Report, ReportEvent,
    ReportPhase, ReportedMachine,
};
use livepatch_loader_api::{Passed, Point, View};
use livepatch_manifest::sha256;
use livepatch_types::{PatchState, Sha256Digest};

/// A text as one line of at most so many characters.
fn line(text: &str, most: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(most).collect()
}

/// The report on a status; none of a kernel that is not recognised. What it is told for is still to be added.
pub(super) fn report(status: Status, machine: ReportedMachine, now: Timestamp) -> Option<Report> {
    let machine = ReportedMachine { cpu_model: line(&machine.cpu_model, MAX_CPU_MODEL_CHARS), ..machine };
    Some(Report {
        kernel: status.kernel?,
        client_version: status.client_version,
        at: now,
        check_state: status.check.state,
        patch_state: status.patch.state,
        patch_version: status.patch.version,
        error: status.problem.map(|problem| line(&error(&problem), MAX_ERROR_CHARS)),
        event: None,
        machine: Some(machine),
    })
}

fn error(problem: &Failure) -> String {
    format!("{}: {}", problem.code, problem.message)
}

/// What is known of a failure besides its message: what to do, and what keeps livepatches from this kernel.
pub(super) fn detail(problem: Option<&Failure>, view: &View) -> Vec<String> {
    let Some(problem) = problem else { return Vec::new() };
    let locks = view.locks.iter().map(|lock| {
        let since = lock.since.map_or_else(String::new, |since| format!(" since {since}"));
        format!("lock: {} {}{since}: {}", lock.kind.word(), lock.version, lock.message)
    });
    let others = [
        &view.problem,
        &view.document_problem,
        &view.operator_problem,
        &view.vendor_problem,
        &view.observer_problem,
    ];
    let others = others.into_iter().flatten();
    let others =
        others.filter(|other| other.code != problem.code).map(|other| format!("also: {}", error(other)));
    let hints = problem.hints.iter().map(|hint| format!("hint: {hint}"));
    hints
        .chain(locks)
        .chain(others)
        .take(MAX_DETAIL_LINES)
        .map(|text| line(&text, MAX_DETAIL_CHARS))
        .collect()
}

/// A report on a point of an application, as things were then.
pub(super) fn of_point(report: Report, passed: &Passed) -> Report {
    let uptime_seconds = passed.since_boot_milliseconds / 1000;
    Report {
        at: passed.at,
        patch_state: match passed.point {
            Point::BeforeInsert => PatchState::Unapplied,
            Point::AfterInsert | Point::InTransition => PatchState::Applying,
            Point::InForce => PatchState::Applied,
        },
        patch_version: Some(passed.version),
        error: None,
        machine: report.machine.map(|machine| ReportedMachine { uptime_seconds, ..machine }),
        ..report
    }
}

pub(super) fn phase_of(point: Point) -> ReportPhase {
    match point {
        Point::BeforeInsert => ReportPhase::BeforeInsert,
        Point::AfterInsert => ReportPhase::AfterInsert,
        Point::InTransition => ReportPhase::InTransition,
        Point::InForce => ReportPhase::Applied,
    }
}

/// The bytes that are sent.
pub(super) fn body(
    report: &Report,
    id: Sha256Digest,
    phase: ReportPhase,
    dropped: u64,
    detail: Vec<String>,
) -> String {
    let event = Some(ReportEvent { id, phase, dropped, detail });
    // Texts, numbers and lists of them always serialise.
    serde_json::to_string(&Report { event, ..report.clone() }).unwrap_or_default()
}

/// What a report says, without the times and what it is told for: what is the same is not told again.
pub(super) fn content(report: &Report, boot_id: &str) -> Sha256Digest {
    let report = Report { at: Timestamp::UNIX_EPOCH, event: None, machine: None, ..report.clone() };
    sha256(format!("{boot_id} {}", serde_json::to_string(&report).unwrap_or_default()).as_bytes())
}

/// The id of an event: the same for the same event of the same machine.
pub(super) fn id(machine: &str, boot_id: &str, event: &str) -> Sha256Digest {
    sha256(format!("{machine} {boot_id} {event}").as_bytes())
}

#[cfg(test)]
mod tests {
    use livepatch_loader_api::{Lock, LockKind};
    use livepatch_types::PatchVersion;

    use super::*;

    #[test]
    fn detail_is_lines_within_their_limits() {
        let lock = Lock {
            kind: LockKind::Stalled,
            version: PatchVersion::parse("113.1").unwrap(),
            since: Some("2026-11-24T12:00:00Z".parse().unwrap()),
            until: None,
            message: "it was not in force in time\nreally".into(),
            hints: vec![],
        };
        let view = View {
            locks: vec![lock.clone()],
            document_problem: Some(Failure::new("document-expired", "the document expired", "")),
            ..View::default()
        };
        let problem = Failure::new("transition-stalled", "it stalled", "it is tried again");
        insta::assert_snapshot!(detail(Some(&problem), &view).join("\n"), @"
        hint: it is tried again
        lock: stalled 113.1 since 2026-11-24T12:00:00Z: it was not in force in time really
        also: document-expired: the document expired
        ");
        assert_eq!(detail(None, &view), [""; 0]);
        let many = View { locks: vec![Lock { message: "é".repeat(1000), ..lock }; 50], ..View::default() };
        let lines = detail(Some(&problem), &many);
        assert_eq!(lines.len(), MAX_DETAIL_LINES);
        assert!(lines.iter().all(|line| line.chars().count() <= MAX_DETAIL_CHARS));
    }
}
