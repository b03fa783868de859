//! `secure-boot status` as JSON, by its schema.

use livepatch_api::daemon::Failure;
use livepatch_api::secure_boot::{Key, Keyring, SecureBootStatus, VendorCertificate};

use crate::support::*;

/// What root sees, with all that may be there.
fn full() -> SecureBootStatus {
    let key = Key { subject: "CN=a key".into(), key_id: "0a".into() };
    let ring = |name: &str| Keyring { name: name.into(), keys: vec![key.clone()], digests: 1 };
    SecureBootStatus {
        schema: 1,
        uefi: true,
        secure_boot: Some(true),
        setup_mode: Some(false),
        lockdown: Some("integrity".into()),
        signatures_enforced: Some(true),
        modules_disabled: Some(false),
        keyrings: Some(["builtin", "secondary", "machine", "platform", "blacklist"].map(ring).into()),
        vendor: vec![VendorCertificate {
            subject: "CN=vendor".into(),
            key_id: "abcd".into(),
            enrolment: "pending".into(),
            keyring: None,
            loads: "no".into(),
            reason: "it is so".into(),
            hints: vec!["reboot".into()],
        }],
        problem: Some(Failure { code: "x".into(), message: "y".into(), hints: vec!["z".into()] }),
    }
}

#[test]
fn the_schema_says_neither_less_nor_more_than_what_is_printed() {
    let check = |status: &SecureBootStatus| fits("secure-boot", &serde_json::to_vec(status).unwrap());
    check(&full());
    for lockdown in [Some("none"), Some("confidentiality"), None] {
        let lockdown = lockdown.map(str::to_owned);
        check(&SecureBootStatus { lockdown, secure_boot: None, keyrings: None, problem: None, ..full() });
    }
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path().to_str().unwrap();
    let directories = ["--trust-dir", here, "--keys-dir", here];
    let pem = include_bytes!("../../../../fuzz/seeds/module_signature/certificate.pem");
    for pem in [None, Some(pem)] {
        if let Some(pem) = pem {
            std::fs::write(directory.path().join("vendor.pem"), pem).unwrap();
        }
        let asked = [&["secure-boot", "status", "--format", "json"], &directories[..]].concat();
        let output = livepatch(directory.path(), &asked, "");
        fits("secure-boot", &output.stdout);
        let status: SecureBootStatus = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(status.problem.is_none(), pem.is_some());
    }
}
