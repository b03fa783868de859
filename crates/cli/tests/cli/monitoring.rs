//! What monitoring and logins see.

use std::process::Command;

use jiff::Timestamp;
use livepatch_api::daemon::*;
use livepatch_cli::{Ages, Level, metrics, motd, plugin_line, verdict};
use livepatch_types::*;

use crate::support::*;

/// Ten minutes after the last check of [`status`].
fn now() -> Timestamp {
    "2026-11-24T12:10:00Z".parse().unwrap()
}

/// [`status`] with everything fixed.
fn healthy() -> Status {
    let mut status = status();
    status.patch.cves.truncate(1);
    status
}

fn problem(code: &str) -> Option<Failure> {
    Some(Failure { code: code.into(), message: format!("{code} | happened\n"), hints: vec![] })
}

/// The plugin's line for a healthy status with one change.
fn line(change: impl Fn(&mut Status)) -> (Level, String) {
    let mut status = healthy();
    change(&mut status);
    let found = verdict(&status, Ages::default(), now());
    (found.level, plugin_line(&status, &found, Ages::default(), now()))
}

#[test]
fn lines_of_the_plugin() {
    let hours = |hours: i64| Some(now() - jiff::SignedDuration::from_hours(hours));
    let state = |state: PatchState| move |status: &mut Status| status.patch.state = state;
    let mut lines = String::new();
    let mut expect = |level: Level, (found, line): (Level, String)| {
        assert_eq!(found, level, "{line}");
        lines.push_str(&line);
    };
    expect(Level::Ok, line(|_| ()));
    expect(Level::Ok, line(|s| (s.patch.state, s.patch.version) = (PatchState::NothingToApply, None)));
    expect(Level::Ok, line(|s| s.check.at = hours(-5)));
    expect(Level::Warning, line(|s| s.check.at = hours(24)));
    expect(Level::Critical, line(|s| s.check.at = hours(72)));
    // Known before the daemon started: no reason to look at it.
    expect(Level::Ok, line(|s| s.check.state = CheckState::NeedsCheck));
    expect(Level::Warning, line(|s| (s.check.at, s.check.state) = (None, CheckState::NeedsCheck)));
    expect(Level::Warning, line(|s| (s.check.at, s.check.state) = (None, CheckState::CheckFailed)));
    let pending = |at| {
        move |s: &mut Status| {
            (s.check.state, s.check.reachability, s.check.at) =
                (CheckState::NeedsCheck, Reachability::Pending, at);
        }
    };
    expect(Level::Ok, line(pending(hours(5))));
    expect(Level::Warning, line(pending(None)));
    expect(Level::Warning, line(pending(hours(30))));
    expect(Level::Critical, line(pending(hours(30 * 24))));
    // Never reached: counted from the enrolment.
    let never = |enrolled: Option<Timestamp>, state: CheckState| {
        move |s: &mut Status| (s.enabled_at, s.check.at, s.check.state) = (enrolled, None, state)
    };
    expect(Level::Warning, line(never(hours(71), CheckState::CheckFailed)));
    expect(Level::Critical, line(never(hours(72), CheckState::CheckFailed)));
    expect(Level::Critical, line(never(hours(100), CheckState::NeedsCheck)));
    expect(
        Level::Critical,
        line(|s| {
            pending(None)(s);
            s.enabled_at = hours(72);
        }),
    );
    // A month without a server, tried again a minute ago.
    expect(
        Level::Critical,
        line(|s| {
            (s.check.state, s.check.at) = (CheckState::CheckFailed, hours(30 * 24));
            s.problem = problem("server-unreachable");
        }),
    );
    expect(Level::Warning, line(|s| s.patch.cves[0].patched = false));
    expect(Level::Warning, line(state(PatchState::Unapplied)));
    expect(Level::Warning, line(|s| (s.patch.state, s.patch.held) = (PatchState::Unapplied, true)));
    expect(Level::Warning, line(state(PatchState::Applying)));
    expect(Level::Warning, line(state(PatchState::Unknown)));
    expect(Level::Critical, line(state(PatchState::AppliedWithBug)));
    expect(Level::Critical, line(state(PatchState::KernelUpgradeRequired)));
    expect(Level::Critical, line(|s| s.reboot = Some(reboot("window-ended", None))));
    let newer = "6.1.0-51-cloud-amd64";
    expect(Level::Critical, line(|s| s.reboot = Some(reboot("window-ended", Some(newer)))));
    expect(
        Level::Critical,
        line(|s| {
            s.patch.state = PatchState::KernelUpgradeRequired;
            s.reboot = Some(reboot("unpatchable-cve", Some("6.1.0-51-cloud-amd64")));
        }),
    );
    expect(
        Level::Ok,
        line(|s| s.reboot = Some(reboot(NEWER_KERNEL_INSTALLED, Some("6.1.0-51-cloud-amd64")))),
    );
    expect(
        Level::Critical,
        line(|s| (s.patch.state, s.problem) = (PatchState::ApplyFailed, problem("wrong-signer"))),
    );
    expect(Level::Warning, line(|s| s.problem = problem("daemon-unreachable")));
    let alone = |state: PatchState| {
        move |s: &mut Status| (s.enabled, s.check.at, s.patch.state) = (false, None, state)
    };
    expect(Level::Unknown, line(alone(PatchState::Unknown)));
    // With a bundle and without a server.
    expect(Level::Ok, line(alone(PatchState::Applied)));
    expect(Level::Critical, line(alone(PatchState::AppliedWithBug)));
    insta::assert_snapshot!(lines, @r"
    LIVEPATCH OK - livepatch 113.1 is applied | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH OK - no livepatch is needed for this kernel | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH OK - livepatch 113.1 is applied | fixed=1 open=0 age=0s;86400;259200
    LIVEPATCH WARNING - the last check that succeeded was 24 hours ago | fixed=1 open=0 age=86400s;86400;259200
    LIVEPATCH CRITICAL - the last check that succeeded was 72 hours ago | fixed=1 open=0 age=259200s;86400;259200
    LIVEPATCH OK - livepatch 113.1 is applied | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH WARNING - the server was not asked since the daemon started | fixed=1 open=0
    LIVEPATCH WARNING - no check has succeeded yet | fixed=1 open=0
    LIVEPATCH OK - livepatch 113.1 is applied; the check is pending: the network is not up | fixed=1 open=0 age=18000s;86400;259200
    LIVEPATCH WARNING - the check is pending: the network is not up | fixed=1 open=0
    LIVEPATCH WARNING - the last check that succeeded was 30 hours ago; the check is pending: the network is not up | fixed=1 open=0 age=108000s;86400;259200
    LIVEPATCH CRITICAL - the last check that succeeded was 720 hours ago; the check is pending: the network is not up | fixed=1 open=0 age=2592000s;86400;259200
    LIVEPATCH WARNING - no check has succeeded yet | fixed=1 open=0
    LIVEPATCH CRITICAL - no check has succeeded since this host was enrolled, 72 hours ago | fixed=1 open=0
    LIVEPATCH CRITICAL - no check has succeeded since this host was enrolled, 100 hours ago | fixed=1 open=0
    LIVEPATCH CRITICAL - no check has succeeded since this host was enrolled, 72 hours ago; the check is pending: the network is not up | fixed=1 open=0
    LIVEPATCH CRITICAL - the last check that succeeded was 720 hours ago; server-unreachable / happened  | fixed=1 open=0 age=2592000s;86400;259200
    LIVEPATCH WARNING - 1 CVE is not wholly fixed by it | fixed=0 open=1 age=600s;86400;259200
    LIVEPATCH WARNING - livepatch 113.1 is not applied | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH WARNING - livepatch 113.1 is held back since it was reverted here | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH WARNING - livepatch 113.1 is being applied | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH WARNING - whether a livepatch is applied is not known yet | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH CRITICAL - livepatch 113.1 is applied, but the kernel complained afterwards | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH CRITICAL - this kernel gets no livepatches any more: boot a newer one | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH CRITICAL - it is so; install a newer kernel, and reboot | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH CRITICAL - it is so; reboot into 6.1.0-51-cloud-amd64, which is installed and may be covered | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH CRITICAL - it is so; reboot into 6.1.0-51-cloud-amd64, which is installed and may have the fix | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH OK - livepatch 113.1 is applied | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH CRITICAL - livepatch 113.1 could not be applied; wrong-signer / happened  | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH WARNING - daemon-unreachable / happened  | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH UNKNOWN - this host is not enrolled | fixed=1 open=0
    LIVEPATCH OK - livepatch 113.1 is applied | fixed=1 open=0
    LIVEPATCH CRITICAL - livepatch 113.1 is applied, but the kernel complained afterwards | fixed=1 open=0
    ");
}

/// What its owner holds back for good is said until it is not held any more; what comes by itself is no warning, unless nothing
/// is in force meanwhile.
#[test]
fn a_newer_livepatch_that_waits() {
    let at_night = Waiting {
        code: "maintenance-window".into(),
        message: "livepatch 114.1 waits for a maintenance window: the one at 2026-11-28 01:00 UTC".into(),
        until: "2026-11-28T01:00:00Z".parse().ok(),
        ..waiting()
    };
    let mut lines = String::new();
    for (level, state, waiting) in [
        (Level::Ok, PatchState::Applied, &at_night),
        (Level::Warning, PatchState::Applied, &waiting()),
        (Level::Warning, PatchState::Unapplied, &at_night),
        (Level::Warning, PatchState::Unapplied, &waiting()),
        (Level::Critical, PatchState::AppliedWithBug, &at_night),
        (Level::Critical, PatchState::AppliedWithBug, &waiting()),
    ] {
        let (found, line) =
            line(|status| (status.patch.state, status.patch.waiting) = (state, Some(waiting.clone())));
        assert_eq!(found, level, "{line}");
        lines += &line;
    }
    let pending = line(|status| {
        status.check.reachability = Reachability::Pending;
        status.patch.waiting = Some(at_night.clone());
    });
    insta::assert_snapshot!(lines + &pending.1, @"
    LIVEPATCH OK - livepatch 113.1 is applied; livepatch 114.1 waits for a maintenance window: the one at 2026-11-28 01:00 UTC | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH WARNING - livepatch 114.1 was released 2026-11-20 12:00 UTC, after the cutoff-date 2026-11-01 00:00 UTC | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH WARNING - livepatch 114.1 waits for a maintenance window: the one at 2026-11-28 01:00 UTC | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH WARNING - livepatch 114.1 was released 2026-11-20 12:00 UTC, after the cutoff-date 2026-11-01 00:00 UTC | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH CRITICAL - livepatch 113.1 is applied, but the kernel complained afterwards | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH CRITICAL - livepatch 113.1 is applied, but the kernel complained afterwards; livepatch 114.1 was released 2026-11-20 12:00 UTC, after the cutoff-date 2026-11-01 00:00 UTC | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH OK - livepatch 113.1 is applied; livepatch 114.1 waits for a maintenance window: the one at 2026-11-28 01:00 UTC; the check is pending: the network is not up | fixed=1 open=0 age=600s;86400;259200
    ");
}

#[test]
fn the_message_at_login() {
    let said = |change: &dyn Fn(&mut Status)| {
        let mut status = healthy();
        change(&mut status);
        motd(&verdict(&status, Ages::default(), now()))
    };
    assert_eq!(said(&|_| ()), "");
    let alone = |state| move |status: &mut Status| (status.enabled, status.patch.state) = (false, state);
    assert_eq!(said(&alone(PatchState::Unknown)), "");
    assert_eq!(said(&alone(PatchState::Applied)), "");
    insta::assert_snapshot!(said(&alone(PatchState::AppliedWithBug)), @r"

    livepatch: livepatch 113.1 is applied, but the kernel complained afterwards
    livepatch: `livepatch status` shows more
    ");
    let text = said(&|status| status.patch.state = PatchState::KernelUpgradeRequired);
    let pending = |hours| {
        said(&move |status: &mut Status| {
            status.check.state = CheckState::NeedsCheck;
            status.check.reachability = Reachability::Pending;
            status.check.at = Some(now() - jiff::SignedDuration::from_hours(hours));
        })
    };
    assert_eq!(pending(1), "", "a network that is not up yet is no news at a login");
    insta::assert_snapshot!(pending(100), @r"

    livepatch: the last check that succeeded was 100 hours ago; the check is pending: the network is not up
    livepatch: `livepatch status` shows more
    ");
    insta::assert_snapshot!(text, @r"

    livepatch: this kernel gets no livepatches any more: boot a newer one
    livepatch: `livepatch status` shows more
    ");
}

#[test]
fn metrics_of_a_status() {
    insta::assert_snapshot!(metrics(&status()), @r#"
    # HELP livepatch_info What runs here; always 1.
    # TYPE livepatch_info gauge
    livepatch_info{client_version="0.1.0",kernel="6.1.0-50-cloud-amd64",build_id="abababababababababababababababababababab",tier="stable",livepatch="113.1"} 1
    # HELP livepatch_enabled Whether this host is enrolled.
    # TYPE livepatch_enabled gauge
    livepatch_enabled 1
    # HELP livepatch_daemon_answers Whether the daemon gave this status itself.
    # TYPE livepatch_daemon_answers gauge
    livepatch_daemon_answers 1
    # HELP livepatch_problem Whether something is wrong.
    # TYPE livepatch_problem gauge
    livepatch_problem 0
    # HELP livepatch_held Whether the livepatch is held back since it was reverted here.
    # TYPE livepatch_held gauge
    livepatch_held 0
    # HELP livepatch_kernel_upgrade_required Whether a newer kernel must be booted to be safe.
    # TYPE livepatch_kernel_upgrade_required gauge
    livepatch_kernel_upgrade_required 0
    # HELP livepatch_patch_state 1 for the state of the livepatch, 0 for the others.
    # TYPE livepatch_patch_state gauge
    livepatch_patch_state{state="unapplied"} 0
    livepatch_patch_state{state="applying"} 0
    livepatch_patch_state{state="applied"} 1
    livepatch_patch_state{state="applied-with-bug"} 0
    livepatch_patch_state{state="apply-failed"} 0
    livepatch_patch_state{state="nothing-to-apply"} 0
    livepatch_patch_state{state="kernel-upgrade-required"} 0
    livepatch_patch_state{state="unknown"} 0
    # HELP livepatch_check_state 1 for how the last check ended, 0 for the others.
    # TYPE livepatch_check_state gauge
    livepatch_check_state{state="needs-check"} 0
    livepatch_check_state{state="checked"} 1
    livepatch_check_state{state="check-failed"} 0
    # HELP livepatch_server_reachability 1 for whether the last check was answered, 0 for the others.
    # TYPE livepatch_server_reachability gauge
    livepatch_server_reachability{state="unknown"} 0
    livepatch_server_reachability{state="reached"} 1
    livepatch_server_reachability{state="pending"} 0
    livepatch_server_reachability{state="unreachable"} 0
    # HELP livepatch_last_check_timestamp_seconds When the last check that succeeded ended.
    # TYPE livepatch_last_check_timestamp_seconds gauge
    livepatch_last_check_timestamp_seconds 1795521600
    # HELP livepatch_last_check_attempt_timestamp_seconds When the last check ended, however it did.
    # TYPE livepatch_last_check_attempt_timestamp_seconds gauge
    livepatch_last_check_attempt_timestamp_seconds 1795521600
    # HELP livepatch_coverage_end_timestamp_seconds When this kernel ceases to get livepatches.
    # TYPE livepatch_coverage_end_timestamp_seconds gauge
    livepatch_coverage_end_timestamp_seconds 1805500800
    # HELP livepatch_applied_timestamp_seconds When the livepatch was applied.
    # TYPE livepatch_applied_timestamp_seconds gauge
    livepatch_applied_timestamp_seconds 1795518000
    # HELP livepatch_cves CVEs that the livepatch knows, by rating and whether they are fixed now.
    # TYPE livepatch_cves gauge
    livepatch_cves{rating="negligible",fixed="false"} 0
    livepatch_cves{rating="negligible",fixed="true"} 0
    livepatch_cves{rating="low",fixed="false"} 0
    livepatch_cves{rating="low",fixed="true"} 0
    livepatch_cves{rating="medium",fixed="false"} 0
    livepatch_cves{rating="medium",fixed="true"} 0
    livepatch_cves{rating="high",fixed="false"} 0
    livepatch_cves{rating="high",fixed="true"} 1
    livepatch_cves{rating="critical",fixed="false"} 1
    livepatch_cves{rating="critical",fixed="true"} 0
    "#);
}

/// The rules of the format: samples of one name stand together behind its head, values are numbers, labels are quoted.
#[test]
fn metrics_keep_the_format_in_every_state() {
    let mut bare = status();
    (bare.kernel, bare.tier, bare.check.at, bare.patch.version) = (None, None, None, None);
    let odd = Status { client_version: "a\"b\\c\nd".into(), ..status() };
    for status in [status(), bare, odd, Status { enabled: false, ..status() }] {
        let text = metrics(&status);
        let mut current = "";
        let mut heads = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                current = help.split(' ').next().unwrap();
                assert!(heads.insert(current), "{current} stands in two places");
                continue;
            }
            if line.starts_with('#') {
                assert_eq!(line, format!("# TYPE {current} gauge"));
                continue;
            }
            let (name, value) = line.rsplit_once(' ').unwrap();
            value.parse::<i64>().unwrap();
            let labels = name.strip_prefix(current).unwrap();
            assert!(labels.is_empty() || (labels.starts_with('{') && labels.ends_with("\"}")), "{line}");
        }
    }
    assert!(
        metrics(&Status { client_version: "a\"b\\c\nd".into(), ..healthy() })
            .contains("client_version=\"a\\\"b\\\\c\\nd\"")
    );
}

#[test]
fn check_by_exit_code() {
    let recent = |state: PatchState| {
        let mut status = healthy();
        status.check.at = Some(SystemClock.now());
        status.patch.state = state;
        status
    };
    let mut disabled = healthy();
    (disabled.enabled, disabled.patch.state) = (false, PatchState::Unknown);
    for (status, arguments, expected) in [
        (recent(PatchState::Applied), &["check"][..], 0),
        (recent(PatchState::Applied), &["check", "--warning", "0s"], 1),
        (recent(PatchState::Applied), &["check", "--critical", "0s"], 2),
        (recent(PatchState::AppliedWithBug), &["check"], 2),
        (disabled, &["check"], 3),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let body = serde_json::to_string(&status).unwrap();
        let daemon = answer(directory.path(), "livepatchd.sock", "200 OK", &body);
        let output = livepatch(directory.path(), arguments, "");
        daemon.join().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{arguments:?} {}", text(&output.stdout));
        assert!(text(&output.stdout).starts_with("LIVEPATCH "));
    }
    let directory = tempfile::tempdir().unwrap();
    let output = livepatch(directory.path(), &["check"], "");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).starts_with("LIVEPATCH UNKNOWN - the daemon cannot be reached on "));
}

/// Monitoring takes 1 and 2 for levels of the host.
#[test]
fn a_check_that_cannot_say_anything_is_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| livepatch(directory.path(), arguments, "");
    let output = run(&["check", "--warning", "3"]);
    insta::assert_snapshot!(text(&output.stdout), @"LIVEPATCH UNKNOWN - invalid value '3' for '--warning <AGE>': it is not a number with s, m, h or d");
    assert!(text(&output.stderr).starts_with("error: invalid value '3' "), "{}", text(&output.stderr));
    let runtime_dir = &["--runtime-dir", "check"][..];
    for (arguments, code) in [
        (&["check", "--warning", "3"][..], 3),
        (&["check", "nonsense"], 3),
        (&["--quiet", "--nonsense", "check"], 3),
        (&[runtime_dir, &["check", "--nonsense"]].concat(), 3),
        (&["check", "--help"], 0),
        (&[runtime_dir, &["status", "--nonsense"]].concat(), 2),
        (&["cves", "check"], 2),
        (&["--nonsense"], 2),
        (&[], 2),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?} {}", text(&output.stderr));
        assert_eq!(text(&output.stdout).starts_with("LIVEPATCH UNKNOWN - "), code == 3, "{arguments:?}");
    }
    for command in ["check", "metrics"] {
        std::fs::write(directory.path().join("status.json"), serde_json::to_string(&healthy()).unwrap())
            .unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_livepatch"))
            .arg("--runtime-dir")
            .arg(directory.path())
            .arg(command)
            .stdout(std::fs::File::options().write(true).open("/dev/full").unwrap())
            .output()
            .unwrap();
        let expected = if command == "check" { 3 } else { 1 };
        assert_eq!(output.status.code(), Some(expected), "{command}");
        assert!(text(&output.stderr).starts_with("error: cannot write the output: "));
    }
}

#[test]
fn kernel_upgrade_required_by_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let leave = |change: &dyn Fn(&mut Status)| {
        let mut status = healthy();
        change(&mut status);
        std::fs::write(directory.path().join("status.json"), serde_json::to_string(&status).unwrap())
            .unwrap();
        livepatch(directory.path(), &["kernel-upgrade-required"], "").status.code()
    };
    assert_eq!(leave(&|_| ()), Some(1));
    assert_eq!(leave(&|status| status.patch.state = PatchState::KernelUpgradeRequired), Some(0));
    for (code, exit) in
        [("unpatchable-cve", 0), ("window-ended", 0), ("series-ended", 0), (NEWER_KERNEL_INSTALLED, 1)]
    {
        assert_eq!(leave(&|status| status.reboot = Some(reboot(code, None))), Some(exit), "{code}");
    }
    assert_eq!(leave(&|status| status.enabled = false), Some(3));
    std::fs::remove_file(directory.path().join("status.json")).unwrap();
    assert_eq!(livepatch(directory.path(), &["kernel-upgrade-required"], "").status.code(), Some(4));
}

#[test]
fn metrics_into_a_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("status.json"), serde_json::to_string(&healthy()).unwrap()).unwrap();
    let file = directory.path().join("livepatch.prom");
    for _ in 0..2 {
        let output = livepatch(directory.path(), &["metrics", "--output", file.to_str().unwrap()], "");
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), ""));
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(written.contains("\nlivepatch_daemon_answers 0\n"), "{written}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary files are left");
    let output = livepatch(directory.path(), &["metrics", "--output", "/no/such/directory/x"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: cannot write /no/such/directory/x: "));
}

/// The script at login asks no daemon, not even one that is there and silent.
#[test]
fn the_message_at_login_waits_for_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let silent = std::os::unix::net::UnixListener::bind(directory.path().join("livepatchd.sock")).unwrap();
    silent.set_nonblocking(true).unwrap();
    let said = || {
        let output = livepatch(directory.path(), &["motd"], "");
        assert_eq!(silent.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "nobody came");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
        text(&output.stdout).to_owned()
    };
    assert_eq!(said(), "");
    let mut left = healthy();
    left.patch.state = PatchState::ApplyFailed;
    std::fs::write(directory.path().join("status.json"), serde_json::to_string(&left).unwrap()).unwrap();
    assert!(said().starts_with("\nlivepatch: livepatch 113.1 could not be applied\n"));
    // Without the program it says nothing and succeeds.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dist/livepatch/etc/update-motd.d/90-livepatch");
    let output = Command::new("/bin/sh").args(["-e", script]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[test]
fn quiet_leaves_the_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("status.json"), serde_json::to_string(&healthy()).unwrap()).unwrap();
    let output = livepatch(directory.path(), &["status", "--quiet"], "");
    assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(4), "", ""));
    let output = livepatch(directory.path(), &["-q", "refresh"], "");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(4), ""));
    assert!(text(&output.stderr).starts_with("error: "));
}

/// From 90 days before the end of the series, and from 30 before that of the build; to the last day.
#[test]
fn a_cover_that_ends_soon_is_a_warning() {
    let mut all = String::new();
    for (level, until, series_until) in [
        (Level::Ok, "2026-12-25", ""),
        (Level::Warning, "2026-12-24", ""),
        (Level::Warning, "2026-11-24", ""),
        (Level::Ok, "", "2027-02-23"),
        (Level::Warning, "", "2027-02-22"),
        // The end of the series goes before that of the build, whichever comes first.
        (Level::Warning, "2026-12-01", "2027-02-22"),
        (Level::Warning, "2026-12-01", "2027-02-23"),
        (Level::Ok, "", ""),
    ] {
        let (found, line) = line(|status| {
            (status.coverage.until, status.coverage.series_until) =
                (until.parse().ok(), series_until.parse().ok());
        });
        assert_eq!(found, level, "{until} {series_until}: {line}");
        all += &line;
    }
    insta::assert_snapshot!(all, @"
    LIVEPATCH OK - livepatch 113.1 is applied | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH WARNING - livepatches for this kernel end on 2026-12-24 | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH WARNING - livepatches for this kernel end on 2026-11-24 | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH OK - livepatch 113.1 is applied | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH WARNING - livepatches for this series of kernels end on 2027-02-22 | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH WARNING - livepatches for this series of kernels end on 2027-02-22 | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH WARNING - livepatches for this kernel end on 2026-12-01 | fixed=1 open=0 age=600s;86400;259200
    LIVEPATCH OK - livepatch 113.1 is applied | fixed=1 open=0 age=600s;86400;259200
    ");
    // What has ended is not soon any more, and a cover that is not known ends never.
    for state in [CoverageState::Unknown, CoverageState::NotCovered] {
        let (level, line) = line(|status| {
            (status.coverage.state, status.coverage.until) = (state, "2026-12-01".parse().ok());
        });
        assert_eq!(level, Level::Ok, "{line}");
    }
}

/// The same by the program, with this machine's clock: what monitoring runs.
#[test]
fn the_exit_code_says_that_a_cover_ends_soon() {
    let now = SystemClock.now();
    let today = now.to_zoned_datetime(jiff::tz::TimeZone::UTC).date();
    let in_days = |days: i64| today.checked_add(jiff::SignedDuration::from_hours(24 * days)).ok();
    // A day to spare on the good side: midnight may come in between.
    for (until, series_until, exit, words) in [
        (in_days(30), None, 1, "LIVEPATCH WARNING - livepatches for this kernel end on "),
        (None, in_days(90), 1, "LIVEPATCH WARNING - livepatches for this series of kernels end on "),
        (in_days(32), in_days(92), 0, "LIVEPATCH OK - "),
    ] {
        let mut status = healthy();
        status.check.at = Some(now);
        (status.coverage.until, status.coverage.series_until) = (until, series_until);
        let directory = tempfile::tempdir().unwrap();
        let body = serde_json::to_string(&status).unwrap();
        let daemon = answer(directory.path(), "livepatchd.sock", "200 OK", &body);
        let output = livepatch(directory.path(), &["check"], "");
        daemon.join().unwrap();
        let line = text(&output.stdout);
        assert_eq!(output.status.code(), Some(exit), "{line}");
        assert!(line.starts_with(words), "{line}");
    }
}
