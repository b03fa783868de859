//! New kernels of a distribution: found in a directory or an index, built for, proven, staged; what needs a person is told.
//!
//! One round looks at what is there and does what is not done, whatever was done before: it is the same after a kill, and
//! a round with nothing new is short. What is known of a kernel across rounds is only when it was first seen and when it
//! was staged.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use livepatch_kbuild::{Environment, KbuildError};
use livepatch_types::{Clock, CveId, PatchVersion, Sha256Digest, plural};
use serde::{Deserialize, Serialize};

use crate::error::ExitCode;
use crate::files::{read, write};
use crate::pipeline::Progress;
use crate::series::file::KernelEntry;
use crate::series::matrix::{self, Run, RunError, bundle_path};
use crate::series::outcome::{FixVerdict, KernelOutcome, KernelState, aligned};
use crate::series::packages::{FoundKernel, kernels, read_index};
use crate::series::proofs::{self, ProofState};
use crate::series::{OpenError, Series};

/// What to watch, and where results go.
pub struct Watch<'w> {
    /// The series.
    pub series: &'w Series,
    /// Where packages arrive.
    pub directory: &'w Path,
    /// apt's index of them (`Packages` or `Packages.xz`).
    pub index: Option<&'w Path>,
    /// Where prepared trees are kept.
    pub cache: &'w Path,
    /// Which compilers are used, and how they are kept apart.
    pub environment: &'w Environment,
    /// Where bundles and records are.
    pub out: &'w Path,
    /// Where proven bundles are put for whoever signs them.
    pub stage: &'w Path,
    /// How many kernels are built for at the same time.
    pub jobs: usize,
}

/// When things happened to a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Times {
    /// Version of this format: 1.
    schema: u32,
    /// The first round that saw it, in the index or in the directory.
    seen: Timestamp,
    /// What was staged.
    staged: Vec<Staged>,
}

/// A livepatch that was staged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Staged {
    version: PatchVersion,
    /// SHA-256 of its module, without signature.
    module: Sha256Digest,
    at: Timestamp,
}

/// What became of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchState {
    /// Its packages are not all there.
    Waiting,
    /// A proven livepatch was put where it is signed.
    Staged,
    /// An earlier round did that.
    StagedBefore,
    /// Its source has all fixes, or they concern other kernels.
    NothingToDo,
    /// There is no livepatch, or no proven one, until a person decides.
    NeedsPerson,
    /// Something is in the way; the next round tries again.
    Failed,
}

impl WatchState {
    fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting for packages",
            Self::Staged => "staged",
            Self::StagedBefore => "staged before",
            Self::NothingToDo => "nothing to do",
            Self::NeedsPerson => "needs a person",
            Self::Failed => "failed",
        }
    }
}

/// Something for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// The fix; none: the livepatch as a whole.
    pub cve: Option<CveId>,
    /// What about it.
    pub what: String,
}

/// One kernel in a round's table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Watched {
    /// Image package and its version.
    pub kernel: String,
    /// Version of the livepatch.
    pub version: PatchVersion,
    /// What became of it.
    pub state: WatchState,
    /// How many fixes the livepatch has whole, and how many partially.
    pub fixes: [usize; 2],
    /// How many fixes the kernel's source has already.
    pub contained: usize,
    /// What a person must look at. There may be a staged livepatch without it.
    pub person: Vec<Question>,
    /// What is waited for, or what failed.
    pub why: Vec<String>,
    /// The staged bundle.
    pub bundle: Option<PathBuf>,
    /// When it was first seen.
    pub seen: Timestamp,
    /// When it was staged.
    pub staged: Option<Timestamp>,
    /// Seconds from the first sight to the stage.
    pub seconds_to_stage: Option<i64>,
    /// The exit code for what failed.
    #[serde(skip)]
    pub failure: Option<ExitCode>,
}

/// Looks once, and does what is not done.
pub fn round(
    watch: &Watch<'_>,
    clock: &dyn Clock,
    progress: &Progress<'_>,
) -> Result<Vec<Watched>, RunError> {
    let index = match watch.index {
        Some(path) => Some(read_index(path)?),
        None => None,
    };
    let found = kernels(&watch.series.file.follows, watch.directory, index.as_deref())?;
    let (whole, waiting): (Vec<_>, Vec<_>) = found.into_iter().partition(|kernel| kernel.waiting.is_empty());
    let mut out = Vec::new();
    for kernel in waiting {
        let times = times(watch, &kernel.name, clock)?;
        out.push(Watched { why: kernel.waiting, ..watched(watch, &kernel.name, &times) });
    }
    // The time runs from the first sight, not from when the others before it are done.
    for kernel in &whole {
        times(watch, &kernel.name, clock)?;
    }
    if !whole.is_empty() {
        let series = series_of(watch, &whole);
        let run = Run {
            series: &series,
            kernels: &[],
            cache: watch.cache,
            environment: watch.environment,
            out: watch.out,
            previous: None,
            jobs: watch.jobs,
        };
        for outcome in matrix::run(&run, clock, progress)? {
            out.push(prove_and_stage(watch, &series, &outcome, clock, progress)?);
        }
    }
    out.sort_by(|one, other| one.kernel.cmp(&other.kernel));
    Ok(out)
}

/// The series with these kernels instead of its own.
fn series_of(watch: &Watch<'_>, kernels: &[FoundKernel]) -> Series {
    let mut series = watch.series.clone();
    series.packages.insert(0, watch.directory.to_owned());
    series.file.kernels = kernels
        .iter()
        .map(|kernel| {
            let [image, headers, source] = kernel.files.each_ref().map(PathBuf::from);
            KernelEntry {
                name: kernel.name.clone(),
                branch: kernel.branch.clone(),
                image: Some(image),
                headers: Some(headers),
                vmlinux: None,
                config: None,
                symvers: None,
                modules: None,
                source,
                source_patches: None,
            }
        })
        .collect();
    series
}

fn prove_and_stage(
    watch: &Watch<'_>,
    series: &Series,
    outcome: &KernelOutcome,
    clock: &dyn Clock,
    progress: &Progress<'_>,
) -> Result<Watched, RunError> {
    let mut times = times(watch, &outcome.kernel, clock)?;
    let version = series.file.version;
    let count = |verdict| outcome.fixes.iter().filter(|fix| fix.verdict == verdict).count();
    let mut row = Watched {
        fixes: [count(FixVerdict::Whole), count(FixVerdict::Partial)],
        contained: count(FixVerdict::Contained),
        person: outcome
            .fixes
            .iter()
            .filter(|fix| fix.verdict.is_open())
            .map(|fix| Question {
                cve: Some(fix.cve),
                what: fix.why.as_deref().map_or(fix.verdict.word().to_owned(), |why| {
                    format!("{}: {}", fix.verdict.word(), why.trim_end())
                }),
            })
            .collect(),
        failure: outcome.failure,
        ..watched(watch, &outcome.kernel, &times)
    };
    let Some(module) = outcome.module else {
        row.state = match outcome.state {
            KernelState::Failed => WatchState::Failed,
            KernelState::NothingToDo => WatchState::NothingToDo,
            KernelState::Built | KernelState::NeedsPerson => WatchState::NeedsPerson,
        };
        match (&outcome.why, row.state) {
            (Some(why), WatchState::NeedsPerson) => {
                row.person.push(Question { cve: None, what: why.clone() });
            }
            (why, _) => row.why.extend(why.clone()),
        }
        return Ok(row);
    };
    let proofs = proofs::prove(series, std::slice::from_ref(&outcome.kernel), watch.out, progress)?;
    for proof in proofs {
        let why = || proof.why.clone().unwrap_or_default();
        match proof.state {
            ProofState::Passed | ProofState::PassedBefore => {}
            ProofState::Failed => {
                row.state = WatchState::NeedsPerson;
                row.person.push(Question { cve: None, what: format!("the proof failed: {}", why()) });
                return Ok(row);
            }
            ProofState::NotTried | ProofState::NoLivepatch => {
                row.state = WatchState::Failed;
                row.why.push(format!("the proof was not tried: {}", why()));
                row.failure = Some(proof.failure.unwrap_or(ExitCode::Environment));
                return Ok(row);
            }
        }
    }
    let staged = bundle_path(watch.stage, &outcome.kernel, version);
    let at = match times.staged.iter().find(|staged| staged.version == version) {
        Some(done) if done.module != module.sha256 => {
            row.state = WatchState::NeedsPerson;
            let what = format!("{version} was staged with another content: raise `version` in series.toml");
            row.person.push(Question { cve: None, what });
            return Ok(row);
        }
        // Whoever signs takes it away; it is not staged again.
        Some(done) => {
            row.state = WatchState::StagedBefore;
            done.at
        }
        None => {
            make(staged.parent().unwrap_or(watch.stage))?;
            write(&staged, &read(&bundle_path(watch.out, &outcome.kernel, version))?)?;
            let at = clock.now();
            times.staged.push(Staged { version, module: module.sha256, at });
            write_times(watch, &outcome.kernel, &times)?;
            row.state = WatchState::Staged;
            at
        }
    };
    row.bundle = Some(staged);
    row.staged = Some(at);
    row.seconds_to_stage = Some(at.as_second() - row.seen.as_second());
    Ok(row)
}

fn watched(watch: &Watch<'_>, kernel: &str, times: &Times) -> Watched {
    Watched {
        kernel: kernel.to_owned(),
        version: watch.series.file.version,
        state: WatchState::Waiting,
        fixes: [0; 2],
        contained: 0,
        person: Vec::new(),
        why: Vec::new(),
        bundle: None,
        seen: times.seen,
        staged: None,
        seconds_to_stage: None,
        failure: None,
    }
}

fn times_path(watch: &Watch<'_>, kernel: &str) -> PathBuf {
    watch.out.join(kernel).join("watch.json")
}

/// What is known of a kernel; at its first sight, that it is seen now.
fn times(watch: &Watch<'_>, kernel: &str, clock: &dyn Clock) -> Result<Times, RunError> {
    let path = times_path(watch, kernel);
    if path.exists() {
        let format =
            |error: serde_json::Error| KbuildError::Format { path: path.clone(), why: error.to_string() };
        return Ok(serde_json::from_slice(&read(&path)?).map_err(format)?);
    }
    let times = Times { schema: 1, seen: clock.now(), staged: Vec::new() };
    make(path.parent().unwrap_or(watch.out))?;
    write_times(watch, kernel, &times)?;
    Ok(times)
}

fn write_times(watch: &Watch<'_>, kernel: &str, times: &Times) -> Result<(), RunError> {
    // Plain values of our own always serialise.
    Ok(write(&times_path(watch, kernel), &serde_json::to_vec_pretty(times).unwrap_or_default())?)
}

fn make(directory: &Path) -> Result<(), OpenError> {
    fs::create_dir_all(directory)
        .map_err(|source| KbuildError::Io { action: "make", path: directory.to_owned(), source }.into())
}

/// A table of all kernels, and below it what a person must look at and what is waited for.
pub fn table(kernels: &[Watched]) -> String {
    let head = ["kernel", "version", "whole", "partial", "contained", "person", "to stage", "state"];
    let mut rows = vec![head.map(str::to_owned)];
    for kernel in kernels {
        rows.push([
            kernel.kernel.clone(),
            kernel.version.to_string(),
            kernel.fixes[0].to_string(),
            kernel.fixes[1].to_string(),
            kernel.contained.to_string(),
            kernel.person.len().to_string(),
            kernel.seconds_to_stage.map_or("-".into(), |seconds| format!("{:.2} h", seconds as f64 / 3600.0)),
            kernel.state.word().to_owned(),
        ]);
    }
    let mut text = aligned(&rows);
    for kernel in kernels {
        for question in &kernel.person {
            let cve = question.cve.map(|cve| format!(" {cve}")).unwrap_or_default();
            text.push_str(&format!("\n{}{cve}: {}", kernel.kernel, question.what.trim_end()));
        }
        for why in &kernel.why {
            text.push_str(&format!("\n{}: {}", kernel.kernel, why.trim_end()));
        }
    }
    if kernels.iter().any(|kernel| !kernel.person.is_empty() || !kernel.why.is_empty()) {
        text.push('\n');
    }
    let staged = kernels.iter().filter(|kernel| kernel.state == WatchState::Staged).count();
    text.push_str(&format!("\n{} seen, {staged} staged now\n", plural(kernels.len(), "kernel", "kernels")));
    text
}

/// The exit code of a round: that of what failed first, or that a person has something to decide.
pub fn exit_code(kernels: &[Watched]) -> ExitCode {
    let person = kernels.iter().any(|kernel| !kernel.person.is_empty());
    match kernels.iter().find_map(|kernel| kernel.failure) {
        Some(failure) => failure,
        None if person => ExitCode::NeedsPerson,
        None => ExitCode::Success,
    }
}
