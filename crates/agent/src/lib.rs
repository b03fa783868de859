//! Floor 3: the agent of a host, and its daemon `livepatchd`.
//!
//! One round: observe the kernel, ask the server, make a [`plan`] (a pure function), do it (`execute`). Start, timer
//! and commands run the same round. Seams: [`Trust`] (two pinned keys; TUF later), [`livepatch_kernel::Kernel`] (in
//! this process; a loader of its own later), [`plan`] (waves and policy later).
//!
//! Invariant: no module reaches the kernel before [`verify`] has passed on the same sealed bytes; nothing that the
//! server says, or does not say, unloads a livepatch, but a signed withdrawal.

mod agent;
mod arguments;
mod config;
mod execute;
mod machine;
mod not_covered;
mod objects;
pub mod plan;
pub mod policy;
mod problem;
mod run;
pub mod server;
pub mod sockets;
pub mod state;
mod status;
mod trust;
pub mod verify;

pub use agent::{Agent, Parts, Reach};
pub use arguments::Arguments;
pub use config::{Config, ConfigError};
pub use machine::machine_hash;
pub use problem::Problem;
pub use run::run;
pub use trust::Trust;
