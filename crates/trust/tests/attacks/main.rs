//! The attacks that signed metadata must end. Each test first shows the same input, unattacked, being accepted; then it
//! asserts the exact refusal.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of test functions")]

mod metadata;
mod patches;
mod repository;
mod roots;
