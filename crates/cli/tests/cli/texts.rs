use livepatch_api::daemon::*;
use livepatch_types::*;

use crate::support::{reboot, status, status_text};

#[test]
fn a_status_in_good_health() {
    insta::assert_snapshot!(status_text(&status()), @r"
    enabled     yes
    kernel      6.1.0-50-cloud-amd64 (amd64)
    build-id    abababababababababababababababababababab
    server      https://livepatch.example.org
    tier        stable
    last check  succeeded 10 minutes ago, 2026-11-24 12:00:00 UTC
    covered     yes, until 2027-03-19
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
    status.check.at = Some("2026-11-21T12:00:00Z".parse().unwrap());
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
    last check  failed 10 minutes ago; the last that succeeded was 3 days ago, 2026-11-21 12:00:00 UTC
    covered     yes, until 2027-03-19
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
    status.check = Check {
        state: CheckState::NeedsCheck,
        at: None,
        attempted_at: None,
        reachability: Reachability::Unknown,
        by_itself: true,
        mirror: None,
        document_version: None,
        document_expires: None,
    };
    status.coverage = Coverage::default();
    status.patch = Patch {
        state: PatchState::Unknown,
        version: None,
        stage: None,
        applied_at: None,
        held: false,
        waiting: None,
        cutoff_date: None,
        place: None,
        cves: vec![],
    };
    insta::assert_snapshot!(status_text(&status), @r"
    enabled     no
    kernel      not recognised
    server      none
    tier        none
    last check  none since the daemon started
    covered     not known yet
    livepatch   not known yet
    ");
}

#[test]
fn the_words_of_each_stage() {
    let mut all = String::new();
    for stage in [
        Stage::Absent,
        Stage::Downloaded,
        Stage::Verified,
        Stage::Inserting,
        Stage::Transition,
        Stage::Soaking,
        Stage::Healthy,
        Stage::WithBug,
        Stage::Reverting,
        Stage::Failed,
        Stage::Waiting,
        Stage::Blocked,
    ] {
        let mut status = status();
        status.patch.stage = Some(stage);
        all += status_text(&status).lines().find(|line| line.starts_with("stage")).unwrap_or("no line");
        all += "\n";
    }
    insta::assert_snapshot!(all, @"
    no line
    stage       downloaded, looked at next
    stage       verified, loaded next
    stage       inserting
    stage       transition: the kernel moves its tasks to it
    stage       soaking: in force, and not for long enough to be healthy
    stage       healthy
    stage       with bug: not applied again by itself
    stage       reverting: the kernel moves its tasks from it
    stage       failed: tried again later
    stage       waiting: tried once more when the operator still wants it
    stage       blocked: not applied again by itself
    ");
}

/// The last check, with how old it is what is known.
#[test]
fn the_words_of_each_check() {
    let mut all = String::new();
    let (none, now) = (None, "2026-11-24T12:09:00Z".parse().ok());
    let (hours, days) = ("2026-11-24T09:00:00Z".parse().ok(), "2026-10-25T12:00:00Z".parse().ok());
    for (state, reachability, at, attempted_at) in [
        (CheckState::NeedsCheck, Reachability::Unknown, none, none),
        (CheckState::NeedsCheck, Reachability::Unknown, hours, none),
        (CheckState::NeedsCheck, Reachability::Pending, none, now),
        (CheckState::NeedsCheck, Reachability::Pending, days, now),
        (CheckState::Checked, Reachability::Reached, now, now),
        (CheckState::Checked, Reachability::Reached, hours, hours),
        (CheckState::CheckFailed, Reachability::Unreachable, days, now),
        (CheckState::CheckFailed, Reachability::Reached, hours, hours),
        (CheckState::CheckFailed, Reachability::Reached, none, hours),
    ] {
        let mut status = status();
        let before = Check { mirror: None, document_version: None, document_expires: None, ..status.check };
        status.check = Check { state, at, attempted_at, reachability, ..before };
        all += status_text(&status).lines().find(|line| line.starts_with("last check")).unwrap();
        all += "\n";
    }
    insta::assert_snapshot!(all, @r"
    last check  none since the daemon started
    last check  none since the daemon started; the last that succeeded was 3 hours ago, 2026-11-24 09:00:00 UTC
    last check  pending: the network is not up, it has no default route
    last check  pending: the network is not up, it has no default route; the last that succeeded was 30 days ago, 2026-10-25 12:00:00 UTC
    last check  succeeded just now, 2026-11-24 12:09:00 UTC
    last check  succeeded 3 hours ago, 2026-11-24 09:00:00 UTC
    last check  failed just now; the last that succeeded was 30 days ago, 2026-10-25 12:00:00 UTC
    last check  failed 3 hours ago; the last that succeeded was 3 hours ago, 2026-11-24 09:00:00 UTC
    last check  failed 3 hours ago; none has succeeded yet
    ");
}

/// The cover, with its ends.
#[test]
fn the_words_of_each_cover() {
    let mut all = String::new();
    let (until, series) = (Some("2027-03-19".parse().unwrap()), Some("2028-06-30".parse().unwrap()));
    for (state, until, series_until) in [
        (CoverageState::Unknown, None, None),
        (CoverageState::Covered, None, None),
        (CoverageState::Covered, until, series),
        (CoverageState::UpgradeNeeded, until, None),
        (CoverageState::Ended, until, None),
        (CoverageState::SeriesEnded, None, series),
        (CoverageState::NotCovered, None, None),
    ] {
        let status =
            Status { coverage: Coverage { state, until, series_until, install: vec![] }, ..status() };
        all += status_text(&status).lines().find(|line| line.starts_with("covered")).unwrap();
        all += "\n";
    }
    insta::assert_snapshot!(all, @r"
    covered     not known yet
    covered     yes
    covered     yes, until 2027-03-19, its series until 2028-06-30
    covered     yes, but for a fix that no livepatch can have, until 2027-03-19
    covered     not any more, until 2027-03-19
    covered     not any more, nor any kernel of its series, its series until 2028-06-30
    covered     no
    ");
    let status = Status { reboot: Some(reboot("window-ended", None)), ..status() };
    assert!(status_text(&status).contains("\nreboot      it is so\n"));
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

#[test]
fn colours_are_for_terminals() {
    let coloured = livepatch_cli::status_text(&status(), "2026-11-24T12:10:00Z".parse().unwrap());
    assert!(
        coloured.contains("\u{1b}[32m113.1 applied since 2026-11-24 11:00:00 UTC\u{1b}[0m\n"),
        "{coloured:?}"
    );
    assert_eq!(status_text(&status()).find('\u{1b}'), None);
}
