//! Measures the builder on a real kernel: `cargo xtask bench builder` calls it.
//!
//! What is compared runs by turns, because other work on the machine would otherwise decide the comparison.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Parser;
use livepatch_build::pipeline::{CompiledPair, KernelRequest, PatchRequest, Workbench, build};
use livepatch_kbuild::{CompilerCommand, Environment, KbuildError, KernelOrigin};
use livepatch_tests::corpus::{source_of, spread, whole_file_changes};
use livepatch_tests::kpatch::{self, Kpatch};
use livepatch_tests::livepatch_request;
use livepatch_types::SystemClock;
use serde_json::{Value, json};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// How often a short thing is measured; the median counts.
const ROUNDS: usize = 3;

/// Measure the builder on a real kernel.
#[derive(Debug, Parser)]
struct Arguments {
    /// Directory of the kernel's image package.
    #[arg(long)]
    kernel: PathBuf,
    /// Directory of its headers packages.
    #[arg(long)]
    headers: PathBuf,
    /// The image package itself.
    #[arg(long)]
    image_package: PathBuf,
    /// The headers package with configuration and `Module.symvers`.
    #[arg(long)]
    headers_package: PathBuf,
    /// The source package.
    #[arg(long)]
    source: PathBuf,
    /// A newer source, unpacked: its changes make the pairs of objects.
    #[arg(long)]
    newer: PathBuf,
    /// Where prepared trees are kept.
    #[arg(long)]
    cache: PathBuf,
    /// Patches of one file each.
    #[arg(long = "patch", required = true)]
    patches: Vec<PathBuf>,
    /// The header that is changed.
    #[arg(long)]
    header: String,
    /// How many changed files make pairs of objects.
    #[arg(long, default_value_t = 40)]
    pairs: usize,
    /// The program that compares one pair of objects.
    #[arg(long)]
    differ: PathBuf,
    /// A built checkout of kpatch.
    #[arg(long)]
    kpatch: Option<PathBuf>,
    /// Where the figures go.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let patches: Vec<String> = arguments.patches.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    let kernel = KernelRequest {
        kernel: KernelOrigin::Packages {
            image: arguments.kernel.clone(),
            headers: arguments.headers.clone(),
        },
        source: arguments.source.clone(),
        source_patches: None,
        environment: Environment::new(&arguments.cache),
        cache: arguments.cache.clone(),
    };
    drop(Workbench::open(&kernel, &|text| println!("{text}"))?);

    let mut figures = json!({ "cores": std::thread::available_parallelism().map_or(1, usize::from) });
    one_file(&kernel, &patches, &mut figures)?;
    header(&kernel, &arguments.header, &patches[0], &mut figures)?;
    differ(&arguments, &kernel, &mut figures)?;
    from_packages(&arguments, &patches[0], &mut figures)?;

    println!("\n{}", table(&figures));
    if arguments.kpatch.is_none() {
        println!("SKIPPED: kpatch's time on the same objects (no --kpatch)");
    }
    fs::write(&arguments.out, format!("{figures:#}\n"))?;
    println!("{}", arguments.out.display());
    Ok(())
}

/// From patches to a bundle, as `livepatch-build build` does it; and how many units were compiled.
fn timed_build(kernel: &KernelRequest, patches: &[&str]) -> Result<(Cost, usize)> {
    let patches = patches.iter().map(|text| (*text).to_owned()).collect();
    let (start, before) = (Instant::now(), cpu_seconds()?);
    let request = PatchRequest { patches, arguments: Vec::new() };
    let built = build(kernel, &request, &livepatch_request(), &SystemClock, &|_| ())?;
    Ok((Cost::since(start, before)?, built.report.units_compiled))
}

fn one_file(kernel: &KernelRequest, patches: &[String], figures: &mut Value) -> Result<()> {
    println!("building fixes of one file, {ROUNDS} times each");
    let (mut wall, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for patch in patches {
            let cost = timed_build(kernel, &[patch])?.0;
            wall.push(cost.wall);
            cpu.push(cost.cpu);
        }
    }
    figures["one_file_fix_seconds"] = rounded(median(&mut wall));
    figures["one_file_fix_cpu_seconds"] = rounded(median(&mut cpu));
    Ok(())
}

fn from_packages(arguments: &Arguments, patch: &str, figures: &mut Value) -> Result<()> {
    println!("building from packages, with an empty cache");
    let cache = tempfile::tempdir_in(&arguments.cache)?;
    let kernel = KernelRequest {
        kernel: KernelOrigin::Packages {
            image: arguments.image_package.clone(),
            headers: arguments.headers_package.clone(),
        },
        source: arguments.source.clone(),
        source_patches: None,
        environment: Environment::new(&arguments.cache),
        cache: cache.path().into(),
    };
    let cost = timed_build(&kernel, &[patch])?.0;
    figures["from_packages_seconds"] = rounded(cost.wall);
    figures["from_packages_cpu_seconds"] = rounded(cost.cpu);
    Ok(())
}

/// A header and a function change; against only running the compiler as often on the same units.
fn header(kernel: &KernelRequest, header: &str, fix: &str, figures: &mut Value) -> Result<()> {
    let bench = Workbench::open(kernel, &|_| ())?;
    let text = fs::read_to_string(bench.tree().path().join(header))?;
    let patch =
        header_patch(header, &text).ok_or("the header includes nothing, so there is no place for a line")?;
    let patches = PatchRequest { patches: vec![patch.clone(), fix.to_owned()], arguments: Vec::new() };
    println!("finding the units that include {header}");
    let concerned = bench.concerned(&patches, &|_| ())?;
    drop(bench);
    let (first, second) = concerned.split_at(concerned.len() / 2);
    println!("compiling {} objects twice, only the compiler, first half", concerned.len());
    let mut bare = bare(kernel, first)?;
    println!("building a livepatch of the same change");
    let (ours, objects) = timed_build(kernel, &[&patch, fix])?;
    println!("compiling, only the compiler, second half");
    let rest = self::bare(kernel, second)?;
    bare = Cost { wall: bare.wall + rest.wall, cpu: bare.cpu + rest.cpu };
    if objects != concerned.len() {
        return Err(format!("the build compiled {objects} units, not {}", concerned.len()).into());
    }
    figures["header"] = header.into();
    figures["header_objects"] = objects.into();
    figures["header_build_seconds"] = rounded(ours.wall);
    figures["header_compiler_seconds"] = rounded(bare.wall);
    figures["header_cost_ratio"] = rounded(ours.wall / bare.wall);
    figures["header_cpu_ratio"] = rounded(ours.cpu / bare.cpu);
    Ok(())
}

/// Time by the clock, and of processors.
struct Cost {
    wall: f64,
    cpu: f64,
}

impl Cost {
    fn since(start: Instant, cpu_before: f64) -> Result<Self> {
        Ok(Self { wall: start.elapsed().as_secs_f64(), cpu: cpu_seconds()? - cpu_before })
    }
}

/// Seconds of processors that this process and those it waited for have used: utime, stime, cutime and cstime of proc(5),
/// in hundredths.
fn cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/self/stat has no name")?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(11).take(4).map(str::parse).collect::<Result<_, _>>()?;
    Ok(ticks.iter().sum::<u64>() as f64 / 100.0)
}

/// A new inline function after the last `#include`: every unit is another object by its line numbers.
fn header_patch(path: &str, text: &str) -> Option<String> {
    let last = text.lines().enumerate().filter(|(_, line)| line.starts_with("#include ")).last()?.0;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.insert(last + 1, "static inline int livepatch_bench(int a) { return a + 1; }");
    Some(livepatch_tests::corpus::unified(path, text, &(lines.join("\n") + "\n")))
}

/// Runs the compiler as often as a build does, on all cores and without anything else: twice for each unit that includes
/// the header.
fn bare(kernel: &KernelRequest, units: &[(String, CompilerCommand)]) -> Result<Cost> {
    let bench = Workbench::open(kernel, &|_| ())?;
    let scratch = tempfile::tempdir()?;
    let compile = |(unit, command): &(String, CompilerCommand)| {
        bench.tree().compile_original(unit, command, scratch.path())?;
        bench.tree().compile_original(unit, command, scratch.path())
    };
    let (start, before) = (Instant::now(), cpu_seconds()?);
    let next = AtomicUsize::new(0);
    let problems: Mutex<Vec<KbuildError>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(unit) = units.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let (Err(error), Ok(mut problems)) = (compile(unit), problems.lock()) {
                        problems.push(error);
                    }
                }
            });
        }
    });
    let cost = Cost::since(start, before)?;
    let problems = problems.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    problems.into_iter().next().map_or(Ok(cost), |problem| Err(problem.into()))
}

/// The differ on pairs of objects of real changes, and kpatch's on the same pairs: a process for each, by turns.
fn differ(arguments: &Arguments, kernel: &KernelRequest, figures: &mut Value) -> Result<()> {
    let bench = Workbench::open(kernel, &|_| ())?;
    let kpatch = arguments.kpatch.as_deref().map(|checkout| Kpatch::open(checkout, &bench)).transpose()?;
    let sources: Vec<String> = bench.tree().units().names().map(source_of).collect();
    let cases =
        spread(whole_file_changes(bench.tree().path(), &arguments.newer, &sources)?, Some(arguments.pairs));
    println!("compiling the pairs of {} changed files", cases.len());
    let scratch = tempfile::tempdir()?;
    let (mut ours, mut theirs, mut peak, mut pairs) = (Vec::new(), Vec::new(), 0, 0_usize);
    for case in &cases {
        let request = PatchRequest { patches: vec![case.patch.clone()], arguments: Vec::new() };
        // Changes that need others that are not part of them do not compile.
        let Ok(compiled) = bench.compile(&request, &|_| ()) else { continue };
        for pair in compiled.pairs().iter().filter(|pair| pair.original != pair.patched) {
            pairs += 1;
            let prepared = kpatch.as_ref().map(|k| k.prepare(&bench, pair, "pair")).transpose()?;
            let (mut own, mut other) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                let (seconds, kib) = own_differ(arguments, &bench, pair, scratch.path())?;
                own.push(seconds);
                peak = peak.max(kib);
                if let (Some(kpatch), Some(prepared)) = (&kpatch, &prepared) {
                    remove_output(&prepared.output())?;
                    let start = Instant::now();
                    kpatch.command(prepared).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
                    other.push(start.elapsed().as_secs_f64());
                }
            }
            ours.push(median(&mut own));
            theirs.extend((!other.is_empty()).then(|| median(&mut other)));
        }
    }
    if pairs == 0 {
        return Err("none of the changed files makes a pair of objects".into());
    }
    let mean = |seconds: &[f64]| seconds.iter().sum::<f64>() / seconds.len() as f64;
    figures["differ_pairs"] = pairs.into();
    figures["differ_seconds_mean"] = rounded(mean(&ours));
    figures["differ_peak_kib"] = peak.into();
    let other = (!theirs.is_empty()).then(|| mean(&theirs));
    figures["kpatch_seconds_mean"] = other.map_or(Value::Null, rounded);
    figures["differ_ratio_vs_kpatch"] = other.map_or(Value::Null, |other| rounded(other / mean(&ours)));
    Ok(())
}

/// Seconds and peak memory of our differ. Its refusal is a result like any other.
fn own_differ(
    arguments: &Arguments,
    bench: &Workbench,
    pair: &CompiledPair,
    scratch: &Path,
) -> Result<(f64, u64)> {
    let [original, patched, output] = ["original.o", "patched.o", "output.o"].map(|name| scratch.join(name));
    fs::write(&original, &pair.original)?;
    fs::write(&patched, &pair.patched)?;
    let sizes = bench.tree().entry_sizes();
    let sizes =
        [sizes.alt_instr, sizes.bug_entry, sizes.exception_entry, sizes.jump_entry, sizes.paravirt_site];
    // Both are run in the same way.
    let mut command = kpatch::bounded(&arguments.differ.canonicalize()?);
    command.arg("--sizes").args(sizes.map(|bytes| bytes.to_string()));
    command.arg(original).arg(patched).arg(&output);
    remove_output(&output)?;
    let start = Instant::now();
    let output = command.stdin(Stdio::null()).output()?;
    let seconds = start.elapsed().as_secs_f64();
    let kib = String::from_utf8_lossy(&output.stdout).trim().parse();
    Ok((seconds, kib.map_err(|_| format!("the differ: {}", String::from_utf8_lossy(&output.stderr)))?))
}

/// What the round before left: ext4 waits for the disk when a file that was emptied is closed (`auto_da_alloc` of ext4(5)),
/// which would be measured instead of the program.
fn remove_output(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn rounded(value: f64) -> Value {
    json!((value * 1e4).round() / 1e4)
}

/// Each figure beside its target.
fn table(figures: &Value) -> String {
    let targets: [(&str, &str, f64); 6] = [
        ("one_file_fix_seconds", "<", 12.0),
        ("from_packages_seconds", "<", 60.0),
        ("header_cost_ratio", "<=", 1.2),
        ("differ_seconds_mean", "", 0.0),
        ("differ_peak_kib", "", 0.0),
        ("differ_ratio_vs_kpatch", ">=", 3.0),
    ];
    let mut out = format!("{:<24}{:>10}  {:<8}\n", "figure", "measured", "target");
    for (name, relation, target) in targets {
        let value = figures[name].as_f64();
        let met = value.map(|value| match relation {
            "<" => value < target,
            "<=" => value <= target,
            ">=" => value >= target,
            _ => true,
        });
        let shown = value.map_or("-".to_owned(), |value| format!("{value}"));
        let target = if relation.is_empty() { String::new() } else { format!("{relation} {target}") };
        let missed = if met == Some(false) { "  missed" } else { "" };
        out.push_str(&format!("{name:<24}{shown:>10}  {target:<8}{missed}\n"));
    }
    out
}
