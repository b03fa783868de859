//! Floor 2: what the observer is asked, and what it answers. Observer and loader meet here.
//!
//! A connection carries one [`Request`] of nine bytes. The answer is JSON up to the end of the stream: [`Seen`] or
//! [`Stall`]. There is no request that changes anything.
//!
//! Invariant: what comes out of [`seen`], [`wait_for_more`] and [`stall`] is within the caps that stand here, in plain
//! characters, whoever answered.

mod answer;
mod client;
mod request;

pub use answer::{
    Complaint, Holder, MAX_COMPLAINTS, MAX_FRAMES, MAX_HOLDERS, MAX_REFUSED, MAX_TEXT, RefusedModule, Seen,
    Stall, plain,
};
pub use client::{AskError, MAX_ANSWER_BYTES, seen, stall, wait_for_more};
pub use request::{REQUEST_BYTES, Request};

/// Where the observer's socket is.
pub const RUNTIME_DIRECTORY: &str = "/run/livepatch-observer";
/// Name of the socket in it, for uid 0 alone.
pub const SOCKET: &str = "observer.sock";
