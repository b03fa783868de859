//! One cumulative livepatch for one kernel, and what becomes of each fix.
//!
//! All fixes that apply are built together; when that works, which is the rule, no fix is looked at alone. When it does
//! not, fixes are added one by one, so that it is known which of them stands in the way, and the others are built.

use std::path::Path;

use livepatch_kbuild::{KbuildError, PatchState, PatchedFile, SourcePatch};
use livepatch_manifest::{Bundle, CveEntry, PatchManifest, PatchSources, SourceEntry};
use livepatch_types::{Clock, CveCoverage, PatchVersion};

use crate::debug_file::DebugFile;
use crate::error::BuildError;
use crate::files::read;
use crate::pipeline::{Built, LivepatchRequest, Omissions, PatchRequest, Progress, Workbench};
use crate::report::{Finding, Verdict};
use crate::series::Fix;
use crate::series::file::Withdrawn;
use crate::series::outcome::{FixOutcome, FixVerdict};
use crate::units;

/// What a livepatch is to be.
pub struct Wanted<'w> {
    /// Name of the kernel in the series.
    pub kernel: &'w str,
    /// Its version.
    pub version: PatchVersion,
    /// The fixes for this kernel's branch.
    pub fixes: &'w [Fix],
    /// CVEs that an earlier livepatch fixed.
    pub withdrawn: &'w [Withdrawn],
    /// The livepatch before.
    pub previous: Option<&'w PatchManifest>,
}

/// What came out.
pub struct Outcome {
    /// The unsigned bundle, if there is one.
    pub bundle: Option<Bundle>,
    /// Debug information of its module.
    pub debug: Option<DebugFile>,
    /// What became of each fix, in the order of the series.
    pub fixes: Vec<FixOutcome>,
    /// Why there is no bundle although there are fixes.
    pub why: Option<String>,
}

/// A fix that applies.
struct Applying<'f> {
    index: usize,
    fix: &'f Fix,
    /// Those of the fix, and those that put the author's code into this kernel's source.
    patches: Vec<String>,
    coverage: CveCoverage,
}

/// Builds the livepatch of all fixes that can be in one.
pub fn build(
    bench: &Workbench,
    wanted: &Wanted<'_>,
    clock: &dyn Clock,
    progress: &Progress<'_>,
) -> Result<Outcome, BuildError> {
    let mut fixes: Vec<FixOutcome> = wanted
        .fixes
        .iter()
        .map(|fix| FixOutcome { cve: fix.entry.cve, verdict: FixVerdict::Whole, why: None })
        .collect();
    let mut applying = those_that_apply(bench, wanted, &mut fixes)?;
    if applying.is_empty() {
        return Ok(without_bundle(wanted, fixes, &[]));
    }
    let mut built = together(bench, wanted, &applying, clock, progress);
    if matches!(&built, Err(error) if is_about_the_patch(error)) {
        progress("looking at the fixes one by one");
        applying = one_by_one(bench, applying, &mut fixes, progress)?;
        built = together(bench, wanted, &applying, clock, progress);
    }
    let Built { mut bundle, report, debug } = match built {
        Ok(built) => built,
        Err(BuildError::NoChange(_)) => {
            for fix in &applying {
                fixes[fix.index].verdict = FixVerdict::NotAffected;
            }
            return Ok(without_bundle(wanted, fixes, &[]));
        }
        Err(other) => return Err(other),
    };
    // A fix none of whose units came out changed does nothing here: its CVE is none of this livepatch.
    let changed: Vec<&str> = report
        .units
        .iter()
        .filter(|unit| !unit.changed_functions.is_empty())
        .map(|unit| unit.unit.as_str())
        .collect();
    let scratch = tempfile::tempdir().map_err(|source| KbuildError::Io {
        action: "make a directory in",
        path: std::env::temp_dir(),
        source,
    })?;
    for fix in &applying {
        let patches = parsed(&fix.patches)?;
        let concerned = units::concerned(bench.tree(), &patches, scratch.path(), &|_| ())?;
        let verdict = match fix.coverage {
            _ if !concerned.iter().any(|(unit, _)| changed.contains(&unit.as_str())) => {
                FixVerdict::NotAffected
            }
            CveCoverage::Whole => FixVerdict::Whole,
            CveCoverage::Partial => FixVerdict::Partial,
        };
        fixes[fix.index].verdict = verdict;
    }
    bundle
        .manifest
        .cves
        .retain(|cve| fixes.iter().any(|fix| fix.cve == cve.id && fix.verdict != FixVerdict::NotAffected));
    let lost = losses(wanted.previous, &bundle.manifest.cves, wanted.withdrawn);
    if !lost.is_empty() {
        return Ok(without_bundle(wanted, fixes, &lost));
    }
    let bundle = bundle.with_sources(&sources(&applying))?;
    // A livepatch is as good without: that is no reason to go without fixes.
    let debug = debug.and_then(|debug| debug.inspect_err(|error| progress(&error.to_string())).ok());
    Ok(Outcome { bundle: Some(bundle), debug, fixes, why: None })
}

/// No bundle: that is only right if the one before has nothing that would be lost.
fn without_bundle(wanted: &Wanted<'_>, fixes: Vec<FixOutcome>, lost: &[String]) -> Outcome {
    let lost = if lost.is_empty() { losses(wanted.previous, &[], wanted.withdrawn) } else { lost.to_vec() };
    let why = (!lost.is_empty()).then(|| format!("a livepatch would lose fixes: {}", lost.join("; ")));
    Outcome { bundle: None, debug: None, fixes, why }
}

/// What the livepatch before has and these CVEs have not, unless it is withdrawn.
pub fn losses(previous: Option<&PatchManifest>, cves: &[CveEntry], withdrawn: &[Withdrawn]) -> Vec<String> {
    let mut lost = Vec::new();
    for before in previous.iter().flat_map(|manifest| &manifest.cves) {
        if withdrawn.iter().any(|entry| entry.cve == before.id) {
            continue;
        }
        match cves.iter().find(|cve| cve.id == before.id) {
            None => lost.push(format!("{} is fixed by the one before", before.id)),
            Some(now) if (before.coverage, now.coverage) == (CveCoverage::Whole, CveCoverage::Partial) => {
                lost.push(format!("{} is fixed whole by the one before", before.id));
            }
            Some(_) => {}
        }
    }
    lost
}

fn parsed(patches: &[String]) -> Result<Vec<SourcePatch>, KbuildError> {
    patches.iter().map(|text| SourcePatch::parse(text)).collect()
}

/// The fixes whose patches apply, one upon the other; what becomes of the others is written down.
fn those_that_apply<'f>(
    bench: &Workbench,
    wanted: &Wanted<'f>,
    outcomes: &mut [FixOutcome],
) -> Result<Vec<Applying<'f>>, BuildError> {
    let tree = bench.tree().path();
    let mut files: Vec<PatchedFile> = Vec::new();
    let mut out = Vec::new();
    for (index, fix) in wanted.fixes.iter().enumerate() {
        if let Some(except) = fix.entry.except.iter().find(|except| except.kernel == wanted.kernel) {
            outcomes[index].verdict = FixVerdict::LeftOut;
            outcomes[index].why = Some(except.reason.clone());
            continue;
        }
        let (mut made, mut contained, mut odd) = (files.clone(), 0, None);
        for patch in parsed(&fix.patches)? {
            match patch.state(tree, &made)? {
                PatchState::Applies => patch.apply(tree, &mut made)?,
                PatchState::Contained => contained += 1,
                PatchState::InPart(files) => {
                    odd = Some(format!(
                        "the kernel's source has it in {}, and not elsewhere",
                        files.join(", ")
                    ));
                }
                PatchState::DoesNotApply { file, why } => odd = Some(format!("{file}: {why}")),
            }
        }
        match odd {
            None if contained == fix.patches.len() => outcomes[index].verdict = FixVerdict::Contained,
            None if contained == 0 => match with_code(tree, fix, &mut made)? {
                Ok(patches) => {
                    files = made;
                    out.push(Applying { index, fix, patches, coverage: CveCoverage::Whole });
                }
                Err(why) => {
                    outcomes[index].verdict = FixVerdict::DoesNotApply;
                    outcomes[index].why = Some(why);
                }
            },
            odd => {
                outcomes[index].verdict = FixVerdict::DoesNotApply;
                let some = "the kernel's source has some of its patches, and not others".to_owned();
                outcomes[index].why = Some(odd.unwrap_or(some));
            }
        }
    }
    Ok(out)
}

/// The fix's patches, and those that put the author's code in front of its line; or why that line is not there. The code
/// goes into the source as the fixes before have left it, so it needs no context that may differ from kernel to kernel.
fn with_code(
    tree: &Path,
    fix: &Fix,
    files: &mut Vec<PatchedFile>,
) -> Result<Result<Vec<String>, String>, BuildError> {
    let mut patches = fix.patches.clone();
    for (author, code) in fix.entry.author.iter().zip(&fix.code) {
        let old = match files.iter().find(|file| file.path == author.file) {
            Some(file) => file.content.clone(),
            None => match read(&tree.join(&author.file)).map(String::from_utf8) {
                Ok(Ok(text)) => text,
                _ => return Ok(Err(format!("{}: the kernel's source has no such text file", author.file))),
            },
        };
        let Some(at) = line_with(&old, &author.before) else {
            return Ok(Err(format!("{}: no line has {:?}", author.file, author.before)));
        };
        let new = format!("{}{}\n{}", &old[..at], code.trim_end(), &old[at..]);
        let patch = match livepatch_carve::carve(&author.file, &old, &new, None) {
            Ok(patch) => patch,
            Err(error) => return Ok(Err(format!("{}: {error}", author.file))),
        };
        SourcePatch::parse(&patch)?.apply(tree, files)?;
        patches.push(patch);
    }
    Ok(Ok(patches))
}

/// Where the first line with a text begins.
fn line_with(text: &str, wanted: &str) -> Option<usize> {
    let found = text.find(wanted)?;
    Some(text[..found].rfind('\n').map_or(0, |end| end + 1))
}

/// The patches of these fixes, and what people say about them.
fn request(applying: &[Applying<'_>]) -> PatchRequest {
    let arguments = applying.iter().flat_map(|fix| &fix.fix.entry.arguments);
    PatchRequest {
        patches: applying.iter().flat_map(|fix| fix.patches.clone()).collect(),
        arguments: arguments.map(|argument| (argument.place.clone(), argument.reason.clone())).collect(),
    }
}

fn sources(applying: &[Applying<'_>]) -> PatchSources {
    let entries = applying.iter().flat_map(|fix| {
        fix.patches.iter().map(|text| SourceEntry {
            cves: vec![fix.fix.entry.cve],
            upstream: fix.fix.entry.upstream.clone(),
            r#override: fix.fix.entry.r#override.as_ref().map(|reason| reason.reason.clone()),
            text: text.clone(),
        })
    });
    PatchSources { schema: 1, patches: entries.collect(), arguments: request(applying).arguments }
}

fn together(
    bench: &Workbench,
    wanted: &Wanted<'_>,
    applying: &[Applying<'_>],
    clock: &dyn Clock,
    progress: &Progress<'_>,
) -> Result<Built, BuildError> {
    if applying.is_empty() {
        return Err(BuildError::NoChange("no fix is left".into()));
    }
    let partial = applying.iter().any(|fix| fix.coverage == CveCoverage::Partial);
    let cves = applying.iter().map(|Applying { fix, coverage, .. }| CveEntry {
        id: fix.entry.cve,
        coverage: *coverage,
        rating: fix.entry.rating,
        title: fix.entry.title.clone(),
    });
    let livepatch = LivepatchRequest {
        cves: cves.collect(),
        version: wanted.version,
        omissions: if partial { Omissions::AsStated } else { Omissions::MustBeArgued },
        keep_debug: true,
    };
    bench.build(&request(applying), &livepatch, clock, progress)
}

/// Whether it is a fix that stands in the way, and not something here.
fn is_about_the_patch(error: &BuildError) -> bool {
    match error {
        BuildError::Refused { .. } | BuildError::NeedsPerson { .. } => true,
        BuildError::Kbuild(error) => is_of_a_patch(error),
        _ => false,
    }
}

fn is_of_a_patch(error: &KbuildError) -> bool {
    match error {
        KbuildError::Scope(_) | KbuildError::Patch(_) | KbuildError::DoesNotApply { .. } => true,
        KbuildError::Failed { what, .. } => what.ends_with("with the patch"),
        _ => false,
    }
}

/// Adds one fix after the other; those that stand in the way are left out and written down.
fn one_by_one<'f>(
    bench: &Workbench,
    applying: Vec<Applying<'f>>,
    outcomes: &mut [FixOutcome],
    progress: &Progress<'_>,
) -> Result<Vec<Applying<'f>>, BuildError> {
    let mut good: Vec<Applying<'f>> = Vec::new();
    let mut known: Vec<Finding> = Vec::new();
    for fix in applying {
        let (index, entry) = (fix.index, &fix.fix.entry);
        good.push(fix);
        let (verdict, findings, why) = match bench.check(&request(&good), progress) {
            Ok(report) => (report.verdict, report.findings, None),
            Err(BuildError::Kbuild(error)) if is_of_a_patch(&error) => {
                (Verdict::Cannot, Vec::new(), Some(error.to_string()))
            }
            Err(other) => return Err(other),
        };
        let new: Vec<&Finding> =
            findings.iter().filter(|f| f.argument.is_none() && !known.contains(f)).collect();
        let places: Vec<String> =
            new.iter().map(|f| format!("{} in {}: {} (rule {})", f.place, f.unit, f.why, f.rule)).collect();
        let outcome = match verdict {
            Verdict::Ok => None,
            Verdict::NotAffected => Some(FixVerdict::NotAffected),
            Verdict::NeedsPerson if new.is_empty() => None,
            Verdict::NeedsPerson if entry.partial.is_some() && new.iter().all(|f| f.can_be_partial()) => {
                if let Some(last) = good.last_mut() {
                    last.coverage = CveCoverage::Partial;
                }
                outcomes[index].why = Some(places.join("; "));
                None
            }
            Verdict::NeedsPerson => Some(FixVerdict::NeedsPerson),
            Verdict::Cannot => Some(FixVerdict::Cannot),
        };
        match outcome {
            None => known = findings,
            Some(verdict) => {
                good.pop();
                outcomes[index].verdict = verdict;
                let why = why.unwrap_or_else(|| places.join("; "));
                outcomes[index].why = (verdict != FixVerdict::NotAffected).then_some(why);
            }
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use livepatch_manifest::ModuleObject;
    use livepatch_types::{
        Architecture, BuildId, CveId, KernelIdentity, KernelRelease, Rating, Sha256Digest,
    };

    use super::*;

    #[test]
    fn code_goes_in_front_of_a_line() {
        assert_eq!(line_with("int a;\nint b(void)\n", "b("), Some(7));
        assert_eq!(line_with("int a;\n", "int"), Some(0));
        assert_eq!(line_with("int a;\n", "b("), None);
    }

    fn cve(number: u32, coverage: CveCoverage) -> CveEntry {
        let id = CveId::parse(&format!("CVE-2026-{number}")).unwrap();
        CveEntry { id, coverage, rating: Rating::High, title: String::new() }
    }

    fn before(cves: Vec<CveEntry>) -> PatchManifest {
        PatchManifest {
            schema: 1,
            version: PatchVersion::default(),
            kernel: KernelIdentity {
                architecture: Architecture::Amd64,
                release: KernelRelease::parse("6.1.0-50-cloud-amd64").unwrap(),
                build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
            },
            module: ModuleObject { sha256: Sha256Digest::from_bytes([0; 32]), size_bytes: 0 },
            objects: vec![],
            cves,
            built: jiff::Timestamp::UNIX_EPOCH,
            compiler: String::new(),
            sections: Default::default(),
        }
    }

    #[test]
    fn nothing_that_was_fixed_is_lost_unless_it_is_withdrawn() {
        use CveCoverage::{Partial, Whole};
        let old = before(vec![cve(1111, Whole), cve(2222, Partial), cve(3333, Whole)]);
        let lost = |now: &[CveEntry], withdrawn: &[u32]| {
            let entries: Vec<Withdrawn> = withdrawn
                .iter()
                .map(|number| Withdrawn { cve: cve(*number, Whole).id, reason: "r".into() })
                .collect();
            losses(Some(&old), now, &entries)
        };
        let all = [cve(1111, Whole), cve(2222, Whole), cve(3333, Whole), cve(4444, Whole)];
        assert_eq!(lost(&all, &[]), [""; 0]);
        assert_eq!(lost(&all[..2], &[]), ["CVE-2026-3333 is fixed by the one before"]);
        assert_eq!(lost(&all[..2], &[3333]), [""; 0]);
        let worse = [cve(1111, Partial), cve(2222, Partial), cve(3333, Whole)];
        assert_eq!(lost(&worse, &[]), ["CVE-2026-1111 is fixed whole by the one before"]);
        assert_eq!(losses(None, &[], &[]), [""; 0]);
    }
}
