//! What starts the kernel: QEMU's BIOS, or UEFI firmware with Secure Boot on.
//!
//! The firmware is OVMF, as Debian packages it. It keeps its variables in flash memory, whose first content is made here
//! from a store of the package. With keys of the caller's choice QEMU hands the kernel past all that could verify it; with
//! the keys that machines are sold with, each program verifies the next: firmware, shim, GRUB, kernel.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::VmError;
use crate::variables::{self, AUTHENTICATED, GLOBAL, KEPT, SECURITY, SHIM, Variable};

/// The firmware's code. It takes variables from the operating system only in system management mode, so that a kernel
/// cannot write the keys.
const CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
/// A variable store without variables.
const EMPTY_STORE: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// A variable store with Microsoft's keys, as most machines are sold with them; Secure Boot is on.
const MICROSOFT_STORE: &str = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";

/// What starts the kernel.
#[derive(Debug, Clone, Default)]
pub enum Firmware {
    /// QEMU's own, which asks for no keys.
    #[default]
    Bios,
    /// UEFI firmware with Secure Boot on, which the kernel finds on and locks itself down.
    ///
    /// The firmware does not verify the kernel, which QEMU hands to it past its boot manager: what is tested with this is
    /// what a kernel does that was started so, and not who may start it. Fast, and `db` is the caller's.
    SecureBoot(SecureBootKeys),
    /// UEFI firmware with Secure Boot on and Microsoft's keys, which starts a distribution's boot loaders from a disk, and
    /// they the kernel, as on a machine that is bought: who is not signed starts nothing.
    ///
    /// The disk comes after those of [`crate::BootSpec::disks`].
    SignedBoot(SignedBoot),
}

/// Certificates in the firmware's variables, each in DER.
#[derive(Debug, Clone, Default)]
pub struct SecureBootKeys {
    /// Of the machine's owner: the platform key, and the key that may change `db`. A kernel trusts no module by it.
    pub platform: Vec<u8>,
    /// `db`: whose programs the firmware starts.
    pub db: Vec<Vec<u8>>,
    /// What `mokutil --import` enrols, in the variable `MokListRT` in which shim hands it to the kernel. There is no shim:
    /// the variable is there from the start.
    pub machine_owner: Vec<Vec<u8>>,
}

/// What starts the kernel from a disk, and the memory in which shim keeps whom it trusts besides its distribution.
#[derive(Debug, Clone)]
pub struct SignedBoot {
    /// shim, signed by Microsoft: the firmware verifies it.
    pub shim: PathBuf,
    /// GRUB, signed by the distribution: shim verifies it, and the kernel when GRUB starts that.
    pub grub: PathBuf,
    /// MokManager, signed by the distribution: shim starts it when a key waits to be enrolled, before all else.
    pub mok_manager: PathBuf,
    /// The firmware's variables, which a machine that is started again finds as it left them: made where there is no such
    /// file. Without it they end with the machine.
    pub variables: Option<PathBuf>,
}

/// What is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started<'a> {
    pub(crate) vmlinuz: &'a Path,
    pub(crate) initrd: &'a Path,
    pub(crate) command_line: &'a str,
}

impl Firmware {
    /// QEMU's arguments, `-machine` among them; writes into `directory` what they name.
    pub(crate) fn arguments(&self, started: Started<'_>, directory: &Path) -> Result<Vec<OsString>, VmError> {
        Ok(match self {
            Self::Bios => [words(&["-machine", "q35"]), handed_over(started)].concat(),
            Self::SecureBoot(keys) => {
                let made = directory.join("variables");
                [flash(EMPTY_STORE, &keys.variables(), &made)?, handed_over(started)].concat()
            }
            Self::SignedBoot(boot) => {
                let made = boot.variables.clone().unwrap_or_else(|| directory.join("variables"));
                let flash = if made.exists() { drives(&made) } else { flash(MICROSOFT_STORE, &[], &made)? };
                [flash, boot.disk(started, directory)?].concat()
            }
        })
    }
}

/// QEMU itself gives the kernel to the firmware.
fn handed_over(started: Started<'_>) -> Vec<OsString> {
    let mut arguments = words(&["-append", started.command_line]);
    arguments.extend(["-kernel".into(), started.vmlinuz.into(), "-initrd".into(), started.initrd.into()]);
    arguments
}

/// The firmware's code, and its variables in a file that is made: those of the package's store and these.
fn flash(store: &str, more: &[Variable<'_>], made: &Path) -> Result<Vec<OsString>, VmError> {
    let flash = fs::read(store).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => VmError::MissingProgram { program: "ovmf".into() },
        _ => VmError::io(format!("read {store}"), error),
    })?;
    let flash = variables::added(flash, more).map_err(|why| VmError::Invalid(format!("{store} {why}")))?;
    fs::write(made, flash).map_err(|e| VmError::io("write the firmware's variables", e))?;
    Ok(drives(made))
}

/// The firmware's code and a file with its variables, which it may write.
fn drives(variables: &Path) -> Vec<OsString> {
    words(&[
        "-machine",
        "q35,smm=on",
        "-global",
        "driver=cfi.pflash01,property=secure,value=on",
        "-drive",
        &format!("if=pflash,unit=0,format=raw,readonly=on,file={CODE}"),
        "-drive",
        &format!("if=pflash,unit=1,format=raw,file={}", value(variables)),
    ])
}

impl SecureBootKeys {
    fn variables(&self) -> Vec<Variable<'_>> {
        let platform = std::slice::from_ref(&self.platform);
        vec![
            Variable::new("PK", GLOBAL, KEPT | AUTHENTICATED, platform),
            Variable::new("KEK", GLOBAL, KEPT | AUTHENTICATED, platform),
            Variable::new("db", SECURITY, KEPT | AUTHENTICATED, &self.db),
            Variable::new("MokListRT", SHIM, KEPT, &self.machine_owner),
        ]
    }
}

impl SignedBoot {
    /// A disk with an EFI system partition, which QEMU makes of a directory and nobody can write to.
    fn disk(&self, started: Started<'_>, directory: &Path) -> Result<Vec<OsString>, VmError> {
        let menu = menu(started.command_line)?;
        let partition = directory.join("partition");
        for folder in ["EFI/BOOT", "EFI/debian"] {
            fs::create_dir_all(partition.join(folder))
                .map_err(|e| VmError::io("make the EFI system partition", e))?;
        }
        for (from, to) in [
            // What firmware starts from a disk that it was told nothing about (UEFI specification 2.10, 3.5.1.1).
            (&*self.shim, "EFI/BOOT/BOOTX64.EFI"),
            // shim starts what has these names beside it.
            (&*self.grub, "EFI/BOOT/grubx64.efi"),
            (&*self.mok_manager, "EFI/BOOT/mmx64.efi"),
            (started.vmlinuz, "vmlinuz"),
            (started.initrd, "initrd"),
        ] {
            fs::copy(from, partition.join(to))
                .map_err(|e| VmError::io(format!("copy {}", from.display()), e))?;
        }
        // The only place where Debian's signed GRUB looks.
        fs::write(partition.join("EFI/debian/grub.cfg"), menu)
            .map_err(|e| VmError::io("write GRUB's configuration", e))?;
        let drive = format!("if=none,id=boot,readonly=on,driver=vvfat,dir={}", value(&partition));
        Ok(words(&["-drive", &drive, "-device", "virtio-blk-pci,drive=boot,bootindex=0"]))
    }
}

/// GRUB's configuration, which asks nobody.
fn menu(command_line: &str) -> Result<String, VmError> {
    // All else has, or may get, a meaning for GRUB.
    let plain = |c: char| c.is_ascii_alphanumeric() || " =.,:/_+-".contains(c);
    if !command_line.chars().all(plain) {
        return Err(VmError::Invalid(format!("GRUB could read this in another way: {command_line:?}")));
    }
    Ok(format!("linux /vmlinuz {command_line}\ninitrd /initrd\nboot\n"))
}

/// A path in a list of QEMU's properties.
fn value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_certificates_there_is_no_variable() {
        let keys = SecureBootKeys { platform: vec![1; 5], ..SecureBootKeys::default() };
        let written = |variable: &Variable<'_>| !variable.bytes().is_empty();
        let written: Vec<bool> = keys.variables().iter().map(written).collect();
        assert_eq!(written, [true, true, false, false]);
    }

    #[test]
    fn grub_gets_the_command_line_and_nothing_that_it_could_change() {
        let menu = super::menu("console=ttyS0 panic=-1").unwrap();
        assert_eq!(menu, "linux /vmlinuz console=ttyS0 panic=-1\ninitrd /initrd\nboot\n");
        for odd in ["a=$b", "a;b", "a\nb", "a='b c'", "a#b", "{a}"] {
            assert!(super::menu(odd).unwrap_err().to_string().starts_with("GRUB could"), "{odd:?}");
        }
    }

    #[test]
    fn the_disk_has_what_firmware_shim_and_grub_look_for() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = directory.path().join(name);
            fs::write(&path, name).unwrap();
            path
        };
        let (shim, grub, mok_manager) = (file("shim"), file("grub"), file("mok"));
        let boot = SignedBoot { shim, grub, mok_manager, variables: None };
        let (vmlinuz, initrd) = (file("kernel"), file("archive"));
        let started = Started { vmlinuz: &vmlinuz, initrd: &initrd, command_line: "quiet" };
        let arguments = boot.disk(started, directory.path()).unwrap();
        let partition = directory.path().join("partition");
        assert!(arguments[1].to_string_lossy().ends_with(&*partition.to_string_lossy()), "{arguments:?}");
        for (name, content) in [
            ("EFI/BOOT/BOOTX64.EFI", "shim"),
            ("EFI/BOOT/grubx64.efi", "grub"),
            ("EFI/BOOT/mmx64.efi", "mok"),
            ("vmlinuz", "kernel"),
            ("initrd", "archive"),
        ] {
            assert_eq!(fs::read_to_string(partition.join(name)).unwrap(), content);
        }
    }
}
