//! `cargo xtask test`: every test, those in VMs too, and what each suite took.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use livepatch_vm::{KernelTree, testing};

use crate::config::{Demo, Word};
use crate::dist::{self, Profile, Recipe};
use crate::error::Error;
use crate::process::{cannot_start, command};
use crate::release::{self, Builds};
use crate::system;

/// Tells tests the absolute path of the directory with the guests' programs.
const GUEST_BINARIES: &str = "LIVEPATCH_GUEST_BINARIES";
/// And that of the compiled check programs.
const CHECKS: &str = "LIVEPATCH_CHECKS";
/// And that of the packages.
pub(crate) const PACKAGES: &str = "LIVEPATCH_PACKAGES";
/// And the disk with a system that they can be installed in.
pub(crate) const SYSTEM_DISK: &str = "LIVEPATCH_SYSTEM_DISK";
/// Tells tests to go the long way.
const LONG: &str = "LIVEPATCH_LONG";
/// Where prepared kernel sources and other large things are kept, if not in `target/cache`; livepatch-build knows it too.
const CACHE: &str = "LIVEPATCH_CACHE";

/// How thoroughly to test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// Within tests/budget.toml.
    Budget,
    /// Soaks, too, and that two release builds give the same bytes.
    Long,
}

/// Builds what guests run, then runs all tests of the workspace; a test that cannot run a VM fails.
pub(crate) fn test(suite: Option<&Word>, length: Length) -> Result<(), Error> {
    let budget = Budget::read(&testing::workspace().join("tests/budget.toml"))?;
    let workspace = testing::workspace();
    let packages = workspace.join("target/dist/test");
    dist::dist(&Recipe::for_tests(Profile::Dev), &packages)?;
    let programs = testing::take_guest_programs()?;
    dist::lintian(&packages)?;
    let mut test = cargo(workspace);
    test.args(["test", "--workspace", "--no-fail-fast"]);
    test.args(suite.iter().flat_map(|name| ["--test", name.as_str()]));
    test.env(testing::REQUIRE_VM, "1").env(GUEST_BINARIES, programs).env(CHECKS, checks(workspace)?);
    test.env(PACKAGES, packages);
    if length == Length::Long {
        test.env(LONG, "1");
    }
    match system_disk(workspace, length)? {
        Some(disk) => drop(test.env(SYSTEM_DISK, disk)),
        None => eprintln!("SKIPPED: tests of the installed system: only root can make its disk"),
    }

    // What cargo says comes over standard error: it names each suite as it begins.
    let mut child = test.stderr(Stdio::piped()).spawn().map_err(|e| cannot_start("cargo", e))?;
    let mut laps = Laps::default();
    let lines = child.stderr.take().into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n'));
    for line in lines.map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        let _ = writeln!(std::io::stderr(), "{line}");
        if let Some(suite) = named_suite(&line) {
            laps.begin(suite);
        }
    }
    let status = child.wait().map_err(|e| Error::io("wait for cargo", e))?;
    eprintln!("\n{}", table(&laps.end(), &budget, length));
    if !status.success() {
        return Err(Error::TestsFailed { what: "cargo test".into() });
    }
    if length == Length::Long {
        release::release(&Recipe::for_tests(Profile::Release), Builds::Twice)?;
    }
    Ok(())
}

/// Minutes that suites say they take.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    /// In `cargo xtask test`.
    suites: BTreeMap<String, u32>,
    /// In `cargo xtask test --long`, where it is more.
    long: BTreeMap<String, u32>,
}

impl Budget {
    fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("read tests/budget.toml", e))?;
        toml::from_str(&text).map_err(|e| Error::Budget(e.to_string().trim_end().into()))
    }

    /// Of a suite as cargo names it: "client tests/client/main.rs".
    fn of(&self, suite: &str, length: Length) -> u32 {
        let name = suite.split(' ').next().unwrap_or(suite);
        let longer = self.long.get(name).filter(|_| length == Length::Long);
        longer.or(self.suites.get(name)).copied().unwrap_or(1)
    }
}

/// The disk of a system with the kernels of demo.toml; none where only root can make it.
pub(crate) fn system_disk(workspace: &Path, length: Length) -> Result<Option<PathBuf>, Error> {
    let file = workspace.join("demo.toml");
    let (demo, name) = match length {
        Length::Budget => (Demo::read(&file)?, "system"),
        Length::Long => (Demo::read_all(&file)?, "system-long"),
    };
    let mut kernels = Vec::new();
    for kernel in &demo.kernel {
        kernels
            .push(KernelTree::open(&testing::kernels_directory().join(kernel.name.as_str()).join("image"))?);
    }
    system::disk(workspace, &kernels, &cache(workspace).join(name))
}

/// Where prepared kernel sources and other large things are kept.
pub(crate) fn cache(workspace: &Path) -> PathBuf {
    std::env::var_os(CACHE).map_or_else(|| workspace.join("target/cache"), Into::into)
}

/// Compiles checks/*.c to static programs; gives their directory.
pub(crate) fn checks(workspace: &Path) -> Result<PathBuf, Error> {
    let (sources, programs) = (workspace.join("checks"), workspace.join("target/checks"));
    std::fs::create_dir_all(&programs).map_err(|e| Error::io("make target/checks", e))?;
    let entries = std::fs::read_dir(&sources).map_err(|e| Error::io("read checks", e))?;
    for source in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if let (Some("c"), Some(name)) = (source.extension().and_then(|e| e.to_str()), source.file_stem()) {
            livepatch_vm::compile_static(&source, &programs.join(name))?;
        }
    }
    Ok(programs)
}

/// A cargo like the one that runs this.
pub(crate) fn cargo(workspace: &Path) -> std::process::Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = command(&cargo);
    command.current_dir(workspace);
    command
}

/// Suites and what they took, in the order in which they ran.
#[derive(Default)]
struct Laps {
    done: Vec<(String, Duration)>,
    now: Option<(String, Instant)>,
}

impl Laps {
    fn begin(&mut self, suite: String) {
        self.finish();
        self.now = Some((suite, Instant::now()));
    }

    fn end(mut self) -> Vec<(String, Duration)> {
        self.finish();
        self.done
    }

    fn finish(&mut self) {
        if let Some((suite, started)) = self.now.take() {
            self.done.push((suite, started.elapsed()));
        }
    }
}

/// The suite that cargo says it runs now: `Running tests/module.rs (target/debug/deps/module-0123)`.
fn named_suite(line: &str) -> Option<String> {
    let line = line.trim();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name} documentation"));
    }
    let (source, program) = line.strip_prefix("Running ")?.strip_suffix(')')?.split_once(" (")?;
    let (_, file) = program.rsplit_once('/')?;
    let (name, _) = file.rsplit_once('-')?;
    Some(format!("{name} {}", source.trim_start_matches("unittests ")))
}

/// Minutes per suite, beside what it says; marked where it takes longer.
fn table(suites: &[(String, Duration)], budget: &Budget, length: Length) -> String {
    let minutes = |time: Duration| time.as_secs_f64() / 60.0;
    let mut table = String::from("minutes  of  suite\n");
    for (name, time) in suites {
        let (took, stated) = (minutes(*time), budget.of(name, length));
        let over = if took > f64::from(stated) { "  over its budget" } else { "" };
        table.push_str(&format!("{took:>7.2}  {stated:>2}  {name}{over}\n"));
    }
    let all = minutes(suites.iter().map(|(_, time)| *time).sum());
    table.push_str(&format!("{all:>7.2}      all suites\n"));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_recognised() {
        let line = "     Running tests/agent/main.rs (target/debug/deps/agent-0f3b)";
        assert_eq!(named_suite(line).unwrap(), "agent tests/agent/main.rs");
        let line = "     Running unittests src/lib.rs (target/debug/deps/livepatch_vm-0f3b)";
        assert_eq!(named_suite(line).unwrap(), "livepatch_vm src/lib.rs");
        assert_eq!(named_suite("   Doc-tests livepatch_types").unwrap(), "livepatch_types documentation");
        assert_eq!(named_suite("   Compiling x v0.1.0 (/x)"), None);
        assert_eq!(named_suite("Running late"), None);
    }

    #[test]
    fn minutes_are_added_up_and_compared() {
        let minutes = |name: &str, minutes| BTreeMap::from([(name.to_string(), minutes)]);
        let budget = Budget { suites: minutes("client", 2), long: minutes("b", 3) };
        let seconds = |name: &str, seconds| (name.to_string(), Duration::from_secs(seconds));
        let suites = [seconds("client tests/client/main.rs", 90), seconds("b b.rs", 90)];
        assert_eq!(
            table(&suites, &budget, Length::Budget),
            "minutes  of  suite\n   1.50   2  client tests/client/main.rs\n   1.50   1  b b.rs  over its budget\n   \
             3.00      all suites\n"
        );
        assert!(table(&suites, &budget, Length::Long).contains("   1.50   3  b b.rs\n"));
    }

    #[test]
    fn the_committed_budget_fits_into_the_whole() {
        let budget = Budget::read(&testing::workspace().join("tests/budget.toml")).unwrap();
        assert!(budget.suites.values().sum::<u32>() <= 30, "the rest of the 40 minutes is for building");
    }
}
