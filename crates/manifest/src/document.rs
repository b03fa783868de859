//! What a server tells the hosts of one kernel in one channel. A host polls this and nothing else.

use jiff::Timestamp;
use livepatch_types::{KernelIdentity, PatchVersion, Sha256Digest, Tier};
use serde::{Deserialize, Serialize};

use crate::envelope::{self, VerifyingKey};
use crate::{Coverage, CveEntry, EnvelopeError, ModuleObject};

/// The DSSE payload type of a kernel document.
pub const PAYLOAD_TYPE: &str = "application/vnd.livepatch.kernel-document+json";

/// Members that a writer may list in `critical` and this reader understands. None yet.
const UNDERSTOOD: [&str; 0] = [];

/// The signed document of one kernel in one channel. Readers ignore members that they do not know, unless the
/// writer lists them in `critical`: then nothing new is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelDocument {
    /// Version of the format: 1.
    pub schema: u32,
    /// Members that a reader must understand to act on this document.
    #[serde(default)]
    pub critical: Vec<String>,
    /// The kernel it speaks of.
    pub kernel: KernelIdentity,
    /// The channel it speaks of: so far a tier.
    pub channel: Tier,
    /// Rises with every change; a host never goes back.
    pub version: u64,
    /// When it was signed.
    pub issued: Timestamp,
    /// After this instant it installs nothing new; what runs stays.
    pub expires: Timestamp,
    /// How long a host should wait before it asks again, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll_hint_seconds: Option<u32>,
    /// The livepatch that hosts should run; none: nothing to apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Livepatches that must not run any more.
    #[serde(default)]
    pub withdrawn: Vec<PatchVersion>,
    /// The vendor's metadata about this kernel, as the server has it: a host fetches it only when this has moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<VendorMetadata>,
    /// How long this kernel gets livepatches; none: nothing is said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
}

/// Which vendor's metadata is the newest. It cannot widen what the vendor allows: it only says that there is news, and
/// that a mirror which serves less is behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorMetadata {
    /// Name of the repository.
    pub repository: String,
    /// The newest root.
    pub root: MetadataFile,
    /// The timestamp, which names all the rest.
    pub timestamp: MetadataFile,
}

/// One metadata file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataFile {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its bytes.
    pub sha256: Sha256Digest,
}

/// One livepatch as a server offers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its version.
    pub version: PatchVersion,
    /// Its module object.
    pub module: ModuleObject,
    /// The CVEs it is about.
    pub cves: Vec<CveEntry>,
    /// When it reached this channel.
    pub released: Timestamp,
}

/// Why a document is not acted upon.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The envelope is not believed.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The payload is not a kernel document.
    #[error("the signed document does not parse: {0}")]
    Malformed(String),
    /// A format that this reader does not know.
    #[error("document schema {0} is newer than this program, which reads schema 1")]
    Schema(u32),
    /// A critical member that this reader does not know.
    #[error("the document requires {0:?}, which this program does not understand")]
    Critical(String),
    /// The document of another kernel.
    #[error("the document is for kernel {actual}, not for {expected}")]
    WrongKernel {
        /// Release and build-id of the kernel that was asked for.
        expected: String,
        /// Release and build-id in the document.
        actual: String,
    },
    /// The document of another channel.
    #[error("the document is for channel {actual}, not for {expected}")]
    WrongChannel {
        /// The channel that was asked for.
        expected: Tier,
        /// The channel in the document.
        actual: Tier,
    },
    /// Older than one that was seen.
    #[error("the server offers document version {offered}, older than version {seen} seen before")]
    Rollback {
        /// The version in the document.
        offered: u64,
        /// The highest version seen.
        seen: u64,
    },
    /// Its time is over.
    #[error("the document expired at {0}")]
    Expired(Timestamp),
    /// It comes from the future, or this clock is behind.
    #[error("the document was issued at {issued}, but the clock here says {now:.0}")]
    NotYetValid {
        /// When it was signed.
        issued: Timestamp,
        /// The clock.
        now: Timestamp,
    },
}

/// How far a host's clock may be behind the signer's, in seconds.
const CLOCK_SKEW_SECONDS: i64 = 300;

impl KernelDocument {
    /// The payload bytes to be signed.
    pub fn to_payload(&self) -> Vec<u8> {
        // Every field is a string, number or list of them: serialising cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Opens and checks a document that arrived for `kernel` and `channel`. `seen` is the highest version that this
    /// host saw of it. Signature first, then everything that decides whether to believe it, except its age:
    /// see [`KernelDocument::check_time`].
    pub fn open(
        bytes: &[u8],
        trusted: &[VerifyingKey],
        kernel: &KernelIdentity,
        channel: &Tier,
        seen: u64,
    ) -> Result<Self, DocumentError> {
        let document = Self::open_any_channel(bytes, trusted, kernel)?;
        document.check_channel(channel)?;
        document.check_version(seen)?;
        Ok(document)
    }

    /// The same for whoever does not know yet which channel it is in, and what it saw of that: [`Self::check_channel`]
    /// and [`Self::check_version`] are left to do.
    pub fn open_any_channel(
        bytes: &[u8],
        trusted: &[VerifyingKey],
        kernel: &KernelIdentity,
    ) -> Result<Self, DocumentError> {
        let payload = envelope::open(bytes, PAYLOAD_TYPE, trusted)?;
        let value: serde_json::Value =
            serde_json::from_slice(&payload).map_err(|error| DocumentError::Malformed(error.to_string()))?;
        // Schema and critical members come first: a later format may not parse as this one.
        let schema = value.get("schema").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if schema != 1 {
            return Err(DocumentError::Schema(u32::try_from(schema).unwrap_or(u32::MAX)));
        }
        let document: Self =
            serde_json::from_value(value).map_err(|error| DocumentError::Malformed(error.to_string()))?;
        if let Some(unknown) = document.critical.iter().find(|name| !UNDERSTOOD.contains(&name.as_str())) {
            return Err(DocumentError::Critical(unknown.clone()));
        }
        if document.kernel.build_id != kernel.build_id || document.kernel.architecture != kernel.architecture
        {
            let text = |k: &KernelIdentity| format!("{} ({})", k.release, k.build_id);
            return Err(DocumentError::WrongKernel {
                expected: text(kernel),
                actual: text(&document.kernel),
            });
        }
        Ok(document)
    }

    /// Whether the document is for this channel.
    pub fn check_channel(&self, channel: &Tier) -> Result<(), DocumentError> {
        if self.channel == *channel {
            return Ok(());
        }
        Err(DocumentError::WrongChannel { expected: channel.clone(), actual: self.channel.clone() })
    }

    /// Whether the document is as new as the newest that was seen.
    pub fn check_version(&self, seen: u64) -> Result<(), DocumentError> {
        if self.version >= seen {
            return Ok(());
        }
        Err(DocumentError::Rollback { offered: self.version, seen })
    }

    /// Whether the document may install something new at this time.
    pub fn check_time(&self, now: Timestamp) -> Result<(), DocumentError> {
        if now.as_second() + CLOCK_SKEW_SECONDS < self.issued.as_second() {
            return Err(DocumentError::NotYetValid { issued: self.issued, now });
        }
        if now >= self.expires {
            return Err(DocumentError::Expired(self.expires));
        }
        Ok(())
    }
}
