//! A module that was built out of tree has the name of a patched one: its code is never touched, and the kernel's log says
//! why. What daemon and loader say is in suite `client` (`namesake.rs`).

use std::error::Error;

use livepatch_tests::guest::{SHORT, load, unload};
use livepatch_tests::{build_patches, carved_patch, cloud_kernel};
use livepatch_vm::{BootSpec, Command, Guest, Initramfs, Network};

const SAYS: &str = "module cls_u32 was built out of tree and is not the one that this livepatch is for";

/// The end of a signed module (include/linux/module_signature.h).
const SIGNED: &[u8] = b"~Module signature appended~\n";

#[test]
fn a_namesake_is_never_patched() -> Result<(), Box<dyn Error>> {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    let built = build_patches(&kernel, &[carved_patch(&kernel, "CVE-2026-74544")])?;
    // The kernel takes a module for its own by this word (kernel/module/main.c, check_modinfo).
    let mut namesake = std::fs::read(kernel.tree.module_path("cls_u32")?)?;
    let word = b"intree=Y";
    let at = namesake.windows(word.len()).position(|bytes| bytes == word).ok_or("cls_u32 is not in tree")?;
    namesake[at] = b'x';
    // Its signature would be wrong, which is worse than none.
    let signed = namesake.ends_with(SIGNED);
    namesake.truncate(namesake.len() - if signed { SIGNED.len() } else { 0 });

    let mut initramfs = Initramfs::new()?;
    initramfs.kernel_modules_unloaded(&kernel.tree, &["cls_u32"])?;
    initramfs.file("/livepatch.ko", 0o644, built.bundle.module)?;
    initramfs.file("/cls_u32.ko", 0o644, namesake)?;
    let spec = BootSpec { network: Network::None, ..BootSpec::new(kernel.tree.vmlinuz(), initramfs.build()) };
    let guest = Guest::boot(&spec)?;
    let modprobe = |arguments: &[&str]| guest.check(&Command::new("modprobe").args(arguments), SHORT);
    let refused = |file: &str| -> Result<(), Box<dyn Error>> {
        let mark = guest.mark()?;
        let output = guest.run(&Command::new("insmod").arg(file), SHORT)?;
        assert_ne!(output.status, 0, "{file} is loaded");
        let said = guest.console_since(mark)?;
        assert!(said.contains(SAYS), "{file}: {}: {said}", output.error_text());
        Ok(())
    };

    // It comes when the livepatch is there.
    load(&guest)?;
    refused("/cls_u32.ko")?;
    unload(&guest)?;
    load(&guest)?;
    modprobe(&["cls_u32"])?;
    let patched = Command::new("cat").arg("/sys/kernel/livepatch/livepatch_1_1/cls_u32/patched");
    assert_eq!(guest.check(&patched, SHORT)?, "1", "the kernel's own module is patched");
    modprobe(&["-r", "cls_u32"])?;
    unload(&guest)?;

    // It is there when the livepatch comes.
    guest.check(&Command::new("insmod").arg("/cls_u32.ko"), SHORT)?;
    refused("/livepatch.ko")?;
    let applied = Command::shell("ls /sys/kernel/livepatch");
    assert_eq!(guest.check(&applied, SHORT)?, "", "nothing is applied");
    guest.check(&Command::new("rmmod").arg("cls_u32"), SHORT)?;
    load(&guest)?;
    assert_eq!(guest.kernel_problems()?, []);
    guest.shutdown()?;
    Ok(())
}
