//! What the firmware and the kernel's keyrings say about whose modules are loaded. Only read, never written.

use std::io::{ErrorKind, Read as _};
use std::path::Path;

use crate::efi::{MAX_VARIABLE_BYTES, efi_certificates, efi_switch, efi_variable};
use crate::keyring::{Keyring, keyrings, links};
use crate::{LinuxKernel, parse};

const EFIVARS: &str = "sys/firmware/efi/efivars";
/// Where a kernel shows the lists that shim handed to it whole; root reads them.
const MOK_VARIABLES: &str = "sys/firmware/efi/mok-variables";
/// `EFI_GLOBAL_VARIABLE`: whose `SecureBoot` and `SetupMode` are.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// `SHIM_LOCK_GUID`: whose lists of the machine owner's keys are.
const SHIM: &str = "605dab50-e046-4300-abb6-3dd810dd8b23";
/// shim splits a list that does not fit into one variable: `MokListRT`, `MokListRT1`, … More than it ever writes.
const MOST_PARTS: usize = 16;
/// Longest /proc/keys that is read, in bytes.
const MAX_KEYS_BYTES: u64 = 16 << 20;

/// What decides whose modules are loaded, besides [`crate::LoadFacts`]. What cannot be read is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecureBootFacts {
    /// Whether UEFI firmware started the kernel.
    pub uefi: bool,
    /// `SecureBoot`: the firmware starts only what is signed.
    pub secure_boot: Option<bool>,
    /// `SetupMode`: the firmware has no owner yet, and takes keys from anybody.
    pub setup_mode: Option<bool>,
    /// Certificates (DER) that the machine's owner enrolled (`MokListRT`).
    pub enrolled: Option<Vec<Vec<u8>>>,
    /// Those that wait for the owner's word at the next boot (`MokNew`).
    pub pending: Option<Vec<Vec<u8>>>,
    /// The kernel's keyrings; only root sees them.
    pub keyrings: Option<Vec<Keyring>>,
    /// Whether the kernel is one that takes modules signed by keys of the keyring `platform`, as those of Debian and Ubuntu
    /// do; others believe these keys for kernels that are booted alone.
    pub platform_signs_modules: Option<bool>,
}

impl LinuxKernel {
    /// Reads what can be read.
    pub fn secure_boot(&self) -> SecureBootFacts {
        let efivars = self.path(EFIVARS);
        let variable = |name: &str, vendor: &str| Variable::read(&efivars.join(format!("{name}-{vendor}")));
        // Without efivarfs there is nothing in it: then what is not there is not known.
        let mounted = std::fs::read_dir(&efivars).is_ok_and(|mut entries| entries.next().is_some());
        let certificates = |name: &str| {
            let whole = Variable::read(&self.path(MOK_VARIABLES).join(name));
            let lists = match whole {
                Variable::Is(lists) => lists,
                _ if mounted => listed(name, |part| variable(part, SHIM))?,
                _ => return None,
            };
            let certificates = efi_certificates(&lists).ok()?;
            Some(certificates.into_iter().map(<[u8]>::to_vec).collect())
        };
        let switch = |name: &str| match variable(name, GLOBAL) {
            Variable::Is(file) => efi_switch(&file),
            Variable::Absent if mounted => Some(false),
            Variable::Absent | Variable::Unreadable => None,
        };
        SecureBootFacts {
            uefi: self.path("sys/firmware/efi").is_dir(),
            secure_boot: switch("SecureBoot"),
            setup_mode: switch("SetupMode"),
            enrolled: certificates("MokListRT"),
            pending: certificates("MokNew"),
            keyrings: self.keyrings(),
            platform_signs_modules: self.platform_signs_modules(),
        }
    }

    pub(crate) fn keyrings(&self) -> Option<Vec<Keyring>> {
        // Of a tree of files nobody can say what is in a keyring.
        self.must_be_running_kernel().ok()?;
        let file = std::fs::File::open(self.path("proc/keys")).ok()?;
        let mut text = String::new();
        file.take(MAX_KEYS_BYTES).read_to_string(&mut text).ok()?;
        keyrings(&text, links)
    }

    fn platform_signs_modules(&self) -> Option<bool> {
        let text = |file: &str| std::fs::read_to_string(self.path(file)).unwrap_or_default();
        parse::platform_signs_modules(&text("proc/version"), &text("proc/version_signature"))
    }
}

/// A variable's file.
enum Variable {
    Is(Vec<u8>),
    Absent,
    Unreadable,
}

impl Variable {
    fn read(path: &Path) -> Self {
        let file = match std::fs::File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::Absent,
            Err(_) => return Self::Unreadable,
            Ok(file) => file,
        };
        let mut bytes = Vec::new();
        match file.take(MAX_VARIABLE_BYTES as u64).read_to_end(&mut bytes) {
            Ok(_) => Self::Is(bytes),
            Err(_) => Self::Unreadable,
        }
    }
}

/// The content of a list in all its parts; empty when there is no such variable.
fn listed(name: &str, read: impl Fn(&str) -> Variable) -> Option<Vec<u8>> {
    let mut lists = Vec::new();
    for part in 0..MOST_PARTS {
        let name = if part == 0 { name.to_owned() } else { format!("{name}{part}") };
        match read(&name) {
            Variable::Is(file) => lists.extend_from_slice(efi_variable(&file)?),
            Variable::Absent => break,
            Variable::Unreadable => return None,
        }
    }
    Some(lists)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `EFI_SIGNATURE_LIST` with one certificate of three bytes.
    fn list(certificate: &[u8; 3]) -> Vec<u8> {
        let mut list = [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a].to_vec();
        list.extend([0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72]);
        for size in [28 + 19, 0, 19_u32] {
            list.extend(size.to_le_bytes());
        }
        [&list[..], &[0; 16], certificate].concat()
    }

    #[test]
    fn firmware_is_read_as_far_as_it_can_be() {
        let root = tempfile::tempdir().unwrap();
        let facts = || LinuxKernel::at(root.path()).secure_boot();
        assert_eq!(facts(), SecureBootFacts::default(), "no UEFI");

        let write = |directory: &str, name: &str, content: &[u8]| {
            let directory = root.path().join(directory);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(name), content).unwrap();
        };
        let variable = |name: &str, vendor: &str, content: &[u8]| {
            write(EFIVARS, &format!("{name}-{vendor}"), &[&[6, 0, 0, 0], content].concat());
        };
        std::fs::create_dir_all(root.path().join(EFIVARS)).unwrap();
        assert_eq!(facts(), SecureBootFacts { uefi: true, ..SecureBootFacts::default() }, "not mounted");

        variable("SecureBoot", GLOBAL, &[1]);
        let read = facts();
        assert_eq!((read.secure_boot, read.setup_mode), (Some(true), Some(false)));
        assert_eq!((read.enrolled, read.pending), (Some(Vec::new()), Some(Vec::new())), "no shim");

        variable("MokListRT", SHIM, &list(b"one"));
        variable("MokListRT1", SHIM, &list(b"two"));
        variable("MokListRT3", SHIM, &list(b"odd"));
        variable("MokNew", SHIM, &list(b"new"));
        let read = facts();
        assert_eq!(read.enrolled, Some(vec![b"one".to_vec(), b"two".to_vec()]));
        assert_eq!(read.pending, Some(vec![b"new".to_vec()]));
        write(MOK_VARIABLES, "MokListRT", &list(b"all"));
        assert_eq!(facts().enrolled, Some(vec![b"all".to_vec()]), "the whole list goes first");
        variable("MokNew", SHIM, b"no list");
        assert_eq!(facts().pending, None);
    }

    #[test]
    fn distributions_are_known_by_who_built_the_kernel() {
        let debian =
            "Linux version 6.1.0-50-amd64 (debian-kernel@lists.debian.org) (gcc-12 (Debian 12.2.0-14)";
        let own = "Linux version 6.1.0 (me@here) (gcc-12 (Debian 12.2.0-14) 12.2.0, GNU ld) #1 SMP";
        for (version, signature, expected) in [
            (debian, "", Some(true)),
            (own, "", None),
            (own, "Ubuntu 5.15.0-91.101-generic 5.15.131\n", Some(true)),
        ] {
            assert_eq!(parse::platform_signs_modules(version, signature), expected, "{version}");
        }
    }
}
