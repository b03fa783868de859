use super::*;
use crate::step::Unwatched;

fn open(directory: &Path) -> Vendors {
    Vendors::open(directory, Arc::new(Unwatched))
}

/// A file that may be there and cannot be looked at is neither absent nor set aside.
#[test]
fn what_cannot_be_reached_is_not_absent() {
    let directory = tempfile::tempdir().unwrap();
    let absent = open(directory.path());
    assert_eq!(absent.gate(Ok(None), None), Gate::default());
    assert_eq!(absent.reset(None, None), Ok(false));

    // A file where the directory should be: no way through it, also for root.
    let file = directory.path().join("state");
    std::fs::write(&file, "").unwrap();
    let beyond = open(&file);
    let code = |gate: Gate| gate.problem.map(|problem| problem.code);
    assert_eq!(code(beyond.gate(Ok(None), None)), Some("trust-state-unreadable"));
    assert!(beyond.reset(None, None).is_err());
    assert_eq!(code(beyond.gate(Ok(None), None)), Some("trust-state-unreadable"));
}

/// The longest file that is read, and the first that is not.
#[test]
fn the_longest_file() {
    let directory = tempfile::tempdir().unwrap();
    let why = |bytes: u64| {
        std::fs::write(directory.path().join(VENDOR_FILE), vec![b' '; bytes as usize]).unwrap();
        open(directory.path()).gate(Ok(None), None).problem.unwrap().message
    };
    assert!(!why(MAX_FILE_BYTES).contains("too large"));
    assert!(why(MAX_FILE_BYTES + 1).contains("too large"));
}

#[test]
fn why_what_was_seen_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(VENDOR_FILE);
    let mut kept: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/vendor.json")).unwrap();
    kept["expires"].as_object_mut().unwrap().remove("snapshot");
    let without_times = kept.to_string();
    let long = " ".repeat(MAX_FILE_BYTES as usize + 1);
    let said = [long.as_str(), "{", "{\"schema\": 2}", "{\"schema\": 1}", &without_times].map(|text| {
        std::fs::write(&path, text).unwrap();
        read(&path).map(drop).unwrap_err()
    });
    insta::assert_snapshot!(said.join("\n"), @"
    it is too large
    EOF while parsing an object at line 1 column 1
    its schema is 2 where 1 is understood
    missing field `repository`
    it does not say when each role expires
    ");
}

/// What a vendor withdrew on each of many kernels is kept, and of the rest what the newest targets say; a file that would
/// not be read again is not written.
#[test]
fn what_is_kept_stays_small() {
    let directory = tempfile::tempdir().unwrap();
    let vendors = open(directory.path());
    let golden = include_bytes!("../../../tests/vendor.json");
    let kept = Kept::parse(golden).unwrap();
    let mut long: serde_json::Value = serde_json::from_slice(golden).unwrap();
    let many: Vec<_> = (0..600_000).map(|number| format!("9.{number}")).collect();
    long["kernels"][0]["withdrawn"] = serde_json::json!(many);
    let long = Kept::parse(long.to_string().as_bytes()).unwrap();
    vendors.write(&kept).unwrap();
    let problem = vendors.write(&long).unwrap_err();
    assert_eq!(problem.code, "state-not-written");
    assert!(problem.message.contains("where 4194304 are allowed"), "{problem}");
    assert_eq!(open(directory.path()).lock().kept, Some(kept));
}

/// Of what was remembered before a later root, or before root began anew, only withdrawals are left. What was seen stays, if
/// the later root leaves it, and with it when it expires: else it would not be read again.
#[test]
fn what_a_later_root_leaves() {
    let before = Kept::parse(include_bytes!("../../../tests/vendor.json")).unwrap();
    let file = |kept: &Kept| -> serde_json::Value {
        let bytes = kept.to_bytes().unwrap();
        assert_eq!(Kept::parse(&bytes).as_ref(), Ok(kept));
        serde_json::from_slice(&bytes).unwrap()
    };
    let mut expected = file(&before);
    assert_eq!(expected["kernels"].as_array().unwrap().len(), 1);
    let of = &mut expected["kernels"][0];
    (of["targets"], of["allowance"]) = (0.into(), serde_json::Value::Null);
    assert_eq!(file(&before.with_root_of(before.state.clone())), expected);
    let anew = Kept::pin(&before.state.root_bytes()).unwrap();
    for kept in [before.with_root_of(anew.state.clone()), anew.with_withdrawals_of(&before)] {
        let file = file(&kept);
        assert_eq!((&file["kernels"], file["expires"].as_object().unwrap().len()), (&expected["kernels"], 0));
    }
}
