//! What is checked of bytes that come from elsewhere: the last that is taken, the first that is not, and with which word.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use livepatch_manifest::envelope::{MAX_ENVELOPE_BYTES, assemble, open, signing_input};
use livepatch_manifest::{ModuleObject, VerifyingKey, sha256};

/// The example of DSSE's specification (protocol.md).
#[test]
fn what_is_signed_is_dsse() {
    let input = signing_input("http://example.com/HelloWorld", b"hello world");
    assert_eq!(input, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

#[test]
fn objects_are_what_was_signed() {
    let object = ModuleObject { sha256: sha256(b"module"), size_bytes: 6 };
    assert_eq!(object.check(b"module"), Ok(()));
    for (bytes, code) in [
        (&b"modul"[..], "truncated-module"),
        (b"", "truncated-module"),
        (b"module ", "oversized-module"),
        (b"modulE", "tampered-module"),
    ] {
        let error = object.check(bytes).unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.hint().contains("refresh") || error.hint().contains("operator"), "{}", error.hint());
    }
}

#[test]
fn envelopes_have_a_longest_length() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
    let key = VerifyingKey::from_bytes(pair.public_key().as_ref().try_into().unwrap());
    let signature = pair.sign(&signing_input("type", b"payload")).as_ref().to_vec();
    let mut envelope = assemble("type", b"payload", &[(key.key_id(), signature)]);
    envelope.resize(MAX_ENVELOPE_BYTES, b' ');
    assert_eq!(open(&envelope, "type", std::slice::from_ref(&key)).unwrap(), b"payload");
    envelope.push(b' ');
    let refused = open(&envelope, "type", std::slice::from_ref(&key)).unwrap_err();
    assert!(refused.to_string().contains(&(MAX_ENVELOPE_BYTES + 1).to_string()), "{refused}");
    assert_eq!(VerifyingKey::parse(&key.to_text()).unwrap().as_bytes(), key.as_bytes());
    assert_eq!(key.as_bytes(), pair.public_key().as_ref());
}
