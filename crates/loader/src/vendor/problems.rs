//! What the vendor's metadata is refused for, in words that stay the same.

use std::path::Path;

use livepatch_trust::{NEW_ROOTS, Refusal, RepositoryName};

use super::ROOT_FILE;
use crate::Problem;

const RESET: &str =
    "`livepatch trust reset` begins anew from the pinned root (docs/trust.md); what runs stays";

/// What a host hears that asks a server.
pub(crate) const OTHER_IS_SERVED: &str =
    "the server serves another vendor's repository than the one that is pinned here; tell its operator";

/// A host on which the vendor's certificate alone counts.
pub(crate) fn not_pinned() -> Problem {
    let hint = "nothing is to be done; the certificate in vendor.pem counts";
    Problem::new("vendor-not-pinned", "no root of the vendor's is pinned on this host", hint)
}

/// The same where it is the only one whose word there is.
pub(crate) fn not_pinned_but_needed() -> Problem {
    let message = "no root of the vendor's is pinned on this host, and without a server its word is needed";
    let hint =
        "put the vendor's metadata/1.root.json as vendor-root.json into /etc/livepatch/trust (docs/trust.md)";
    Problem::new("vendor-not-pinned", message, hint)
}

/// What was seen cannot be read.
pub(crate) fn state_unreadable(path: &Path, why: &str) -> Problem {
    Problem::new("trust-state-unreadable", format!("cannot use {}: {why}", path.display()), RESET)
}

/// It is not there any more.
pub(crate) fn state_missing(repository: &RepositoryName) -> Problem {
    let message = format!("what was seen of the vendor's repository {repository} is lost");
    Problem::new("trust-state-missing", message, RESET)
}

/// The pinned root is none.
pub(crate) fn root_unreadable(refusal: &Refusal) -> Problem {
    let message = format!("{ROOT_FILE} in the trust directory: {refusal}");
    Problem::new("trust-unreadable", message, "put the vendor's metadata/1.root.json there")
}

/// It is not there any more.
pub(crate) fn root_missing(repository: &RepositoryName) -> Problem {
    let message =
        format!("{ROOT_FILE} is gone, and this host is held to the vendor's repository {repository}");
    let hint = "put the file back into the trust directory";
    let mut problem = Problem::new("vendor-root-missing", message, hint);
    let or = "or `livepatch trust reset`: from then on the vendor's certificate alone counts";
    problem.hints.push(or.into());
    problem
}

/// It is another one.
pub(crate) fn other_root(was: &RepositoryName, is: &RepositoryName) -> Problem {
    let message = format!("{ROOT_FILE} is that of repository {is}, and this host is held to {was}");
    Problem::new("vendor-other-repository", message, RESET)
}

/// What a host says that cannot follow to the pinned root.
pub(crate) const NEWER_ROOT_PINNED: &str = "vendor-root-newer-pinned";

/// It is a later one of the same repository, and the way there is not known.
pub(crate) fn newer_root_pinned(repository: &RepositoryName, seen: u64, pinned: u64) -> Problem {
    let message = format!(
        "{ROOT_FILE} is version {pinned} of {repository}, which does not follow from version {seen}, the last that was seen"
    );
    let hint = "`livepatch refresh` fetches those in between; if it stays so, the server or a mirror holds them back: tell its operator";
    let mut problem = Problem::new(NEWER_ROOT_PINNED, message, hint);
    problem.hints.push(format!("or {RESET}"));
    problem
}

/// The agent brings what nobody asked for.
pub(crate) fn not_wanted() -> Problem {
    let message = "no file of the vendor's repository is wanted";
    Problem::new("metadata-not-wanted", message, "the next check begins anew")
}

/// The operator knows of more than this host.
pub(crate) fn behind(repository: &RepositoryName) -> Problem {
    let message =
        format!("the operator names newer metadata of the vendor's repository {repository} than was seen");
    let hint = "`livepatch refresh` fetches it; if it stays so, the server or a mirror is behind";
    Problem::new("vendor-behind", message, hint)
}

/// Nothing is known of this kernel yet.
pub(crate) fn unseen(repository: &RepositoryName) -> Problem {
    let message = format!("the vendor's repository {repository} was not asked about this kernel yet");
    let hint = "`livepatch refresh` asks; the server must serve the repository that is pinned here";
    Problem::new("vendor-unseen", message, hint)
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::Rollback { .. } => "vendor-rollback",
            Refusal::OtherContent { .. } => "vendor-split-view",
            Refusal::WrongVersion { .. }
            | Refusal::WrongLength { .. }
            | Refusal::WrongHash { .. }
            | Refusal::Missing(_) => "vendor-mismatch",
            Refusal::TooLong { .. } | Refusal::TooMany { .. } => "vendor-oversized",
            Refusal::Malformed { .. }
            | Refusal::WrongType { .. }
            | Refusal::Name(_)
            | Refusal::Delegations(_) => "vendor-malformed",
            Refusal::Format(_) | Refusal::Critical(_) => "vendor-too-new",
            Refusal::Threshold { .. } => "vendor-threshold",
            Refusal::KeyId { .. }
            | Refusal::DuplicateKey(..)
            | Refusal::BadRole { .. }
            | Refusal::WrongKind(_) => "vendor-bad-root",
            Refusal::WrongRepository { .. } => "vendor-other-repository",
            Refusal::Expired { .. } => "vendor-expired",
            Refusal::ClockBehind { .. } => "clock-behind",
            Refusal::UnknownKernel(_) => "vendor-unknown-kernel",
            Refusal::WrongKernel { .. } => "vendor-wrong-kernel",
            Refusal::Withdrawn(_) => "withdrawn-livepatch",
            Refusal::BelowLowest { .. } | Refusal::NotAllowed(_) => "vendor-not-allowed",
            Refusal::Signer { .. } => "vendor-wrong-signer",
            Refusal::ForeignModule { .. } => "foreign-module",
        };
        // Where the refusal's own hint is for those who make repositories.
        let hint = match &refusal {
            Refusal::BelowLowest { .. } | Refusal::NotAllowed(_) | Refusal::Withdrawn(_) => {
                "the server offers what the vendor does not allow; tell its operator"
            }
            Refusal::Threshold { .. } | Refusal::Signer { .. } => {
                "the server or a mirror serves what the vendor did not sign so; tell its operator"
            }
            Refusal::WrongRepository { .. } => OTHER_IS_SERVED,
            Refusal::UnknownKernel(_) => "`livepatch doctor` says which kernels get livepatches here",
            Refusal::WrongKernel { .. } => {
                "the server or a cache in between mixes up kernels; tell its operator"
            }
            Refusal::WrongLength { .. } | Refusal::WrongHash { .. } | Refusal::Missing(_) => {
                "`livepatch refresh` fetches it again; if it stays so, tell the server's operator"
            }
            Refusal::TooMany { what: NEW_ROOTS, .. } => {
                "those that were taken are kept: `livepatch refresh` goes on from there"
            }
            Refusal::TooLong { .. }
            | Refusal::TooMany { .. }
            | Refusal::Malformed { .. }
            | Refusal::WrongType { .. } => "the server or a mirror serves something else; tell its operator",
            Refusal::Format(_) | Refusal::Critical(_) => "upgrade the client",
            Refusal::ClockBehind { .. } => "set this host's clock (`date -u`), then `livepatch refresh`",
            other => other.hint(),
        };
        Self::new(code, &refusal, hint)
    }
}
