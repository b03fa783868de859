//! A whole host: the agent and the loader, over real sockets, against a real TLS server on loopback and a kernel in memory.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod assignments;
mod attacks;
mod check;
mod cohorts;
mod cost;
mod coverage;
mod coverage_matrix;
mod images;
mod life;
#[path = "../../../crates/loader/tests/support/log.rs"]
mod log;
mod logs;
mod mirrors;
mod network;
mod operator;
mod policy;
mod poll_hint;
#[path = "../../../crates/loader/tests/support/repository.rs"]
mod repository;
#[path = "../../../crates/loader/tests/support/mod.rs"]
mod signing;
mod sockets;
mod support;
mod telemetry;
mod trust_reset;
mod vendor;
