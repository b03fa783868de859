//! A kernel that takes modules of known signers only, and does not know ours.

use livepatch_tests::cloud_kernel;
use livepatch_types::PatchState;
use livepatch_vm::Command;

use crate::host::{BOUND, Host};
use crate::patches::patches;
use crate::site::{Site, free_port};

#[test]
fn the_kernels_refusal_is_explained() {
    let Some(kernel) = cloud_kernel() else { return };
    let patches = patches(&kernel);
    let site = Site::new(&patches.vendor);
    let bundle = patches.vendor.sign(patches.first.clone());
    site.publish(&bundle);
    let token = site.token("t", &[]);
    let port = free_port();
    let _server = site.serve(port);
    let host = Host::boot_with(&kernel, patches, &site, port, &["module.sig_enforce=1"], |initramfs| {
        initramfs.file("/signed.ko", 0o644, bundle.module.clone()).unwrap();
    });
    let untouched = host.kernel();

    let insmod = host.guest.run(&Command::new("insmod").arg("/signed.ko"), BOUND).unwrap();
    assert!(insmod.error_text().contains("Key was rejected by service"), "{}", insmod.error_text());

    host.start();
    let output = host.enable(&token);
    assert_eq!(output.status, 1, "enrolled, but the livepatch is not applied: {}", output.text());
    let status = host.status();
    assert_eq!((status.enabled, status.patch.state), (true, PatchState::ApplyFailed));
    let problem = status.problem.unwrap();
    assert_eq!(problem.code, "kernel-untrusted-key");
    assert_eq!(problem.message, "the kernel does not trust the key that signed the module");
    assert!(problem.hints[0].contains("mokutil --import"), "{problem:?}");
    assert_eq!((host.kernel(), host.checks()), (untouched, [1, 1]));
    host.finish();
}
