//! Running other programs: argument vectors only, output kept, a clear error.

use std::process::{Command, Output, Stdio};

use crate::KbuildError;

/// How much of a failed program's output is shown.
const SHOWN_BYTES: usize = 4000;

/// Runs a program to its end and returns its output; `what` names the work in the error.
pub(crate) fn run(command: &mut Command, what: &str) -> Result<Output, KbuildError> {
    command.stdin(Stdio::null());
    let output = command.output().map_err(|error| start_error(command, what, error))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(KbuildError::Failed { what: what.to_owned(), output: tail(&output) })
}

pub(crate) fn start_error(command: &Command, what: &str, error: std::io::Error) -> KbuildError {
    let program = command.get_program().to_string_lossy().into_owned();
    if error.kind() == std::io::ErrorKind::NotFound {
        KbuildError::NoProgram(program)
    } else {
        KbuildError::Failed { what: what.to_owned(), output: format!("cannot start {program}: {error}") }
    }
}

/// The end of standard error, or of standard output when there is none.
pub(crate) fn tail(output: &Output) -> String {
    let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let text = String::from_utf8_lossy(text);
    let mut start = text.len().saturating_sub(SHOWN_BYTES);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let shown = text[start..].trim_end();
    if shown.is_empty() { format!("it ended with {}", output.status) } else { shown.to_owned() }
}

/// A program whose messages are in English and which sees nothing of the caller's environment that changes a build.
pub(crate) fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
    for name in ["PATH", "HOME", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}
