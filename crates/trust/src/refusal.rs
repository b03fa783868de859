use jiff::Timestamp;
use livepatch_types::{BuildId, InvalidValue, KernelIdentity, ModuleName, PatchVersion, Sha256Digest};

use crate::{Kind, Role};

/// Why metadata is not believed, or what it does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More bytes than such a file may have.
    #[error("{what} is longer than the {limit} bytes that it may have")]
    TooLong {
        /// The file.
        what: String,
        /// Its limit in bytes.
        limit: u64,
    },
    /// More of something than is looked at.
    #[error("there are more {what} than {limit}")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// Not the JSON that is expected.
    #[error("{what} does not parse: {why}")]
    Malformed {
        /// The file.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// Metadata of another kind than was asked for.
    #[error("the metadata is of type {actual:?} where {expected} is expected")]
    WrongType {
        /// The role that was asked for.
        expected: Role,
        /// The type it states.
        actual: String,
    },
    /// A format that this program does not know.
    #[error("format {0:?} is not one that this program reads")]
    Format(String),
    /// A critical member that this program does not know.
    #[error("the metadata requires {0:?}, which this program does not understand")]
    Critical(String),
    /// A key does not have the name that follows from it.
    #[error("the key {stated} has the id {actual}")]
    KeyId {
        /// The name in the metadata.
        stated: Sha256Digest,
        /// The name that it must have.
        actual: Sha256Digest,
    },
    /// One key under two names.
    #[error("the keys {0} and {1} are the same key")]
    DuplicateKey(Sha256Digest, Sha256Digest),
    /// A role that is not as it must be.
    #[error("the role {role} is wrong: {why}")]
    BadRole {
        /// The role.
        role: Role,
        /// The rule it breaks.
        why: &'static str,
    },
    /// A root of the other kind, or with other roles than that kind has.
    #[error("the root does not have the roles of {0}")]
    WrongKind(Kind),
    /// The root of another repository.
    #[error("the root is that of repository {actual}, not of {expected}")]
    WrongRepository {
        /// The repository that is trusted.
        expected: String,
        /// The one it speaks of.
        actual: String,
    },
    /// Too few keys signed.
    #[error("{valid} of the {threshold} signatures that the role {role} needs are valid")]
    Threshold {
        /// The role.
        role: Role,
        /// Different keys of the role with a valid signature.
        valid: usize,
        /// How many are needed.
        threshold: usize,
    },
    /// Not the version that was named.
    #[error("the {role} metadata has version {actual} where {expected} is expected")]
    WrongVersion {
        /// The role.
        role: Role,
        /// The version that was named.
        expected: u64,
        /// Its version.
        actual: u64,
    },
    /// Older than what was seen.
    #[error("the {role} metadata has version {offered}, older than version {seen} seen before")]
    Rollback {
        /// The role.
        role: Role,
        /// The version that is offered.
        offered: u64,
        /// The highest version seen.
        seen: u64,
    },
    /// Another file under the version of one that was seen.
    #[error(
        "the {role} metadata of version {version} has SHA-256 {offered}, and the one seen before had {seen}"
    )]
    OtherContent {
        /// The role.
        role: Role,
        /// The version of both.
        version: u64,
        /// Digest of the one that was seen.
        seen: Sha256Digest,
        /// Digest of the one that is offered.
        offered: Sha256Digest,
    },
    /// Not the length that was signed.
    #[error("{what} has {actual} bytes where {expected} were signed")]
    WrongLength {
        /// The file.
        what: String,
        /// Length in bytes that was signed.
        expected: u64,
        /// Its length in bytes.
        actual: u64,
    },
    /// Not the bytes that were signed.
    #[error("{what} has SHA-256 {actual} where {expected} was signed")]
    WrongHash {
        /// The file.
        what: String,
        /// The digest that was signed.
        expected: Sha256Digest,
        /// Its digest.
        actual: Sha256Digest,
    },
    /// A file that must be there is not.
    #[error("{0} is missing")]
    Missing(String),
    /// Targets that hand on their right.
    #[error("the targets delegate to {0} other roles; a vendor's repository has no delegations")]
    Delegations(usize),
    /// A name that must not become a path.
    #[error(transparent)]
    Name(#[from] InvalidValue),
    /// Its time is over.
    #[error("the {role} metadata expired at {expires}")]
    Expired {
        /// The role.
        role: Role,
        /// When.
        expires: Timestamp,
    },
    /// The clock here cannot be right.
    #[error("the clock here says {now:.0}, but metadata was signed at {issued}")]
    ClockBehind {
        /// The latest time of signing that was seen.
        issued: Timestamp,
        /// The clock.
        now: Timestamp,
    },
    /// The vendor says nothing about this kernel.
    #[error("the vendor allows nothing for kernel {} (build-id {}, {})", .0.release, .0.build_id, .0.architecture)]
    UnknownKernel(Box<KernelIdentity>),
    /// What is allowed for another kernel.
    #[error("this is for kernel {actual}, not for {expected}")]
    WrongKernel {
        /// Build-id and architecture of this kernel.
        expected: String,
        /// Those it is for.
        actual: String,
    },
    /// Withdrawn for good.
    #[error("the vendor withdrew livepatch {0}")]
    Withdrawn(PatchVersion),
    /// Older than the vendor allows.
    #[error("livepatch {version} is below {lowest}, the lowest that the vendor allows")]
    BelowLowest {
        /// The livepatch.
        version: PatchVersion,
        /// The lowest.
        lowest: PatchVersion,
    },
    /// The vendor does not list it.
    #[error("the vendor does not allow livepatch {0} for this kernel")]
    NotAllowed(PatchVersion),
    /// Signed by a key that the vendor does not name for it.
    #[error("the module is signed by key {actual}, where the vendor names {expected}")]
    Signer {
        /// Subject key identifier that the vendor names.
        expected: String,
        /// That of the key which signed the module.
        actual: String,
    },
    /// A module here is not the one that the livepatch was built against.
    #[error("the module {name} here has build-id {actual}, where the livepatch is for {expected}")]
    ForeignModule {
        /// The module.
        name: ModuleName,
        /// Its build-id when the livepatch was built.
        expected: BuildId,
        /// Its build-id here.
        actual: BuildId,
    },
}

impl Refusal {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Rollback { .. } | Self::WrongVersion { .. } => {
                "the server or a mirror serves old files: wait for it to catch up, or ask its operator"
            }
            Self::OtherContent { .. } => {
                "two files were signed as one version: tell whoever holds the repository's online keys, for one may be stolen"
            }
            Self::TooLong { .. }
            | Self::TooMany { .. }
            | Self::Malformed { .. }
            | Self::WrongType { .. }
            | Self::WrongLength { .. }
            | Self::WrongHash { .. }
            | Self::Missing(_) => "the files were damaged or changed on the way; copy or fetch them again",
            Self::Format(_) | Self::Critical(_) => "update this program",
            Self::Threshold { .. } => "more holders of keys must sign: `livepatch-build trust sign`",
            Self::KeyId { .. }
            | Self::DuplicateKey(..)
            | Self::BadRole { .. }
            | Self::WrongKind(_)
            | Self::WrongRepository { .. }
            | Self::Delegations(_)
            | Self::Name(_) => "the repository is not made as it must be; tell whoever publishes it",
            Self::Expired { .. } => {
                "nothing new is installed and what runs stays; the publisher must renew the metadata"
            }
            Self::ClockBehind { .. } => "set the clock of this machine",
            Self::UnknownKernel(_) | Self::WrongKernel { .. } => {
                "only kernels that the vendor names by build-id get livepatches"
            }
            Self::Withdrawn(_) | Self::BelowLowest { .. } | Self::NotAllowed(_) => {
                "use a livepatch that the vendor allows today: `livepatch-build trust show` lists them"
            }
            Self::Signer { .. } => "the vendor must allow the bundle again after it was signed",
            Self::ForeignModule { .. } => {
                "the livepatch is for the distribution's module; unload the other one"
            }
        }
    }
}
