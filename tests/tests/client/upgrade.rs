//! From one livepatch to the next, and back by the operator's word.

use livepatch_tests::cloud_kernel;
use livepatch_types::PatchState;
use livepatch_vm::Command;

use crate::host::{BOUND, Host};
use crate::patches::{FIXES, patches};
use crate::site::{Site, free_port};

/// The only livepatch that is in force and loaded, and how often the two versions were applied.
fn only(host: &Host, version: &str, applications: [usize; 2]) {
    let module = format!("livepatch_{}", version.replace('.', "_"));
    let kernel = host.kernel();
    let mut expected =
        vec![format!("{module}/enabled 1"), format!("{module}/transition 0"), format!("module {module}")];
    expected
        .extend(kernel.iter().filter(|line| line.starts_with("taint") || line.starts_with("log")).cloned());
    assert_eq!(kernel, expected);
    let status = host.status();
    assert_eq!((status.patch.state, status.problem.clone()), (PatchState::Applied, None), "{status:?}");
    assert_eq!(status.patch.version.unwrap().to_string(), version);
    assert_eq!(["livepatch_1_1", "livepatch_2_1"].map(|name| host.applications(name)), applications);
    assert_eq!(host.checks(), [0, 0]);
}

#[test]
fn to_the_next_version_and_back() {
    let Some(kernel) = cloud_kernel() else { return };
    let patches = patches(&kernel);
    let site = Site::new(&patches.vendor);
    site.publish(&patches.vendor.sign(patches.first.clone()));
    let token = site.token("t", &[]);
    let backup = site.copy();
    let port = free_port();
    let server = site.serve(port);
    let host = Host::boot(&kernel, patches, &site, port);
    host.start();
    assert_eq!(host.enable(&token).status, 0);
    only(&host, "1.1", [1, 0]);

    // The next one replaces it at once: never is a hole open in between.
    site.publish(&patches.vendor.sign(patches.second.clone()));
    let script = format!(
        "livepatch refresh >/run/refresh & while kill -0 $!; do {} || echo vulnerable; done 2>/dev/null; wait $!",
        FIXES[0]
    );
    let output = host.guest.run(&Command::shell(script), BOUND).unwrap();
    assert_eq!((output.status, output.text().contains("vulnerable")), (0, false), "{}", output.text());
    only(&host, "2.1", [1, 1]);

    // Withdrawn: the one before is offered again.
    site.run(&["patch", "withdraw", "2.1"]);
    host.expect(&["refresh"], 0);
    only(&host, "1.1", [2, 1]);

    // A server that forgot the withdrawal is not believed; what runs stays.
    drop(server);
    let old = backup.serve(port);
    host.expect(&["refresh"], 1);
    assert_eq!(host.problem().unwrap(), "document-rollback");
    drop(old);
    let _server = site.serve(port);
    host.expect(&["refresh"], 0);
    only(&host, "1.1", [2, 1]);

    // Nothing is left to offer: the kernel is as it was shipped.
    site.run(&["patch", "withdraw", "1.1"]);
    host.expect(&["refresh"], 0);
    let status = host.status();
    assert_eq!((status.patch.state, status.problem), (PatchState::NothingToApply, None));
    assert_eq!(host.kernel().iter().filter(|line| line.contains("livepatch_")).count(), 0);
    assert_eq!(host.checks(), [1, 1]);
    host.finish();
}
