//! A log in memory, as an honest server keeps it.

use std::collections::HashMap;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::Timestamp;
use livepatch_transparency::*;
use livepatch_types::{Architecture, BuildId, KernelIdentity, KernelRelease, PatchVersion, Sha256Digest};

pub(crate) const ORIGIN: &str = "log.example/fleet";

/// A signing key from a fixed seed, under a name.
pub(crate) struct Signer {
    pair: Ed25519KeyPair,
    pub(crate) key: LogKey,
}

impl Signer {
    pub(crate) fn new(name: &str, seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let key = LogKey::new(name, pair.public_key().as_ref().try_into().unwrap()).unwrap();
        Self { pair, key }
    }

    /// A note of any text.
    pub(crate) fn sign_text(&self, text: &str) -> String {
        let empty = Checkpoint { origin: ORIGIN.into(), size: 0, root: empty_root() };
        let note = empty.to_note(&self.key, self.pair.sign(text.as_bytes()).as_ref());
        note.replacen(&empty.to_text(), text, 1)
    }

    pub(crate) fn sign(&self, checkpoint: &Checkpoint) -> String {
        let signature = self.pair.sign(checkpoint.to_text().as_bytes());
        checkpoint.to_note(&self.key, signature.as_ref())
    }
}

#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Vec<u8>>,
    hashes: HashMap<Subtree, Sha256Digest>,
    frontier: Frontier,
}

impl Log {
    pub(crate) fn of(entries: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut log = Self::default();
        for entry in entries {
            log.hashes.extend(log.frontier.append(leaf_hash(&entry)));
            log.entries.push(entry);
        }
        log
    }

    /// A log of this many bundles.
    pub(crate) fn of_bundles(count: u64) -> Self {
        Self::of((0..count).map(|number| entry(&bundle(number))))
    }

    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }

    pub(crate) fn head(&self) -> Checkpoint {
        Checkpoint { origin: ORIGIN.into(), size: self.size(), root: self.frontier.root() }
    }

    pub(crate) fn tile(&self, tile: Tile) -> Vec<u8> {
        let height = tile.level() * 8;
        let indices = tile.first()..tile.first() + u64::from(tile.width());
        indices.flat_map(|index| *self.hashes[&Subtree { height, index }].as_bytes()).collect()
    }

    /// The tiles that a client with these wishes fetches.
    pub(crate) fn tiles(&self, ranges: &[std::ops::Range<u64>]) -> Tiles {
        let mut tiles = Tiles::new(self.size());
        for tile in tiles.wanted(ranges) {
            tiles.insert(tile, &self.tile(tile)).unwrap();
        }
        tiles
    }

    pub(crate) fn prove(&self, index: u64, signer: &Signer) -> LoggedProof {
        let ranges = inclusion_ranges(index, self.size());
        LoggedProof {
            entry: self.entries[index as usize].clone(),
            index,
            hashes: self.tiles(&ranges).hashes(&ranges).unwrap(),
            note: signer.sign(&self.head()),
        }
    }

    /// The head after `seen`, with what a client fetches for it.
    pub(crate) fn offer(&self, seen: &RememberedHead, signer: &Signer) -> Result<RememberedHead, Refusal> {
        let offered = RememberedHead::open(signer.sign(&self.head()).as_bytes(), &signer.key)?;
        let ranges = seen.wanted(self.size());
        seen.accept(offered, &self.tiles(&ranges).hashes(&ranges)?)
    }
}

pub(crate) fn bundle(number: u64) -> BundleEvent {
    let digest = |part: &str| leaf_hash(format!("{part} {number}").as_bytes());
    let version = PatchVersion::parse(&format!("{}.1", number + 1)).unwrap();
    BundleEvent {
        name: version.module_name().to_string(),
        version,
        kernel: KernelIdentity {
            architecture: Architecture::Amd64,
            release: KernelRelease::parse("6.1.0-50-cloud-amd64").unwrap(),
            build_id: BuildId::from_bytes(&[7; 20]).unwrap(),
        },
        manifest_sha256: digest("manifest"),
        module_sha256: digest("module"),
    }
}

pub(crate) fn entry(bundle: &BundleEvent) -> Vec<u8> {
    Entry::new(Timestamp::from_second(1_800_000_000).unwrap(), Event::Bundle(bundle.clone()))
        .to_bytes()
        .unwrap()
}
