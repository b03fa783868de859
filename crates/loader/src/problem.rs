//! What can go wrong in the loader, each with a word for programs, a line for people, and what to do.

use std::fmt::Display;

use livepatch_api::daemon::Failure;
use livepatch_kernel::{KernelError, LoadError, SealError};
use livepatch_manifest::{DocumentError, EnvelopeError, ObjectError};
use livepatch_modsig::VerifyError;

/// A failure on its way to an answer and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A word that stays the same.
    pub code: &'static str,
    /// One line in lower case.
    pub message: String,
    /// What to do, one line each.
    pub hints: Vec<String>,
}

impl Problem {
    /// A problem with one hint; an empty hint is none.
    pub fn new(code: &'static str, message: impl Display, hint: &str) -> Self {
        let Failure { message, hints, .. } = Failure::new(code, message, hint);
        Self { code, message, hints }
    }

    /// The wire form.
    pub fn to_failure(&self) -> Failure {
        Failure { code: self.code.to_owned(), message: self.message.clone(), hints: self.hints.clone() }
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests;

pub(crate) const OPERATOR_HINT: &str = "compare what is pinned in the trust directory (operator-root.json, or operator.pub) with what the server's operator gives out";

impl From<DocumentError> for Problem {
    fn from(error: DocumentError) -> Self {
        let (code, hint) = match &error {
            DocumentError::Envelope(EnvelopeError::UntrustedSigner(_)) => {
                ("document-wrong-signer", OPERATOR_HINT)
            }
            DocumentError::Envelope(EnvelopeError::BadSignature(_)) => (
                "document-tampered",
                "somebody changes what the server sends; look at proxies and mirrors in between",
            ),
            DocumentError::Envelope(_) | DocumentError::Malformed(_) => {
                ("document-malformed", "check that the server URL is that of a livepatch server")
            }
            DocumentError::Schema(_) | DocumentError::Critical(_) => {
                ("document-too-new", "upgrade the client")
            }
            DocumentError::WrongKernel { .. } => (
                "document-wrong-kernel",
                "the server or a cache in between mixes up kernels; tell its operator",
            ),
            DocumentError::WrongChannel { .. } => (
                "document-wrong-channel",
                "the server or a cache in between mixes up tiers; tell its operator",
            ),
            DocumentError::Rollback { .. } => (
                "document-rollback",
                "the server serves an old state, perhaps a restored backup; tell its operator",
            ),
            DocumentError::Expired(_) => (
                "document-expired",
                "the server must sign a new one; check this host's clock too (`date -u`)",
            ),
            DocumentError::NotYetValid { .. } => {
                ("document-not-yet-valid", "set this host's clock (`date -u`), then `livepatch refresh`")
            }
        };
        Self::new(code, error, hint)
    }
}

impl From<VerifyError> for Problem {
    fn from(error: VerifyError) -> Self {
        let (code, hint) = match &error {
            VerifyError::Unsigned => {
                ("unsigned-module", "the server offers a module that nobody signed; tell its operator")
            }
            VerifyError::UnknownSigner { .. } => (
                "wrong-signer",
                "compare vendor.pem in the trust directory with the certificate of the module signer",
            ),
            VerifyError::BadSignature { .. } => (
                "tampered-module",
                "somebody changed the module after it was signed; tell the server's operator",
            ),
            VerifyError::Malformed(_) | VerifyError::Unsupported(_) => (
                "bad-module-signature",
                "the module was not signed as livepatches are; tell the server's operator",
            ),
        };
        Self::new(code, format!("the module is refused: {error}"), hint)
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Refused(refusal) => Self::new(refusal.code(), refusal, refusal.hint()),
            LoadError::Unexpected(_) => Self::new("load-failed", error, "see the kernel's log (`dmesg`)"),
            LoadError::Kernel(error) => error.into(),
        }
    }
}

impl From<KernelError> for Problem {
    fn from(error: KernelError) -> Self {
        Self::new(error.code(), &error, error.hint())
    }
}

impl From<ObjectError> for Problem {
    fn from(error: ObjectError) -> Self {
        Self::new(error.code(), &error, error.hint())
    }
}

impl From<SealError> for Problem {
    fn from(error: SealError) -> Self {
        match error {
            SealError::TooLong(_) => Self::new("oversized-module", error, "tell the server's operator"),
            SealError::Io(_) => {
                Self::new("module-unreadable", error, "`livepatch refresh` downloads it again")
            }
        }
    }
}
