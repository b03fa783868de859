//! The chain of signatures from firmware to kernel. Needs `cargo xtask setup` and `cargo xtask fetch`; says so loudly when
//! they are missing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use livepatch_vm::{BootSpec, Command, Firmware, Guest, Initramfs, Network, SignedBoot, testing};

/// A bound for what takes a second on a quiet machine.
const BOUND: Duration = Duration::from_secs(300);
const KERNEL: &str = "debian-12-cloud-6.1";

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A copy of a program with one byte changed in its middle, which is signed.
fn changed(program: &Path, directory: &Path) -> Result<PathBuf> {
    let mut bytes = std::fs::read(program)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let copy = directory.join(program.file_name().ok_or("a program without a name")?);
    std::fs::write(&copy, bytes)?;
    Ok(copy)
}

#[test]
fn each_verifies_the_next() -> Result<()> {
    let Some(kernel) = testing::kernel(KERNEL)? else { return Ok(()) };
    let Some(boot) = testing::signed_boot()? else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    let vmlinuz = kernel.tree.vmlinuz();
    let [shim, grub, other_kernel] =
        [&boot.shim, &boot.grub, &vmlinuz].map(|program| changed(program, directory.path()));
    let initrd = Initramfs::new()?.build();
    let spec = |kernel: &Path, boot: &SignedBoot| BootSpec {
        network: Network::None,
        firmware: Firmware::SignedBoot(boot.clone()),
        // Each verification takes the emulated processor a while, and the boot loaders read slowly.
        boot_timeout: Duration::from_secs(300),
        ..BootSpec::new(kernel, initrd.clone())
    };

    let started_grub = "Welcome to GRUB";
    let other = spec(&vmlinuz, &SignedBoot { shim: shim?, ..boot.clone() });
    let console = Guest::boot_until_console_says(&other, "Access Denied")?;
    assert!(!console.contains("Verification failed") && !console.contains(started_grub), "{console}");
    let other = spec(&vmlinuz, &SignedBoot { grub: grub?, ..boot.clone() });
    let console = Guest::boot_until_console_says(&other, "Verification failed: (0x1A) Security Violation")?;
    assert!(!console.contains(started_grub), "{console}");
    let other = spec(&other_kernel?, &boot);
    let console = Guest::boot_until_console_says(&other, "you need to load the kernel first")?;
    assert!(console.contains(started_grub) && console.contains("bad shim signature"), "{console}");
    assert!(!console.contains("Linux version"), "{console}");

    // And as they are, with what GRUB got for the kernel.
    let guest =
        Guest::boot(&BootSpec { kernel_args: vec!["quiet_please=1".into()], ..spec(&vmlinuz, &boot) })?;
    let console = guest.console();
    assert!(console.contains(started_grub) && console.contains("UEFI Secure Boot is enabled"), "{console}");
    let given = guest.check(&Command::new("cat").arg("/proc/cmdline"), BOUND)?;
    assert!(given.ends_with(" panic=-1 random.trust_cpu=on quiet_please=1"), "{given}");
    Ok(guest.shutdown()?)
}
