//! The command line of `livepatch-loader`.

use std::path::PathBuf;

use clap::Parser;
use livepatch_loader_api::RUNTIME_DIRECTORY;

/// Loads livepatches that are signed for exactly the running kernel, and nothing else.
#[derive(Debug, Parser)]
#[command(
    name = "livepatch-loader",
    version,
    after_help = "Exit codes: 0 ended in good order, 1 failed, 2 usage, 78 the configuration is wrong."
)]
pub struct Arguments {
    /// Configuration; a missing file is an empty one
    #[arg(long, default_value = "/etc/livepatch/livepatch.toml")]
    pub config: PathBuf,
    /// Directory with operator.pub and vendor.pem
    #[arg(long, default_value = "/etc/livepatch/trust")]
    pub trust_dir: PathBuf,
    /// Directory with the keys of the package, for those that the directory above does not have
    #[arg(long, default_value = "/usr/share/livepatch/keys")]
    pub keys_dir: PathBuf,
    /// Directory for state and modules, which nobody else enters
    #[arg(long, default_value = "/var/lib/livepatch-loader")]
    pub state_dir: PathBuf,
    /// Directory for the sockets, when no service manager hands them over
    #[arg(long, default_value = RUNTIME_DIRECTORY)]
    pub runtime_dir: PathBuf,
    /// Directory of the observer's socket
    #[arg(long, default_value = livepatch_observer_api::RUNTIME_DIRECTORY)]
    pub observer_dir: PathBuf,
    /// User that the agent runs as, besides root
    #[arg(long, default_value = "livepatch")]
    pub agent_user: String,
    /// How long a livepatch is in force before it counts as healthy; 0: at once
    #[arg(long, value_name = "MINUTES", default_value_t = 15)]
    pub soak_minutes: u32,
    /// What to log: error, warn, info, debug, or a filter as the environment variable RUST_LOG has it; without this the
    /// configuration's log-level counts
    #[arg(long)]
    pub log: Option<String>,
}
