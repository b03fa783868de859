//! What a build did: goes into the bundle, and is what `--format json` prints.

use std::collections::BTreeSet;

use livepatch_kbuild::{Package, PreparedTree, Toolchain};
use livepatch_klp::{Refusal, Rule};
use livepatch_types::{KernelIdentity, Sha256Digest};
use serde::Serialize;

/// What is to be said of a patch as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing of it changes this kernel.
    NotAffected,
    /// It can be a livepatch as it is.
    Ok,
    /// It can, if a person argues what is found.
    NeedsPerson,
    /// It cannot.
    Cannot,
}

/// Something that was found about a patch, by a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What the finding alone means for the patch.
    pub verdict: Verdict,
    /// The rule's stable word.
    pub rule: String,
    /// The unit.
    pub unit: String,
    /// The function, variable or section.
    pub place: String,
    /// What about it.
    pub why: String,
    /// The usual way out.
    pub way_out: String,
    /// What a person said about it.
    pub argument: Option<String>,
}

impl Finding {
    pub(crate) fn new(verdict: Verdict, unit: &str, refusal: &Refusal, argument: Option<String>) -> Self {
        Self {
            verdict,
            rule: refusal.rule.name().to_owned(),
            unit: unit.to_owned(),
            place: refusal.place.clone(),
            why: refusal.why.clone(),
            way_out: refusal.rule.hint().to_owned(),
            argument,
        }
    }

    /// Whether a livepatch without an argument for it is a partial fix. Code that works on another layout than that of
    /// existing objects is no fix at all.
    pub fn can_be_partial(&self) -> bool {
        self.rule != Rule::LayoutChanged.name()
    }
}

/// The report of one build.
#[derive(Debug, Clone, Serialize)]
pub struct BuildReport {
    /// Version of this format: 1.
    pub schema: u32,
    /// The kernel.
    pub kernel: KernelIdentity,
    /// First line of the compiler's `--version`.
    pub compiler: String,
    /// Everything that it was built with.
    pub toolchain: ToolchainReport,
    /// What is to be said of the patch as a whole.
    pub verdict: Verdict,
    /// What was found.
    pub findings: Vec<Finding>,
    /// How many units the patch concerns; each was compiled twice.
    pub units_compiled: usize,
    /// How many of them came out as the same bytes.
    pub units_identical: usize,
    /// Each of the others.
    pub units: Vec<UnitReport>,
    /// States of the system that the livepatch makes (`struct klp_state`).
    pub states: Vec<StateReport>,
    /// Types that the patch lays out in another way, or whose members it renames, in units whose code changes.
    pub layout_changes: Vec<LayoutReport>,
    /// Constants of enumerations that have another value there.
    pub constant_changes: Vec<ConstantReport>,
    /// What the patched functions lack, in words: tracepoints of modules, which stay off in them. Known once linked.
    pub lost: BTreeSet<String>,
    /// What took how long.
    pub seconds: StepSeconds,
}

/// What a livepatch was built with.
#[derive(Debug, Clone, Serialize)]
pub struct ToolchainReport {
    /// Name of the toolchain root, or `host`.
    pub name: String,
    /// Digest of all that is in the root.
    pub content: Option<Sha256Digest>,
    /// Its packages; of a host those that a kernel's build uses.
    pub packages: Vec<PackageReport>,
    /// How its programs were kept from everything else: `bubblewrap` or `none`.
    pub sandbox: &'static str,
}

/// An installed package.
#[derive(Debug, Clone, Serialize)]
pub struct PackageReport {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl From<&Package> for PackageReport {
    fn from(package: &Package) -> Self {
        Self { name: package.name.clone(), version: package.version.clone() }
    }
}

impl ToolchainReport {
    pub(crate) fn of(tree: &PreparedTree) -> Self {
        let Toolchain { name, content, packages, .. } = tree.toolchain();
        Self {
            name: name.clone(),
            content: *content,
            packages: packages.iter().map(PackageReport::from).collect(),
            sandbox: tree.isolation().word(),
        }
    }
}

/// One unit.
#[derive(Debug, Clone, Serialize)]
pub struct UnitReport {
    /// Path of the object in the tree.
    pub unit: String,
    /// `vmlinux` or the module.
    pub object: String,
    /// Functions that are redirected; none: the unit came out identical.
    pub changed_functions: Vec<String>,
    /// Each function that the patch touches, the ones that are not redirected too.
    pub functions: Vec<FunctionReport>,
    /// Functions and variables that come along.
    pub added: Vec<String>,
    /// Functions of the unit that were found identical in the shipped code.
    pub identical_functions: usize,
    /// Functions that could not be compared with the shipped code, and why.
    pub not_compared: Vec<NotCompared>,
    /// What is called when the livepatch comes or goes.
    pub callbacks: Vec<CallbackReport>,
    /// Symbols of the kernel that are found by the livepatch code.
    pub livepatch_symbols: Vec<String>,
}

/// A callback.
#[derive(Debug, Clone, Serialize)]
pub struct CallbackReport {
    /// `pre_patch`, `post_patch`, `pre_unpatch` or `post_unpatch`.
    pub hook: &'static str,
    /// The function.
    pub function: String,
}

/// A state.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct StateReport {
    /// Its number.
    pub id: u64,
    /// Its version.
    pub version: u32,
}

/// How a patch touches a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Touch {
    /// Its code changes: it is redirected.
    Changed,
    /// It calls a function that changes and cannot be redirected: it is redirected in its place.
    Caller,
    /// It is new.
    Added,
    /// Its source changes, and it exists as copies in others only: those are redirected.
    InlinedOnly,
}

/// A function that the patch touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FunctionReport {
    /// Its symbol; of one that exists as copies only its name in the source.
    pub name: String,
    /// How it is touched.
    pub touch: Touch,
    /// Whether it has a call to `__fentry__`, with and without the patch; only asked of those that change.
    pub fentry: Option<bool>,
    /// Its place among kernel symbols of this name; 0: there is no other. None when it is not redirected.
    pub sympos: Option<u32>,
    /// Functions whose code holds a copy of it.
    pub inlined_into: Vec<String>,
}

/// A type with another layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LayoutReport {
    /// `struct name`, `union name`, `enum name` or the name of a typedef.
    pub name: String,
    /// The function that it is declared in, if it is.
    pub local_to: Option<String>,
    /// Length in bytes.
    pub old_size: u64,
    /// Length in bytes with the patch.
    pub new_size: u64,
    /// What became of its members.
    pub members: Vec<MemberReport>,
    /// Changed types that it holds, when it changed for no other reason.
    pub follows: Vec<String>,
    /// The units that have it.
    pub units: Vec<String>,
}

/// What became of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberReport {
    /// Its name.
    pub name: String,
    /// `added`, `removed`, `retyped`, `moved` or `renamed`.
    pub change: String,
    /// Where it was.
    pub old: Option<PlaceReport>,
    /// Where it is with the patch.
    pub new: Option<PlaceReport>,
}

/// Where a member lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaceReport {
    /// Offset in bytes.
    pub byte_offset: u64,
    /// For bit fields, the first bit in that byte.
    pub bit_offset: Option<u64>,
    /// Length in bits.
    pub bits: u64,
    /// Its type in words.
    pub r#type: String,
}

/// A constant of an enumeration with another value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConstantReport {
    /// Its name.
    pub name: String,
    /// Its value.
    pub old: i128,
    /// Its value with the patch.
    pub new: i128,
}

/// A function that could not be compared.
#[derive(Debug, Clone, Serialize)]
pub struct NotCompared {
    /// The function.
    pub function: String,
    /// The reason.
    pub reason: String,
}

/// Seconds that the steps of a build took.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct StepSeconds {
    /// Reading the kernel image and its symbols.
    pub identify: f64,
    /// Making or opening the prepared source tree.
    pub prepare: f64,
    /// Compiling originals and patched units.
    pub compile: f64,
    /// Comparing, proving and extracting.
    pub diff: f64,
    /// objtool, glue, link and livepatch relocations.
    pub link: f64,
}
