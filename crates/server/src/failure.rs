use std::fmt;
use std::process::ExitCode;

use livepatch_store::{ObjectError, StoreError};

/// Exit codes of `livepatch-server`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Something here failed: a disk, the database.
    Failed = 1,
    /// The command line is wrong (clap's own code).
    Usage = 2,
    /// What was asked for was looked at and refused: a bundle, a name, a version.
    Refused = 3,
    /// The data directory is not there, not usable, or there already.
    Setup = 4,
    /// The server cannot listen at the address.
    Listen = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed, and what to do about it. Displays as printed: `error: …`, a blank line, `hint: …` lines.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
    hints: Vec<String>,
}

impl Failure {
    /// A failure without hints.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, error: error.into(), hints: vec![] }
    }
    /// A refusal in words.
    pub fn refused(message: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, anyhow::anyhow!("{message}"))
    }
    /// The same with context before it.
    #[must_use]
    pub fn context(self, context: impl fmt::Display + Send + Sync + 'static) -> Self {
        Self { error: self.error.context(context), ..self }
    }
    /// The same with one more thing to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
    /// The exit code.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {:#}", self.error)?;
        if !self.hints.is_empty() {
            writeln!(f)?;
        }
        self.hints.iter().try_for_each(|hint| writeln!(f, "hint: {hint}"))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        use StoreError as E;
        let (exit, hint) = match &error {
            E::Missing(_) => (Exit::Setup, Some("run `livepatch-server init --data DIR` first")),
            E::Schema(_) => {
                (Exit::Setup, Some("use the newest livepatch-server that has worked on this directory"))
            }
            E::DiskFull => {
                (Exit::Failed, Some("make room on the disk of the data directory; nothing was changed"))
            }
            E::UnknownTier { .. } => (Exit::Refused, None),
            E::TokenExists(_) => (Exit::Refused, Some("take another name; `token list` shows those in use")),
            E::UnknownToken => (Exit::Refused, Some("`livepatch-server token list` shows the names")),
            E::UnknownKernel(_) => (Exit::Refused, Some("`livepatch-server kernel list` shows the kernels")),
            E::UnknownVersion(_) => (Exit::Refused, Some("`livepatch-server patch list` shows the patches")),
            E::Withdrawn(_) => (Exit::Refused, Some("build the patch again under a higher version")),
            E::OtherPatch { .. } => (
                Exit::Refused,
                Some("a published version never changes; build the patch under a higher version"),
            ),
            E::OtherRelease { .. } => {
                (Exit::Refused, Some("one of the two bundles was built with a wrong kernel identity"))
            }
            _ => (Exit::Failed, None),
        };
        let failure = Self::new(exit, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<ObjectError> for Failure {
    fn from(error: ObjectError) -> Self {
        let hint = match &error {
            ObjectError::Damaged { name, .. } | ObjectError::TooLarge(name) => Some(format!(
                "remove objects/{name} from the data directory and publish its bundle again; check the disk"
            )),
            ObjectError::Io { action: "write", .. } => {
                Some("make sure that the disk of the data directory has room; nothing was changed".to_owned())
            }
            _ => None,
        };
        let failure = Self::new(Exit::Failed, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
