//! Floor 3: the loader of a host, `livepatch-loader`: the one process that changes the kernel.
//!
//! It believes what is signed, what it remembers, and root; the agent is only who brings it bytes. A request says "here
//! is a document", "here is a module" or "go on"; what to do comes from [`plan`], a pure function, and `execute` does
//! it. See docs/processes.md.
//!
//! Invariant: no network and no parsing before a signature has been verified, but for JSON envelopes and the signature
//! itself; no module reaches the kernel before [`verify`] has passed on the same sealed bytes; nothing that the agent
//! says, or does not say, unloads a livepatch, but a signed withdrawal.

mod arguments;
mod assignment;
mod bundle;
pub mod evidence;
mod execute;
pub mod guard;
mod journal;
pub mod kernels;
mod loader;
mod locks;
mod log;
mod machine;
mod marker;
mod objects;
pub mod observer;
mod operator;
mod peers;
pub mod plan;
mod problem;
mod requests;
pub mod server;
pub mod state;
pub mod step;
mod support;
mod trust;
mod vendor;
pub mod verify;
mod view;

pub use arguments::Arguments;
pub use loader::{Loader, Parts};
pub use locks::panic_directories;
pub use machine::machine;
pub use peers::{Peers, uid_of};
pub use problem::Problem;
pub use requests::{answer_agent, answer_root};
pub use trust::TrustDirectories;
pub use vendor::Verdict;
