use std::collections::BTreeMap;

use jiff::Timestamp;
use livepatch_types::Sha256Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Refusal, Role, TargetName, sha256};

/// Largest timestamp metadata, in bytes.
pub const MAX_TIMESTAMP_BYTES: u64 = 16 << 10;
/// Largest snapshot metadata, in bytes.
pub const MAX_SNAPSHOT_BYTES: u64 = 16 << 10;
/// Largest targets metadata, in bytes.
pub const MAX_TARGETS_BYTES: u64 = 2 << 20;
/// How many targets, that is kernels, a repository may have.
pub const MAX_TARGETS: usize = 8192;

/// The version of the TUF specification that is written.
const SPEC_VERSION: &str = "1.0.33";
/// Members that a writer may list in `critical` and this reader understands. None yet.
const UNDERSTOOD: [&str; 0] = [];

/// What all metadata begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The role that signs it.
    #[serde(rename = "_type")]
    pub role: String,
    /// Version of the TUF specification; 1.0 is read.
    pub spec_version: String,
    /// Rises with every change; a host never goes back.
    pub version: u64,
    /// When it was made. Not in TUF: by it a host recognises that its clock is behind.
    pub issued: Timestamp,
    /// After this instant nothing new is installed; what runs stays.
    pub expires: Timestamp,
    /// Members that a reader must understand to act on it. Not in TUF.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub critical: Vec<String>,
}

impl Header {
    /// The header of new metadata.
    pub fn new(role: Role, version: u64, issued: Timestamp, expires: Timestamp) -> Self {
        let (role, spec_version) = (role.to_string(), SPEC_VERSION.to_owned());
        Self { role, spec_version, version, issued, expires, critical: vec![] }
    }

    pub(crate) fn check(&self, role: Role) -> Result<(), Refusal> {
        if self.role != role.as_str() {
            let actual = self.role.chars().take(80).collect();
            return Err(Refusal::WrongType { expected: role, actual });
        }
        if self.spec_version != "1.0" && !self.spec_version.starts_with("1.0.") {
            return Err(Refusal::Format(self.spec_version.chars().take(80).collect()));
        }
        if let Some(unknown) = self.critical.iter().find(|name| !UNDERSTOOD.contains(&name.as_str())) {
            return Err(Refusal::Critical(unknown.chars().take(80).collect()));
        }
        if self.version == 0 {
            return Err(Refusal::WrongVersion { role, expected: 1, actual: 0 });
        }
        Ok(())
    }
}

/// Length and digest of a file, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeta {
    /// Length in bytes.
    pub length: u64,
    /// Its digests; SHA-256 is needed, others are not looked at.
    pub hashes: Hashes,
}

/// Digests of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashes {
    /// SHA-256 of its bytes.
    pub sha256: Sha256Digest,
}

impl FileMeta {
    /// What is signed of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { length: bytes.len() as u64, hashes: Hashes { sha256: sha256(bytes) } }
    }

    /// Whether these are the bytes.
    pub fn check(&self, bytes: &[u8], what: &str) -> Result<(), Refusal> {
        let actual = Self::of(bytes);
        if actual.length != self.length {
            return Err(Refusal::WrongLength {
                what: what.to_owned(),
                expected: self.length,
                actual: actual.length,
            });
        }
        if actual.hashes != self.hashes {
            let (expected, actual) = (self.hashes.sha256, actual.hashes.sha256);
            return Err(Refusal::WrongHash { what: what.to_owned(), expected, actual });
        }
        Ok(())
    }
}

/// Version, length and digest of a metadata file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionedFile {
    /// Its version.
    pub version: u64,
    /// Its bytes.
    #[serde(flatten)]
    pub file: FileMeta,
}

impl VersionedFile {
    /// What is signed of metadata.
    pub fn of(version: u64, bytes: &[u8]) -> Self {
        Self { version, file: FileMeta::of(bytes) }
    }
}

/// What timestamp metadata names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimestampMeta {
    /// The newest snapshot.
    #[serde(rename = "snapshot.json")]
    pub snapshot: VersionedFile,
}

/// Timestamp metadata: which snapshot is the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimestampRole {
    /// Type, version and times.
    #[serde(flatten)]
    pub header: Header,
    /// The snapshot.
    pub meta: TimestampMeta,
}

/// What snapshot metadata names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotMeta {
    /// The newest targets metadata.
    #[serde(rename = "targets.json")]
    pub targets: VersionedFile,
}

/// Snapshot metadata: which targets metadata is the newest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Type, version and times.
    #[serde(flatten)]
    pub header: Header,
    /// The targets metadata.
    pub meta: SnapshotMeta,
}

/// Targets metadata: one file for each kernel that may get livepatches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Targets {
    /// Type, version and times.
    #[serde(flatten)]
    pub header: Header,
    /// The files.
    pub targets: BTreeMap<String, FileMeta>,
    /// Not used: a repository is one distribution and series, small enough to be signed as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegations: Option<Value>,
}

impl Targets {
    /// The rules that targets metadata keeps, signed or not.
    pub fn check(&self) -> Result<(), Refusal> {
        if let Some(delegations) = &self.delegations {
            let roles = delegations.get("roles").and_then(Value::as_array).map_or(0, Vec::len);
            return Err(Refusal::Delegations(roles));
        }
        if self.targets.len() > MAX_TARGETS {
            return Err(Refusal::TooMany { what: "targets", limit: MAX_TARGETS });
        }
        for name in self.targets.keys() {
            TargetName::parse(name)?;
        }
        Ok(())
    }

    /// The file of this name.
    pub fn get(&self, name: &TargetName) -> Option<&FileMeta> {
        self.targets.get(name.as_str())
    }
}
