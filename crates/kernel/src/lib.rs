//! Floor 2: the port to the running kernel.
//!
//! [`Kernel`] is everything that the client asks of a kernel. [`LinuxKernel`] is the real one; [`FakeKernel`] beside
//! it behaves the same, as far as one suite of behaviour (`tests/behaviour.rs`) can tell that runs against both.
//!
//! Invariant: system calls that change a kernel are made here and nowhere else. A module reaches the kernel only as a
//! [`SealedModule`], whose bytes cannot change between their verification and their loading. `force` is never
//! written, and `finit_module` never gets a flag.
//!
//! Beside the port stands what says whose modules a kernel takes: [`SecureBootFacts`] are read, [`module_trust`] is the
//! rule over them.

mod efi;
mod error;
mod fake;
mod keyring;
mod linux;
mod machine;
mod module_trust;
mod origin;
mod parse;
mod sealed;
mod secure_boot;
mod wait;

pub use efi::{MAX_VARIABLE_BYTES, SignatureListError, efi_certificates, efi_variable};
pub use error::{KernelError, LoadError, LoadRefusal};
pub use fake::{FakeKernel, Transitions};
pub use keyring::{KernelKey, Keyring, KeyringName, keyrings};
pub use linux::LinuxKernel;
pub use machine::machine_texts;
pub use module_trust::{Enrolment, Loads, ModuleSigner, ModuleTrust, module_trust};
pub use origin::{ImagePackage, KernelOrigin, OriginEvidence, kernel_origin};
pub use sealed::{SealError, SealedModule};
pub use secure_boot::SecureBootFacts;
pub use wait::{Pause, ThreadPause, wait_for_transition, wait_until};

use std::time::Duration;

use livepatch_types::{BuildId, KernelIdentity, ModuleName};

/// What the client asks of a kernel.
pub trait Kernel: Send + Sync {
    /// Which kernel runs.
    fn identity(&self) -> Result<KernelIdentity, KernelError>;

    /// The random id of this boot (`/proc/sys/kernel/random/boot_id`).
    fn boot_id(&self) -> Result<String, KernelError>;

    /// How long ago that boot was, sleep included: a clock that nobody sets (`/proc/uptime`).
    fn since_boot(&self) -> Result<Duration, KernelError>;

    /// The livepatches of the kernel, sorted by name. An error when the kernel has no livepatching.
    fn livepatches(&self) -> Result<Vec<Livepatch>, KernelError>;

    /// The loaded modules, sorted by name.
    fn modules(&self) -> Result<Vec<LoadedModule>, KernelError>;

    /// The file that modprobe loads for a module, below the modules of the running kernel (`kernel/net/…`,
    /// `updates/dkms/…`), as modules.dep(5) has it; none if there is none or the list cannot be read.
    fn module_file(&self, name: &ModuleName) -> Option<String>;

    /// What explains a refused load. Facts that cannot be read are `None`.
    fn facts(&self) -> LoadFacts;

    /// What tells a person where the kernel comes from.
    fn origin_evidence(&self) -> OriginEvidence;

    /// Loads a module. A livepatch module begins its transition by itself.
    fn load(&self, module: &SealedModule) -> Result<(), LoadError>;

    /// Begins to enable or disable a livepatch, or turns a running transition around. The end comes later:
    /// [`wait_for_transition`].
    fn set_enabled(&self, name: &ModuleName, enabled: bool) -> Result<(), KernelError>;

    /// Unloads a module that nothing uses.
    fn unload(&self, name: &ModuleName) -> Result<(), KernelError>;
}

/// An entry of /sys/kernel/livepatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Livepatch {
    /// The name of its module.
    pub name: ModuleName,
    /// Whether it is enabled, or is being enabled while `in_transition`.
    pub enabled: bool,
    /// Whether tasks are still being moved.
    pub in_transition: bool,
}

/// A loaded module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedModule {
    /// Its name.
    pub name: ModuleName,
    /// Its GNU build-id; none if it carries none or it cannot be read.
    pub build_id: Option<BuildId>,
}

/// Read-only facts that explain why a kernel refuses a module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoadFacts {
    /// Whether the kernel has livepatching: /sys/kernel/livepatch exists.
    pub livepatch_support: Option<bool>,
    /// `kernel.modules_disabled`: no module is loaded until the next boot.
    pub modules_disabled: Option<bool>,
    /// `module.sig_enforce`: only modules signed by a key of the kernel's keyrings are loaded.
    pub signatures_enforced: Option<bool>,
    /// The lockdown mode in force.
    pub lockdown: Option<Lockdown>,
    /// `kernel.ftrace_enabled`: livepatching redirects functions through ftrace.
    pub ftrace_enabled: Option<bool>,
    /// The taint bits of the kernel.
    pub taint: Option<u64>,
}

/// The kernel's lockdown mode (`/sys/kernel/security/lockdown`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lockdown {
    /// Off.
    Off,
    /// Nobody changes the running kernel, root included.
    Integrity,
    /// Nobody reads its memory either.
    Confidentiality,
}

#[cfg(test)]
mod tests;
