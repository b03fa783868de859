//! What is checked of bytes that come from elsewhere: the last that is taken, the first that is not, and with which word.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use livepatch_manifest::envelope::{MAX_ENVELOPE_BYTES, assemble, open, signing_input};
use livepatch_manifest::support::MAX_SUPPORT_BYTES;
use livepatch_manifest::{
    EnvelopeError, ModuleObject, SupportError, SupportFlavour, SupportMatrix, SupportRow, VerifyingKey,
    sha256,
};
use livepatch_types::Architecture;

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

fn row(flavours: usize) -> SupportRow {
    let flavour = SupportFlavour { name: "amd64".into(), package: "linux-image-amd64".into() };
    SupportRow {
        distribution: "debian".into(),
        release: "12".into(),
        name: "Debian 12".into(),
        architecture: Architecture::Amd64,
        series: "6.1".into(),
        line: "stable".into(),
        window_months: None,
        until: None,
        flavours: vec![flavour; flavours],
    }
}

#[test]
fn the_largest_matrix_of_what_is_covered() {
    let issued = jiff::Timestamp::UNIX_EPOCH;
    let check = |rows: usize, flavours: usize| {
        let rows = vec![row(flavours); rows];
        SupportMatrix { schema: 1, critical: vec![], version: 1, issued, rows }.check().is_ok()
    };
    for (rows, flavours, taken) in [
        (0, 1, true),
        (64, 1, true),
        (65, 1, false),
        (1, 64, true),
        (1, 65, false),
        (1, 66, false),
        (1, 0, false),
    ] {
        assert_eq!(check(rows, flavours), taken, "{rows} rows, {flavours} flavours");
    }
    // The length is looked at before all else, and is no reason for one byte less.
    let too_large = |bytes: usize| {
        let refused = SupportMatrix::open(&vec![b' '; bytes], &[], 0).unwrap_err();
        matches!(refused, SupportError::Envelope(EnvelopeError::TooLarge(_)))
    };
    assert_eq!([MAX_SUPPORT_BYTES, MAX_SUPPORT_BYTES + 1].map(too_large), [false, true]);
}

#[test]
fn kernels_of_a_row() {
    let row = row(1);
    for (kernel, of) in [
        ("6.1.0-50-amd64", true),
        ("6.1.0-50-cloud-amd64", false),
        ("6.12.9+bpo-amd64", false),
        ("6.12.9+bpo-cloud-amd64", false),
    ] {
        assert_eq!(row.is_of(&row.flavours[0], kernel), of, "{kernel}");
    }
}
