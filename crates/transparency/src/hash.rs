//! RFC 6962, section 2.1. Leaves and inner nodes have different prefixes, so that neither passes for the other.

use aws_lc_rs::digest::{Context, SHA256};
use livepatch_types::Sha256Digest;

fn sha256(parts: &[&[u8]]) -> Sha256Digest {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0u8; 32];
    out.copy_from_slice(context.finish().as_ref());
    Sha256Digest::from_bytes(out)
}

/// The hash of an entry.
pub fn leaf_hash(entry: &[u8]) -> Sha256Digest {
    sha256(&[&[0], entry])
}

/// The hash of two neighbouring subtrees.
pub fn node_hash(left: &Sha256Digest, right: &Sha256Digest) -> Sha256Digest {
    sha256(&[&[1], left.as_bytes(), right.as_bytes()])
}

/// The root of a tree without entries.
pub fn empty_root() -> Sha256Digest {
    sha256(&[])
}

/// The hash over neighbouring complete subtrees, from left to right, each smaller than the one before; that of the
/// empty tree when there are none.
pub fn join(hashes: &[Sha256Digest]) -> Sha256Digest {
    hashes.iter().rev().copied().reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
}
