//! Floor 3: the command line `livepatch`, and [`legacy`], the same client as `canonical-livepatch`. It talks to the
//! daemon over its sockets and prints what comes back; only what concerns Secure Boot
//! and `doctor` it reads itself.
//!
//! Invariant: it knows neither agent nor server, only the wire types; every wait for the daemon has a deadline.

mod act;
mod bug_report;
mod bundle;
mod client;
mod command;
mod cves;
mod doctor;
mod elsewhere;
mod error;
mod exit;
mod explain;
mod file;
mod hold;
mod import;
pub mod legacy;
mod locks;
mod reboot_required;
mod secure_boot;
mod settings;
mod status;
mod telemetry;
mod text;
mod token;
mod trust;
mod verdict;
mod wait;

pub use command::{Arguments, run};
pub use cves::{CveList, cves};
pub use doctor::{Diagnosis, HostFacts, doctor};
pub use error::CliError;
pub use exit::Exit;
pub use explain::{Explanation, explain};
pub use livepatch_api::metrics;
pub use locks::locks_text;
pub use secure_boot::secure_boot_text;
pub use text::status_text;
pub use verdict::{Ages, Level, Verdict, motd, plugin_line, verdict};
pub use wait::{Ahead, Until};
