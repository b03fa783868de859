//! `livepatch-build series`.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use livepatch_kbuild::ToolchainChoice;
use livepatch_types::SystemClock;

use crate::cli::{Format, Shown, json, with_progress};
use crate::error::ExitCode;
use crate::series::matrix::{self, Run, RunError};
use crate::series::outcome::{KernelOutcome, table};
use crate::series::proofs::{self, Proven};
use crate::series::watch::{self, Watch, Watched};
use crate::series::{OpenError, Series};
use crate::toolchain::EnvironmentArguments;

/// Commands on series.
#[derive(Debug, clap::Args)]
pub(crate) struct SeriesArguments {
    #[command(subcommand)]
    action: SeriesAction,
}

#[derive(Debug, Subcommand)]
enum SeriesAction {
    /// Build the livepatch of a series for its kernels. What an earlier run finished is not built again. Exits with 0 (all
    /// built), 8 (a person has something to decide), or the code of what failed first.
    Build(BuildArguments),
    /// Prove the livepatches of a series, one after another, each in a virtual machine with its kernel. What is proven
    /// already is not proven again. Exits with 0, or with 9 when a proof failed.
    Prove(ProveArguments),
}

/// A series, its kernels, and where results are.
#[derive(Debug, clap::Args)]
pub(crate) struct SeriesInput {
    /// Directory with series.toml
    series: PathBuf,
    /// A kernel of the series, by its name; may be given several times
    #[arg(long, value_name = "NAME", required_unless_present = "all")]
    kernel: Vec<String>,
    /// All kernels of the series
    #[arg(long, conflicts_with = "kernel")]
    all: bool,
    /// Directory with packages that the series names; may be given several times
    #[arg(long, value_name = "DIR")]
    packages: Vec<PathBuf>,
    /// Where bundles and their records are, in a directory for each kernel
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    environment: EnvironmentArguments,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct BuildArguments {
    #[command(flatten)]
    input: SeriesInput,
    /// The livepatch before (a bundle), or a directory like --out with those before; those in --out count as well
    #[arg(long, value_name = "FILE|DIR")]
    previous: Option<PathBuf>,
    /// How many kernels to work on at the same time [default: as many as there are cores]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
}

#[derive(Debug, clap::Args)]
struct ProveArguments {
    #[command(flatten)]
    input: SeriesInput,
}

/// What to watch.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchArguments {
    /// Directory with series.toml, whose [[follow]] tables say which kernels to look for
    series: PathBuf,
    /// Where the distribution's packages arrive
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// apt's index of these packages (`Packages` or `Packages.xz`): only files that it lists, with its sizes and digests,
    /// are taken. Without it a package is taken when it is all there
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// Directory with further packages that the series names; may be given several times
    #[arg(long, value_name = "DIR")]
    packages: Vec<PathBuf>,
    /// Where bundles and their records are, in a directory for each kernel
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where proven bundles are put for whoever signs and publishes them
    #[arg(long, value_name = "DIR")]
    stage: PathBuf,
    /// Look once and end. Exits with 0, 8 (a person has something to decide), or the code of what failed first
    #[arg(long)]
    once: bool,
    /// Seconds from the end of a round to the next one
    #[arg(long, value_name = "SECONDS", default_value_t = 300, conflicts_with = "once")]
    every: u64,
    /// How many kernels to work on at the same time [default: as many as there are cores]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    #[command(flatten)]
    environment: EnvironmentArguments,
    /// How to print each round's table; JSON is one line a round
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl From<RunError> for Shown {
    fn from(error: RunError) -> Self {
        Self { hint: error.hint().into_owned(), code: error.exit_code(), message: error.to_string() }
    }
}

impl From<OpenError> for Shown {
    fn from(error: OpenError) -> Self {
        RunError::from(error).into()
    }
}

pub(crate) fn run_series(arguments: &SeriesArguments) -> ExitCode {
    match &arguments.action {
        SeriesAction::Build(arguments) => match build(arguments) {
            Ok(outcomes) => print_outcomes(&outcomes, arguments.input.format),
            Err(shown) => shown.print(),
        },
        SeriesAction::Prove(arguments) => match prove(arguments) {
            Ok(proofs) => print_proofs(&proofs, arguments.input.format),
            Err(shown) => shown.print(),
        },
    }
}

fn build(arguments: &BuildArguments) -> Result<Vec<KernelOutcome>, Shown> {
    let input = &arguments.input;
    let series = Series::open(&input.series, &input.packages)?;
    let (cache, environment) = input.environment.open(ToolchainChoice::default())?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let run = Run {
        series: &series,
        kernels: &input.kernel,
        cache: &cache,
        environment: &environment,
        out: &input.out,
        previous: arguments.previous.as_deref(),
        jobs: arguments.jobs.unwrap_or(cores),
    };
    Ok(with_progress(|progress| matrix::run(&run, &SystemClock, progress))?)
}

fn prove(arguments: &ProveArguments) -> Result<Vec<Proven>, Shown> {
    let input = &arguments.input;
    let series = Series::open(&input.series, &input.packages)?;
    Ok(with_progress(|progress| proofs::prove(&series, &input.kernel, &input.out, progress))?)
}

/// Watches until it is told to end; after each round its table is printed, when it says something new.
pub(crate) fn run_watch(arguments: &WatchArguments) -> ExitCode {
    let mut last = None;
    loop {
        let code = match watch_once(arguments) {
            Ok(kernels) => {
                let code = watch::exit_code(&kernels);
                if last.as_ref() != Some(&kernels) && !print_watched(&kernels, arguments.format) {
                    return ExitCode::Environment;
                }
                last = Some(kernels);
                code
            }
            Err(shown) => shown.print(),
        };
        if arguments.once {
            return code;
        }
        pause(Duration::from_secs(arguments.every));
    }
}

#[expect(clippy::disallowed_methods, reason = "between two rounds there is nothing to wait for but the time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn watch_once(arguments: &WatchArguments) -> Result<Vec<Watched>, Shown> {
    // Read anew in each round: a fix may have come.
    let series = Series::open(&arguments.series, &arguments.packages)?;
    let (cache, environment) = arguments.environment.open(ToolchainChoice::default())?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let watch = Watch {
        series: &series,
        directory: &arguments.directory,
        index: arguments.index.as_deref(),
        cache: &cache,
        environment: &environment,
        out: &arguments.out,
        stage: &arguments.stage,
        jobs: arguments.jobs.unwrap_or(cores),
    };
    Ok(with_progress(|progress| watch::round(&watch, &SystemClock, progress))?)
}

fn print_watched(kernels: &[Watched], format: Format) -> bool {
    let text = match format {
        Format::Json => serde_json::to_string(&kernels).unwrap_or_default() + "\n",
        Format::Text => watch::table(kernels),
    };
    anstream::stdout().write_all(text.as_bytes()).is_ok()
}

fn print_proofs(proofs: &[Proven], format: Format) -> ExitCode {
    let text = if format == Format::Json { json(&proofs) } else { proofs::table(proofs) };
    let written = anstream::stdout().write_all(text.as_bytes());
    if written.is_ok() { proofs::exit_code(proofs) } else { ExitCode::Environment }
}

fn print_outcomes(outcomes: &[KernelOutcome], format: Format) -> ExitCode {
    let text = if format == Format::Json { json(&outcomes) } else { table(outcomes) };
    let written = anstream::stdout().write_all(text.as_bytes());
    if written.is_ok() { matrix::exit_code(outcomes) } else { ExitCode::Environment }
}
