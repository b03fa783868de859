//! The crash guard and stalls on the kernel exactly as Debian ships it: the power is cut at each step of an application,
//! with the state on a disk with ext4, and a task does not leave a function that is replaced.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

#[path = "../client/host.rs"]
#[expect(dead_code, reason = "shared with the suite of the client")]
mod host;
#[path = "../client/patches.rs"]
#[expect(dead_code, reason = "shared with the suite of the client")]
mod patches;
#[path = "../client/site.rs"]
#[expect(dead_code, reason = "shared with the suite of the client")]
mod site;

mod machine;
mod power_cut;
mod prepared;
mod stall;
mod steps;
