use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use livepatch_api::daemon::{EnableRequest, Failure, Status};
use livepatch_types::Redacted;

use crate::client::{ask, request};
use crate::secure_boot::SecureBoot;
use crate::text::time;
use crate::{CliError, Exit, status_text};

/// Status is read by login scripts: it never keeps anybody waiting.
const READ_DEADLINE: Duration = Duration::from_millis(900);
/// Commands wait for the network and for the kernel's transition.
const ACT_DEADLINE: Duration = Duration::from_secs(15 * 60);
const MAX_TOKEN_BYTES: u64 = 4096;
const MAX_STATUS_BYTES: u64 = 4 << 20;

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
    /// Whose modules this machine's kernel takes, and how it comes to take livepatches under Secure Boot
    SecureBoot(SecureBoot),
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
pub(crate) enum Format {
    /// A table
    #[default]
    Text,
    /// A versioned schema
    Json,
}

/// Runs a command; its output goes to `out`.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<Exit, CliError> {
    let act = |path: &str, body: &str| {
        let socket = arguments.runtime_dir.join("livepatchd-priv.sock");
        ask(&socket, request("POST", path, body), ACT_DEADLINE)
    };
    match &arguments.command {
        Command::Status { format } => {
            let socket = arguments.runtime_dir.join("livepatchd.sock");
            let asked = ask(&socket, request("GET", "/status", ""), READ_DEADLINE);
            let answers = asked.is_ok();
            let status = match asked {
                Err(error @ CliError::Unreachable { .. }) => last_status(&arguments.runtime_dir, error)?,
                other => other?,
            };
            let text = match format {
                Format::Text => status_text(&status),
                Format::Json => {
                    let json = serde_json::to_string_pretty(&status);
                    json.map_err(|error| CliError::Answer(error.to_string()))? + "\n"
                }
            };
            out.write_all(text.as_bytes())?;
            Ok(match (answers, status.enabled) {
                (false, _) => Exit::DaemonUnreachable,
                (true, false) => Exit::NotEnabled,
                (true, true) => Exit::Ok,
            })
        }
        Command::Enable(enable) => {
            let request = EnableRequest { token: token(enable)? };
            let body = serde_json::to_string(&request).map_err(|error| CliError::Token(error.to_string()))?;
            done(&act("/enable", &body)?, out)
        }
        Command::Disable => {
            act("/disable", "")?;
            writeln!(out, "This host is not enrolled any more, and no livepatch of it is applied.")?;
            Ok(Exit::Ok)
        }
        Command::Refresh => done(&act("/refresh", "")?, out),
        Command::Revert => done(&act("/revert", "")?, out),
        Command::Apply => done(&act("/apply", "")?, out),
        Command::SecureBoot(secure_boot) => secure_boot.run(out),
    }
}

/// What the daemon left for the time when it does not answer, with that as the problem; without it, the error.
fn last_status(runtime_dir: &Path, error: CliError) -> Result<Status, CliError> {
    let Some((mut status, written)) = read_status(&runtime_dir.join("status.json")) else {
        return Err(error);
    };
    let message = format!("the daemon does not answer; this is what it knew on {}", time(written));
    let mut hints = error.hints();
    hints.extend(status.problem.map(|problem| format!("its last problem was: {}", problem.message)));
    status.problem = Some(Failure { code: "daemon-unreachable".into(), message, hints });
    Ok(status)
}

/// A status file and when it was written; none when it is not there or of another version.
fn read_status(path: &Path) -> Option<(Status, Timestamp)> {
    let file = std::fs::File::open(path).ok()?;
    let written = file.metadata().ok()?.modified().ok()?.try_into().ok()?;
    let mut bytes = Vec::new();
    file.take(MAX_STATUS_BYTES).read_to_end(&mut bytes).ok()?;
    let status: Status = serde_json::from_slice(&bytes).ok()?;
    (status.schema == 1).then_some((status, written))
}

/// The status after a command; a problem in it is a failure, because the command was to solve it.
fn done(status: &Status, out: &mut dyn Write) -> Result<Exit, CliError> {
    out.write_all(status_text(status).as_bytes())?;
    let failed = status.problem.as_ref().is_some_and(|problem| problem.code != "kernel-not-covered");
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

fn token(enable: &Enable) -> Result<Redacted<String>, CliError> {
    let text = match (&enable.token, &enable.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(path)) if path == Path::new("-") => read_token(std::io::stdin().lock())?,
        (None, Some(path)) => {
            let file = std::fs::File::open(path);
            read_token(file.map_err(|error| CliError::Token(format!("{}: {error}", path.display())))?)?
        }
        (None, None) => String::new(),
    };
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CliError::Token("it is empty or holds other than printable characters".into()));
    }
    Ok(Redacted::new(text.to_owned()))
}

fn read_token(source: impl std::io::Read) -> Result<String, CliError> {
    let mut text = String::new();
    let mut source = source.take(MAX_TOKEN_BYTES);
    source.read_to_string(&mut text).map_err(|error| CliError::Token(error.to_string()))?;
    Ok(text)
}
