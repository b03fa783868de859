//! `livepatch-build`: parse, call the library, exit with a documented code.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = livepatch_build::cli::Arguments::parse();
    ExitCode::from(livepatch_build::cli::run(arguments) as u8)
}
