//! Floor 3: the observer of a host, `livepatch-observer`: reads the kernel's log, and why a transition does not end.
//!
//! [`kmsg`], [`Complaints`] and [`refused_module`] are pure: records in, complaints about livepatches out, and modules that were
//! kept out. [`Log`] keeps the newest, [`stall`] looks at tasks, [`server`] answers. See docs/processes.md.
//!
//! Invariant: it changes nothing. It writes to one socket, and to nobody but uid 0.

mod arguments;
mod complaints;
mod frame;
pub mod kmsg;
mod livepatches;
mod log;
mod refusals;
pub mod server;
mod stall;

pub use arguments::Arguments;
pub use complaints::Complaints;
pub use frame::Frame;
pub use livepatches::Livepatches;
pub use log::Log;
pub use refusals::refused_module;
pub use stall::stall;
