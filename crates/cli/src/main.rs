//! `livepatch`, the command line, and under its other name `canonical-livepatch`.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use livepatch_cli::{Arguments, Exit, legacy, run};
use livepatch_types::{Clock as _, SystemClock};

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let is_legacy = Path::new(&name).file_name().is_some_and(|name| name == "canonical-livepatch");
    ExitCode::from(if is_legacy { legacy_face() } else { own_face() })
}

fn own_face() -> u8 {
    let arguments = match Arguments::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(exit) => return exit.code(),
    };
    let mut err = anstream::stderr();
    let exit =
        run(&arguments, SystemClock.now(), &mut anstream::stdout(), &mut err).unwrap_or_else(|error| {
            // Where nobody can be told, the exit code tells.
            let _ = err.write_all(error.to_text().as_bytes());
            arguments.exit_after(&error)
        });
    exit.code()
}

/// Whatever fails ends with 1 there.
fn legacy_face() -> u8 {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let reader = if out.is_terminal() { legacy::Reader::Person } else { legacy::Reader::Program };
    let arguments = legacy::Arguments::parse();
    match legacy::run(&arguments, reader, SystemClock.now(), &mut out, &mut err) {
        Ok(exit) => exit.code(),
        Err(error) => {
            eprint!("{}", legacy::message(&error));
            Exit::Failed.code()
        }
    }
}
