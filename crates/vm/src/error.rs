//! What can go wrong with a guest, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// An error of this crate. The message is one line; [`VmError::hint`] says what to do and
/// [`VmError::last_lines`] shows the end of the guest's console where that helps.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// A program of the host is not installed.
    #[error("{program} is not installed")]
    MissingProgram {
        /// Its name.
        program: String,
    },
    /// A program of the host failed.
    #[error("{program} failed: {detail}")]
    Program {
        /// Its name.
        program: String,
        /// The end of what it said.
        detail: String,
    },
    /// The guest did not reach its command prompt.
    #[error("guest does not boot: {reason}")]
    NoBoot {
        /// The kernel's panic, QEMU's complaint, or the time-out.
        reason: String,
        /// The end of the console.
        last_lines: String,
        /// The whole transcript.
        transcript: PathBuf,
    },
    /// A step in the guest took too long. The guest is still usable: the step was killed.
    #[error("{step} did not finish within {} s in the guest{detail}", .after.as_secs_f64())]
    TimedOut {
        /// What was being done.
        step: String,
        /// The time it was given.
        after: Duration,
        /// What was seen last, starting with a separator, or nothing.
        detail: String,
        /// The whole transcript.
        transcript: PathBuf,
    },
    /// The guest stopped or no longer answers.
    #[error("guest stopped answering during {step}: {reason}")]
    Gone {
        /// What was being done.
        step: String,
        /// How we know.
        reason: String,
        /// The end of the console.
        last_lines: String,
        /// The whole transcript.
        transcript: PathBuf,
    },
    /// A command that had to succeed did not.
    #[error("{step} failed in the guest with status {status}: {detail}")]
    Failed {
        /// What was being done.
        step: String,
        /// Its exit status.
        status: i32,
        /// The last line it wrote.
        detail: String,
        /// The whole transcript.
        transcript: PathBuf,
    },
    /// The guest's answer could not be understood.
    #[error("guest answered {step} with something else: {detail}")]
    Protocol {
        /// What was being done.
        step: String,
        /// What was wrong.
        detail: String,
        /// The whole transcript.
        transcript: PathBuf,
    },
    /// The directory is not an extracted kernel package.
    #[error("{path} is not an extracted kernel package: {detail}")]
    NotAKernel {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        detail: String,
    },
    /// The kernel has no such module.
    #[error("kernel {release} has no module {module}")]
    NoModule {
        /// The module's name.
        module: String,
        /// The kernel's release.
        release: String,
    },
    /// The kernels for tests have not been fetched.
    #[error("the kernel {name} is not in {dir}")]
    NotFetched {
        /// Its name in demo.toml.
        name: String,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The boot loaders that a distribution signed have not been fetched.
    #[error("there are no signed boot loaders in {dir}")]
    NoBootLoaders {
        /// Where they were looked for.
        dir: PathBuf,
    },
    /// A value that cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// Reading or writing on the host failed.
    #[error("cannot {what}")]
    Io {
        /// What was being done.
        what: String,
        /// Why not.
        source: io::Error,
    },
}

impl VmError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::MissingProgram { .. } => Some("install what is needed: cargo xtask setup".into()),
            Self::NotFetched { .. } => {
                Some("fetch the kernels: cargo xtask setup && cargo xtask fetch".into())
            }
            Self::NoBootLoaders { .. } => Some("fetch them: cargo xtask setup && cargo xtask fetch".into()),
            Self::NoModule { .. } => Some("name a module of this kernel package, as modprobe would".into()),
            Self::NotAKernel { .. } => {
                Some("give the directory that a linux-image package was extracted into".into())
            }
            _ => self.transcript().map(|path| format!("the whole transcript is in {}", path.display())),
        }
    }

    /// The file with the guest's console and all commands, if there was a guest.
    pub fn transcript(&self) -> Option<&Path> {
        match self {
            Self::NoBoot { transcript, .. }
            | Self::TimedOut { transcript, .. }
            | Self::Gone { transcript, .. }
            | Self::Failed { transcript, .. }
            | Self::Protocol { transcript, .. } => Some(transcript),
            _ => None,
        }
    }

    /// The end of the guest's console, where that is the best explanation.
    pub fn last_lines(&self) -> Option<&str> {
        match self {
            Self::NoBoot { last_lines, .. } | Self::Gone { last_lines, .. } => Some(last_lines),
            _ => None,
        }
    }

    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}
