//! What the tests over C cases share.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a helper that fails is a test that fails")]

use std::path::Path;
use std::process::Command;

use livepatch_klp::EntrySizes;

/// Sizes of a 6.1 kernel.
pub(crate) const SIZES: EntrySizes =
    EntrySizes { alt_instr: 12, bug_entry: 12, exception_entry: 12, jump_entry: 16, paravirt_site: 16 };

/// Options of a 6.1 kernel that shape code.
const KERNEL_FLAGS: [&str; 16] = [
    "-O2",
    "-std=gnu11",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-PIE",
    "-fno-jump-tables",
    "-mcmodel=kernel",
    "-mno-red-zone",
    "-fno-common",
    "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none",
    "-pg",
    "-mfentry",
    "-mrecord-mcount",
    "-fno-strict-aliasing",
    "-w",
];

/// Texts of a case's directive comments of one name.
pub(crate) fn directives(case: &Path, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(case).unwrap();
    let start = format!("// {name}: ");
    text.lines().filter_map(|line| line.strip_prefix(&start).map(str::to_owned)).collect()
}

/// Compiles a case, the second time with `-DPATCHED`.
pub(crate) fn compile(case: &Path, patched: bool, flags: &[impl AsRef<std::ffi::OsStr>]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let object = directory.path().join("unit.o");
    let mut gcc = Command::new("gcc-12");
    gcc.args(KERNEL_FLAGS).args(flags).arg("-c").arg("-o").arg(&object).arg(case);
    if patched {
        gcc.arg("-DPATCHED");
    }
    let output = gcc.output().expect("gcc-12 is installed by cargo xtask setup");
    assert!(output.status.success(), "{}: {}", case.display(), String::from_utf8_lossy(&output.stderr));
    std::fs::read(object).unwrap()
}
