//! `livepatch locks`: what keeps livepatches from the running kernel, and forgetting it.

use std::fmt::Write as _;
use std::io::Write;

use clap::Subcommand;
use livepatch_loader_api::{Lock, RootRequest};
use serde::Serialize;

use crate::act::Daemons;
use crate::command::Format;
use crate::text::{plain, time};
use crate::{CliError, Exit};

#[derive(Debug, Subcommand)]
pub(crate) enum Locks {
    /// Show what is held back, blocked after a crash or stalled: since when, why, and what to do
    List {
        /// For people or for programs
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Forget all that; the next check may apply it. For 15 minutes windows and delays do not count
    Clear,
}

impl Locks {
    pub(crate) fn run(&self, daemons: &Daemons<'_>, out: &mut dyn Write) -> Result<Exit, CliError> {
        match self {
            Self::List { format } => {
                let locks = daemons.view()?.locks;
                let text = match format {
                    Format::Text => locks_text(&locks),
                    Format::Json => json(&locks)?,
                };
                out.write_all(text.as_bytes())?;
            }
            Self::Clear => {
                daemons.loader(RootRequest::Clear)?;
                writeln!(
                    out,
                    "Nothing keeps livepatches from this kernel any more. `livepatch apply` applies at once."
                )?;
            }
        }
        Ok(Exit::Ok)
    }
}

/// The list for people.
pub fn locks_text(locks: &[Lock]) -> String {
    if locks.is_empty() {
        return "Nothing keeps livepatches from this kernel.\n".into();
    }
    let mut text = format!("{:<10}{:<9}{:<25}WHY\n", "LIVEPATCH", "LOCK", "SINCE");
    for lock in locks {
        let since = lock.since.map_or_else(|| "not known".into(), time);
        let version = lock.version.to_string();
        let _ = writeln!(text, "{version:<10}{:<9}{since:<25}{}", lock.kind.word(), plain(&lock.message));
        for hint in &lock.hints {
            let _ = writeln!(text, "{:44}hint: {}", "", plain(hint));
        }
    }
    text.push_str("\n`livepatch locks clear` forgets all of it; `livepatch apply` also applies at once.\n");
    text
}

#[derive(Serialize)]
struct Listing<'a> {
    schema: u32,
    locks: &'a [Lock],
}

fn json(locks: &[Lock]) -> Result<String, CliError> {
    let text = serde_json::to_string_pretty(&Listing { schema: 1, locks });
    Ok(text.map_err(|error| CliError::Answer(error.to_string()))? + "\n")
}
