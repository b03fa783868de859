//! The client on the kernel exactly as Debian ships it, against the real server, with what the builder made: only the
//! fleet is missing.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helper fails the test")]

mod behaviour;
mod complaints;
mod enforced;
mod host;
mod life;
mod middlebox;
mod namesake;
mod patches;
mod rebuilt;
mod refusals;
mod site;
mod upgrade;
mod vendor;
