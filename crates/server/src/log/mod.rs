//! The transparency log: who signs its head, and what is read from it. `verify` makes everything anew and compares,
//! `check` and `watch` are for those who do not believe the server.
//!
//! The operator's key signs the head. A host knows it already, by the operator's root, and a key of its own would lie on
//! the same disk: it would protect from nothing. What the log protects from is the holder of that key, who cannot take
//! back or show to one alone what others remember.

pub(crate) mod check;
pub(crate) mod commands;
pub(crate) mod verify;
pub(crate) mod watch;

use std::ops::Range;

use jiff::Timestamp;
use livepatch_manifest::sha256;
use livepatch_store::{SignedHead, Store, StoreError};
use livepatch_transparency::{
    Checkpoint, KeyEvent, KeyPurpose, LogKey, LoggedProof, Resource, Tile, inclusion_ranges, join, subtrees,
    write_entries,
};
use livepatch_types::Sha256Digest;

use crate::data_dir::write_over;
use crate::{DataDir, Exit, Failure, OperatorKey, vendor};

/// The name of a log that nobody has named: no other log has it.
pub(crate) fn default_name(key: &OperatorKey) -> String {
    format!("livepatch-log/{}", key.public().key_id().chars().take(16).collect::<String>())
}

/// The log's key as it stands in `log.vkey`; none when the data directory is older than the log.
pub(crate) fn known_key(data: &DataDir) -> Result<Option<LogKey>, Failure> {
    let path = data.log_key();
    let wrong = |error: anyhow::Error| {
        Failure::new(Exit::Setup, error)
            .context(format!("cannot use {}", path.display()))
            .hint("restore it from a backup: the log's name stands in it, and who watches the log knows that")
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => LogKey::parse(&text).map(Some).map_err(|refusal| wrong(refusal.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(error.into())),
    }
}

/// The key that signs the log's head: the operator's, under the log's name. What is new by it is in the log first: the
/// operator's key when it is another one than before, and all keys that are believed when there was no log before.
pub async fn key(
    data: &DataDir,
    store: &dyn Store,
    operator: &OperatorKey,
    now: Timestamp,
) -> Result<LogKey, Failure> {
    let known = known_key(data)?;
    let name = known.as_ref().map_or_else(|| default_name(operator), |key| key.name().to_owned());
    let key = LogKey::new(&name, *operator.public().as_bytes())
        .map_err(|refusal| Failure::new(Exit::Setup, refusal))?;
    store.log_key(&operator_key_event(&key), now).await?;
    if known.is_none() {
        for believed in believed_keys(data)? {
            store.log_key(&believed, now).await?;
        }
    }
    if known.as_ref() != Some(&key) {
        write_over(&data.log_key(), format!("{}\n", key.to_text()).as_bytes())?;
    }
    Ok(key)
}

/// The operator's key as an event.
pub(crate) fn operator_key_event(key: &LogKey) -> KeyEvent {
    KeyEvent {
        purpose: KeyPurpose::OperatorDocuments,
        name: key.name().to_owned(),
        version: 0,
        sha256: sha256(key.as_bytes()),
    }
}

/// The keys that this server goes by, but for its own.
pub(crate) fn believed_keys(data: &DataDir) -> Result<Vec<KeyEvent>, Failure> {
    let mut keys: Vec<_> = vendor::trusted(data)?.iter().map(vendor::key_event).collect();
    keys.extend(data.repositories().roots()?);
    Ok(keys)
}

/// The hash of a range, from stored hashes.
async fn range_hash(store: &dyn Store, range: Range<u64>) -> Result<Sha256Digest, StoreError> {
    let mut hashes = Vec::new();
    for part in subtrees(range) {
        let hash = store.log_hashes(part.height, part.index..part.index + 1).await?;
        let none = || StoreError::Corrupt("the log lacks a hash of its tree".into());
        hashes.push(*hash.first().ok_or_else(none)?);
    }
    Ok(join(&hashes))
}

/// The signed head of the log as it is now, signed if need be. A head that contradicts the one before is never signed.
pub(crate) async fn head(
    store: &dyn Store,
    operator: &OperatorKey,
    key: &LogKey,
) -> Result<SignedHead, StoreError> {
    let last = store.last_head().await?;
    let size = store.log_size().await?;
    if let Some(last) = last {
        if last.size == size && Checkpoint::open(last.note.as_bytes(), key).is_ok() {
            return Ok(last);
        }
        if last.size > size || range_hash(store, 0..last.size).await? != last.root {
            return Err(StoreError::Corrupt(format!(
                "the log is not the one whose {} entries were signed: it is not signed again",
                last.size
            )));
        }
    }
    let root = range_hash(store, 0..size).await?;
    let checkpoint = Checkpoint { origin: key.name().to_owned(), size, root };
    let head = SignedHead { size, root, note: operator.sign_head(&checkpoint, key) };
    store.save_head(&head).await?;
    Ok(head)
}

/// The proof that the entry at a position is in the log.
pub(crate) async fn prove(
    store: &dyn Store,
    operator: &OperatorKey,
    key: &LogKey,
    index: u64,
) -> Result<LoggedProof, StoreError> {
    let head = head(store, operator, key).await?;
    let mut hashes = Vec::new();
    for range in inclusion_ranges(index, head.size) {
        hashes.push(range_hash(store, range).await?);
    }
    let none = || StoreError::Corrupt("the log lacks an entry".into());
    let entry = store.log_entries(index..index + 1).await?.pop().ok_or_else(none)?;
    Ok(LoggedProof { entry, index, hashes, note: head.note })
}

/// The bytes of a tile; none when the log has not grown over it.
pub(crate) async fn resource(store: &dyn Store, resource: Resource) -> Result<Option<Vec<u8>>, StoreError> {
    let range = |tile: &Tile| tile.first()..tile.first() + u64::from(tile.width());
    let (count, width, bytes) = match resource {
        Resource::Hashes(tile) => {
            let hashes = store.log_hashes(tile.level() * 8, range(&tile)).await?;
            let bytes = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
            (hashes.len(), tile.width(), Some(bytes))
        }
        Resource::Entries(tile) => {
            let entries = store.log_entries(range(&tile)).await?;
            (entries.len(), tile.width(), write_entries(entries.iter().map(Vec::as_slice)))
        }
    };
    Ok(bytes.filter(|_| count == usize::from(width)))
}
