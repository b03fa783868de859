//! The shape of the tree. Everything that a proof needs is the hash of a range of entries, and every such range falls
//! into complete subtrees, whose hashes never change: these are stored and served.

use std::ops::Range;

use livepatch_types::Sha256Digest;

use crate::{Refusal, join, node_hash};

/// Most entries that a log may have: what a signed 64-bit integer counts.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// A complete subtree: the 2^`height` entries from `index` · 2^`height` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subtree {
    /// 0 is a single entry.
    pub height: u8,
    /// Which one of this height.
    pub index: u64,
}

/// The complete subtrees of a range, from left to right. The range is one that proofs speak of: it begins where a
/// complete subtree of its length could.
pub fn subtrees(range: Range<u64>) -> Vec<Subtree> {
    let mut found = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let height = (range.end - start).ilog2().min(start.trailing_zeros());
        found.push(Subtree { height: height as u8, index: start >> height });
        start += 1 << height;
    }
    found
}

/// Where a tree of more than one entry divides: at the largest power of two that is smaller.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The ranges whose hashes prove that the entry `index` is in the tree of `size` entries, from the leaf upwards
/// (PATH of RFC 6962, section 2.1.1). Empty as well for an index that is not in the tree.
pub fn inclusion_ranges(index: u64, size: u64) -> Vec<Range<u64>> {
    let mut path = Vec::new();
    if index >= size {
        return path;
    }
    let mut within = 0..size;
    while within.end - within.start > 1 {
        let middle = within.start + split(within.end - within.start);
        if index < middle {
            path.push(middle..within.end);
            within.end = middle;
        } else {
            path.push(within.start..middle);
            within.start = middle;
        }
    }
    path.reverse();
    path
}

/// The ranges whose hashes prove that the tree of `new` entries grew out of that of `old` (PROOF of RFC 6962, section
/// 2.1.2). None are needed when one of them is empty or both are of the same size.
pub fn consistency_ranges(old: u64, new: u64) -> Vec<Range<u64>> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return proof;
    }
    let mut within = 0..new;
    while within.end != old {
        let middle = within.start + split(within.end - within.start);
        if old <= middle {
            proof.push(middle..within.end);
            within.end = middle;
        } else {
            proof.push(within.start..middle);
            within.start = middle;
        }
    }
    // The old tree itself is known to whoever asks.
    if within.start > 0 {
        proof.push(within);
    }
    proof.reverse();
    proof
}

/// The right edge of a tree: what is needed to make it grow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    hashes: Vec<Sha256Digest>,
}

impl Frontier {
    /// Of a tree of `size` entries, from the hashes of its [`subtrees`].
    pub fn new(size: u64, hashes: Vec<Sha256Digest>) -> Result<Self, Refusal> {
        if size > MAX_SIZE || hashes.len() != size.count_ones() as usize {
            return Err(Refusal::ProofLength { expected: size.count_ones() as usize, actual: hashes.len() });
        }
        Ok(Self { size, hashes })
    }

    /// How many entries the tree has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The root of the tree.
    pub fn root(&self) -> Sha256Digest {
        join(&self.hashes)
    }

    /// Adds an entry's hash; the subtrees that are complete by it, the leaf first.
    pub fn append(&mut self, leaf: Sha256Digest) -> Vec<(Subtree, Sha256Digest)> {
        let mut complete = vec![(Subtree { height: 0, index: self.size }, leaf)];
        let (mut hash, mut height) = (leaf, 0);
        while self.size >> height & 1 == 1 {
            let Some(left) = self.hashes.pop() else { break };
            hash = node_hash(&left, &hash);
            height += 1;
            complete.push((Subtree { height, index: self.size >> height }, hash));
        }
        self.hashes.push(hash);
        self.size += 1;
        complete
    }
}
