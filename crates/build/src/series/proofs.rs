//! Proofs of a series' livepatches: one virtual machine at a time, for each is as large as a machine.

use std::path::Path;
use std::time::Instant;

use livepatch_manifest::{Bundle, ProofResult};
use livepatch_types::{PatchVersion, plural};
use serde::Serialize;

use crate::error::{BuildError, ExitCode};
use crate::files::{read, write};
use crate::pipeline::Progress;
use crate::prove::{self, Check, ProofRequest, ProveError};
use crate::series::file::KernelEntry;
use crate::series::matrix::{RunError, bundle_path, wanted_kernels};
use crate::series::outcome::aligned;
use crate::series::{OpenError, Series};

/// What came of one kernel's proof.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Proven {
    /// Name of the kernel in the series.
    pub kernel: String,
    /// Version of the livepatch.
    pub version: PatchVersion,
    /// What came of it.
    pub state: ProofState,
    /// Why, where a person should know.
    pub why: Option<String>,
    /// How many steps were done.
    pub steps: usize,
    /// How many fixes have a check program that was run.
    pub checks: usize,
    /// The livepatch that it was exchanged with.
    pub previous: Option<PatchVersion>,
    /// How long this run worked on it.
    pub seconds: f64,
    /// The exit code for what stood in the way.
    #[serde(skip)]
    pub failure: Option<ExitCode>,
}

/// What came of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofState {
    /// It passed.
    Passed,
    /// It passed in an earlier run.
    PassedBefore,
    /// There is no livepatch for this kernel.
    NoLivepatch,
    /// A step failed.
    Failed,
    /// It could not be tried.
    NotTried,
}

impl ProofState {
    fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::PassedBefore => "passed before",
            Self::NoLivepatch => "no livepatch",
            Self::Failed => "FAILED",
            Self::NotTried => "not tried",
        }
    }
}

/// Proves what is not proven yet.
pub fn prove(
    series: &Series,
    kernels: &[String],
    out: &Path,
    progress: &Progress<'_>,
) -> Result<Vec<Proven>, RunError> {
    let mut proofs = Vec::new();
    for kernel in wanted_kernels(series, kernels)? {
        let said = |text: &str| progress(&format!("{}: {text}", kernel.name));
        let watch = Instant::now();
        let none = Proven {
            kernel: kernel.name.clone(),
            version: series.file.version,
            state: ProofState::NotTried,
            why: None,
            steps: 0,
            checks: 0,
            previous: None,
            seconds: 0.0,
            failure: None,
        };
        let proven = one(series, kernel, out, none.clone(), &said).unwrap_or_else(|error| Proven {
            why: Some(format!("{error}\nhint: {}", error.hint())),
            failure: Some(ExitCode::Environment),
            ..none
        });
        said(proven.state.word());
        proofs.push(Proven { seconds: (watch.elapsed().as_secs_f64() * 10.0).round() / 10.0, ..proven });
    }
    Ok(proofs)
}

/// The programs that tell of the fixes in a bundle.
fn checks(series: &Series, kernel: &KernelEntry, bundle: &Bundle) -> Result<Vec<Check>, ProveError> {
    let in_bundle = |cve| bundle.manifest.cves.iter().any(|entry| entry.id == cve);
    let mut checks = Vec::new();
    for fix in series.file.fixes_of(&kernel.branch).filter(|fix| in_bundle(fix.cve)) {
        if let Some(path) = &fix.check {
            checks.push(prove::read_check(fix.cve, &series.directory.join(path), &fix.needs)?);
        }
    }
    Ok(checks)
}

fn one(
    series: &Series,
    kernel: &KernelEntry,
    out: &Path,
    none: Proven,
    progress: &Progress<'_>,
) -> Result<Proven, ProveError> {
    let path = bundle_path(out, &kernel.name, series.file.version);
    if !path.exists() {
        return Ok(Proven { state: ProofState::NoLivepatch, ..none });
    }
    let bundle = Bundle::parse(&read(&path)?).map_err(BuildError::from)?;
    let content = livepatch_modsig::split(&bundle.module).map_or(bundle.module.as_slice(), |s| s.content);
    let known = bundle.parsed_proof().map_err(BuildError::from)?;
    if let Some(proof) = known.filter(|proof| proof.is_of(content, &bundle.manifest.kernel)) {
        return Ok(Proven {
            state: ProofState::PassedBefore,
            steps: proof.steps.len(),
            checks: proof.checks.len(),
            previous: proof.previous,
            ..none
        });
    }
    let previous = previous(out, &kernel.name, &bundle)?;
    let image = kernel.image.as_ref().map(|image| series.locate(image)).transpose();
    let image = match image {
        Ok(Some(image)) => image,
        Ok(None) => {
            return Ok(Proven { why: Some("a kernel of one's own is not booted yet".into()), ..none });
        }
        Err(error) => return Err(open_error(error)),
    };
    let checks = checks(series, kernel, &bundle)?;
    let request =
        ProofRequest { bundle: &bundle, kernel: &image, checks: &checks, previous: previous.as_ref() };
    let proof = prove::prove(&request, progress)?;
    let failed =
        proof.steps.iter().find_map(|step| Some(format!("{}: {}", step.what, step.failure.as_ref()?)));
    let passed = proof.result == ProofResult::Passed;
    let proven = Proven {
        state: if passed { ProofState::Passed } else { ProofState::Failed },
        why: failed,
        steps: proof.steps.len(),
        checks: proof.checks.len(),
        previous: proof.previous,
        failure: (!passed).then_some(ExitCode::Unproven),
        ..none
    };
    let bundle = bundle.with_proof(&proof).map_err(BuildError::from)?;
    write(&path, &bundle.to_bytes())?;
    Ok(proven)
}

fn open_error(error: OpenError) -> ProveError {
    let why = error.to_string();
    livepatch_kbuild::KbuildError::Missing { path: Path::new(super::file::FILE_NAME).into(), what: why }
        .into()
}

/// The newest older livepatch of this kernel.
fn previous(out: &Path, kernel: &str, bundle: &Bundle) -> Result<Option<Bundle>, ProveError> {
    let mut found: Option<Bundle> = None;
    let Ok(entries) = std::fs::read_dir(out.join(kernel)) else { return Ok(None) };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.extension().is_none_or(|extension| extension != "lpb") {
            continue;
        }
        let other = Bundle::parse(&read(&path)?).map_err(BuildError::from)?;
        let version = other.manifest.version;
        let older = version < bundle.manifest.version && other.manifest.kernel == bundle.manifest.kernel;
        if older && found.as_ref().is_none_or(|known| known.manifest.version < version) {
            found = Some(other);
        }
    }
    Ok(found)
}

/// A table of all proofs, and below it why some failed.
pub fn table(proofs: &[Proven]) -> String {
    let mut rows =
        vec![["kernel", "version", "before", "steps", "checks", "seconds", "proof"].map(str::to_owned)];
    for proof in proofs {
        rows.push([
            proof.kernel.clone(),
            proof.version.to_string(),
            proof.previous.map_or("-".into(), |version| version.to_string()),
            proof.steps.to_string(),
            proof.checks.to_string(),
            format!("{:.1}", proof.seconds),
            proof.state.word().to_owned(),
        ]);
    }
    let mut text = aligned(&rows);
    for proof in proofs {
        if let Some(why) = &proof.why {
            text.push_str(&format!("\n{}: {}\n", proof.kernel, why.trim_end()));
        }
    }
    let proven =
        proofs.iter().filter(|p| matches!(p.state, ProofState::Passed | ProofState::PassedBefore)).count();
    text.push_str(&format!(
        "\n{} of {}\n",
        plural(proven, "proof", "proofs"),
        plural(proofs.len(), "kernel", "kernels")
    ));
    text
}

/// The exit code of a run.
pub fn exit_code(proofs: &[Proven]) -> ExitCode {
    proofs.iter().find_map(|proof| proof.failure).unwrap_or(ExitCode::Success)
}
