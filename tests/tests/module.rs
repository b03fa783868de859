//! The livepatch module itself, loaded by hand into the kernel exactly as Debian ships it.

use std::error::Error;
use std::time::Duration;

use livepatch_tests::{build_patches, carved_patch, cloud_kernel};
use livepatch_vm::{BootSpec, Command, Guest, Initramfs, Network, compile_static, testing};

const SHORT: Duration = Duration::from_secs(60);
const FIXES: [&str; 2] = ["CVE-2026-93146", "CVE-2026-74544"];
const STATE: &str = "/sys/kernel/livepatch/livepatch_1_1";

/// Runs every check program; 1 is vulnerable, 0 fixed.
fn states(guest: &Guest) -> Result<Vec<i32>, Box<dyn Error>> {
    FIXES.iter().map(|cve| Ok(guest.run(&Command::new(*cve), SHORT)?.status)).collect()
}

fn load(guest: &Guest) -> Result<(), Box<dyn Error>> {
    guest.check(&Command::new("insmod").arg("/livepatch.ko"), SHORT)?;
    guest.wait_for(&Command::new("cat").arg(format!("{STATE}/transition")), "0", SHORT)?;
    Ok(())
}

fn unload(guest: &Guest) -> Result<(), Box<dyn Error>> {
    guest.check(&Command::shell(format!("echo 0 > {STATE}/enabled")), SHORT)?;
    guest.wait_for(&Command::shell(format!("test -e {STATE} || echo gone")), "gone", SHORT)?;
    guest.check(&Command::new("rmmod").arg("livepatch_1_1"), SHORT)?;
    Ok(())
}

#[test]
fn it_fixes_vmlinux_and_modules_and_reverts() -> Result<(), Box<dyn Error>> {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    let built = build_patches(&kernel, &FIXES.map(|cve| carved_patch(&kernel, cve)))?;
    let directory = tempfile::tempdir()?;
    for (name, at_boot) in [("a module that is there already", true), ("a module that comes later", false)] {
        let mut initramfs = Initramfs::new()?;
        initramfs.kernel_modules(&kernel.tree, &["sch_ingress"])?;
        if at_boot {
            initramfs.kernel_modules(&kernel.tree, &["cls_u32"])?;
        } else {
            initramfs.kernel_modules_unloaded(&kernel.tree, &["cls_u32"])?;
        }
        initramfs.file("/livepatch.ko", 0o644, built.bundle.module.clone())?;
        for cve in FIXES {
            let program = directory.path().join(cve);
            compile_static(&testing::workspace().join(format!("checks/{cve}.c")), &program)?;
            initramfs.file_from(&format!("/usr/bin/{cve}"), 0o755, &program)?;
        }
        let spec = BootSpec::new(kernel.tree.vmlinuz(), initramfs.build());
        let guest = Guest::boot(&BootSpec { network: Network::None, ..spec })?;
        if at_boot {
            assert_eq!(states(&guest)?, [1, 1], "{name}: before");
        }
        load(&guest)?;
        if !at_boot {
            guest.check(&Command::new("modprobe").arg("cls_u32"), SHORT)?;
        }
        assert_eq!(states(&guest)?, [0, 0], "{name}: applied");
        unload(&guest)?;
        assert_eq!(states(&guest)?, [1, 1], "{name}: reverted");
        load(&guest)?;
        assert_eq!(states(&guest)?, [0, 0], "{name}: applied again");
        assert_eq!(guest.kernel_problems()?, [], "{name}");
        guest.shutdown()?;
    }
    Ok(())
}
