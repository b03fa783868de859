//! Kernels that take modules of known signers only.

use livepatch_tests::cloud_kernel;
use livepatch_types::PatchState;
use livepatch_vm::{BootSpec, Command, Firmware, SecureBootKeys};

use crate::host::{BOUND, Host};
use crate::patches::{Vendor, patches};
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
    let enforcing = |spec: &mut BootSpec| spec.kernel_args.push("module.sig_enforce=1".into());
    let host = Host::boot_on(&kernel, patches, &site, port, enforcing, |initramfs| {
        initramfs.file("/signed.ko", 0o644, bundle.module.clone()).unwrap();
    });
    let untouched = host.kernel();

    let insmod = host.guest.run(&Command::new("insmod").arg("/signed.ko"), BOUND).unwrap();
    assert!(insmod.error_text().contains("Key was rejected by service"), "{}", insmod.error_text());

    host.start();
    let output = host.enable(&token);
    assert_eq!(output.status, 0, "enrolled, though the livepatch is not applied: {}", output.error_text());
    assert!(output.error_text().contains("(kernel-untrusted-key)\nhint: "), "{}", output.error_text());
    let status = host.status();
    assert_eq!((status.enabled, status.patch.state), (true, PatchState::ApplyFailed));
    let problem = status.problem.unwrap();
    assert_eq!(problem.code, "kernel-untrusted-key");
    assert_eq!(problem.message, "the kernel does not trust the key that signed the module");
    assert!(problem.hints[0].contains("livepatch secure-boot enroll"), "{problem:?}");
    assert_eq!((host.kernel(), host.checks()), (untouched, [1, 1]));
    host.finish();
}

/// tests/secure_boot.rs loads by hand; the daemon hands the kernel a sealed memory file instead of one of a file system.
#[test]
fn under_secure_boot_a_known_signer_is_enough() {
    let Some(kernel) = cloud_kernel() else { return };
    let patches = patches(&kernel);
    let site = Site::new(&patches.vendor);
    site.publish(&patches.vendor.sign(patches.first.clone()));
    let token = site.token("t", &[]);
    let port = free_port();
    let _server = site.serve(port);
    let secure_boot = |spec: &mut BootSpec| {
        spec.firmware = Firmware::SecureBoot(SecureBootKeys {
            platform: Vendor::new("owner").certificate_der,
            db: vec![patches.vendor.certificate_der.clone()],
            ..SecureBootKeys::default()
        });
    };
    let host = Host::boot_on(&kernel, patches, &site, port, secure_boot, |_| ());
    assert_eq!(host.shell("cat /sys/module/module/parameters/sig_enforce"), "Y");

    host.start();
    let output = host.enable(&token);
    assert_eq!(output.status, 0, "{} {}", output.text(), output.error_text());
    assert_eq!((host.problem(), host.checks()), (None, [0, 0]));
    // Out of the kernel's tree (12) and livepatch (15), but not unsigned (13).
    assert_eq!(host.shell("cat /proc/sys/kernel/tainted"), (1 << 12 | 1 << 15).to_string());
    host.finish();
}
