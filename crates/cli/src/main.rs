//! `livepatch`, the command line, and under its other name `canonical-livepatch`.

use std::io::IsTerminal as _;
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
    let exit = run(&Arguments::parse(), SystemClock.now(), &mut anstream::stdout()).unwrap_or_else(|error| {
        anstream::eprint!("{}", error.to_text());
        error.exit()
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
