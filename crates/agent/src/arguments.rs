//! The command line of `livepatchd`.

use std::path::PathBuf;

use clap::Parser;

/// Keeps the running kernel livepatched.
#[derive(Debug, Parser)]
#[command(
    name = "livepatchd",
    version,
    after_help = "Exit codes: 0 ended in good order, 1 failed, 2 usage, 78 the configuration is wrong."
)]
pub struct Arguments {
    /// Configuration; a missing file is an empty one
    #[arg(long, default_value = "/etc/livepatch/livepatch.toml")]
    pub config: PathBuf,
    /// Directory for the state
    #[arg(long, default_value = "/var/lib/livepatch")]
    pub state_dir: PathBuf,
    /// Directory for the sockets and the last status
    #[arg(long, default_value = "/run/livepatch")]
    pub runtime_dir: PathBuf,
    /// Directory of the loader's sockets
    #[arg(long, default_value = livepatch_loader_api::RUNTIME_DIRECTORY)]
    pub loader_dir: PathBuf,
    /// What to log: error, warn, info, debug, or a filter as the environment variable RUST_LOG has it; without this the
    /// configuration's log-level counts
    #[arg(long)]
    pub log: Option<String>,
}
