//! Contracts with those that reboot hosts: unattended-upgrades (`Unattended-Upgrade::Automatic-Reboot`) looks whether
//! /run/reboot-required is there, and names the packages in reboot-required.pkgs, line by line; the message at login looks for the
//! same file. (needrestart looks for neither, but at the kernels in /boot: the agent's coverage has its contract.) So the file must be there exactly when a newer kernel must be booted, or another program says so.

use std::path::Path;

use livepatch_api::daemon::*;
use livepatch_types::PatchState;

use crate::support::*;

/// As unattended-upgrades does: whether it reboots, and what it says for.
fn unattended_upgrades(directory: &Path) -> (bool, Vec<String>) {
    let packages = std::fs::read_to_string(directory.join("reboot-required.pkgs")).unwrap_or_default();
    let mut packages: Vec<String> = packages.lines().map(|line| line.trim().to_owned()).collect();
    packages.sort();
    packages.dedup();
    (directory.join("reboot-required").exists(), packages)
}

struct Machine(tempfile::TempDir);

impl Machine {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// What the daemon left is this; the exit code of the command.
    fn update(&self, reboot: Option<Reboot>, state: PatchState) -> Option<i32> {
        let mut status = Status { reboot, ..status() };
        status.patch.state = state;
        std::fs::write(self.file("status.json"), serde_json::to_string(&status).unwrap()).unwrap();
        let directory = self.0.path().to_str().unwrap();
        livepatch(self.0.path(), &["reboot-required", "--directory", directory], "").status.code()
    }
}

fn needed() -> Option<Reboot> {
    Some(reboot("unpatchable-cve", None))
}

#[test]
fn it_is_there_exactly_when_a_newer_kernel_must_be_booted() {
    let machine = Machine::new();
    for (reason, state, exit) in [
        (None, PatchState::Applied, 1),
        (needed(), PatchState::Applied, 0),
        (needed(), PatchState::Applied, 0),
        (None, PatchState::Applied, 1),
        (None, PatchState::KernelUpgradeRequired, 0),
        // Installed and not booted alone is what livepatches are for.
        (Some(reboot(NEWER_KERNEL_INSTALLED, Some("6.1.0-51-amd64"))), PatchState::Applied, 1),
        (Some(reboot("window-ended", None)), PatchState::Applied, 0),
        (None, PatchState::Unknown, 1),
    ] {
        assert_eq!(machine.update(reason.clone(), state), Some(exit), "{reason:?}");
        let packages: &[&str] = if exit == 0 { &["livepatch"] } else { &[] };
        let (reboots, named) = unattended_upgrades(machine.0.path());
        assert_eq!(
            (reboots, named.as_slice()),
            (exit == 0, packages.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>().as_slice())
        );
    }
    machine.update(needed(), PatchState::Applied);
    let shown = || std::fs::read_to_string(machine.file("reboot-required")).unwrap();
    let with_reason = shown();
    machine.update(None, PatchState::KernelUpgradeRequired);
    insta::assert_snapshot!([with_reason, shown()].concat(), @"
    *** System restart required ***
    livepatch: it is so
    *** System restart required ***
    livepatch: a newer kernel is needed
    ");
}

#[test]
fn files_that_are_no_text_or_too_long_are_left_alone() {
    let machine = Machine::new();
    std::fs::write(machine.file("status.json"), serde_json::to_string(&status()).unwrap()).unwrap();
    let directory = machine.0.path().to_str().unwrap();
    let said = [vec![0xff], vec![b' '; (1 << 20) + 1]].map(|bytes| {
        std::fs::write(machine.file("reboot-required"), &bytes).unwrap();
        let output = livepatch(machine.0.path(), &["reboot-required", "--directory", directory], "");
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(std::fs::read(machine.file("reboot-required")).unwrap(), bytes);
        text(&output.stderr).replace(directory, "DIRECTORY")
    });
    insta::assert_snapshot!(said.join("---\n"), @"
    error: cannot write DIRECTORY/reboot-required: it is no text

    hint: look at the directory and whether the file is there already
    ---
    error: cannot write DIRECTORY/reboot-required: it is too long

    hint: look at the directory and whether the file is there already
    ");
}

#[test]
fn what_another_program_wrote_is_never_changed_or_removed() {
    // As update-notifier writes it, with and without a list; and an empty one.
    for (flag, packages) in [
        ("*** System restart required ***\n", Some("linux-image-amd64\nlibc6")),
        ("*** System restart required ***\n", None),
        ("", Some("")),
    ] {
        let machine = Machine::new();
        std::fs::write(machine.file("reboot-required"), flag).unwrap();
        if let Some(packages) = packages {
            std::fs::write(machine.file("reboot-required.pkgs"), packages).unwrap();
        }
        assert_eq!(machine.update(needed(), PatchState::Applied), Some(0));
        let (reboots, named) = unattended_upgrades(machine.0.path());
        assert!(reboots && named.contains(&"livepatch".to_owned()), "{named:?}");
        assert_eq!(
            named.contains(&"libc6".to_owned()),
            packages.is_some_and(|packages| packages.contains("libc6"))
        );
        assert_eq!(machine.update(None, PatchState::Applied), Some(1));
        let (reboots, named) = unattended_upgrades(machine.0.path());
        assert!(reboots && !named.contains(&"livepatch".to_owned()), "{named:?}");
        assert_eq!(std::fs::read_to_string(machine.file("reboot-required")).unwrap(), flag);
    }
}

#[test]
fn another_program_takes_it_over() {
    let machine = Machine::new();
    machine.update(needed(), PatchState::Applied);
    std::fs::write(machine.file("reboot-required"), "*** System restart required ***\n").unwrap();
    std::fs::write(machine.file("reboot-required.pkgs"), "livepatch\nlinux-base\n").unwrap();
    assert_eq!(machine.update(None, PatchState::Applied), Some(1));
    assert_eq!(unattended_upgrades(machine.0.path()), (true, vec!["linux-base".into()]));
}

#[test]
fn nothing_is_written_without_a_status_or_for_a_host_that_is_not_enrolled() {
    let machine = Machine::new();
    let directory = machine.0.path().to_str().unwrap();
    let run =
        || livepatch(machine.0.path(), &["reboot-required", "--directory", directory], "").status.code();
    assert_eq!(run(), Some(4));
    let status = Status { enabled: false, reboot: needed(), ..status() };
    std::fs::write(machine.file("status.json"), serde_json::to_string(&status).unwrap()).unwrap();
    assert_eq!(run(), Some(1));
    assert_eq!(unattended_upgrades(machine.0.path()), (false, vec![]));
}
