//! From tiles that somebody fetched to the hashes that proofs need.

use std::collections::BTreeMap;
use std::ops::Range;

use livepatch_types::Sha256Digest;

use crate::{Refusal, Subtree, Tile, join, node_hash, subtrees};

/// Tiles of a tree, as they were served. They are not believed: what is computed from them must come to a root that is.
#[derive(Debug, Clone, Default)]
pub struct Tiles {
    size: u64,
    known: BTreeMap<Tile, Vec<Sha256Digest>>,
}

impl Tiles {
    /// None yet of the tree of `size` entries.
    pub fn new(size: u64) -> Self {
        Self { size, known: BTreeMap::new() }
    }

    /// The tiles that the hashes of these ranges need, each once.
    pub fn wanted(&self, ranges: &[Range<u64>]) -> Vec<Tile> {
        let parts = ranges.iter().cloned().flat_map(subtrees);
        let mut wanted: Vec<Tile> = parts.filter_map(|part| self.holder(part)).collect();
        wanted.sort();
        wanted.dedup();
        wanted
    }

    /// Takes the bytes of a tile.
    pub fn insert(&mut self, tile: Tile, bytes: &[u8]) -> Result<(), Refusal> {
        self.known.insert(tile, tile.read(bytes)?);
        Ok(())
    }

    /// The hashes of these ranges.
    pub fn hashes(&self, ranges: &[Range<u64>]) -> Result<Vec<Sha256Digest>, Refusal> {
        ranges.iter().cloned().map(|range| self.subtree_hashes(range).map(|hashes| join(&hashes))).collect()
    }

    /// The hashes of the complete subtrees of a range.
    pub fn subtree_hashes(&self, range: Range<u64>) -> Result<Vec<Sha256Digest>, Refusal> {
        subtrees(range).into_iter().map(|part| self.hash(part)).collect()
    }

    /// The tile that has the hashes under a subtree.
    fn holder(&self, part: Subtree) -> Option<Tile> {
        let (level, below) = (part.height / 8, part.height % 8);
        Tile::in_tree(level, (part.index << below) / 256, self.size)
    }

    fn hash(&self, part: Subtree) -> Result<Sha256Digest, Refusal> {
        let tile = self.holder(part).ok_or(Refusal::NotATile)?;
        let hashes = self.known.get(&tile).ok_or(Refusal::MissingTile(tile))?;
        let below = part.height % 8;
        let start = ((part.index << below) - tile.first()) as usize;
        let hashes = hashes.get(start..start + (1 << below)).ok_or(Refusal::MissingTile(tile))?;
        Ok(complete(hashes))
    }
}

/// The hash of a complete subtree from its lower hashes, a power of two of them.
fn complete(hashes: &[Sha256Digest]) -> Sha256Digest {
    match hashes {
        [one] => *one,
        several => {
            let (left, right) = several.split_at(several.len() / 2);
            node_hash(&complete(left), &complete(right))
        }
    }
}
