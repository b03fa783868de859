//! A task that does not leave a function that is replaced.

use livepatch_types::PatchState;
use livepatch_vm::Command;
use livepatch_vm::testing::workspace;

use crate::host::{BOUND, Host};
use crate::machine::Machine;
use crate::prepared::Prepared;
use crate::site::free_port;

const UNIT: &str = "dist/livepatch/usr/lib/systemd/system/livepatch-observer.service";
/// What the observer's unit may name, by number (linux/capability.h).
const CAPABILITIES: [(&str, &str); 4] =
    [("CAP_DAC_READ_SEARCH", "2"), ("CAP_SYS_PTRACE", "19"), ("CAP_SYS_ADMIN", "21"), ("CAP_SYSLOG", "34")];
/// Long enough for a transition that nobody holds up, and to be looked at, on a busy machine.
const TIMEOUT: &str = "transition-timeout = \"30s\"";

/// The observer's rights, as its unit has them.
fn rights_of_unit() -> String {
    let unit = std::fs::read_to_string(workspace().join(UNIT)).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let number = |name| CAPABILITIES.iter().find(|(known, _)| *known == name).unwrap().1;
    line.split_whitespace().map(number).collect::<Vec<_>>().join(",")
}

/// Starts the observer with the rights of its unit and no others.
fn start_observer(host: &Host) {
    let observer = Command::new("with_rights").arg(rights_of_unit()).arg("livepatch-observer");
    host.guest.spawn("livepatch-observer", &observer).unwrap();
    host.wait_for("grep -c /run/livepatch-observer/observer.sock$ /proc/net/unix", "1");
    let bounding = host.shell("grep CapBnd /proc/$(pidof livepatch-observer)/status");
    assert!(bounding.ends_with("0000000400280004"), "{bounding}");
}

#[test]
fn a_stall_names_its_task_and_is_reverted() {
    let Some(prepared) = Prepared::get() else { return };
    let (site, port) = (prepared.operator_of_second(), free_port());
    let _server = site.serve(port);
    let machine = Machine::new(prepared, port);
    let host = machine.boot_bare(&site);
    host.shell(&format!("echo '{TIMEOUT}' >>/etc/livepatch/livepatch.toml"));
    start_observer(&host);
    host.start_loader(&[]);
    host.wait_for("cat /sys/kernel/livepatch/livepatch_1_1/transition", "0");
    machine.sleep_in_vfs_utimes(&host);
    let task = host.shell("pidof touch");

    host.start_daemon();
    host.guest.spawn("refresh", &Command::new("livepatch").arg("refresh")).unwrap();
    host.wait_for("cat /sys/kernel/livepatch/livepatch_2_1/transition", "1");
    assert_eq!(host.status().patch.state, PatchState::Applying);

    // Cancelled and unloaded: 1.1 is in force all the while, and the status says what happened and who held it up.
    host.wait_for("livepatch locks list --format json | grep -c stalled", "1");
    host.wait_for("pidof livepatch >/dev/null || echo gone", "gone");
    assert_eq!((machine.in_force(&host).as_str(), host.applications("livepatch_2_1")), ("1.1", 1));
    assert_eq!(host.shell("sed -n 's/^\\(livepatch_[^ ]*\\).*/\\1/p' /proc/modules"), "livepatch_1_1");
    assert_eq!(machine.locks(&host), ["stalled 2.1"]);
    let status = host.status();
    assert_eq!(status.patch.state, PatchState::Applied);
    let problem = status.problem.unwrap();
    assert_eq!(problem.code, "transition-stalled");
    let held_up = format!("it was held up by touch (pid {task}, thread {task}): ");
    let hint = problem.hints.iter().find(|hint| hint.starts_with(&held_up));
    assert!(hint.is_some_and(|hint| hint.contains(" < vfs_utimes")), "{problem:?}");
    let shown = host.guest.run(&Command::new("livepatch").arg("status"), BOUND).unwrap();
    assert!(shown.text().contains(&held_up), "{}", shown.text());

    // It is not tried again by itself until later; root's word counts at once, and the task is gone.
    host.run_refresh();
    assert_eq!(host.applications("livepatch_2_1"), 1);
    machine.thaw(&host);
    host.expect(&["apply"], 0);
    assert_eq!((machine.in_force(&host).as_str(), host.problem()), ("2.1", None));
    assert_eq!(machine.locks(&host), [""; 0]);
    host.finish();
}
