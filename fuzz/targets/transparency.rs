//! What somebody gets who asks a log: nothing is believed but what its key signed, and what was read is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livepatch_fuzz::{log_key, sign_head};
use livepatch_transparency::*;

fuzz_target!(|data: &[u8]| {
    let key = log_key();
    // The seeds have right signatures; a head that is read is one of those that the key signs.
    if let Ok(head) = Checkpoint::open(data, &key) {
        assert_eq!(head.origin, key.name());
        assert_eq!(Checkpoint::open(sign_head(&head).as_bytes(), &key), Ok(head));
    }
    if let Ok(proof) = LoggedProof::parse(data) {
        assert_eq!(LoggedProof::parse(proof.to_text().as_bytes()), Ok(proof.clone()));
        _ = proof.verify(&key);
    }
    if let Ok(entry) = Entry::parse(data) {
        assert_eq!(entry.to_bytes().as_deref(), Ok(data));
    }
    // The first byte says how many hashes or entries there should be.
    if let Some((width, rest)) = data.split_first() {
        let width = u16::from(*width).max(1);
        if let Ok(entries) = read_entries(rest, width) {
            assert_eq!(write_entries(entries).as_deref(), Some(rest));
        }
        if let Ok(hashes) = Tile::new(0, 0, width).and_then(|tile| tile.read(rest)) {
            let leaf = leaf_hash(rest);
            let size = u64::from(width);
            assert!(verify_inclusion(&leaf, size / 2, size, &leaf_hash(&[]), &hashes).is_err());
            assert!(verify_consistency((size / 2, &leaf), (size, &leaf_hash(&[])), &hashes).is_err());
        }
    }
    let text = String::from_utf8_lossy(data);
    if let Ok(key) = LogKey::parse(&text) {
        assert_eq!(LogKey::parse(&key.to_text()), Ok(key));
    }
    if let Ok(resource) = Resource::parse(&text) {
        assert_eq!(resource.to_string(), text);
    }
});
