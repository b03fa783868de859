//! `cargo xtask fuzz`: every fuzz target for a bounded time, from the committed seeds and what earlier runs found.

use std::path::Path;
use std::process::Stdio;

use livepatch_vm::testing;

use crate::error::{Error, Exit};
use crate::fetch::make_directory;
use crate::process::{cannot_start, tool};
use crate::progress::Step;
use crate::{setup, test};

/// What a target may use, in MiB, and how many seconds one input may take: beyond it is a find.
const LIMITS: [&str; 2] = ["-rss_limit_mb=1024", "-timeout=5"];

/// Builds the targets and runs each for so many seconds; the first find ends it. With a seed, the inputs are those of
/// every run with it over the same code and corpus, as far as the time reaches.
pub(crate) fn fuzz(seconds: u32, seed: Option<u32>, only: Option<&str>) -> Result<(), Error> {
    setup::setup()?;
    let workspace = testing::workspace();
    let mut targets = targets(&workspace.join("fuzz/targets"))?;
    targets.retain(|target| only.is_none_or(|only| only == target));
    if targets.is_empty() {
        return Err(Error::NoFuzzTarget { name: only.unwrap_or_default().into() });
    }
    let installed = test::cargo(workspace).args(["fuzz", "--version"]).output();
    if !installed.map_err(|e| cannot_start("cargo", e))?.status.success() {
        let step = Step::begin("installed cargo-fuzz");
        let mut install = test::cargo(workspace);
        tool(install.args(["install", "cargo-fuzz", "--locked"]), "cargo install", Exit::Failure, |line| {
            step.note(line);
        })?;
        step.done();
    }
    // Sanitizers need a nightly compiler; the code under test has no unsafe blocks of its own.
    let step = Step::begin("built the fuzz targets");
    let mut build = test::cargo(workspace);
    tool(build.args(["fuzz", "build", "-s", "none"]), "cargo fuzz build", Exit::Failure, |line| {
        step.note(line);
    })?;
    step.done();
    for target in targets {
        run(workspace, &target, seconds, seed)?;
    }
    Ok(())
}

/// Names of the programs in a directory of sources, sorted.
fn targets(sources: &Path) -> Result<Vec<String>, Error> {
    let entries = std::fs::read_dir(sources).map_err(|e| Error::io("read the fuzz targets", e))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".rs").map(String::from))
        .collect();
    names.sort();
    Ok(names)
}

fn run(workspace: &Path, target: &str, seconds: u32, seed: Option<u32>) -> Result<(), Error> {
    let fuzz = workspace.join("fuzz");
    let finds = fuzz.join("corpus").join(target);
    make_directory(&finds)?;
    let step = Step::begin(format!("fuzzed {target}"));
    let mut run = test::cargo(workspace);
    run.args(["fuzz", "run", "-s", "none", target]).arg(finds).arg(fuzz.join("seeds").join(target));
    run.arg("--").arg(format!("-max_total_time={seconds}")).args(LIMITS);
    run.args(seed.map(|seed| format!("-seed={seed}")));
    let output = run.stdin(Stdio::null()).output().map_err(|e| cannot_start("cargo", e))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        eprintln!("{said}");
        return Err(Error::FuzzFind { target: target.into() });
    }
    let inputs = said.lines().find(|line| line.starts_with("Done ")).unwrap_or("Done").to_owned();
    step.done();
    eprintln!("  {inputs}");
    Ok(())
}
