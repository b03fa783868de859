//! Floor 1: what is signed and how it is laid out.
//!
//! - [`Bundle`]: the one file that the builder makes: module, manifest, report, source patches, proof, signature,
//!   and what else a host needs that has no server.
//! - [`KernelDocument`]: what a server tells hosts of one kernel in one channel, inside a signed [`envelope`].
//! - [`HostAssignment`]: what an operator decided about one host, inside a signed envelope.
//! - [`SupportMatrix`]: which kernels an operator covers and what to install for them, inside a signed envelope.
//!
//! Everything is bytes to values and back; caps come before allocation, signatures before deep parsing.

pub mod assignment;
pub mod bundle;
mod coverage;
pub mod document;
pub mod envelope;
mod evidence;
mod patch;
mod place;
pub mod support;
mod vendor_files;

pub use assignment::{AssignmentError, HostAssignment};
pub use bundle::{Bundle, BundleError};
pub use coverage::{Coverage, Standing, Upgrade};
pub use document::{DocumentError, KernelDocument, MetadataFile, Target, VendorMetadata};
pub use envelope::{EnvelopeError, VerifyingKey};
pub use evidence::{PatchSources, ProofCheck, ProofResult, ProofStep, SourceEntry, VmProof};
pub use patch::{
    CveEntry, ModuleObject, ObjectError, ObjectName, PatchManifest, PatchedFunction, PatchedObject,
};
pub use place::Place;
pub use support::{HostSystem, SupportError, SupportFlavour, SupportMatrix, SupportRow};
pub use vendor_files::VendorFiles;

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> livepatch_types::Sha256Digest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0u8; 32];
    out.copy_from_slice(digest.as_ref());
    livepatch_types::Sha256Digest::from_bytes(out)
}

#[cfg(test)]
mod tests;
