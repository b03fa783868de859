//! Which compiler: that of the kernel, out of a toolchain root or, if it is exactly the same one, the host's.
//!
//! A toolchain root is a small system of one distribution release, made by mmdebstrap, of which only programs and
//! libraries are used. It is never chosen because it is there: its compiler's whole version line is the kernel's.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use livepatch_types::Sha256Digest;

use crate::KbuildError;
use crate::command::{run, start_error, tail, tool};
use crate::content;
use crate::sandbox::{Isolation, Job, Limits, Sandbox};
use crate::units::is_gcc;

/// Where programs come from and how they are kept apart.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Where toolchain roots are kept.
    pub toolchains: PathBuf,
    /// Which of them to use.
    pub choice: ToolchainChoice,
    /// How programs run.
    pub isolation: Isolation,
}

impl Environment {
    /// Roots below the cache, chosen by the kernel; isolated.
    pub fn new(cache: &Path) -> Self {
        Self {
            toolchains: cache.join("toolchains"),
            choice: ToolchainChoice::default(),
            isolation: Isolation::default(),
        }
    }
}

/// Which toolchain to use. Whatever it is, its compiler must be that of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolchainChoice {
    /// The root that has the kernel's compiler; the host if there is none and the host has it.
    #[default]
    Automatic,
    /// The host's programs.
    Host,
    /// This root.
    Root(ToolchainName),
}

/// Name of a toolchain root, and of its directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToolchainName(String);

impl ToolchainName {
    /// Lower-case letters, digits and `.+-`, a letter or digit first; not `host`, which means another thing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".+-".contains(&b);
        let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if starts && text.bytes().all(plain) && text.len() <= 64 && text != HOST {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("{text:?} is not a name: lower-case letters, digits and .+-, not \"{HOST}\""))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ToolchainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What stands for the host in place of a root's name.
pub const HOST: &str = "host";

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// A toolchain root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolchainRoot {
    /// Its name.
    pub name: ToolchainName,
    /// The directory that holds the system.
    pub root: PathBuf,
    /// The distribution release.
    pub suite: String,
    /// Its compiler's program.
    pub compiler: String,
    /// What the compiler says after its name: `(Debian 12.2.0-14+deb12u1) 12.2.0`.
    pub version: String,
    /// Digest of the programs and libraries.
    pub content: Sha256Digest,
    /// Everything that is installed in it.
    pub packages: Vec<Package>,
}

/// What a kernel is built with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// Name of the root, or `host`.
    pub name: String,
    /// First line of the compiler's `--version`.
    pub compiler_version: String,
    /// Digest of the root's content.
    pub content: Option<Sha256Digest>,
    /// The packages of the root; of the host those that a kernel's build uses, where it has dpkg.
    pub packages: Vec<Package>,
}

impl Toolchain {
    /// Everything about it that can change what is built, as text.
    pub(crate) fn identity(&self) -> String {
        match self.content {
            Some(content) => format!("root {content}"),
            None => {
                let packages = self.packages.iter().map(|p| format!("{}={}", p.name, p.version));
                format!("host {} {}", self.compiler_version, packages.collect::<Vec<_>>().join(" "))
            }
        }
    }
}

/// The compiler that a kernel was built with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedCompiler<'c> {
    /// All of CONFIG_CC_VERSION_TEXT.
    pub(crate) text: &'c str,
    /// The program.
    pub(crate) program: &'c str,
    /// What it says after its name.
    pub(crate) version: &'c str,
}

impl<'c> WantedCompiler<'c> {
    pub(crate) fn parse(text: &'c str) -> Result<Self, KbuildError> {
        match text.split_once(' ') {
            Some((program, version)) if is_gcc(program) => Ok(Self { text, program, version }),
            _ => Err(KbuildError::Compiler {
                kernel: text.to_owned(),
                here: "livepatches are made with gcc only".to_owned(),
                hint: "choose a kernel that was built with gcc".to_owned(),
            }),
        }
    }

    /// Package and version, as Debian and its kin name them: `gcc-12`, `12.2.0-14+deb12u1`.
    fn package(&self) -> Option<(String, &'c str)> {
        let (inside, number) = self.version.strip_prefix('(')?.split_once(") ")?;
        let (_, version) = inside.split_once(' ')?;
        let major = number.split('.').next()?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".+~-".contains(&b);
        (version.bytes().all(plain) && major.bytes().all(|b| b.is_ascii_digit()))
            .then(|| (format!("gcc-{major}"), version))
    }

    /// The release of a distribution that has this compiler as its default one.
    fn suite(&self) -> Option<&'static str> {
        // Distribution, end of the package's version, start of it, release.
        const SUITES: [(&str, &str, &str, &str); 8] = [
            ("(Debian ", "", "8.", "buster"),
            ("(Debian ", "", "10.", "bullseye"),
            ("(Debian ", "", "12.", "bookworm"),
            ("(Debian ", "", "14.", "trixie"),
            ("(Ubuntu ", "~18.04", "", "bionic"),
            ("(Ubuntu ", "~20.04", "", "focal"),
            ("(Ubuntu ", "~22.04", "", "jammy"),
            ("(Ubuntu ", "~24.04", "", "noble"),
        ];
        let (_, version) = self.package()?;
        let fits = |row: &&(&str, &str, &str, &str)| {
            let (distribution, end, start, _) = **row;
            let ends = version.ends_with(end) || version.contains(&format!("{end}."));
            self.version.starts_with(distribution) && version.starts_with(start) && ends
        };
        SUITES.iter().find(fits).map(|row| row.3)
    }

    /// What makes the right root.
    fn hint(&self, toolchains: &Path) -> String {
        let Some((package, version)) = self.package() else {
            return "build the kernel with a compiler of a distribution, whose version line names a package"
                .to_owned();
        };
        let directory = toolchains.display().to_string();
        let directory =
            shlex::try_quote(&directory).map_or_else(|_| directory.clone(), |quoted| quoted.into_owned());
        let (suite, of_what) = match self.suite() {
            Some(suite) => (suite, String::new()),
            None => ("SUITE --mirror URL", format!(", with a release that has {package} {version}")),
        };
        format!(
            "livepatch-build toolchain make --toolchains {directory} --suite {suite} --compiler {package}={version}{of_what}"
        )
    }

    fn is_not_here(&self, here: String, toolchains: &Path) -> KbuildError {
        KbuildError::Compiler { kernel: self.text.to_owned(), here, hint: self.hint(toolchains) }
    }
}

/// Opens the sandbox with the toolchain of this compiler. Nothing is compiled when there is none.
pub(crate) fn open(
    wanted: &WantedCompiler<'_>,
    environment: &Environment,
    limits: Limits,
) -> Result<(Toolchain, Sandbox), KbuildError> {
    let roots = list(&environment.toolchains)?;
    let open = |root: Option<&ToolchainRoot>| {
        Sandbox::open(environment.isolation, root.map(|root| root.root.as_path()), limits)
    };
    let root = match &environment.choice {
        ToolchainChoice::Host => None,
        ToolchainChoice::Root(name) => {
            let root = roots.iter().find(|root| root.name == *name).ok_or_else(|| {
                let why = format!("is not in {}", environment.toolchains.display());
                KbuildError::Toolchain { name: name.to_string(), why }
            })?;
            if root.version != wanted.version {
                let here = format!("the toolchain root {name} has \"{} {}\"", root.compiler, root.version);
                return Err(wanted.is_not_here(here, &environment.toolchains));
            }
            Some(root)
        }
        ToolchainChoice::Automatic => {
            let mut right = roots.iter().filter(|root| root.version == wanted.version);
            match (right.next(), right.next()) {
                (Some(first), Some(second)) => {
                    let why = format!(
                        "has the kernel's compiler, and so has {}: say which, with --toolchain",
                        second.name
                    );
                    return Err(KbuildError::Toolchain { name: first.name.to_string(), why });
                }
                (root, _) => root,
            }
        }
    };
    let sandbox = open(root)?;
    let mut ask = Job::new(wanted.program, "/");
    ask.arg("--version");
    let output = sandbox.run(&ask, "asking the compiler for its version")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let here = text.lines().next().unwrap_or_default();
    if !output.status.success() || here != wanted.text {
        let place =
            root.map_or_else(|| "this host".to_owned(), |root| format!("the toolchain root {}", root.name));
        let mut has = match here {
            "" => format!("{place} has no {}", wanted.program),
            here => format!("{place} has \"{here}\""),
        };
        if root.is_none() {
            has.push_str(", and no toolchain root has it");
        }
        return Err(wanted.is_not_here(has, &environment.toolchains));
    }
    let toolchain = match root {
        Some(root) => Toolchain {
            name: root.name.to_string(),
            compiler_version: here.to_owned(),
            content: Some(root.content),
            packages: root.packages.clone(),
        },
        None => Toolchain {
            name: HOST.to_owned(),
            compiler_version: here.to_owned(),
            content: None,
            packages: host_packages(wanted),
        },
    };
    Ok((toolchain, sandbox))
}

/// Packages that a kernel's build uses beside the compiler.
const BUILD_PACKAGES: [&str; 14] = [
    "bc",
    "binutils",
    "bison",
    "cpio",
    "dwarves",
    "flex",
    "gcc",
    "kmod",
    "libc6-dev",
    "libelf-dev",
    "libssl-dev",
    "make",
    "perl",
    "python3-minimal",
];

/// Format of `dpkg-query`: a line per package that is installed.
const PACKAGE_FORMAT: &str = "-f=${db:Status-Status} ${Package} ${Version}\\n";

fn host_packages(wanted: &WantedCompiler<'_>) -> Vec<Package> {
    let mut query = tool("dpkg-query");
    query.args(["-W", PACKAGE_FORMAT]).args(BUILD_PACKAGES);
    if let Some((package, _)) = wanted.package() {
        query.arg(package.replace("gcc", "cpp")).arg(package);
    }
    // It fails for names that it does not know, and on a host without dpkg it is not there.
    query.output().map(|output| parse_packages(&String::from_utf8_lossy(&output.stdout))).unwrap_or_default()
}

fn parse_packages(text: &str) -> Vec<Package> {
    let parse = |line: &str| {
        let (name, version) = line.strip_prefix("installed ")?.split_once(' ')?;
        Some(Package { name: name.to_owned(), version: version.to_owned() })
    };
    let mut out: Vec<Package> = text.lines().filter_map(parse).collect();
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

/// The file that describes a root, written last.
const RECORD: &str = "toolchain";
/// The directory beside it.
const ROOT: &str = "root";
/// First line of the record.
const RECORD_FORMAT: &str = "livepatch toolchain, format 1";

impl ToolchainRoot {
    fn to_text(&self) -> String {
        let Self { suite, compiler, version, content, packages, .. } = self;
        let mut out = format!(
            "{RECORD_FORMAT}\nsuite {suite}\ncompiler {compiler}\nversion {version}\ncontent {content}\n"
        );
        for Package { name, version } in packages {
            out.push_str(&format!("package {name} {version}\n"));
        }
        out
    }

    fn parse(text: &str, name: ToolchainName, root: PathBuf) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(RECORD_FORMAT) {
            return Err("has a record of another format".into());
        }
        let mut next = |word: &str| {
            let value = lines.next().and_then(|line| line.strip_prefix(word)?.strip_prefix(' '));
            value.map(str::to_owned).ok_or_else(|| format!("has a record without {word}"))
        };
        let (suite, compiler, version) = (next("suite")?, next("compiler")?, next("version")?);
        let content = Sha256Digest::parse(&next("content")?).map_err(|_| "has a record without digest")?;
        let package = |line: &str| {
            let (name, version) = line.strip_prefix("package ")?.split_once(' ')?;
            Some(Package { name: name.to_owned(), version: version.to_owned() })
        };
        let packages = lines.map(package).collect::<Option<Vec<_>>>().ok_or("has a damaged record")?;
        Ok(Self { name, root, suite, compiler, version, content, packages })
    }
}

/// The roots in a directory, by name. What is no root, or was not finished, is passed over.
pub fn list(toolchains: &Path) -> Result<Vec<ToolchainRoot>, KbuildError> {
    let entries = match fs::read_dir(toolchains) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(KbuildError::io("read", toolchains))?,
    };
    let mut out = Vec::new();
    for entry in entries {
        let entry = entry.map_err(KbuildError::io("read", toolchains))?;
        let Some(name) = entry.file_name().to_str().and_then(|name| ToolchainName::parse(name).ok()) else {
            continue;
        };
        let path = entry.path();
        let Ok(text) = fs::read_to_string(path.join(RECORD)) else { continue };
        let damaged = |why| KbuildError::Toolchain { name: name.to_string(), why };
        out.push(ToolchainRoot::parse(&text, name.clone(), path.join(ROOT)).map_err(damaged)?);
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(out)
}

/// What a root is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    suite: String,
    compiler: String,
    version: Option<String>,
    mirrors: Vec<String>,
}

impl Recipe {
    /// A distribution release, a compiler (`gcc-12` or `gcc-12=12.2.0-14+deb12u1`), and where its packages are: addresses
    /// or whole lines of a sources.list; none: where this host's apt has them.
    pub fn new(suite: &str, compiler: &str, mirrors: &[String]) -> Result<Self, String> {
        let plain = |text: &str, more: &[u8]| {
            let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
            first && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
        };
        if !plain(suite, b"-.") {
            return Err(format!("{suite:?} is not the name of a distribution release"));
        }
        let (name, version) = match compiler.split_once('=') {
            Some((name, version)) => (name, Some(version)),
            None => (compiler, None),
        };
        if !is_gcc(name) || name.starts_with("x86_64") || !version.is_none_or(|v| plain(v, b".+~:-")) {
            return Err(format!(
                "{compiler:?} is not a compiler's package, such as gcc-12 or gcc-12=VERSION"
            ));
        }
        for mirror in mirrors {
            let starts =
                ["http://", "https://", "file:/", "deb "].iter().any(|start| mirror.starts_with(start));
            let words = mirror.starts_with("deb ") || !mirror.contains(' ');
            if !starts || !words || mirror.bytes().any(|b| b.is_ascii_control()) {
                return Err(format!("{mirror:?} is neither an address nor a line of a sources.list"));
            }
        }
        let (suite, compiler) = (suite.to_owned(), name.to_owned());
        Ok(Self { suite, compiler, version: version.map(str::to_owned), mirrors: mirrors.to_vec() })
    }

    /// A name for the root: release and compiler.
    pub fn default_name(&self) -> Result<ToolchainName, String> {
        let version = self.version.as_ref().map_or_else(String::new, |version| format!("-{version}"));
        let text = format!("{}-{}{version}", self.suite, self.compiler).to_lowercase();
        // `~` and `:` are for versions only.
        ToolchainName::parse(&text.replace(['~', ':'], "-"))
    }

    fn packages(&self) -> String {
        let compiler = match &self.version {
            Some(version) => format!("{}={version}", self.compiler),
            None => self.compiler.clone(),
        };
        format!("{compiler},{}", BUILD_PACKAGES.join(","))
    }

    /// mmdebstrap's sources: as given, or those of this host's apt for the release and its updates.
    fn sources(&self) -> Vec<String> {
        if !self.mirrors.is_empty() {
            return self.mirrors.clone();
        }
        let mut ask = tool("apt-get");
        let format = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)";
        ask.args(["indextargets", "--format", format, "Created-By: Packages"]);
        // Without apt, or without this release in it, mmdebstrap knows the usual archives.
        let text = ask.output().map(|output| output.stdout).unwrap_or_default();
        sources_of(&String::from_utf8_lossy(&text), &self.suite)
    }
}

/// Lines of a sources.list out of what apt says about its own.
fn sources_of(text: &str, suite: &str) -> Vec<String> {
    let mut out = Vec::new();
    for line in text.lines() {
        let mut fields = line.split('|');
        let (Some(uri), Some(release), Some(component)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let signed_by = fields.next().filter(|key| key.starts_with('/'));
        let of_suite = release == suite
            || release.strip_prefix(suite).is_some_and(|rest| ["-updates", "-security"].contains(&rest));
        if of_suite {
            let key = signed_by.map_or_else(String::new, |key| format!("[signed-by={key}] "));
            out.push(format!("deb {key}{uri} {release} {component}"));
        }
    }
    out.dedup();
    out
}

/// Makes a root. It is whole or not there.
pub fn make(
    recipe: &Recipe,
    name: &ToolchainName,
    environment: &Environment,
    progress: &dyn Fn(&str),
) -> Result<ToolchainRoot, KbuildError> {
    let toolchains = &environment.toolchains;
    fs::create_dir_all(toolchains).map_err(KbuildError::io("make", toolchains))?;
    let place = toolchains.join(name.as_str());
    if place.exists() {
        let why = format!("is there already, in {}", place.display());
        return Err(KbuildError::Toolchain { name: name.to_string(), why });
    }
    // Its name is none of a root: one that is not finished is never used.
    let part = tempfile::Builder::new().prefix(".part-").tempdir_in(toolchains);
    let part = part.map_err(KbuildError::io("make a directory in", toolchains))?;
    let root = part.path().join(ROOT);
    fs::create_dir(&root).map_err(KbuildError::io("make", &root))?;
    progress(&format!("making {name} (mmdebstrap)"));
    bootstrap(recipe, &root)?;
    progress(&format!("reading what is in {name}"));
    let mut query = tool("dpkg-query");
    query.arg(format!("--admindir={}", root.join("var/lib/dpkg").display())).args(["-W", PACKAGE_FORMAT]);
    let output = run(&mut query, "asking for the packages of the root")?;
    let packages = parse_packages(&String::from_utf8_lossy(&output.stdout));
    let sandbox = Sandbox::open(environment.isolation, Some(&root), Limits::default())?;
    let mut ask = Job::new(recipe.compiler.as_str(), "/");
    ask.arg("--version");
    let output = sandbox.run_well(&ask, "asking the compiler for its version")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.lines().next().and_then(|line| line.strip_prefix(&recipe.compiler)?.strip_prefix(' '));
    let version = version.ok_or_else(|| KbuildError::Toolchain {
        name: name.to_string(),
        why: format!("has a compiler that does not say its version: {text:?}"),
    })?;
    let made = ToolchainRoot {
        name: name.clone(),
        root: place.join(ROOT),
        suite: recipe.suite.clone(),
        compiler: recipe.compiler.clone(),
        version: version.to_owned(),
        content: content::digest(&root)?,
        packages,
    };
    let record = part.path().join(RECORD);
    let mut file = fs::File::create_new(&record).map_err(KbuildError::io("write", &record))?;
    file.write_all(made.to_text().as_bytes()).map_err(KbuildError::io("write", &record))?;
    rustix::fs::syncfs(&file).map_err(|error| KbuildError::io("write", &record)(error.into()))?;
    fs::rename(part.path(), &place).map_err(KbuildError::io("make", &place))?;
    // It has another name now.
    _ = part.keep();
    Ok(made)
}

/// mmdebstrap into tar, so that every file is ours, whoever we are; without what no build reads.
fn bootstrap(recipe: &Recipe, root: &Path) -> Result<(), KbuildError> {
    let what = "making the root";
    let failed = |output: String| KbuildError::Failed { what: what.to_owned(), output };
    let log = tempfile::tempfile().map_err(|error| failed(error.to_string()))?;
    let mut make = tool("mmdebstrap");
    make.args(["--quiet", "--variant=essential", "--format=tar"]);
    for unused in ["doc", "info", "locale", "man"] {
        make.arg(format!("--dpkgopt=path-exclude=/usr/share/{unused}/*"));
    }
    make.arg(format!("--include={}", recipe.packages())).arg(&recipe.suite).arg("-").args(recipe.sources());
    make.stdin(Stdio::null()).stdout(Stdio::piped());
    make.stderr(log.try_clone().map_err(|error| failed(error.to_string()))?);
    let mut child = make.spawn().map_err(|error| start_error(&make, what, error))?;
    let mut unpack = tool("tar");
    unpack.args(["-x", "--no-same-owner", "--no-same-permissions", "--exclude=./dev/*", "-C"]).arg(root);
    unpack.stdin(child.stdout.take().map_or_else(Stdio::null, Stdio::from));
    let unpacked = unpack.output().map_err(|error| start_error(&unpack, what, error));
    drop(unpack);
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if !status.success() {
        let mut log = log;
        let mut text = Vec::new();
        let read =
            std::io::Seek::rewind(&mut log).and_then(|()| std::io::Read::read_to_end(&mut log, &mut text));
        _ = read.map_err(|error| failed(error.to_string()))?;
        return Err(failed(tail(&std::process::Output { status, stdout: Vec::new(), stderr: text })));
    }
    let unpacked = unpacked?;
    if unpacked.status.success() { Ok(()) } else { Err(failed(tail(&unpacked))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> WantedCompiler<'_> {
        WantedCompiler::parse(text).unwrap()
    }

    /// A root without a system: enough to be listed and passed over.
    fn add_root(toolchains: &Path, name: &str, version: &str) {
        let directory = toolchains.join(name);
        fs::create_dir_all(directory.join(ROOT)).unwrap();
        let root = ToolchainRoot {
            name: ToolchainName::parse(name).unwrap(),
            root: directory.join(ROOT),
            suite: "bookworm".into(),
            compiler: "gcc-12".into(),
            version: version.into(),
            content: livepatch_manifest::sha256(b""),
            packages: vec![Package { name: "binutils".into(), version: "2.40-2".into() }],
        };
        fs::write(directory.join(RECORD), root.to_text()).unwrap();
        assert!(list(toolchains).unwrap().contains(&root));
    }

    #[test]
    fn the_command_that_makes_the_root_is_exact() {
        let table = [
            (
                "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0",
                "--suite bookworm --compiler gcc-12=12.2.0-14+deb12u1",
            ),
            (
                "x86_64-linux-gnu-gcc-12 (Debian 12.2.0-14) 12.2.0",
                "--suite bookworm --compiler gcc-12=12.2.0-14",
            ),
            ("gcc-10 (Debian 10.2.1-6) 10.2.1 20210110", "--suite bullseye --compiler gcc-10=10.2.1-6"),
            (
                "gcc (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0",
                "--suite jammy --compiler gcc-11=11.4.0-1ubuntu1~22.04",
            ),
            (
                "x86_64-linux-gnu-gcc-13 (Ubuntu 13.3.0-6ubuntu2~24.04.1) 13.3.0",
                "--suite noble --compiler gcc-13=13.3.0-6ubuntu2~24.04.1",
            ),
            (
                "gcc-13 (Debian 13.3.0-1) 13.3.0",
                "--suite SUITE --mirror URL --compiler gcc-13=13.3.0-1, with a release that has gcc-13 13.3.0-1",
            ),
            ("gcc (GCC) 13.2.1 20231205", "build the kernel with a compiler of a distribution"),
            ("gcc-12 (Debian 12;reboot) 12.2.0", "build the kernel with a compiler of a distribution"),
        ];
        for (text, expected) in table {
            let hint = wanted(text).hint(Path::new("/t"));
            assert!(hint.contains(expected), "{text}: {hint}");
        }
        for text in ["clang version 14.0.6", "gcc-12", "", "Debian clang version 14"] {
            assert!(WantedCompiler::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_compiler_is_used_by_luck() {
        let directory = tempfile::tempdir().unwrap();
        let environment =
            |choice| Environment { toolchains: directory.path().into(), choice, isolation: Isolation::None };
        let said = |text: &str, choice| {
            let error = open(&wanted(text), &environment(choice), Limits::default()).err().unwrap();
            (error.to_string(), error.hint().into_owned())
        };
        let other = "gcc-12 (Debian 12.2.0-13) 12.2.0";
        for choice in [ToolchainChoice::Automatic, ToolchainChoice::Host] {
            let (error, hint) = said(other, choice);
            assert!(error.contains("no toolchain root has it"), "{error}");
            assert!(hint.ends_with("--suite bookworm --compiler gcc-12=12.2.0-13"), "{hint}");
        }
        add_root(directory.path(), "a", "(Debian 12.2.0-14) 12.2.0");
        let named = ToolchainChoice::Root(ToolchainName::parse("a").unwrap());
        assert!(
            said(other, named).0.contains("the toolchain root a has \"gcc-12 (Debian 12.2.0-14) 12.2.0\"")
        );
        let absent = ToolchainChoice::Root(ToolchainName::parse("b").unwrap());
        assert!(said(other, absent).0.contains("the toolchain root b is not in"));
        add_root(directory.path(), "b", "(Debian 12.2.0-13) 12.2.0");
        add_root(directory.path(), "c", "(Debian 12.2.0-13) 12.2.0");
        let (error, _) = said(other, ToolchainChoice::Automatic);
        assert!(error.contains("root b has the kernel's compiler, and so has c"), "{error}");
    }

    #[test]
    fn records_are_read_strictly() {
        let directory = tempfile::tempdir().unwrap();
        add_root(directory.path(), "a", "(Debian 12.2.0-14) 12.2.0");
        fs::create_dir(directory.path().join(".part-x")).unwrap();
        fs::create_dir(directory.path().join("unfinished")).unwrap();
        assert_eq!(list(directory.path()).unwrap().len(), 1);
        assert_eq!(list(&directory.path().join("none")).unwrap(), []);
        let record = directory.path().join("a").join(RECORD);
        let text = fs::read_to_string(&record).unwrap();
        for (from, to) in
            [("format 1", "format 2"), ("suite", "sweet"), ("package ", "parcel "), ("content ", "content x")]
        {
            fs::write(&record, text.replace(from, to)).unwrap();
            assert!(matches!(list(directory.path()), Err(KbuildError::Toolchain { .. })), "{to}");
        }
    }

    #[test]
    fn recipes_are_plain() {
        let recipe = Recipe::new("bookworm", "gcc-12=12.2.0-14+deb12u1", &[]).unwrap();
        assert_eq!(recipe.default_name().unwrap().as_str(), "bookworm-gcc-12-12.2.0-14+deb12u1");
        assert!(recipe.packages().starts_with("gcc-12=12.2.0-14+deb12u1,bc,"));
        let jammy = Recipe::new("jammy", "gcc-11=11.4.0-1ubuntu1~22.04", &[]).unwrap();
        assert_eq!(jammy.default_name().unwrap().as_str(), "jammy-gcc-11-11.4.0-1ubuntu1-22.04");
        for (suite, compiler, mirror) in [
            ("--help", "gcc-12", None),
            ("book worm", "gcc-12", None),
            ("bookworm", "gcc-12,evil", None),
            ("bookworm", "gcc-12=1 2", None),
            ("bookworm", "clang-14", None),
            ("bookworm", "gcc-12", Some("--setup-hook=reboot")),
            ("bookworm", "gcc-12", Some("http://a b")),
            ("bookworm", "gcc-12", Some("deb http://a b c\ndeb http://d e f")),
        ] {
            let mirrors: Vec<String> = mirror.into_iter().map(str::to_owned).collect();
            assert!(Recipe::new(suite, compiler, &mirrors).is_err(), "{suite} {compiler} {mirrors:?}");
        }
        for name in ["", "host", "../x", ".x", "A", "a/b", "-a"] {
            assert!(ToolchainName::parse(name).is_err(), "{name}");
        }
    }

    #[test]
    fn apt_says_where_packages_are() {
        let text = "http://d/debian/|bookworm|main|$(SIGNED_BY)\nhttp://d/debian/|bookworm-updates|main|/k.gpg\n\
             http://d/debian/|trixie|main|\nhttp://s/|bookworm-security|main|$(SIGNED_BY)\nhttp://d/|bookworm-backports|main|\n";
        assert_eq!(
            sources_of(text, "bookworm"),
            [
                "deb http://d/debian/ bookworm main",
                "deb [signed-by=/k.gpg] http://d/debian/ bookworm-updates main",
                "deb http://s/ bookworm-security main"
            ]
        );
        assert_eq!(sources_of(text, "jammy"), [""; 0]);
    }
}
