use crate::Tile;

/// Why a log, or something said to be in it, is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More bytes than such a thing may have.
    #[error("{what} is longer than the {limit} bytes that it may have")]
    TooLong {
        /// What it is.
        what: &'static str,
        /// Its limit in bytes.
        limit: usize,
    },
    /// A name that a key cannot have.
    #[error("the name of a log is 1 to 255 bytes without white space, control characters and `+`")]
    KeyName,
    /// Not the text form of a log's key.
    #[error("this is not the key of a log: {0}")]
    Key(&'static str),
    /// Not a signed note.
    #[error("the checkpoint is not a signed note: {0}")]
    Note(&'static str),
    /// Signed, but not by the key that is trusted.
    #[error("the checkpoint is not signed by the key of {expected}; its signers are {signers}")]
    OtherSigner {
        /// The log whose key is trusted.
        expected: String,
        /// Who says to have signed it.
        signers: String,
    },
    /// The trusted key's signature does not match the text.
    #[error("the signature of {0} does not match the checkpoint: it was changed after signing, or forged")]
    BadSignature(String),
    /// A signed note that is not a checkpoint.
    #[error("the signed checkpoint does not parse: {0}")]
    Checkpoint(&'static str),
    /// The checkpoint of another log.
    #[error("the checkpoint is of the log {actual}, not of {expected}")]
    WrongOrigin {
        /// The log that was asked for.
        expected: String,
        /// The log that it names.
        actual: String,
    },
    /// Not the name of a tile.
    #[error("this is not the path of a tile")]
    NotATile,
    /// A tile with fewer or more bytes than its hashes have.
    #[error("{tile} has {actual} bytes where {expected} are right")]
    TileLength {
        /// The tile.
        tile: Tile,
        /// Bytes of its hashes.
        expected: usize,
        /// Bytes there are.
        actual: usize,
    },
    /// A tile that is needed was not given.
    #[error("{0} is needed and not there")]
    MissingTile(Tile),
    /// Not a bundle of entries.
    #[error("the bundle of entries is wrong: {0}")]
    Entries(&'static str),
    /// Not an entry of a log of this kind.
    #[error("the entry does not parse: {0}")]
    Entry(String),
    /// Not a proof.
    #[error("the proof does not parse: {0}")]
    Proof(&'static str),
    /// A proof for a tree of another shape.
    #[error("the proof has {actual} hashes where {expected} are right")]
    ProofLength {
        /// Hashes that a right one has.
        expected: usize,
        /// Hashes there are.
        actual: usize,
    },
    /// An index beyond the log's end.
    #[error("entry {index} cannot be in a log of {size} entries")]
    NotInTree {
        /// The entry.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The entry is not what the tree has there.
    #[error("this is not entry {index} of the log of {size} entries: entry or proof is forged")]
    NotIncluded {
        /// The entry.
        index: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The entry speaks of something else than a bundle.
    #[error("entry {0} is in the log, but it is not about a bundle")]
    NotABundle(u64),
    /// The entry is about another bundle.
    #[error("the proof is for bundle {logged}, not for {given}: another {difference}")]
    OtherBundle {
        /// The bundle in the log.
        logged: String,
        /// The bundle that was given.
        given: String,
        /// What is not the same.
        difference: &'static str,
    },
    /// Fewer entries than before.
    #[error("the log has {offered} entries, fewer than the {seen} seen before: it took something back")]
    Shrunk {
        /// Entries of the remembered head.
        seen: u64,
        /// Entries of the new one.
        offered: u64,
    },
    /// Two heads for the same size.
    #[error(
        "the log shows another head for its {0} entries than the one seen before: it is not the same for all"
    )]
    SplitView(u64),
    /// The new tree does not hold the old one.
    #[error(
        "the log of {offered} entries did not grow out of the one of {seen} seen before: an entry was changed"
    )]
    Inconsistent {
        /// Entries of the remembered head.
        seen: u64,
        /// Entries of the new one.
        offered: u64,
    },
}

impl Refusal {
    /// What somebody can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Shrunk { .. } | Self::SplitView(_) | Self::Inconsistent { .. } => {
                "keep both signed checkpoints: they are the evidence; ask the operator by another way"
            }
            Self::OtherSigner { .. } | Self::WrongOrigin { .. } | Self::BadSignature(_) => {
                "compare the key with the operator's log.vkey, got by a way that you trust"
            }
            Self::OtherBundle { .. } | Self::NotABundle(_) => {
                "get the proof of this bundle: `livepatch-server log prove`, or /v1/log/proofs/ and the module's SHA-256"
            }
            Self::Key(_) | Self::KeyName => "give the file log.vkey of the server's data directory",
            _ => "get it again; if it stays like this, the server or something on the way changes it",
        }
    }
}
