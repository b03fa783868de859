use livepatch_transparency::*;
use proptest::prelude::*;

use crate::support::*;

#[test]
fn paths_are_those_of_the_specification() {
    let hashes = |level, index, width| Resource::Hashes(Tile::new(level, index, width).unwrap());
    for (path, resource) in [
        ("tile/0/000", hashes(0, 0, 256)),
        ("tile/0/000.p/1", hashes(0, 0, 1)),
        ("tile/1/x001/x234/067", hashes(1, 1_234_067, 256)),
        ("tile/2/x001/x000/000.p/255", hashes(2, 1_000_000, 255)),
        ("tile/entries/x001/234.p/7", Resource::Entries(Tile::new(0, 1234, 7).unwrap())),
    ] {
        assert_eq!(resource.to_string(), path);
        assert_eq!(Resource::parse(path), Ok(resource));
    }
    for wrong in [
        "",
        "tile/",
        "tile/0",
        "tile/0/",
        "tile/0/0",
        "tile/0/1000",
        "tile/00/000",
        "tile/8/000",
        "tile/64/000",
        "tile/-1/000",
        "tile/+1/000",
        "tile/0/x000/000",
        "tile/0/001/000",
        "tile/0/x001",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/000.p",
        "tile/0/000/",
        "tile/0/../000",
        "tile/entries/0",
        "tile/data/000",
        "/tile/0/000",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
    ] {
        assert_eq!(Resource::parse(wrong), Err(Refusal::NotATile), "{wrong:?}");
    }
}

/// The example of the specification: which tiles a tree of 70,000 entries has.
#[test]
fn tiles_end_where_the_tree_does() {
    let width = |level, index| Tile::in_tree(level, index, 70_000).map(|tile| tile.width());
    assert_eq!((width(0, 272), width(0, 273), width(0, 274)), (Some(256), Some(112), None));
    assert_eq!((width(1, 0), width(1, 1), width(1, 2)), (Some(256), Some(17), None));
    assert_eq!((width(2, 0), width(2, 1), width(3, 0)), (Some(1), None, None));
    assert_eq!(Tile::in_tree(1, 0, 256).map(|tile| tile.width()), Some(1));
    assert_eq!((Tile::in_tree(1, 0, 255), Tile::in_tree(0, 0, 0)), (None, None));
}

#[test]
fn a_key_is_written_and_read_and_nothing_else_is_one() {
    let key = Signer::new(ORIGIN, 1).key;
    assert_eq!(LogKey::parse(&format!(" {}\n", key.to_text())), Ok(key.clone()));
    // From the documentation of golang.org/x/mod/sumdb/note.
    let neumann = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    assert_eq!(LogKey::parse(neumann).unwrap().to_text(), neumann);
    for wrong in [
        "",
        "PeterNeumann",
        "PeterNeumann+c74f20a3",
        "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+AhpcWQ==",
        "a b+00000000+AQ==",
    ] {
        assert!(LogKey::parse(wrong).is_err(), "{wrong:?}");
    }
    assert!(LogKey::new("", [0; 32]).is_err() && LogKey::new("a+b", [0; 32]).is_err());
}

#[test]
fn checkpoints_have_one_form() {
    let signer = Signer::new(ORIGIN, 1);
    let head = Log::of_bundles(3).head();
    let note = signer.sign(&head);
    assert_eq!(Checkpoint::open(note.as_bytes(), &signer.key), Ok(head.clone()));
    // Signatures of others, such as witnesses, stand beside the log's.
    let other = Signer::new("witness.example", 2).sign(&head);
    let cosigned = format!("{note}{}\n", other.lines().last().unwrap());
    assert_eq!(Checkpoint::open(cosigned.as_bytes(), &signer.key), Ok(head));
    for wrong in [
        "",
        "\n",
        "\n\n",
        "text\n",
        "text\n\n",
        "text\n\n— a b",
        "text\n\n- a AAAAAAAA\n",
        "t\tt\n\n— a AAAAAAAA\n",
        "t\n\n— a AAAA\n",
        "t\n\n— a+b AAAAAAAA\n",
        &note[..note.len() - 1],
        &format!("{note}\n"),
        &note.replace('—', "-"),
    ] {
        assert!(Checkpoint::open(wrong.as_bytes(), &signer.key).is_err(), "{wrong:?}");
    }
    // Signed by the right key, and still not a checkpoint.
    let root = Log::of_bundles(3).head().to_text().lines().last().unwrap().to_owned();
    for body in [
        format!("{ORIGIN}\n3\n"),
        format!("{ORIGIN}\n03\n{root}\n"),
        format!("{ORIGIN}\n-3\n{root}\n"),
        format!("{ORIGIN}\n3\nAAAA\n"),
        format!("{ORIGIN}\n18446744073709551615\n{root}\n"),
        format!("{ORIGIN}\n+3\n{root}\n"),
    ] {
        let note = signer.sign_text(&body);
        assert!(
            matches!(Checkpoint::open(note.as_bytes(), &signer.key), Err(Refusal::Checkpoint(_))),
            "{body:?}"
        );
    }
    // Signed by the right key, and not a note.
    let text = Log::of_bundles(3).head().to_text();
    let tab = signer.sign_text(&format!("{text}a\tb\n"));
    assert_eq!(
        Checkpoint::open(tab.as_bytes(), &signer.key),
        Err(Refusal::Note("it has control characters"))
    );
    let odd = format!("{note}— a+b AAAAAAAA\n");
    assert_eq!(
        Checkpoint::open(odd.as_bytes(), &signer.key),
        Err(Refusal::Note("a signature line is malformed"))
    );
    let gap = signer.sign_text(&format!("{text}\nmore\n"));
    assert_eq!(
        Checkpoint::open(gap.as_bytes(), &signer.key),
        Err(Refusal::Checkpoint("it has an empty line"))
    );
    let extended = signer.sign_text(&format!("{ORIGIN}\n3\n{root}\nsomething of others\n"));
    assert_eq!(Checkpoint::open(extended.as_bytes(), &signer.key).unwrap().size, 3);
}

#[test]
fn entries_have_one_form() {
    let bytes = entry(&bundle(0));
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"at":"2027-01-15T08:00:00Z","event":"bundle","kernel":{"architecture":"amd64","build_id":"#,
            r#""0707070707070707070707070707070707070707","release":"6.1.0-50-cloud-amd64"},"manifest_sha256":"#,
            r#""M","module_sha256":"O","name":"livepatch_1_1","schema":1,"version":"1.1"}"#
        )
        .replace("\"M\"", &format!("\"{}\"", bundle(0).manifest_sha256))
        .replace("\"O\"", &format!("\"{}\"", bundle(0).module_sha256))
    );
    assert_eq!(Entry::parse(&bytes).unwrap().to_bytes().unwrap(), bytes);
    let long = Event::Bundle(BundleEvent { name: "x".repeat(MAX_ENTRY_BYTES), ..bundle(0) });
    let refusal = Entry::new(Entry::parse(&bytes).unwrap().at, long).to_bytes();
    assert_eq!(refusal, Err(Refusal::TooLong { what: "an entry", limit: MAX_ENTRY_BYTES }));
    for wrong in [
        "{}".to_owned(),
        text.replace(r#""schema":1"#, r#""schema":2"#),
        text.replace(r#""event":"bundle""#, r#""event":"party""#),
        text.replace(r#""schema":1"#, r#""schema":1,"more":1"#),
        text.replace(r#""schema":1"#, r#""schema": 1"#),
        text.replace("08:00:00Z", "08:00:00.000Z"),
        "x".repeat(MAX_ENTRY_BYTES + 1),
    ] {
        assert!(Entry::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn a_proof_is_written_and_read() {
    let (log, signer) = (Log::of_bundles(300), Signer::new(ORIGIN, 1));
    let proof = log.prove(7, &signer);
    let text = proof.to_text();
    assert!(text.starts_with("c2sp.org/tlog-proof@v1\nextra "), "{text}");
    assert_eq!(LoggedProof::parse(text.as_bytes()), Ok(proof));
    let single = Log::of_bundles(1).prove(0, &signer);
    assert_eq!(
        LoggedProof::parse(single.to_text().as_bytes()).unwrap().verify(&signer.key).unwrap().index,
        0
    );
    for wrong in [
        "",
        "c2sp.org/tlog-proof@v1\n\n",
        &text.replace("@v1", "@v2"),
        &text.replace("index 7", "index 07"),
        &text.replace("extra ", "extra  "),
        &text.replace("\n\n", "\n"),
        &text.replace("index 7\n", "index 7\nAAAA\n"),
    ] {
        assert!(LoggedProof::parse(wrong.as_bytes()).is_err(), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn bundles_of_entries_are_read_as_they_were_written(
        entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = write_entries(entries.iter().map(Vec::as_slice)).unwrap();
        let width = entries.len() as u16;
        prop_assert_eq!(read_entries(&bytes, width).unwrap(), entries);
        prop_assert!(read_entries(&bytes, width + 1).is_err());
        prop_assert!(read_entries(&bytes, width - 1).is_err());
        prop_assert!(read_entries(&bytes[..cut.index(bytes.len())], width).is_err());
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,80}") {
        let key = Signer::new(ORIGIN, 1).key;
        for input in [bytes.as_slice(), text.as_bytes(), format!("{text}\n\n— {text}\n").as_bytes()] {
            prop_assert!(Checkpoint::open(input, &key).is_err());
            prop_assert!(RememberedHead::open(input, &key).is_err());
            _ = LoggedProof::parse(input).map(|proof| proof.verify(&key));
            _ = Entry::parse(input);
            _ = read_entries(input, 3);
        }
        _ = LogKey::parse(&text);
        _ = Resource::parse(&text);
        prop_assert!(Tile::new(0, 0, 10).unwrap().read(&bytes).is_ok() == (bytes.len() == 320));
    }
}

#[test]
fn what_is_too_long_is_not_looked_at() {
    let key = Signer::new(ORIGIN, 1).key;
    let long = |bytes: usize| vec![b'a'; bytes];
    assert!(matches!(Checkpoint::open(&long(MAX_NOTE_BYTES + 1), &key), Err(Refusal::TooLong { .. })));
    assert!(matches!(LoggedProof::parse(&long(MAX_PROOF_BYTES + 1)), Err(Refusal::TooLong { .. })));
    let limit = |what, limit| Refusal::TooLong { what, limit };
    assert_eq!(
        read_entries(&long(MAX_ENTRIES_BYTES + 1), 256),
        Err(limit("the bundle of entries", MAX_ENTRIES_BYTES))
    );
    assert_eq!(Entry::parse(&long(MAX_ENTRY_BYTES + 1)), Err(limit("an entry", MAX_ENTRY_BYTES)));
    assert_eq!(write_entries([long(MAX_ENTRY_BYTES + 1).as_slice()]), None);
}
