//! Verifying proofs: the hashes are put together as the shape of the tree says, and must come to the root.

use livepatch_types::Sha256Digest;

use crate::{Refusal, consistency_ranges, empty_root, inclusion_ranges, node_hash};

/// That the entry with the hash `leaf` is entry `index` of the tree of `size` entries with this root.
pub fn verify_inclusion(
    leaf: &Sha256Digest,
    index: u64,
    size: u64,
    root: &Sha256Digest,
    proof: &[Sha256Digest],
) -> Result<(), Refusal> {
    if index >= size {
        return Err(Refusal::NotInTree { index, size });
    }
    let ranges = inclusion_ranges(index, size);
    let hashes = same_length(ranges.len(), proof)?;
    let computed = ranges.iter().zip(hashes).fold(*leaf, |hash, (range, sibling)| {
        if range.start > index { node_hash(&hash, sibling) } else { node_hash(sibling, &hash) }
    });
    if computed == *root { Ok(()) } else { Err(Refusal::NotIncluded { index, size }) }
}

/// That the tree `new` (size and root) grew out of the tree `old`: that what was in it is still there, unchanged.
pub fn verify_consistency(
    old: (u64, &Sha256Digest),
    new: (u64, &Sha256Digest),
    proof: &[Sha256Digest],
) -> Result<(), Refusal> {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if new_size < old_size {
        return Err(Refusal::Shrunk { seen: old_size, offered: new_size });
    }
    let inconsistent = || Refusal::Inconsistent { seen: old_size, offered: new_size };
    let ranges = consistency_ranges(old_size, new_size);
    let hashes = same_length(ranges.len(), proof)?;
    if old_size == new_size {
        return if old_root == new_root { Ok(()) } else { Err(Refusal::SplitView(old_size)) };
    }
    if old_size == 0 {
        return if *old_root == empty_root() { Ok(()) } else { Err(inconsistent()) };
    }
    // The proof begins with the last complete subtree of the old tree, unless that is the old tree itself.
    let (seed, rest) = match (ranges.first(), hashes.split_first()) {
        (Some(range), Some((hash, rest))) if range.end == old_size => (hash, rest),
        _ => (old_root, hashes),
    };
    let ranges = &ranges[ranges.len() - rest.len()..];
    let (mut old_hash, mut new_hash) = (*seed, *seed);
    for (range, hash) in ranges.iter().zip(rest) {
        if range.start >= old_size {
            new_hash = node_hash(&new_hash, hash);
        } else {
            old_hash = node_hash(hash, &old_hash);
            new_hash = node_hash(hash, &new_hash);
        }
    }
    if old_hash == *old_root && new_hash == *new_root { Ok(()) } else { Err(inconsistent()) }
}

fn same_length(expected: usize, proof: &[Sha256Digest]) -> Result<&[Sha256Digest], Refusal> {
    if proof.len() == expected {
        Ok(proof)
    } else {
        Err(Refusal::ProofLength { expected, actual: proof.len() })
    }
}
