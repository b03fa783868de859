//! A report for those who are asked for help: what they need to know of this machine, without what is private.

mod collect;
mod redact;

use std::io::{BufRead as _, Read as _, Write};
use std::path::Path;

use crate::CliError;
use crate::file::create_private_file;
use crate::status::read;

const HEAD: &str = "livepatch bug report, version ";
const MAX_ANSWER_BYTES: u64 = 100;
const NOTE: &str =
    "Secrets, names of machines and people, and addresses are taken out. Read it before you send it.";

/// Where a report goes besides the output.
pub(crate) struct Output<'a> {
    /// A file that must not be there yet.
    pub(crate) file: &'a Path,
    /// Whether nobody is asked.
    pub(crate) yes: bool,
}

/// Shows the report on `out`, and then writes it to a file, when whoever saw it says yes.
pub(crate) fn run(
    runtime_dir: &Path,
    root: &Path,
    config_file: &Path,
    output: Option<&Output<'_>>,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let log = collect::Log::ask();
    let status = match read(runtime_dir, root) {
        Ok((status, _)) => serde_json::to_string_pretty(&status).unwrap_or_else(|error| error.to_string()),
        Err(error) => error.to_text(),
    };
    let sections = collect::sections(log, status, config_file);
    let report = collect::private(config_file).redact(&text(&sections));
    out.write_all(report.as_bytes())?;
    let Some(Output { file, yes }) = output else { return Ok(()) };
    out.flush()?;
    if !yes {
        ask(file)?;
    }
    create_private_file(file, &report)
}

/// Asks whoever has seen the report. Nobody is there who says something: that is a no.
fn ask(file: &Path) -> Result<(), CliError> {
    eprint!("Write this to {}? [y/N] ", file.display());
    let mut answer = String::new();
    std::io::stdin().lock().take(MAX_ANSWER_BYTES).read_line(&mut answer)?;
    if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    Err(CliError::NotConfirmed)
}

fn text(sections: &[(&str, String)]) -> String {
    let mut text = format!("{HEAD}{}\n{NOTE}\n", env!("CARGO_PKG_VERSION"));
    for (name, content) in sections {
        text.push_str(&format!("\n== {name} ==\n{}\n", content.trim_end()));
    }
    text
}
