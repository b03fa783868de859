//! The loader's own server, over real sockets, against an agent that is wholly hostile: it can delay, and nothing else.
//! Every attack first sees the same thing, unattacked, being loaded.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod assignments;
mod bundles;
mod carried_proofs;
mod documents;
#[path = "../support/log.rs"]
mod log;
mod logs;
mod modules;
mod operator;
mod remembered;
#[path = "../support/repository.rs"]
mod repository;
#[path = "../support/mod.rs"]
mod signing;
mod sockets;
mod stage;
mod support;
mod vendor;
