//! Stories of the transparency log.

use livepatch_transparency::{Entry, Event, Frontier, KeyEvent, KeyPurpose, join, leaf_hash, subtrees};

use super::*;

fn key(name: &str, version: u64) -> KeyEvent {
    KeyEvent {
        purpose: KeyPurpose::VendorRoot,
        name: name.into(),
        version,
        sha256: sha256(version.to_be_bytes().as_slice()),
    }
}

/// The kinds of the entries, after everything about them was checked: they are the events, in the tree, in order.
async fn kinds(store: &impl Store) -> Vec<&'static str> {
    let size = store.log_size().await.unwrap();
    let entries = store.log_entries(0..size + 5).await.unwrap();
    assert_eq!(entries.len() as u64, size, "as far as there are any");
    let parsed: Vec<_> = entries.iter().map(|bytes| Entry::parse(bytes).unwrap()).collect();
    let events: Vec<_> = (0..).zip(parsed.iter().cloned()).collect();
    assert_eq!(store.logged_events().await.unwrap(), events);

    let mut edge = Vec::new();
    for part in subtrees(0..size) {
        edge.extend(store.log_hashes(part.height, part.index..part.index + 1).await.unwrap());
    }
    let leaves: Vec<_> = entries.iter().map(|entry| leaf_hash(entry)).collect();
    assert_eq!(store.log_hashes(0, 0..size + 5).await.unwrap(), leaves);
    let mut frontier = Frontier::default();
    leaves.into_iter().for_each(|leaf| _ = frontier.append(leaf));
    assert_eq!(join(&edge), frontier.root());
    let kind = |entry: &Entry| match entry.event {
        Event::Bundle(_) => "bundle",
        Event::Release(_) => "release",
        Event::Withdrawal(_) => "withdrawal",
        Event::Key(_) => "key",
    };
    parsed.iter().map(kind).collect()
}

pub(super) async fn what_happens_is_in_the_log_once(store: &impl Store) {
    assert_eq!(kinds(store).await, [""; 0]);
    assert_eq!(store.log_hashes(3, 0..1).await.unwrap(), []);
    let one = patch("1.1", 1, b"one");
    for _ in 0..2 {
        store.publish(&one).await.unwrap();
        assert_eq!(kinds(store).await, ["bundle", "release"]);
    }
    for _ in 0..2 {
        store.publish(&NewPatch { tier: tier("beta"), ..one.clone() }).await.unwrap();
        assert_eq!(kinds(store).await, ["bundle", "release", "release"]);
    }
    store.publish(&patch("1.1", 2, b"two")).await.unwrap();
    assert_eq!(store.bundle_position(&sha256(b"one")).await.unwrap(), Some(0));
    assert_eq!(store.bundle_position(&sha256(b"two")).await.unwrap(), Some(3));
    assert_eq!(store.bundle_position(&sha256(b"three")).await.unwrap(), None);
    for _ in 0..2 {
        store.withdraw(version("1.1"), now()).await.unwrap();
        assert_eq!(kinds(store).await[3..], ["bundle", "release", "withdrawal"]);
    }
    assert!(store.log_key(&key("a", 1), now()).await.unwrap());
    assert!(!store.log_key(&key("a", 1), now()).await.unwrap(), "the same again");
    assert!(store.log_key(&key("b", 1), now()).await.unwrap());
    assert!(store.log_key(&key("a", 2), now()).await.unwrap());
    assert!(store.log_key(&key("a", 1), now()).await.unwrap(), "back again");
    assert_eq!(kinds(store).await[6..], ["key", "key", "key", "key"]);
}

pub(super) async fn what_is_refused_is_not_in_the_log(store: &impl Store) {
    store.publish(&patch("1.1", 1, b"one")).await.unwrap();
    let refused = [
        NewPatch { tier: tier("stabel"), ..patch("1.2", 1, b"x") },
        patch("1.1", 1, b"two"),
        NewPatch { manifest_text: "other".into(), ..patch("1.1", 1, b"one") },
    ];
    for patch in refused {
        assert!(store.publish(&patch).await.is_err());
    }
    assert!(store.withdraw(version("9.9"), now()).await.is_err());
    assert_eq!(kinds(store).await, ["bundle", "release"]);
}

pub(super) async fn a_signed_head_is_remembered(store: &impl Store) {
    assert_eq!(store.last_head().await.unwrap(), None);
    let head = |size, note: &str| SignedHead { size, root: sha256(&[1]), note: note.into() };
    let heads = [head(3, "three"), head(7, "seven"), head(7, "seven, by another key")];
    for head in &heads {
        store.save_head(head).await.unwrap();
        store.save_head(head).await.unwrap();
        assert_eq!(store.last_head().await.unwrap().as_ref(), Some(head));
    }
    assert_eq!(store.heads().await.unwrap(), heads);
}
