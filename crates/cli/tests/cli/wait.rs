//! What is ahead of a host that is waited for: nothing, time, or somebody who must act.

use std::io::Write as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use livepatch_api::daemon::*;
use livepatch_cli::{Ahead, Until};
use livepatch_types::*;

use crate::support::*;

fn with(change: impl Fn(&mut Status)) -> Status {
    let mut status = status();
    change(&mut status);
    status
}

fn patch(state: PatchState) -> Status {
    with(|status| status.patch.state = state)
}

/// A livepatch waits by the settings of its host.
fn waits(state: PatchState, until: Option<&str>) -> Status {
    with(|status| {
        status.patch.state = state;
        status.patch.waiting = Some(match until {
            None => waiting(),
            Some(at) => Waiting {
                code: "maintenance-window".into(),
                message: "livepatch 114.1 waits for a maintenance window".into(),
                until: Some(at.parse().unwrap()),
                ..waiting()
            },
        });
    })
}

/// Where the daemon and the loader stand after a livepatch could not be applied.
fn failed(stage: Stage) -> Status {
    with(|status| {
        (status.patch.state, status.patch.stage) = (PatchState::ApplyFailed, Some(stage));
        status.problem = Some(Failure {
            code: "crash-guard".into(),
            message: "it is so".into(),
            hints: vec!["do this".into()],
        });
    })
}

fn held() -> Status {
    with(|status| (status.patch.state, status.patch.held) = (PatchState::Unapplied, true))
}

const SOON: Option<&str> = Some("2026-11-28T01:00:00Z");

/// A word and the code of why; for a state that is reached, nothing.
fn said(ahead: &Ahead) -> String {
    match ahead {
        Ahead::Nothing => String::new(),
        Ahead::Time(why) => format!("time {}", why.code),
        Ahead::Somebody(why) => format!("somebody {}", why.code),
    }
}

#[test]
fn what_comes_by_itself_and_what_does_not() {
    use PatchState::*;
    let offers = |version: &str| {
        let place = RolloutPlace { version: version.parse().unwrap(), hundredths: 1 };
        with(move |status| (status.patch.state, status.patch.place) = (AppliedWithBug, Some(place)))
    };
    let asks = |by_itself, state, reachability| {
        with(move |status| {
            (status.check.by_itself, status.check.state, status.check.reachability) =
                (by_itself, state, reachability);
        })
    };
    let (failed_check, reached) = (CheckState::CheckFailed, Reachability::Reached);
    // In the mode stop, before anything was asked: nothing is known.
    let stopped = {
        let mut status = asks(false, CheckState::NeedsCheck, Reachability::Unknown);
        status.patch.state = Unknown;
        status
    };
    let unreachable = {
        let mut status = asks(true, failed_check, Reachability::Unreachable);
        (status.problem, status.patch.state) =
            (Some(Failure::new("server-unreachable", "it is so", "")), Unapplied);
        status
    };
    let blocked_and_waits = {
        let mut status = failed(Stage::Blocked);
        status.patch.waiting = waits(ApplyFailed, SOON).patch.waiting;
        status
    };
    let nobodys = |state| {
        with(move |status| {
            (status.enabled, status.patch.state, status.check.state) = (false, state, CheckState::NeedsCheck);
        })
    };
    let others = |code| {
        with(move |status| {
            (status.problem, status.patch.state) = (Some(Failure::new(code, "it is so", "")), Unapplied);
        })
    };
    // The status; what is ahead of applied, of settled.
    for (status, applied, settled) in [
        (status(), "", ""),
        (patch(Applying), "time applying", "time applying"),
        (patch(Unapplied), "time unapplied", "time unapplied"),
        (patch(Unknown), "time unknown", "time unknown"),
        (patch(NothingToApply), "time nothing-to-apply", ""),
        (patch(KernelUpgradeRequired), "somebody kernel-upgrade-required", ""),
        (held(), "somebody held", "somebody held"),
        (waits(Unapplied, None), "somebody after-cutoff", "somebody after-cutoff"),
        (waits(Unapplied, SOON), "time maintenance-window", "time maintenance-window"),
        // One is in force: that another one waits is no reason to wait.
        (waits(Applied, None), "", ""),
        (patch(AppliedWithBug), "somebody applied-with-bug", "somebody applied-with-bug"),
        (offers("113.1"), "somebody applied-with-bug", "somebody applied-with-bug"),
        (offers("114.1"), "time applied-with-bug", "time applied-with-bug"),
        (waits(AppliedWithBug, SOON), "time maintenance-window", "time maintenance-window"),
        (waits(AppliedWithBug, None), "somebody after-cutoff", "somebody after-cutoff"),
        (failed(Stage::Blocked), "somebody crash-guard", "somebody crash-guard"),
        (failed(Stage::Waiting), "time crash-guard", "time crash-guard"),
        (failed(Stage::Failed), "time crash-guard", "time crash-guard"),
        (patch(ApplyFailed), "time apply-failed", "time apply-failed"),
        // The time for which it waits does not free it.
        (blocked_and_waits, "somebody crash-guard", "somebody crash-guard"),
        (asks(true, CheckState::NeedsCheck, Reachability::Pending), "", "time needs-check"),
        (asks(true, CheckState::NeedsCheck, Reachability::Unknown), "", "time needs-check"),
        (asks(true, failed_check, reached), "", "time check-failed"),
        (others("foreign-livepatch"), "somebody foreign-livepatch", "somebody foreign-livepatch"),
        (others("foreign-module"), "somebody foreign-module", "somebody foreign-module"),
        (others("stalled-too-often"), "somebody stalled-too-often", "somebody stalled-too-often"),
        (others("transition-stalled"), "time transition-stalled", "time transition-stalled"),
        (unreachable, "time server-unreachable", "time server-unreachable"),
        (asks(false, failed_check, reached), "", "somebody check-failed"),
        (asks(false, CheckState::Checked, reached), "", ""),
        (stopped, "somebody needs-check", "somebody needs-check"),
        (nobodys(Unknown), "time not-enabled", "time not-enabled"),
        // What came with a bundle is asked of no server.
        (nobodys(Applied), "", ""),
        (nobodys(Applying), "time applying", "time applying"),
        (nobodys(AppliedWithBug), "somebody applied-with-bug", "somebody applied-with-bug"),
    ] {
        let found = [Until::Applied, Until::Settled].map(|until| said(&until.ahead(&status)));
        assert_eq!(found, [applied, settled], "{status:?}");
        assert_eq!(Until::Answers.ahead(&status), Ahead::Nothing);
        let enabled = said(&Until::Enabled.ahead(&status));
        assert_eq!(enabled, if status.enabled { "" } else { "time not-enabled" });
    }
    // Where the livepatch is has nothing to do with the check.
    assert_eq!(said(&Until::Checked.ahead(&held())), "");
    let asked_by_root = asks(false, CheckState::NeedsCheck, Reachability::Unknown);
    assert_eq!(said(&Until::Checked.ahead(&asked_by_root)), "somebody needs-check");
    assert_eq!(said(&Until::Checked.ahead(&asks(true, failed_check, reached))), "time check-failed");
}

/// A daemon that answers each request with the next status.
fn daemon(directory: &Path, statuses: &[Status]) -> JoinHandle<()> {
    let listener = UnixListener::bind(directory.join("livepatchd.sock")).unwrap();
    let bodies: Vec<String> = statuses.iter().map(|status| serde_json::to_string(status).unwrap()).collect();
    std::thread::spawn(move || {
        for body in bodies {
            let (mut stream, _) = listener.accept().unwrap();
            hear(&mut stream);
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    })
}

/// Nobody waits ten minutes for what a person holds back: the status, a line, a hint, and an exit code of its own.
#[test]
fn it_ends_where_somebody_must_act() {
    let mut all = String::new();
    for status in [
        held(),
        waits(PatchState::Unapplied, None),
        patch(PatchState::AppliedWithBug),
        failed(Stage::Blocked),
        patch(PatchState::KernelUpgradeRequired),
        with(|status| (status.check.by_itself, status.check.state) = (false, CheckState::NeedsCheck)),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let until =
            if status.patch.state == PatchState::KernelUpgradeRequired { "applied" } else { "settled" };
        let answers = daemon(directory.path(), std::slice::from_ref(&status));
        let began = Instant::now();
        let output = livepatch(directory.path(), &["wait", "--for", until, "--timeout", "10m"], "");
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        answers.join().unwrap();
        assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), status_text_now(&status));
        all += text(&output.stderr);
    }
    insta::assert_snapshot!(all, @"
    error: livepatch 113.1 is held back since it was reverted here

    hint: `livepatch apply` clears that and applies it
    error: livepatch 114.1 was released 2026-11-20 12:00 UTC, after the cutoff-date 2026-11-01 00:00 UTC

    hint: change it in /etc/livepatch/livepatch.toml, and restart the daemon
    error: livepatch 113.1 is applied, but the kernel complained afterwards

    hint: `livepatch locks list` shows of what; `livepatch locks clear` forgets it, and another version is applied by itself
    error: it is so

    hint: do this
    error: this kernel gets no livepatches any more

    hint: install a newer kernel, and reboot
    error: the server was not asked since the daemon started, and by the settings of this host it is asked only for root

    hint: `livepatch refresh` asks now; `mode` and `check-interval` say whether it is asked by itself
    ");
    // Errors are said to those who want to hear nothing, too.
    let directory = tempfile::tempdir().unwrap();
    let answers = daemon(directory.path(), &[held()]);
    let output = livepatch(directory.path(), &["wait", "--quiet"], "");
    answers.join().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(7), ""));
    assert!(text(&output.stderr).starts_with("error: livepatch 113.1 is held back"));
}

/// What it waits for is said once, however often it looks; and when it is something else.
#[test]
fn it_says_what_it_waits_for() {
    let directory = tempfile::tempdir().unwrap();
    let waiting = waits(PatchState::Unapplied, SOON);
    let answers =
        daemon(directory.path(), &[waiting.clone(), waiting, patch(PatchState::Applying), status()]);
    let output = livepatch(directory.path(), &["wait", "--timeout", "10m"], "");
    answers.join().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), status_text_now(&status()).as_str()));
    insta::assert_snapshot!(text(&output.stderr), @"
    note: livepatch 114.1 waits for a maintenance window (maintenance-window)
    hint: `livepatch apply` does not wait
    note: livepatch 113.1 is being applied (applying)
    ");
}

/// In time it does not come: what it waited for stands on stderr.
#[test]
fn it_ends_with_its_time() {
    let mut all = String::new();
    for status in [
        waits(PatchState::Unapplied, SOON),
        patch(PatchState::Unapplied),
        patch(PatchState::Unknown),
        with(|status| status.check.state = CheckState::CheckFailed),
        with(|status| {
            (status.check.state, status.check.reachability) = (CheckState::NeedsCheck, Reachability::Pending)
        }),
        with(|status| status.check.state = CheckState::NeedsCheck),
        with(|status| (status.enabled, status.patch.state) = (false, PatchState::Unknown)),
        patch(PatchState::ApplyFailed),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let answers = daemon(directory.path(), std::slice::from_ref(&status));
        let output = livepatch(directory.path(), &["wait", "--timeout", "0s"], "");
        answers.join().unwrap();
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(1), status_text_now(&status).as_str())
        );
        all += text(&output.stderr);
    }
    let nothing = patch(PatchState::NothingToApply);
    let replaced = with(|status| {
        let place = RolloutPlace { version: "114.1".parse().unwrap(), hundredths: 1 };
        (status.patch.state, status.patch.place) = (PatchState::AppliedWithBug, Some(place));
    });
    for status in [nothing, replaced] {
        let Ahead::Time(why) = Until::Applied.ahead(&status) else { panic!("{status:?}") };
        all += &format!("{}\n", why.message);
    }
    // The daemon is gone: what it left proves nothing.
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("status.json"), serde_json::to_string(&status()).unwrap()).unwrap();
    let output = livepatch(directory.path(), &["wait", "--timeout", "0s"], "");
    assert_eq!(output.status.code(), Some(1));
    let (left, rest) = text(&output.stderr).split_once("; this is what it knew on ").unwrap();
    insta::assert_snapshot!(format!("{all}{left}…\n{}", rest.split_once('\n').unwrap().1), @"
    note: livepatch 114.1 waits for a maintenance window (maintenance-window)
    hint: `livepatch apply` does not wait
    note: livepatch 113.1 is not applied yet (unapplied)
    note: whether a livepatch is applied is not known yet (unknown)
    note: the last check failed (check-failed)
    note: the check is pending: the network is not up (needs-check)
    note: the server was not asked since the daemon started (needs-check)
    note: this host is not enrolled (not-enabled)
    hint: `livepatch enable --token-file FILE` enrols it
    note: livepatch 113.1 could not be applied (apply-failed)
    hint: `livepatch locks list` shows what keeps it back
    the server has no livepatch for this kernel
    livepatch 113.1 is to be replaced: the kernel complained of it
    note: the daemon does not answer…
    hint: `systemctl status livepatchd` says whether it runs; a livepatch that is applied stays applied
    ");
}
