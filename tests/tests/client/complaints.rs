//! A livepatch of which the kernel complains: the observer tells, and it is not loaded again.

use livepatch_build::pipeline::{LivepatchRequest, PatchRequest, Workbench};
use livepatch_manifest::Bundle;
use livepatch_tests::{cloud_kernel, kernel_request, livepatch_request, replace_line};
use livepatch_types::{PatchState, PatchVersion, SystemClock};

use crate::host::Host;
use crate::patches::{Patches, patches};
use crate::site::{Site, free_port};

const CMDLINE: &str = "fs/proc/cmdline.c";
const MODULE: &str = "livepatch_1_1";

/// Says in /proc/cmdline that it is in force, and complains.
fn that_warns(workbench: &Workbench) -> Bundle {
    let end = "seq_putc(m, '\\n');";
    let warns = format!("WARN_ON(1);\n\t{end}");
    let patches = vec![replace_line(workbench.tree().path(), CMDLINE, end, &warns)];
    let request = PatchRequest { patches, arguments: Vec::new() };
    let livepatch = LivepatchRequest { version: PatchVersion::parse("1.1").unwrap(), ..livepatch_request() };
    workbench.build(&request, &livepatch, &SystemClock, &|_| ()).unwrap().bundle
}

fn locks(host: &Host) -> Vec<String> {
    let text = host.expect(&["locks", "list", "--format", "json"], 0).text();
    let listed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let lock = |lock: &serde_json::Value| format!("{} {}", lock["kind"], lock["version"]).replace('"', "");
    listed["locks"].as_array().unwrap().iter().map(lock).collect()
}

#[test]
fn a_livepatch_that_the_kernel_complains_of_is_not_loaded_again() {
    let Some(kernel) = cloud_kernel() else { return };
    let patches: &Patches = patches(&kernel);
    let site = Site::new(&patches.vendor);
    let workbench = Workbench::open(&kernel_request(&kernel), &|_| ()).unwrap();
    site.publish(&patches.vendor.sign(that_warns(&workbench)));
    let port = free_port();
    let _server = site.serve(port);
    let host = Host::boot(&kernel, patches, &site, port);
    host.start();
    let output = host.enable(&site.token("t", &[]));
    assert_eq!(output.status, 0, "{}", output.error_text());
    let status = host.status();
    assert_eq!((status.patch.state, &status.problem), (PatchState::Applied, &None));
    assert_eq!(status.notes, [], "the observer is there");
    for program in ["livepatchd", "livepatch-loader", "livepatch-observer"] {
        assert_eq!(host.shell(&format!("sed -n 's/^Seccomp:\\s*//p' /proc/$(pidof {program})/status")), "2");
        let log = host.shell(&format!("grep 'confined by itself' /run/log/{program}"));
        let expected = if program == "livepatch-observer" { "not asked for" } else { "in force as far" };
        assert!(log.contains(&format!("files={expected}")) && log.contains("syscalls=in force"), "{log}");
    }

    // It complains, and stays in force.
    host.shell("cat /proc/cmdline");
    host.wait_for("livepatch locks list | grep -c with-bug", "1");
    host.run_refresh();
    let status = host.status();
    assert_eq!(status.patch.state, PatchState::AppliedWithBug);
    let problem = status.problem.unwrap();
    assert_eq!(problem.code, "kernel-complained");
    assert!(problem.hints[0].contains("cmdline_proc_show"), "{problem:?}");
    assert_eq!(locks(&host), ["with-bug 1.1"]);

    // Taken away by somebody, it does not come back by itself, whoever restarts what.
    host.shell(&format!("echo 0 >/sys/kernel/livepatch/{MODULE}/enabled"));
    host.wait_for(&format!("test -e /sys/kernel/livepatch/{MODULE} || echo gone"), "gone");
    host.stop("TERM");
    host.start();
    host.run_refresh();
    assert_eq!((host.applications(MODULE), locks(&host)), (1, vec!["with-bug 1.1".to_owned()]));
    assert_eq!(host.problem().as_deref(), Some("kernel-complained"));

    // Root says that it may.
    host.expect(&["apply"], 0);
    assert_eq!((host.applications(MODULE), locks(&host)), (2, vec![]));
    assert_eq!(host.status().patch.state, PatchState::Applied);

    // Without the observer all goes on, and the status says what is missing.
    host.shell("kill $(pidof livepatch-observer)");
    host.wait_for("livepatch refresh >/dev/null; livepatch status | grep -c observer-unreachable", "1");
    assert_eq!(host.status().patch.state, PatchState::Applied);
    host.guest.shutdown().unwrap();
}
