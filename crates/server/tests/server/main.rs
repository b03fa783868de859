//! The server as hosts and operators see it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed test panics")]

mod cli;
mod coverage;
mod http;
mod log;
mod log_attacks;
mod reports;
mod repositories;
mod support;
