//! What the firmware and /proc/keys say is read without a panic, and certificates lie in what was given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use livepatch_kernel::{efi_certificates, efi_variable, keyrings};

fuzz_target!(|data: &[u8]| {
    let lists = efi_variable(data).unwrap_or(data);
    if let Ok(certificates) = efi_certificates(lists) {
        // Each has an owner of 16 bytes besides, and each list a head.
        let bytes: usize = certificates.iter().map(|certificate| certificate.len() + 16).sum();
        assert!(certificates.iter().all(|certificate| !certificate.is_empty()));
        assert!(bytes <= lists.len());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let all: Vec<i32> = (0..16).collect();
        let _ = keyrings(text, |_| Some(all.clone()));
    }
});
