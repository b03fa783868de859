//! The product as it is installed: the packages in a Debian with systemd, on the kernel exactly as Debian ships it.
//! `cargo xtask test` makes both.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

mod crashes;
mod elsewhere;
mod fleet;
mod installed;
mod machine;
mod patched;
#[path = "../client/patches.rs"]
#[expect(dead_code, reason = "shared with the suite of the client")]
mod patches;
mod reboots;
#[path = "../client/site.rs"]
#[expect(dead_code, reason = "shared with the suite of the client")]
mod site;
mod story;
mod units;
