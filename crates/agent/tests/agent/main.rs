//! The whole agent against a real TLS server on loopback and a kernel in memory.
#![expect(clippy::unwrap_used, reason = "a test's helper fails the test")]

mod check;
mod life;
mod network;
mod policy;
mod sockets;
mod support;
