//! What `livepatch secure-boot` prints.

use std::process::Command;

use livepatch_api::daemon::Failure;
use livepatch_api::secure_boot::{Key, Keyring, SecureBootStatus, VendorCertificate};
use livepatch_cli::secure_boot_text;

/// What a machine with Secure Boot says to root.
fn status() -> SecureBootStatus {
    let key = |subject: &str, key_id: &str| Key { subject: subject.into(), key_id: key_id.into() };
    let ring = |name: &str, keys, digests| Keyring { name: name.into(), keys, digests };
    SecureBootStatus {
        schema: 1,
        uefi: true,
        secure_boot: Some(true),
        setup_mode: Some(false),
        lockdown: Some("integrity".into()),
        signatures_enforced: Some(true),
        modules_disabled: Some(false),
        keyrings: Some(vec![
            ring("builtin", vec![key("Debian Secure Boot CA", "6cce"), key("Signer\u{1b}[31m", "0a")], 0),
            ring("machine", Vec::new(), 0),
            ring("blacklist", vec![key("old", "ff")], 77),
        ]),
        vendor: vec![VendorCertificate {
            subject: "CN=vendor".into(),
            key_id: "abcd".into(),
            enrolment: "pending".into(),
            keyring: None,
            loads: "no".into(),
            reason: "the kernel is locked down; the certificate waits to be confirmed at the next boot"
                .into(),
            hints: vec!["reboot".into()],
        }],
        problem: None,
    }
}

/// Without colour.
fn plain(status: &SecureBootStatus) -> String {
    anstream::adapter::strip_str(&secure_boot_text(status)).to_string()
}

#[test]
fn what_root_sees_under_secure_boot() {
    insta::assert_snapshot!(plain(&status()), @r"
    uefi                yes
    secure boot         on
    setup mode          no
    lockdown            integrity
    module signatures   enforced
    module loading      allowed
    keyring builtin     Debian Secure Boot CA (6cce), Signer [31m (0a)
    keyring machine     empty
    keyring blacklist   old (ff), revoked digests: 77

    livepatches of      CN=vendor
      key id            abcd
      enrolment (MOK)   pending
      would load        no: the kernel is locked down; the certificate waits to be confirmed at the next boot
    hint: reboot
    ");
}

#[test]
fn what_anybody_sees_of_an_old_machine_without_certificates() {
    let status = SecureBootStatus {
        uefi: false,
        secure_boot: None,
        setup_mode: None,
        lockdown: Some("none".into()),
        signatures_enforced: Some(false),
        keyrings: None,
        vendor: Vec::new(),
        problem: Some(Failure {
            code: "trust-missing".into(),
            message: "there is none".into(),
            hints: vec!["get one".into()],
        }),
        ..status()
    };
    insta::assert_snapshot!(plain(&status), @r"
    uefi                no
    secure boot         not known
    setup mode          not known
    lockdown            none
    module signatures   not enforced
    module loading      allowed
    keyrings            only root sees them

    problem: there is none (trust-missing)
    hint: get one
    ");
}

#[test]
fn what_opens_or_closes_a_machine() {
    let status = SecureBootStatus { setup_mode: Some(true), modules_disabled: Some(true), ..status() };
    let text = plain(&status);
    let lines: Vec<&str> =
        text.lines().filter(|line| line.contains(" mode ") || line.contains("loading")).collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    setup mode          yes: anybody may give this machine keys
    module loading      off until the next boot
    ");
}

#[test]
fn this_machine_answers_without_a_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_livepatch"));
        command.args(["secure-boot", "status", "--format", "json", "--keys-dir", "/nowhere", "--trust-dir"]);
        let output = command.arg(directory.path()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<SecureBootStatus>(&output.stdout).unwrap()
    };
    let status = run();
    assert_eq!((status.schema, status.vendor.len()), (1, 0));
    assert_eq!(status.problem.unwrap().code, "trust-missing");

    let pem = include_bytes!("../../../fuzz/seeds/module_signature/certificate.pem");
    std::fs::write(directory.path().join("vendor.pem"), pem).unwrap();
    let status = run();
    assert_eq!(status.problem, None);
    assert!(["yes", "no", "unknown"].contains(&status.vendor[0].loads.as_str()), "{status:?}");
}

#[test]
fn a_certificate_that_is_none() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("vendor.pem"), "no certificate").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_livepatch"));
    let output =
        command.args(["secure-boot", "enroll", "--trust-dir"]).arg(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(std::str::from_utf8(&output.stderr).unwrap(), @"
    error: cannot read the certificate of who signs livepatches: vendor.pem: not a usable certificate: there is no PEM certificate in the file

    hint: put it, in PEM, as vendor.pem into /etc/livepatch/trust, readable for everybody
    ");
}
