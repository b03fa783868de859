//! Floor 3: makes livepatches: from a source patch for an exact kernel to a signed bundle.
//!
//! [`pipeline::build`] is the way from patch to bundle; [`signing`] is a step of its own, so that it can be done on
//! another host, with a key in a file or in a [`token`]; [`cli`] is the program around both.

mod always_running;
mod check_text;
pub mod cli;
mod debug;
pub mod debug_file;
pub mod error;
mod extraction;
pub mod fidelity;
mod files;
pub mod glue;
pub mod index;
pub mod keygen;
pub mod pipeline;
pub mod prove;
pub mod report;
pub mod series;
mod shipped;
pub mod signing;
pub mod token;
mod toolchain;
pub mod trust;
mod units;
pub mod verify;
