//! What a kernel says of modules that are not what they should be, each with its word. Runs in a guest
//! (tests/tests/load_refusals.rs): it loads and unloads modules.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use livepatch_kernel::{Kernel as _, LinuxKernel, LoadError, Lockdown, SealedModule};
use livepatch_types::ModuleName;

/// A module that is loaded.
const LOADS: &str = "";

/// A file; what comes of it by default, where signatures are enforced, locked down without enforcing them, and under Secure
/// Boot, which does both. Only there the kernel knows the key of the firmware's owner.
type Row = (&'static str, [&'static str; 4]);

const UNSIGNED: &str = "kernel-unsigned-module";
const UNTRUSTED: &str = "kernel-untrusted-key";
const LOCKED: &str = "kernel-locked-down";
const MISMATCH: &str = "kernel-signature-mismatch";
const FORMAT: &str = "bad-signature-format";
const NO_MODULE: &str = "not-a-module";

const TABLE: [Row; 14] = [
    ("signed.ko", [LOADS; 4]),
    ("unsigned.ko", [LOADS, UNSIGNED, UNSIGNED, UNSIGNED]),
    ("stranger.ko", [LOADS, UNTRUSTED, LOCKED, UNTRUSTED]),
    // Where signatures are enforced, the kernel says the same of an unknown key and of other bytes.
    ("tampered.ko", [MISMATCH, UNTRUSTED, MISMATCH, UNTRUSTED]),
    ("tampered-stranger.ko", [LOADS, UNTRUSTED, LOCKED, UNTRUSTED]),
    ("signed-attributes.ko", [MISMATCH, UNTRUSTED, MISMATCH, UNTRUSTED]),
    ("endless-signature.ko", [FORMAT; 4]),
    ("garbage-signature.ko", [FORMAT; 4]),
    ("other-release.ko", [LOADS, UNSIGNED, UNSIGNED, UNSIGNED]),
    ("truncated.ko", [NO_MODULE, UNSIGNED, UNSIGNED, UNSIGNED]),
    ("owner.ko", [LOADS, UNTRUSTED, LOCKED, LOADS]),
    ("owner-tampered.ko", [LOADS, UNTRUSTED, LOCKED, UNTRUSTED]),
    // The checksums of symbols are right, and then the kernel does not look at the release.
    ("owner-other-release.ko", [LOADS, UNTRUSTED, LOCKED, LOADS]),
    ("owner-truncated.ko", [NO_MODULE, UNTRUSTED, LOCKED, NO_MODULE]),
];

fn sealed(directory: &Path, file: &str) -> SealedModule {
    let bytes = std::fs::read(directory.join(file)).unwrap();
    SealedModule::from_reader(&bytes[..], bytes.len() as u64).unwrap()
}

fn load_sealed(module: &SealedModule) -> String {
    match LinuxKernel::default().load(module) {
        Ok(()) => LOADS.to_owned(),
        Err(LoadError::Refused(refusal)) => refusal.code().to_owned(),
        Err(other) => panic!("{other}"),
    }
}

fn load(directory: &Path, file: &str) -> String {
    load_sealed(&sealed(directory, file))
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
        (Some(true), Some(Lockdown::Integrity)) => 3,
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

    // Nobody can change a sealed file, but somebody can open it as if.
    let module = sealed(directory, "signed.ko");
    let path = format!("/proc/self/fd/{}", module.as_fd().as_raw_fd());
    let writer = std::fs::File::options().write(true).open(path).unwrap();
    assert_eq!(load_sealed(&module), "open-for-writing");
    drop(writer);
    assert_eq!(load_sealed(&module), LOADS);
    kernel.unload(&name).unwrap();

    std::fs::write("/proc/sys/kernel/modules_disabled", "1").unwrap();
    assert_eq!(load(directory, "signed.ko"), "modules-disabled");
}
