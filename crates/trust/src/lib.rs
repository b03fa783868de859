//! Floor 1: what the vendor's and the operator's signed metadata allow. Verifies only; private keys are elsewhere.
//!
//! The metadata has the form of The Update Framework (<https://theupdateframework.github.io/specification/v1.0.33/>).
//! A **vendor** repository, one for each distribution and series, says what may ever run: its targets are one
//! [`KernelAllowance`] per kernel. An **operator** has the root role alone; it names the online keys that sign kernel
//! documents and host assignments, so that these can be exchanged.
//!
//! [`State`] is what a host remembers: the newest root that it trusts and the versions it saw. [`Update`] leads from it
//! to a [`Vendor`] and the next state, by saying which file it wants and taking its bytes: whoever has the files, from the
//! network or from a directory, drives it. Ages are looked at apart, by `check_time`: what has expired blocks what is new,
//! but its versions and withdrawals still count.
//!
//! Invariant: no I/O, no clock. Caps come before parsing, signatures before meaning; what is not understood is refused.

mod allowance;
mod key;
mod metadata;
mod name;
mod refusal;
mod root;
mod signed;
mod state;
mod update;

pub use allowance::{AllowedObject, AllowedPatch, Candidate, KernelAllowance, MAX_ALLOWANCE_BYTES};
pub use key::{KeyId, PublicKey};
pub use metadata::{
    FileMeta, Hashes, Header, MAX_SNAPSHOT_BYTES, MAX_TARGETS, MAX_TARGETS_BYTES, MAX_TIMESTAMP_BYTES,
    Snapshot, SnapshotMeta, Targets, TimestampMeta, TimestampRole, VersionedFile,
};
pub use name::{RepositoryName, TargetName};
pub use refusal::Refusal;
pub use root::{Kind, MAX_KEYS, MAX_ROOT_BYTES, Role, RoleKeys, Root};
pub use signed::{MAX_SIGNATURES, SignedFile};
pub use state::State;
pub use update::{MAX_NEW_ROOTS, NEW_ROOTS, TargetFile, Update, Vendor, Wanted};

/// Where metadata files are in a repository.
pub const METADATA: &str = "metadata";
/// Where target files are in a repository.
pub const TARGETS: &str = "targets";

fn sha256(bytes: &[u8]) -> livepatch_types::Sha256Digest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0u8; 32];
    out.copy_from_slice(digest.as_ref());
    livepatch_types::Sha256Digest::from_bytes(out)
}
