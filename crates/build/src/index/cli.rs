//! `livepatch-build index`.

use std::path::PathBuf;

use livepatch_archive::pockets::SHIPPED;
use livepatch_archive::{PocketTable, Standing};
use livepatch_kbuild::KbuildError;
use livepatch_types::{Clock, plural};
use serde::Serialize;

use super::error::WalkError;
use super::fetch::RepositoryUrl;
use super::sources::{Source, of_this_machine, parse_name};
use super::walk::{SuiteReport, Walk, open, walk};
use crate::cli::{Format, Shown, json, with_progress};
use crate::error::ExitCode;
use crate::files::read;
use crate::series::outcome::aligned;

/// What to look at.
#[derive(Debug, clap::Args)]
pub(crate) struct IndexArguments {
    /// The index; it may be there already, and keeps what it has
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Root of an archive (http, https or file) [default: the sources of this machine's apt, as far as the table of pockets
    /// knows their suites]
    #[arg(long, value_name = "URL", value_parser = RepositoryUrl::parse, requires = "suite")]
    repository: Option<RepositoryUrl>,
    /// Suite, by its codename, such as bookworm-security; may be given several times
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    suite: Vec<String>,
    /// Component of the suites; may be given several times
    #[arg(long, value_name = "NAME", value_parser = parse_name, default_value = "main", requires = "repository")]
    component: Vec<String>,
    /// The keys that sign the archive [default: those that the table of pockets names]
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Only packages of this name, in which one `*` stands for any text; may be given several times
    #[arg(long, value_name = "PATTERN")]
    package: Vec<String>,
    /// Table of official pockets, instead of the one that this program comes with
    #[arg(long, value_name = "FILE")]
    pockets: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct IndexReport {
    /// How many kernels the index has.
    kernels: usize,
    /// What became of each suite.
    suites: Vec<SuiteReport>,
}

impl From<WalkError> for Shown {
    fn from(error: WalkError) -> Self {
        Self { hint: error.hint(), code: error.exit_code(), message: error.to_string() }
    }
}

pub(crate) fn run(arguments: &IndexArguments, clock: &dyn Clock) -> Result<(String, ExitCode), Shown> {
    let pockets = pockets(arguments)?;
    let sources = sources(arguments, &pockets)?;
    let request =
        Walk { sources: &sources, packages: &arguments.package, pockets: &pockets, out: &arguments.out };
    let suites = with_progress(|progress| walk(&request, clock, progress))?;
    let report = IndexReport { kernels: open(&arguments.out)?.count(), suites };
    let unread = report.suites.iter().any(|suite| !suite.unread.is_empty());
    let text = if arguments.format == Format::Json { json(&report) } else { table(&report) };
    Ok((text, if unread { ExitCode::Kernel } else { ExitCode::Success }))
}

fn pockets(arguments: &IndexArguments) -> Result<PocketTable, Shown> {
    let Some(path) = &arguments.pockets else {
        return PocketTable::parse(SHIPPED).map_err(|error| wrong(error.to_string()));
    };
    let text = String::from_utf8(read(path)?)
        .map_err(|_| KbuildError::Format { path: path.clone(), why: "it is not UTF-8 text".into() })?;
    PocketTable::parse(&text).map_err(|error| wrong(format!("{}: {error}", path.display())))
}

fn wrong(message: String) -> Shown {
    Shown { message, hint: "docs/kernel-index.md describes the table".into(), code: ExitCode::Usage }
}

fn sources(arguments: &IndexArguments, pockets: &PocketTable) -> Result<Vec<Source>, Shown> {
    let IndexArguments { repository, suite, component, keyring, .. } = arguments;
    let mut sources = match repository {
        Some(repository) => suite
            .iter()
            .map(|suite| Source {
                repository: repository.clone(),
                suite: suite.clone(),
                components: component.clone(),
                keyring: None,
            })
            .collect(),
        None => of_this_machine(pockets).map_err(WalkError::from)?,
    };
    sources.retain(|source| suite.is_empty() || suite.contains(&source.suite));
    for source in &mut sources {
        source.keyring.clone_from(keyring);
    }
    if sources.is_empty() {
        return Err(Shown {
            message: "apt has no such source whose suite is in the table of pockets".into(),
            hint: "say where the packages are: --repository URL --suite NAME".into(),
            code: ExitCode::Usage,
        });
    }
    Ok(sources)
}

fn table(report: &IndexReport) -> String {
    let head = ["suite", "pocket", "standing", "of", "kernels", "fetched", "unread"];
    let mut rows = vec![head.map(str::to_owned)];
    for suite in &report.suites {
        rows.push([
            suite.suite.clone(),
            format!("{} {}", suite.distribution, suite.pocket),
            suite.standing.word().to_owned(),
            suite.date.to_string(),
            suite.packages.to_string(),
            suite.fetched.to_string(),
            suite.unread.len().to_string(),
        ]);
    }
    let mut text = aligned(&rows);
    for suite in &report.suites {
        for unread in &suite.unread {
            text.push_str(&format!("\n{} {}: {}", unread.package, unread.version, unread.why));
        }
    }
    if report.suites.iter().any(|suite| !suite.unread.is_empty()) {
        text.push('\n');
    }
    if report.suites.iter().all(|suite| suite.standing == Standing::NotOfficial) {
        text.push_str("\nnone of these suites is official: hosts with these kernels are told so\n");
    }
    text.push_str(&format!("\nthe index has {}\n", plural(report.kernels, "kernel", "kernels")));
    text
}
