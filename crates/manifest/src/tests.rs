use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::Timestamp;
use livepatch_types::*;
use proptest::prelude::*;

use crate::envelope::{assemble, signing_input};
use crate::*;

fn kernel(byte: u8) -> KernelIdentity {
    KernelIdentity {
        architecture: Architecture::Amd64,
        release: KernelRelease::parse("6.1.0-50-cloud-amd64").unwrap(),
        build_id: BuildId::from_bytes(&[byte; 20]).unwrap(),
    }
}

fn bundle() -> Bundle {
    let module = b"a module".to_vec();
    let manifest = PatchManifest {
        schema: 1,
        version: PatchVersion::parse("1.1").unwrap(),
        kernel: kernel(1),
        module: ModuleObject { sha256: sha256(&module), size_bytes: module.len() as u64 },
        objects: vec![PatchedObject {
            name: ObjectName::Vmlinux,
            build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
            functions: vec![PatchedFunction { name: "f".into(), sympos: 0 }],
        }],
        cves: vec![],
        built: Timestamp::UNIX_EPOCH,
        compiler: "gcc-12".into(),
        sections: Default::default(),
    };
    Bundle::new(manifest, module, Some(b"{}".to_vec())).unwrap()
}

#[test]
fn a_bundle_reads_back() {
    let mut bundle = bundle();
    assert_eq!(Bundle::parse(&bundle.to_bytes()).unwrap(), bundle);
    bundle.signature = Some(vec![1, 2, 3]);
    assert_eq!(Bundle::parse(&bundle.to_bytes()).unwrap(), bundle);
}

#[test]
fn a_bundle_that_was_changed_is_refused() {
    let good = bundle().to_bytes();
    let change = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        Bundle::parse(&bytes).unwrap_err()
    };
    assert_eq!(change(0, b'X'), BundleError::NotABundle);
    assert_eq!(change(8, 2), BundleError::Format(2));
    assert!(matches!(change(12, 9), BundleError::Table(_)));
    assert!(matches!(change(20, 1), BundleError::Table(_)), "reserved");
    assert!(matches!(change(30, 0xff), BundleError::Table(_)), "length over its cap");
    let module_at = good.windows(8).position(|w| w == b"a module").unwrap();
    assert!(matches!(change(module_at, b'b'), BundleError::Module(_)));
    for length in 0..good.len() {
        assert!(Bundle::parse(&good[..length]).is_err(), "{length}");
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(matches!(Bundle::parse(&longer), Err(BundleError::Length { .. })));
}

#[test]
fn what_the_manifest_names_is_what_is_in_the_bundle() {
    let kernel = kernel(1);
    let proof = VmProof {
        schema: 1,
        module: sha256(b"a module"),
        kernel: kernel.clone(),
        machine: "QEMU".into(),
        result: ProofResult::Passed,
        steps: vec![],
        checks: vec![],
        previous: None,
        log: "a log".into(),
    };
    let sources = PatchSources {
        schema: 1,
        patches: vec![SourceEntry { cves: vec![], upstream: None, r#override: None, text: "diff".into() }],
        arguments: vec![],
    };
    let bundle = bundle().with_sources(&sources).unwrap().with_proof(&proof).unwrap();
    let bytes = bundle.to_bytes();
    let parsed = Bundle::parse(&bytes).unwrap();
    assert_eq!(parsed, bundle);
    assert_eq!(parsed.parsed_proof().unwrap().unwrap(), proof);
    assert_eq!(parsed.parsed_sources().unwrap().unwrap(), sources);
    assert!(proof.is_of(b"a module", &kernel) && !proof.is_of(b"another", &kernel));
    assert!(!VmProof { result: ProofResult::Failed, ..proof.clone() }.is_of(b"a module", &kernel));

    let at = bytes.windows(5).position(|w| w == b"a log").unwrap();
    let mut changed = bytes.clone();
    changed[at] = b'A';
    assert_eq!(Bundle::parse(&changed), Err(BundleError::Section("proof")));
    let without = Bundle { proof: None, ..bundle.clone() };
    assert_eq!(Bundle::parse(&without.to_bytes()), Err(BundleError::Section("proof")));
    let unnamed = Bundle { proof: bundle.proof.clone(), ..bundle_of_old() };
    assert_eq!(Bundle::parse(&unnamed.to_bytes()), Err(BundleError::Section("proof")));
}

#[test]
fn a_bundle_without_the_vendors_metadata_has_the_same_bytes_as_ever() {
    let golden = include_bytes!("bundle/before-vendor.lpb");
    assert_eq!(bundle().to_bytes(), golden);
    assert_eq!(Bundle::parse(golden).unwrap(), bundle());
}

#[test]
fn the_vendors_metadata_travels_in_a_bundle() {
    let file = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
    let files =
        VendorFiles::new([file("metadata/1.root.json", "{}"), file("metadata/timestamp.json", "{\"a\":1}")]);
    let files = files.unwrap();
    let signed = Bundle { signature: Some(vec![1, 2, 3]), ..bundle() };
    let with = signed.clone().with_vendor(&files).unwrap();
    // The signature stays: the manifest does not name what is signed for itself.
    assert_eq!((&with.signature, &with.manifest_bytes), (&signed.signature, &signed.manifest_bytes));
    let golden = include_bytes!("bundle/with-vendor.lpb");
    assert_eq!(with.to_bytes(), golden);
    let read = Bundle::parse(golden).unwrap();
    assert_eq!(read, with);
    // Readers before it know six kinds, and refuse the seventh by its number.
    assert_eq!(golden[12..16], [5, 0, 0, 0]);
    assert_eq!(golden[16 + 4 * 16..][..4], [7, 0, 0, 0]);
    let read = read.parsed_vendor().unwrap().unwrap();
    assert_eq!(read.get("metadata/timestamp.json"), Some(&b"{\"a\":1}"[..]));
    assert_eq!(read.get("metadata/2.root.json"), None);
    assert_eq!(read.paths().count(), 2);
    assert_eq!(bundle().parsed_vendor(), Ok(None));

    let part = |why: &str| BundleError::Part("vendor", why.to_owned());
    assert_eq!(VendorFiles::new([("a".into(), vec![0xff])]), Err(part("a is not text")));
    let many = (0..261).map(|number| (number.to_string(), vec![]));
    assert_eq!(VendorFiles::new(many), Err(part("261 files where 260 are allowed")));
    assert!(VendorFiles::new((0..260).map(|number| (number.to_string(), vec![]))).is_ok());
    let later = br#"{"schema":2,"files":{}}"#;
    assert_eq!(VendorFiles::parse(later), Err(part("schema 2 is not 1")));
    for text in
        ["", "[]", r#"{"schema":1}"#, r#"{"schema":1,"files":{"a":1}}"#, r#"{"schema":1,"files":{},"x":1}"#]
    {
        assert!(matches!(VendorFiles::parse(text.as_bytes()), Err(BundleError::Part("vendor", _))), "{text}");
    }
    let large = VendorFiles::new([("a".into(), vec![b'a'; 4 << 20])]).unwrap();
    assert!(matches!(bundle().with_vendor(&large), Err(BundleError::Table(_))));
}

/// That a bundle is in a log travels in it, and changes nothing else.
#[test]
fn the_proof_of_the_log_travels_in_a_bundle() {
    let signed = Bundle { signature: Some(vec![1, 2, 3]), ..bundle() };
    let with = signed.clone().with_logged(b"c2sp.org/tlog-proof@v1\n".to_vec()).unwrap();
    assert_eq!((&with.signature, &with.manifest_bytes), (&signed.signature, &signed.manifest_bytes));
    let bytes = with.to_bytes();
    assert_eq!(Bundle::parse(&bytes).unwrap(), with);
    // Readers before it know seven kinds, and refuse the eighth by its number.
    assert_eq!((&bytes[12..16], &bytes[16 + 4 * 16..][..4]), (&[5, 0, 0, 0][..], &[8, 0, 0, 0][..]));
    assert!(bytes.ends_with(b"c2sp.org/tlog-proof@v1\n"));
    assert_eq!(Bundle { logged: None, ..with }.to_bytes(), signed.to_bytes());
}

/// The longest section, all sections and the longest bundle are taken; one byte more is not.
#[test]
fn the_longest_bundle() {
    const CAP: usize = bundle::MAX_VENDOR_BYTES as usize;
    let files = |bytes: usize| {
        let without = VendorFiles::new([("a".into(), vec![])]).unwrap().to_bytes().len();
        VendorFiles::new([("a".into(), vec![b'a'; bytes - without])]).unwrap()
    };
    let part = Some(b"{}".to_vec());
    let whole = Bundle { sources: part.clone(), proof: part.clone(), ..bundle() };
    let whole = Bundle { signature: part, ..whole.with_module(b"a module".to_vec()).unwrap() };
    const LOGGED: usize = bundle::MAX_LOGGED_BYTES as usize;
    let longest = whole.clone().with_vendor(&files(CAP)).unwrap();
    assert!(matches!(longest.clone().with_logged(vec![b'a'; LOGGED + 1]), Err(BundleError::Table(_))));
    let longest = longest.with_logged(vec![b'a'; LOGGED]).unwrap();
    assert_eq!(longest.to_bytes()[12], 8, "every section is there");
    assert_eq!(Bundle::parse(&longest.to_bytes()).unwrap(), longest);
    assert_eq!(longest.parsed_vendor(), Ok(Some(files(CAP))));
    assert!(matches!(whole.with_vendor(&files(CAP + 1)), Err(BundleError::Table(_))));

    let too_long = BundleError::Part("vendor", format!("it has more than {CAP} bytes"));
    for bytes in [CAP + 1, CAP + 2] {
        let longer = Bundle { vendor: Some(files(bytes).to_bytes()), ..longest.clone() };
        assert!(matches!(Bundle::parse(&longer.to_bytes()), Err(BundleError::Table(_))));
        assert_eq!(VendorFiles::parse(&files(bytes).to_bytes()), Err(too_long.clone()));
    }
    let together = bundle::longest();
    let most = bundle::MAX_BUNDLE_BYTES;
    assert!((together..together + (1 << 20)).contains(&most), "{most} bytes where {together} are needed");
}

/// As version 0.1.0 made them: the manifest names nothing.
fn bundle_of_old() -> Bundle {
    let mut old = bundle();
    old.manifest.sections.clear();
    old.manifest_bytes = serde_json::to_vec_pretty(&old.manifest).unwrap();
    old
}

#[test]
fn bundles_that_name_no_sections_are_read() {
    let old = bundle_of_old();
    assert!(!String::from_utf8_lossy(&old.manifest_bytes).contains("sections"));
    assert_eq!(Bundle::parse(&old.to_bytes()).unwrap(), old);
}

fn document() -> KernelDocument {
    KernelDocument {
        schema: 1,
        critical: vec![],
        kernel: kernel(1),
        channel: Tier::parse("stable").unwrap(),
        version: 7,
        issued: "2026-11-24T00:00:00Z".parse().unwrap(),
        expires: "2026-12-01T00:00:00Z".parse().unwrap(),
        poll_hint_seconds: None,
        target: None,
        withdrawn: vec![],
        vendor: None,
        coverage: None,
    }
}

fn signed(payload: &[u8], key: &Ed25519KeyPair) -> Vec<u8> {
    let id = public(key).key_id();
    let sig = key.sign(&signing_input(document::PAYLOAD_TYPE, payload)).as_ref().to_vec();
    assemble(document::PAYLOAD_TYPE, payload, &[(id, sig)])
}

fn public(key: &Ed25519KeyPair) -> VerifyingKey {
    VerifyingKey::from_bytes(key.public_key().as_ref().try_into().unwrap())
}

#[test]
fn a_document_is_believed_only_when_everything_fits() {
    let (key, other) = (Ed25519KeyPair::generate().unwrap(), Ed25519KeyPair::generate().unwrap());
    let trusted = [public(&key)];
    let stable = Tier::parse("stable").unwrap();
    let bytes = signed(&document().to_payload(), &key);
    let open = |bytes: &[u8], seen| KernelDocument::open(bytes, &trusted, &kernel(1), &stable, seen);
    assert_eq!(open(&bytes, 7).unwrap(), document());
    assert!(matches!(open(&bytes, 8), Err(DocumentError::Rollback { offered: 7, seen: 8 })));
    assert!(matches!(
        open(&signed(&document().to_payload(), &other), 0),
        Err(DocumentError::Envelope(EnvelopeError::UntrustedSigner(_)))
    ));
    assert!(matches!(
        KernelDocument::open(&bytes, &trusted, &kernel(2), &stable, 0),
        Err(DocumentError::WrongKernel { .. })
    ));
    assert!(matches!(
        KernelDocument::open(&bytes, &trusted, &kernel(1), &Tier::parse("edge").unwrap(), 0),
        Err(DocumentError::WrongChannel { .. })
    ));

    // A signature of the trusted key over other bytes.
    let id = public(&key).key_id();
    let sig = key.sign(b"something else").as_ref().to_vec();
    let forged = assemble(document::PAYLOAD_TYPE, &document().to_payload(), &[(id, sig)]);
    assert!(matches!(open(&forged, 0), Err(DocumentError::Envelope(EnvelopeError::BadSignature(_)))));

    let changed = |name: &str, value: serde_json::Value| {
        let mut json = serde_json::to_value(document()).unwrap();
        json[name] = value;
        signed(&serde_json::to_vec(&json).unwrap(), &key)
    };
    assert!(matches!(open(&changed("schema", 2.into()), 0), Err(DocumentError::Schema(2))));
    let critical = changed("critical", serde_json::json!(["waves"]));
    assert!(matches!(open(&critical, 0), Err(DocumentError::Critical(name)) if name == "waves"));
    assert!(open(&changed("a-later-member", 1.into()), 0).is_ok(), "an unknown member that is not critical");
    assert!(matches!(open(&changed("version", "x".into()), 0), Err(DocumentError::Malformed(_))));
}

#[test]
fn a_document_has_its_time() {
    let at = |text: &str| document().check_time(text.parse().unwrap());
    assert_eq!(at("2026-11-24T00:00:01Z"), Ok(()));
    assert_eq!(at("2026-11-23T23:55:00Z"), Ok(()), "the most that the clock here may be behind");
    assert!(matches!(at("2026-11-23T23:54:59Z"), Err(DocumentError::NotYetValid { .. })));
    assert!(matches!(at("1970-01-01T00:00:00Z"), Err(DocumentError::NotYetValid { .. })));
    assert_eq!(at("2026-11-30T23:59:59Z"), Ok(()));
    assert!(matches!(at("2026-12-01T00:00:00Z"), Err(DocumentError::Expired(_))));
}

fn host(byte: u8) -> HostId {
    HostId::from_bytes([byte; 16])
}

fn assignment() -> HostAssignment {
    HostAssignment {
        schema: 1,
        critical: vec![],
        host: host(1),
        tier: Tier::parse("beta").unwrap(),
        cohort: Some(Cohort::parse("databases/2").unwrap()),
        version: 3,
        issued: "2026-11-24T00:00:00Z".parse().unwrap(),
    }
}

fn signed_assignment(payload: &[u8], key: &Ed25519KeyPair) -> Vec<u8> {
    let sig = key.sign(&signing_input(assignment::PAYLOAD_TYPE, payload)).as_ref().to_vec();
    assemble(assignment::PAYLOAD_TYPE, payload, &[(public(key).key_id(), sig)])
}

#[test]
fn attack_assignment_of_another_host() {
    let key = Ed25519KeyPair::generate().unwrap();
    let bytes = signed_assignment(&assignment().to_payload(), &key);
    let open = |host: &HostId| HostAssignment::open(&bytes, &[public(&key)], host, 0);
    assert_eq!(open(&host(1)), Ok(assignment()));
    let refusal = AssignmentError::WrongHost { expected: host(2), actual: host(1) };
    assert_eq!(open(&host(2)), Err(refusal));
}

#[test]
fn attack_old_forged_and_later_assignments() {
    let (key, other) = (Ed25519KeyPair::generate().unwrap(), Ed25519KeyPair::generate().unwrap());
    let open = |bytes: &[u8], seen| HostAssignment::open(bytes, &[public(&key)], &host(1), seen);
    let bytes = signed_assignment(&assignment().to_payload(), &key);
    assert_eq!(open(&bytes, 3), Ok(assignment()));
    assert_eq!(open(&bytes, 4), Err(AssignmentError::Rollback { offered: 3, seen: 4 }));
    let untrusted = EnvelopeError::UntrustedSigner(public(&other).key_id());
    assert_eq!(open(&signed_assignment(&assignment().to_payload(), &other), 0), Err(untrusted.into()));
    // What the same key signed as a kernel document is no assignment.
    let (expected, actual) = (assignment::PAYLOAD_TYPE.to_owned(), document::PAYLOAD_TYPE.to_owned());
    let wrong = EnvelopeError::WrongType { expected, actual };
    assert_eq!(open(&signed(&assignment().to_payload(), &key), 0), Err(wrong.into()));
    let critical = HostAssignment { critical: vec!["moon".into()], ..assignment() };
    let refusal = AssignmentError::Critical("moon".into());
    assert_eq!(open(&signed_assignment(&critical.to_payload(), &key), 0), Err(refusal));
    let later = HostAssignment { schema: 2, ..assignment() };
    assert_eq!(open(&signed_assignment(&later.to_payload(), &key), 0), Err(AssignmentError::Schema(2)));
}

#[test]
fn sizes_of_assignments() {
    let key = Ed25519KeyPair::generate().unwrap();
    let open = |cohort: &str| {
        let mut payload = serde_json::to_value(assignment()).unwrap();
        payload["cohort"] = cohort.into();
        let bytes = signed_assignment(payload.to_string().as_bytes(), &key);
        assert!(bytes.len() <= assignment::MAX_ASSIGNMENT_BYTES, "the longest one is sent whole");
        HostAssignment::open(&bytes, &[public(&key)], &host(1), 0)
    };
    let longest = format!("{}/9999", "a".repeat(48));
    assert_eq!(open(&longest).unwrap().cohort.unwrap().as_str(), longest);
    for cohort in [&"a".repeat(49), "", "a b", "a/x"] {
        assert!(matches!(open(cohort), Err(AssignmentError::Malformed(_))), "{cohort}");
    }
}

/// Hosts of all releases compute the same places, for ever: an operator counts on who goes first.
#[test]
fn places_stay_the_same() {
    let version = |text: &str| PatchVersion::parse(text).unwrap();
    let place = |byte, cohort: &str, of: &str| {
        let cohort = Some(cohort).filter(|text| !text.is_empty()).map(|text| Cohort::parse(text).unwrap());
        Place::of(&host(byte), cohort.as_ref(), version(of)).to_string()
    };
    for (byte, cohort, of, expected) in [
        (1, "", "113.1", "72.26 %"),
        (2, "", "113.1", "9.16 %"),
        (1, "", "113.2", "2.62 %"),
        (1, "site-berlin", "113.1", "99.16 %"),
        (2, "site-berlin", "113.1", "99.16 %"),
        (1, "databases", "113.1", "25.57 %"),
        (1, "databases/0", "113.1", "25.57 %"),
        (1, "databases/1", "113.1", "87.37 %"),
        (1, "databases/2", "113.1", "49.18 %"),
    ] {
        assert_eq!(place(byte, cohort, of), expected, "{byte} {cohort} {of}");
    }
}

#[test]
fn names_of_objects() {
    for name in ["vmlinux", "nf_tables"] {
        assert_eq!(ObjectName::from(ModuleName::parse(name).unwrap()).to_string(), name);
    }
}

proptest! {
    #[test]
    fn hosts_of_one_cohort_have_one_place(a: [u8; 16], b: [u8; 16], name in "[a-z0-9]{1,48}", major in 1u32.., minor: u32) {
        let version = PatchVersion::parse(&format!("{major}.{minor}")).unwrap();
        let cohort = Cohort::parse(&name).unwrap();
        let [a, b] = [a, b].map(|id| Place::of(&HostId::from_bytes(id), Some(&cohort), version));
        prop_assert_eq!(a, b);
        prop_assert!(a.hundredths() < 10_000);
    }

    /// However many replicas there are: two of them never go in the same third of what each would have if they were spread
    /// evenly.
    #[test]
    fn hosts_that_stand_in_for_one_another_are_spread(name in "[a-z]{1,8}", count in 2u16..200, major in 1u32..1000) {
        let version = PatchVersion::parse(&format!("{major}.1")).unwrap();
        let place = |ordinal: u16| {
            let cohort = Cohort::parse(&format!("{name}/{ordinal}")).unwrap();
            Place::of(&host(1), Some(&cohort), version).hundredths()
        };
        let mut places: Vec<u16> = (0..count).map(place).collect();
        places.sort_unstable();
        let around = 10_000 - places[places.len() - 1] + places[0];
        let nearest = places.windows(2).map(|pair| pair[1] - pair[0]).chain([around]).min().unwrap();
        prop_assert!(nearest >= 10_000 / (3 * count), "{nearest} of {count}");
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Bundle::parse(&bytes);
        let mut with_magic = b"LPBUNDLE\x01\0\0\0".to_vec();
        with_magic.extend_from_slice(&bytes);
        let _ = Bundle::parse(&with_magic);
        let _ = envelope::open(&bytes, "x", &[]);
    }
}
