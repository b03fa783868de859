//! The port to the transparency log. It has no operation that appends alone: an entry comes with its event.

use std::ops::Range;

use jiff::Timestamp;
use livepatch_transparency::{Entry, KeyEvent};
use livepatch_types::Sha256Digest;

use crate::StoreError;

/// A head of the log as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// How many entries it is about.
    pub size: u64,
    /// The root of their tree.
    pub root: Sha256Digest,
    /// The signed note.
    pub note: String,
}

/// The log of a store: every bundle, release and withdrawal of [`crate::Store`] and every key has its entry, made in the
/// transaction of the event itself.
#[async_trait::async_trait]
pub trait TransparencyLog: Send + Sync {
    /// Notes that a key is believed from `at` on; false, and nothing noted, when it is the last of its purpose and name.
    async fn log_key(&self, key: &KeyEvent, at: Timestamp) -> Result<bool, StoreError>;

    /// How many entries there are.
    async fn log_size(&self) -> Result<u64, StoreError>;
    /// The entries of a range, as far as there are any.
    async fn log_entries(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, StoreError>;
    /// The hashes of complete subtrees of a height, those with the indices of a range, as far as there are any.
    async fn log_hashes(&self, height: u8, range: Range<u64>) -> Result<Vec<Sha256Digest>, StoreError>;
    /// Where the publishing of the bundle with this module is: its newest, if there are several.
    async fn bundle_position(&self, module: &Sha256Digest) -> Result<Option<u64>, StoreError>;
    /// What the entries must be, made anew from the events, with their positions in ascending order.
    async fn logged_events(&self) -> Result<Vec<(u64, Entry)>, StoreError>;

    /// The last head that was signed.
    async fn last_head(&self) -> Result<Option<SignedHead>, StoreError>;
    /// All heads that were signed, by size.
    async fn heads(&self) -> Result<Vec<SignedHead>, StoreError>;
    /// Remembers a signed head. Idempotent.
    async fn save_head(&self, head: &SignedHead) -> Result<(), StoreError>;
}
