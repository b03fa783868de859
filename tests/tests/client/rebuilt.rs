//! A kernel that was built again: the release, the version and all code are those of the distribution's, its build-id is
//! not. Nothing is rebuilt for that: QEMU starts the kernel unpacked, with other bytes in its notes.

use std::path::Path;

use livepatch_build::pipeline::identify;
use livepatch_tests::cloud_kernel;
use livepatch_types::BuildId;
use livepatch_vm::BootSpec;

use crate::host::Host;
use crate::middlebox::{Change, Middlebox};
use crate::patches::{for_build_id, patches, replaced};
use crate::site::{Site, free_port};

const BUILD_ID: [u8; 20] = [0x5a; 20];

/// The loader refuses by the build-id, whoever says otherwise; so does the module itself where nobody asks the loader.
#[test]
fn attack_a_kernel_of_the_same_release_built_again() {
    let Some(kernel) = cloud_kernel() else { return };
    let patches = patches(&kernel);
    let (image, identity) = identify(&kernel.tree.vmlinuz()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let shipped = directory.path().join("shipped");
    std::fs::write(&shipped, image.vmlinux()).unwrap();
    let built_again = directory.path().join("built-again");
    std::fs::write(&built_again, replaced(image.vmlinux(), identity.build_id.as_bytes(), BUILD_ID)).unwrap();

    let site = Site::new(&patches.vendor);
    let token = site.token("t", &[]);
    let bundle = patches.vendor.sign(patches.first.clone());
    let wanted = identity.build_id.to_string();
    let boot = |vmlinux: &Path, port| {
        let machine = |spec: &mut BootSpec| spec.vmlinuz = vmlinux.to_owned();
        let host = Host::boot_on(&kernel, patches, &site, port, machine, |initramfs| {
            initramfs.file("/livepatch.ko", 0o644, bundle.module.clone()).unwrap();
        });
        assert_eq!(host.shell("uname -r"), kernel.tree.release());
        host.start();
        host
    };

    // Started like this, the kernel as it was shipped takes it.
    site.publish(&bundle);
    let port = free_port();
    let server = site.serve(port);
    let host = boot(&shipped, port);
    assert_eq!(host.enable(&token).status, 0);
    assert_eq!((host.problem(), host.checks()), (None, [0, 0]));
    host.finish();

    let host = boot(&built_again, port);
    let before = host.kernel();
    host.enable(&token);
    assert_eq!(host.problem().as_deref(), Some("kernel-not-covered"));
    drop(server);

    // A server that gives it the document of the shipped kernel, and one that calls the livepatch one for this kernel.
    let refused = |code: &str, site: &Site, document: Option<&str>| {
        let inner = free_port();
        let server = site.serve(if document.is_some() { inner } else { port });
        let change = document.map(|build_id| Change::Ask(format!("/v1/kernels/stable/{build_id}")));
        let middlebox = change.map(|change| Middlebox::start(site, port, inner, "/v1/kernels/", change));
        host.run_refresh();
        assert_eq!(host.problem().as_deref(), Some(code));
        assert_eq!((host.kernel(), host.checks()), (before.clone(), [1, 1]), "{code}");
        drop((middlebox, server));
    };
    refused("document-wrong-kernel", &site, Some(&wanted));
    let relabelled = site.copy();
    let for_this_kernel = for_build_id(&patches.first, &BuildId::from_bytes(&BUILD_ID).unwrap());
    relabelled.publish(&patches.vendor.sign(for_this_kernel));
    refused("wrong-kernel", &relabelled, None);

    // Without the loader, the module itself says no.
    host.shell("! insmod /livepatch.ko");
    assert!(host.shell("dmesg").contains(&format!("built for another kernel (build-id {wanted})")));
    assert_eq!((host.shell("ls /sys/kernel/livepatch"), host.checks()), (String::new(), [1, 1]));
    host.finish();
}
