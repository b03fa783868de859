//! RFC 6962, section 2.1, word by word: slow, recursive, over all leaves.

use livepatch_transparency::{empty_root, leaf_hash, node_hash};
use livepatch_types::Sha256Digest;

/// The largest power of two smaller than `n`.
fn k(n: usize) -> usize {
    let mut k = 1;
    while k * 2 < n {
        k *= 2;
    }
    k
}

pub(crate) fn root(entries: &[Vec<u8>]) -> Sha256Digest {
    match entries {
        [] => empty_root(),
        [one] => leaf_hash(one),
        several => {
            let (left, right) = several.split_at(k(several.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

pub(crate) fn path(m: usize, entries: &[Vec<u8>]) -> Vec<Sha256Digest> {
    if entries.len() == 1 {
        return vec![];
    }
    let (left, right) = entries.split_at(k(entries.len()));
    if m < left.len() {
        [path(m, left), vec![root(right)]].concat()
    } else {
        [path(m - left.len(), right), vec![root(left)]].concat()
    }
}

pub(crate) fn proof(m: usize, entries: &[Vec<u8>]) -> Vec<Sha256Digest> {
    subproof(m, entries, true)
}

fn subproof(m: usize, entries: &[Vec<u8>], whole: bool) -> Vec<Sha256Digest> {
    if m == entries.len() {
        return if whole { vec![] } else { vec![root(entries)] };
    }
    let (left, right) = entries.split_at(k(entries.len()));
    if m <= left.len() {
        [subproof(m, left, whole), vec![root(right)]].concat()
    } else {
        [subproof(m - left.len(), right, false), vec![root(left)]].concat()
    }
}
