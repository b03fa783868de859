//! What `livepatch secure-boot status --format json` prints: whose modules this machine's kernel takes.

use serde::{Deserialize, Serialize};

use crate::daemon::Failure;

/// Whose modules the running kernel takes. What cannot be read by who asked is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecureBootStatus {
    /// Version of this format: 1.
    pub schema: u32,
    /// Whether UEFI firmware started the kernel.
    pub uefi: bool,
    /// Whether Secure Boot is on.
    pub secure_boot: Option<bool>,
    /// Whether the firmware is in setup mode: anybody may give it keys.
    pub setup_mode: Option<bool>,
    /// The kernel's lockdown mode: `none`, `integrity` or `confidentiality`.
    pub lockdown: Option<String>,
    /// Whether the kernel takes signed modules only (`module.sig_enforce`).
    pub signatures_enforced: Option<bool>,
    /// Whether the kernel takes no modules at all until the next boot (`kernel.modules_disabled`).
    pub modules_disabled: Option<bool>,
    /// The kernel's keyrings; only root sees them.
    pub keyrings: Option<Vec<Keyring>>,
    /// The certificates of who signs livepatches for this host.
    pub vendor: Vec<VendorCertificate>,
    /// Why there are no such certificates, and what to do.
    pub problem: Option<Failure>,
}

/// A keyring of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyring {
    /// `builtin`, `secondary`, `machine`, `platform` or `blacklist`.
    pub name: String,
    /// The certificates in it.
    pub keys: Vec<Key>,
    /// How many digests it has besides: what is revoked.
    pub digests: usize,
}

/// A certificate in a keyring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its subject.
    pub subject: String,
    /// Its subject key identifier in hexadecimal.
    pub key_id: String,
}

/// A certificate of who signs livepatches, and what this kernel makes of its modules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorCertificate {
    /// Its subject.
    pub subject: String,
    /// Its subject key identifier in hexadecimal.
    pub key_id: String,
    /// What the machine's owner did about it (MOK): `enrolled`, `pending`, `absent` or `unknown`.
    pub enrolment: String,
    /// The keyring that it is in.
    pub keyring: Option<String>,
    /// Whether the kernel would take a module that it signed: `yes`, `no` or `unknown`.
    pub loads: String,
    /// Why.
    pub reason: String,
    /// What to do, one line each.
    pub hints: Vec<String>,
}
