//! What the vendor's metadata is refused for, in words that stay the same.

use livepatch_trust::Refusal;

use crate::Problem;

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::Rollback { .. } => "vendor-rollback",
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
            Refusal::WrongRepository { .. } => {
                "the server serves another vendor's repository than the one that is pinned here; tell its operator"
            }
            other => other.hint(),
        };
        Self::new(code, &refusal, hint)
    }
}
