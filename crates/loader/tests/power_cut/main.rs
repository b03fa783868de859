//! The loader with the power cut at each of its steps, and what the next boot makes of it. The kernel is the one in memory.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test's helper fails the test")]

mod complaints;
mod kernels;
#[path = "../support/mod.rs"]
mod signing;
mod soak;
mod stage;
mod steps;
