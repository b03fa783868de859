//! The index of kernels: by build-id, what a kernel is, where it was published, and by which chain of signed digests that is
//! known.

use std::collections::BTreeSet;

use jiff::Timestamp;
use livepatch_types::{Architecture, BuildId, KernelRelease, Sha256Digest};
use serde::{Deserialize, Serialize};

/// Largest index that is read, in bytes: of 100,000 kernels.
pub const MAX_BYTES: u64 = 128 << 20;

/// Version of the format.
const SCHEMA: u32 = 1;

/// Why a file is no index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The text.
    #[error("it is no index of kernels: {0}")]
    Format(String),
    /// Another version of the format.
    #[error("its schema is {0}, and this program reads {SCHEMA}")]
    Schema(u32),
    /// More than is read.
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
}

/// Whether kernels of a pocket are official ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Released by the distribution.
    Official,
    /// Proposed, in development, of somebody else, or signed by somebody else.
    NotOfficial,
}

impl Standing {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Official => "official",
            Self::NotOfficial => "not official",
        }
    }
}

/// The newest `InRelease` of a suite that was taken: an older one is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenRelease {
    /// URL of the archive.
    pub repository: String,
    /// The suite.
    pub suite: String,
    /// `Date` of its `InRelease`.
    pub date: Timestamp,
    /// SHA-256 of that file.
    pub in_release: Sha256Digest,
}

/// By which chain a row is known: the signature is over the first, each names the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// URL of the archive.
    pub repository: String,
    /// Fingerprints of the primary keys that signed, in upper-case hexadecimal.
    pub signed_by: Vec<String>,
    /// SHA-256 of `InRelease`.
    pub in_release: Sha256Digest,
    /// Path of `Packages` in the archive, as `InRelease` lists it.
    pub packages_path: String,
    /// SHA-256 of `Packages` as it was fetched (packed).
    pub packages: Sha256Digest,
    /// Path of the package in the archive.
    pub package_path: String,
    /// SHA-256 of the package.
    pub package: Sha256Digest,
}

/// One kernel in one pocket. The same kernel may be in several pockets, and in several packages (signed and unsigned).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelRow {
    /// Architecture of the kernel.
    pub architecture: Architecture,
    /// GNU build-id of vmlinux: what identifies it.
    pub build_id: BuildId,
    /// `uname -r`.
    pub release: KernelRelease,
    /// The distribution; for unknown ones what the archive calls itself.
    pub distribution: String,
    /// The suite.
    pub suite: String,
    /// The pocket; for unknown ones the suite.
    pub pocket: String,
    /// Whether it is an official kernel.
    pub standing: Standing,
    /// The package with the image.
    pub package: String,
    /// Version of the package.
    pub version: String,
    /// Subject key ids of the certificates that are built into the kernel, in hexadecimal; none when they are not seen.
    pub builtin_keys: Option<Vec<String>>,
    /// When the image's file was last changed, as the package has it: the day of the build, by the changelog.
    pub image_date: Timestamp,
    /// `Date` of the first `InRelease` in which the kernel was seen: it was published at that time or before.
    pub published_by: Timestamp,
    /// How that is known.
    pub provenance: Provenance,
}

/// All kernels that were found, and how new what was read of the archives is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelIndex {
    schema: u32,
    /// The newest of each suite.
    pub archives: Vec<SeenRelease>,
    /// The kernels, sorted by what identifies them.
    pub kernels: Vec<KernelRow>,
}

impl Default for KernelIndex {
    fn default() -> Self {
        Self { schema: SCHEMA, archives: Vec::new(), kernels: Vec::new() }
    }
}

impl KernelRow {
    /// What tells rows apart, in the order in which they stand.
    fn key(&self) -> impl Ord + '_ {
        let package = (&self.package, &self.version, self.provenance.package);
        (self.architecture, &self.build_id, &self.distribution, &self.suite, package)
    }
}

impl KernelIndex {
    /// Reads an index.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        if bytes.len() as u64 > MAX_BYTES {
            return Err(IndexError::TooLarge);
        }
        let format = |error: serde_json::Error| IndexError::Format(error.to_string());
        let head: Head = serde_json::from_slice(bytes).map_err(format)?;
        if head.schema != SCHEMA {
            return Err(IndexError::Schema(head.schema));
        }
        serde_json::from_slice(bytes).map_err(format)
    }

    /// The index as a file: the same rows make the same bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Plain values of our own always serialise.
        let mut out = serde_json::to_vec_pretty(self).unwrap_or_default();
        out.push(b'\n');
        out
    }

    /// The rows of a kernel, official ones first.
    pub fn find(&self, architecture: Architecture, build_id: &BuildId) -> Vec<&KernelRow> {
        let mut rows: Vec<&KernelRow> = self
            .kernels
            .iter()
            .filter(|row| row.architecture == architecture && row.build_id == *build_id)
            .collect();
        rows.sort_by_key(|row| row.standing);
        rows
    }

    /// A row of a package that was read before, whatever pocket it was in.
    pub fn of_package(&self, package: &Sha256Digest) -> Option<&KernelRow> {
        self.kernels.iter().find(|row| row.provenance.package == *package)
    }

    /// The newest `InRelease` of a suite that was taken.
    pub fn seen(&self, repository: &str, suite: &str) -> Option<&SeenRelease> {
        self.archives.iter().find(|seen| seen.repository == repository && seen.suite == suite)
    }

    /// Remembers the `InRelease` of a suite.
    pub fn remember(&mut self, seen: SeenRelease) {
        self.archives.retain(|old| (&old.repository, &old.suite) != (&seen.repository, &seen.suite));
        self.archives.push(seen);
        self.archives
            .sort_by(|one, other| (&one.repository, &one.suite).cmp(&(&other.repository, &other.suite)));
    }

    /// Takes a row; one that is there keeps what was known first, but for its standing, which a table says.
    pub fn add(&mut self, row: KernelRow) {
        match self.kernels.iter_mut().find(|old| old.key() == row.key()) {
            Some(old) => {
                old.standing = row.standing;
                old.pocket = row.pocket;
            }
            None => {
                self.kernels.push(row);
                self.kernels.sort_by(|one, other| one.key().cmp(&other.key()));
            }
        }
    }

    /// How many kernels there are, each counted once.
    pub fn count(&self) -> usize {
        self.kernels.iter().map(|row| (row.architecture, &row.build_id)).collect::<BTreeSet<_>>().len()
    }
}
