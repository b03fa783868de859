//! Floor 2: kernel sources, configuration and toolchain; compiling one unit exactly as the distribution did.
//!
//! A [`PreparedTree`] is made once per kernel and kept in a cache: the distribution's source with its configuration
//! and `Module.symvers`, after `make modules_prepare`, with the command line of every unit that make would compile.
//! It is not changed afterwards, but for files that make generates for a few units. A patched unit is compiled in a [`Mirror`], which holds the patched files and links to
//! all others, with exactly the command line that make used for the original.
//!
//! Sources are untrusted: everything that works on them runs in a sandbox, with the programs of a toolchain root or of
//! the host, whichever has the kernel's compiler ([`Environment`]).

mod command;
mod compile;
mod content;
mod error;
mod headers;
mod inside;
mod mirror;
mod objects;
mod package;
mod packaged_patches;
mod patch;
mod probe;
mod sandbox;
mod toolchain;
mod tree;
mod units;

pub use compile::CompiledUnit;
pub use error::KbuildError;
pub use mirror::Mirror;
pub use package::{KernelFiles, KernelOrigin, SourceOrigin, unpack_deb};
pub use packaged_patches::PackagedPatches;
pub use patch::{PatchState, PatchedFile, SourcePatch};
pub use sandbox::{Isolation, Limits};
pub use toolchain::{
    Environment, HOST, Package, Recipe, Toolchain, ToolchainChoice, ToolchainName, ToolchainRoot,
    list as list_toolchains, make as make_toolchain,
};
pub use tree::{LinkInput, PackageId, PreparedTree, TreeInputs};
pub use units::{CompilerCommand, Membership, UnitList};
