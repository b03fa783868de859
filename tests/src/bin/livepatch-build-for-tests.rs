//! `livepatch-build` as a program of this package, so that cargo builds it for the tests and tells them where it is.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = livepatch_build::cli::Arguments::parse();
    ExitCode::from(livepatch_build::cli::run(arguments) as u8)
}
