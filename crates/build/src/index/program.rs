//! Programs of the system that work on what others wrote: an argument vector, an end in time, files of a bounded length.

use std::ffi::OsStr;
use std::io;
use std::process::{Command, Output, Stdio};

/// What `timeout` ends with when time is up (timeout(1)).
const TIME_IS_UP: i32 = 124;

/// What `prlimit` ends with when there is no such program.
const NO_PROGRAM: i32 = 127;

/// Why a program has no result.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It cannot be started.
    #[error("cannot start {program}: {source}")]
    Start {
        /// The program.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// It is not here.
    #[error("the program {0} is not installed")]
    Missing(&'static str),
    /// It took too long.
    #[error("{program} did not end in {seconds} seconds")]
    Time {
        /// The program.
        program: &'static str,
        /// How long it had.
        seconds: u32,
    },
}

/// What a program may take.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Time in seconds; then it is ended, with all it started.
    pub seconds: u32,
    /// Length of a file that it writes, in bytes.
    pub file_bytes: u64,
}

/// Runs a program to its end. Of the environment it sees the path, and how to reach the network.
pub fn run<S: AsRef<OsStr>>(
    program: &'static str,
    arguments: impl IntoIterator<Item = S>,
    bounds: Bounds,
) -> Result<Output, ProgramError> {
    // Nothing goes on when this program is killed: setpriv(1) has the kernel tell `timeout`, which tells the others.
    let mut command = Command::new("setpriv");
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null());
    for name in ["PATH", "http_proxy", "https_proxy", "no_proxy"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.args(["--pdeathsig", "TERM", "timeout", "--kill-after=5"]).arg(bounds.seconds.to_string());
    command.arg("prlimit").arg("--core=0").arg(format!("--fsize={}", bounds.file_bytes));
    command.arg("--").arg(program).args(arguments);
    let output = command.output().map_err(|source| ProgramError::Start { program, source })?;
    match output.status.code() {
        Some(TIME_IS_UP) => Err(ProgramError::Time { program, seconds: bounds.seconds }),
        Some(NO_PROGRAM) => Err(ProgramError::Missing(program)),
        _ => Ok(output),
    }
}

/// The last line that a program said, without what apt puts in front of errors.
pub fn last_words(output: &Output) -> String {
    let text =
        String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr });
    let failed = text.lines().find_map(|line| line.strip_prefix("E: Failed to fetch "));
    let line = failed.or_else(|| text.lines().rfind(|line| !line.trim().is_empty())).unwrap_or("no message");
    line.trim_start_matches("E: ").chars().filter(|letter| !letter.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_have_an_end() {
        let bounds = Bounds { seconds: 60, file_bytes: 10 };
        let short = Bounds { seconds: 1, ..bounds };
        let none: [&str; 0] = [];
        assert!(matches!(
            run("no-such-program", none, bounds),
            Err(ProgramError::Missing("no-such-program"))
        ));
        assert!(matches!(
            run("sleep", ["600"], short),
            Err(ProgramError::Time { program: "sleep", seconds: 1 })
        ));
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("x");
        let arguments = [
            "if=/dev/zero".to_owned(),
            format!("of={}", target.display()),
            "bs=100".into(),
            "count=1".into(),
        ];
        assert!(!run("dd", arguments, bounds).unwrap().status.success());
        assert_eq!(std::fs::metadata(target).unwrap().len(), 10);
    }
}
