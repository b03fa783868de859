//! `livepatch` as a program of this package, so that cargo builds it for the tests and tells them where it is.

use std::process::ExitCode;

use clap::Parser as _;
use livepatch_cli::{Arguments, run};
use livepatch_types::{Clock as _, SystemClock};

fn main() -> ExitCode {
    let exit = run(&Arguments::parse(), SystemClock.now(), &mut std::io::stdout()).unwrap_or_else(|error| {
        eprint!("{}", error.to_text());
        error.exit()
    });
    ExitCode::from(exit.code())
}
