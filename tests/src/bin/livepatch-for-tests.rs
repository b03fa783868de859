//! `livepatch` as a program of this package, so that cargo builds it for the tests and tells them where it is.

use std::process::ExitCode;

use clap::Parser as _;
use livepatch_cli::{Arguments, run};
use livepatch_types::{Clock as _, SystemClock};

fn main() -> ExitCode {
    let (arguments, mut out, mut err) = (Arguments::parse(), std::io::stdout(), std::io::stderr());
    let exit = run(&arguments, SystemClock.now(), &mut out, &mut err).unwrap_or_else(|error| {
        eprint!("{}", error.to_text());
        error.exit()
    });
    ExitCode::from(exit.code())
}
