//! A series for many kernels: in parallel, and going on where an earlier run ended.
//!
//! Below the output directory each kernel has a directory of its name with `livepatch_1_1.lpb` and the record
//! `livepatch_1_1.json`. The record is written last, and holds the digest of all that the result follows from: a kernel
//! whose record has the digest that this run computes is finished. A signed bundle is never replaced.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use livepatch_kbuild::{Environment, KbuildError, KernelOrigin, PackagedPatches, SourceOrigin};
use livepatch_manifest::{Bundle, PatchManifest, sha256};
use livepatch_types::{Clock, PatchVersion, Sha256Digest};

use crate::error::{BuildError, ExitCode};
use crate::files::{read, write};
use crate::pipeline::{KernelRequest, Progress, Workbench};
use crate::series::file::KernelEntry;
use crate::series::kernel::{self, Wanted};
use crate::series::outcome::{BuiltModule, FixVerdict, KernelOutcome, KernelState};
use crate::series::{Fix, OpenError, Series};

/// Directory for debug information, beside the bundles of a kernel.
const DEBUG: &str = "debug";
/// Changes when the same inputs would give another result.
const INPUTS_FORMAT: &str =
    concat!("livepatch series, format 1, livepatch-build ", env!("CARGO_PKG_VERSION"));

/// What to build, and where.
pub struct Run<'r> {
    /// The series.
    pub series: &'r Series,
    /// Names of the kernels; all when empty.
    pub kernels: &'r [String],
    /// Where prepared trees are kept.
    pub cache: &'r Path,
    /// Which compilers are used, and how they are kept apart.
    pub environment: &'r Environment,
    /// Where bundles and records go.
    pub out: &'r Path,
    /// The livepatch before, or a directory like `out` with the livepatches before. Those in `out` count as well.
    pub previous: Option<&'r Path>,
    /// How many kernels at the same time.
    pub jobs: usize,
}

/// Why a run did not begin, or what is in one kernel's way.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The series is wrong.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A build failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The series has no such kernel.
    #[error("the series has no kernel {0:?}")]
    NoKernel(String),
    /// Another run works there.
    #[error("another run works in {0}")]
    Busy(PathBuf),
    /// A signed bundle would be replaced.
    #[error("{0} is signed, and was made of something else")]
    Taken(PathBuf),
    /// The livepatch before is for another kernel, or is no earlier one.
    #[error("{path} cannot be the livepatch before: {why}")]
    Previous {
        /// The bundle.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

impl From<KbuildError> for RunError {
    fn from(error: KbuildError) -> Self {
        Self::Build(error.into())
    }
}

impl RunError {
    /// What to do about it.
    pub fn hint(&self) -> Cow<'static, str> {
        let text = match self {
            Self::Open(error) => return error.hint(),
            Self::Build(error) => return error.hint(),
            Self::NoKernel(_) => "--kernel takes the name of a [[kernel]] of series.toml",
            Self::Busy(_) => "wait for it, or give another directory",
            Self::Taken(_) => "a version that is signed stays as it is: raise `version` in series.toml",
            Self::Previous { .. } => "give a bundle of an earlier version for the same kernel",
        };
        text.into()
    }

    /// The exit code for it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Open(OpenError::Kbuild(error)) => BuildError::exit_code_of(error),
            Self::Open(OpenError::NotFound(_)) | Self::Busy(_) => ExitCode::Environment,
            Self::Open(_) | Self::NoKernel(_) | Self::Taken(_) | Self::Previous { .. } => ExitCode::Usage,
            Self::Build(error) => error.exit_code(),
        }
    }
}

/// Builds; the outcomes in the order of the series. What is in one kernel's way does not stop the others.
pub fn run(
    run: &Run<'_>,
    clock: &dyn Clock,
    progress: &Progress<'_>,
) -> Result<Vec<KernelOutcome>, RunError> {
    let kernels = wanted_kernels(run.series, run.kernels)?;
    fs::create_dir_all(run.out).map_err(|source| KbuildError::Io {
        action: "make",
        path: run.out.into(),
        source,
    })?;
    let lock_path = run.out.join(".lock");
    let lock = File::create(&lock_path).map_err(|source| KbuildError::Io {
        action: "write",
        path: lock_path,
        source,
    })?;
    if lock.try_lock().is_err() {
        return Err(RunError::Busy(run.out.into()));
    }
    let fixes = run.series.fixes(
        kernels.iter().map(|kernel| kernel.branch.as_str()),
        run.cache,
        run.environment,
        progress,
    )?;
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<(usize, KernelOutcome)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..run.jobs.clamp(1, kernels.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(kernel) = kernels.get(index) else { break };
                    let said = |text: &str| progress(&format!("{}: {text}", kernel.name));
                    let outcome = one(run, kernel, &fixes, clock, &said);
                    said(&outcome.one_line());
                    outcomes.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((index, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    outcomes.sort_by_key(|(index, _)| *index);
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}

/// The kernels of these names, in the order of the series.
pub fn wanted_kernels<'s>(series: &'s Series, names: &[String]) -> Result<Vec<&'s KernelEntry>, RunError> {
    let all = &series.file.kernels;
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|kernel| kernel.name != **name)) {
        return Err(RunError::NoKernel(unknown.clone()));
    }
    Ok(all.iter().filter(|kernel| names.is_empty() || names.contains(&kernel.name)).collect())
}

/// Where a kernel's bundle of a version is.
pub fn bundle_path(out: &Path, kernel: &str, version: PatchVersion) -> PathBuf {
    out.join(kernel).join(format!("{}.lpb", version.module_name()))
}

fn one(
    run: &Run<'_>,
    kernel: &KernelEntry,
    fixes: &BTreeMap<String, Vec<Fix>>,
    clock: &dyn Clock,
    progress: &Progress<'_>,
) -> KernelOutcome {
    let watch = Instant::now();
    let fixes = fixes.get(&kernel.branch).map(Vec::as_slice).unwrap_or_default();
    let mut outcome = match try_one(run, kernel, fixes, clock, progress) {
        Ok(outcome) => outcome,
        Err(error) => KernelOutcome {
            state: KernelState::Failed,
            why: Some(format!("{error}\nhint: {}", error.hint())),
            failure: Some(error.exit_code()),
            ..KernelOutcome::new(&kernel.name, run.series.file.version)
        },
    };
    outcome.seconds = (watch.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    outcome
}

fn try_one(
    run: &Run<'_>,
    entry: &KernelEntry,
    fixes: &[Fix],
    clock: &dyn Clock,
    progress: &Progress<'_>,
) -> Result<KernelOutcome, RunError> {
    let version = run.series.file.version;
    let request = run.series.kernel_request(entry, run.cache, run.environment)?;
    let previous = previous(run, &entry.name, version)?;
    let inputs = inputs(run.series, entry, &request, fixes, previous.as_ref())?;
    let bundle_path = bundle_path(run.out, &entry.name, version);
    let record_path = bundle_path.with_extension("json");
    if let Some(finished) = finished(&record_path, &bundle_path, inputs) {
        return Ok(finished);
    }
    if bundle_path.exists() && Bundle::parse(&read(&bundle_path)?).is_ok_and(|b| b.signature.is_some()) {
        return Err(RunError::Taken(bundle_path));
    }
    let bench = Workbench::open(&request, progress)?;
    let release = bench.identity().release.to_string();
    if release != entry.branch && !release.starts_with(&format!("{}.", entry.branch)) {
        let why = format!("is said to be of branch {}, but its release is {release}", entry.branch);
        return Err(KbuildError::Format { path: PathBuf::from(&entry.name), why }.into());
    }
    if let Some((path, before)) = &previous
        && before.kernel != *bench.identity()
    {
        let why = format!("it is for {} ({})", before.kernel.release, before.kernel.build_id);
        return Err(RunError::Previous { path: path.clone(), why });
    }
    let wanted = Wanted {
        kernel: &entry.name,
        version,
        fixes,
        withdrawn: &run.series.file.withdrawn,
        previous: previous.as_ref().map(|(_, manifest)| manifest),
    };
    let result = kernel::build(&bench, &wanted, clock, progress)?;
    let open = result.fixes.iter().any(|fix| fix.verdict.is_open()) || result.why.is_some();
    let state = match &result.bundle {
        _ if open => KernelState::NeedsPerson,
        Some(_) => KernelState::Built,
        None => KernelState::NothingToDo,
    };
    let outcome = KernelOutcome {
        inputs: Some(inputs),
        identity: Some(bench.identity().clone()),
        state,
        why: result.why,
        fixes: result.fixes,
        previous: previous.map(|(_, manifest)| manifest.version),
        module: result.bundle.as_ref().map(|bundle| BuiltModule {
            sha256: bundle.manifest.module.sha256,
            size_bytes: bundle.manifest.module.size_bytes,
        }),
        debug: result.debug.as_ref().map(|debug| Path::new(DEBUG).join(debug.path())),
        ..KernelOutcome::new(&entry.name, version)
    };
    let directory = run.out.join(&entry.name);
    fs::create_dir_all(&directory).map_err(|source| KbuildError::Io {
        action: "make",
        path: directory,
        source,
    })?;
    if let Some(debug) = &result.debug {
        debug.write(&run.out.join(&entry.name).join(DEBUG))?;
    }
    match &result.bundle {
        Some(bundle) => write(&bundle_path, &bundle.to_bytes())?,
        // What an earlier run made of other inputs.
        None if bundle_path.exists() => fs::remove_file(&bundle_path).map_err(|source| KbuildError::Io {
            action: "remove",
            path: bundle_path.clone(),
            source,
        })?,
        None => {}
    }
    // Plain values of our own always serialise.
    write(&record_path, &serde_json::to_vec_pretty(&outcome).unwrap_or_default())?;
    Ok(outcome)
}

/// The outcome of an earlier run with the same inputs.
fn finished(record: &Path, bundle: &Path, inputs: Sha256Digest) -> Option<KernelOutcome> {
    let outcome: KernelOutcome = serde_json::from_slice(&fs::read(record).ok()?).ok()?;
    let module = match fs::read(bundle) {
        Ok(bytes) => Some(unsigned_module(&Bundle::parse(&bytes).ok()?)),
        Err(_) => None,
    };
    let same = outcome.inputs == Some(inputs) && outcome.module.map(|module| module.sha256) == module;
    same.then_some(KernelOutcome { resumed: true, ..outcome })
}

/// Digest of a bundle's module without its signature.
pub fn unsigned_module(bundle: &Bundle) -> Sha256Digest {
    sha256(livepatch_modsig::split(&bundle.module).map_or(bundle.module.as_slice(), |signed| signed.content))
}

/// The newest livepatch for this kernel that is older than this version.
fn previous(
    run: &Run<'_>,
    kernel: &str,
    version: PatchVersion,
) -> Result<Option<(PathBuf, PatchManifest)>, RunError> {
    if let Some(path) = run.previous.filter(|path| path.is_file()) {
        let bundle = Bundle::parse(&read(path)?).map_err(BuildError::from)?;
        if bundle.manifest.version >= version {
            let why = format!("it is {}, not older than {version}", bundle.manifest.version);
            return Err(RunError::Previous { path: path.to_owned(), why });
        }
        return Ok(Some((path.to_owned(), bundle.manifest)));
    }
    let mut found: Option<(PathBuf, PatchManifest)> = None;
    for directory in run.previous.into_iter().chain([run.out]) {
        let Ok(entries) = fs::read_dir(directory.join(kernel)) else { continue };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.extension().is_none_or(|extension| extension != "lpb") {
                continue;
            }
            let manifest = Bundle::parse(&read(&path)?).map_err(BuildError::from)?.manifest;
            let newest = found.as_ref().is_none_or(|(_, known)| known.version < manifest.version);
            if manifest.version < version && newest {
                found = Some((path, manifest));
            }
        }
    }
    Ok(found)
}

/// Digest of all that the result follows from.
fn inputs(
    series: &Series,
    entry: &KernelEntry,
    request: &KernelRequest,
    fixes: &[Fix],
    previous: Option<&(PathBuf, PatchManifest)>,
) -> Result<Sha256Digest, RunError> {
    let mut parts = vec![INPUTS_FORMAT.to_owned(), series.file.version.to_string(), entry.branch.clone()];
    match &request.kernel {
        KernelOrigin::Packages { image, headers } => {
            parts.extend([digest_of(image, "boot")?, digest_of(headers, "usr/src")?]);
        }
        KernelOrigin::Own { vmlinux, config, symvers, .. } => {
            for path in [vmlinux, config, symvers] {
                parts.push(digest_of(path, "")?);
            }
        }
    }
    parts.push(match SourceOrigin::new(&request.source)? {
        SourceOrigin::Package(path) => digest_of(&path, "")?,
        SourceOrigin::Tree(path) => format!("tree {}", path.display()),
    });
    parts.extend(request.source_patches.as_ref().map(PackagedPatches::identity).transpose()?);
    // What `Debug` says of plain values has every one of them.
    parts.extend(fixes.iter().map(|fix| format!("{fix:?}")));
    parts.push(format!("{:?}", series.file.withdrawn));
    parts.extend(previous.map(|(_, manifest)| format!("{} {:?}", manifest.version, manifest.cves)));
    let mut text = String::new();
    for part in parts {
        text.push_str(&format!("{} {part}\n", part.len()));
    }
    Ok(sha256(text.as_bytes()))
}

/// Digest of a file. A directory of packages' files stands for those in it that tell kernels apart.
fn digest_of(path: &Path, below: &str) -> Result<String, RunError> {
    if path.is_file() {
        return Ok(sha256(&read(path)?).to_string());
    }
    let mut out = String::new();
    let mut directories = vec![path.join(below)];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).map_err(|source| KbuildError::Io {
            action: "read",
            path: directory.clone(),
            source,
        })?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let tells = matches!(&*name, ".config" | "Module.symvers") || name.starts_with("vmlinuz-");
            if tells && path.is_file() {
                out.push_str(&format!("{name} {}\n", sha256(&read(&path)?)));
            } else if directory.ends_with("src") && path.is_dir() {
                directories.push(path);
            }
        }
    }
    Ok(out)
}

/// The exit code of a run: that of the first kernel that failed, or that a person has something to decide.
pub fn exit_code(outcomes: &[KernelOutcome]) -> ExitCode {
    let needs = outcomes.iter().any(|outcome| outcome.state == KernelState::NeedsPerson);
    match outcomes.iter().find_map(|outcome| outcome.failure) {
        Some(failure) => failure,
        None if needs => ExitCode::NeedsPerson,
        None => ExitCode::Success,
    }
}

impl KernelOutcome {
    fn one_line(&self) -> String {
        let whole = self.fixes.iter().filter(|fix| fix.verdict == FixVerdict::Whole).count();
        let before = if self.resumed { " before" } else { "" };
        format!("{}{before}, {whole} of {} fixes in the livepatch", self.state.word(), self.fixes.len())
    }
}
