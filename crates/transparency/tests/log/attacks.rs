//! Each attack shows first that the same thing, not attacked, is believed.

use livepatch_transparency::*;

use crate::support::*;

fn signer() -> Signer {
    Signer::new(ORIGIN, 1)
}

fn seen(log: &Log) -> RememberedHead {
    RememberedHead::open(signer().sign(&log.head()).as_bytes(), &signer().key).unwrap()
}

/// A log like this one, but for one entry.
fn with_other_entry(log: &Log, at: usize) -> Log {
    let mut entries = log.entries.clone();
    entries[at] = entry(&bundle(9999));
    Log::of(entries)
}

#[test]
fn attack_split_view() {
    let log = Log::of_bundles(10);
    let remembered = seen(&log);
    log.offer(&remembered, &signer()).unwrap();
    let other = with_other_entry(&log, 9);
    assert_eq!(other.offer(&remembered, &signer()), Err(Refusal::SplitView(10)));
}

#[test]
fn attack_shrunk_log() {
    let log = Log::of_bundles(10);
    let before = Log::of(log.entries[..9].to_vec());
    log.offer(&seen(&before), &signer()).unwrap();
    assert_eq!(before.offer(&seen(&log), &signer()), Err(Refusal::Shrunk { seen: 10, offered: 9 }));
}

#[test]
fn attack_changed_entry() {
    for (old, new) in [(1, 2), (3, 7), (8, 9), (200, 600), (256, 257), (300, 900)] {
        let grown = Log::of_bundles(new);
        let remembered = seen(&Log::of(grown.entries[..old as usize].to_vec()));
        grown.offer(&remembered, &signer()).unwrap();
        for at in [0, old as usize / 2, old as usize - 1] {
            let changed = with_other_entry(&grown, at);
            let refusal = changed.offer(&remembered, &signer());
            assert_eq!(refusal, Err(Refusal::Inconsistent { seen: old, offered: new }), "entry {at}");
        }
    }
}

#[test]
fn attack_forged_proof() {
    let log = Log::of_bundles(300);
    let proof = log.prove(77, &signer());
    assert_eq!(proof.verify(&signer().key).unwrap().index, 77);
    let not_included = Err(Refusal::NotIncluded { index: 77, size: 300 });
    for at in 0..proof.hashes.len() {
        let mut forged = proof.clone();
        forged.hashes[at] = leaf_hash(b"forged");
        assert_eq!(forged.verify(&signer().key), not_included, "hash {at}");
    }
    let mut forged = proof.clone();
    forged.entry = entry(&bundle(9999));
    assert_eq!(forged.verify(&signer().key), not_included);
    let mut forged = proof.clone();
    forged.hashes.push(leaf_hash(b"one more"));
    assert_eq!(forged.verify(&signer().key), Err(Refusal::ProofLength { expected: 9, actual: 10 }));
    let mut forged = proof.clone();
    forged.hashes.pop();
    assert_eq!(forged.verify(&signer().key), Err(Refusal::ProofLength { expected: 9, actual: 8 }));
    let mut forged = proof.clone();
    forged.index = 300;
    assert_eq!(forged.verify(&signer().key), Err(Refusal::NotInTree { index: 300, size: 300 }));
    let mut forged = proof;
    forged.index = 78;
    assert_eq!(forged.verify(&signer().key), Err(Refusal::NotIncluded { index: 78, size: 300 }));
}

/// An inner node must not pass for an entry, nor the hashes under it for an entry's bytes.
#[test]
fn attack_node_as_entry() {
    let log = Log::of_bundles(2);
    let proof = log.prove(1, &signer());
    proof.verify(&signer().key).unwrap();
    let (left, right) = (leaf_hash(&log.entries[0]), leaf_hash(&log.entries[1]));
    let mut forged = proof;
    forged.entry = [left.as_bytes().as_slice(), right.as_bytes()].concat();
    (forged.index, forged.hashes) = (0, vec![]);
    let alone = Checkpoint { size: 1, ..log.head() };
    forged.note = signer().sign(&alone);
    assert_eq!(forged.verify(&signer().key), Err(Refusal::NotIncluded { index: 0, size: 1 }));
}

#[test]
fn attack_consistency_proof_forged() {
    let (old, new) = (Log::of_bundles(5), Log::of_bundles(12));
    let ranges = consistency_ranges(5, 12);
    let proof = new.tiles(&ranges).hashes(&ranges).unwrap();
    let verify = |proof: &[_]| verify_consistency((5, &old.head().root), (12, &new.head().root), proof);
    verify(&proof).unwrap();
    for at in 0..proof.len() {
        let mut forged = proof.clone();
        forged[at] = leaf_hash(b"forged");
        assert_eq!(verify(&forged), Err(Refusal::Inconsistent { seen: 5, offered: 12 }), "hash {at}");
    }
    assert!(matches!(verify(&proof[1..]), Err(Refusal::ProofLength { .. })));
    assert!(matches!(verify(&[]), Err(Refusal::ProofLength { .. })));
}

#[test]
fn attack_proof_of_another_bundle() {
    let log = Log::of_bundles(20);
    let proven = log.prove(4, &signer()).verify(&signer().key).unwrap();
    proven.check_bundle(&bundle(4)).unwrap();
    let refused = |given: &BundleEvent| match proven.check_bundle(given) {
        Err(Refusal::OtherBundle { difference, .. }) => difference,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&bundle(5)), "version");
    assert_eq!(refused(&BundleEvent { module_sha256: leaf_hash(b"x"), ..bundle(4) }), "module");
    assert_eq!(refused(&BundleEvent { manifest_sha256: leaf_hash(b"x"), ..bundle(4) }), "manifest");
    let mut elsewhere = bundle(4);
    elsewhere.kernel.build_id = livepatch_types::BuildId::from_bytes(&[8; 20]).unwrap();
    assert_eq!(refused(&elsewhere), "kernel");
    let withdrawal = Event::Withdrawal(WithdrawalEvent { version: bundle(4).version });
    let other = Proven { entry: Entry::new(proven.entry.at, withdrawal), ..proven };
    assert_eq!(other.check_bundle(&bundle(4)), Err(Refusal::NotABundle(4)));
}

#[test]
fn attack_checkpoint_signed_by_another_key() {
    let head = Log::of_bundles(3).head();
    let open = |note: &str| Checkpoint::open(note.as_bytes(), &signer().key);
    let note = signer().sign(&head);
    open(&note).unwrap();
    // Under the log's name, with another key: another id.
    let mallory = Signer::new(ORIGIN, 66);
    assert!(matches!(open(&mallory.sign(&head)), Err(Refusal::OtherSigner { .. })));
    // With the id of the log's key as well.
    let signature = aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(&[66; 32]).unwrap();
    let forged = head.to_note(&signer().key, signature.sign(head.to_text().as_bytes()).as_ref());
    assert_eq!(open(&forged), Err(Refusal::BadSignature(ORIGIN.into())));
    // The log's own signature, id and all, under another name.
    let renamed = note.replacen(&format!("— {ORIGIN} "), "— log.example/other ", 1);
    assert!(matches!(open(&renamed), Err(Refusal::OtherSigner { .. })));
    // The log's signature under another text.
    let other = note.replacen("\n3\n", "\n4\n", 1);
    assert_eq!(open(&other), Err(Refusal::BadSignature(ORIGIN.into())));
    // A right signature does not help a wrong one of the same key.
    let both = format!("{note}{}\n", forged.lines().last().unwrap());
    assert_eq!(open(&both), Err(Refusal::BadSignature(ORIGIN.into())));
    let cut = head.to_note(&signer().key, &[0; 63]);
    assert_eq!(open(&cut), Err(Refusal::BadSignature(ORIGIN.into())));
}

#[test]
fn attack_wrong_origin_line() {
    let head = Log::of_bundles(3).head();
    Checkpoint::open(signer().sign(&head).as_bytes(), &signer().key).unwrap();
    let other = Checkpoint { origin: "log.example/another".into(), ..head };
    let refusal = Checkpoint::open(signer().sign(&other).as_bytes(), &signer().key);
    let expected = Refusal::WrongOrigin { expected: ORIGIN.into(), actual: "log.example/another".into() };
    assert_eq!(refusal, Err(expected));
}

/// A head of another log, of whose tree the remembered one is a beginning.
#[test]
fn attack_head_of_another_log() {
    let log = Log::of_bundles(7);
    let remembered = seen(&Log::of_bundles(4));
    log.offer(&remembered, &signer()).unwrap();
    let other = Signer::new("log.example/another", 1);
    let head = Checkpoint { origin: other.key.name().into(), ..log.head() };
    let offered = RememberedHead::open(other.sign(&head).as_bytes(), &other.key).unwrap();
    let ranges = remembered.wanted(7);
    let refusal = remembered.accept(offered, &log.tiles(&ranges).hashes(&ranges).unwrap());
    let expected = Refusal::WrongOrigin { expected: ORIGIN.into(), actual: "log.example/another".into() };
    assert_eq!(refusal, Err(expected));
}

#[test]
fn attack_tile_truncated_or_longer() {
    let log = Log::of_bundles(300);
    let tile = Tile::in_tree(0, 1, 300).unwrap();
    let bytes = log.tile(tile);
    assert_eq!(tile.read(&bytes).unwrap().len(), 44);
    for wrong in [
        &bytes[..bytes.len() - 1],
        &bytes[..bytes.len() - 32],
        &[],
        &[bytes.as_slice(), &[0]].concat(),
        &[bytes.as_slice(), &[0; 32]].concat(),
    ] {
        let refusal = Tiles::new(300).insert(tile, wrong);
        let expected = Refusal::TileLength { tile, expected: 44 * 32, actual: wrong.len() };
        assert_eq!(refusal, Err(expected));
    }
}

#[test]
fn attack_tile_of_other_hashes() {
    let (log, other) = (Log::of_bundles(600), Log::of((0..600u64).map(|n| n.to_be_bytes().to_vec())));
    let remembered = seen(&Log::of(log.entries[..300].to_vec()));
    log.offer(&remembered, &signer()).unwrap();
    let ranges = remembered.wanted(600);
    let forged = other.tiles(&ranges).hashes(&ranges).unwrap();
    let offered = seen(&log);
    assert_eq!(remembered.accept(offered, &forged), Err(Refusal::Inconsistent { seen: 300, offered: 600 }));
    assert!(
        matches!(Tiles::new(600).hashes(&ranges), Err(Refusal::MissingTile(_))),
        "one that was never sent"
    );
}

#[test]
fn attack_oversized_answers() {
    let (log, key) = (Log::of_bundles(3), signer().key);
    let note = signer().sign(&log.head());
    Checkpoint::open(note.as_bytes(), &key).unwrap();
    let line = note.lines().last().unwrap();
    let many = format!("{note}{}", format!("{line}\n").repeat(64));
    assert_eq!(Checkpoint::open(many.as_bytes(), &key), Err(Refusal::Note("it has too many signatures")));
    let long = note.clone() + &" ".repeat(MAX_NOTE_BYTES);
    assert!(matches!(Checkpoint::open(long.as_bytes(), &key), Err(Refusal::TooLong { .. })));

    let proof = log.prove(1, &signer()).to_text();
    LoggedProof::parse(proof.as_bytes()).unwrap();
    let hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n".repeat(64);
    let deep = proof.replacen("index 1\n", &format!("index 1\n{hash}"), 1);
    assert_eq!(LoggedProof::parse(deep.as_bytes()), Err(Refusal::Proof("it has too many hashes")));

    let entries = write_entries(log.entries.iter().map(Vec::as_slice)).unwrap();
    assert_eq!(read_entries(&entries, 3).unwrap(), log.entries);
    let more = [entries.as_slice(), b"x"].concat();
    assert_eq!(read_entries(&more, 3), Err(Refusal::Entries("it has more bytes than its entries")));
    let declared = [&[0xff, 0xff], entries.as_slice()].concat();
    assert!(matches!(read_entries(&declared, 3), Err(Refusal::TooLong { .. })));
}
