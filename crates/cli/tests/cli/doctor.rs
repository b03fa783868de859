//! What `doctor` says, by what it is told.

use livepatch_api::daemon::*;
use livepatch_cli::{Exit, HostFacts, doctor};
use livepatch_kernel::{KernelOrigin, LoadFacts};
use livepatch_types::*;

use crate::support::*;

fn facts() -> HostFacts {
    HostFacts {
        release: "6.1.0-50-amd64".into(),
        container: None,
        kernel_problem: None,
        origin: KernelOrigin::Distribution("Debian"),
        load: LoadFacts { livepatch_support: Some(true), ..load() },
        today: "2026-11-24".parse().unwrap(),
        status: Ok(status()),
    }
}

/// What somebody without rights sees of it.
fn load() -> LoadFacts {
    LoadFacts {
        livepatch_support: None,
        modules_disabled: None,
        signatures_enforced: None,
        lockdown: None,
        ftrace_enabled: None,
        taint: None,
    }
}

fn said(facts: &HostFacts) -> String {
    doctor(facts).text()
}

#[test]
fn a_host_that_is_well() {
    let diagnosis = doctor(&facts());
    assert_eq!(diagnosis.exit(), Exit::Ok);
    insta::assert_snapshot!(diagnosis.text(), @r"
    well   kernel     6.1.0-50-amd64 looks like a kernel of Debian
    well   loading    nothing seen forbids livepatches; `livepatch secure-boot status` says whose are taken
    well   daemon     the daemon asks https://livepatch.example.org
    well   enrolment  this host is enrolled
    well   check      the last check succeeded
    well   coverage   this kernel gets livepatches until 2027-03-19
    well   livepatch  livepatch 113.1 is applied
    ");
}

#[test]
fn where_nobody_applies_livepatches() {
    let unreachable = || Err(("the daemon cannot be reached".to_owned(), vec![]));
    let container = HostFacts { container: Some("lxc".into()), status: unreachable(), ..facts() };
    assert_eq!(doctor(&container).exit(), Exit::Failed);
    insta::assert_snapshot!(said(&container), @r"
    wrong  place      this is a container (lxc): the kernel 6.1.0-50-amd64 is that of its host
                      hint: install and ask livepatch on the host; all its containers are covered with it
    ");
    let release = "5.15.167.4-microsoft-standard-WSL2".into();
    insta::assert_snapshot!(said(&HostFacts { release, ..container }), @r"
    wrong  place      this is WSL: its kernel 5.15.167.4-microsoft-standard-WSL2 gets no livepatches
                      hint: Windows updates this kernel: `wsl --update` in Windows, then `wsl --shutdown`
    ");
}

/// Each thing that is wrong is named once, with what to do.
#[test]
fn what_is_wrong_is_named_with_a_hint() {
    let with = |change: &dyn Fn(&mut Status)| {
        let mut status = status();
        change(&mut status);
        HostFacts { status: Ok(status), ..facts() }
    };
    let patch = |state| with(&|status| status.patch.state = state);
    let loads = |load| HostFacts { load, ..facts() };
    let problem = Failure { code: "x".into(), message: "it is so".into(), hints: vec!["do this".into()] };
    let kernel_problem = Some(("no".to_owned(), "boot another".to_owned()));
    let unreachable = Err(("the daemon cannot be reached".to_owned(), vec!["start it".to_owned()]));
    let mut all = String::new();
    for (facts, expected) in [
        (HostFacts { kernel_problem, ..facts() }, "kernel     6.1.0-50-amd64 cannot be patched: no"),
        (HostFacts { origin: KernelOrigin::Own, ..facts() }, "kernel     6.1.0-50-amd64: "),
        (loads(LoadFacts { livepatch_support: Some(false), ..load() }), "loading    this kernel has no"),
        (
            loads(LoadFacts { modules_disabled: Some(true), ..load() }),
            "loading    this kernel loads no modules",
        ),
        (loads(LoadFacts { ftrace_enabled: Some(false), ..load() }), "loading    ftrace is switched off"),
        (HostFacts { status: unreachable, ..facts() }, "daemon     the daemon cannot be reached"),
        (with(&|status| status.server = None), "daemon     no server is configured"),
        (
            with(&|status| (status.enabled, status.patch.state) = (false, PatchState::Unknown)),
            "enrolment  this host is not enrolled",
        ),
        (with(&|status| status.check.state = CheckState::CheckFailed), "check      the last check failed"),
        (with(&|status| status.check.state = CheckState::NeedsCheck), "check      the server was not asked"),
        (with(&|status| status.problem = Some(problem.clone())), "problem    it is so"),
        (patch(PatchState::KernelUpgradeRequired), "livepatch  this kernel gets no livepatches any more"),
        (patch(PatchState::Unapplied), "livepatch  livepatch 113.1 is not applied"),
        (patch(PatchState::AppliedWithBug), "livepatch  the kernel complained about livepatch 113.1"),
        (patch(PatchState::Unknown), "livepatch  what is applied is not known yet"),
        (
            with(&|status| (status.patch.state, status.patch.held) = (PatchState::Unapplied, true)),
            "livepatch  livepatch 113.1 is held back",
        ),
    ] {
        let text = said(&facts);
        assert_eq!(text.matches("wrong  ").count(), 1, "{text}");
        assert!(text.contains(&format!("wrong  {expected}")) && text.contains("hint: "), "{text}");
        assert_eq!(doctor(&facts).exit(), Exit::Failed);
        let (_, wrong) = text.split_once("wrong  ").unwrap();
        all += &wrong.split_inclusive('\n').take_while(|line| !line.starts_with("well ")).collect::<String>();
    }
    insta::assert_snapshot!(all, @r#"
    kernel     6.1.0-50-amd64 cannot be patched: no
                      hint: boot another
    kernel     6.1.0-50-amd64: no distribution that is known here built it
                      hint: livepatches for a kernel of your own are built with `livepatch-build --vmlinux`, and published by your server
    loading    this kernel has no livepatching
                      hint: boot a kernel of the distribution, built with CONFIG_LIVEPATCH=y
    loading    this kernel loads no modules until the next boot
                      hint: unset kernel.modules_disabled in sysctl.d, and reboot
    loading    ftrace is switched off, through which livepatches work
                      hint: sysctl kernel.ftrace_enabled=1
    daemon     the daemon cannot be reached
                      hint: start it
    daemon     no server is configured
                      hint: set server = "https://…" in /etc/livepatch/livepatch.toml, then `systemctl restart livepatchd`
    enrolment  this host is not enrolled: it asks nobody and applies nothing by itself
                      hint: `livepatch enable --token-file FILE` with a token of the server's operator
    check      the last check failed
                      hint: `livepatch refresh` asks again
    check      the server was not asked since the daemon started
                      hint: `livepatch refresh` asks now
    problem    it is so
                      hint: do this
    livepatch  this kernel gets no livepatches any more
                      hint: install a newer kernel, and reboot
    livepatch  livepatch 113.1 is not applied
                      hint: `livepatch explain` says why
    livepatch  the kernel complained about livepatch 113.1
                      hint: `livepatch explain` says why
    livepatch  what is applied is not known yet
                      hint: `livepatch refresh` asks now
    livepatch  livepatch 113.1 is held back since it was reverted here
                      hint: `livepatch apply` applies it
    "#);
    let applying = said(&patch(PatchState::Applying));
    insta::assert_snapshot!(applying.lines().last().unwrap(), @"well   livepatch  livepatch 113.1 is being applied");
    assert_eq!(doctor(&loads(load())).exit(), Exit::Ok, "what cannot be seen is not wrong");
}

/// What the network or the owner of the host still has to let happen is not wrong.
#[test]
fn what_is_waited_for_is_not_wrong() {
    let said = |change: &dyn Fn(&mut Status)| {
        let mut status = status();
        change(&mut status);
        let diagnosis = doctor(&HostFacts { status: Ok(status), ..facts() });
        assert_eq!(diagnosis.exit(), Exit::Ok, "{}", diagnosis.text());
        let text = diagnosis.text();
        let rest = text.split_inclusive('\n').skip_while(|line| !line.starts_with("soon "));
        rest.take_while(|line| !line.starts_with("well ")).collect::<String>()
    };
    let waits = |code: &'static str| {
        said(&move |status| {
            status.patch.state = PatchState::Unapplied;
            status.patch.waiting =
                Some(Waiting { code: code.into(), message: "it waits".into(), ..waiting() });
        })
    };
    let pending = said(&|status| {
        status.check.state = CheckState::NeedsCheck;
        status.check.reachability = Reachability::Pending;
    });
    // An older one is in force: that is well, and beside it is what comes next.
    let next = said(&|status| status.patch.waiting = Some(waiting()));
    insta::assert_snapshot!([pending, waits("maintenance-window"), waits("held-cve"), next].concat(), @"
    soon   check      the check is pending: the network is not up, it has no default route
                      hint: bring the network up (`ip route`); the check is then repeated by itself
    soon   livepatch  it waits
                      hint: `livepatch apply` does not wait
    soon   livepatch  it waits
                      hint: `livepatch hold` shows what is held, `livepatch unhold` ends it
    soon   next       livepatch 114.1 was released 2026-11-20 12:00 UTC, after the cutoff-date 2026-11-01 00:00 UTC
                      hint: change it in /etc/livepatch/livepatch.toml, and restart the daemon
    ");
    let mut both = status();
    both.patch.waiting = Some(waiting());
    let both = doctor(&HostFacts { status: Ok(both), ..facts() }).text();
    assert!(both.contains("well   livepatch  livepatch 113.1 is applied\nsoon   next "), "{both}");
}

/// No server is needed for the livepatch of a bundle; what is wrong with that is said.
#[test]
fn a_host_with_a_bundle() {
    let diagnosis = |state| {
        let mut status = status();
        (status.enabled, status.server, status.patch.state) = (false, None, state);
        let diagnosis = doctor(&HostFacts { status: Ok(status), ..facts() });
        let text = diagnosis.text().split_once("says whose are taken\n").unwrap().1.to_owned();
        (diagnosis.exit(), text)
    };
    let (exit, text) = diagnosis(PatchState::Applied);
    assert_eq!(exit, Exit::Ok);
    insta::assert_snapshot!(text, @"
    well   daemon     no server is configured, and the livepatch of a bundle needs none
    well   enrolment  this host is not enrolled: it has the livepatch of a bundle
    well   livepatch  livepatch 113.1 is applied
    ");
    let (exit, text) = diagnosis(PatchState::AppliedWithBug);
    assert_eq!(exit, Exit::Failed);
    assert!(text.contains("wrong  livepatch  the kernel complained about livepatch 113.1\n"), "{text}");
}

/// Whoever is not covered, or not for long, is told what to install: in the operator's words, not in ours.
#[test]
fn what_to_install_to_be_covered() {
    let cover = |change: &dyn Fn(&mut Status)| {
        let mut status = status();
        status.coverage.install =
            vec![covered("6.1", "linux-image-cloud-amd64", Some("2028-06-30")), covered("6.12", "x/y", None)];
        change(&mut status);
        doctor(&HostFacts { status: Ok(status), ..facts() })
    };
    let not_covered = |install: &[CoveredKernel]| {
        let install = install.to_vec();
        cover(&move |status| {
            (status.coverage.state, status.coverage.install) = (CoverageState::NotCovered, install.clone());
            status.patch.state = PatchState::NothingToApply;
            status.problem = Some(Failure {
                code: "kernel-not-covered".into(),
                message: "no livepatches for it: a proposed one".into(),
                hints: vec!["boot a released kernel".into()],
            });
        })
    };
    let packages =
        [covered("6.1", "linux-image-cloud-amd64", Some("2028-06-30")), covered("6.12", "x/y", None)];
    let text = not_covered(&packages).text();
    let (_, coverage) = text.split_once("wrong  coverage").unwrap();
    insta::assert_snapshot!(format!("coverage{coverage}"), @r"
    coverage   no livepatches for it: a proposed one
                      hint: `apt install linux-image-cloud-amd64`, and reboot: 6.1 (stable) of Debian 12 gets livepatches, until 2028-06-30
                      hint: `apt install x/y`, and reboot: 6.12 (stable) of Debian 12 gets livepatches
                      hint: boot a released kernel
    well   livepatch  the server has no livepatch for this kernel
    ");
    assert!(not_covered(&[]).text().contains("hint: boot a released kernel"));

    let until = |day: &'static str, series: bool| {
        cover(&move |status| {
            let last = Some(day.parse().unwrap());
            (status.coverage.until, status.coverage.series_until) =
                if series { (None, last) } else { (last, None) };
        })
    };
    for (day, series, said) in [
        ("2026-12-24", false, "soon   coverage   livepatches for this kernel end on 2026-12-24"),
        ("2026-12-25", false, "well   coverage   this kernel gets livepatches until 2026-12-25"),
        ("2027-02-22", true, "soon   coverage   livepatches for this series of kernels end on 2027-02-22"),
        ("2027-02-23", true, "well   coverage   this kernel gets livepatches until 2027-02-23"),
    ] {
        let diagnosis = until(day, series);
        assert!(diagnosis.text().contains(said), "{}", diagnosis.text());
        assert_eq!(diagnosis.text().contains("hint: `apt install "), said.starts_with("soon"));
        assert_eq!(diagnosis.exit(), Exit::Ok, "it is not wrong yet");
    }
    let mut all = String::new();
    for (state, said) in [
        (CoverageState::NotCovered, "the server has no livepatches for this kernel"),
        (CoverageState::Ended, "livepatches for this kernel ended"),
        (CoverageState::SeriesEnded, "livepatches for this series of kernels ended"),
        (CoverageState::UpgradeNeeded, "this kernel needs a fix that no livepatch can have"),
    ] {
        let diagnosis = cover(&|status| status.coverage.state = state);
        assert!(diagnosis.text().contains(&format!("wrong  coverage   {said}")), "{}", diagnosis.text());
        assert_eq!(diagnosis.exit(), Exit::Failed);
        let without = cover(&|status| (status.coverage.state, status.coverage.install) = (state, vec![]));
        all += without.text().split_once("wrong  ").unwrap().1.split_once("well ").unwrap().0;
    }
    insta::assert_snapshot!(all, @"
    coverage   the server has no livepatches for this kernel
                      hint: install a newer kernel of the distribution, and reboot
    coverage   livepatches for this kernel ended
                      hint: install a newer kernel of the distribution, and reboot
    coverage   livepatches for this series of kernels ended
                      hint: install a newer kernel of the distribution, and reboot
    coverage   this kernel needs a fix that no livepatch can have
                      hint: install a newer kernel of the distribution, and reboot
    ");
}

/// Any user, any place: there is an answer.
#[test]
fn it_always_answers() {
    let empty = tempfile::tempdir().unwrap();
    let output = livepatch(empty.path(), &["doctor", "--format", "json"], "");
    assert_eq!(output.status.code(), Some(1));
    fits("doctor", &output.stdout);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&said["schema"], &said["well"]), (&1.into(), &false.into()));
    let hints = said["findings"].as_array().unwrap().last().unwrap()["hints"].as_array().unwrap();
    assert!(!hints.is_empty());
}
