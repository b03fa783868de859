//! Whether a kernel would load a module that a certificate's key signed: a rule over what was read.

use crate::keyring::KeyringName;
use crate::{LoadFacts, Lockdown, SecureBootFacts};

/// A certificate of who signs modules.
#[derive(Debug, Clone, Copy)]
pub struct ModuleSigner<'a> {
    /// The certificate (DER).
    pub der: &'a [u8],
    /// Its subject key identifier in lower-case hexadecimal.
    pub key_id: &'a str,
}

/// What the machine's owner has done about a certificate (MOK).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrolment {
    /// Enrolled: the kernel gets it at every boot.
    Enrolled,
    /// Imported, and to be confirmed at the next boot.
    Pending,
    /// Neither.
    Absent,
    /// The firmware's variables cannot be read, or there are none.
    Unknown,
}

/// Whether a module would be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loads {
    /// It would.
    Yes,
    /// It would not.
    No,
    /// Facts that decide it cannot be read.
    Unknown,
}

/// Whether a module of a signer would be loaded here, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleTrust {
    /// The answer.
    pub loads: Loads,
    /// The reason, in lower case.
    pub reason: String,
    /// What to do, if something is to be done.
    pub hint: Option<&'static str>,
    /// What the machine's owner has done about the certificate.
    pub enrolment: Enrolment,
    /// The keyring that has the certificate.
    pub keyring: Option<KeyringName>,
}

const ENROL: &str = "run `sudo livepatch secure-boot enroll`, reboot, and choose \"Enroll MOK\" on the blue screen before the system starts";
const CONFIRM: &str = "reboot, and choose \"Enroll MOK\" on the blue screen before the system starts, with the password given to mokutil";

/// Applies the rule. It is about signatures alone: a livepatch may be refused for other reasons.
pub fn module_trust(facts: &LoadFacts, boot: &SecureBootFacts, signer: ModuleSigner<'_>) -> ModuleTrust {
    let enrolment = enrolment(boot, signer.der);
    let keyring = keyring(boot, signer.key_id);
    let (loads, reason, hint) = decide(facts, boot, enrolment, keyring);
    ModuleTrust { loads, reason, hint, enrolment, keyring }
}

fn enrolment(boot: &SecureBootFacts, der: &[u8]) -> Enrolment {
    let has = |list: &Option<Vec<Vec<u8>>>| list.as_ref().map(|list| list.iter().any(|one| one == der));
    match (has(&boot.enrolled), has(&boot.pending)) {
        (Some(true), _) => Enrolment::Enrolled,
        (_, Some(true)) => Enrolment::Pending,
        (Some(false), Some(false)) => Enrolment::Absent,
        _ => Enrolment::Unknown,
    }
}

/// What is revoked is revoked wherever else it is; a keyring that certainly counts goes before one that may not.
fn keyring(boot: &SecureBootFacts, key_id: &str) -> Option<KeyringName> {
    let keyrings = boot.keyrings.as_deref().unwrap_or_default();
    let order = [
        KeyringName::Blacklist,
        KeyringName::Builtin,
        KeyringName::Secondary,
        KeyringName::Machine,
        KeyringName::Platform,
    ];
    let has = |name: &KeyringName| keyrings.iter().any(|ring| ring.name == *name && ring.has(key_id));
    order.into_iter().find(has)
}

fn decide(
    facts: &LoadFacts,
    boot: &SecureBootFacts,
    enrolment: Enrolment,
    keyring: Option<KeyringName>,
) -> (Loads, String, Option<&'static str>) {
    if facts.modules_disabled == Some(true) {
        let reason = "module loading is switched off until the next boot (kernel.modules_disabled=1)";
        let hint = "remove kernel.modules_disabled=1 from the sysctl configuration and reboot";
        return (Loads::No, reason.into(), Some(hint));
    }
    // A known key is used even where nothing enforces signatures, and a revoked one is refused.
    if keyring == Some(KeyringName::Blacklist) {
        let hint = "livepatches of this vendor need another key; ask the vendor for its new certificate";
        return (
            Loads::No,
            "the certificate is revoked on this machine (keyring blacklist)".into(),
            Some(hint),
        );
    }
    let because = match (facts.lockdown, facts.signatures_enforced) {
        (Some(Lockdown::Integrity | Lockdown::Confidentiality), _) => "the kernel is locked down",
        (_, Some(true)) => "the kernel enforces module signatures (module.sig_enforce)",
        (_, Some(false)) => {
            let reason = "the kernel enforces no module signatures; livepatchd verifies them all the same";
            return (Loads::Yes, reason.into(), None);
        }
        (_, None) => {
            let hint = "look from the host, not from a container: /sys/module/module must be there";
            return (
                Loads::Unknown,
                "the kernel does not say whether it enforces signatures".into(),
                Some(hint),
            );
        }
    };
    let has = |name: KeyringName| format!("the certificate is in the kernel's keyring {}", name.as_str());
    match keyring {
        Some(KeyringName::Platform) if boot.platform_signs_modules != Some(true) => {
            let reason = format!(
                "{because}; {}, which kernels of Debian and Ubuntu use for modules, and others may not",
                has(KeyringName::Platform)
            );
            (Loads::Unknown, reason, Some("load any module of this signer to find out"))
        }
        Some(name) => (Loads::Yes, format!("{because}; {}", has(name)), None),
        None if boot.keyrings.is_none() => {
            let reason = format!("{because}; only root may see which keys it believes");
            (Loads::Unknown, reason, Some("run `sudo livepatch secure-boot status`"))
        }
        None => not_trusted(because, boot, enrolment),
    }
}

fn not_trusted(
    because: &str,
    boot: &SecureBootFacts,
    enrolment: Enrolment,
) -> (Loads, String, Option<&'static str>) {
    let (state, hint) = match enrolment {
        _ if !boot.uefi => (
            "the certificate is in none of its keyrings, and without UEFI none can be enrolled",
            "boot by UEFI and enrol the certificate, or boot without module.sig_enforce=1 and lockdown=",
        ),
        Enrolment::Enrolled => (
            "the machine's owner enrolled the certificate, and the kernel took it into none of its keyrings",
            "reboot; if it stays so, see `dmesg | grep -i x.509`: this kernel may not read the owner's keys",
        ),
        Enrolment::Pending => ("the certificate waits to be confirmed at the next boot", CONFIRM),
        Enrolment::Absent | Enrolment::Unknown => ("the certificate is in none of its keyrings", ENROL),
    };
    (Loads::No, format!("{because}; {state}"), Some(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KernelKey, Keyring};

    const SIGNER: ModuleSigner<'_> = ModuleSigner { der: b"ours", key_id: "0a" };

    fn with_key(names: &[KeyringName]) -> SecureBootFacts {
        let ring = |name: KeyringName| {
            let ours = KernelKey { subject: "vendor".into(), key_id: "0a".into() };
            let theirs = KernelKey { subject: "other".into(), key_id: "0b".into() };
            let keys = if names.contains(&name) { vec![theirs, ours] } else { vec![theirs] };
            Keyring { name, keys, digests: 0 }
        };
        let all = [
            KeyringName::Builtin,
            KeyringName::Secondary,
            KeyringName::Machine,
            KeyringName::Platform,
            KeyringName::Blacklist,
        ];
        SecureBootFacts {
            uefi: true,
            secure_boot: Some(true),
            setup_mode: Some(false),
            enrolled: Some(vec![b"theirs".to_vec()]),
            pending: Some(Vec::new()),
            keyrings: Some(all.map(ring).to_vec()),
            platform_signs_modules: Some(true),
        }
    }

    fn free() -> LoadFacts {
        LoadFacts {
            modules_disabled: Some(false),
            signatures_enforced: Some(false),
            lockdown: Some(Lockdown::Off),
            ..LoadFacts::default()
        }
    }

    fn locked() -> LoadFacts {
        LoadFacts { lockdown: Some(Lockdown::Integrity), signatures_enforced: Some(true), ..free() }
    }

    #[test]
    fn the_rule() {
        let enforced = LoadFacts { signatures_enforced: Some(true), ..free() };
        let disabled = LoadFacts { modules_disabled: Some(true), ..free() };
        let none = || with_key(&[]);
        let of_root = || SecureBootFacts { keyrings: None, ..none() };
        let enrolled = SecureBootFacts { enrolled: Some(vec![b"ours".to_vec()]), ..none() };
        let pending = SecureBootFacts { pending: Some(vec![b"ours".to_vec()]), ..none() };
        let platform = || with_key(&[KeyringName::Platform]);
        let foreign = SecureBootFacts { platform_signs_modules: None, ..platform() };
        let bios = SecureBootFacts { uefi: false, enrolled: None, pending: None, ..none() };
        let both = with_key(&[KeyringName::Platform, KeyringName::Blacklist]);
        let in_two = with_key(&[KeyringName::Platform, KeyringName::Machine]);
        use Enrolment::{Absent, Enrolled, Pending, Unknown};
        for (what, facts, boot, loads, enrolment, reason, hint) in [
            ("nothing enforced", free(), none(), Loads::Yes, Absent, "enforces no module", ""),
            (
                "nothing known",
                LoadFacts::default(),
                none(),
                Loads::Unknown,
                Absent,
                "does not say",
                "container",
            ),
            ("no modules at all", disabled, platform(), Loads::No, Absent, "modules_disabled=1", "sysctl"),
            ("revoked, not enforced", free(), both, Loads::No, Absent, "revoked", "another key"),
            ("in db", locked(), platform(), Loads::Yes, Absent, "locked down; the certificate is in", ""),
            (
                "in db, by other rules",
                locked(),
                foreign,
                Loads::Unknown,
                Absent,
                "others may not",
                "find out",
            ),
            ("in two", locked(), in_two, Loads::Yes, Absent, "keyring machine", ""),
            ("enforced", enforced, none(), Loads::No, Absent, "sig_enforce", "secure-boot enroll"),
            ("unseen", locked(), of_root(), Loads::Unknown, Absent, "only root", "sudo"),
            ("pending", locked(), pending, Loads::No, Pending, "waits", "Enroll MOK"),
            ("not taken", locked(), enrolled, Loads::No, Enrolled, "took it into none", "dmesg"),
            ("no UEFI", locked(), bios, Loads::No, Unknown, "without UEFI", "boot by UEFI"),
        ] {
            let trust = module_trust(&facts, &boot, SIGNER);
            assert_eq!((trust.loads, trust.enrolment), (loads, enrolment), "{what}: {trust:?}");
            assert!(trust.reason.contains(reason), "{what}: {trust:?}");
            match trust.hint {
                None => assert_eq!(hint, "", "{what}"),
                Some(text) => assert!(!hint.is_empty() && text.contains(hint), "{what}: {text}"),
            }
        }
    }
}
