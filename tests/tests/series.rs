//! A series of fixes for two kernels, as its keeper works with it: built, proven, one fix more, one withdrawn, a run that
//! is killed. The programs are the real ones, the kernels those of Debian, and the proofs boot them.

use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use livepatch_build::pipeline::Workbench;
use livepatch_manifest::{Bundle, ProofResult};
use livepatch_tests::{
    cache, cloud_kernel, kernel_request, newer_cloud_kernel, replace_line, source_package,
};
use livepatch_types::CveCoverage;
use livepatch_vm::testing::{FetchedKernel, workspace};
use serde_json::Value;
use tempfile::TempDir;

type TestResult = Result<(), Box<dyn Error>>;

/// Exit codes of `livepatch-build` (docs/series.md).
const SUCCESS: i32 = 0;
const NEEDS_PERSON: i32 = 8;

const OLDER: &str = "6.1-cloud";
const NEWER: &str = "6.12-cloud";

/// Carved, in the kernel itself.
const NAMESPACE: &str = "CVE-2026-93146";
/// Carved, in a module.
const U32: &str = "CVE-2026-74544";
/// A patch of the author's own, with callbacks and a state.
const STATE: &str = "CVE-2026-1001";
/// A patch that changes code of boot time as well.
const INIT: &str = "CVE-2026-1002";

const CMDLINE: &str = "fs/proc/cmdline.c";
const LINE_END: &str = "seq_putc(m, '\\n');";

/// Whether the state is there: the machine starts again ten seconds after a panic.
const STATE_CHECK: &str = r#"
#include <stdio.h>

int main(void)
{
	int seconds = -1;
	FILE *file = fopen("/proc/sys/kernel/panic", "r");

	if (!file || fscanf(file, "%d", &seconds) != 1)
		return 2;
	return seconds == 10 ? 0 : 1;
}
"#;

/// A series' directory, and where its livepatches go.
struct Keeper {
    directory: TempDir,
    kernels: Vec<(&'static str, FetchedKernel)>,
}

impl Keeper {
    /// Fixes as they can be taken into `series.toml`; none when a kernel is not here.
    fn new(newer_too: bool) -> Result<Option<Self>, Box<dyn Error>> {
        let Some(older) = cloud_kernel() else { return Ok(None) };
        let mut kernels = vec![(OLDER, older)];
        if newer_too {
            let Some(newer) = newer_cloud_kernel() else { return Ok(None) };
            kernels.push((NEWER, newer));
        }
        let keeper = Self { directory: tempfile::tempdir()?, kernels };
        let series = keeper.series();
        for (name, kernel) in &keeper.kernels {
            for which in ["old", "new"] {
                // What `cargo xtask fetch` took out of the two source packages is a source tree as far as carving goes.
                let to = series.join(name).join(which);
                for file in ["kernel/time/namespace.c", "net/sched/cls_u32.c"] {
                    let path = to.join(file);
                    fs::create_dir_all(path.parent().ok_or("no directory")?)?;
                    fs::copy(kernel.directory.join("carve").join(which).join(file), path)?;
                }
                fs::write(to.join("Kbuild"), "")?;
            }
        }
        let bench = Workbench::open(&kernel_request(&keeper.kernels[0].1), &|_| ())?;
        let source = bench.tree().path();
        let shown = format!("seq_puts(m, \" livepatched\");\n\t{LINE_END}");
        let shown = replace_line(source, CMDLINE, LINE_END, &shown);
        let init = replace_line(
            source,
            CMDLINE,
            "proc_create_single(\"cmdline\", 0,",
            "proc_create_single(\"cmdline\", 0444,",
        );
        fs::write(series.join("author.c"), include_str!("author/examples/state.c"))?;
        fs::write(series.join("shown.patch"), shown)?;
        fs::write(series.join("init.patch"), init)?;
        fs::write(series.join("state.c"), STATE_CHECK)?;
        for cve in [NAMESPACE, U32] {
            let name = format!("{cve}.c");
            fs::copy(workspace().join("checks").join(&name), series.join(&name))?;
        }
        Ok(Some(keeper))
    }

    fn series(&self) -> &Path {
        self.directory.path()
    }

    fn out(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    /// Writes `series.toml` with these fixes, and what is to stand below them.
    fn write(&self, version: &str, fixes: &[&str], below: &str) -> TestResult {
        let mut text = format!("version = {version:?}\n");
        for (name, kernel) in &self.kernels {
            let branch = name.trim_end_matches("-cloud");
            let directory = kernel.directory.display();
            text.push_str(&format!(
                "[branch.{branch:?}]\ncarve-from = \"{name}/old\"\ncarve-to = \"{name}/new\"\n\
                 [[kernel]]\nname = {name:?}\nbranch = {branch:?}\nimage = \"{directory}/image\"\n\
                 headers = \"{directory}/headers\"\nsource = {:?}\n",
                source_package(kernel)
            ));
        }
        for cve in fixes {
            text.push_str(&format!("[[fix]]\ncve = {cve:?}\nrating = \"high\"\ntitle = \"a fix\"\n"));
            text.push_str(match *cve {
                NAMESPACE => {
                    "carve = [{ file = \"kernel/time/namespace.c\", containing = \"tv_nsec < 0\" }]\n\
                     check = \"CVE-2026-93146.c\"\n"
                }
                U32 => {
                    "carve = [{ file = \"net/sched/cls_u32.c\", containing = \"offshift >= 16\", lines = 7 }]\n\
                     check = \"CVE-2026-74544.c\"\nneeds = [\"sch_ingress\"]\n"
                }
                STATE => {
                    "patch = [\"shown.patch\"]\nbranches = [\"6.1\"]\ncheck = \"state.c\"\nauthor = [{ file = \
                     \"fs/proc/cmdline.c\", before = \"static int cmdline_proc_show(\", code = \"author.c\" }]\n"
                }
                INIT => "patch = [\"init.patch\", \"shown.patch\"]\n",
                other => return Err(format!("{other} is no fix of this test").into()),
            });
        }
        text.push_str(below);
        fs::write(self.series().join("series.toml"), text)?;
        Ok(())
    }

    fn command(&self, action: &str, out: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_livepatch-build-for-tests"));
        command.args(["series", action]).arg(self.series()).arg("--out").arg(out);
        command.env("LIVEPATCH_CACHE", cache());
        command
    }

    /// What it prints as JSON; it must end with this code.
    fn run(&self, action: &str, out: &Path, code: i32) -> Result<Value, Box<dyn Error>> {
        let output = self.command(action, out).args(["--all", "--format", "json"]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{}{said}", String::from_utf8_lossy(&output.stdout));
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

fn bundle(out: &Path, kernel: &str, version: &str) -> Result<Bundle, Box<dyn Error>> {
    let module = format!("livepatch_{}.lpb", version.replace('.', "_"));
    Ok(Bundle::parse(&fs::read(out.join(kernel).join(module))?)?)
}

/// Each kernel's state, and its fixes with their verdicts.
fn verdicts(outcomes: &Value) -> Vec<String> {
    let fix = |fix: &Value| format!("{} {}", word(&fix["cve"]), word(&fix["verdict"]));
    let kernel = |kernel: &Value| {
        let fixes: Vec<String> = list(&kernel["fixes"]).iter().map(fix).collect();
        format!("{} {}: {}", word(&kernel["kernel"]), word(&kernel["state"]), fixes.join(", "))
    };
    list(outcomes).iter().map(kernel).collect()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

#[test]
fn a_series_grows_and_every_step_is_proven() -> TestResult {
    let Some(keeper) = Keeper::new(true)? else { return Ok(()) };
    let out = keeper.out();
    keeper.write("1.1", &[NAMESPACE, STATE], "")?;
    let built = keeper.run("build", &out, SUCCESS)?;
    assert_eq!(
        verdicts(&built),
        [
            format!("{OLDER} built: {NAMESPACE} whole, {STATE} whole"),
            format!("{NEWER} built: {NAMESPACE} whole"),
        ]
    );

    keeper.write("1.2", &[NAMESPACE, STATE, U32], "")?;
    let built = keeper.run("build", &out, SUCCESS)?;
    assert_eq!(
        verdicts(&built),
        [
            format!("{OLDER} built: {NAMESPACE} whole, {STATE} whole, {U32} whole"),
            format!("{NEWER} built: {NAMESPACE} whole, {U32} whole"),
        ]
    );
    assert!(list(&built).iter().all(|kernel| word(&kernel["previous"]) == "1.1"), "{built}");
    for kernel in list(&built) {
        assert!(out.join(word(&kernel["kernel"])).join(word(&kernel["debug"])).is_file(), "{kernel}");
    }

    let proofs = keeper.run("prove", &out, SUCCESS)?;
    let said = |proof: &Value| {
        let (kernel, state) = (word(&proof["kernel"]), word(&proof["state"]));
        format!("{kernel} {state} after {}, checks: {}", word(&proof["previous"]), proof["checks"])
    };
    let said: Vec<String> = list(&proofs).iter().map(said).collect();
    assert_eq!(
        said,
        [format!("{OLDER} passed after 1.1, checks: 3"), format!("{NEWER} passed after 1.1, checks: 2"),]
    );
    for kernel in [OLDER, NEWER] {
        let bundle = bundle(&out, kernel, "1.2")?;
        let proof = bundle.parsed_proof()?.ok_or("the proof is not in the bundle")?;
        assert_eq!(proof.result, ProofResult::Passed);
        assert!(proof.is_of(&bundle.module, &bundle.manifest.kernel));
    }
    // Nothing is done twice.
    let again = keeper.run("build", &out, SUCCESS)?;
    assert!(list(&again).iter().all(|kernel| kernel["resumed"] == true), "{again}");
    let again = keeper.run("prove", &out, SUCCESS)?;
    assert!(list(&again).iter().all(|proof| word(&proof["state"]) == "passed-before"), "{again}");
    Ok(())
}

#[test]
fn what_was_fixed_is_only_lost_when_it_is_withdrawn() -> TestResult {
    let Some(keeper) = Keeper::new(false)? else { return Ok(()) };
    let out = keeper.out();
    keeper.write("1.1", &[NAMESPACE, U32], "")?;
    keeper.run("build", &out, SUCCESS)?;
    keeper.write("1.2", &[NAMESPACE], "")?;
    let refused = keeper.run("build", &out, NEEDS_PERSON)?;
    let why = "a livepatch would lose fixes: CVE-2026-74544 is fixed by the one before";
    assert_eq!(word(&refused[0]["why"]), why);
    assert!(bundle(&out, OLDER, "1.2").is_err(), "there is no bundle");
    let withdrawn = format!("[[withdrawn]]\ncve = {U32:?}\nreason = \"it drops valid filters\"\n");
    keeper.write("1.2", &[NAMESPACE], &withdrawn)?;
    keeper.run("build", &out, SUCCESS)?;
    let cves: Vec<String> =
        bundle(&out, OLDER, "1.2")?.manifest.cves.iter().map(|cve| cve.id.to_string()).collect();
    assert_eq!(cves, [NAMESPACE]);
    Ok(())
}

#[test]
fn a_run_that_was_killed_ends_with_the_same_livepatches() -> TestResult {
    let Some(keeper) = Keeper::new(true)? else { return Ok(()) };
    keeper.write("1.1", &[NAMESPACE, U32], "")?;
    let killed = keeper.directory.path().join("killed");
    let mut child = keeper
        .command("build", &killed)
        .args(["--all", "--jobs", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let said = BufReader::new(child.stderr.take().ok_or("it says nothing")?).lines();
    // In the midst of the second kernel.
    let at = format!("{NEWER}: compiling");
    let reached = said.map_while(Result::ok).any(|line| line.starts_with(&at));
    child.kill()?;
    child.wait()?;
    assert!(reached, "it never said {at:?}");
    assert!(bundle(&killed, OLDER, "1.1").is_ok() && bundle(&killed, NEWER, "1.1").is_err());

    let resumed = keeper.run("build", &killed, SUCCESS)?;
    let found: Vec<&Value> = list(&resumed).iter().map(|kernel| &kernel["resumed"]).collect();
    assert_eq!(found, [true, false]);
    let out = keeper.out();
    keeper.run("build", &out, SUCCESS)?;
    for kernel in [OLDER, NEWER] {
        let (one, other) = (bundle(&killed, kernel, "1.1")?, bundle(&out, kernel, "1.1")?);
        assert!(one.module == other.module, "{kernel}: another module");
        assert_eq!(one.sources, other.sources);
    }
    Ok(())
}

#[test]
fn what_is_left_out_is_called_partial() -> TestResult {
    let Some(keeper) = Keeper::new(false)? else { return Ok(()) };
    let out = keeper.out();
    keeper.write("1.1", &[NAMESPACE, INIT], "")?;
    let open = keeper.run("build", &out, NEEDS_PERSON)?;
    assert_eq!(
        verdicts(&open),
        [format!("{OLDER} needs-person: {NAMESPACE} whole, {INIT} needs-person")],
        "the other fix is built"
    );
    assert!(word(&open[0]["fixes"][1]["why"]).contains("proc_cmdline_init"), "{open}");
    let partial = "partial = { reason = \"the mode of a file that is made at boot\" }\n";
    keeper.write("1.1", &[NAMESPACE, INIT], partial)?;
    let built = keeper.run("build", &out, SUCCESS)?;
    assert_eq!(verdicts(&built), [format!("{OLDER} built: {NAMESPACE} whole, {INIT} partial")]);
    let coverage = |bundle: Bundle| bundle.manifest.cves.iter().map(|cve| cve.coverage).collect::<Vec<_>>();
    assert_eq!(coverage(bundle(&out, OLDER, "1.1")?), [CveCoverage::Whole, CveCoverage::Partial]);
    let table = keeper.command("build", &out).arg("--all").output()?;
    let table = String::from_utf8(table.stdout)?;
    assert!(table.contains(&format!("{OLDER}  {INIT} partial: proc_cmdline_init")), "{table}");
    Ok(())
}
