//! Floor 1: the transparency log as bytes and values: a Merkle tree of RFC 6962 in the forms of C2SP.
//!
//! - [`Entry`]: one line of the log: what happened, in canonical JSON.
//! - [`leaf_hash`], [`Subtree`], [`Frontier`]: hashes and shape of the tree (RFC 6962, section 2.1).
//! - [`verify_inclusion`], [`verify_consistency`]: that an entry is in a tree, that a tree grew out of another.
//! - [`Tile`], [`Tiles`], [`read_entries`]: how the tree is served (<https://c2sp.org/tlog-tiles>).
//! - [`LogKey`], [`Checkpoint`]: its signed head (<https://c2sp.org/signed-note>, <https://c2sp.org/tlog-checkpoint>).
//! - [`LoggedProof`]: entry, proof and head in one text that is checked offline (<https://c2sp.org/tlog-proof>).
//! - [`RememberedHead`]: what somebody who asks again believes.
//!
//! Invariant: verifies only, no private keys; no I/O and no clock. Sizes are capped before anything is decoded, and a
//! signature is verified before its text is read. Nothing here is believed because it is in the log: the log makes
//! what happened visible, the keys of `livepatch-trust` and `livepatch-modsig` say what may run.

mod checkpoint;
mod entry;
mod hash;
mod note;
mod proof;
mod proof_text;
mod refusal;
mod remembered;
mod tile;
mod tiles;
mod tree;

pub use checkpoint::Checkpoint;
pub use entry::{
    BundleEvent, Entry, Event, KeyEvent, KeyPurpose, MAX_ENTRY_BYTES, ReleaseEvent, WithdrawalEvent,
};
pub use hash::{empty_root, join, leaf_hash, node_hash};
pub use note::{LogKey, MAX_NOTE_BYTES};
pub use proof::{verify_consistency, verify_inclusion};
pub use proof_text::{LoggedProof, MAX_PROOF_BYTES, Proven};
pub use refusal::Refusal;
pub use remembered::RememberedHead;
pub use tile::{MAX_ENTRIES_BYTES, Resource, TILE_WIDTH, Tile, read_entries, write_entries};
pub use tiles::Tiles;
pub use tree::{Frontier, MAX_SIZE, Subtree, consistency_ranges, inclusion_ranges, subtrees};
