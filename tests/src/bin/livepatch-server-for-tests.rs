//! `livepatch-server` as a program of this package, so that cargo builds it for the tests and tells them where it is.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match livepatch_server::run(livepatch_server::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprint!("{failure}");
            failure.exit().into()
        }
    }
}
