//! Floor 1: what a distribution's archive says of its kernels.
//!
//! apt's chain is read link by link: the frame of a signed `InRelease` ([`clear_signed`]), what it signs ([`release`]), the
//! `Packages` that it names ([`packages`]), the kernel image in a package ([`deb`]). What comes out is the [`index`] of
//! kernels by build-id; [`pockets`] says which parts of which archives are official.
//!
//! Invariant: bytes in, values out; no signature or hash is checked here, because that is for whoever fetches. No bytes
//! panic or allocate beyond a cap.

pub mod clear_signed;
pub mod deb;
pub mod index;
pub mod packages;
mod paragraph;
pub mod pockets;
pub mod release;
mod unpack;

pub use index::{KernelIndex, KernelRow, Provenance, SeenRelease, Standing};
pub use packages::{PackageEntry, PoolPath, PooledPackage};
pub use pockets::PocketTable;
pub use release::{ListedFile, ReleaseFile};
pub use unpack::{UnpackError, unpack_xz};

#[cfg(test)]
mod tests;
