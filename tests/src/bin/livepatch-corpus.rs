//! Judges real changes between two versions of a kernel's source: `cargo xtask corpus` calls it.
//!
//! Two kinds of case for the older kernel: the whole difference of one C file, and single fixes carved out by the
//! titles of the changelog. Each is built (what must be left out is left out and counted as partial); a sample is
//! loaded into the real kernel, one after another: load, transition, log, revert, unload. With `--kpatch` the same
//! objects are given to kpatch, and where its verdict differs a table says why.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use livepatch_build::error::BuildError;
use livepatch_build::pipeline::{Built, KernelRequest, LivepatchRequest, Omissions, PatchRequest, Workbench};
use livepatch_build::report::Finding;
use livepatch_kbuild::{Environment, KbuildError, KernelOrigin};
use livepatch_tests::corpus::{Case, Row, Tally, fixes_by_title, source_of, spread, whole_file_changes};
use livepatch_tests::kpatch::{self, Kpatch};
use livepatch_tests::livepatch_request;
use livepatch_types::{CveCoverage, SystemClock, plural};
use livepatch_vm::{BootSpec, Command, Guest, Initramfs, KernelTree, Network};

/// Judge real changes between two versions of a kernel's source.
#[derive(Debug, Parser)]
struct Arguments {
    /// Directory of the older kernel's image package.
    #[arg(long)]
    kernel: PathBuf,
    /// Directory of its headers packages.
    #[arg(long)]
    headers: PathBuf,
    /// Its source package.
    #[arg(long)]
    source: PathBuf,
    /// The newer source, unpacked.
    #[arg(long)]
    newer: PathBuf,
    /// Changelog of the newer source, unpacked.
    #[arg(long)]
    changelog: PathBuf,
    /// Version of the older source; the changelog is read down to it.
    #[arg(long)]
    from: String,
    /// Where prepared trees are kept.
    #[arg(long)]
    cache: PathBuf,
    /// At most this many cases of each kind, spread evenly.
    #[arg(long)]
    limit: Option<usize>,
    /// Only cases with one of these texts in their name.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// How many of the built ones are loaded into the real kernel.
    #[arg(long, default_value_t = 12)]
    sample: usize,
    /// A built checkout of kpatch, whose verdicts are compared.
    #[arg(long)]
    kpatch: Option<PathBuf>,
    /// Where to write summary.json and cases.jsonl.
    #[arg(long)]
    out: PathBuf,
}

/// How one case came out.
struct Outcome {
    verdict: &'static str,
    rule: String,
    why: String,
    functions: Vec<String>,
    seconds: f64,
    module: Option<Vec<u8>>,
    kpatch: Option<kpatch::Verdict>,
}

fn judge(bench: &Workbench, kpatch: Option<&Kpatch>, case: &Case) -> Result<Outcome, Box<dyn Error>> {
    let patches = PatchRequest { patches: vec![case.patch.clone()], arguments: Vec::new() };
    let livepatch = LivepatchRequest { omissions: Omissions::MakePartial, ..livepatch_request() };
    let start = Instant::now();
    let compiled = match bench.compile(&patches, &|_| ()) {
        Ok(compiled) => compiled,
        Err(error) => return Ok(outcome(Err(error), start)),
    };
    let build =
        |patches: &PatchRequest| bench.build_compiled(&compiled, patches, &livepatch, &SystemClock, &|_| ());
    let outcome = match build(&patches) {
        // A changed layout is never partial, and here is nobody to judge it: what comes of it is built, and counted as
        // what a person must look at.
        Err(BuildError::NeedsPerson { places }) => {
            let place = |text: &String| text.rsplit_once(" in ").map(|(place, _)| place.to_owned());
            let argue = |place| (place, "the corpus has nobody who could judge it".to_owned());
            let arguments = places.iter().filter_map(place).map(argue).collect();
            let argued = outcome(build(&PatchRequest { arguments, ..patches.clone() }), start);
            let partial = argued.verdict == "built_whole";
            Outcome { verdict: if partial { "built_partial" } else { argued.verdict }, ..argued }
        }
        result => outcome(result, start),
    };
    let kpatch = kpatch.map(|kpatch| kpatch.judge(bench, compiled.pairs())).transpose()?;
    Ok(Outcome { kpatch, ..outcome })
}

fn outcome(result: Result<Built, BuildError>, start: Instant) -> Outcome {
    let seconds = start.elapsed().as_secs_f64();
    let plain = |verdict, rule: &str, why: String| Outcome {
        verdict,
        rule: rule.to_owned(),
        why,
        functions: Vec::new(),
        seconds,
        module: None,
        kpatch: None,
    };
    match result {
        Ok(built) => {
            let whole = built.bundle.manifest.cves.iter().all(|cve| cve.coverage == CveCoverage::Whole);
            let found = |text: fn(&Finding) -> String| {
                built
                    .report
                    .findings
                    .iter()
                    .map(text)
                    .collect::<BTreeSet<_>>()
                    .into_iter()
                    .collect::<Vec<_>>()
            };
            let rules = found(|f| f.rule.clone()).join(" ");
            let places = found(|f| format!("{} {}: {}", f.rule, f.place, f.why)).join("; ");
            let functions = built.report.units.iter().flat_map(|u| u.changed_functions.clone()).collect();
            let verdict = if whole { "built_whole" } else { "built_partial" };
            Outcome { functions, module: Some(built.bundle.module), ..plain(verdict, &rules, places) }
        }
        Err(BuildError::NoChange(why)) => plain("no_change", "", why),
        Err(BuildError::Refused { unit, refusal }) => {
            plain("refused", refusal.rule.name(), format!("{unit}: {refusal}"))
        }
        Err(BuildError::NothingLeft { findings }) => {
            let verdict = if findings.iter().all(is_without_effect) { "no_effect" } else { "refused" };
            let rules: BTreeSet<&str> = findings.iter().map(|f| f.rule.as_str()).collect();
            let places: Vec<String> = findings.iter().map(|f| format!("{} in {}", f.place, f.unit)).collect();
            plain(verdict, &Vec::from_iter(rules).join(" "), places.join("; "))
        }
        Err(BuildError::Kbuild(KbuildError::Failed { what, output })) if what.contains("with the patch") => {
            plain("does_not_compile", "", output)
        }
        Err(BuildError::Kbuild(KbuildError::Scope(why))) => plain("refused", "scope", why),
        Err(other) => plain("failed", "", other.to_string()),
    }
}

/// Whether what was left out is nothing that code of the running kernel can come to: an export, of which no module that
/// exists knows, or what runs when its module comes or goes.
fn is_without_effect(finding: &Finding) -> bool {
    match finding.rule.as_str() {
        "init-changed" => true,
        "table-changed" => finding.place.starts_with("___ksymtab") || finding.place == "__ksymtab_strings",
        _ => false,
    }
}

/// Loads and unloads modules one after another in one guest; the names of those that did, and what went wrong.
fn prove(kernel: &Path, modules: &[(String, Vec<u8>)]) -> Result<(usize, Vec<String>), Box<dyn Error>> {
    const SHORT: Duration = Duration::from_secs(120);
    const STATE: &str = "/sys/kernel/livepatch/livepatch_1_1";
    let tree = KernelTree::open(kernel)?;
    let mut initramfs = Initramfs::new()?;
    for (index, (_, module)) in modules.iter().enumerate() {
        initramfs.file(&format!("/modules/{index}.ko"), 0o644, module.clone())?;
    }
    let spec = BootSpec::new(tree.vmlinuz(), initramfs.build());
    let guest = Guest::boot(&BootSpec { network: Network::None, ..spec })?;
    let (mut proven, mut problems) = (0, Vec::new());
    for (index, (name, _)) in modules.iter().enumerate() {
        let step = || -> Result<(), Box<dyn Error>> {
            let mark = guest.mark()?;
            guest.check(&Command::new("insmod").arg(format!("/modules/{index}.ko")), SHORT)?;
            guest.wait_for(&Command::new("cat").arg(format!("{STATE}/transition")), "0", SHORT)?;
            guest.check(&Command::shell(format!("echo 0 > {STATE}/enabled")), SHORT)?;
            guest.wait_for(&Command::shell(format!("test -e {STATE} || echo gone")), "gone", SHORT)?;
            guest.check(&Command::new("rmmod").arg("livepatch_1_1"), SHORT)?;
            let said = livepatch_vm::problems_in(&guest.console_since(mark)?);
            if said.is_empty() { Ok(()) } else { Err(format!("the kernel log says {said:?}").into()) }
        };
        match step() {
            Ok(()) => proven += 1,
            Err(error) => problems.push(format!("{name}: {error}")),
        }
    }
    guest.shutdown()?;
    Ok((proven, problems))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let request = KernelRequest {
        kernel: KernelOrigin::Packages {
            image: arguments.kernel.clone(),
            headers: arguments.headers.clone(),
        },
        source: arguments.source.clone(),
        source_patches: None,
        environment: Environment::new(&arguments.cache),
        cache: arguments.cache.clone(),
    };
    let bench = Workbench::open(&request, &|text| println!("{text}"))?;
    println!("looking for changes");
    let older = bench.tree().path();
    let sources: Vec<String> = bench.tree().units().names().map(source_of).collect();
    let whole = whole_file_changes(older, &arguments.newer, &sources)?;
    let changelog = std::fs::read_to_string(&arguments.changelog)?;
    let fixes = fixes_by_title(&changelog, &arguments.from, &whole);
    println!("{} C files of this kernel changed; {} fixes were carved by title", whole.len(), fixes.len());
    let wanted = |case: &Case| {
        arguments.only.is_empty() || arguments.only.iter().any(|text| case.name.contains(text.as_str()))
    };
    let limited = |cases: Vec<Case>| spread(cases.into_iter().filter(wanted).collect(), arguments.limit);
    let cases: Vec<Case> = limited(whole).into_iter().chain(limited(fixes)).collect();

    let kpatch = arguments.kpatch.as_deref().map(|checkout| Kpatch::open(checkout, &bench)).transpose()?;

    std::fs::create_dir_all(&arguments.out)?;
    let mut lines = std::fs::File::create(arguments.out.join("cases.jsonl"))?;
    let mut tally = Tally::default();
    let mut sample: Vec<(String, Vec<u8>)> = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let outcome = judge(&bench, kpatch.as_ref(), case)?;
        let first = outcome.why.lines().next().unwrap_or_default();
        println!(
            "{:>4}/{} {:<16} {:<9} {:>5.1} s  {} {first}",
            index + 1,
            cases.len(),
            outcome.verdict,
            outcome.kpatch.as_ref().map_or("-", kpatch::Verdict::word),
            outcome.seconds,
            case.name
        );
        let theirs = outcome.kpatch.as_ref().map(kpatch::Verdict::text);
        let line = serde_json::json!({
            "kind": case.kind, "case": case.name, "verdict": outcome.verdict, "rule": outcome.rule, "why": outcome.why,
            "seconds": outcome.seconds, "functions": outcome.functions, "kpatch": theirs,
        });
        writeln!(lines, "{line}")?;
        tally.add(Row {
            case: case.name.clone(),
            verdict: outcome.verdict,
            rule: outcome.rule,
            why: outcome.why,
            kpatch: outcome.kpatch,
        });
        sample.extend(outcome.module.map(|module| (case.name.clone(), module)));
    }
    let sample = spread(sample, Some(arguments.sample));
    println!("loading {} of the built ones into the kernel", sample.len());
    let (proven, problems) = prove(&arguments.kernel, &sample)?;

    println!("\n{}", tally.table());
    if kpatch.is_none() {
        println!("SKIPPED: kpatch's verdicts (no --kpatch)");
    }
    problems.iter().for_each(|problem| println!("FAILED in the kernel: {problem}"));
    let failed = tally.count("failed") + problems.len();
    let mut summary = serde_json::json!({
        "cases": tally.compiled(),
        "does_not_compile": tally.count("does_not_compile"),
        "built_whole": tally.count("built_whole"),
        "built_partial": tally.count("built_partial"),
        "no_change": tally.count("no_change"),
        "no_effect": tally.count("no_effect"),
        "refused": tally.count("refused"),
        "failed": failed,
        "proven_in_vm": proven,
        "kpatch_built": null, "kpatch_no_change": null, "kpatch_refused": null, "differing": null, "unexplained": null,
    });
    if kpatch.is_some() {
        summary["kpatch_built"] = tally.theirs("ok").into();
        summary["kpatch_no_change"] = tally.theirs("no change").into();
        summary["kpatch_refused"] = tally.theirs("refused").into();
        summary["differing"] = tally.differing().count().into();
        summary["unexplained"] = tally.differing().filter(|row| row.explanation().is_none()).count().into();
    }
    std::fs::write(arguments.out.join("summary.json"), format!("{summary:#}\n"))?;
    println!("{summary:#}");
    if failed > 0 { Err(format!("{} failed", plural(failed, "case", "cases")).into()) } else { Ok(()) }
}
