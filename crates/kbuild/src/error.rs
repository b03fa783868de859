use std::borrow::Cow;
use std::path::PathBuf;

/// What went wrong with sources, toolchain or compiling. [`KbuildError::hint`] says what to do.
#[derive(Debug, thiserror::Error)]
pub enum KbuildError {
    /// The source or compiler does not know the kernel's configuration.
    #[error("with this source and compiler the kernel's configuration would differ in {option}")]
    OtherConfiguration {
        /// The option: `CONFIG_ARCH_SUPPORTS_RT=y`.
        option: String,
    },
    /// A file or directory cannot be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as in "read" or "write".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A package or directory lacks something.
    #[error("{path} does not hold {what}")]
    Missing {
        /// The package or directory.
        path: PathBuf,
        /// What was looked for.
        what: String,
    },
    /// The modules of an own kernel were not given.
    #[error("the patch concerns module {0}, and where this kernel's modules are was not said")]
    NoModules(String),
    /// A program is not installed.
    #[error("the program {0} is not installed")]
    NoProgram(String),
    /// A program failed.
    #[error("{what} failed:\n{output}")]
    Failed {
        /// What was being done.
        what: String,
        /// The end of what the program printed.
        output: String,
    },
    /// The kernel's compiler is not here.
    #[error("the kernel was built with \"{kernel}\", but {here}")]
    Compiler {
        /// CONFIG_CC_VERSION_TEXT.
        kernel: String,
        /// What is here.
        here: String,
        /// What to do about it.
        hint: String,
    },
    /// Somebody works in the source.
    #[error("the source changed while it was copied")]
    SourceChanged,
    /// Programs cannot be isolated.
    #[error("{0}")]
    Sandbox(String),
    /// A program took more than it may, and was ended.
    #[error("{what} was ended: {excess}")]
    Limit {
        /// What was being done.
        what: String,
        /// What there was too much of.
        excess: String,
    },
    /// A toolchain root cannot be used, or not be made.
    #[error("the toolchain root {name} {why}")]
    Toolchain {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The kernel's configuration lacks something.
    #[error("this kernel is built without {0}")]
    Config(&'static str),
    /// The patch is not a patch that can be worked with.
    #[error("the patch {0}")]
    Patch(String),
    /// The patch does not fit the source.
    #[error("the patch does not apply to {file}: {why}")]
    DoesNotApply {
        /// The source file.
        file: String,
        /// The hunk that does not fit.
        why: String,
    },
    /// The patch changes nothing that is compiled, or something that is not handled.
    #[error("the patch {0}")]
    Scope(String),
    /// A file of the build system is not as expected.
    #[error("{path}: {why}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl KbuildError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// What to do about it.
    pub fn hint(&self) -> Cow<'static, str> {
        let text = match self {
            Self::Compiler { hint, .. } => return hint.clone().into(),
            Self::Io { source, .. }
                if source.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error()) =>
            {
                "free some space, or point --cache to another file system; a kernel needs about 2 GiB"
            }
            Self::Io { .. } => "check that the path is right and that you may use it",
            Self::Missing { .. } => {
                "give the linux-image, linux-headers and linux-source packages of one version"
            }
            Self::NoModules(_) => {
                "give --modules DIR: lib/modules/RELEASE, or the tree the kernel was built in"
            }
            Self::SourceChanged => "build when nobody works in it, or from a copy",
            Self::Sandbox(_) => {
                "install bubblewrap (0.8 or later) where user namespaces are allowed; or run sources that you trust as yourself, with --sandbox none"
            }
            Self::Limit { .. } => {
                "look at what the source does there; a sound kernel stays far below these limits"
            }
            Self::Toolchain { .. } => {
                "see `livepatch-build toolchain list`; a root is removed by removing its directory"
            }
            Self::NoProgram(program) if program == "mmdebstrap" => {
                "install mmdebstrap, and, to use it as a user, uidmap"
            }
            Self::NoProgram(_) => "install the packages that `cargo xtask setup` lists",
            Self::Failed { output, .. } if output.contains("No space left on device") => {
                "free some space, or point --cache to another file system; a kernel needs about 2 GiB"
            }
            Self::Failed { .. } => "the output above says why; nothing was written",
            Self::Config(_) => {
                "such a kernel cannot be livepatched; choose a flavour with CONFIG_LIVEPATCH=y"
            }
            Self::OtherConfiguration { .. } => {
                "give the source and compiler that the kernel was built from; Debian's rt kernels have patches that no \
                 linux-source package has: give the packaging, too (--source-patches)"
            }
            Self::Patch(_) => "give a unified diff with a/ and b/ paths, such as git format-patch makes",
            Self::DoesNotApply { .. } => "make the patch against exactly the source version of this kernel",
            Self::Scope(_) => "a livepatch is built from changes to .c files that the kernel compiles",
            Self::Format { .. } => "the cache may be damaged: remove the directory and build again",
        };
        text.into()
    }
}
