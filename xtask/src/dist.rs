//! `cargo xtask dist`: Debian packages. `dist/PACKAGE` mirrors what a package installs; this adds what is built.
//!
//! The same sources give the same bytes: times are those of the commit, owners are root, modes do not depend on the
//! umask, and release builds know no paths of this machine.

mod changelog;
mod control;
mod deb;
pub(crate) mod packages;
mod stage;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use livepatch_vm::testing;

use self::control::{Maintainer, Version};
use self::packages::PACKAGES;
use self::stage::{Origin, Stage};
use crate::error::{Error, Exit};
use crate::fetch::{make_directory, remove_directory};
use crate::process::{cannot_start, command, output, tool};
use crate::progress::Step;
use crate::test;

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The program of ours that writes man pages and completions.
const MANUAL: &str = "livepatch-manual";
/// The package with what runs on hosts.
const CLIENT: &str = "livepatch";

/// What packages are made of.
#[derive(Debug, Clone, Args)]
pub(crate) struct Recipe {
    /// How the programs are compiled
    #[arg(long, value_enum, default_value_t)]
    pub(crate) profile: Profile,
    /// Directory with vendor.pem, operator.pub and perhaps vendor-root.json, operator-root.json and log.vkey, which hosts with these packages then trust
    #[arg(long, value_name = "DIR")]
    pub(crate) keys: Option<PathBuf>,
    /// Version of the packages, if not that of the workspace
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<Version>,
    /// Who answers for the packages
    #[arg(long, value_name = "NAME <ADDRESS>", default_value = Maintainer::PLACEHOLDER)]
    pub(crate) maintainer: Maintainer,
}

impl Recipe {
    /// What nobody but this machine gets.
    pub(crate) fn for_tests(profile: Profile) -> Self {
        Self { profile, keys: None, version: None, maintainer: Maintainer::placeholder() }
    }

    pub(crate) fn package_version(&self) -> Version {
        self.version.clone().unwrap_or_else(Version::of_workspace)
    }
}

/// How the programs are compiled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// Optimised, in a directory of its own, without paths of this machine
    #[default]
    Release,
    /// As the tests are
    Dev,
}

/// Where packages go, if nobody says.
pub(crate) fn default_directory() -> PathBuf {
    testing::workspace().join("target/dist/packages")
}

/// Builds all packages into `out`, which holds nothing else then; gives their paths.
pub(crate) fn dist(recipe: &Recipe, out: &Path) -> Result<Vec<PathBuf>, Error> {
    let workspace = testing::workspace();
    let step = Step::begin("built the programs");
    let programs = build(workspace, recipe.profile, |line| step.note(line))?;
    step.done();
    package(workspace, &programs, recipe, epoch(workspace)?, out)
}

/// Makes the packages of programs that are built.
pub(crate) fn package(
    workspace: &Path,
    programs: &Path,
    recipe: &Recipe,
    epoch: u64,
    out: &Path,
) -> Result<Vec<PathBuf>, Error> {
    // Some of the tools below work in other directories.
    let out = &std::path::absolute(out).map_err(|e| Error::io(format!("find {}", out.display()), e))?;
    // Beside it: two can be made at once.
    let work = out.with_added_extension("work");
    for directory in [&work, out] {
        remove_directory(directory)?;
        make_directory(directory)?;
    }
    let manual = work.join("manual");
    let mut render = command(&programs.join(MANUAL).to_string_lossy());
    tool(render.arg(&manual), "rendering the manual", Exit::Failure, |_| ())?;

    let origin = Origin {
        workspace,
        programs,
        manual: &manual,
        keys: recipe.keys.as_deref(),
        profile: recipe.profile,
        version: recipe.package_version(),
        maintainer: &recipe.maintainer,
        epoch,
    };
    let mut made = Vec::new();
    for package in PACKAGES {
        let step = Step::begin(format!("made {} {}", package.name, origin.version));
        let root = work.join(package.name);
        Stage::new(&origin, package, &root).fill()?;
        made.push(deb::pack(&origin, package, &root, out)?);
        step.done();
    }
    remove_directory(&work)?;
    Ok(made)
}

/// Refuses packages of a directory in which lintian finds errors or warnings.
pub(crate) fn lintian(directory: &Path) -> Result<(), Error> {
    let step = Step::begin("checked the packages with lintian");
    let mut check = command("lintian");
    check.args(["--fail-on", "error,warning", "--allow-root", "--tag-display-limit", "0", "--"]);
    let entries = std::fs::read_dir(directory).map_err(|e| Error::io("list the packages", e))?;
    let mut debs: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    debs.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    debs.sort();
    let found = check.args(&debs).output().map_err(|e| cannot_start("lintian", e))?;
    if !found.status.success() {
        let text = [found.stdout, found.stderr].concat();
        eprint!("{}", String::from_utf8_lossy(&text));
        return Err(Error::TestsFailed { what: "lintian".into() });
    }
    step.done();
    Ok(())
}

/// Builds what the packages hold; gives the directory of the programs.
pub(crate) fn build(workspace: &Path, profile: Profile, note: impl Fn(&str)) -> Result<PathBuf, Error> {
    let target = match profile {
        // Exactly what `cargo test` builds, too.
        Profile::Dev => {
            let mut build = test::cargo(workspace);
            build.args(["build", "--workspace", "--all-targets", "--target-dir"]);
            build.arg(workspace.join("target"));
            tool(&mut build, "cargo build", Exit::Failure, note)?;
            return Ok(workspace.join("target/debug"));
        }
        Profile::Release => workspace.join("target/dist/build"),
    };
    build_release(workspace, &target, note)
}

/// Builds for release in a given directory.
pub(crate) fn build_release(workspace: &Path, target: &Path, note: impl Fn(&str)) -> Result<PathBuf, Error> {
    // Panics, backtraces and assertions of C name files: without the places where this machine keeps them.
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"));
    let hidden = [(cargo_home.as_path(), "/cargo"), (target, "/target"), (workspace, "/livepatch")];
    let maps = |flag: &str, between: &str| {
        let map = |(from, to): &(&Path, &str)| format!("{flag}{}={to}", from.display());
        hidden.iter().map(map).collect::<Vec<_>>().join(between)
    };
    let (flags, cflags) =
        (maps("--remap-path-prefix=", "\u{1f}"), format!("-O2 {}", maps("-ffile-prefix-map=", " ")));
    // The programs of a host by themselves: cargo gives all that it builds at once one set of libraries, with what any of it asks
    // for, and the server asks for HTTP/2 and more.
    let (on_hosts, others): (Vec<_>, Vec<_>) = PACKAGES.iter().partition(|package| package.name == CLIENT);
    for (packages, more) in [(on_hosts, None), (others, Some(MANUAL))] {
        let crates = packages.iter().flat_map(|package| package.programs).map(|program| program.cargo);
        let mut build = test::cargo(workspace);
        build.env("CARGO_ENCODED_RUSTFLAGS", &flags).env("CFLAGS", &cflags);
        build.args(["build", "--release", "--locked", "--target", TARGET, "--target-dir"]).arg(target);
        build.args(crates.chain(more).flat_map(|name| ["--package", name]));
        tool(&mut build, "cargo build", Exit::Failure, &note)?;
    }
    let directory = target.join(TARGET).join("release");
    for program in PACKAGES.iter().flat_map(|package| package.programs) {
        let path = directory.join(program.name);
        let bytes = std::fs::read(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))?;
        let shown = hidden.iter().find(|(from, to)| *from != Path::new(to) && mentions(&bytes, from));
        if let Some((place, _)) = shown {
            return Err(Error::ShowsPath { program: program.name.into(), place: place.into() });
        }
    }
    Ok(directory)
}

/// Whether a path stands somewhere in a program.
fn mentions(program: &[u8], path: &Path) -> bool {
    let path = path.as_os_str().as_encoded_bytes();
    let starts = program.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    starts.into_iter().any(|at| program[at..].starts_with(path))
}

/// The time that everything in the packages has: that of the commit, if SOURCE_DATE_EPOCH does not say another.
pub(crate) fn epoch(workspace: &Path) -> Result<u64, Error> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => {
            let mut git = command("git");
            let time = output(git.current_dir(workspace).args(["log", "-1", "--format=%ct"]))?;
            String::from_utf8_lossy(&time).into_owned()
        }
    };
    text.trim().parse().map_err(|_| Error::NoEpoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_a_program_is_found() {
        assert!(mentions(b"x//home/a/b\0", Path::new("/home/a")));
        assert!(!mentions(b"x/home/\0/home/", Path::new("/home/a")));
    }
}
