//! Proof of a livepatch: the kernel as it was shipped, booted in a virtual machine, with the livepatch loaded into it,
//! taken out, loaded again under load, loaded before the modules that it patches, exchanged with the one before.
//!
//! A step that fails makes a failed proof, which is kept like a passed one. An error is only what kept the proof from
//! being tried.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use livepatch_kbuild::{KbuildError, unpack_deb};
use livepatch_manifest::bundle::MAX_PROOF_BYTES;
use livepatch_manifest::{Bundle, ObjectName, ProofCheck, ProofResult, ProofStep, VmProof, sha256};
use livepatch_types::{CveId, ModuleName, PatchVersion};
use livepatch_vm::{BootSpec, Command, Guest, Initramfs, KernelTree, Mark, Network, VmError, problems_in};

use crate::error::BuildError;
use crate::files::read;
use crate::pipeline::{Progress, identify};

/// One command in the guest, the programs that tell of a fix included. TCG on a busy host is slow.
const COMMAND: Duration = Duration::from_secs(300);
/// A transition.
const TRANSITION: Duration = Duration::from_secs(180);
/// Booting: the generic kernels of distributions take longest.
const BOOT: Duration = Duration::from_secs(300);
/// How often the livepatch is loaded and taken out under load.
const ROUNDS_UNDER_LOAD: usize = 3;
/// Largest kernel log in a proof, in bytes: the rest of the section is small.
const MAX_LOG_BYTES: usize = MAX_PROOF_BYTES as usize / 2;
/// Taint bits that loading a livepatch sets: out of the kernel's tree (12), not signed (13), livepatch (15)
/// (Documentation/admin-guide/tainted-kernels.rst).
const EXPECTED_TAINT: u64 = 1 << 12 | 1 << 13 | 1 << 15;
/// What the kernel says when a livepatch lacks the state of the one that is loaded (kernel/livepatch/core.c).
const INCOMPATIBLE: &str = "is not compatible with the already installed livepatches";

/// A program that tells whether a kernel has a fix.
#[derive(Debug, Clone)]
pub struct Check {
    /// The CVE.
    pub cve: CveId,
    /// The static program; exit status 0: fixed, 1: vulnerable.
    pub program: Vec<u8>,
    /// Modules that it needs.
    pub needs: Vec<ModuleName>,
}

/// What to prove.
pub struct ProofRequest<'p> {
    /// The livepatch, not signed yet.
    pub bundle: &'p Bundle,
    /// linux-image package, or directory with its files.
    pub kernel: &'p Path,
    /// Programs that tell of fixes.
    pub checks: &'p [Check],
    /// The livepatch before.
    pub previous: Option<&'p Bundle>,
}

/// Why nothing could be proven.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// A file.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The virtual machine.
    #[error("{}", one_line(.0))]
    Vm(#[from] VmError),
    /// Another kernel.
    #[error("{path} is {found}, but the livepatch is for {wanted}")]
    WrongKernel {
        /// The kernel that was given.
        path: PathBuf,
        /// Its release and build-id.
        found: String,
        /// Release and build-id of the bundle's.
        wanted: String,
    },
    /// The signature would not cover the proof.
    #[error("the bundle is signed already")]
    Signed,
}

impl From<KbuildError> for ProveError {
    fn from(error: KbuildError) -> Self {
        Self::Build(error.into())
    }
}

impl ProveError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Build(error) => error.hint().into_owned(),
            Self::Vm(error) => error.hint().unwrap_or_else(|| "see docs/series.md".into()),
            Self::WrongKernel { .. } => {
                "give the linux-image package that the livepatch was built for".into()
            }
            Self::Signed => "prove before signing: the signature is to cover the proof".into(),
        }
    }
}

fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Reads a check: C source is compiled, anything else is a program for the guest.
pub fn read_check(cve: CveId, path: &Path, needs: &[ModuleName]) -> Result<Check, ProveError> {
    let program = if path.extension().is_some_and(|extension| extension == "c") {
        let scratch = scratch()?;
        let out = scratch.path().join("check");
        livepatch_vm::compile_static(path, &out)?;
        read(&out)?
    } else {
        read(path)?
    };
    Ok(Check { cve, program, needs: needs.to_vec() })
}

fn scratch() -> Result<tempfile::TempDir, KbuildError> {
    tempfile::tempdir().map_err(|source| KbuildError::Io {
        action: "make a directory in",
        path: std::env::temp_dir(),
        source,
    })
}

/// Tries everything; what came of it.
pub fn prove(request: &ProofRequest<'_>, progress: &Progress<'_>) -> Result<VmProof, ProveError> {
    if request.bundle.signature.is_some() {
        return Err(ProveError::Signed);
    }
    let scratch = scratch()?;
    let root = if request.kernel.is_dir() {
        request.kernel.to_owned()
    } else {
        progress("unpacking the kernel");
        let root = scratch.path().join("image");
        unpack_deb(request.kernel, &root)?;
        root
    };
    let tree = KernelTree::open(&root)?;
    let wanted = &request.bundle.manifest.kernel;
    let (_, found) = identify(&tree.vmlinuz())?;
    if found != *wanted {
        return Err(ProveError::WrongKernel {
            path: request.kernel.to_owned(),
            found: format!("{} ({})", found.release, found.build_id),
            wanted: format!("{} ({})", wanted.release, wanted.build_id),
        });
    }
    let machine = livepatch_vm::machine_version()?;
    let mut proof = VmProof {
        schema: 1,
        module: sha256(&request.bundle.module),
        kernel: found,
        machine,
        result: ProofResult::Passed,
        steps: Vec::new(),
        checks: request
            .checks
            .iter()
            .map(|check| ProofCheck {
                cve: check.cve,
                program: sha256(&check.program),
                said: BTreeMap::new(),
            })
            .collect(),
        previous: request.previous.map(|bundle| bundle.manifest.version),
        log: String::new(),
    };
    let mut sessions = vec![Modules::Loaded];
    if !patched_modules(request).is_empty() {
        sessions.push(Modules::Later);
    }
    for modules in sessions {
        let transcript = scratch.path().join(format!("transcript-{modules:?}"));
        let mut session = match Session::boot(request, &tree, modules, &transcript, &mut proof, progress)? {
            Some(session) => session,
            None => break,
        };
        let outcome = match modules {
            Modules::Loaded => session.modules_are_there(),
            Modules::Later => session.modules_come_later(),
        };
        session.end(outcome.is_ok());
        if outcome.is_err() {
            break;
        }
    }
    proof.log = shortened(&proof.log, MAX_LOG_BYTES);
    Ok(proof)
}

/// Names of the modules that the livepatch, or the one before, patches.
fn patched_modules(request: &ProofRequest<'_>) -> BTreeSet<ModuleName> {
    let bundles = [Some(request.bundle), request.previous];
    let objects = bundles.into_iter().flatten().flat_map(|bundle| &bundle.manifest.objects);
    objects
        .filter_map(|object| match &object.name {
            ObjectName::Module(name) => Some(name.clone()),
            ObjectName::Vmlinux => None,
        })
        .collect()
}

/// When patched modules are loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Modules {
    Loaded,
    Later,
}

/// A step failed; the proof says why.
struct Failed;

/// A booted guest, and the proof that grows.
struct Session<'s> {
    guest: Guest,
    request: &'s ProofRequest<'s>,
    proof: &'s mut VmProof,
    progress: &'s Progress<'s>,
    modules: BTreeSet<ModuleName>,
    taint: u64,
    mark: Mark,
}

impl<'s> Session<'s> {
    /// Boots; none when that failed, which is then a step of the proof.
    fn boot(
        request: &'s ProofRequest<'s>,
        tree: &KernelTree,
        modules: Modules,
        transcript: &Path,
        proof: &'s mut VmProof,
        progress: &'s Progress<'s>,
    ) -> Result<Option<Self>, ProveError> {
        let patched = patched_modules(request);
        let initramfs = initramfs(request, tree, modules, &patched)?;
        let spec = BootSpec {
            network: Network::None,
            memory_mib: 768,
            boot_timeout: BOOT,
            transcript: Some(transcript.to_owned()),
            ..BootSpec::new(tree.vmlinuz(), initramfs.build())
        };
        let what = match modules {
            Modules::Loaded => "boot",
            Modules::Later => "boot again, the patched modules not loaded",
        };
        progress(what);
        let watch = Instant::now();
        let booted = Guest::boot(&spec).and_then(|guest| {
            let taint = taint(&guest)?;
            let mark = guest.mark()?;
            Ok((guest, taint, mark))
        });
        let failure = booted.as_ref().err().map(|error| {
            let last = error.last_lines().unwrap_or_default();
            format!("{}\n{last}", one_line(error)).trim_end().to_owned()
        });
        let failed = failure.is_some();
        proof.steps.push(ProofStep { what: what.into(), milliseconds: milliseconds(watch), failure });
        let (guest, taint, mark) = match booted {
            Ok(booted) => booted,
            // The machine is not installed, or cannot be started: nothing of the livepatch.
            Err(error @ (VmError::MissingProgram { .. } | VmError::Io { .. } | VmError::Invalid(_))) => {
                return Err(error.into());
            }
            Err(_) => {
                proof.result = ProofResult::Failed;
                return Ok(None);
            }
        };
        debug_assert!(!failed);
        Ok(Some(Self { guest, request, proof, progress, modules: patched, taint, mark }))
    }

    /// The livepatch comes to a kernel in which what it patches is loaded.
    fn modules_are_there(&mut self) -> Result<(), Failed> {
        let (bundle, previous) = (self.request.bundle, self.request.previous);
        let version = bundle.manifest.version;
        for module in self.modules.clone() {
            self.step(&format!("module {module} is loaded"), |guest| {
                guest.check(&Command::new("test").arg("-d").arg(format!("/sys/module/{module}")), COMMAND)
            })?;
        }
        self.checks("before", &|_| false)?;
        self.load(version, "load")?;
        self.checks("applied", &|_| true)?;
        self.unload(version, "revert and unload")?;
        self.checks("reverted", &|_| false)?;

        self.begin_load()?;
        for round in 1..=ROUNDS_UNDER_LOAD {
            self.load(version, &format!("load under load, round {round}"))?;
            self.unload(version, &format!("revert and unload under load, round {round}"))?;
        }
        self.load(version, "load under load, and stay")?;
        self.end_load()?;
        self.checks("applied under load", &|_| true)?;
        self.unload(version, "revert and unload")?;

        if let Some(previous) = previous {
            self.exchange(previous)?;
        }
        Ok(())
    }

    /// From the livepatch before to this one, back, and to none.
    fn exchange(&mut self, previous: &Bundle) -> Result<(), Failed> {
        let (new, old) = (self.request.bundle.manifest.version, previous.manifest.version);
        let had = |cve: CveId| previous.manifest.cves.iter().any(|entry| entry.id == cve);
        self.load(old, &format!("load {old}, the one before"))?;
        self.checks("the one before", &had)?;
        self.load(new, &format!("load {new} in its place"))?;
        self.remove_replaced(old)?;
        self.checks("upgraded", &|_| true)?;
        let back = format!("load {old} in its place again");
        if self.load_back(old, &back)? {
            self.remove_replaced(new)?;
        } else {
            // Between livepatches of another state the kernel goes back only through none.
            self.unload(new, &format!("revert {new}, since its state forbids to exchange it"))?;
            self.load(old, &format!("load {old}"))?;
        }
        self.checks("downgraded", &had)?;
        self.unload(old, &format!("revert and unload {old}"))?;
        self.checks("none", &|_| false)
    }

    /// The livepatch comes first.
    fn modules_come_later(&mut self) -> Result<(), Failed> {
        let version = self.request.bundle.manifest.version;
        self.load(version, "load")?;
        for module in self.modules.clone() {
            self.step(&format!("load module {module}, which is patched as it comes"), |guest| {
                guest.check(&Command::new("modprobe").arg(module.as_str()), COMMAND)
            })?;
        }
        self.checks("module came later", &|_| true)?;
        self.unload(version, "revert and unload")?;
        self.checks("module came later, reverted", &|_| false)
    }

    /// Does something; whatever the kernel complains of meanwhile is a failure, too.
    fn step<T>(&mut self, what: &str, work: impl FnOnce(&Guest) -> Result<T, VmError>) -> Result<T, Failed> {
        (self.progress)(what);
        let watch = Instant::now();
        let done = work(&self.guest).map_err(|error| one_line(&error));
        let done = done.and_then(|value| self.kernel_is_well().map(|()| value));
        let failure = done.as_ref().err().cloned();
        if failure.is_some() {
            self.proof.result = ProofResult::Failed;
        }
        self.proof.steps.push(ProofStep { what: what.into(), milliseconds: milliseconds(watch), failure });
        done.map_err(|_| Failed)
    }

    fn kernel_is_well(&mut self) -> Result<(), String> {
        let look = || -> Result<(Mark, String, u64), VmError> {
            let mark = self.guest.mark()?;
            Ok((mark, self.guest.console_since(self.mark)?, taint(&self.guest)?))
        };
        let (mark, log, now) = look().map_err(|error| one_line(&error))?;
        self.mark = mark;
        if let Some(problem) = problems_in(&log).first() {
            return Err(format!("the kernel says: {}", problem.line));
        }
        match now & !(self.taint | EXPECTED_TAINT) {
            0 => Ok(()),
            new => Err(format!("the kernel is tainted by {new:#x}")),
        }
    }

    /// Runs every check; each must say what is expected of its CVE.
    fn checks(&mut self, state: &str, fixed: &dyn Fn(CveId) -> bool) -> Result<(), Failed> {
        for index in 0..self.request.checks.len() {
            let cve = self.request.checks[index].cve;
            let expected = if fixed(cve) { "fixed" } else { "vulnerable" };
            let said = self.step(&format!("check {cve}: {state}"), |guest| {
                let output = guest.run(&Command::new(cve.to_string()), COMMAND)?;
                Ok(match output.status {
                    0 => "fixed".to_owned(),
                    1 => "vulnerable".to_owned(),
                    status => format!("status {status}: {}", output.error_text()),
                })
            })?;
            let right = said == expected;
            self.proof.checks[index].said.insert(state.to_owned(), said.clone());
            if !right {
                self.fail(format!("it says {said}, where it must say {expected}"));
                return Err(Failed);
            }
        }
        Ok(())
    }

    /// Makes the last step a failed one.
    fn fail(&mut self, why: String) {
        self.proof.result = ProofResult::Failed;
        if let Some(last) = self.proof.steps.last_mut() {
            last.failure = Some(why);
        }
    }

    fn load(&mut self, version: PatchVersion, what: &str) -> Result<(), Failed> {
        self.step(what, |guest| insert(guest, version))
    }

    /// Loads an earlier version in place of a later one; false when the state of the later one forbids it.
    fn load_back(&mut self, version: PatchVersion, what: &str) -> Result<bool, Failed> {
        let before = self.mark;
        self.step(what, |guest| match insert(guest, version) {
            Err(error @ VmError::Failed { .. }) => {
                if guest.console_since(before)?.contains(INCOMPATIBLE) {
                    Ok(false)
                } else {
                    Err(error)
                }
            }
            done => done.map(|()| true),
        })
    }

    fn unload(&mut self, version: PatchVersion, what: &str) -> Result<(), Failed> {
        let (name, directory) = (version.module_name(), sysfs(version));
        self.step(what, |guest| {
            guest.check(&Command::shell(format!("echo 0 > {directory}/enabled")), COMMAND)?;
            wait_until_gone(guest, &directory)?;
            guest.check(&Command::new("rmmod").arg(name.as_str()), COMMAND)
        })?;
        Ok(())
    }

    /// Unloads the module of a livepatch that another took the place of.
    fn remove_replaced(&mut self, version: PatchVersion) -> Result<(), Failed> {
        let (name, directory) = (version.module_name(), sysfs(version));
        self.step(&format!("unload {version}, which was replaced"), |guest| {
            wait_until_gone(guest, &directory)?;
            guest.check(&Command::new("rmmod").arg(name.as_str()), COMMAND)
        })?;
        Ok(())
    }

    /// Processes that go through the kernel, and through what is patched, without end; and some that sleep in it.
    fn begin_load(&mut self) -> Result<(), Failed> {
        let mut loops: Vec<(String, String)> = self
            .request
            .checks
            .iter()
            .map(|check| (format!("load-{}", check.cve), format!("{} >/dev/null 2>&1", check.cve)))
            .collect();
        loops.push(("load-files".into(), "cat /proc/[0-9]*/stat /proc/meminfo; ls -lR /sys/module".into()));
        loops.push(("load-processes".into(), "(true); sh -c 'echo x | cat'".into()));
        self.step("begin load", |guest| {
            for (name, work) in &loops {
                let script = format!("while :; do {work}; done >/dev/null 2>&1");
                guest.spawn(name, &Command::shell(script))?;
            }
            guest.spawn("load-sleeper", &Command::new("sleep").arg("100000"))?;
            guest.spawn("load-reader", &Command::shell("mkfifo /tmp/never; exec cat /tmp/never"))
        })?;
        Ok(())
    }

    fn end_load(&mut self) -> Result<(), Failed> {
        self.step("end load", |guest| {
            let kill = "for file in /run/pid/load-*; do kill -KILL -$(cat $file); done; true";
            guest.check(&Command::shell(kill), COMMAND)
        })?;
        Ok(())
    }

    /// Stops the guest and keeps the kernel's log.
    fn end(self, is_well: bool) {
        self.proof.log.push_str(&self.guest.console());
        if !is_well || self.guest.shutdown().is_err() {
            // Dropping the guest has stopped it.
        }
    }
}

fn sysfs(version: PatchVersion) -> String {
    format!("/sys/kernel/livepatch/{}", version.module_name())
}

fn file_of(version: PatchVersion) -> String {
    format!("/{}.ko", version.module_name())
}

fn insert(guest: &Guest, version: PatchVersion) -> Result<(), VmError> {
    guest.check(&Command::new("insmod").arg(file_of(version)), COMMAND)?;
    let transition = Command::new("cat").arg(format!("{}/transition", sysfs(version)));
    guest.wait_for(&transition, "0", TRANSITION)
}

fn wait_until_gone(guest: &Guest, directory: &str) -> Result<(), VmError> {
    guest.wait_for(&Command::shell(format!("test -e {directory} || echo gone")), "gone", TRANSITION)
}

fn taint(guest: &Guest) -> Result<u64, VmError> {
    let text = guest.check(&Command::new("cat").arg("/proc/sys/kernel/tainted"), COMMAND)?;
    text.parse().map_err(|_| VmError::Invalid(format!("the kernel's taint is {text:?}")))
}

fn milliseconds(watch: Instant) -> u64 {
    u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn initramfs(
    request: &ProofRequest<'_>,
    tree: &KernelTree,
    modules: Modules,
    patched: &BTreeSet<ModuleName>,
) -> Result<Initramfs, ProveError> {
    let mut initramfs = Initramfs::new()?;
    initramfs.crypto_algorithms(tree)?;
    let patched: Vec<&str> = patched.iter().map(ModuleName::as_str).collect();
    for check in request.checks {
        let needs: Vec<&str> = check.needs.iter().map(ModuleName::as_str).collect();
        let (now, later): (Vec<&str>, Vec<&str>) =
            needs.into_iter().partition(|name| modules == Modules::Loaded || !patched.contains(name));
        initramfs.kernel_modules(tree, &now)?.kernel_modules_unloaded(tree, &later)?;
        initramfs.file(&format!("/usr/bin/{}", check.cve), 0o755, check.program.clone())?;
    }
    match modules {
        Modules::Loaded => initramfs.kernel_modules(tree, &patched)?,
        Modules::Later => initramfs.kernel_modules_unloaded(tree, &patched)?,
    };
    for bundle in [Some(request.bundle), request.previous].into_iter().flatten() {
        initramfs.file(&file_of(bundle.manifest.version), 0o644, bundle.module.clone())?;
    }
    Ok(initramfs)
}

/// A text without its middle, if it is longer than so many bytes.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut head = most / 2;
    while !text.is_char_boundary(head) {
        head -= 1;
    }
    let mut tail = text.len() - most / 2;
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    format!("{}\n[{} bytes left out]\n{}", &text[..head], tail - head, &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_logs_lose_their_middle() {
        assert_eq!(shortened("short", 10), "short");
        let text = "ä".repeat(100);
        let short = shortened(&text, 41);
        assert!(short.starts_with("ää") && short.ends_with("ää"), "{short}");
        assert!(short.contains("bytes left out") && short.len() < 80, "{short}");
    }
}
