//! Foreign metadata: as every file of an update, as what is kept of one, and as what is allowed for a kernel.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livepatch_trust::{KernelAllowance, MAX_TARGETS_BYTES, PublicKey, Role, Root, SignedFile, State, Update};

/// A root that somebody pinned. Its keys were made for this and forgotten.
const ROOT: &[u8] = include_bytes!("../../crates/trust/tests/golden/1.root.json");

fuzz_target!(|data: &[u8]| {
    let pinned = State::pin(ROOT).expect("the root is right");
    assert!(Update::run(pinned.clone(), |_| Some(data.to_vec())).is_err());
    // Nothing but the pinned root is signed by its keys.
    let mut state = pinned.clone();
    assert!(state.take_root(data).is_err());
    assert_eq!(state, pinned);

    if let Ok(state) = State::parse(data) {
        assert_eq!(State::parse(&state.to_bytes()), Ok(state));
    }
    if let Ok(file) = SignedFile::parse(data, MAX_TARGETS_BYTES, "it") {
        _ = file.content::<Root>(Role::Root).map(|root| root.check());
        // Numbers that are not whole have no canonical form.
        if let Ok(digest) = file.content_sha256() {
            let again = SignedFile::parse(&file.to_bytes(), u64::MAX, "it").expect("it was written here");
            assert_eq!(again.content_sha256(), Ok(digest));
        }
    }
    if let Ok(allowance) = KernelAllowance::parse(data) {
        assert_eq!(KernelAllowance::parse(&allowance.to_bytes()), Ok(allowance));
    }
    if let Ok(key) = PublicKey::from_pem(&String::from_utf8_lossy(data)) {
        assert_eq!(PublicKey::from_pem(&key.to_pem()), Ok(key));
    }
});
