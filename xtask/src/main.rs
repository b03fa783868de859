//! The workspace's chores: `cargo xtask setup`, `fetch`, `demo`, `test`, `dist`, `release`.

mod bench;
mod changelog;
mod config;
mod corpus;
mod demo;
mod dist;
mod error;
mod fetch;
mod fuzz;
mod matrix;
mod packaging;
mod pem;
mod process;
mod progress;
mod release;
mod series;
mod setup;
mod signer;
mod system;
mod test;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Demo, Word};
use crate::error::{Error, Exit};

/// Chores of the livepatch workspace
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = error::EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Install the Debian packages that building and testing need
    Setup,
    /// Download and extract the kernels that demo.toml names, and what starts them under Secure Boot
    Fetch {
        /// Also those that only `test --long` needs
        #[arg(long)]
        long: bool,
    },
    /// Show the whole path: build a series, prove, sign, publish, apply in a VM; one fix more; revert, apply again
    Demo {
        /// Also write the session as a picture (SVG)
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
    },
    /// Judge the real changes from the source of a kernel in demo.toml to a later version
    Corpus {
        /// Version of the older source, for example 6.1.176-1
        #[arg(long, value_name = "VERSION")]
        from: String,
        /// Version of the newer source
        #[arg(long, value_name = "VERSION", value_parser = word)]
        to: Word,
        /// At most this many cases of each kind, spread evenly
        #[arg(long)]
        limit: Option<usize>,
        /// Only cases with this text in their name: a file or a CVE; may be given several times
        #[arg(long, value_name = "TEXT")]
        only: Vec<String>,
        /// A built checkout of kpatch: its verdict on the same objects is shown beside ours
        #[arg(long, value_name = "DIR")]
        kpatch: Option<PathBuf>,
    },
    /// Build, prove and sign the series of series/debian-12 for all of its kernels: an hour and more, 20 GB of disk
    Matrix {
        /// Only this kernel of the series, by its name; may be given several times
        #[arg(long, value_name = "NAME")]
        kernel: Vec<String>,
        /// How many kernels to build for at the same time [default: as many as there are cores]
        #[arg(long, value_name = "N")]
        jobs: Option<usize>,
    },
    /// Measure
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
    /// Set up, fetch, and run all tests, those in VMs too
    Test {
        /// Only this suite: a file or directory of a `tests` directory, for example `system`
        #[arg(long, value_name = "NAME", value_parser = word)]
        suite: Option<Word>,
        /// Also soaks, and that two release builds give the same bytes: an hour and more
        #[arg(long)]
        long: bool,
    },
    /// Give foreign bytes to every parser, for a while
    Fuzz {
        /// How long, for each target
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Where chance begins, not 0: the same inputs each time [default: other ones each time]
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
        seed: Option<u32>,
        /// Only this one: a file of fuzz/targets, without .rs
        target: Option<String>,
    },
    /// Make Debian packages
    Dist {
        #[command(flatten)]
        recipe: dist::Recipe,
        /// Where they go; nothing else stays there [default: target/dist/packages]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Put packages, checksums, bill of materials and changelog into target/release-VERSION
    Release {
        #[command(flatten)]
        recipe: dist::Recipe,
        /// Build everything twice: the bytes must be the same
        #[arg(long)]
        twice: bool,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// The builder: seconds from patch to livepatch, the cost of a changed header, the differ's time and memory
    Builder {
        /// A built checkout of kpatch: its differ is measured on the same objects
        #[arg(long, value_name = "DIR")]
        kpatch: Option<PathBuf>,
    },
    /// What a poll and a first contact cost a host, in bytes and requests, with 3,000 kernels; writes
    /// target/bench/trust.json
    Trust,
    /// What the installed client costs a host in a virtual machine: memory, wake-ups, answering times; as root, writes
    /// target/bench/client.json
    Client,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().chore {
        Chore::Setup => setup::setup(),
        Chore::Fetch { long } => fetch(long),
        Chore::Demo { record } => demo::demo(record.as_deref()),
        Chore::Corpus { from, to, limit, only, kpatch } => {
            corpus::corpus(&from, to, limit, &only, kpatch.as_deref())
        }
        Chore::Fuzz { seconds, seed, target } => fuzz::fuzz(seconds, seed, target.as_deref()),
        Chore::Bench { what: Bench::Builder { kpatch } } => bench::builder(kpatch.as_deref()),
        Chore::Bench { what: Bench::Trust } => bench::trust(),
        Chore::Bench { what: Bench::Client } => bench::client(),
        Chore::Matrix { kernel, jobs } => matrix::matrix(&kernel, jobs),
        Chore::Release { recipe, twice } => {
            let builds = if twice { release::Builds::Twice } else { release::Builds::Once };
            release::release(&recipe, builds).map(|folder| println!("{}", folder.display()))
        }
        Chore::Dist { recipe, out } => make_packages(&recipe, out),
        Chore::Test { suite, long } => {
            let length = if long { test::Length::Long } else { test::Length::Budget };
            setup::setup().and_then(|()| fetch(long)).and_then(|()| test::test(suite.as_ref(), length))
        }
    };
    match result {
        Ok(()) => Exit::Success.into(),
        Err(error) => {
            eprint!("{}", error.report());
            error.exit().into()
        }
    }
}

fn fetch(long: bool) -> Result<(), Error> {
    let path = livepatch_vm::testing::workspace().join("demo.toml");
    let demo = if long { Demo::read_all(&path)? } else { Demo::read(&path)? };
    let kernels = livepatch_vm::testing::kernels_directory();
    fetch::fetch(&demo, &kernels)?;
    fetch::fetch_boot_loaders(&kernels)
}

fn make_packages(recipe: &dist::Recipe, out: Option<PathBuf>) -> Result<(), Error> {
    setup::setup()?;
    for package in dist::dist(recipe, &out.unwrap_or_else(dist::default_directory))? {
        println!("{}", package.display());
    }
    Ok(())
}

fn word(text: &str) -> Result<Word, String> {
    Word::try_from(text.to_owned())
}
