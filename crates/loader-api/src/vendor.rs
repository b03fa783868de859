//! What the loader says of the vendor's repository, and of the operator's root.

use jiff::Timestamp;
use livepatch_trust::{RepositoryName, Role};
use livepatch_types::PatchVersion;
use serde::{Deserialize, Serialize};

/// What is known of the repository whose root is pinned on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorView {
    /// Its name.
    pub repository: RepositoryName,
    /// The newest metadata that was believed, role by role; a host that was not told anything yet has the root alone.
    pub seen: Vec<RoleSeen>,
    /// Whether the newest metadata was asked what it allows for the running kernel.
    pub knows_this_kernel: bool,
    /// What may be installed on the running kernel.
    pub allowed: Vec<PatchVersion>,
    /// What was ever withdrawn for it.
    pub withdrawn: Vec<PatchVersion>,
    /// Whether the operator's document names newer metadata, or this kernel was not asked for: the agent should bring it.
    pub behind: bool,
    /// The file that is taken next; none: no update has begun, or the last one is over.
    pub wants: Option<WantedFile>,
}

/// What is known of the operator's root that is pinned on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorView {
    /// Its name.
    pub repository: RepositoryName,
    /// The newest root: the next one has the next version.
    pub root: u64,
    /// After this instant nothing new is installed; what runs stays.
    pub expires: Timestamp,
}

/// Metadata of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleSeen {
    /// The role.
    pub role: Role,
    /// Its version: older metadata is refused.
    pub version: u64,
    /// After this instant nothing new is installed; what runs stays.
    pub expires: Timestamp,
}

/// A file of the repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedFile {
    /// Its path in the repository.
    pub path: String,
    /// More bytes than this are refused.
    pub limit_bytes: u64,
    /// Whether it may not be there: then the next request has an empty body.
    pub may_be_absent: bool,
}
