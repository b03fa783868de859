use std::path::PathBuf;

use livepatch_types::{BuildId, KernelRelease, PatchVersion, Sha256Digest, Tier};

/// Why the store did not do it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no database.
    #[error("there is no database at {}", .0.display())]
    Missing(PathBuf),
    /// A later program has changed the tables.
    #[error("the database was made by another version of this program")]
    Schema(#[source] sqlx::migrate::MigrateError),
    /// The disk under the database is full.
    #[error("the disk of the database is full")]
    DiskFull,
    /// The database failed.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// A row that this program cannot have written.
    #[error("the database holds a value that cannot be right: {0}")]
    Corrupt(String),
    /// No such tier.
    #[error("there is no tier {tier}; the tiers are {}", .known.join(", "))]
    UnknownTier {
        /// The tier that was asked for.
        tier: Tier,
        /// The tiers there are.
        known: Vec<String>,
    },
    /// A token with this name exists.
    #[error("a token named {0:?} exists already")]
    TokenExists(String),
    /// No such token, or revoked, or the secret does not match: they are not told apart.
    #[error("this token is not known")]
    UnknownToken,
    /// The token's time is over.
    #[error("this token has expired")]
    TokenExpired,
    /// The token was used as often as it may.
    #[error("this token has reached its limit of machines")]
    TokenExhausted,
    /// The machine is enrolled under another id, or by a server that did not keep it.
    #[error("this machine is not enrolled under this host id")]
    OtherHost,
    /// No patch was ever published for this kernel.
    #[error("no patch was ever published for a kernel with build-id {0}")]
    UnknownKernel(BuildId),
    /// No patch of this version.
    #[error("there is no patch {0}")]
    UnknownVersion(PatchVersion),
    /// Withdrawal is final.
    #[error("patch {0} was withdrawn, and withdrawal is final")]
    Withdrawn(PatchVersion),
    /// Another patch has the version already.
    #[error("patch {version} for kernel {kernel} is published already with {difference}")]
    OtherPatch {
        /// The version.
        version: PatchVersion,
        /// The kernel.
        kernel: KernelRelease,
        /// What is not the same.
        difference: &'static str,
    },
    /// One build-id, two releases: one of the bundles is wrong.
    #[error("this build-id is known as kernel {known}, not as {stated}")]
    OtherRelease {
        /// What the store knows.
        known: KernelRelease,
        /// What the new patch states.
        stated: KernelRelease,
    },
}

/// SQLite's primary result code for a full disk.
const SQLITE_FULL: i64 = 13;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|e| e.code()).and_then(|code| code.parse::<i64>().ok());
        // Extended result codes carry the primary one in their lowest byte.
        if code.is_some_and(|code| code & 0xff == SQLITE_FULL) {
            Self::DiskFull
        } else {
            Self::Database(error)
        }
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError as E;
        match error {
            E::Execute(error) => error.into(),
            other => Self::Schema(other),
        }
    }
}

/// Why an object was not stored or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// The file system failed.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The bytes on disk are not those that the name promises.
    #[error("object {name} is damaged on disk: its SHA-256 is {actual}")]
    Damaged {
        /// The object.
        name: Sha256Digest,
        /// The digest of the bytes that are there.
        actual: Sha256Digest,
    },
    /// Larger than any module may be.
    #[error("object {0} is larger than any module may be")]
    TooLarge(Sha256Digest),
}
