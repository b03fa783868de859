//! The whole life of a livepatch on a host that does what it should.

use livepatch_api::daemon::Status;
use livepatch_tests::cloud_kernel;
use livepatch_types::{CheckState, PatchState};
use livepatch_vm::Command;

use crate::host::{BOUND, Host, PATIENCE};
use crate::patches::patches;
use crate::site::{Site, free_port};

const MODULE: &str = "livepatch_1_1";

fn applied(status: &Status) {
    assert_eq!(status.patch.state, PatchState::Applied, "{status:?}");
    assert_eq!(status.patch.version.unwrap().to_string(), "1.1");
    assert!(status.patch.cves.len() == 2 && status.patch.cves.iter().all(|cve| cve.patched), "{status:?}");
}

#[test]
fn from_enable_to_disable() {
    let Some(kernel) = cloud_kernel() else { return };
    let patches = patches(&kernel);
    let site = Site::new(&patches.vendor);
    site.publish(&patches.vendor.sign(patches.first.clone()));
    let token = site.token("t", &[]);
    let port = free_port();
    let server = site.serve(port);
    let host = Host::boot(&kernel, patches, &site, port);

    // Nothing yet.
    assert_eq!(host.livepatch(&["status"]).status, 4, "no daemon");
    host.start();
    assert!(host.expect(&["status"], 3).text().contains("enabled     no"));
    host.expect(&["refresh"], 3);
    assert_eq!(host.checks(), [1, 1]);
    let untouched = host.kernel();

    // Applied.
    let output = host.enable(&token);
    assert_eq!(output.status, 0, "{}", output.error_text());
    assert!(output.text().contains("1.1 applied since "), "{}", output.text());
    let text = host.expect(&["status"], 0).text();
    assert!(text.contains("CVE-2026-93146  high    fixed  the fix of CVE-2026-93146"), "{text}");
    let status = host.status();
    applied(&status);
    assert_eq!((status.enabled, status.check.state, &status.problem), (true, CheckState::Checked, &None));
    assert_eq!(host.checks(), [0, 0]);
    assert_eq!(host.enable(&token).status, 1, "it is enrolled already");
    host.expect(&["refresh"], 0);
    assert_eq!(host.applications(MODULE), 1);
    assert!(
        !host
            .shell(
                "cat /run/log/livepatchd /var/lib/livepatch/state.json /var/lib/livepatch-loader/state.json"
            )
            .contains(&token)
    );

    // Reverted and held.
    host.expect(&["revert"], 0);
    assert_eq!(host.checks(), [1, 1]);
    host.expect(&["refresh"], 0);
    let status = host.status();
    assert_eq!((status.patch.state, status.patch.held), (PatchState::Unapplied, true));
    host.stop("TERM");
    host.start();
    host.expect(&["refresh"], 0);
    assert_eq!((host.checks(), host.applications(MODULE)), ([1, 1], 1));
    host.expect(&["apply"], 0);
    assert_eq!((host.checks(), host.applications(MODULE)), ([0, 0], 2));

    // The daemon comes and goes.
    for signal in ["TERM", "KILL"] {
        host.stop(signal);
        host.start();
        host.expect(&["refresh"], 0);
        applied(&host.status());
        assert_eq!((host.problem(), host.applications(MODULE)), (None, 2), "{signal}");
    }

    // A daemon that hangs: its last word is shown, as that. (Below it is one that is gone.)
    let last_word = |status: i32| {
        let look = || host.guest.run(&Command::new("livepatch").arg("status").as_user(), BOUND).unwrap();
        let mut output = look();
        for _ in 0..PATIENCE {
            if output.status == status {
                break;
            }
            output = look();
        }
        assert_eq!(output.status, status, "{}", output.error_text());
        assert!(output.text().contains("1.1 applied since "), "{}", output.text());
        assert_eq!(output.text().contains("the daemon does not answer"), status == 4);
    };
    host.shell("kill -STOP $(pidof livepatchd)");
    last_word(4);
    host.shell("kill -CONT $(pidof livepatchd)");
    last_word(0);

    // The server goes: what is applied stays, and the status says both.
    drop(server);
    host.stop("TERM");
    last_word(4);
    host.start();
    host.wait_for("livepatch status | grep -c server-unreachable", "1");
    let status = host.status();
    applied(&status);
    assert_eq!(status.check.state, CheckState::CheckFailed);
    assert_eq!((host.checks(), host.applications(MODULE)), ([0, 0], 2));
    host.expect(&["refresh"], 1);

    // The end needs no server.
    host.expect(&["disable"], 0);
    assert!(host.expect(&["status"], 3).text().contains("enabled     no"));
    assert_eq!(host.checks(), [1, 1]);
    let left = host.kernel();
    assert_eq!(left.len(), untouched.len(), "no livepatch, no module: {left:?}");
    let state = host.shell("cat /var/lib/livepatch/state.json");
    assert!(state.contains("\"enrolment\": null"), "{state}");
    let state = host.shell("cat /var/lib/livepatch-loader/state.json");
    assert!(state.contains("\"channel\": \"closed\"") && state.contains("\"applied\": null"), "{state}");
    assert_eq!(host.shell("ls /var/lib/livepatch-loader/objects"), "");
    host.finish();
}
