//! Formats that must stay readable, and what no bytes may do.

use livepatch_trust::{KernelAllowance, PublicKey, Root, SignedFile, State, TargetName, Update, Wanted};
use proptest::prelude::*;

/// A root as version 0.1.0 wrote it, with a key of each kind; made with `livepatch-build trust`.
const ROOT: &[u8] = include_bytes!("golden/1.root.json");
/// What a host kept of it.
const STATE: &[u8] = include_bytes!("golden/state.json");
/// An allowance.
const ALLOWANCE: &[u8] = include_bytes!("golden/allowance.json");

#[test]
fn what_was_written_once_is_read() {
    let state = State::pin(ROOT).unwrap();
    assert_eq!(State::parse(STATE), Ok(state.clone()));
    assert_eq!(state.to_bytes(), STATE.trim_ascii_end(), "the format of the state changed");
    let allowance = KernelAllowance::parse(ALLOWANCE).unwrap();
    assert_eq!(allowance.to_bytes(), ALLOWANCE.trim_ascii_end(), "the format of allowances changed");
}

/// A later writer may add members; a reader of today does not mind, unless they are critical.
#[test]
fn members_of_tomorrow_are_ignored() {
    let mut later: serde_json::Value = serde_json::from_slice(ALLOWANCE).unwrap();
    later["waves"] = serde_json::json!([1, 2]);
    later["allowed"][0]["notes"] = "none".into();
    let read = KernelAllowance::parse(later.to_string().as_bytes());
    assert_eq!(read, KernelAllowance::parse(ALLOWANCE));
}

#[test]
fn keys_are_read_as_openssl_writes_them() {
    // RFC 8410, section 10.1.
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let key = PublicKey::from_pem(pem).unwrap();
    assert_eq!(key.to_pem(), pem);
    for bad in ["", "MCowBQYDK2VwAyEA", &pem.replace("MCow", "MCox"), &pem.replace("PUBLIC", "PRIVATE")] {
        assert!(PublicKey::from_pem(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        _ = State::parse(&bytes);
        _ = State::pin(&bytes);
        _ = KernelAllowance::parse(&bytes);
        _ = SignedFile::parse(&bytes, 512, "it");
        _ = PublicKey::from_pem(&String::from_utf8_lossy(&bytes));
    }

    /// One changed byte of a root: it does not parse, is not believed, or says the same.
    #[test]
    fn no_changed_root_is_believed(place in 0..ROOT.len(), byte in any::<u8>()) {
        let mut changed = ROOT.to_vec();
        changed[place] = byte;
        if let Ok((root, _)) = Root::open(&changed) {
            prop_assert_eq!(root, Root::open(ROOT).unwrap().0);
        }
    }

    /// Whatever is served, an update wants few files, each of a bounded size, below the metadata.
    #[test]
    fn an_update_ends(answers in proptest::collection::vec(proptest::option::of(".{0,64}"), 1..8)) {
        let mut answers = answers.into_iter().cycle();
        let mut wanted_files = Vec::<Wanted>::new();
        let result = Update::run(State::pin(ROOT).unwrap(), |wanted| {
            wanted_files.push(wanted.clone());
            answers.next().flatten().map(String::into_bytes)
        });
        prop_assert!(result.is_err());
        prop_assert!(wanted_files.len() <= 2);
        prop_assert!(wanted_files.iter().all(|wanted| wanted.path.starts_with("metadata/") && wanted.limit_bytes <= 64 << 10));
    }

    #[test]
    fn a_target_name_is_a_plain_relative_path(text in ".{0,40}") {
        if let Ok(name) = TargetName::parse(&text) {
            let path = std::path::Path::new(name.as_str());
            prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
            prop_assert!(text.is_ascii());
        }
    }
}
