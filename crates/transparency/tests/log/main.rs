//! The log against a naive one, against vectors of others, and against liars.

#![expect(clippy::unwrap_used, reason = "a failed test panics")]

mod attacks;
mod formats;
mod naive;
mod support;
mod tree;
