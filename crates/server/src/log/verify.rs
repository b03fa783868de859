//! Verifying the log: everything is made anew, from the entries and from the events, and compared with what is stored.

use std::collections::BTreeMap;

use livepatch_store::{SignedHead, Store};
use livepatch_transparency::{Checkpoint, Entry, Event, Frontier, KeyEvent, LogKey, Refusal, leaf_hash};
use livepatch_types::Sha256Digest;

use super::{believed_keys, operator_key_event};
use crate::{DataDir, Failure};

/// Entries that are read at a time.
const PAGE: u64 = 256;
/// More findings do not make it worse.
const MAX_FINDINGS: usize = 100;

/// What verifying came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    /// How many entries there are.
    pub(crate) entries: u64,
    /// The root that they have.
    pub(crate) root: Sha256Digest,
    /// How many signed heads were compared with it.
    pub(crate) heads: usize,
    /// What is not as it must be, one line each.
    pub(crate) findings: Vec<String>,
}

/// Verifies all of it. `key` is the operator's key, as it is now, under the log's name.
pub(crate) async fn verify(data: &DataDir, store: &dyn Store, key: &LogKey) -> Result<Verified, Failure> {
    let mut findings = Vec::new();
    // In this order, the log may grow meanwhile: a key is in it before it is believed, an entry before its head is signed.
    let believed = believed_keys(data)?;
    let heads = store.heads().await?;
    let size = store.log_size().await?;
    let mut by_size: BTreeMap<u64, Vec<&SignedHead>> = BTreeMap::new();
    heads.iter().for_each(|head| by_size.entry(head.size).or_default().push(head));
    let mut events = store.logged_events().await?.into_iter().peekable();
    let mut frontier = Frontier::default();
    let mut keys: Vec<KeyEvent> = Vec::new();
    check_heads(key, &frontier, &mut by_size, &mut findings);
    while frontier.size() < size {
        let first = frontier.size();
        let entries = store.log_entries(first..size.min(first + PAGE)).await?;
        let mut computed = Hashes::new();
        for (position, bytes) in (first..).zip(&entries) {
            for (part, hash) in frontier.append(leaf_hash(bytes)) {
                computed.entry(part.height).or_default().push((part.index, hash));
            }
            check_heads(key, &frontier, &mut by_size, &mut findings);
            // Events of this position; one that has no entry cannot come, for they are in order.
            let event = events.next_if(|(of, _)| *of == position).map(|(_, event)| event);
            match same(bytes, event) {
                Ok(Event::Key(key)) => keys.push(key),
                Ok(_) => {}
                Err(why) => findings.push(format!("entry {position} {why}")),
            }
        }
        check_hashes(store, computed, &mut findings).await?;
        if entries.is_empty() {
            findings.push(format!("entry {first} is missing"));
            break;
        }
    }
    let size_now = store.log_size().await?;
    for (position, _) in events.filter(|(position, _)| *position < size || *position >= size_now) {
        findings.push(format!("the database has an event whose entry {position} is not there"));
    }
    for size in by_size.into_keys() {
        findings.push(format!(
            "a head of {size} entries was signed, and the log has fewer: it was cut off or restored"
        ));
    }
    for believed in std::iter::once(operator_key_event(key)).chain(believed) {
        let of = |event: &&KeyEvent| event.purpose == believed.purpose && event.name == believed.name;
        if keys.iter().rev().find(of) != Some(&believed) {
            let (purpose, name) = (super::commands::word(believed.purpose), believed.name);
            findings.push(format!("{purpose} {name} is believed here, and the log does not say so"));
        }
    }
    findings.truncate(MAX_FINDINGS);
    Ok(Verified { entries: frontier.size(), root: frontier.root(), heads: heads.len(), findings })
}

/// The event of an entry that says what the event in the database does; else, what is wrong with it.
fn same(bytes: &[u8], event: Option<Entry>) -> Result<Event, String> {
    let entry = Entry::parse(bytes).map_err(|refusal| format!("is not one: {refusal}"))?;
    match event {
        Some(event) if entry == event => Ok(entry.event),
        Some(_) => Err("says something else than the database".into()),
        None => Err("is about something that the database lacks".into()),
    }
}

/// Hashes of complete subtrees: of each height, those that follow on each other.
type Hashes = BTreeMap<u8, Vec<(u64, Sha256Digest)>>;

/// Compares hashes with those that are stored.
async fn check_hashes(
    store: &dyn Store,
    computed: Hashes,
    findings: &mut Vec<String>,
) -> Result<(), Failure> {
    for (height, hashes) in computed {
        let (Some((start, _)), Some((end, _))) = (hashes.first(), hashes.last()) else { continue };
        let stored = store.log_hashes(height, *start..*end + 1).await?;
        if !stored.iter().eq(hashes.iter().map(|(_, hash)| hash)) {
            findings.push(format!("hashes {start} to {end} of height {height} are not those of the entries"));
        }
    }
    Ok(())
}

/// Compares the heads that were signed at this size.
fn check_heads(
    key: &LogKey,
    frontier: &Frontier,
    heads: &mut BTreeMap<u64, Vec<&SignedHead>>,
    findings: &mut Vec<String>,
) {
    let (size, root) = (frontier.size(), frontier.root());
    let text = Checkpoint { origin: key.name().to_owned(), size, root }.to_text();
    for head in heads.remove(&size).unwrap_or_default() {
        if head.root != root || !head.note.starts_with(&format!("{text}\n")) {
            findings.push(format!("the head that was signed for {size} entries is not theirs"));
        }
        // A key that was replaced is not at hand any more.
        if let Err(refusal) = Checkpoint::open(head.note.as_bytes(), key)
            && !matches!(refusal, Refusal::OtherSigner { .. })
        {
            findings.push(format!("the head that was signed for {size} entries: {refusal}"));
        }
    }
}
