use std::io::Write;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use livepatch_api::daemon::Status;

use crate::act::{act, enable};
use crate::status::{Source, read};
use crate::{CliError, Exit, bug_report, status_text, token};

/// Livepatches for the running kernel.
#[derive(Debug, Parser)]
#[command(
    name = "livepatch",
    version,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not enabled, 4 the daemon cannot be reached, 5 only root may do this."
)]
pub struct Arguments {
    /// Directory of the daemon's sockets
    #[arg(long, global = true, default_value = "/run/livepatch")]
    runtime_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Enrol this host and apply what its server offers
    Enable(Enable),
    /// Revert the livepatch, unload it and leave the fleet; asks nothing
    Disable,
    /// Show the state of this host; answers within a second
    Status {
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Ask the server now, and wait until what it offers is applied
    Refresh,
    /// Disable and unload the livepatch; it is held back until `apply` or another version
    Revert,
    /// Apply what is offered, even if it was reverted here or a host went down with it
    Apply,
    /// Show what those who help need to know of this host, with names, addresses and secrets taken out
    BugReport {
        /// File to write it to as well; it must not be there yet
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Configuration of the daemon
        #[arg(long, default_value = "/etc/livepatch/livepatch.toml")]
        config: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Enable {
    /// The token. Others can see it in the process list and it stays in the shell's history: prefer --token-file
    token: Option<String>,
    /// File with the token, or - for standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// A table
    #[default]
    Text,
    /// The versioned schema of the daemon
    Json,
}

/// Runs a command; its output goes to `out`.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<Exit, CliError> {
    let runtime_dir = &arguments.runtime_dir;
    match &arguments.command {
        Command::Status { format } => {
            let (status, source) = read(runtime_dir)?;
            let text = match format {
                Format::Text => status_text(&status),
                Format::Json => {
                    let json = serde_json::to_string_pretty(&status);
                    json.map_err(|error| CliError::Answer(error.to_string()))? + "\n"
                }
            };
            out.write_all(text.as_bytes())?;
            Ok(match (source, status.enabled) {
                (Source::File, _) => Exit::DaemonUnreachable,
                (Source::Daemon, false) => Exit::NotEnabled,
                (Source::Daemon, true) => Exit::Ok,
            })
        }
        Command::Enable(Enable { token, token_file }) => {
            let token = match (token, token_file) {
                (_, Some(path)) => token::read(path)?,
                (token, None) => token::check(token.as_deref().unwrap_or_default())?,
            };
            done(&enable(runtime_dir, token)?, out)
        }
        Command::Disable => {
            act(runtime_dir, "/disable", "")?;
            writeln!(out, "This host is not enrolled any more, and no livepatch of it is applied.")?;
            Ok(Exit::Ok)
        }
        Command::Refresh => done(&act(runtime_dir, "/refresh", "")?, out),
        Command::Revert => done(&act(runtime_dir, "/revert", "")?, out),
        Command::BugReport { output, config } => {
            bug_report::run(runtime_dir, config, output.as_deref(), out)?;
            Ok(Exit::Ok)
        }
        Command::Apply => done(&act(runtime_dir, "/apply", "")?, out),
    }
}

/// The status after a command; a problem in it is a failure, because the command was to solve it.
fn done(status: &Status, out: &mut dyn Write) -> Result<Exit, CliError> {
    out.write_all(status_text(status).as_bytes())?;
    let failed = status.problem.as_ref().is_some_and(|problem| problem.code != "kernel-not-covered");
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}
