//! A transparency log in memory, with the head of any size and the proofs to it.

use std::ops::Range;

use aws_lc_rs::signature::Ed25519KeyPair;
use livepatch_manifest::sha256;
use livepatch_transparency::{
    BundleEvent, Checkpoint, Entry, Event, LogKey, LoggedProof, inclusion_ranges, leaf_hash, node_hash,
};
use livepatch_types::{KernelIdentity, Sha256Digest};

use crate::signing::{NOW, public, version};

pub(crate) const LOG_NAME: &str = "log.example/fleet";

/// The log's key, which is the operator's under the log's name.
pub(crate) fn log_key(key: &Ed25519KeyPair) -> LogKey {
    LogKey::new(LOG_NAME, *public(key).as_bytes()).unwrap()
}

#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Vec<u8>>,
}

impl Log {
    /// A bundle is published; its place.
    pub(crate) fn publish(&mut self, of: &str, kernel: &KernelIdentity, module: &[u8]) -> u64 {
        let version = version(of);
        let event = Event::Bundle(BundleEvent {
            name: version.module_name().to_string(),
            version,
            kernel: kernel.clone(),
            manifest_sha256: sha256(of.as_bytes()),
            module_sha256: sha256(module),
        });
        self.entries.push(Entry::new(NOW.parse().unwrap(), event).to_bytes().unwrap());
        self.entries.len() as u64 - 1
    }

    pub(crate) fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The hash of all entries in a range.
    pub(crate) fn hash(&self, range: Range<u64>) -> Sha256Digest {
        let length = range.end - range.start;
        if length == 1 {
            return leaf_hash(&self.entries[range.start as usize]);
        }
        let middle = range.start + length.next_power_of_two() / 2;
        node_hash(&self.hash(range.start..middle), &self.hash(middle..range.end))
    }

    /// The signed head of the log as it is now.
    pub(crate) fn head(&self, key: &Ed25519KeyPair) -> String {
        let origin = LOG_NAME.to_owned();
        let head = Checkpoint { origin, size: self.size(), root: self.hash(0..self.size()) };
        head.to_note(&log_key(key), key.sign(head.to_text().as_bytes()).as_ref())
    }

    /// That the entry at this place is in the log as it is now.
    pub(crate) fn proof(&self, index: u64, key: &Ed25519KeyPair) -> LoggedProof {
        let hashes = inclusion_ranges(index, self.size()).into_iter().map(|range| self.hash(range)).collect();
        LoggedProof { entry: self.entries[index as usize].clone(), index, hashes, note: self.head(key) }
    }
}
