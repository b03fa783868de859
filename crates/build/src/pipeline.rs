//! From source patches to an unsigned bundle, for one kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

use livepatch_kbuild::{
    CompilerCommand, Environment, KernelFiles, KernelOrigin, LinkInput, Membership, Mirror, PackageId,
    PackagedPatches, PreparedTree, SourceOrigin, SourcePatch, TreeInputs,
};
use livepatch_kimage::{KernelImage, gnu_build_id};
use livepatch_klp::author::{Marks, State};
use livepatch_klp::compare::{Comparison, compare};
use livepatch_klp::debug::DebugError;
use livepatch_klp::elf::Object;
use livepatch_klp::extract::{Callback, Extracted, STATIC_CALL, STATIC_CALL_KEY, left_behind};
use livepatch_klp::finish::{Finished, finish};
use livepatch_klp::resolve::{Context, LivepatchSymbol, Redirect, Resolution, modules_used, resolve, sympos};
use livepatch_klp::second_compilation::Reason;
use livepatch_klp::shipped::{Fidelity, Shipped, ShippedModule, prove};
use livepatch_klp::symvers::Exports;
use livepatch_klp::{Refusal, Rule, Unit};
use livepatch_manifest::{
    Bundle, CveEntry, ModuleObject, ObjectName, PatchManifest, PatchSources, PatchedFunction, PatchedObject,
    SourceEntry, sha256,
};
use livepatch_types::{
    Architecture, BuildId, Clock, CveCoverage, KernelIdentity, KernelRelease, ModuleName, PatchVersion,
};

use crate::always_running;
use crate::debug::{ChangedSource, TypesReport, UnitDebug, unreadable};
use crate::debug_file::{self, DebugFile};
use crate::error::BuildError;
use crate::extraction::{Extraction, Taken, TwoObjects, command_for};
use crate::glue::{self, LIVEPATCH_SYMBOL, NOTES_SYMBOLS, ObjectRedirects};
use crate::report::{
    BuildReport, CallbackReport, Finding, FunctionReport, NotCompared, StateReport, StepSeconds,
    ToolchainReport, Touch, UnitReport, Verdict,
};
use crate::shipped::ShippedKernel;
use crate::units;

pub use crate::units::CompiledPair;

/// Told what is being done, in a few words; from several threads.
pub type Progress<'p> = dyn Fn(&str) + Sync + 'p;

/// Where a kernel's files are.
#[derive(Debug, Clone)]
pub struct KernelRequest {
    /// The kernel itself.
    pub kernel: KernelOrigin,
    /// linux-source package or source tree.
    pub source: PathBuf,
    /// Patches of the distribution's packaging that the kernel has beside.
    pub source_patches: Option<PackagedPatches>,
    /// Where prepared trees are kept.
    pub cache: PathBuf,
    /// Which compiler is used, and how it is kept apart.
    pub environment: Environment,
}

/// Patches, and what a person says about them.
#[derive(Debug, Clone, Default)]
pub struct PatchRequest {
    /// Source patches (texts), applied in this order.
    pub patches: Vec<String>,
    /// What a person says about places that are found: place, reason.
    pub arguments: Vec<(String, String)>,
}

/// The livepatch that is to come out.
#[derive(Debug, Clone)]
pub struct LivepatchRequest {
    /// The CVEs that the patches fix.
    pub cves: Vec<CveEntry>,
    /// Version of the livepatch.
    pub version: PatchVersion,
    /// What becomes of places that are left out and that nobody argued.
    pub omissions: Omissions,
    /// Whether debug information is wanted, for debuggers.
    pub keep_debug: bool,
}

/// What to do when a livepatch leaves something out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Omissions {
    /// Refuse, unless a person argued every place.
    MustBeArgued,
    /// Build; the CVEs are then partially fixed.
    MakePartial,
    /// Build; what the request says of each CVE stands.
    AsStated,
}

/// What came out.
#[derive(Debug)]
pub struct Built {
    /// The unsigned bundle.
    pub bundle: Bundle,
    /// What was done.
    pub report: BuildReport,
    /// The module's debug information, when it was wanted, or why there is none.
    pub debug: Option<Result<DebugFile, BuildError>>,
}

/// One unit between compiling and linking.
pub(crate) struct UnitWork {
    pub(crate) unit: String,
    pub(crate) object: ObjectName,
    pub(crate) command: CompilerCommand,
    pub(crate) original: Unit,
    pub(crate) patched: Unit,
}

/// A kernel that is ready to be built for: any number of livepatches, one after another.
pub struct Workbench {
    identity: KernelIdentity,
    image: KernelImage,
    files: KernelFiles,
    tree: PreparedTree,
    exports: Exports,
    scratch: tempfile::TempDir,
    identify_seconds: f64,
    prepare_seconds: f64,
}

/// Patches compiled for a kernel, not compared yet.
pub struct CompiledPatches {
    pub(crate) mirror: Mirror,
    sources: Vec<ChangedSource>,
    pairs: Vec<CompiledPair>,
    seconds: f64,
}

impl CompiledPatches {
    /// Every unit that the patches concern.
    pub fn pairs(&self) -> &[CompiledPair] {
        &self.pairs
    }
}

/// A module as the linker made it, and as it is loaded.
pub(crate) struct Linked {
    pub(crate) plain: Vec<u8>,
    module: Vec<u8>,
    pub(crate) glue: String,
}

/// Everything that is known before a module is linked.
struct Analysis {
    work: Vec<UnitWork>,
    shipped: ShippedObjects,
    compared: Vec<Compared>,
    resolved: ResolvedUnits,
    report: BuildReport,
    /// The first refusal, when the verdict is that it cannot be built.
    refused: Option<BuildError>,
}

/// Builds one livepatch for one kernel. Nothing is written but the cache.
pub fn build(
    kernel: &KernelRequest,
    patches: &PatchRequest,
    livepatch: &LivepatchRequest,
    clock: &dyn Clock,
    progress: &Progress<'_>,
) -> Result<Built, BuildError> {
    check_sources(patches)?;
    Workbench::open(kernel, progress)?.build(patches, livepatch, clock, progress)
}

/// Says whether patches can become a livepatch for a kernel, and what stands in the way.
pub fn check(
    kernel: &KernelRequest,
    patches: &PatchRequest,
    progress: &Progress<'_>,
) -> Result<BuildReport, BuildError> {
    check_sources(patches)?;
    Workbench::open(kernel, progress)?.check(patches, progress)
}

/// What is wrong with a patch by itself is said before any long work.
fn check_sources(request: &PatchRequest) -> Result<Vec<SourcePatch>, BuildError> {
    let patches =
        request.patches.iter().map(|text| SourcePatch::parse(text)).collect::<Result<Vec<_>, _>>()?;
    for patch in &patches {
        patch.sources()?;
    }
    Ok(patches)
}

impl Workbench {
    /// Identifies a kernel and opens its prepared source tree, making it when the cache does not have it.
    pub fn open(request: &KernelRequest, progress: &Progress<'_>) -> Result<Self, BuildError> {
        let mut watch = Instant::now();
        progress("reading the kernel");
        let scratch = tempfile::tempdir().map_err(scratch_error)?;
        let files = KernelFiles::find(&request.kernel, scratch.path())?;
        let (image, identity) = identify(&files.image)?;
        let identify_seconds = lap(&mut watch);
        let inputs = TreeInputs {
            release: identity.release.clone(),
            source: SourceOrigin::new(&request.source)?,
            source_patches: request.source_patches.clone(),
            config: files.config.clone(),
            symvers: files.symvers.clone(),
            package_id: image.banner().and_then(PackageId::from_banner),
            compiler_comment: files.compiler_comment(),
        };
        let tree = PreparedTree::open(&inputs, &request.cache, &request.environment, progress)?;
        let exports = Exports::parse(tree.symvers())?;
        let prepare_seconds = lap(&mut watch);
        Ok(Self { identity, image, files, tree, exports, scratch, identify_seconds, prepare_seconds })
    }

    /// The kernel.
    pub fn identity(&self) -> &KernelIdentity {
        &self.identity
    }

    /// Its prepared source tree.
    pub fn tree(&self) -> &PreparedTree {
        &self.tree
    }

    /// Its files.
    pub fn files(&self) -> &KernelFiles {
        &self.files
    }

    /// The kernel as it was shipped.
    pub fn image(&self) -> &KernelImage {
        &self.image
    }

    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Says whether patches can become a livepatch, and what stands in the way.
    pub fn check(&self, patches: &PatchRequest, progress: &Progress<'_>) -> Result<BuildReport, BuildError> {
        let compiled = self.compile(patches, progress)?;
        let Analysis { shipped, compared, resolved, mut report, refused, .. } =
            self.analyse(patches, &compiled, progress)?;
        if refused.is_some() || resolved.objects.is_empty() {
            return Ok(report);
        }
        // Some rules speak only of the whole module, so that it is linked here too.
        let objects = patched_objects(&resolved.objects, &self.identity, &shipped)?;
        match self.link(PatchVersion::default(), &compared, &resolved, &objects, &mut report, progress) {
            Ok(_) => {}
            Err(BuildError::Refused { unit, refusal }) => {
                report.findings.push(Finding::new(Verdict::Cannot, &unit, &refusal, None));
                report.verdict = Verdict::Cannot;
            }
            Err(other) => return Err(other),
        }
        Ok(report)
    }

    /// Builds a livepatch.
    pub fn build(
        &self,
        patches: &PatchRequest,
        livepatch: &LivepatchRequest,
        clock: &dyn Clock,
        progress: &Progress<'_>,
    ) -> Result<Built, BuildError> {
        let compiled = self.compile(patches, progress)?;
        self.build_compiled(&compiled, patches, livepatch, clock, progress)
    }

    /// The units that patches concern, with their commands.
    pub fn concerned(
        &self,
        request: &PatchRequest,
        progress: &Progress<'_>,
    ) -> Result<Vec<(String, CompilerCommand)>, BuildError> {
        let patches = check_sources(request)?;
        Ok(units::concerned(&self.tree, &patches, self.scratch.path(), progress)?)
    }

    /// Compiles the units that patches concern, original and patched.
    pub fn compile(
        &self,
        request: &PatchRequest,
        progress: &Progress<'_>,
    ) -> Result<CompiledPatches, BuildError> {
        let (tree, scratch) = (&self.tree, self.scratch.path());
        let patches = check_sources(request)?;
        let mut watch = Instant::now();
        let mut patched_files = Vec::new();
        for patch in &patches {
            patch.apply(tree.path(), &mut patched_files)?;
        }
        let mirror = Mirror::new(tree, scratch, &patched_files)?;
        let concerned = units::concerned(tree, &patches, scratch, progress)?;
        let pairs = units::compile(tree, &mirror, &concerned, scratch, progress)?;
        let sources = ChangedSource::all(&patched_files, |path| {
            std::fs::read_to_string(tree.path().join(path)).unwrap_or_default()
        });
        Ok(CompiledPatches { mirror, sources, pairs, seconds: lap(&mut watch) })
    }

    /// Builds a livepatch of what [`Workbench::compile`] made of these patches.
    pub fn build_compiled(
        &self,
        compiled: &CompiledPatches,
        patches: &PatchRequest,
        livepatch: &LivepatchRequest,
        clock: &dyn Clock,
        progress: &Progress<'_>,
    ) -> Result<Built, BuildError> {
        let analysis = self.analyse(patches, compiled, progress)?;
        if let Some(refused) = analysis.refused {
            return Err(refused);
        }
        let Analysis { work, shipped, compared, resolved, mut report, .. } = analysis;
        if report.verdict == Verdict::NotAffected {
            let why = match report.units.as_slice() {
                [] => "it does not compile any of these files, nor anything that includes them",
                _ => "every unit compiles to the same code with and without it",
            };
            return Err(BuildError::NoChange(why.into()));
        }
        let open: Vec<&Finding> = report.findings.iter().filter(|f| f.argument.is_none()).collect();
        if !open.is_empty() && resolved.objects.is_empty() {
            return Err(BuildError::NothingLeft { findings: open.into_iter().cloned().collect() });
        }
        let must_be_argued =
            |f: &&Finding| livepatch.omissions == Omissions::MustBeArgued || !f.can_be_partial();
        if open.iter().any(must_be_argued) {
            let places = open
                .iter()
                .filter(|f| must_be_argued(f))
                .map(|f| format!("{} in {} (rule {})", f.place, f.unit, f.rule))
                .collect();
            return Err(BuildError::NeedsPerson { places });
        }
        if resolved.objects.is_empty() {
            return Err(BuildError::NoChange(
                "all that it changes in this kernel is left out of a livepatch".into(),
            ));
        }
        let partial = !open.is_empty() && livepatch.omissions != Omissions::AsStated;

        let objects = patched_objects(&resolved.objects, &self.identity, &shipped)?;
        let linked = self.link(livepatch.version, &compared, &resolved, &objects, &mut report, progress)?;
        let debug = livepatch.keep_debug.then(|| {
            progress("keeping the debug information");
            debug_file::make(self, compiled, work.iter().zip(&compared), livepatch.version, &linked)
        });
        let module = linked.module;

        let manifest = PatchManifest {
            schema: 1,
            version: livepatch.version,
            module: ModuleObject { sha256: sha256(&module), size_bytes: module.len() as u64 },
            objects,
            kernel: self.identity.clone(),
            cves: livepatch.cves.iter().map(|cve| covered(cve, partial)).collect(),
            built: clock.now(),
            compiler: self.tree.compiler_version().to_owned(),
            sections: Default::default(),
        };
        // Our own report of plain values always serialises.
        let report_bytes = serde_json::to_vec(&report).unwrap_or_default();
        let bundle = Bundle::new(manifest, module, Some(report_bytes))?.with_sources(&sources_of(patches))?;
        Ok(Built { bundle, report, debug })
    }

    /// Links the extracted units into a finished module, not signed.
    fn link(
        &self,
        version: PatchVersion,
        compared: &[Compared],
        resolved: &ResolvedUnits,
        patched: &[PatchedObject],
        report: &mut BuildReport,
        progress: &Progress<'_>,
    ) -> Result<Linked, BuildError> {
        let mut watch = Instant::now();
        progress("linking the livepatch module");
        let kernel = ShippedKernel::new(&self.image);
        let mut symbols = resolved.symbols.clone();
        for name in NOTES_SYMBOLS {
            symbols.insert(name.to_owned(), Resolution::Livepatch(kernel_symbol(&kernel, name)?));
        }
        let objects: Vec<Vec<u8>> =
            compared.iter().filter_map(|c| c.extracted.as_ref()).map(|e| e.object.to_bytes()).collect();
        let glue = glue::source(version, &self.identity, &resolved.objects, patched, &resolved.states);
        let plain = self.tree.link_module(&LinkInput {
            module_name: version.module_name().as_str(),
            glue: &glue,
            objects: &objects,
            keep_debug: false,
        })?;
        let finished = finish(&plain, &symbols, &self.exports);
        let Finished { module, lost } = finished.map_err(BuildError::refused(THE_LIVEPATCH))?;
        report.lost = lost;
        report.seconds.link = lap(&mut watch);
        Ok(Linked { module, plain, glue })
    }

    fn analyse(
        &self,
        request: &PatchRequest,
        compiled: &CompiledPatches,
        progress: &Progress<'_>,
    ) -> Result<Analysis, BuildError> {
        let Self { image, identity, files, tree, exports, .. } = self;
        let scratch = self.scratch.path();
        let mut seconds = StepSeconds {
            identify: self.identify_seconds,
            prepare: self.prepare_seconds,
            compile: compiled.seconds,
            ..StepSeconds::default()
        };
        let mut watch = Instant::now();
        progress("comparing, and proving that the compiler reproduces the shipped code");
        let kernel = ShippedKernel::new(image);
        let mut findings = Findings { arguments: &request.arguments, list: Vec::new(), refused: None };
        let mut work = Vec::new();
        let mut same_bytes = 0;
        for pair in &compiled.pairs {
            // The same bytes need no closer look.
            if pair.original == pair.patched {
                same_bytes += 1;
                continue;
            }
            let object = match &pair.membership {
                Membership::Vmlinux => ObjectName::Vmlinux,
                Membership::Module(name) => ObjectName::Module(name.clone()),
            };
            let sizes = tree.entry_sizes();
            let original = findings.take(&pair.unit, Unit::parse(&pair.original, &sizes));
            let patched = findings.take(&pair.unit, Unit::parse(&pair.patched, &sizes));
            if let (Some(original), Some(patched)) = (original, patched) {
                let (unit, command) = (pair.unit.clone(), pair.command.clone());
                work.push(UnitWork { unit, object, command, original, patched });
            }
        }
        let shipped = ShippedObjects::load(&work, files)?;
        let pair = |unit: &UnitWork, command: &CompilerCommand| {
            let original = tree.original(&unit.unit, command, scratch)?;
            let patched = tree.compile_patched(&original, &compiled.mirror, scratch)?;
            Ok::<_, BuildError>((original.object, patched))
        };
        let again = |unit: &UnitWork, reasons: &[Reason]| {
            progress(&format!("compiling {} in another way, original and patched", unit.unit));
            pair(unit, &command_for(&unit.command, reasons))
        };
        let with_debug = |unit: &UnitWork| {
            progress(&format!("compiling {} with debug information, original and patched", unit.unit));
            pair(unit, &unit.command.with_debug_information())
        };
        let extraction = Extraction { again: &again, sizes: tree.entry_sizes(), exports };
        let mut compared = compare_units(&work, &kernel, &shipped, &extraction, &mut findings)?;
        let mut resolved =
            resolve_units(&work, &mut compared, &kernel, &shipped, files, exports, &mut findings)?;
        resolved.states = livepatch_states(tree.path(), &work, &compared, &mut findings);
        let mut reports: Vec<UnitReport> =
            work.iter().zip(&compared).zip(&resolved.livepatch_symbols).map(unit_report).collect();
        let mut types = TypesReport::default();
        for ((unit, compared), report) in work.iter().zip(&compared).zip(&mut reports) {
            report.functions = function_reports(compared, &resolved);
            if !compared.changes {
                continue;
            }
            match read_debug(unit, &compiled.sources, &with_debug)? {
                Ok(debug) => {
                    debug.complete(&mut report.functions);
                    types.add(&unit.unit, &debug);
                }
                Err(error) => findings.add(Verdict::NeedsPerson, &unit.unit, &unreadable(&unit.unit, &error)),
            }
        }
        for (unit, refusal) in types.findings() {
            findings.add(Verdict::NeedsPerson, &unit, &refusal);
        }
        seconds.diff = lap(&mut watch);

        let changes = !resolved.objects.is_empty() || !findings.list.is_empty();
        let worst = findings.list.iter().filter(|f| f.argument.is_none()).map(|f| f.verdict).max();
        let mut verdict = worst.unwrap_or(if changes { Verdict::Ok } else { Verdict::NotAffected });
        // Nothing is left when all that changes must be left out.
        if verdict == Verdict::NeedsPerson && resolved.objects.is_empty() {
            verdict = Verdict::Cannot;
        }
        let report = BuildReport {
            schema: 1,
            kernel: identity.clone(),
            compiler: tree.compiler_version().to_owned(),
            toolchain: ToolchainReport::of(tree),
            verdict,
            findings: findings.list,
            units_compiled: compiled.pairs.len(),
            units_identical: same_bytes,
            units: reports,
            states: resolved.states.iter().map(|s| StateReport { id: s.id, version: s.version }).collect(),
            layout_changes: types.layouts,
            constant_changes: types.constants,
            lost: BTreeSet::new(),
            seconds,
        };
        Ok(Analysis { work, shipped, compared, resolved, report, refused: findings.refused })
    }
}

/// Where a refusal lies that is of no single unit.
const THE_LIVEPATCH: &str = "the livepatch";

/// Collects what is found; a refusal does not stop the look at other units.
struct Findings<'a> {
    arguments: &'a [(String, String)],
    list: Vec<Finding>,
    refused: Option<BuildError>,
}

impl Findings<'_> {
    fn add(&mut self, verdict: Verdict, unit: &str, refusal: &Refusal) {
        self.add_marked(verdict, unit, refusal, &Marks::default());
    }

    /// The same; marks may argue it, where the command line does not.
    fn add_marked(&mut self, verdict: Verdict, unit: &str, refusal: &Refusal, marks: &Marks) {
        // What cannot be built cannot be argued either.
        let argument =
            self.arguments.iter().find(|(place, _)| *place == refusal.place && verdict != Verdict::Cannot);
        let mut marked =
            marks.left_out.iter().filter(|mark| verdict != Verdict::Cannot && !mark.reason.is_empty());
        let marked = marked.find(|mark| mark.place == refusal.place).map(|mark| mark.reason.clone());
        let argument = argument.map(|(_, reason)| reason.clone()).or(marked);
        self.list.push(Finding::new(verdict, unit, refusal, argument));
    }

    /// The value, or nothing and a finding that it cannot be.
    fn take<T>(&mut self, unit: &str, result: Result<T, Refusal>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(refusal) => {
                self.add(Verdict::Cannot, unit, &refusal);
                self.refused.get_or_insert(BuildError::Refused { unit: unit.to_owned(), refusal });
                None
            }
        }
    }
}

/// What the livepatch can be built from again.
fn sources_of(request: &PatchRequest) -> PatchSources {
    let entry = |text: &String| SourceEntry {
        cves: Vec::new(),
        upstream: None,
        r#override: None,
        text: text.clone(),
    };
    PatchSources {
        schema: 1,
        patches: request.patches.iter().map(entry).collect(),
        arguments: request.arguments.clone(),
    }
}

/// The CVE as it stands in the manifest.
fn covered(cve: &CveEntry, partial: bool) -> CveEntry {
    let coverage = if partial { CveCoverage::Partial } else { cve.coverage };
    CveEntry { coverage, ..cve.clone() }
}

fn scratch_error(source: std::io::Error) -> BuildError {
    let path = std::env::temp_dir();
    livepatch_kbuild::KbuildError::Io { action: "make a directory in", path, source }.into()
}

fn lap(watch: &mut Instant) -> f64 {
    let seconds = watch.elapsed().as_secs_f64();
    *watch = Instant::now();
    (seconds * 1000.0).round() / 1000.0
}

/// Release and build-id of a kernel, and its symbols.
pub fn identify(vmlinuz: &Path) -> Result<(KernelImage, KernelIdentity), BuildError> {
    let bytes = std::fs::read(vmlinuz).map_err(|source| livepatch_kbuild::KbuildError::Io {
        action: "read",
        path: vmlinuz.into(),
        source,
    })?;
    let image =
        KernelImage::parse(&bytes).map_err(|source| BuildError::Image { path: vmlinuz.into(), source })?;
    let release = image.release.clone().or_else(|| {
        // A bare vmlinux has no boot header: `Linux version RELEASE (…`.
        let words = image.banner()?.strip_prefix("Linux version ")?;
        KernelRelease::parse(words.split(' ').next()?).ok()
    });
    let release = release.ok_or_else(|| BuildError::NoRelease { path: vmlinuz.into() })?;
    let identity =
        KernelIdentity { architecture: Architecture::Amd64, release, build_id: image.build_id.clone() };
    Ok((image, identity))
}

pub(crate) fn read_module(files: &KernelFiles, name: &str) -> Result<ShippedModule, BuildError> {
    ShippedModule::parse(name, &files.module(name)?).map_err(BuildError::refused(name))
}

/// The shipped modules that units belong to.
struct ShippedObjects {
    modules: BTreeMap<String, (ShippedModule, BuildId)>,
}

impl ShippedObjects {
    fn load(work: &[UnitWork], files: &KernelFiles) -> Result<Self, BuildError> {
        let mut modules = BTreeMap::new();
        for unit in work {
            let name = unit.object.to_string();
            if unit.object == ObjectName::Vmlinux || modules.contains_key(&name) {
                continue;
            }
            let module = read_module(files, &name)?;
            let build_id = module.build_id_note().and_then(|note| gnu_build_id(note).ok().flatten());
            let build_id = build_id.ok_or_else(|| BuildError::NoModuleBuildId(name.clone()))?;
            modules.insert(name, (module, build_id));
        }
        Ok(Self { modules })
    }

    fn of<'s>(&'s self, object: &ObjectName, kernel: &'s dyn Shipped) -> &'s dyn Shipped {
        match object {
            ObjectName::Vmlinux => kernel,
            ObjectName::Module(name) => self.modules.get(name.as_str()).map_or(kernel, |(module, _)| module),
        }
    }
}

pub(crate) struct Compared {
    fidelity: Fidelity,
    pub(crate) extracted: Option<Extracted>,
    /// The patched object that it was taken from, when that is of a second compilation, and why it is.
    pub(crate) second_code: Option<Object>,
    pub(crate) reasons: Vec<Reason>,
    marks: Marks,
    /// Whether anything that the kernel keeps differs, or may: then it could not be compared.
    changes: bool,
    /// Functions that differ, and whether they can be traced.
    changed: Vec<(String, bool)>,
    /// Functions that are new.
    added: Vec<String>,
}

impl Compared {
    fn new(unit: &UnitWork, fidelity: Option<Fidelity>, comparison: Option<&Comparison>) -> Self {
        let (mut changed, mut added) = (Vec::new(), Vec::new());
        if let Some(comparison) = comparison {
            let name = |item: usize| unit.patched.items[item].name().to_owned();
            let own = |item: &&usize| !comparison.parent_of.contains_key(item);
            for item in comparison.changed.iter().filter(own) {
                let traced = comparison.original_of[*item].is_some_and(|old| unit.original.has_fentry(old));
                changed.push((name(*item), traced && unit.patched.has_fentry(*item)));
            }
            added.extend(comparison.new_functions.iter().filter(own).map(|item| name(*item)));
        }
        let changes = comparison.is_none_or(|comparison| {
            !(comparison.changed.is_empty()
                && comparison.new_functions.is_empty()
                && comparison.omitted.is_empty())
        });
        let marks = Marks::default();
        let (fidelity, reasons) = (fidelity.unwrap_or_default(), Vec::new());
        Self { fidelity, extracted: None, second_code: None, reasons, marks, changes, changed, added }
    }
}

/// What the debug information of a unit says. Most kernels are compiled with it; else the unit is compiled again.
fn read_debug(
    unit: &UnitWork,
    sources: &[ChangedSource],
    with_debug: &dyn Fn(&UnitWork) -> Result<TwoObjects, BuildError>,
) -> Result<Result<UnitDebug, DebugError>, BuildError> {
    if unit.command.has_debug_information() {
        return Ok(UnitDebug::read(&unit.original.object, &unit.patched.object, sources));
    }
    let (original, patched) = with_debug(unit)?;
    let parse = |bytes: &[u8]| Object::parse(bytes).map_err(|error| DebugError::Damaged(error.to_string()));
    Ok(parse(&original).and_then(|original| UnitDebug::read(&original, &parse(&patched)?, sources)))
}

fn compare_units(
    work: &[UnitWork],
    kernel: &dyn Shipped,
    shipped: &ShippedObjects,
    extraction: &Extraction<'_>,
    findings: &mut Findings<'_>,
) -> Result<Vec<Compared>, BuildError> {
    let mut out = Vec::new();
    for (prefix, unit) in work.iter().enumerate() {
        let proof = findings.take(&unit.unit, prove(&unit.original, shipped.of(&unit.object, kernel)));
        let comparison = findings.take(&unit.unit, compare(&unit.original, &unit.patched));
        // Marks that cannot be read are a refusal of the comparison already.
        let marks = Marks::read(&unit.patched).unwrap_or_default();
        let stays = comparison.as_ref().map(|c| left_behind(&unit.original, &unit.patched, c));
        let omitted: Vec<&Refusal> =
            comparison.iter().flat_map(|c| &c.omitted).chain(stays.iter().flatten()).collect();
        for omitted in &omitted {
            findings.add_marked(Verdict::NeedsPerson, &unit.unit, omitted, &marks);
        }
        if comparison.is_some() {
            check_left_out(&unit.unit, &marks, &omitted, findings);
        }
        let mut compared = Compared::new(unit, proof, comparison.as_ref());
        compared.extracted = match comparison {
            Some(comparison) => {
                let taken = extraction.extract(unit, &comparison, prefix)?;
                findings.take(&unit.unit, taken).flatten().map(|Taken { extracted, code, reasons }| {
                    (compared.second_code, compared.reasons) = (code, reasons);
                    extracted
                })
            }
            None => None,
        };
        for function in compared.extracted.iter().flat_map(|e| &e.functions) {
            if let Some(why) = always_running::why(&function.name) {
                let refusal = Refusal { rule: Rule::AlwaysRunning, place: function.name.clone(), why };
                findings.add(Verdict::NeedsPerson, &unit.unit, &refusal);
            }
        }
        compared.marks = marks;
        out.push(compared);
    }
    Ok(out)
}

/// What a mark leaves out must be something that the patch changes here: a misspelt one would leave out nothing.
fn check_left_out(unit: &str, marks: &Marks, omitted: &[&Refusal], findings: &mut Findings<'_>) {
    for mark in &marks.left_out {
        if omitted.iter().all(|omitted| omitted.place != mark.place) {
            let why =
                "a mark of the patch's author leaves it out, and nothing of that name changes".to_owned();
            let refusal = Refusal { rule: Rule::AuthorMark, place: mark.place.clone(), why };
            findings.add(Verdict::NeedsPerson, unit, &refusal);
        }
    }
}

/// The states of all units.
fn livepatch_states(
    tree: &Path,
    work: &[UnitWork],
    compared: &[Compared],
    findings: &mut Findings<'_>,
) -> BTreeSet<State> {
    let mut states: BTreeMap<u64, u32> = BTreeMap::new();
    for (unit, Compared { marks, .. }) in work.iter().zip(compared) {
        for State { id, version } in &marks.states {
            let why = if !has_states(tree) {
                "this kernel's livepatches have no states (struct klp_state, since 5.5)"
            } else if *states.entry(*id).or_insert(*version) != *version {
                "two units give this state different versions"
            } else {
                continue;
            };
            let refusal =
                Refusal { rule: Rule::AuthorMark, place: format!("state {id}"), why: why.to_owned() };
            _ = findings.take::<()>(&unit.unit, Err(refusal));
        }
    }
    states.into_iter().map(|(id, version)| State { id, version }).collect()
}

/// Whether livepatches of a kernel have states.
fn has_states(tree: &Path) -> bool {
    let header = std::fs::read_to_string(tree.join("include/linux/livepatch.h"));
    header.is_ok_and(|text| text.contains("struct klp_state {"))
}

struct ResolvedUnits {
    objects: Vec<ObjectRedirects>,
    states: BTreeSet<State>,
    symbols: BTreeMap<String, Resolution>,
    livepatch_symbols: Vec<Vec<String>>,
}

fn resolve_units(
    work: &[UnitWork],
    compared: &mut [Compared],
    kernel: &dyn Shipped,
    shipped: &ShippedObjects,
    files: &KernelFiles,
    exports: &Exports,
    findings: &mut Findings<'_>,
) -> Result<ResolvedUnits, BuildError> {
    let defined: BTreeSet<String> = compared
        .iter()
        .filter_map(|c| c.extracted.as_ref())
        .flat_map(|e| e.object.symbols.iter())
        .filter(|s| {
            s.binding == livepatch_klp::elf::Binding::Global
                && matches!(s.placement, livepatch_klp::elf::Placement::Section(_))
        })
        .map(|s| s.name.clone())
        .chain([LIVEPATCH_SYMBOL.to_owned()])
        .collect();
    let mut out = ResolvedUnits {
        states: BTreeSet::new(),
        objects: Vec::new(),
        symbols: BTreeMap::new(),
        livepatch_symbols: Vec::new(),
    };
    for (unit, Compared { fidelity, extracted, .. }) in work.iter().zip(compared) {
        let Some(extracted) = extracted else {
            out.livepatch_symbols.push(Vec::new());
            continue;
        };
        let own = unit.object.to_string();
        let mut others: BTreeMap<String, ShippedModule> = BTreeMap::new();
        for name in modules_used(extracted, exports, &own) {
            let module = read_module(files, &name)?;
            others.insert(name, module);
        }
        let modules: BTreeMap<String, &dyn Shipped> =
            others.iter().map(|(name, module)| (name.clone(), module as &dyn Shipped)).collect();
        let context = Context {
            original: &unit.original,
            fidelity,
            shipped: shipped.of(&unit.object, kernel),
            vmlinux: kernel,
            modules: &modules,
            exports,
            defined_elsewhere: &defined,
        };
        let Some(resolved) = findings.take(&unit.unit, resolve(extracted, &context)) else {
            out.livepatch_symbols.push(Vec::new());
            continue;
        };
        let mut names = Vec::new();
        for (symbol, resolution) in resolved.symbols {
            if let Resolution::Livepatch(found) = &resolution {
                names.push(found.symbol_name());
            }
            // Two units may each mean something of one name; only one can go by it when they are linked.
            let other = out.symbols.get(&symbol).is_some_and(|other| *other != resolution);
            let symbol = match other || defined.contains(&symbol) {
                // objtool knows those by their names.
                true if symbol.starts_with(STATIC_CALL) || symbol.starts_with(STATIC_CALL_KEY) => {
                    let why =
                        "two units of the livepatch mean different static calls of this name".to_owned();
                    let refusal = Refusal { rule: Rule::NotSupported, place: symbol.clone(), why };
                    _ = findings.take::<()>(&unit.unit, Err(refusal));
                    symbol
                }
                true => extracted.rename(&symbol),
                false => symbol,
            };
            out.symbols.insert(symbol, resolution);
        }
        out.livepatch_symbols.push(names);
        add_redirects(&mut out.objects, own, resolved.redirects, extracted.callbacks.clone());
    }
    Ok(out)
}

fn add_redirects(
    objects: &mut Vec<ObjectRedirects>,
    object: String,
    redirects: Vec<Redirect>,
    callbacks: Vec<Callback>,
) {
    // What only comes along redirects nothing by itself.
    if redirects.is_empty() && callbacks.is_empty() {
        return;
    }
    let known = objects.iter().position(|known| known.object == object);
    let at = known.unwrap_or_else(|| {
        objects.push(ObjectRedirects { object, redirects: Vec::new(), callbacks: Vec::new() });
        objects.len() - 1
    });
    objects[at].redirects.extend(redirects);
    if !callbacks.is_empty() {
        objects[at].callbacks.push(callbacks);
    }
}

fn kernel_symbol(kernel: &dyn Shipped, name: &str) -> Result<LivepatchSymbol, BuildError> {
    let place = match kernel.named(name).as_slice() {
        [(address, _)] => sympos(kernel, name, *address),
        _ => None,
    };
    let sympos = place.ok_or_else(|| BuildError::Refused {
        unit: THE_LIVEPATCH.into(),
        refusal: Refusal {
            rule: Rule::SymbolMissing,
            place: name.into(),
            why: "the kernel does not have exactly one symbol of this name".into(),
        },
    })?;
    let vmlinux = "vmlinux".to_owned();
    Ok(LivepatchSymbol { applied_with: vmlinux.clone(), object: vmlinux, name: name.to_owned(), sympos })
}

fn unit_report(((work, compared), symbols): ((&UnitWork, &Compared), &Vec<String>)) -> UnitReport {
    let extracted = compared.extracted.as_ref();
    let changed = extracted.map(|e| e.functions.iter().map(|f| f.name.clone()).collect());
    let added = extracted.map(|e| e.added_functions.iter().chain(&e.added_data).cloned().collect());
    let skipped = compared.fidelity.skipped.iter();
    UnitReport {
        unit: work.unit.clone(),
        object: work.object.to_string(),
        changed_functions: changed.unwrap_or_default(),
        functions: Vec::new(),
        added: added.unwrap_or_default(),
        identical_functions: compared.fidelity.identical.len(),
        not_compared: skipped
            .map(|(function, reason)| NotCompared { function: function.clone(), reason: reason.clone() })
            .collect(),
        callbacks: extracted.iter().flat_map(|e| &e.callbacks).map(callback_report).collect(),
        livepatch_symbols: symbols.clone(),
    }
}

fn callback_report(callback: &Callback) -> CallbackReport {
    CallbackReport { hook: callback.hook.field(), function: callback.name.clone() }
}

/// The functions that a patch touches, with their places among symbols of one name.
fn function_reports(compared: &Compared, resolved: &ResolvedUnits) -> Vec<FunctionReport> {
    let redirects = || resolved.objects.iter().flat_map(|object| &object.redirects);
    let sympos = |name: &str| {
        let functions = compared.extracted.iter().flat_map(|extracted| &extracted.functions);
        let symbol = &functions.into_iter().find(|function| function.name == name)?.symbol;
        redirects().find(|redirect| redirect.symbol == *symbol).map(|redirect| redirect.sympos)
    };
    let report = |name: &String, touch, fentry| FunctionReport {
        name: name.clone(),
        touch,
        fentry,
        sympos: sympos(name),
        inlined_into: Vec::new(),
    };
    let changed = compared.changed.iter().map(|(name, fentry)| report(name, Touch::Changed, Some(*fentry)));
    // What is redirected can be traced.
    let callers = compared.extracted.iter().flat_map(|extracted| &extracted.functions);
    let callers = callers.filter(|f| compared.changed.iter().all(|(name, _)| *name != f.name));
    let callers = callers.map(|function| report(&function.name, Touch::Caller, Some(true)));
    let added = compared.added.iter().map(|name| report(name, Touch::Added, None));
    changed.chain(callers).chain(added).collect()
}

fn patched_objects(
    objects: &[ObjectRedirects],
    kernel: &KernelIdentity,
    shipped: &ShippedObjects,
) -> Result<Vec<PatchedObject>, BuildError> {
    let make = |object: &ObjectRedirects| {
        let build_id = match shipped.modules.get(&object.object) {
            Some((_, build_id)) => build_id.clone(),
            None => kernel.build_id.clone(),
        };
        let name = ModuleName::parse(&object.object)
            .map_err(|_| BuildError::NoModuleBuildId(object.object.clone()))?;
        let functions =
            object.redirects.iter().map(|r| PatchedFunction { name: r.name.clone(), sympos: r.sympos });
        Ok(PatchedObject { name: ObjectName::from(name), build_id, functions: functions.collect() })
    };
    objects.iter().map(make).collect()
}
