//! Kernels that were started with Secure Boot, so that they take only modules of signers that they trust.

use std::error::Error;
use std::time::Duration;

use livepatch_api::secure_boot::{SecureBootStatus, VendorCertificate};
use livepatch_build::keygen::{DEFAULT_BITS, KeyPair, generate};
use livepatch_build::signing::{FileSigner, sign_bundle};
use livepatch_manifest::Bundle;
use livepatch_tests::guest::{SHORT, load, programs, unload};
use livepatch_tests::{build_patches, carved_patch, cloud_kernel, newer_cloud_kernel};
use livepatch_types::{Clock as _, SystemClock};
use livepatch_vm::testing::{self, FetchedKernel};
use livepatch_vm::{
    BootSpec, Command, Firmware, Guest, Initramfs, Network, SecureBootKeys, SignedBoot, compile_static,
};

const FIX: &str = "CVE-2026-93146";
/// What a loaded livepatch taints a kernel with: out of its tree (12), livepatch (15), and nothing that says that a module
/// is not signed (13). Documentation/admin-guide/tainted-kernels.rst.
const LIVEPATCH_TAINT: u64 = 1 << 12 | 1 << 15;

/// What whoever enrols a key chooses.
const PASSWORD: &str = "secret-1";

const EFIVARS: &str = "/sys/firmware/efi/efivars";

/// Modules that must not load, and what the kernel logs of each. Of a module that is not what was signed it logs nothing.
const REFUSALS: [(&str, &str); 3] = [
    ("/unsigned.ko", "Loading of unsigned module is rejected"),
    ("/stranger.ko", "Loading of module with unavailable key is rejected"),
    ("/tampered.ko", ""),
];

/// How a certificate is trusted: the variable it is in, what the owner did about it, and the keyring that the kernel takes
/// it into.
type Trusted = (&'static str, &'static str, &'static str);

/// One who signs.
fn pair(name: &str) -> Result<KeyPair, Box<dyn Error>> {
    Ok(generate(name, DEFAULT_BITS, SystemClock.now())?)
}

/// The module, signed with this key.
fn signed(bundle: &Bundle, pair: &KeyPair) -> Result<Vec<u8>, Box<dyn Error>> {
    let signer = FileSigner::new(&pair.key_pem, &pair.certificate_pem)?;
    Ok(sign_bundle(bundle.clone(), &signer)?.module)
}

/// The fix for a kernel, as everyone signed it who takes part.
struct Case {
    kernel: FetchedKernel,
    initrd: Vec<u8>,
    owner: KeyPair,
    vendor: KeyPair,
}

impl Case {
    fn new(kernel: FetchedKernel) -> Result<Self, Box<dyn Error>> {
        let [owner, vendor, stranger] = [pair("owner")?, pair("vendor")?, pair("stranger")?];
        let bundle = build_patches(&kernel, &[carved_patch(&kernel, FIX)])?.bundle;
        let good = signed(&bundle, &vendor)?;
        // In the middle of what is signed, which is all but the signature at the end.
        let mut tampered = good.clone();
        tampered[bundle.module.len() / 2] ^= 1;

        let mut initramfs = Initramfs::new()?;
        initramfs.file("/unsigned.ko", 0o644, bundle.module.clone())?;
        initramfs.file("/stranger.ko", 0o644, signed(&bundle, &stranger)?)?;
        initramfs.file("/tampered.ko", 0o644, tampered)?;
        initramfs.file("/livepatch.ko", 0o644, good)?;
        let directory = tempfile::tempdir()?;
        let program = directory.path().join("check");
        compile_static(&testing::workspace().join(format!("checks/{FIX}.c")), &program)?;
        initramfs.file_from("/usr/bin/check", 0o755, &program)?;
        initramfs.program("/usr/bin/livepatch", &programs().join("livepatch"))?;
        initramfs.installed_program("mokutil")?;
        initramfs.file("/etc/livepatch/trust/vendor.pem", 0o644, vendor.certificate_pem.clone())?;
        initramfs.kernel_modules(&kernel.tree, &["efivarfs"])?;
        Ok(Self { kernel, initrd: initramfs.build(), owner, vendor })
    }

    /// A machine with this firmware.
    fn spec(&self, firmware: Firmware) -> BootSpec {
        BootSpec {
            network: Network::None,
            firmware,
            // Where shim and GRUB start the kernel, it takes four times as long.
            boot_timeout: Duration::from_secs(300),
            ..BootSpec::new(self.kernel.tree.vmlinuz(), self.initrd.clone())
        }
    }

    /// A guest whose kernel found Secure Boot on, and is locked down.
    fn boot(&self, firmware: Firmware) -> Result<Guest, Box<dyn Error>> {
        let guest = Guest::boot(&self.spec(firmware))?;
        let cat = |file: &str| guest.check(&Command::new("cat").arg(file), SHORT);
        assert_eq!(cat("/sys/kernel/security/lockdown")?, "none [integrity] confidentiality");
        assert_eq!(cat("/sys/module/module/parameters/sig_enforce")?, "Y");
        for line in ["secureboot: Secure boot enabled", "Kernel is locked down from EFI Secure Boot"] {
            assert!(guest.console().contains(line), "{line}");
        }
        guest.check(&Command::new("mount").args(["-t", "efivarfs", "efivarfs", EFIVARS]), SHORT)?;
        Ok(guest)
    }

    /// Firmware of a machine whose owner made its keys, and whose kernel nobody verifies.
    fn keys(&self, keys: SecureBootKeys) -> Firmware {
        Firmware::SecureBoot(SecureBootKeys { platform: self.owner.certificate_der.clone(), ..keys })
    }

    /// What `livepatch secure-boot status` says of the machine and of the vendor's certificate.
    fn status(&self, guest: &Guest) -> Result<VendorCertificate, Box<dyn Error>> {
        let command = Command::new("livepatch").args(["secure-boot", "status", "--format", "json"]);
        let mut status: SecureBootStatus = serde_json::from_str(&guest.check(&command, SHORT)?)?;
        assert_eq!((status.uefi, status.secure_boot, status.setup_mode), (true, Some(true), Some(false)));
        assert_eq!(status.lockdown.as_deref(), Some("integrity"));
        assert_eq!((status.signatures_enforced, status.modules_disabled), (Some(true), Some(false)));
        let keyrings = status.keyrings.as_deref().unwrap_or_default();
        let builtin = keyrings.iter().find(|keyring| keyring.name == "builtin");
        assert!(builtin.is_some_and(|keyring| !keyring.keys.is_empty()), "{keyrings:?}");
        assert_eq!((status.problem, status.vendor.len()), (None, 1));
        Ok(status.vendor.remove(0))
    }

    /// Boots with the vendor's certificate in a variable that kernels read into a keyring, and loads what it signed.
    fn loads(
        &self,
        (variable, enrolment, keyring): Trusted,
        firmware: Firmware,
    ) -> Result<(), Box<dyn Error>> {
        let guest = self.boot(firmware)?;
        let ours = self.status(&guest)?;
        assert_eq!((&*ours.loads, &*ours.enrolment), ("yes", enrolment), "{ours:?}");
        assert_eq!((ours.keyring.as_deref(), ours.hints.len()), (Some(keyring), 0), "{ours:?}");
        for line in [&format!("Loading X.509 certificate: UEFI:{variable}"), "Loaded X.509 cert 'vendor: "] {
            assert!(guest.console().contains(&format!("integrity: {line}")), "{line}");
        }
        for refusal in REFUSALS {
            refused(&guest, refusal)?;
        }
        assert_eq!((taint(&guest)?, check(&guest)?), (0, 1), "none of them did anything");
        load(&guest)?;
        assert_eq!((taint(&guest)?, check(&guest)?), (LIVEPATCH_TAINT, 0), "applied");
        let of_module = Command::new("cat").arg("/sys/module/livepatch_1_1/taint");
        assert_eq!(guest.check(&of_module, SHORT)?, "OK");
        unload(&guest)?;
        assert_eq!(check(&guest)?, 1, "reverted");
        load(&guest)?;
        assert_eq!((taint(&guest)?, check(&guest)?), (LIVEPATCH_TAINT, 0), "applied again");
        assert_eq!(guest.kernel_problems()?, []);
        Ok(guest.shutdown()?)
    }

    /// Boots without it: the same module is that of a stranger. Has Debian's mokutil ask for the certificate to be enrolled,
    /// which changes nothing before the next boot.
    fn is_refused_until_it_is_enrolled(&self, firmware: Firmware) -> Result<(), Box<dyn Error>> {
        let guest = self.boot(firmware)?;
        let stands = |enrolment: &str, hint: &str| -> Result<(), Box<dyn Error>> {
            let ours = self.status(&guest)?;
            assert_eq!((&*ours.loads, &*ours.enrolment, ours.keyring), ("no", enrolment, None));
            assert!(ours.hints[0].contains(hint), "{:?}", ours.hints);
            Ok(())
        };
        let enroll = || Command::new("livepatch").args(["secure-boot", "enroll"]);
        stands("absent", "livepatch secure-boot enroll")?;
        // mokutil asks twice.
        let passwords = format!("{PASSWORD}\n{PASSWORD}\n");
        let said = guest.check(&enroll().stdin(passwords.into_bytes()), SHORT)?;
        assert!(said.contains("Importing CN=vendor. Choose a password"), "{said}");
        stands("pending", "reboot, and choose \"Enroll MOK\"")?;
        let said = guest.check(&enroll(), SHORT)?;
        assert!(said.contains("waits for the next boot already"), "{said}");
        let (_, logs) = REFUSALS[1];
        refused(&guest, ("/livepatch.ko", logs))?;
        assert_eq!((taint(&guest)?, check(&guest)?), (0, 1), "it did nothing");
        assert_eq!(guest.kernel_problems()?, []);
        Ok(guest.shutdown()?)
    }
}

/// Tries to load a module; it must be refused for its signature (`EKEYREJECTED`), with these words in the kernel's log.
fn refused(guest: &Guest, (file, logs): (&str, &str)) -> Result<(), Box<dyn Error>> {
    let mark = guest.mark()?;
    let output = guest.run(&Command::new("insmod").arg(file), SHORT)?;
    let says = output.error_text();
    assert!(!output.success() && says.ends_with("Key was rejected by service"), "{file}: {says}");
    let log = guest.console_since(mark)?;
    assert!(log.contains(logs), "{file}: {log}");
    Ok(())
}

fn taint(guest: &Guest) -> Result<u64, Box<dyn Error>> {
    Ok(guest.check(&Command::new("cat").arg("/proc/sys/kernel/tainted"), SHORT)?.parse()?)
}

/// What the check program ends with: 1 is vulnerable, 0 fixed.
fn check(guest: &Guest) -> Result<i32, Box<dyn Error>> {
    Ok(guest.run(&Command::new("check"), SHORT)?.status)
}

fn loads_when_its_key_is_trusted(case: &Case) -> Result<(), Box<dyn Error>> {
    let vendor = || vec![case.vendor.certificate_der.clone()];
    let db = SecureBootKeys { db: vendor(), ..SecureBootKeys::default() };
    case.loads(("db", "absent", "platform"), case.keys(db))?;
    let owner = SecureBootKeys { machine_owner: vendor(), ..SecureBootKeys::default() };
    case.loads(("MokListRT", "enrolled", "machine"), case.keys(owner))
}

/// That it is refused otherwise is in the test with the boot loaders.
#[test]
fn a_signed_livepatch_loads_when_its_key_is_trusted() -> Result<(), Box<dyn Error>> {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    loads_when_its_key_is_trusted(&Case::new(kernel)?)
}

#[test]
fn a_newer_kernel_does_the_same_and_refuses_others() -> Result<(), Box<dyn Error>> {
    let Some(kernel) = newer_cloud_kernel() else { return Ok(()) };
    let case = Case::new(kernel)?;
    loads_when_its_key_is_trusted(&case)?;
    case.is_refused_until_it_is_enrolled(case.keys(SecureBootKeys::default()))
}

/// The boot loaders that Debian signed, or none when they are not here and need not be.
#[expect(clippy::panic, reason = "boot loaders that must be there and are not fail the test")]
fn signed_boot() -> Option<SignedBoot> {
    testing::signed_boot().unwrap_or_else(|error| panic!("{error}"))
}

/// What whoever is at the console does on the blue screen: MokManager of shim 16.1.
fn dialogue() -> [(&'static str, String); 6] {
    let down_and_enter = || "\x1b[B\r".to_owned();
    [
        ("Press any key to perform MOK management", " ".into()),
        // The last line of the menu: Continue boot, Enroll MOK, Enroll key from disk, Enroll hash from disk.
        ("Enroll hash from disk", down_and_enter()),
        // View key 0, Continue.
        ("View key 0", down_and_enter()),
        // No, Yes.
        ("Enroll the key(s)?", down_and_enter()),
        ("Password:", format!("{PASSWORD}\r")),
        // It is in the place of Continue boot.
        ("Reboot", "\r".into()),
    ]
}

/// The way of docs/secure-boot.md, with Debian's mokutil and MokManager. That each in this chain verifies the next is in
/// crates/vm/tests/firmware.rs.
#[test]
fn a_key_is_enrolled_and_a_livepatch_loads_where_shim_and_grub_started_the_kernel()
-> Result<(), Box<dyn Error>> {
    let (Some(kernel), Some(boot)) = (cloud_kernel(), signed_boot()) else { return Ok(()) };
    let case = Case::new(kernel)?;
    let directory = tempfile::tempdir()?;
    let boot = SignedBoot { variables: Some(directory.path().join("variables")), ..boot };

    case.is_refused_until_it_is_enrolled(Firmware::SignedBoot(boot.clone()))?;
    // The machine's owner, at the console.
    let spec = case.spec(Firmware::SignedBoot(boot.clone()));
    let console = Guest::boot_and_type(&spec, &dialogue())?;
    assert!(!console.contains("Linux version"), "{console}");

    case.loads(("MokListRT (MOKvar table)", "enrolled", "machine"), Firmware::SignedBoot(boot))
}
