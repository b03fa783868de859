//! Floor 3: the command line `livepatch`. It talks to the daemon over its sockets and prints what comes back; only what
//! concerns Secure Boot it reads itself.
//!
//! Invariant: it knows neither agent nor server, only the wire types; every wait for the daemon has a deadline.

mod client;
mod command;
mod error;
mod exit;
mod secure_boot;
mod text;

pub use command::{Arguments, run};
pub use error::CliError;
pub use exit::Exit;
pub use secure_boot::secure_boot_text;
pub use text::status_text;
