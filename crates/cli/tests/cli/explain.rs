use livepatch_api::daemon::*;
use livepatch_cli::explain;
use livepatch_types::*;

use crate::support::{answer, fits, livepatch, reboot, status, text, waiting};

#[test]
fn in_force_and_nothing_newer() {
    insta::assert_snapshot!(explain(&status()).text(), @r"
    host     this host takes what https://livepatch.example.org offers to tier stable
    kernel   livepatches are for exactly this kernel: 6.1.0-50-cloud-amd64 with build-id abababababababababababababababababababab
    applied  livepatch 113.1 is in force since 2026-11-24 11:00:00 UTC: it fixes 1 CVE
    next     the server offers nothing newer
    ");
}

#[test]
fn what_the_next_one_waits_for() {
    let mut status = status();
    status.patch.waiting = Some(Waiting {
        version: PatchVersion::parse("114.1").unwrap(),
        code: "maintenance-window".into(),
        message: "livepatch 114.1 waits for a maintenance window: the one at 2026-11-28 01:00 UTC".into(),
        until: Some("2026-11-28T01:00:00Z".parse().unwrap()),
        notice: Some(NoticeId::parse("LSN-0114-1").unwrap()),
        released: Some("2026-11-27T12:00:00Z".parse().unwrap()),
        open_cves: vec![CveId::parse("CVE-2026-0002").unwrap()],
    });
    insta::assert_snapshot!(explain(&status).text(), @r"
    host     this host takes what https://livepatch.example.org offers to tier stable
    kernel   livepatches are for exactly this kernel: 6.1.0-50-cloud-amd64 with build-id abababababababababababababababababababab
    applied  livepatch 113.1 is in force since 2026-11-24 11:00:00 UTC: it fixes 1 CVE
    next     livepatch 114.1 waits for a maintenance window: the one at 2026-11-28 01:00 UTC
             hint: `livepatch apply` does not wait
    ");
}

#[test]
fn the_place_in_a_rollout() {
    let said = |status: &Status| {
        let text = explain(status).text();
        let lines = text
            .lines()
            .filter(|line| ["host ", "next ", "place", "     "].iter().any(|word| line.starts_with(word)));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    let version = PatchVersion::parse("114.1").unwrap();
    let mut status = status();
    status.patch.place = Some(RolloutPlace { version, hundredths: 4907 });
    assert!(!said(&status).contains("49.07"), "nobody asked: {}", said(&status));
    status.cohort = Some(Cohort::parse("databases/2").unwrap());
    insta::assert_snapshot!(said(&status), @r"
    host     this host takes what https://livepatch.example.org offers to tier stable, as one of cohort databases/2
    next     the server offers nothing newer
    place    in a rollout of livepatch 114.1 this host stands at 49.07 %, the place of cohort databases/2
    ");
    status.cohort = None;
    let message = "livepatch 114.1 has come to 12 % of the hosts; to this one, at 49.07 %, it comes 2026-11-28 01:00 UTC";
    status.patch.waiting =
        Some(Waiting { version, code: "patch-spread".into(), message: message.into(), ..waiting() });
    insta::assert_snapshot!(said(&status), @r"
    host     this host takes what https://livepatch.example.org offers to tier stable
    next     livepatch 114.1 has come to 12 % of the hosts; to this one, at 49.07 %, it comes 2026-11-28 01:00 UTC
             hint: `livepatch apply` does not wait
    place    in a rollout of livepatch 114.1 this host stands at 49.07 %, a place of its own
    ");
}

#[test]
fn not_enrolled_and_not_recognised() {
    let mut status = status();
    (status.enabled, status.kernel, status.patch.state) = (false, None, PatchState::Unknown);
    insta::assert_snapshot!(explain(&status).text(), @r"
    host     this host is not enrolled: it asks nobody and applies nothing by itself
             hint: `livepatch enable --token-file FILE` enrols it
    kernel   the running kernel is not recognised, so nothing is applied to it
    applied  no livepatch is in force
    ");
}

#[test]
fn a_network_that_is_not_up() {
    let mut status = status();
    (status.check.state, status.check.reachability) = (CheckState::NeedsCheck, Reachability::Pending);
    let text = explain(&status).text();
    let next: Vec<&str> = text.lines().filter(|line| line.starts_with("next ")).collect();
    insta::assert_snapshot!(next.join("\n"), @"next     the server is asked when the network is up: it has no default route");
}

#[test]
fn a_problem_with_its_hints() {
    let mut status = status();
    (status.check.state, status.patch.state) = (CheckState::CheckFailed, PatchState::ApplyFailed);
    status.problem = Some(Failure {
        code: "server-unreachable".into(),
        message: "the server does not answer\u{1b}[2J".into(),
        hints: vec!["look whether it is up".into()],
    });
    insta::assert_snapshot!(explain(&status).text(), @r"
    host     this host takes what https://livepatch.example.org offers to tier stable
    kernel   livepatches are for exactly this kernel: 6.1.0-50-cloud-amd64 with build-id abababababababababababababababababababab
    applied  no livepatch is in force
    next     the server could not be asked; what it said before may install something new until 2026-12-01 00:00:00 UTC
             hint: `livepatch refresh` asks the server now
    problem  the server does not answer [2J
             hint: look whether it is up
    ");
}

#[test]
fn a_reboot_that_is_needed_or_of_use() {
    let said = |reboot| {
        let text = explain(&Status { reboot: Some(reboot), ..status() }).text();
        text.lines().skip_while(|line| !line.starts_with("reboot")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(
        said(reboot("window-ended", None)),
        "reboot   it is so\n         hint: install a newer kernel, and reboot"
    );
    let installed = said(reboot(NEWER_KERNEL_INSTALLED, Some("6.1.0-51-amd64")));
    assert_eq!(installed, "reboot   it is so\n         hint: reboot into 6.1.0-51-amd64");
}

#[test]
fn the_network_is_not_up_yet() {
    let mut status = status();
    status.patch.waiting = None;
    (status.check.state, status.check.reachability) = (CheckState::NeedsCheck, Reachability::Pending);
    let text = explain(&status).text();
    let next = text.lines().find(|line| line.starts_with("next")).unwrap();
    insta::assert_snapshot!(next, @"next     the server is asked when the network is up: it has no default route");
}

/// What is in force, and what to do for the next one, where there is something to do.
#[test]
fn what_is_in_force_and_what_is_held() {
    let said = |change: &dyn Fn(&mut Patch)| {
        let mut status = status();
        change(&mut status.patch);
        let text = explain(&status).text();
        text.lines().skip_while(|line| !line.starts_with("applied")).collect::<Vec<_>>().join("\n")
    };
    let waits =
        |code: &'static str| said(&|patch| patch.waiting = Some(Waiting { code: code.into(), ..waiting() }));
    let all = [
        said(&|patch| patch.state = PatchState::AppliedWithBug),
        said(&|patch| patch.state = PatchState::Applying),
        said(&|patch| (patch.state, patch.held) = (PatchState::Unapplied, true)),
        waits("mode"),
        waits("after-cutoff"),
        waits("held-notice"),
    ];
    insta::assert_snapshot!(all.join("\n---\n"), @"
    applied  livepatch 113.1 is in force, but the kernel complained after it was applied
    next     the one that the kernel complained about is not applied again
    ---
    applied  livepatch 113.1 is being applied: tasks move to the new code one by one
    next     the one that is being applied comes first
    ---
    applied  no livepatch is in force
    next     the livepatch is held back since it was reverted here
             hint: `livepatch apply` clears that and applies it
    ---
    applied  livepatch 113.1 is in force since 2026-11-24 11:00:00 UTC: it fixes 1 CVE
    next     livepatch 114.1 was released 2026-11-20 12:00 UTC, after the cutoff-date 2026-11-01 00:00 UTC
             hint: set the mode back to normal there, and restart the daemon
    ---
    applied  livepatch 113.1 is in force since 2026-11-24 11:00:00 UTC: it fixes 1 CVE
    next     livepatch 114.1 was released 2026-11-20 12:00 UTC, after the cutoff-date 2026-11-01 00:00 UTC
             hint: change it in /etc/livepatch/livepatch.toml, and restart the daemon
    ---
    applied  livepatch 113.1 is in force since 2026-11-24 11:00:00 UTC: it fixes 1 CVE
    next     livepatch 114.1 was released 2026-11-20 12:00 UTC, after the cutoff-date 2026-11-01 00:00 UTC
             hint: `livepatch hold` shows what is held, `livepatch unhold` ends it
    ");
}

/// What comes next, in every state that nothing else explains.
#[test]
fn every_state_says_what_comes_next() {
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
        let mut status = status();
        status.patch.state = state;
        let text = explain(&status).text();
        all += text.lines().find(|line| line.starts_with("next")).unwrap();
        all += "\n";
    }
    insta::assert_snapshot!(all, @r"
    next     the one that is offered is tried again with the next check
    next     the one that is being applied comes first
    next     the server offers nothing newer
    next     the one that the kernel complained about is not applied again
    next     the one that is offered is tried again with the next check
    next     the server has no livepatch for this kernel
    next     there are no livepatches any more for this kernel
    next     what the server offers is not known yet
    ");
}

/// What could not be applied is not always tried again with the next check.
#[test]
fn when_what_failed_is_tried_again() {
    let mut all = String::new();
    for (stage, code) in [
        (Stage::Blocked, "crash-guard"),
        (Stage::Waiting, "crash-guard"),
        (Stage::Failed, "stalled-too-often"),
        (Stage::Failed, "transition-stalled"),
        (Stage::Failed, "wrong-signer"),
    ] {
        let mut status = status();
        (status.patch.state, status.patch.stage) = (PatchState::ApplyFailed, Some(stage));
        status.problem = Some(Failure::new(code, "it is so", ""));
        let text = explain(&status).text();
        all += text.lines().find(|line| line.starts_with("next")).unwrap();
        all += "\n";
    }
    insta::assert_snapshot!(all, @r"
    next     the one that is offered is not applied again by itself
    next     the one that is offered is tried once more when the operator still wants it
    next     the one that is offered is not applied again by itself before the next boot
    next     the one that is offered is tried again, and waits longer each time
    next     the one that is offered is tried again with the next check
    ");
}

#[test]
fn for_programs() {
    let directory = tempfile::tempdir().unwrap();
    let problem = Failure { code: "x".into(), message: "y".into(), hints: vec!["z".into()] };
    let reboot = Some(reboot("window-ended", None));
    let body = serde_json::to_string(&Status { problem: Some(problem), reboot, ..status() }).unwrap();
    let asked = answer(directory.path(), "livepatchd.sock", "200 OK", &body);
    let output = livepatch(directory.path(), &["explain", "--format", "json"], "");
    asked.join().unwrap();
    fits("explain", &output.stdout);
    let json: serde_json::Value = serde_json::from_str(text(&output.stdout)).unwrap();
    assert_eq!(json["schema"], 1);
    let about = |at: usize| json["answers"][at]["about"].as_str().unwrap().to_owned();
    let all = (0..6).map(about).collect::<Vec<_>>();
    assert_eq!(all, ["host", "kernel", "applied", "next", "reboot", "problem"]);
}
