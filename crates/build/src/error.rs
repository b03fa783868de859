//! What can go wrong when building, the exit code of each, and what to do about it.

use std::borrow::Cow;
use std::path::PathBuf;

use livepatch_kbuild::KbuildError;
use livepatch_kimage::ImageError;
use livepatch_klp::Refusal;
use livepatch_types::plural;

use crate::report::Finding;

/// Exit codes of `livepatch-build`. They are an interface: scripts decide by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Success = 0,
    /// A file, program or disk is in the way.
    Environment = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The patch cannot be read, does not apply, or changes what cannot be compiled.
    Patch = 3,
    /// The kernel cannot be livepatched, or its toolchain is not here.
    Kernel = 4,
    /// The change cannot become a livepatch; the rule is named.
    Refused = 5,
    /// The patch changes nothing in this kernel: it is not affected.
    NoChange = 6,
    /// A key, certificate or bundle is wrong.
    Signing = 7,
    /// A person must argue what the livepatch leaves out.
    NeedsPerson = 8,
    /// A proof failed, or a bundle is not what its sources make.
    Unproven = 9,
    /// An archive is not signed, or old, or not what its keys signed.
    Archive = 10,
}

/// Why a livepatch was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Sources, toolchain or compiling.
    #[error(transparent)]
    Kbuild(#[from] KbuildError),
    /// The kernel image.
    #[error("{path}: {source}")]
    Image {
        /// The vmlinuz.
        path: PathBuf,
        /// What is wrong with it.
        source: ImageError,
    },
    /// The image is of another kernel than its name says.
    #[error("{path} does not say which release it is")]
    NoRelease {
        /// The vmlinuz.
        path: PathBuf,
    },
    /// The change cannot become a livepatch.
    #[error("{unit}: {refusal}")]
    Refused {
        /// The unit that is concerned, or "the livepatch".
        unit: String,
        /// The rule and place.
        refusal: Refusal,
    },
    /// Nothing changes in this kernel.
    #[error("the patch changes nothing in this kernel: {0}")]
    NoChange(String),
    /// All that changes must be left out, and nobody has argued that.
    #[error("nothing of the patch can be in a livepatch: {}", list(findings))]
    NothingLeft {
        /// What was left out.
        findings: Vec<Finding>,
    },
    /// Findings that nobody has argued.
    #[error("{} must be argued by a person before this is built: {}", plural(places.len(), "finding", "findings"), places.join("; "))]
    NeedsPerson {
        /// Each finding: unit, place and rule.
        places: Vec<String>,
    },
    /// A module that is patched has no build-id.
    #[error("the module {0} has no gnu build-id")]
    NoModuleBuildId(String),
    /// Debug information cannot be kept.
    #[error("the debug information cannot be kept: {0}")]
    NoDebug(String),
    /// The parts do not make a bundle.
    #[error(transparent)]
    Bundle(#[from] livepatch_manifest::BundleError),
    /// `Module.symvers` is damaged.
    #[error(transparent)]
    Symvers(#[from] livepatch_klp::symvers::SymversError),
}

/// Places with their rules.
fn list(findings: &[Finding]) -> String {
    let place = |f: &Finding| format!("{} in {} (rule {})", f.place, f.unit, f.rule);
    findings.iter().map(place).collect::<Vec<_>>().join("; ")
}

impl BuildError {
    pub(crate) fn refused(unit: &str) -> impl FnOnce(Refusal) -> Self {
        let unit = unit.to_owned();
        move |refusal| Self::Refused { unit, refusal }
    }

    pub(crate) fn exit_code_of(error: &KbuildError) -> ExitCode {
        match error {
            KbuildError::Patch(_) | KbuildError::DoesNotApply { .. } | KbuildError::Scope(_) => {
                ExitCode::Patch
            }
            KbuildError::Config(_) | KbuildError::Compiler { .. } | KbuildError::Toolchain { .. } => {
                ExitCode::Kernel
            }
            _ => ExitCode::Environment,
        }
    }

    /// The exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Kbuild(error) => Self::exit_code_of(error),
            Self::Bundle(_) | Self::NoDebug(_) => ExitCode::Environment,
            Self::Image { .. } | Self::NoRelease { .. } | Self::NoModuleBuildId(_) | Self::Symvers(_) => {
                ExitCode::Kernel
            }
            Self::Refused { .. } | Self::NothingLeft { .. } => ExitCode::Refused,
            Self::NoChange(_) => ExitCode::NoChange,
            Self::NeedsPerson { .. } => ExitCode::NeedsPerson,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Cow<'static, str> {
        let text = match self {
            Self::Kbuild(error) => return error.hint(),
            Self::Image { .. } | Self::NoRelease { .. } => {
                "give the linux-image package of the distribution, or a directory with boot/vmlinuz-* as shipped"
            }
            Self::Refused { refusal, .. } => refusal.rule.hint(),
            Self::NothingLeft { .. } => {
                "the fix needs a reboot; or say for each place why a running kernel does not need it (--argue 'PLACE=REASON')"
            }
            Self::NoChange(_) => "record the CVE as not affecting this kernel; there is nothing to livepatch",
            Self::NeedsPerson { .. } => {
                "say for each place why the livepatch is right all the same (--argue 'PLACE=REASON'); what it leaves out may also be built as partial (--allow-partial)"
            }
            Self::NoModuleBuildId(_) => {
                "the module is not as the distribution shipped it; use the linux-image package"
            }
            Self::NoDebug(_) => "build without it; the livepatch does not depend on it",
            Self::Bundle(_) => "the livepatch is larger than any should be; patch less at once",
            Self::Symvers(_) => "use the Module.symvers of the linux-headers package of this kernel",
        };
        text.into()
    }
}
