//! Floor 3: the server. It keeps patches that a trusted vendor signed, tells hosts by signed documents which of them
//! to run, and remembers what hosts report.
//!
//! - [`Arguments`], [`run`]: the command line; admin commands work on the data directory, also while a server runs.
//! - [`DataDir`]: what is where on disk. [`init`] makes it.
//! - [`vendor`]: which bundles are taken. [`document`]: what hosts are told, and when it is signed anew.
//! - [`Repositories`]: vendors' metadata and the operator's root, verified when they come in, served as they are.
//! - [`log`]: the transparency log, in which everything of this stands that hosts or auditors must be able to see.
//! - [`KnownKernels`]: where kernels without livepatches were published, for people.
//! - [`Support`]: which kernels the operator covers, for hosts that are not covered.
//! - [`http`]: the routes of `livepatch_api::server`. [`listener`]: TLS, time-outs, shutdown.
//!
//! Invariant: the server's key chooses among patches that the vendor signed; it cannot make one.

pub mod arguments;
pub mod document;
pub mod http;
pub mod init;
pub mod listener;
pub mod log;
pub mod vendor;

mod commands;
mod data_dir;
mod failure;
mod health;
mod import;
mod known_kernels;
mod machines;
mod operator;
mod output;
mod publish;
mod repositories;
mod serve;
mod signing;
mod support;
mod token;

pub use arguments::Arguments;
pub use commands::run;
pub use data_dir::DataDir;
pub use failure::{Exit, Failure};
pub use import::Import;
pub use known_kernels::KnownKernels;
pub use repositories::{Repositories, Served};
pub use signing::OperatorKey;
pub use support::Support;
pub use token::Token;
