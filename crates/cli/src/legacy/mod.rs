//! `canonical-livepatch`: the same client under the name, and with the output, that programs know from the snap.
//!
//! Frozen: commands, the forms of a status, exit codes and the messages that programs look for. What is new goes into
//! `livepatch`.

mod arguments;
mod change;
mod config;
mod message;
mod socket;

use std::io::Write;

use jiff::Timestamp;
use livepatch_api::daemon::Status;
use livepatch_api::legacy::{Detail, LegacyStatus, Machine, humane, json, yaml};
use livepatch_kernel::machine_texts;

pub use arguments::Arguments;
pub use message::message;

pub(crate) use change::{Certificates, change};
#[cfg(test)]
pub(crate) use config::all_keys;
pub(crate) use config::meaning;

use crate::act::Daemons;
use crate::status::{Source, read};
use crate::{CliError, Exit, token};
use arguments::{Command, Format};

/// Where the output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// To a terminal.
    Person,
    /// Into a file or pipe.
    Program,
}

/// Runs a command; output goes to `out`, notes to `err`. `now` is the wall-clock time.
pub fn run(
    arguments: &Arguments,
    reader: Reader,
    now: Timestamp,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, CliError> {
    let runtime_dir = &arguments.runtime_dir;
    let root = &arguments.system_root;
    let daemons = Daemons { agent: runtime_dir, loader: &arguments.loader_dir };
    let default = if reader == Reader::Person { Format::Humane } else { Format::Yaml };
    match &arguments.command {
        Command::Status { verbose, format, .. } => {
            let (status, source) = read(runtime_dir, root)?;
            if let (Source::File | Source::Kernel, Some(problem)) = (source, &status.problem) {
                writeln!(err, "{}", problem.message)?;
            }
            // Nobody is enabled in a container; its kernel may have livepatches all the same.
            let status = Status { enabled: status.enabled || source == Source::Kernel, ..status };
            let detail = if *verbose { Detail::Verbose } else { Detail::Summary };
            out.write_all(text(&status, format.unwrap_or(default), detail, now)?.as_bytes())?;
        }
        Command::Enable { token } => {
            let status = daemons.enable(token::check(token)?)?;
            note_problem(&status, err)?;
            writeln!(out, "Successfully enabled device.")?;
        }
        Command::Disable => {
            daemons.disable()?;
            writeln!(out, "Successfully disabled device.")?;
        }
        Command::Refresh => {
            let status = daemons.refresh()?;
            note_problem(&status, err)?;
            out.write_all(text(&status, default, Detail::Summary, now)?.as_bytes())?;
        }
        Command::Config { settings, format } => {
            config::run(&arguments.config_file, settings, *format, now, out, err)?;
        }
        Command::KernelUpgradeRequired => {
            let (status, _) = read(runtime_dir, root)?;
            let required = status.enabled && status.upgrade_required();
            return Ok(if required { Exit::Ok } else { Exit::Failed });
        }
        Command::AnswerSocket => return socket::answer(&daemons),
        Command::Version => writeln!(out, "{}", env!("CARGO_PKG_VERSION"))?,
    }
    Ok(Exit::Ok)
}

fn text(status: &Status, format: Format, detail: Detail, now: Timestamp) -> Result<String, CliError> {
    let legacy =
        LegacyStatus::new(status, &Machine::parse(&machine_texts())).ok_or_else(CliError::not_enabled)?;
    Ok(match format {
        Format::Humane => humane(&legacy, detail, now),
        Format::Json => json(&legacy),
        Format::Yaml => yaml(&legacy),
    })
}

fn note_problem(status: &Status, err: &mut dyn Write) -> Result<(), CliError> {
    match &status.problem {
        Some(problem) => Ok(writeln!(err, "{}", problem.message)?),
        None => Ok(()),
    }
}
