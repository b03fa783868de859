//! The index of a distribution's kernels, out of its archives.
//!
//! [`walk`] goes from a signed `InRelease` over `Packages` to the packages of kernels, checks each link before the next, and
//! keeps of each kernel what identifies it. [`fetch`] gets files as apt does, [`signature`] has `gpgv` verify as apt does.

pub(crate) mod cli;
pub mod error;
pub mod fetch;
pub mod program;
pub mod signature;
pub mod sources;
pub mod walk;
