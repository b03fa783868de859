use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::settings::CONFIGURATION;

/// Livepatches for the running kernel, for programs that know the snap of this name.
#[derive(Debug, Parser)]
#[command(
    name = "canonical-livepatch",
    version,
    after_help = "Exit codes: 0 done, 1 failed or not enabled, 2 usage. The same client with more commands is livepatch(1)."
)]
pub struct Arguments {
    /// Directory of the daemon's sockets
    #[arg(long, global = true, hide = true, default_value = "/run/livepatch")]
    pub(super) runtime_dir: PathBuf,
    /// Directory of the loader's sockets
    #[arg(long, global = true, hide = true, default_value = livepatch_loader_api::RUNTIME_DIRECTORY)]
    pub(super) loader_dir: PathBuf,
    /// Configuration of the daemon
    #[arg(long, global = true, hide = true, default_value = CONFIGURATION)]
    pub(super) config_file: PathBuf,
    /// Where /proc, /sys and /run are looked at, to tell a container and what its kernel has
    #[arg(long, global = true, hide = true, default_value = "/")]
    pub(super) system_root: PathBuf,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Enrol this host with a token
    Enable {
        /// The token; others can see it in the process list
        token: String,
    },
    /// Take the livepatch out and leave the fleet
    Disable,
    /// Show the state of this host; answers within a second
    Status {
        /// What matters (the default)
        #[arg(long, conflicts_with = "verbose")]
        summary: bool,
        /// All that is known
        #[arg(long)]
        verbose: bool,
        /// Nothing in a status is secret: accepted, without effect
        #[arg(long)]
        show_secrets: bool,
        /// The form; by default humane on a terminal, otherwise yaml
        #[arg(long, value_enum)]
        format: Option<Format>,
    },
    /// Ask the server now, and wait until what it offers is applied
    Refresh,
    /// Show settings, or change them with KEY=VALUE
    Config {
        /// KEY shows one, KEY=VALUE sets it, KEY= clears it, KEY=@stdin reads the value; none: all are shown
        settings: Vec<String>,
        /// The form of what is shown
        #[arg(long, value_enum, default_value_t = ConfigFormat::Yaml)]
        format: ConfigFormat,
    },
    /// Whether this kernel gets no livepatches any more: exit code 0 if so, otherwise 1
    KernelUpgradeRequired,
    /// Answer the request of a connection to root's socket, which is standard input; systemd starts it
    #[command(hide = true)]
    AnswerSocket,
    /// Print the version
    Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    Humane,
    /// In one line
    Json,
    /// As of client 10.8
    Yaml,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ConfigFormat {
    /// `key: value`, a line each
    Yaml,
    /// One object
    Json,
}
