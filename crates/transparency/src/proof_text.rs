//! An entry, its inclusion proof and the signed head in one text (<https://c2sp.org/tlog-proof>): what is needed to
//! check offline, with the log's key alone, that something is in the log. The entry stands in the `extra` line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use livepatch_types::Sha256Digest;

use crate::checkpoint::{hash, whole_number};
use crate::{
    BundleEvent, Checkpoint, Entry, Event, LogKey, MAX_ENTRY_BYTES, MAX_NOTE_BYTES, Refusal, leaf_hash,
    verify_inclusion,
};

/// Largest proof that is read, in bytes.
pub const MAX_PROOF_BYTES: usize = MAX_NOTE_BYTES + 2 * MAX_ENTRY_BYTES + 64 * 64;
/// The first line.
const HEAD: &str = "c2sp.org/tlog-proof@v1";
/// A tree is not higher.
const MAX_HASHES: usize = 63;

/// A proof that an entry is in a log, as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedProof {
    /// The entry.
    pub entry: Vec<u8>,
    /// Which one it is, from 0.
    pub index: u64,
    /// The hashes of [`crate::inclusion_ranges`].
    pub hashes: Vec<Sha256Digest>,
    /// The signed checkpoint.
    pub note: String,
}

/// What a proof has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// The entry.
    pub entry: Entry,
    /// Which one it is.
    pub index: u64,
    /// The head of the log that it is in.
    pub checkpoint: Checkpoint,
}

impl LoggedProof {
    /// The text.
    pub fn to_text(&self) -> String {
        let hashes: String =
            self.hashes.iter().map(|hash| format!("{}\n", BASE64.encode(hash.as_bytes()))).collect();
        let extra = BASE64.encode(&self.entry);
        format!("{HEAD}\nextra {extra}\nindex {}\n{hashes}\n{}", self.index, self.note)
    }

    /// Reads the text; nothing is believed yet.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let wrong = Refusal::Proof;
        if bytes.len() > MAX_PROOF_BYTES {
            return Err(Refusal::TooLong { what: "the proof", limit: MAX_PROOF_BYTES });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or(wrong("it has no checkpoint"))?;
        let mut lines = head.split('\n');
        if lines.next() != Some(HEAD) {
            return Err(wrong("its first line is another one"));
        }
        let extra = lines.next().and_then(|line| line.strip_prefix("extra "));
        let entry =
            extra.and_then(|text| BASE64.decode(text).ok()).ok_or(wrong("it does not hold the entry"))?;
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(whole_number);
        let index = index.ok_or(wrong("it has no index"))?;
        let mut hashes = Vec::new();
        for line in lines {
            if hashes.len() == MAX_HASHES {
                return Err(wrong("it has too many hashes"));
            }
            hashes.push(hash(line).ok_or(wrong("a line is not a hash"))?);
        }
        Ok(Self { entry, index, hashes, note: note.to_owned() })
    }

    /// What it says of the log's head, which nobody has verified: for people who look.
    pub fn stated_head(&self) -> Result<Checkpoint, Refusal> {
        Checkpoint::stated(&self.note)
    }

    /// Checks it: the log's key signed the checkpoint, and the entry is in its tree.
    pub fn verify(&self, key: &LogKey) -> Result<Proven, Refusal> {
        let checkpoint = Checkpoint::open(self.note.as_bytes(), key)?;
        let leaf = leaf_hash(&self.entry);
        verify_inclusion(&leaf, self.index, checkpoint.size, &checkpoint.root, &self.hashes)?;
        Ok(Proven { entry: Entry::parse(&self.entry)?, index: self.index, checkpoint })
    }
}

impl Proven {
    /// That the entry is the publishing of this bundle and of no other.
    pub fn check_bundle(&self, bundle: &BundleEvent) -> Result<(), Refusal> {
        self.entry.check_bundle(self.index, bundle)
    }
}

impl Entry {
    /// That this, the entry of this number, is the publishing of this bundle and of no other.
    pub fn check_bundle(&self, index: u64, bundle: &BundleEvent) -> Result<(), Refusal> {
        match &self.event {
            Event::Bundle(logged) if logged == bundle => Ok(()),
            Event::Bundle(logged) => Err(Refusal::OtherBundle {
                logged: format!("{} for {}", logged.version, logged.kernel.release),
                given: format!("{} for {}", bundle.version, bundle.kernel.release),
                difference: difference(logged, bundle),
            }),
            _ => Err(Refusal::NotABundle(index)),
        }
    }
}

fn difference(logged: &BundleEvent, given: &BundleEvent) -> &'static str {
    if logged.version != given.version {
        "version"
    } else if logged.kernel != given.kernel {
        "kernel"
    } else if logged.module_sha256 != given.module_sha256 {
        "module"
    } else {
        "manifest"
    }
}
