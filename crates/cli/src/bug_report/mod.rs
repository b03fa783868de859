//! A report for those who are asked for help: what they need to know of this machine, without what is private.

mod collect;
mod redact;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::CliError;
use crate::status::read;

const HEAD: &str = "livepatch bug report, version ";
const NOTE: &str =
    "Secrets, names of machines and people, and addresses are taken out. Read it before you send it.";

/// Shows the report on `out`, and then writes it to a file that must not be there yet.
pub(crate) fn run(
    runtime_dir: &Path,
    root: &Path,
    config_file: &Path,
    output: Option<&Path>,
    out: &mut dyn Write,
) -> Result<(), CliError> {
    let log = collect::Log::ask();
    let status = match read(runtime_dir, root) {
        Ok((status, _)) => serde_json::to_string_pretty(&status).unwrap_or_else(|error| error.to_string()),
        Err(error) => error.to_text(),
    };
    let sections = collect::sections(log, status, config_file);
    let report = collect::private().redact(&text(&sections));
    out.write_all(report.as_bytes())?;
    let Some(path) = output else { return Ok(()) };
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(report.as_bytes()))
        .map_err(|error| CliError::Write { path: path.to_owned(), why: error.to_string() })
}

fn text(sections: &[(&str, String)]) -> String {
    let mut text = format!("{HEAD}{}\n{NOTE}\n", env!("CARGO_PKG_VERSION"));
    for (name, content) in sections {
        text.push_str(&format!("\n== {name} ==\n{}\n", content.trim_end()));
    }
    text
}
