//! The program `livepatch-build`.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use livepatch_inspect::{inspect, proof_text};
use livepatch_kbuild::{KbuildError, KernelOrigin, PackagedPatches, ToolchainChoice};
use livepatch_manifest::{Bundle, CveEntry, ProofResult};
use livepatch_types::{Clock, CveCoverage, CveId, ModuleName, PatchVersion, Rating, SystemClock, plural};

use crate::check_text::check_text;
use crate::error::{BuildError, ExitCode};
use crate::fidelity::Selection;
use crate::files::{read, write};
use crate::index::cli::IndexArguments;
use crate::pipeline::{
    self, Built, KernelRequest, LivepatchRequest, Omissions, PatchRequest, Workbench, build, check, identify,
};
use crate::prove::{self, ProofRequest, ProveError};
use crate::report::{BuildReport, UnitReport, Verdict};
use crate::series::cli::{SeriesArguments, WatchArguments, run_series, run_watch};
use crate::token::{PinSource, TokenKey, TokenSigner};
use crate::toolchain::{self, EnvironmentArguments, ToolchainCommand};
use crate::trust::cli::TrustCommand;
use crate::verify::{VerifyError, verify};
use crate::{index, keygen, signing, trust};

/// Build livepatches: from a source patch to a signed bundle for one exact kernel.
#[derive(Debug, Parser)]
#[command(name = "livepatch-build", version, about)]
pub struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build a livepatch from source patches, as an unsigned bundle.
    Build(BuildArguments),
    /// Say whether source patches can become a livepatch, and what stands in the way. Exits with 0 (ok), 5 (cannot),
    /// 6 (not affected) or 8 (needs a person).
    Check(CheckArguments),
    /// Prove that the compiler here reproduces the code of a shipped kernel, without any patch. Exits with 0, or with 5
    /// when a unit differs.
    Fidelity(FidelityArguments),
    /// Build cumulative livepatches of a series of fixes, for many kernels.
    Series(SeriesArguments),
    /// Watch for new kernels of a distribution: build the livepatch of a series for each, without the fixes that its source
    /// has already, prove it, and put it where it is signed. What needs a person is in the table of each round.
    Watch(WatchArguments),
    /// List the kernels of a distribution by build-id, out of its archives: InRelease and its signature, Packages, the kernel
    /// in each linux-image package. Exits with 0, with 4 when a package's kernel cannot be read, or with 10 when an archive
    /// is not what its keys signed.
    Index(IndexArguments),
    /// Prove a livepatch in a virtual machine with the kernel it is for; the proof goes into the bundle. Exits with 0, or
    /// with 9 when the proof failed.
    Prove(ProveArguments),
    /// Build a bundle's livepatch again, from the source patches in it, and compare: byte for byte before the signature.
    /// Exits with 0 when they are the same, or with 9.
    Verify(VerifyArguments),
    /// Sign a bundle: the module in the kernel's own form, and the manifest.
    Sign(SignArguments),
    /// Show what a bundle holds.
    Inspect(InspectArguments),
    /// Show release and build-id of a kernel image.
    Identify(IdentifyArguments),
    /// Make a module signing key and its certificate.
    Keygen(KeygenArguments),
    /// Make and list toolchain roots: compilers of kernels that are not this host's.
    #[command(subcommand)]
    Toolchain(ToolchainCommand),
    /// Make, sign and check the repositories that say what may run, and who says so: a vendor's or an operator's.
    #[command(subcommand)]
    Trust(TrustCommand),
}

/// The kernel.
#[derive(Debug, Clone, clap::Args)]
struct KernelArguments {
    /// linux-image package, or directory with boot/ and lib/modules/
    #[arg(long, value_name = "PACKAGE|DIR", requires = "headers", required_unless_present = "vmlinux")]
    kernel: Option<PathBuf>,
    /// linux-headers package (the one with .config and Module.symvers), or directory with its usr/src/
    #[arg(long, value_name = "PACKAGE|DIR", requires = "kernel")]
    headers: Option<PathBuf>,
    /// A kernel of your own instead of packages: vmlinux or vmlinuz, with --config and --symvers
    #[arg(long, value_name = "FILE", requires_all = ["config", "symvers"], conflicts_with = "kernel")]
    vmlinux: Option<PathBuf>,
    /// Configuration of your own kernel
    #[arg(long, value_name = "FILE", requires = "vmlinux")]
    config: Option<PathBuf>,
    /// Module.symvers of your own kernel
    #[arg(long, value_name = "FILE", requires = "vmlinux")]
    symvers: Option<PathBuf>,
    /// Modules of your own kernel: lib/modules/RELEASE, or the tree it was built in
    #[arg(long, value_name = "DIR", requires = "vmlinux")]
    modules: Option<PathBuf>,
    /// linux-source package of the same version, or a source tree
    #[arg(long, value_name = "PACKAGE|DIR")]
    source: PathBuf,
    /// Packaging of the same version (linux_VERSION.debian.tar.xz), for kernels that have patches which linux-source has
    /// not: Debian's rt kernels
    #[arg(long, value_name = "FILE")]
    source_patches: Option<PathBuf>,
    /// Directory with these patches and their series, below debian/ in it
    #[arg(long, value_name = "NAME", default_value = "patches-rt", requires = "source_patches")]
    source_patches_from: String,
    /// Which toolchain to use: the name of a root, or `host`; if not said, the root with the kernel's compiler, else the
    /// host if it has that very compiler
    #[arg(long, value_name = "NAME|host", value_parser = toolchain::parse_choice)]
    toolchain: Option<ToolchainChoice>,
    #[command(flatten)]
    environment: EnvironmentArguments,
}

/// The kernel and the patches.
#[derive(Debug, Clone, clap::Args)]
struct InputArguments {
    #[command(flatten)]
    kernel: KernelArguments,
    /// Source patch (unified diff); may be given several times, applied in order
    #[arg(long, value_name = "FILE", required = true)]
    patch: Vec<PathBuf>,
    /// Why the fix is whole without a place that cannot be livepatched, as PLACE=REASON; may be given several times
    #[arg(long, value_name = "PLACE=REASON", value_parser = parse_argument)]
    argue: Vec<(String, String)>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl KernelArguments {
    fn request(&self) -> Result<KernelRequest, Shown> {
        let (cache, environment) = self.environment.open(self.toolchain.clone().unwrap_or_default())?;
        let packaged = |archive: &PathBuf| PackagedPatches {
            archive: archive.clone(),
            directory: self.source_patches_from.clone(),
        };
        Ok(KernelRequest {
            kernel: self.kernel_origin()?,
            source: self.source.clone(),
            source_patches: self.source_patches.as_ref().map(packaged),
            cache,
            environment,
        })
    }

    fn kernel_origin(&self) -> Result<KernelOrigin, Shown> {
        let Self { kernel, headers, vmlinux, config, symvers, modules, .. } = self.clone();
        let packages = kernel.zip(headers).map(|(image, headers)| KernelOrigin::Packages { image, headers });
        let own = vmlinux.zip(config).zip(symvers).map(|((vmlinux, config), symvers)| KernelOrigin::Own {
            vmlinux,
            config,
            symvers,
            modules,
        });
        packages.or(own).ok_or_else(|| Shown {
            message: "it is not said which kernel to build for".into(),
            hint: "give --kernel and --headers, or --vmlinux, --config and --symvers".into(),
            code: ExitCode::Usage,
        })
    }
}

#[derive(Debug, clap::Args)]
struct CheckArguments {
    #[command(flatten)]
    input: InputArguments,
}

#[derive(Debug, clap::Args)]
struct FidelityArguments {
    #[command(flatten)]
    kernel: KernelArguments,
    /// A unit, by its object's path in the source tree, for example kernel/fork.o; may be given several times
    #[arg(long, value_name = "OBJECT", conflicts_with_all = ["sample", "all"])]
    unit: Vec<String>,
    /// How many units, spread evenly over the kernel
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    sample: usize,
    /// Every unit; takes as long as building the kernel
    #[arg(long, conflicts_with = "sample")]
    all: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct BuildArguments {
    #[command(flatten)]
    input: InputArguments,
    /// A CVE that the patches fix, as ID, ID:RATING or ID:RATING:TITLE; may be given several times
    #[arg(long, value_name = "CVE", value_parser = parse_cve, required = true)]
    cve: Vec<CveEntry>,
    /// Version of the livepatch
    #[arg(long, value_name = "MAJOR.MINOR", default_value = "1.1")]
    patch_version: PatchVersion,
    /// The bundle to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Keep the module's debug information below this directory, as .build-id/XX/YY.debug, where debuggers find it
    #[arg(long, value_name = "DIR")]
    debug: Option<PathBuf>,
    /// Build although places are left out that nobody argued: the CVEs are then only partially fixed
    #[arg(long)]
    allow_partial: bool,
}

#[derive(Debug, Clone, clap::Args)]
struct SignArguments {
    /// The bundle, replaced by its signed form
    bundle: PathBuf,
    /// RSA private key (PEM), which only its owner may read
    #[arg(long, value_name = "FILE", required_unless_present = "pkcs11")]
    key: Option<PathBuf>,
    /// Sign with a key in a token instead: the token maker's PKCS#11 library
    #[arg(long, value_name = "LIBRARY", conflicts_with = "key", requires_all = ["token", "key_label", "pin"])]
    pkcs11: Option<PathBuf>,
    /// Label of the token
    #[arg(long, value_name = "LABEL", requires = "pkcs11")]
    token: Option<String>,
    /// Label of the private RSA key in the token
    #[arg(long, value_name = "LABEL", requires = "pkcs11")]
    key_label: Option<String>,
    /// File with the token's PIN, which only its owner may read
    #[arg(long, value_name = "FILE", requires = "pkcs11", group = "pin")]
    pin_file: Option<PathBuf>,
    /// Open file descriptor to read the token's PIN from, as in `--pin-fd 3 3< <(get-pin)`
    #[arg(long, value_name = "NUMBER", requires = "pkcs11", group = "pin")]
    pin_fd: Option<u32>,
    /// The key's certificate (PEM or DER)
    #[arg(long, value_name = "FILE")]
    certificate: PathBuf,
}

#[derive(Debug, clap::Args)]
struct ProveArguments {
    /// The bundle, not signed yet; the proof is put into it
    bundle: PathBuf,
    /// linux-image package, or directory with boot/ and lib/modules/
    #[arg(long, value_name = "PACKAGE|DIR")]
    kernel: PathBuf,
    /// Program that tells whether a kernel has a fix, C source or static: 0 fixed, 1 vulnerable; may be given several
    /// times
    #[arg(long, value_name = "CVE=FILE", value_parser = parse_check)]
    check: Vec<(CveId, PathBuf)>,
    /// Module that the checks need besides those that are patched; may be given several times
    #[arg(long, value_name = "NAME")]
    needs: Vec<ModuleName>,
    /// The livepatch before: going from it to this one and back is tried, too
    #[arg(long, value_name = "BUNDLE")]
    previous: Option<PathBuf>,
    /// How to print the proof
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct VerifyArguments {
    /// The bundle, signed or not
    bundle: PathBuf,
    #[command(flatten)]
    kernel: KernelArguments,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct InspectArguments {
    /// The bundle
    bundle: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct IdentifyArguments {
    /// The vmlinuz
    vmlinuz: PathBuf,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, clap::Args)]
struct KeygenArguments {
    /// Directory to write to
    directory: PathBuf,
    /// Name of the key: becomes NAME.key.pem, NAME.cert.pem, NAME.cert.der and the certificate's subject
    #[arg(long, default_value = "livepatch")]
    name: String,
    /// Length of the RSA key in bits
    #[arg(long, default_value_t = keygen::DEFAULT_BITS)]
    bits: u32,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// An error ready to be shown: one line, hints, exit code.
#[derive(Debug)]
pub struct Shown {
    pub(crate) message: String,
    pub(crate) hint: String,
    pub(crate) code: ExitCode,
}

impl Shown {
    /// Prints it to standard error.
    pub(crate) fn print(&self) -> ExitCode {
        // Standard error that cannot be written has nobody who reads it.
        _ = writeln!(anstream::stderr(), "error: {}\n\nhint: {}", self.message, self.hint);
        self.code
    }
}

impl From<BuildError> for Shown {
    fn from(error: BuildError) -> Self {
        Self { message: error.to_string(), hint: error.hint().into_owned(), code: error.exit_code() }
    }
}

impl From<ProveError> for Shown {
    fn from(error: ProveError) -> Self {
        let code = match &error {
            ProveError::Build(error) => error.exit_code(),
            ProveError::Vm(_) => ExitCode::Environment,
            ProveError::WrongKernel { .. } => ExitCode::Kernel,
            ProveError::Signed => ExitCode::Signing,
        };
        Self { hint: error.hint(), message: error.to_string(), code }
    }
}

impl From<KbuildError> for Shown {
    fn from(error: KbuildError) -> Self {
        BuildError::from(error).into()
    }
}

pub(crate) fn signing_error(error: impl std::error::Error, hint: &str) -> Shown {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message = format!("{message}: {error}");
        source = error.source();
    }
    Shown { message, hint: hint.to_owned(), code: ExitCode::Signing }
}

fn parse_cve(text: &str) -> Result<CveEntry, String> {
    let mut parts = text.splitn(3, ':');
    let id = CveId::parse(parts.next().unwrap_or_default()).map_err(|error| error.to_string())?;
    let rating = match parts.next() {
        None | Some("high") => Rating::High,
        Some("critical") => Rating::Critical,
        Some("medium") => Rating::Medium,
        Some("low") => Rating::Low,
        Some("negligible") => Rating::Negligible,
        Some(other) => {
            return Err(format!("{other:?} is not a rating: critical, high, medium, low or negligible"));
        }
    };
    let title: String = parts.next().unwrap_or_default().chars().take(200).collect();
    // The pipeline says otherwise when something is left out.
    Ok(CveEntry { id, coverage: CveCoverage::Whole, rating, title })
}

fn parse_argument(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((place, reason)) if !place.is_empty() && !reason.trim().is_empty() => {
            Ok((place.to_owned(), reason.trim().to_owned()))
        }
        _ => Err("it is not PLACE=REASON".to_owned()),
    }
}

/// Runs the program and prints any error.
pub fn run(arguments: Arguments) -> ExitCode {
    let result = match arguments.command {
        Action::Check(arguments) => return end(run_check(&arguments.input)),
        Action::Fidelity(arguments) => return end(run_fidelity(&arguments)),
        Action::Build(arguments) => run_build(&arguments),
        Action::Verify(arguments) => return end(run_verify(&arguments)),
        Action::Prove(arguments) => return end(run_prove(&arguments)),
        Action::Series(arguments) => return run_series(&arguments),
        Action::Watch(arguments) => return run_watch(&arguments),
        Action::Index(arguments) => return end(index::cli::run(&arguments, &SystemClock)),
        Action::Sign(arguments) => run_sign(&arguments),
        Action::Inspect(arguments) => run_inspect(&arguments),
        Action::Identify(arguments) => run_identify(&arguments),
        Action::Keygen(arguments) => run_keygen(&arguments),
        Action::Toolchain(command) => toolchain::run(&command),
        Action::Trust(command) => trust::cli::run(&command, &SystemClock),
    };
    end(result.map(|text| (text, ExitCode::Success)))
}

/// Prints what came out.
fn end(result: Result<(String, ExitCode), Shown>) -> ExitCode {
    match result {
        Ok((text, code)) => {
            let written = anstream::stdout().write_all(text.as_bytes());
            if written.is_ok() { code } else { ExitCode::Environment }
        }
        Err(shown) => shown.print(),
    }
}

pub(crate) fn json(value: &impl serde::Serialize) -> String {
    // Plain values of our own always serialise.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// A spinner on a terminal, lines elsewhere.
fn progress_bar() -> ProgressBar {
    let bar =
        if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

pub(crate) fn default_cache() -> Result<PathBuf, Shown> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    base.map(|base| base.join("livepatch-build")).ok_or_else(|| Shown {
        message: "there is no home directory to keep the cache in".into(),
        hint: "give --cache DIR".into(),
        code: ExitCode::Usage,
    })
}

fn make_request(input: &InputArguments) -> Result<(KernelRequest, PatchRequest), Shown> {
    let mut patches = Vec::new();
    for path in &input.patch {
        let text = String::from_utf8(read(path)?)
            .map_err(|_| KbuildError::Patch(format!("{} is not UTF-8 text", path.display())))?;
        patches.push(text);
    }
    let kernel = input.kernel.request()?;
    Ok((kernel, PatchRequest { patches, arguments: input.argue.clone() }))
}

/// Does long work with its steps shown.
pub(crate) fn with_progress<T>(work: impl FnOnce(&pipeline::Progress<'_>) -> T) -> T {
    let bar = progress_bar();
    let progress = |text: &str| {
        if bar.is_hidden() {
            _ = writeln!(anstream::stderr(), "{text}");
        }
        bar.set_message(text.to_owned());
    };
    let result = work(&progress);
    bar.finish_and_clear();
    result
}

fn run_build(arguments: &BuildArguments) -> Result<String, Shown> {
    let (kernel, patches) = make_request(&arguments.input)?;
    let livepatch = LivepatchRequest {
        cves: arguments.cve.clone(),
        version: arguments.patch_version,
        omissions: if arguments.allow_partial { Omissions::MakePartial } else { Omissions::MustBeArgued },
        keep_debug: arguments.debug.is_some(),
    };
    let mut built = with_progress(|progress| build(&kernel, &patches, &livepatch, &SystemClock, progress))?;
    if let Some((debug, directory)) = built.debug.take().transpose()?.zip(arguments.debug.as_deref()) {
        debug.write(directory)?;
    }
    write(&arguments.out, &built.bundle.to_bytes())?;
    Ok(match arguments.input.format {
        Format::Json => json(&built.report),
        Format::Text => built_text(&built, &arguments.out),
    })
}

fn run_check(input: &InputArguments) -> Result<(String, ExitCode), Shown> {
    let (kernel, patches) = make_request(input)?;
    let report = with_progress(|progress| check(&kernel, &patches, progress))?;
    let code = match report.verdict {
        Verdict::Ok => ExitCode::Success,
        Verdict::NotAffected => ExitCode::NoChange,
        Verdict::NeedsPerson => ExitCode::NeedsPerson,
        Verdict::Cannot => ExitCode::Refused,
    };
    Ok((if input.format == Format::Json { json(&report) } else { check_text(&report) }, code))
}

fn run_fidelity(arguments: &FidelityArguments) -> Result<(String, ExitCode), Shown> {
    let selection = match arguments {
        FidelityArguments { all: true, .. } => Selection::All,
        FidelityArguments { unit, sample, .. } if unit.is_empty() => Selection::Spread(*sample),
        FidelityArguments { unit, .. } => Selection::Named(unit.clone()),
    };
    let kernel = arguments.kernel.request()?;
    let report =
        with_progress(|progress| Workbench::open(&kernel, progress)?.fidelity(&selection, progress))?;
    let same = report.refused.is_empty() && report.failed.is_empty();
    let text = if arguments.format == Format::Json { json(&report) } else { report.text() };
    Ok((text, if same { ExitCode::Success } else { ExitCode::Refused }))
}

pub(crate) fn unit_text(unit: &UnitReport) -> String {
    let called =
        unit.callbacks.iter().map(|c| format!("  callback  {} of {}: {}\n", c.hook, unit.object, c.function));
    let called: String = called.collect();
    if unit.changed_functions.is_empty() {
        return format!("  {:<9} {}: no functional change\n{called}", unit.object, unit.unit);
    }
    let functions = unit.changed_functions.join(", ");
    let proven = plural(unit.identical_functions, "function", "functions");
    format!(
        "  {:<9} {}: {functions}\n  {:<9} {proven} of the unit proven identical to the shipped code\n{called}",
        unit.object, unit.unit, ""
    )
}

pub(crate) fn lost_text(report: &BuildReport) -> String {
    let states = report.states.iter().map(|s| format!("  state     {} version {}\n", s.id, s.version));
    states.chain(report.lost.iter().map(|lost| format!("  without   {lost}\n"))).collect()
}

fn built_text(built: &Built, out: &Path) -> String {
    let Built { bundle, report, .. } = built;
    let mut text = format!(
        "livepatch {} for {} ({})\n",
        bundle.manifest.version, report.kernel.release, report.kernel.build_id
    );
    for unit in &report.units {
        text.push_str(&unit_text(unit));
    }
    text.push_str(&lost_text(report));
    for cve in &bundle.manifest.cves {
        let word = if cve.coverage == CveCoverage::Whole { "fixes" } else { "partial" };
        text.push_str(&format!("  {word:<9} {} {}\n", cve.id, cve.title));
    }
    text.push_str(&format!("  compiler  {} (toolchain: {})\n", report.compiler, report.toolchain.name));
    let s = &report.seconds;
    text.push_str(&format!(
        "  seconds   identify {:.1}, prepare {:.1}, compile {:.1}, diff {:.1}, link {:.1}\n",
        s.identify, s.prepare, s.compile, s.diff, s.link
    ));
    text.push_str(&format!("wrote {}; sign it next: livepatch-build sign\n", out.display()));
    text
}

pub(crate) fn parse_bundle(path: &Path) -> Result<Bundle, Shown> {
    let hint = "give a file that livepatch-build made";
    Bundle::parse(&read(path)?).map_err(|error| {
        let mut shown = signing_error(error, hint);
        shown.message = format!("{}: {}", path.display(), shown.message);
        shown
    })
}

fn parse_check(text: &str) -> Result<(CveId, PathBuf), String> {
    let (cve, path) = text.split_once('=').ok_or("it is not CVE=FILE")?;
    Ok((CveId::parse(cve).map_err(|error| error.to_string())?, PathBuf::from(path)))
}

fn run_prove(arguments: &ProveArguments) -> Result<(String, ExitCode), Shown> {
    let bundle = parse_bundle(&arguments.bundle)?;
    let previous = arguments.previous.as_deref().map(parse_bundle).transpose()?;
    let checks = arguments
        .check
        .iter()
        .map(|(cve, path)| prove::read_check(*cve, path, &arguments.needs))
        .collect::<Result<Vec<_>, _>>()?;
    let request = ProofRequest {
        bundle: &bundle,
        kernel: &arguments.kernel,
        checks: &checks,
        previous: previous.as_ref(),
    };
    let proof = with_progress(|progress| prove::prove(&request, progress))?;
    let proven = bundle.with_proof(&proof).map_err(BuildError::from)?;
    write(&arguments.bundle, &proven.to_bytes())?;
    let passed = proof.result == ProofResult::Passed;
    let text = if arguments.format == Format::Json { json(&proof) } else { proof_text(&proof) };
    Ok((text, if passed { ExitCode::Success } else { ExitCode::Unproven }))
}

fn run_verify(arguments: &VerifyArguments) -> Result<(String, ExitCode), Shown> {
    let bundle = parse_bundle(&arguments.bundle)?;
    let kernel = arguments.kernel.request()?;
    let verified = with_progress(|progress| verify(&bundle, &kernel, &SystemClock, progress));
    let verified = verified.map_err(|error| match error {
        VerifyError::Build(error) => Shown::from(error),
        VerifyError::NoSources => Shown {
            message: error.to_string(),
            hint: "build it again with this version of livepatch-build".into(),
            code: ExitCode::Unproven,
        },
    })?;
    let same = verified.differences.is_empty();
    let text = match arguments.format {
        Format::Json => json(&verified),
        Format::Text if same => format!("the same: module {} before its signature\n", verified.rebuilt),
        Format::Text => verified.differences.iter().map(|what| format!("differs  {what}\n")).collect(),
    };
    Ok((text, if same { ExitCode::Success } else { ExitCode::Unproven }))
}

fn run_sign(arguments: &SignArguments) -> Result<String, Shown> {
    let bundle = parse_bundle(&arguments.bundle)?;
    let signer = open_signer(arguments)?;
    let hint = "give a bundle that is not signed yet";
    let signed = signing::sign_bundle(bundle, signer.as_ref()).map_err(|e| signing_error(e, hint))?;
    write(&arguments.bundle, &signed.to_bytes())?;
    Ok(format!("signed {} (module {})\n", arguments.bundle.display(), signed.manifest.module.sha256))
}

/// Whoever keeps the key.
fn open_signer(arguments: &SignArguments) -> Result<Box<dyn livepatch_modsig::Signer>, Shown> {
    let SignArguments { key, pkcs11, token, key_label, pin_file, pin_fd, certificate, .. } =
        arguments.clone();
    let pin = pin_file.map(PinSource::File).or(pin_fd.map(PinSource::Descriptor));
    match (key, pkcs11.zip(token).zip(key_label).zip(pin)) {
        (Some(key), _) => {
            let hint = "give an RSA key and its certificate, such as `livepatch-build keygen` makes";
            let signer = signing::FileSigner::open(&key, &certificate);
            Ok(Box::new(signer.map_err(|e| signing_error(e, hint))?))
        }
        (None, Some((((library, token), key), pin))) => {
            let signer = TokenSigner::open(&TokenKey { library, token, key }, &pin, &certificate);
            Ok(Box::new(signer.map_err(|e| signing_error(&e, e.hint()))?))
        }
        (None, None) => Err(Shown {
            message: "it is not said which key signs".into(),
            hint: "give --key, or --pkcs11 with --token, --key-label and --pin-file or --pin-fd".into(),
            code: ExitCode::Usage,
        }),
    }
}

fn run_inspect(arguments: &InspectArguments) -> Result<String, Shown> {
    let bundle = parse_bundle(&arguments.bundle)?;
    let inspected = inspect(&bundle).map_err(BuildError::from)?;
    Ok(if arguments.format == Format::Json { json(&inspected) } else { inspected.text() })
}

fn run_identify(arguments: &IdentifyArguments) -> Result<String, Shown> {
    let (_, identity) = identify(&arguments.vmlinuz)?;
    Ok(match arguments.format {
        Format::Json => json(&identity),
        Format::Text => format!("release   {}\nbuild-id  {}\n", identity.release, identity.build_id),
    })
}

fn run_keygen(arguments: &KeygenArguments) -> Result<String, Shown> {
    let hint = "choose another directory or name; keys are never overwritten";
    let pair = keygen::generate(&arguments.name, arguments.bits, SystemClock.now());
    let pair = pair.map_err(|error| signing_error(error, hint))?;
    let files =
        keygen::write(&pair, &arguments.directory, &arguments.name).map_err(|e| signing_error(e, hint))?;
    Ok(format!(
        "wrote {} (keep it secret), {} and {}\n",
        files.key_pem.display(),
        files.certificate_pem.display(),
        files.certificate_der.display()
    ))
}
