//! What an entry says. No secrets and nothing about machines or people: the log is for everybody.

use jiff::Timestamp;
use livepatch_types::{BuildId, KernelIdentity, PatchVersion, Sha256Digest, Tier};
use olpc_cjson::CanonicalFormatter;
use serde::{Deserialize, Serialize};

use crate::Refusal;

/// Longest entry, in bytes.
pub const MAX_ENTRY_BYTES: usize = 4096;
/// The format of entries that this program writes and reads.
const SCHEMA: u32 = 1;

/// One entry: one line of canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of the format: 1.
    schema: u32,
    /// When it happened, to the second, by the server's clock.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A bundle was published: from now on a server may offer it.
    Bundle(BundleEvent),
    /// A bundle was put into a tier: published there, or promoted to it.
    Release(ReleaseEvent),
    /// A version was withdrawn, for every kernel and for good.
    Withdrawal(WithdrawalEvent),
    /// A key that decides something is believed from now on.
    Key(KeyEvent),
}

/// A bundle, by what identifies it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleEvent {
    /// Name of its module.
    pub name: String,
    /// Its version.
    pub version: PatchVersion,
    /// The kernel that it is for.
    pub kernel: KernelIdentity,
    /// SHA-256 of the manifest that the vendor signed, which has the digests of all other parts.
    pub manifest_sha256: Sha256Digest,
    /// SHA-256 of the module.
    pub module_sha256: Sha256Digest,
}

/// A bundle in a tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseEvent {
    /// Its version.
    pub version: PatchVersion,
    /// The kernel that it is for.
    pub build_id: BuildId,
    /// SHA-256 of its manifest.
    pub manifest_sha256: Sha256Digest,
    /// The tier.
    pub tier: Tier,
}

/// A version that must not run any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawalEvent {
    /// The version.
    pub version: PatchVersion,
}

/// A key or a root of keys that is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEvent {
    /// What it is for.
    pub purpose: KeyPurpose,
    /// Whose it is: name of the repository, or key id of the certificate.
    pub name: String,
    /// Version of the root; 0 for what has none.
    pub version: u64,
    /// SHA-256 of the raw public key, of the certificate (DER) or of the root's file.
    pub sha256: Sha256Digest,
}

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyPurpose {
    /// Signs kernel documents and this log's checkpoints.
    OperatorDocuments,
    /// The operator's root, which names the former.
    OperatorRoot,
    /// Signs bundles that this server takes.
    VendorCertificate,
    /// The root of a vendor's repository that this server serves.
    VendorRoot,
}

impl Entry {
    /// An entry, its time to the second.
    pub fn new(at: Timestamp, event: Event) -> Self {
        Self { schema: SCHEMA, at: Timestamp::from_second(at.as_second()).unwrap_or(at), event }
    }

    /// The bytes that are in the log: canonical JSON, without a newline.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::new();
        let mut writer = serde_json::Serializer::with_formatter(&mut bytes, CanonicalFormatter::new());
        self.serialize(&mut writer).map_err(|error| Refusal::Entry(error.to_string()))?;
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(Refusal::TooLong { what: "an entry", limit: MAX_ENTRY_BYTES });
        }
        Ok(bytes)
    }

    /// Reads an entry. What is not the one form of what it says is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(Refusal::TooLong { what: "an entry", limit: MAX_ENTRY_BYTES });
        }
        let entry: Self = serde_json::from_slice(bytes).map_err(|error| Refusal::Entry(error.to_string()))?;
        if entry.schema != SCHEMA {
            return Err(Refusal::Entry(format!(
                "its schema is {}, this program reads {SCHEMA}",
                entry.schema
            )));
        }
        if entry.to_bytes()? != bytes {
            return Err(Refusal::Entry("it is not canonical JSON of what it says".into()));
        }
        Ok(entry)
    }
}
