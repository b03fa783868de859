//! A livepatch in a guest: loaded and unloaded by hand.

use std::error::Error;
use std::time::Duration;

use livepatch_vm::{Command, Guest};

/// How long one step may take.
pub const SHORT: Duration = Duration::from_secs(60);
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
