use std::path::PathBuf;

use livepatch_types::{InvalidValue, ModuleName};
use rustix::io::Errno;

use crate::{LoadFacts, Lockdown};

/// Why something about the running kernel could not be read or done.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A file of /proc or /sys could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// `read`, `list` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of /proc or /sys holds something unexpected.
    #[error("{path} does not hold what is expected: {why}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Livepatches are made for x86_64 only.
    #[error("the architecture of this kernel is {0}, and livepatches exist for x86_64 only")]
    Architecture(String),
    /// The kernel was built without livepatching.
    #[error("this kernel has no livepatching (CONFIG_LIVEPATCH): /sys/kernel/livepatch is missing")]
    NoLivepatching,
    /// There is no such livepatch.
    #[error("the kernel has no livepatch {0}")]
    NoSuchLivepatch(ModuleName),
    /// Another transition runs, or the livepatch is in that state already.
    #[error("the kernel refuses to {action} livepatch {name} now: {errno}")]
    LivepatchBusy {
        /// `enable` or `disable`.
        action: &'static str,
        /// The livepatch.
        name: ModuleName,
        /// What the kernel answered.
        errno: Errno,
    },
    /// There is no such module.
    #[error("module {0} is not loaded")]
    NoSuchModule(ModuleName),
    /// The module is still used.
    #[error("module {0} is in use")]
    ModuleInUse(ModuleName),
    /// The kernel refused for another reason.
    #[error("the kernel refuses to unload module {name}: {errno}")]
    Unload {
        /// The module.
        name: ModuleName,
        /// What the kernel answered.
        errno: Errno,
    },
    /// This kernel is a tree of fixture files: it has no modules to load or unload.
    #[error("module system calls act on the running kernel, and this is only a tree of files")]
    OnlyATree,
}

impl KernelError {
    pub(crate) fn content(path: PathBuf, error: &InvalidValue) -> Self {
        Self::Content { path, why: error.to_string() }
    }

    /// A word for it that stays the same.
    pub fn code(&self) -> &'static str {
        self.explained().0
    }

    /// What to do; may be empty.
    pub fn hint(&self) -> &'static str {
        self.explained().1
    }

    fn explained(&self) -> (&'static str, &'static str) {
        match self {
            Self::Architecture(_) => {
                ("unsupported-architecture", "keep the kernel up to date with its package, and reboot")
            }
            Self::NoLivepatching => {
                ("unsupported-kernel", "boot a kernel of the distribution, built with CONFIG_LIVEPATCH=y")
            }
            Self::File { .. } | Self::Content { .. } => (
                "kernel-unreadable",
                "run the daemon on the host, with /proc and /sys as the kernel shows them",
            ),
            Self::LivepatchBusy { .. } => {
                ("kernel-busy", "see /sys/kernel/livepatch/*/transition; the next check tries again")
            }
            Self::NoSuchLivepatch(_) | Self::NoSuchModule(_) => (
                "livepatch-gone",
                "find out who else unloads livepatches on this host; `livepatch apply` goes on",
            ),
            Self::ModuleInUse(_) | Self::Unload { .. } => {
                ("module-in-use", "`lsmod` says what uses it; the next check tries again")
            }
            Self::OnlyATree => ("kernel-unreadable", ""),
        }
    }
}

/// Why a module was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel refused it, with an error of which we know the meaning.
    #[error(transparent)]
    Refused(#[from] LoadRefusal),
    /// The kernel refused it with an error that has no row in the table.
    #[error("the kernel refused the module: {0}")]
    Unexpected(Errno),
    /// It could not be tried.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// What an errno of `finit_module` means (kernel/module/, kernel/livepatch/; tried out on Debian's 6.1, where
/// tests/tests/load_refusals.rs tries it again).
///
/// A kernel that enforces signatures says EKEYREJECTED to whatever it does not believe, for whatever reason; one that is
/// locked down without enforcing them says EPERM where it does not know the key. Under Secure Boot Debian's kernels do both,
/// and answer as the former.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoadRefusal {
    /// EKEYREJECTED where signatures are enforced, EPERM under lockdown, and there is no signature at all.
    #[error("the module is not signed, and the kernel takes signed ones only")]
    Unsigned,
    /// EKEYREJECTED, ENOKEY, ENOPKG: signatures are enforced and this one is not believed. Who calls has verified it before,
    /// so that the key is what is wrong: not known, or revoked.
    #[error("the kernel does not trust the key that signed the module")]
    UntrustedKey,
    /// EKEYREJECTED although nothing enforces signatures: the key is known and the bytes do not match.
    #[error(
        "the kernel knows the key of the module's signature, but the signature does not match the module"
    )]
    SignatureMismatch,
    /// EPERM with `kernel.modules_disabled=1`.
    #[error("module loading is switched off until the next boot (kernel.modules_disabled=1)")]
    ModulesDisabled,
    /// EPERM under lockdown.
    #[error("the kernel is locked down and does not trust the key that signed the module")]
    LockedDown,
    /// EPERM otherwise.
    #[error("this process may not load modules")]
    NotPermitted,
    /// ENOEXEC.
    #[error("the kernel does not take the file for a module of its own kind")]
    NotAModule,
    /// EEXIST.
    #[error("a module of that name is loaded already")]
    AlreadyLoaded,
    /// EBUSY with `kernel.ftrace_enabled=0` (`__register_ftrace_function`, kernel/trace/ftrace.c).
    #[error(
        "ftrace is switched off (kernel.ftrace_enabled=0), and the kernel redirects functions through it"
    )]
    FtraceOff,
    /// EBUSY otherwise: `klp_init_transition`, or a user of ftrace with IPMODIFY.
    #[error(
        "the kernel cannot redirect a function now: another livepatch is in transition or another tool redirects it"
    )]
    Busy,
    /// EINVAL.
    #[error(
        "the kernel finds that the livepatch does not fit it: a symbol is missing or ambiguous, or a state is incompatible"
    )]
    DoesNotFit,
    /// ENOENT.
    #[error("the module needs a symbol that this kernel does not have")]
    UnknownSymbol,
    /// ENOMEM.
    #[error("the kernel has no memory for the module")]
    NoMemory,
    /// EBADMSG.
    #[error("the module's signature is not a signature that the kernel can read")]
    BadSignatureFormat,
    /// ETXTBSY.
    #[error("the module's file is open for writing")]
    OpenForWriting,
    /// EOPNOTSUPP, ENOSYS: `finit_module` or livepatching is not there.
    #[error("the kernel cannot load modules or livepatches")]
    Unsupported,
}

/// Whether a module ends as signed ones do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    Yes,
    No,
}

impl Signed {
    /// Looks for the kernel's `MODULE_SIG_STRING` (include/linux/module_signature.h).
    pub(crate) fn of(module: &[u8]) -> Self {
        if module.ends_with(b"~Module signature appended~\n") { Self::Yes } else { Self::No }
    }
}

/// A row holds when its condition does; the first that holds decides.
type Row = (Errno, Condition, LoadRefusal);
type Condition = fn(&LoadFacts, Signed) -> bool;

const ALWAYS: Condition = |_, _| true;
const ENFORCED: Condition = |facts, _| facts.signatures_enforced == Some(true);
const LOCKED_DOWN: Condition = |facts, _| !matches!(facts.lockdown, None | Some(Lockdown::Off));
const UNSIGNED: Condition = |_, signed| signed == Signed::No;
const LOCKED_DOWN_UNSIGNED: Condition = |facts, signed| LOCKED_DOWN(facts, signed) && UNSIGNED(facts, signed);

const ROWS: [Row; 19] = [
    // What is not signed is never rejected for its key, unless signatures are enforced.
    (Errno::KEYREJECTED, UNSIGNED, LoadRefusal::Unsigned),
    (Errno::KEYREJECTED, ENFORCED, LoadRefusal::UntrustedKey),
    (Errno::KEYREJECTED, ALWAYS, LoadRefusal::SignatureMismatch),
    (Errno::NOKEY, ALWAYS, LoadRefusal::UntrustedKey),
    (Errno::NOPKG, ALWAYS, LoadRefusal::UntrustedKey),
    (Errno::PERM, |facts, _| facts.modules_disabled == Some(true), LoadRefusal::ModulesDisabled),
    (Errno::PERM, LOCKED_DOWN_UNSIGNED, LoadRefusal::Unsigned),
    (Errno::PERM, LOCKED_DOWN, LoadRefusal::LockedDown),
    (Errno::PERM, ALWAYS, LoadRefusal::NotPermitted),
    (Errno::NOEXEC, ALWAYS, LoadRefusal::NotAModule),
    (Errno::EXIST, ALWAYS, LoadRefusal::AlreadyLoaded),
    (Errno::BUSY, |facts, _| facts.ftrace_enabled == Some(false), LoadRefusal::FtraceOff),
    (Errno::BUSY, ALWAYS, LoadRefusal::Busy),
    (Errno::INVAL, ALWAYS, LoadRefusal::DoesNotFit),
    (Errno::NOENT, ALWAYS, LoadRefusal::UnknownSymbol),
    (Errno::NOMEM, ALWAYS, LoadRefusal::NoMemory),
    (Errno::BADMSG, ALWAYS, LoadRefusal::BadSignatureFormat),
    (Errno::TXTBSY, ALWAYS, LoadRefusal::OpenForWriting),
    (Errno::NOSYS, ALWAYS, LoadRefusal::Unsupported),
];

impl LoadError {
    /// What `finit_module`'s errno means under these facts, for such a module.
    pub(crate) fn from_errno(errno: Errno, facts: &LoadFacts, signed: Signed) -> Self {
        let row = ROWS.iter().find(|(number, when, _)| *number == errno && when(facts, signed));
        row.map_or(Self::Unexpected(errno), |(_, _, refusal)| Self::Refused(*refusal))
    }
}

impl LoadRefusal {
    /// A word that stays the same, for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unsigned => "kernel-unsigned-module",
            Self::UntrustedKey => "kernel-untrusted-key",
            Self::SignatureMismatch => "kernel-signature-mismatch",
            Self::ModulesDisabled => "modules-disabled",
            Self::LockedDown => "kernel-locked-down",
            Self::NotPermitted => "load-not-permitted",
            Self::NotAModule => "not-a-module",
            Self::AlreadyLoaded => "already-loaded",
            Self::FtraceOff => "ftrace-off",
            Self::Busy => "kernel-busy",
            Self::DoesNotFit => "does-not-fit",
            Self::UnknownSymbol => "unknown-symbol",
            Self::NoMemory => "kernel-no-memory",
            Self::BadSignatureFormat => "bad-signature-format",
            Self::OpenForWriting => "open-for-writing",
            Self::Unsupported => "kernel-unsupported",
        }
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Unsigned => "a livepatch is signed by its vendor before it is published; sign this one",
            Self::UntrustedKey => {
                "`sudo livepatch secure-boot status` says which keys the kernel takes, `sudo livepatch secure-boot enroll` imports the vendor's; then reboot once and confirm"
            }
            Self::LockedDown => {
                "import the vendor's certificate (`sudo livepatch secure-boot enroll`), then reboot once and confirm; or boot without lockdown="
            }
            Self::SignatureMismatch => {
                "the download was checked before: see in `sudo livepatch secure-boot status` whether the key is revoked, else report this with the patch version"
            }
            Self::ModulesDisabled => {
                "remove kernel.modules_disabled=1 from the sysctl configuration and reboot"
            }
            Self::NotPermitted => "run the daemon as root with CAP_SYS_MODULE, outside a container",
            Self::NotAModule => {
                "the module was made for another kind of kernel; report it with the patch version and `uname -a`"
            }
            Self::BadSignatureFormat => {
                "the module passed the client's own checks; report it with the patch version and `uname -a`"
            }
            Self::AlreadyLoaded => "see `lsmod` and /sys/kernel/livepatch; `livepatch refresh` looks again",
            Self::FtraceOff => "`sysctl kernel.ftrace_enabled=1`, and look for what sets it in /etc/sysctl.d",
            Self::Busy => {
                "see /sys/kernel/livepatch/*/transition, and tools that change functions through kprobes or ftrace"
            }
            Self::DoesNotFit => {
                "the kernel's log (`dmesg`) names the symbol or the state that does not fit; report it"
            }
            Self::UnknownSymbol => "the kernel's log (`dmesg`) names the missing symbol; report it",
            Self::NoMemory => "free memory, then `livepatch refresh`",
            Self::OpenForWriting => "stop what writes to the file, then `livepatch refresh`",
            Self::Unsupported => "this kernel cannot be livepatched; boot one built with CONFIG_LIVEPATCH",
        }
    }
}
