use std::fmt::Write as _;

use livepatch_api::secure_boot::{Keyring, SecureBootStatus, VendorCertificate};

use crate::text::{plain, problem_text};

/// The status for people.
pub fn secure_boot_text(status: &SecureBootStatus) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<20}{}", plain(value));
    };
    row("uefi", switch(Some(status.uefi), ["no", "yes"]));
    row("secure boot", switch(status.secure_boot, ["off", "on"]));
    row("setup mode", switch(status.setup_mode, ["no", "yes: anybody may give this machine keys"]));
    row("lockdown", status.lockdown.as_deref().unwrap_or("not known"));
    row("module signatures", switch(status.signatures_enforced, ["not enforced", "enforced"]));
    row("module loading", switch(status.modules_disabled, ["allowed", "off until the next boot"]));
    match &status.keyrings {
        None => row("keyrings", "only root sees them"),
        Some(keyrings) => {
            for keyring in keyrings {
                row(&format!("keyring {}", keyring.name), &keys(keyring));
            }
        }
    }
    for certificate in &status.vendor {
        text.push('\n');
        text.push_str(&vendor(certificate));
    }
    if let Some(problem) = &status.problem {
        text.push('\n');
        text.push_str(&problem_text(problem));
    }
    text
}

fn switch(value: Option<bool>, words: [&'static str; 2]) -> &'static str {
    value.map_or("not known", |value| words[usize::from(value)])
}

fn keys(keyring: &Keyring) -> String {
    let mut entries: Vec<String> =
        keyring.keys.iter().map(|key| format!("{} ({})", key.subject, key.key_id)).collect();
    if keyring.digests > 0 {
        entries.push(format!("revoked digests: {}", keyring.digests));
    }
    if entries.is_empty() { "empty".into() } else { entries.join(", ") }
}

fn vendor(certificate: &VendorCertificate) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<20}{}", plain(value));
    };
    row("livepatches of", &certificate.subject);
    row("  key id", &certificate.key_id);
    row("  enrolment (MOK)", &certificate.enrolment);
    row("  would load", &format!("{}: {}", certificate.loads, certificate.reason));
    for hint in &certificate.hints {
        let _ = writeln!(text, "hint: {}", plain(hint));
    }
    text
}
