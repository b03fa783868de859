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
        (with(&|status| status.enabled = false), "enrolment  this host is not enrolled"),
        (with(&|status| status.check.state = CheckState::CheckFailed), "check      the last check failed"),
        (with(&|status| status.check.state = CheckState::NeedsCheck), "check      the server was not asked"),
        (with(&|status| status.problem = Some(problem.clone())), "problem    it is so"),
        (patch(PatchState::KernelUpgradeRequired), "livepatch  this kernel gets no livepatches any more"),
        (patch(PatchState::Unapplied), "livepatch  livepatch 113.1 is not applied"),
        (patch(PatchState::AppliedWithBug), "livepatch  the kernel complained about livepatch 113.1"),
        (patch(PatchState::Unknown), "livepatch  what is applied is not known yet"),
    ] {
        let text = said(&facts);
        assert_eq!(text.matches("wrong  ").count(), 1, "{text}");
        assert!(text.contains(&format!("wrong  {expected}")) && text.contains("hint: "), "{text}");
        assert_eq!(doctor(&facts).exit(), Exit::Failed);
    }
    assert_eq!(doctor(&loads(load())).exit(), Exit::Ok, "what cannot be seen is not wrong");
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
