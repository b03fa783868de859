//! Floor 3: the agent of a host, and its daemon `livepatchd`.
//!
//! One round: ask the server, have the loader take note of the document, bring it the module that it wants, have it go
//! on. Start, timer and commands run the same round. The agent has no rights over the kernel: what it says to the
//! loader is believed only as far as it is signed. See docs/processes.md.
//!
//! Invariant: nothing here changes the kernel, verifies a signature or decides what is loaded.

mod agent;
mod arguments;
mod clock_steps;
mod cohort;
mod coverage;
mod log;
mod machine;
mod mirrors;
mod network;
mod not_covered;
mod operator;
mod pace;
mod problem;
mod run;
pub mod server;
mod service_manager;
pub mod sockets;
pub mod state;
mod status;
mod support;
mod telemetry;
mod vendor;

pub use agent::{Agent, Parts, Reach};
pub use arguments::Arguments;
pub use machine::machine_hash;
pub use pace::Pace;
pub use problem::Problem;
pub use run::run;
