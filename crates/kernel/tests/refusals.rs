//! What a kernel says of modules that are not what they should be, each with its word. Runs in a guest
//! (tests/tests/load_refusals.rs): it loads and unloads modules.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::io::Write as _;
use std::path::Path;

use livepatch_kernel::{Kernel as _, LinuxKernel, LoadError, Lockdown, SealedModule};
use livepatch_types::ModuleName;

/// A module that is loaded.
const LOADS: &str = "";

/// A file; what comes of it by default, where signatures are enforced, and locked down without enforcing them.
type Row = (&'static str, [&'static str; 3]);

const TABLE: [Row; 10] = [
    ("signed.ko", [LOADS, LOADS, LOADS]),
    ("unsigned.ko", [LOADS, "kernel-unsigned-module", "kernel-unsigned-module"]),
    ("stranger.ko", [LOADS, "kernel-untrusted-key", "kernel-locked-down"]),
    ("tampered.ko", ["kernel-signature-mismatch", "kernel-untrusted-key", "kernel-signature-mismatch"]),
    ("tampered-stranger.ko", [LOADS, "kernel-untrusted-key", "kernel-locked-down"]),
    (
        "signed-attributes.ko",
        ["kernel-signature-mismatch", "kernel-untrusted-key", "kernel-signature-mismatch"],
    ),
    ("endless-signature.ko", ["bad-signature-format"; 3]),
    ("garbage-signature.ko", ["bad-signature-format"; 3]),
    ("other-release.ko", [LOADS, "kernel-unsigned-module", "kernel-unsigned-module"]),
    ("truncated.ko", ["not-a-module", "kernel-unsigned-module", "kernel-unsigned-module"]),
];

fn load(directory: &Path, file: &str) -> String {
    let bytes = std::fs::read(directory.join(file)).unwrap();
    let module = SealedModule::from_reader(&bytes[..], bytes.len() as u64).unwrap();
    match LinuxKernel::default().load(&module) {
        Ok(()) => LOADS.to_owned(),
        Err(LoadError::Refused(refusal)) => refusal.code().to_owned(),
        Err(other) => panic!("{file}: {other}"),
    }
}

#[test]
fn every_row_of_the_table() {
    let Some(directory) = std::env::var_os("LIVEPATCH_GUEST_MODULES") else {
        let text = "SKIPPED: every_row_of_the_table: this is no guest; tests/tests/load_refusals.rs runs it in one\n";
        // Past the test harness, which would hide it.
        std::io::stderr().write_all(text.as_bytes()).unwrap();
        return;
    };
    let directory = Path::new(&directory);
    let name = std::fs::read_to_string(directory.join("name")).unwrap();
    let name = ModuleName::parse(&name).unwrap();
    let kernel = LinuxKernel::default();
    let facts = kernel.facts();
    let column = match (facts.signatures_enforced, facts.lockdown) {
        (Some(true), _) => 1,
        (_, Some(Lockdown::Integrity)) => 2,
        _ => 0,
    };
    for (file, expected) in TABLE {
        let outcome = load(directory, file);
        assert_eq!(outcome, expected[column], "{file} in column {column}");
        if outcome == LOADS {
            assert_eq!(load(directory, "signed.ko"), "already-loaded");
            kernel.unload(&name).unwrap();
        }
    }
    std::fs::write("/proc/sys/kernel/modules_disabled", "1").unwrap();
    assert_eq!(load(directory, "signed.ko"), "modules-disabled");
}
