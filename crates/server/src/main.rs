//! `livepatch-server`: serves livepatches to a fleet and is its operator's tool.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = livepatch_server::Arguments::parse();
    match livepatch_server::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprint!("{failure}");
            failure.exit().into()
        }
    }
}
