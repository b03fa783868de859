//! Why a suite was not read, and what to do about it. Nothing of a file that is refused is in the index.

use std::path::PathBuf;

use jiff::Timestamp;
use livepatch_archive::UnpackError;
use livepatch_archive::deb::DebError;
use livepatch_archive::index::IndexError;
use livepatch_archive::packages::PackagesError;
use livepatch_archive::release::ReleaseError;
use livepatch_kbuild::KbuildError;
use livepatch_kimage::ImageError;
use livepatch_types::Sha256Digest;

use super::fetch::FetchError;
use super::signature::SignatureError;
use super::sources::SourcesError;
use crate::error::ExitCode;

/// Why a suite was not read.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// A file of this host.
    #[error(transparent)]
    File(#[from] KbuildError),
    /// What is at `--out` is no index.
    #[error("{path}: {source}")]
    Index {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: IndexError,
    },
    /// apt's sources are not known.
    #[error(transparent)]
    Sources(#[from] SourcesError),
    /// A file of the archive cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is not known whose signature to expect.
    #[error("it is not known which keys sign {0}")]
    NoKeyring(String),
    /// `InRelease` is not signed as it should be.
    #[error("{url}: {source}")]
    Signature {
        /// The file.
        url: String,
        /// What is wrong.
        source: SignatureError,
    },
    /// `InRelease` cannot be read.
    #[error("{url}: {source}")]
    Release {
        /// The file.
        url: String,
        /// What is wrong.
        source: ReleaseError,
    },
    /// The signed file of another suite.
    #[error("{url}: it is of {found}")]
    OtherSuite {
        /// The file.
        url: String,
        /// What it is of.
        found: String,
    },
    /// An old one.
    #[error("{url}: it was valid until {until}")]
    Expired {
        /// The file.
        url: String,
        /// Until when.
        until: Timestamp,
    },
    /// One from the future.
    #[error("{url}: it is of {date}, which is to come")]
    Future {
        /// The file.
        url: String,
        /// Its date.
        date: Timestamp,
    },
    /// An older one than before.
    #[error("{url}: it is of {date}, and one of {seen} was there before")]
    Older {
        /// The file.
        url: String,
        /// Its date.
        date: Timestamp,
        /// The date of the newest one.
        seen: Timestamp,
    },
    /// A component without packages.
    #[error("{url}: it lists no {path}.xz and no {path}")]
    NotListed {
        /// `InRelease`.
        url: String,
        /// The file that it does not list.
        path: String,
    },
    /// A file is not what a signed one says.
    #[error("{url} is not the file that {by} lists: its sha-256 is {found}, not {listed}")]
    Digest {
        /// The file.
        url: String,
        /// The file that lists it.
        by: &'static str,
        /// Its SHA-256.
        found: Sha256Digest,
        /// What it should be.
        listed: Sha256Digest,
    },
    /// A file is said to be larger than such files are.
    #[error("{url}: {by} says that it has {size_bytes} bytes, and none has more than {most_bytes}")]
    Size {
        /// The file.
        url: String,
        /// The file that lists it.
        by: &'static str,
        /// The length that it lists.
        size_bytes: u64,
        /// The most.
        most_bytes: u64,
    },
    /// `Packages` does not unpack as it should.
    #[error("{url}: {source}")]
    Unpack {
        /// The file.
        url: String,
        /// Why not.
        source: UnpackError,
    },
    /// `Packages` cannot be read.
    #[error("{url}: {source}")]
    Packages {
        /// The file.
        url: String,
        /// What is wrong.
        source: PackagesError,
    },
}

/// Why a package that is what the archive signed has no kernel that can be read.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The package.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// The image in it.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image is of another release than its name.
    #[error("its image is called {name} and is of {release}")]
    OtherRelease {
        /// The release in its name.
        name: String,
        /// What the image says.
        release: String,
    },
}

impl WalkError {
    /// The exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::File(_) | Self::Index { .. } | Self::Sources(_) => ExitCode::Environment,
            Self::Fetch(FetchError::TooLarge { .. }) => ExitCode::Archive,
            Self::Signature { source: SignatureError::NoKeyring(_) | SignatureError::Program(_), .. }
            | Self::Fetch(_) => ExitCode::Environment,
            Self::NoKeyring(_) => ExitCode::Usage,
            _ => ExitCode::Archive,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        let text = match self {
            Self::File(error) => return error.hint().into_owned(),
            Self::Index { .. } => "give another --out; the file there was not changed",
            Self::Sources(_) => "say where the packages are: --repository URL --suite NAME",
            Self::Fetch(FetchError::TooLarge { .. }) | Self::Digest { .. } => {
                "a mirror may be changing right now: try again in an hour, then from another mirror; the index does not have it"
            }
            Self::Fetch(FetchError::Program(_)) => "install apt, or try again when the archive is faster",
            Self::Fetch(_) => "check the URL, and that apt reaches it: proxies and passwords are apt's",
            Self::NoKeyring(_) => "name the file with the archive's keys: --keyring FILE",
            Self::Signature { source: SignatureError::NoKeyring(_), .. } => {
                "install the distribution's keys (debian-archive-keyring, ubuntu-archive-keyring), or name them with --keyring FILE"
            }
            Self::Signature { source: SignatureError::Program(_), .. } => "install gpgv",
            Self::Expired { .. } | Self::Older { .. } => {
                "the mirror is behind, or somebody holds news back: use another mirror; if the clock is wrong, set it"
            }
            Self::Future { .. } => "set the clock of this machine",
            Self::OtherSuite { .. } => {
                "name the suite as the archive does (bookworm, not stable); if you did, somebody put another suite in its place"
            }
            Self::NotListed { .. } => "name a --component that the suite has",
            Self::Signature { .. } | Self::Release { .. } => {
                "nothing of this archive was used; try another mirror, and if it is the same there, tell the distribution"
            }
            Self::Size { .. } | Self::Unpack { .. } | Self::Packages { .. } => {
                "the archive signed this: tell those whose archive it is; nothing of it was used"
            }
        };
        text.to_owned()
    }
}
