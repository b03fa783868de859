//! What is seen on a host: its status, its kernel, and when it was patched.

use std::path::Path;
use std::time::Duration;

use livepatch_api::daemon::Status;
use livepatch_build::pipeline::Workbench;
use livepatch_manifest::Bundle;
use livepatch_tests::kernel_request;
use livepatch_types::SystemClock;
use livepatch_vm::compile_static;
use livepatch_vm::testing::{FetchedKernel, workspace};

use crate::installed::say;
use crate::machine::{Machine, Running};
use crate::patches::{FIXES, requests};

/// One livepatch with the first fix, and the next one with both.
pub(crate) fn one_and_next(kernel: &FetchedKernel) -> [Bundle; 2] {
    let workbench = Workbench::open(&kernel_request(kernel), &|_| ()).unwrap();
    [("1.1", 1), ("2.1", 2)].map(|(version, fixes)| {
        let (patches, livepatch) = requests(kernel, version, &FIXES[..fixes]);
        workbench.build(&patches, &livepatch, &SystemClock, &|_| ()).unwrap().bundle
    })
}

/// Gives a machine the programs that say whether a fix is there.
pub(crate) fn give_checks(machine: &mut Machine<'_>, directory: &Path) {
    for cve in FIXES {
        let program = directory.join(cve);
        compile_static(&workspace().join(format!("checks/{cve}.c")), &program).unwrap();
        machine.give_file(cve, 0o755, &program);
    }
}

/// The livepatches that are in force, what the checks of both fixes say (1 is vulnerable, 0 fixed), and how often the kernel
/// began to apply a livepatch since it was booted.
pub(crate) fn kernel_of(host: &Running) -> (String, [i32; 2], String) {
    (
        host.shell("ls /sys/kernel/livepatch"),
        FIXES.map(|cve| host.run(&format!("/run/payload/{cve}")).status),
        host.shell("dmesg | grep -c 'livepatch: enabling patch ' || true"),
    )
}

/// The same as values that are known: nothing in force, one, or two fixes.
pub(crate) fn fixed(fixes: usize, applications: u32) -> (String, [i32; 2], String) {
    let (livepatch, checks) = [("", [1, 1]), ("livepatch_1_1", [0, 1]), ("livepatch_2_1", [0, 0])][fixes];
    (livepatch.to_owned(), checks, applications.to_string())
}

/// What `livepatch status` says to a user who is not root.
pub(crate) fn status_of(host: &Running) -> Status {
    let text = host.run_answered("su user -c 'livepatch status --format json'");
    serde_json::from_slice(&text.stdout).unwrap()
}

/// The code of the problem in the status.
pub(crate) fn problem_of(host: &Running) -> String {
    status_of(host).problem.map(|problem| problem.code).unwrap_or_default()
}

/// Boots; the kernel must have been patched before the network was allowed, with so many fixes.
pub(crate) fn patched_again(machine: &Machine<'_>, fixes: usize) -> Running {
    let host = machine.boot();
    host.shell("modprobe -a cls_u32 sch_ingress");
    assert_eq!(kernel_of(&host), fixed(fixes, 1));
    // What the kernel logs has another clock, which is tenths of a second away from this one.
    let applied = "journalctl --quiet --boot --unit=livepatch-loader --output=short-monotonic | \
        sed -n 's/^\\[ *\\([0-9]*\\)\\.\\([0-9]*\\)\\].*: a livepatch is applied .*/\\1\\2/p'";
    let (patched, network) = (
        host.shell(applied).parse::<u64>().unwrap(),
        host.time("network-pre.target", "ActiveEnterTimestampMonotonic"),
    );
    let began = host.time("livepatch-loader", "InactiveExitTimestampMonotonic");
    let ready = host.time("livepatch-loader", "ActiveEnterTimestampMonotonic");
    say(&format!(
        "after the reboot: patched at {:.1} s, network allowed at {:.1} s, system up at {:.1} s; the loader held the boot up for {:.1} s\n",
        seconds(patched),
        seconds(network),
        seconds(host.time("", "FinishTimestampMonotonic")),
        seconds(ready - began),
    ));
    assert!(patched <= ready && ready <= network, "{patched} {ready} {network}");
    assert_eq!(host.shell("systemctl list-units --failed --plain --no-legend"), "");
    host
}

pub(crate) fn seconds(microseconds: u64) -> f64 {
    Duration::from_micros(microseconds).as_secs_f64()
}
