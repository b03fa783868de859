//! The attacks that signed metadata must end. Each test first shows the same input, unattacked, being accepted; then it
//! asserts the exact refusal.

mod metadata;
mod patches;
mod repository;
mod roots;
