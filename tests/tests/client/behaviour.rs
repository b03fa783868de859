//! What the port to the kernel promises (`crates/kernel/tests/behaviour.rs`), kept by a real kernel.

use livepatch_tests::cloud_kernel;
use livepatch_tests::guest::kernel_tests;
use livepatch_vm::{BootSpec, Command, Guest, Initramfs, Network};

use crate::host::BOUND;
use crate::patches::patches;

#[test]
fn a_real_kernel_behaves_like_the_fake() {
    let Some(kernel) = cloud_kernel() else { return };
    let patches = patches(&kernel);
    let mut initramfs = Initramfs::new().unwrap();
    initramfs.kernel_modules(&kernel.tree, &["cls_u32"]).unwrap();
    initramfs.program("/usr/bin/behaviour", &kernel_tests("behaviour")).unwrap();
    for (name, bundle) in [("first", &patches.first), ("second", &patches.second)] {
        initramfs.file(&format!("/modules/{name}.ko"), 0o644, bundle.module.clone()).unwrap();
        let module = bundle.manifest.version.module_name().to_string();
        initramfs.file(&format!("/modules/{name}.name"), 0o644, module).unwrap();
    }
    let spec = BootSpec::new(kernel.tree.vmlinuz(), initramfs.build());
    let guest = Guest::boot(&BootSpec { network: Network::None, ..spec }).unwrap();
    let run = Command::new("behaviour").arg("--test-threads=1").env("LIVEPATCH_GUEST_MODULES", "/modules");
    let output = guest.run(&run, BOUND).unwrap();
    assert_eq!(output.status, 0, "{}\n{}", output.text(), output.error_text());
    assert!(output.text().contains("test the_guest_lives ... ok"), "{}", output.text());
    assert!(!output.error_text().contains("SKIPPED"), "{}", output.error_text());
    assert_eq!(guest.kernel_problems().unwrap(), []);
    guest.shutdown().unwrap();
}
