//! The prepared tree of one kernel, and linking a module with it.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Mutex, PoisonError};

use livepatch_klp::EntrySizes;
use livepatch_manifest::sha256;
use livepatch_types::KernelRelease;

use crate::KbuildError;
use crate::command::tail;
use crate::compile::{SECTION_FLAGS, STATIC_KEYS_FILE, STATIC_KEYS_HEADER, read_output};
use crate::package::SourceOrigin;
use crate::packaged_patches::PackagedPatches;
use crate::probe;
use crate::sandbox::{Isolation, Job, Limits, Sandbox};
use crate::toolchain::{self, Environment, Toolchain, WantedCompiler};
use crate::units::UnitList;

/// What a prepared tree is made of.
#[derive(Debug, Clone)]
pub struct TreeInputs {
    /// `uname -r` of the kernel.
    pub release: KernelRelease,
    /// Its source.
    pub source: SourceOrigin,
    /// Patches that belong to it and stand elsewhere.
    pub source_patches: Option<PackagedPatches>,
    /// Its configuration.
    pub config: PathBuf,
    /// Its `Module.symvers`.
    pub symvers: PathBuf,
    /// The package that it says it is from.
    pub package_id: Option<PackageId>,
    /// What the compiler wrote into its modules, when they say it.
    pub compiler_comment: Option<String>,
}

/// What Debian compiles into its kernels beside their release: `Debian 6.1.176-1`. A few units hold it
/// (`LINUX_PACKAGE_ID` in lib/dump_stack.c and kernel/hung_task.c of Debian's source).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageId {
    version: String,
}

impl PackageId {
    /// Reads it from the end of a kernel's banner: `… #1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-08-03)`. None when
    /// another distribution made the kernel.
    pub fn from_banner(banner: &str) -> Option<Self> {
        let (_, build) = banner.rsplit_once(" #")?;
        let mut words = build.split_whitespace().skip_while(|word| *word != DISTRIBUTOR).skip(1);
        let version = words.next()?;
        // It goes through make and a shell: only what a Debian version can hold (deb-version(7)).
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".+-~:".contains(&b);
        let sound = version.bytes().all(plain) && words.next()?.starts_with('(');
        sound.then(|| Self { version: version.to_owned() })
    }
}

const DISTRIBUTOR: &str = "Debian";

/// A kernel source tree in which single units compile as the distribution compiled them.
#[derive(Debug)]
pub struct PreparedTree {
    path: PathBuf,
    release: KernelRelease,
    compiler: String,
    toolchain: Toolchain,
    sandbox: Sandbox,
    symvers: String,
    entry_sizes: EntrySizes,
    objtool_time: ObjtoolTime,
    units: UnitList,
    package_id: Option<PackageId>,
    marks: Marks,
    /// Held while make changes the tree.
    changing: Mutex<()>,
    // Held as long as the tree is used: two builds in one tree would disturb one another's make.
    _lock: File,
}

/// Files beside a tree, where nothing that runs in it can write.
#[derive(Debug)]
struct Marks {
    /// Says that the tree is whole: the object of the probe, written last.
    ready: PathBuf,
    /// Commands of all units.
    units: PathBuf,
    /// There while make changes a tree that is whole.
    changing: PathBuf,
    /// Directory of kept objects.
    objects: PathBuf,
}

impl Marks {
    fn of(tree: &Path) -> Self {
        let [ready, units, changing, objects] =
            ["ready", "units", "changing", "objects"].map(|end| tree.with_extension(end));
        Self { ready, units, changing, objects }
    }

    /// Whether everything that was begun there was ended.
    fn is_whole(&self) -> bool {
        self.ready.is_file() && !self.changing.exists()
    }

    fn remove(&self) -> Result<(), KbuildError> {
        for path in [&self.ready, &self.units, &self.changing] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(KbuildError::io("remove", path)(error));
                }
                _ => {}
            }
        }
        match fs::remove_dir_all(&self.objects) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(KbuildError::io("remove", &self.objects)(error))
            }
            _ => Ok(()),
        }
    }
}

/// When the kernel's build runs objtool (scripts/Makefile.lib, `delay-objtool`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ObjtoolTime {
    /// Over each unit.
    PerUnit,
    /// Over what units are linked to: it must see whether anything takes a function's address.
    WhenLinked,
}

impl ObjtoolTime {
    fn of(config: &str) -> Self {
        if option(config, "CONFIG_X86_KERNEL_IBT") == Some("y") { Self::WhenLinked } else { Self::PerUnit }
    }
}

/// What objtool does with a C file that is compiled as a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Objtool {
    /// It works on it, as on any module.
    Runs,
    /// It is left out.
    LeftOut,
}

/// What [`PreparedTree::link_module`] links.
#[derive(Debug)]
pub struct LinkInput<'a> {
    /// Name of the module.
    pub module_name: &'a str,
    /// C source of its glue: module boilerplate and the tables of the livepatch.
    pub glue: &'a str,
    /// Objects of the patched functions, not touched by objtool.
    pub objects: &'a [Vec<u8>],
    /// Whether their debug information is kept. It is part of the linker's build-id.
    pub keep_debug: bool,
}

impl PreparedTree {
    /// Opens the tree of these inputs in the cache, making it when it is not there. `progress` is told what is done.
    pub fn open(
        inputs: &TreeInputs,
        cache: &Path,
        environment: &Environment,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, KbuildError> {
        Self::open_limited(inputs, cache, environment, Limits::default(), progress)
    }

    /// The same with other limits for what runs there.
    pub fn open_limited(
        inputs: &TreeInputs,
        cache: &Path,
        environment: &Environment,
        limits: Limits,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Self, KbuildError> {
        let config = fs::read_to_string(&inputs.config).map_err(KbuildError::io("read", &inputs.config))?;
        check_config(&config)?;
        let wanted = option(&config, "CONFIG_CC_VERSION_TEXT").unwrap_or_default();
        let wanted = WantedCompiler::parse(wanted.trim_matches('"'))?;
        check_comment(&wanted, inputs.compiler_comment.as_deref())?;
        let (toolchain, sandbox) = toolchain::open(&wanted, environment, limits)?;
        let symvers =
            fs::read_to_string(&inputs.symvers).map_err(KbuildError::io("read", &inputs.symvers))?;
        let trees = cache.join("trees");
        fs::create_dir_all(&trees).map_err(KbuildError::io("make", &trees))?;
        let trees = trees.canonicalize().map_err(KbuildError::io("find", &trees))?;
        let sources = cache.join("source-digests");
        let identity = || -> Result<String, KbuildError> {
            let source = inputs.source.identity(&sources)?;
            match &inputs.source_patches {
                None => Ok(source),
                Some(patches) => Ok(format!("{source} with {}", patches.identity()?)),
            }
        };
        let source = identity()?;
        let key = cache_key(inputs, &source, &config, &symvers, &toolchain);
        let path = trees.join(&key);
        let lock_path = trees.join(format!("{key}.lock"));
        let lock = File::create(&lock_path).map_err(KbuildError::io("write", &lock_path))?;
        if lock.try_lock().is_err() {
            progress("waiting for another build of this kernel");
            lock.lock().map_err(KbuildError::io("lock", &lock_path))?;
        }
        let unknown =
            EntrySizes { alt_instr: 0, bug_entry: 0, exception_entry: 0, jump_entry: 0, paravirt_site: 0 };
        let mut tree = Self {
            marks: Marks::of(&path),
            path,
            release: inputs.release.clone(),
            compiler: wanted.program.to_owned(),
            toolchain,
            sandbox,
            symvers,
            entry_sizes: unknown,
            objtool_time: ObjtoolTime::of(&config),
            units: UnitList::default(),
            package_id: inputs.package_id.clone(),
            changing: Mutex::new(()),
            _lock: lock,
        };
        // Whatever lacks the last file that is written was left by a build that did not end.
        if !tree.marks.is_whole() {
            let is_same = || Ok(identity()? == source);
            tree.prepare(inputs, &is_same, &config, progress)?;
        }
        let Marks { ready, units, .. } = &tree.marks;
        let bytes = fs::read(ready).map_err(KbuildError::io("read", ready))?;
        let damaged = |why| KbuildError::Format { path: tree.path.clone(), why };
        tree.entry_sizes = probe::read_sizes(&bytes).map_err(damaged)?;
        tree.units = UnitList::parse(&fs::read_to_string(units).map_err(KbuildError::io("read", units))?);
        Ok(tree)
    }

    fn prepare(
        &self,
        inputs: &TreeInputs,
        source_is_same: &dyn Fn() -> Result<bool, KbuildError>,
        config: &str,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), KbuildError> {
        self.marks.remove()?;
        if self.path.exists() {
            fs::remove_dir_all(&self.path).map_err(KbuildError::io("remove", &self.path))?;
        }
        fs::create_dir(&self.path).map_err(KbuildError::io("make", &self.path))?;
        progress("unpacking the kernel source");
        inputs.source.unpack(&self.path, &self.sandbox)?;
        if let Some(patches) = &inputs.source_patches {
            progress("applying the patches of the packaging");
            patches.apply(&self.path, &self.sandbox)?;
        }
        if !source_is_same()? {
            return Err(KbuildError::SourceChanged);
        }
        write_over(&self.path.join(".config"), config.as_bytes())?;
        write_over(&self.path.join("Module.symvers"), self.symvers.as_bytes())?;
        write_over(&self.path.join(STATIC_KEYS_FILE), STATIC_KEYS_HEADER.as_bytes())?;
        progress("preparing the kernel source (make modules_prepare)");
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        for (goal, what) in [
            ("olddefconfig", "configuring the kernel source"),
            ("modules_prepare", "preparing the kernel source"),
        ] {
            let mut make = self.make();
            make.writes(&self.path).arg(format!("-j{jobs}")).arg(goal);
            self.sandbox.run_well(&make, what)?;
        }
        self.check_options(config)?;
        progress("listing the units of the kernel (make -n)");
        write_over(&self.marks.units, self.list_units()?.to_text().as_bytes())?;
        let scratch =
            tempfile::tempdir().map_err(KbuildError::io("make a directory in", std::env::temp_dir()))?;
        let object = self
            .compile_external(scratch.path(), "livepatch_probe", probe::PROBE_SOURCE, Objtool::LeftOut)?
            .0;
        // Everything must have reached the disk before something says so.
        let directory = File::open(&self.path).map_err(KbuildError::io("read", &self.path))?;
        rustix::fs::syncfs(&directory).map_err(|error| KbuildError::io("write", &self.path)(error.into()))?;
        write_over(&self.marks.ready, &object)
    }

    /// Lets make change the tree. One that is ended on the way leaves a mark, and the tree is made anew.
    pub(crate) fn change_by(&self, mut make: Job, what: &str) -> Result<Output, KbuildError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = &self.marks.changing;
        fs::write(mark, "").map_err(KbuildError::io("write", mark))?;
        make.writes(&self.path);
        let made = self.sandbox.run_well(&make, what)?;
        fs::remove_file(mark).map_err(KbuildError::io("remove", mark))?;
        Ok(made)
    }

    /// Asks make what it would compile. Nothing is compiled.
    fn list_units(&self) -> Result<UnitList, KbuildError> {
        let mut make = self.make();
        // Lines are longer than a pipe writes at once: without -O two makes would mix theirs.
        make.args(["-n", "-k", "-O", "objtool=true"]).arg(format!("KCFLAGS={SECTION_FLAGS}"));
        make.args(["vmlinux", "modules"]).writes(&self.path);
        let what = "listing the units of the kernel";
        let output = self.sandbox.run(&make, what)?;
        // It ends with an error, because what was not compiled is not there to be linked.
        let units = UnitList::from_dry_run(&String::from_utf8_lossy(&output.stdout), &self.compiler);
        if units.is_empty() {
            return Err(KbuildError::Failed { what: what.into(), output: tail(&output) });
        }
        Ok(units)
    }

    /// make may answer questions of its own (a compiler that can do more): the options must be those of the kernel.
    fn check_options(&self, config: &str) -> Result<(), KbuildError> {
        let made = read_output(&self.path, ".config")?;
        let made = String::from_utf8_lossy(&made);
        let options = |text: &str| -> std::collections::BTreeSet<String> {
            text.lines().filter(|l| l.starts_with("CONFIG_")).map(str::to_owned).collect()
        };
        let (wanted, made) = (options(config), options(&made));
        match wanted.symmetric_difference(&made).next() {
            None => Ok(()),
            Some(option) => Err(KbuildError::OtherConfiguration { option: option.clone() }),
        }
    }

    /// The tree's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// First line of the compiler's `--version`.
    pub fn compiler_version(&self) -> &str {
        &self.toolchain.compiler_version
    }

    /// Where objects of unpatched units are kept.
    pub(crate) fn objects(&self) -> &Path {
        &self.marks.objects
    }

    /// What it is built with.
    pub fn toolchain(&self) -> &Toolchain {
        &self.toolchain
    }

    /// How programs that work on it are kept from everything else.
    pub fn isolation(&self) -> Isolation {
        self.sandbox.isolation()
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Text of `Module.symvers`.
    pub fn symvers(&self) -> &str {
        &self.symvers
    }

    /// All units of this kernel.
    pub fn units(&self) -> &UnitList {
        &self.units
    }

    /// Sizes of special table entries in this kernel.
    pub fn entry_sizes(&self) -> EntrySizes {
        self.entry_sizes
    }

    /// make in this tree, quiet, as the distribution calls it. It only reads the tree.
    pub(crate) fn make(&self) -> Job {
        let mut make = Job::new("make", &self.path);
        make.reads(&self.path).arg("-C").arg(&self.path).args(["-s", "ARCH=x86"]);
        make.arg(format!("CC={}", self.compiler)).arg(format!("KERNELRELEASE={}", self.release));
        // Nothing that is compiled may carry the builder's name, host or day.
        make.args([
            "KBUILD_BUILD_USER=livepatch",
            "KBUILD_BUILD_HOST=livepatch",
            "KBUILD_BUILD_TIMESTAMP=1970-01-01",
        ]);
        // A Rust compiler here would add options to the configuration (CONFIG_RUSTC_VERSION, since 6.12); where the
        // kernel had one, they differ without it, and that is refused.
        make.arg("RUSTC=false");
        if let Some(PackageId { version }) = &self.package_id {
            make.arg("DISTRIBUTION_OFFICIAL_BUILD=1").arg(format!("DISTRIBUTOR={DISTRIBUTOR}"));
            make.arg(format!("DISTRIBUTION_VERSION={version}"));
        }
        make
    }

    /// Compiles one C file as a module of its own below `scratch`; returns its object and objtool's options for it.
    fn compile_external(
        &self,
        scratch: &Path,
        module: &str,
        source: &str,
        objtool: Objtool,
    ) -> Result<(Vec<u8>, Vec<String>), KbuildError> {
        let directory = scratch.join(module);
        fs::create_dir_all(&directory).map_err(KbuildError::io("make", &directory))?;
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).map_err(KbuildError::io("write", path))
        };
        // `-main` so that the unit is part of a module of the wanted name.
        write(&format!("{module}-main.c"), source)?;
        write("Kbuild", &format!("obj-m := {module}.o\n{module}-y := {module}-main.o\n"))?;
        let mut make = self.make();
        make.arg(format!("M={}", directory.display()));
        if objtool == Objtool::LeftOut {
            make.arg("objtool=true");
        }
        // Neither directory may be seen in what is made.
        make.arg(format!(
            "KCFLAGS=-ffile-prefix-map={}=. -fdebug-prefix-map={}=.",
            directory.display(),
            self.path.display()
        ));
        // The object that objtool works on.
        let name = match self.objtool_time {
            ObjtoolTime::PerUnit => format!("{module}-main.o"),
            ObjtoolTime::WhenLinked => format!("{module}.o"),
        };
        let what = format!("compiling {module}");
        make.arg(&name).writes(scratch);
        let output = self.sandbox.run_well(&make, &what)?;
        // make goes on when objtool complains, and the object would load and misbehave.
        if String::from_utf8_lossy(&output.stderr).contains("objtool:") {
            return Err(KbuildError::Failed { what, output: tail(&output) });
        }
        let object = read_output(&directory, &name)?;
        let cmd_name = format!(".{name}.cmd");
        let text = read_output(&directory, &cmd_name)?;
        let flags = objtool_flags(&String::from_utf8_lossy(&text))
            .map_err(|why| KbuildError::Format { path: directory.join(cmd_name), why: why.into() })?;
        Ok((object, flags))
    }

    /// Compiles the glue, lets the target's objtool work on the extracted objects, and links everything to a module
    /// whose livepatch symbols are still ordinary undefined ones.
    pub fn link_module(&self, input: &LinkInput<'_>) -> Result<Vec<u8>, KbuildError> {
        let scratch =
            tempfile::tempdir().map_err(KbuildError::io("make a directory in", std::env::temp_dir()))?;
        let (glue, flags) =
            self.compile_external(scratch.path(), input.module_name, input.glue, Objtool::Runs)?;
        let glue_path = scratch.path().join("glue.o");
        fs::write(&glue_path, &glue).map_err(KbuildError::io("write", &glue_path))?;
        let mut link = Job::new("ld", scratch.path());
        link.reads(&self.path).writes(scratch.path());
        // Debug information names the directory of the tree, and would make the build-id another one in another place.
        if !input.keep_debug {
            link.arg("--strip-debug");
        }
        link.args(["-r", "-m", "elf_x86_64", "-z", "noexecstack", "--build-id=sha1", "-T"]);
        link.arg(self.path.join("scripts/module.lds"));
        link.args(["-o", "linked.ko", "glue.o"]);
        let mut names = Vec::new();
        for (index, object) in input.objects.iter().enumerate() {
            let name = format!("functions_{index}.o");
            let path = scratch.path().join(&name);
            fs::write(&path, object).map_err(KbuildError::io("write", &path))?;
            names.push(name);
        }
        if self.objtool_time == ObjtoolTime::WhenLinked {
            // Together, because one may take the address of another's function, and objtool must see that.
            let joined = "functions.o".to_owned();
            let mut join = Job::new("ld", scratch.path());
            join.args(["-r", "-m", "elf_x86_64", "-z", "noexecstack", "-o", &joined]).args(&names);
            self.sandbox.run_well(join.writes(scratch.path()), "joining the patched functions")?;
            names = vec![joined];
        }
        for name in &names {
            self.run_objtool(&flags, scratch.path(), name)?;
            link.arg(name);
        }
        self.sandbox.run_well(&link, "linking the livepatch")?;
        read_output(scratch.path(), "linked.ko")
    }

    /// Any word of objtool about the functions is an error: the object would load and misbehave.
    fn run_objtool(&self, flags: &[String], directory: &Path, object: &str) -> Result<(), KbuildError> {
        let what = "objtool on the patched functions";
        let mut objtool = Job::new(self.path.join("tools/objtool/objtool"), directory);
        objtool.args(flags).arg(object).reads(&self.path).writes(directory);
        let output = self.sandbox.run_well(&objtool, what)?;
        if output.stdout.is_empty() && output.stderr.is_empty() {
            return Ok(());
        }
        Err(KbuildError::Failed { what: what.into(), output: tail(&output) })
    }
}

/// The options of the objtool call in the first line of a `.cmd` file, after the compiler's and a `;`.
fn objtool_flags(cmd_file: &str) -> Result<Vec<String>, &'static str> {
    let line = cmd_file.lines().next().unwrap_or_default();
    let (_, command) = line.split_once(" := ").ok_or("it does not start with the saved command")?;
    // make escapes `#` and `$` for itself.
    let words = shlex::split(&command.replace("$(pound)", "#").replace("$$", "$"))
        .ok_or("its quotes do not match")?;
    let objtool = words.split(|word| word == ";" || word == "&&").nth(1).unwrap_or_default();
    Ok(objtool.iter().filter(|word| word.starts_with("--")).cloned().collect())
}

fn option<'c>(config: &'c str, name: &str) -> Option<&'c str> {
    config.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

fn check_config(config: &str) -> Result<(), KbuildError> {
    for name in ["CONFIG_LIVEPATCH", "CONFIG_MODULES", "CONFIG_KALLSYMS_ALL", "CONFIG_X86_64"] {
        if option(config, name) != Some("y") {
            return Err(KbuildError::Config(match name {
                "CONFIG_LIVEPATCH" => "CONFIG_LIVEPATCH",
                "CONFIG_MODULES" => "CONFIG_MODULES",
                "CONFIG_KALLSYMS_ALL" => "CONFIG_KALLSYMS_ALL",
                _ => "CONFIG_X86_64",
            }));
        }
    }
    Ok(())
}

/// What the shipped modules say of their compiler must be what the configuration says.
fn check_comment(wanted: &WantedCompiler<'_>, comment: Option<&str>) -> Result<(), KbuildError> {
    match comment {
        Some(comment) if comment != format!("GCC: {}", wanted.version) => Err(KbuildError::Compiler {
            kernel: wanted.text.to_owned(),
            here: format!("its modules say \"{comment}\""),
            hint: "give image and headers of one version, as the distribution shipped them".to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Writes a file whole, in place of whatever has its name: a link there is not followed.
fn write_over(path: &Path, bytes: &[u8]) -> Result<(), KbuildError> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let io = || KbuildError::io("write", path);
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(io())?;
    file.write_all(bytes).map_err(io())?;
    file.as_file().sync_all().map_err(io())?;
    file.persist(path).map_err(|error| io()(error.error))?;
    Ok(())
}

/// Everything that the tree's content follows from.
fn cache_key(
    inputs: &TreeInputs,
    source: &str,
    config: &str,
    symvers: &str,
    toolchain: &Toolchain,
) -> String {
    let package_id = inputs.package_id.as_ref().map_or("", |id| &id.version);
    let parts = [
        "livepatch prepared tree, format 5",
        inputs.release.as_str(),
        source,
        &sha256(config.as_bytes()).to_string(),
        &sha256(symvers.as_bytes()).to_string(),
        package_id,
        &toolchain.identity(),
    ];
    hex::encode(&sha256(parts.join("\n").as_bytes()).as_bytes()[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_banner_names_the_package() {
        let version = |end: &str| {
            let banner =
                format!("Linux version 6.1.0-50-cloud-amd64 (debian-kernel@lists.debian.org) (gcc) {end}\n");
            PackageId::from_banner(&banner).map(|id| id.version)
        };
        let table = [
            ("#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-08-03)", Some("6.1.176-1")),
            ("#1 SMP Debian 1:6.12.107-1~deb12u1 (2026-08-03)", Some("1:6.12.107-1~deb12u1")),
            ("#31-Ubuntu SMP PREEMPT_DYNAMIC Tue Apr 1 2026", None),
            ("#1 SMP Debian 6.1\"$(id) (2026-08-03)", None),
            ("#1 SMP Debian 6.1.176-1", None),
            ("Debian 6.1.176-1 (2026)", None),
        ];
        for (end, expected) in table {
            assert_eq!(version(end).as_deref(), expected, "{end}");
        }
    }

    #[test]
    fn objtool_flags_are_those_after_the_compiler() {
        let text = "cmd_net/x.o := gcc-12 --param=1 -DX='\"a;b\"' -c -o net/x.o net/x.c   ; ./tools/objtool/objtool --orc --sls   net/x.o\nother";
        assert_eq!(objtool_flags(text).unwrap(), ["--orc", "--sls"]);
        assert_eq!(objtool_flags("savedcmd_x.o := gcc-12 -c x.c").unwrap(), [""; 0]);
        assert!(objtool_flags("").is_err());
        assert!(objtool_flags("cmd_x := gcc 'x").is_err());
    }
}
