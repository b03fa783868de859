//! A livepatch in a guest: loaded and unloaded by hand.

use std::error::Error;
use std::time::Duration;

use livepatch_vm::{Command, Guest};

/// How long one step may take.
pub const SHORT: Duration = Duration::from_secs(60);
/// What the kernel says about version 1.1.
const STATE: &str = "/sys/kernel/livepatch/livepatch_1_1";

/// Loads `/livepatch.ko`, version 1.1, and waits until every task runs the new code.
pub fn load(guest: &Guest) -> Result<(), Box<dyn Error>> {
    guest.check(&Command::new("insmod").arg("/livepatch.ko"), SHORT)?;
    guest.wait_for(&Command::new("cat").arg(format!("{STATE}/transition")), "0", SHORT)?;
    Ok(())
}

/// Reverts version 1.1 and removes its module.
pub fn unload(guest: &Guest) -> Result<(), Box<dyn Error>> {
    guest.check(&Command::shell(format!("echo 0 > {STATE}/enabled")), SHORT)?;
    guest.wait_for(&Command::shell(format!("test -e {STATE} || echo gone")), "gone", SHORT)?;
    guest.check(&Command::new("rmmod").arg("livepatch_1_1"), SHORT)?;
    Ok(())
}
