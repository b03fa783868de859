use std::ops::Range;

use livepatch_types::Sha256Digest;

use crate::{Checkpoint, LogKey, Refusal, consistency_ranges, verify_consistency};

/// The head of a log that somebody saw. Whoever keeps it, and asks again, sees when the log takes something back or
/// shows different people different things.
///
/// It is kept as the signed note itself: when two of them contradict each other, they are the evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedHead {
    note: Vec<u8>,
    checkpoint: Checkpoint,
}

impl RememberedHead {
    /// The first head that is seen, or the one that was kept: the signed note.
    pub fn open(note: &[u8], key: &LogKey) -> Result<Self, Refusal> {
        Ok(Self { note: note.to_owned(), checkpoint: Checkpoint::open(note, key)? })
    }

    /// What it says.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The signed note: what is to be kept.
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// The ranges whose hashes [`RememberedHead::accept`] wants for a head of `size` entries.
    pub fn wanted(&self, size: u64) -> Vec<Range<u64>> {
        consistency_ranges(self.checkpoint.size, size)
    }

    /// Believes a newer head: only one whose tree grew out of the remembered one. `proof` has the hashes of
    /// [`RememberedHead::wanted`].
    pub fn accept(&self, offered: Self, proof: &[Sha256Digest]) -> Result<Self, Refusal> {
        let (old, new) = (&self.checkpoint, &offered.checkpoint);
        if new.origin != old.origin {
            return Err(Refusal::WrongOrigin { expected: old.origin.clone(), actual: new.origin.clone() });
        }
        verify_consistency((old.size, &old.root), (new.size, &new.root), proof)?;
        Ok(offered)
    }
}
