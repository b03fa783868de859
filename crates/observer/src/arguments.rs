//! The command line of `livepatch-observer`.

use std::path::PathBuf;

use clap::Parser;
use livepatch_observer_api::RUNTIME_DIRECTORY;

/// Tells the loader what the kernel's log says of livepatches, and which tasks hold up a transition. Changes nothing.
#[derive(Debug, Parser)]
#[command(
    name = "livepatch-observer",
    version,
    after_help = "Exit codes: 1 failed, 2 usage. It runs until a signal ends it."
)]
pub struct Arguments {
    /// Directory for the socket, which is root's alone
    #[arg(long, default_value = RUNTIME_DIRECTORY)]
    pub runtime_dir: PathBuf,
    /// What to log: error, warn, info, debug, or a filter as the environment variable RUST_LOG has it
    #[arg(long, default_value = "info")]
    pub log: String,
}
