//! What runs in guests: our programs, and livepatches that are loaded and unloaded by hand.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command as Program;
use std::sync::OnceLock;
use std::time::Duration;

use livepatch_vm::testing::{self, workspace};
use livepatch_vm::{Command, Guest};
use serde_json::Value;

/// How long one step may take that takes a second on a quiet machine: only a failure takes that long.
pub const SHORT: Duration = Duration::from_secs(300);
/// Names the directory with the programs, when somebody built them before.
const GUEST_BINARIES: &str = "LIVEPATCH_GUEST_BINARIES";
/// Version 1.1, as its module is called.
const FIRST: &str = "livepatch_1_1";

/// Loads `/livepatch.ko`, version 1.1, and waits until every task runs the new code.
pub fn load(guest: &Guest) -> Result<(), Box<dyn Error>> {
    load_module(guest, "/livepatch.ko", FIRST)
}

/// Loads a livepatch whose module has this name, and waits until every task runs the new code.
pub fn load_module(guest: &Guest, file: &str, name: &str) -> Result<(), Box<dyn Error>> {
    guest.check(&Command::new("insmod").arg(file), SHORT)?;
    let transition = format!("/sys/kernel/livepatch/{name}/transition");
    guest.wait_for(&Command::new("cat").arg(transition), "0", SHORT)?;
    Ok(())
}

/// Reverts version 1.1 and removes its module.
pub fn unload(guest: &Guest) -> Result<(), Box<dyn Error>> {
    unload_module(guest, FIRST)
}

/// Reverts a livepatch and removes its module.
pub fn unload_module(guest: &Guest, name: &str) -> Result<(), Box<dyn Error>> {
    guest.check(&Command::shell(format!("echo 0 > /sys/kernel/livepatch/{name}/enabled")), SHORT)?;
    remove_module(guest, name)
}

/// Removes the module of a livepatch that is reverted or replaced, once the kernel lets go of it.
pub fn remove_module(guest: &Guest, name: &str) -> Result<(), Box<dyn Error>> {
    let gone = format!("test -e /sys/kernel/livepatch/{name} || echo gone");
    guest.wait_for(&Command::shell(gone), "gone", SHORT)?;
    guest.check(&Command::new("rmmod").arg(name), SHORT)?;
    Ok(())
}

/// The directory with `livepatchd`, `livepatch-loader`, `livepatch-observer` and `livepatch` for guests: that of
/// `cargo xtask test`, or built here.
#[expect(clippy::panic, reason = "a program that cannot be built fails the test")]
pub fn programs() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| match std::env::var_os(GUEST_BINARIES) {
        Some(directory) => directory.into(),
        None => {
            let packages = ["livepatch-agent", "livepatch-loader", "livepatch-observer", "livepatch-cli"];
            cargo(&[&["build"], &packages.map(|package| ["--package", package]).concat()[..]].concat());
            testing::take_guest_programs().unwrap_or_else(|error| panic!("{error}"))
        }
    })
}

/// Tests of the crate `kernel` as a program, for a kernel that they may change.
#[expect(clippy::panic, reason = "a program that cannot be built fails the test")]
pub fn kernel_tests(name: &str) -> PathBuf {
    // All of the workspace, whose tests are built: of one package alone, dependencies could be others.
    let messages = cargo(&["test", "--workspace", "--no-run", "--test", name, "--message-format", "json"]);
    let messages =
        messages.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let program =
        messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back();
    let program = program.unwrap_or_else(|| panic!("cargo names no program"));
    let taken = testing::guest_directory().map(|directory| directory.join(name));
    let taken = taken.and_then(|taken| livepatch_vm::strip(&program, &taken).map(|()| taken));
    taken.unwrap_or_else(|error| panic!("{error}"))
}

/// Runs cargo; its standard output.
#[expect(clippy::panic, reason = "a program that cannot be built fails the test")]
fn cargo(arguments: &[&str]) -> Vec<u8> {
    let output = Program::new(env!("CARGO"))
        .current_dir(workspace())
        .args(arguments)
        .arg("--target-dir")
        .arg(workspace().join("target"))
        .output();
    let output = output.unwrap_or_else(|error| panic!("cargo: {error}"));
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
