//! `livepatch`, the command line.

use std::process::ExitCode;

use clap::Parser as _;
use livepatch_cli::{Arguments, Exit, run};

fn main() -> ExitCode {
    let exit = match run(&Arguments::parse(), &mut anstream::stdout()) {
        Ok(exit) => exit,
        Err(error) => {
            anstream::eprint!("{}", error.to_text());
            error.exit()
        }
    };
    ExitCode::from(exit as u8)
}

// The numbers are written out in `Exit`; clap itself ends with 2 on wrong usage.
const _: () = assert!(Exit::Usage as u8 == 2);
