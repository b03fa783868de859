//! `cargo xtask matrix`: the series of `series/debian-12` for all of its kernels, as a vendor would do it: the livepatch
//! without the last fix, the one with it, the proof of the upgrade, the signature of another user, a table.
//!
//! What an earlier run finished stays in `target/matrix/out`; a run that was killed goes on there.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use livepatch_vm::testing;
use serde_json::{Value, json};

use crate::config::{Package, Word};
use crate::error::{Error, Exit};
use crate::fetch::{self, make_directory, remove_directory};
use crate::process::{cannot_start, command, output, tool};
use crate::progress::Step;
use crate::{setup, test};

/// The livepatch before, and the one after a fix was added.
const VERSIONS: [&str; 2] = ["1.1", "1.2"];
/// Who signs: Debian's `nobody`, who can read nothing of whoever builds, and whose key nobody else can read.
const SIGNER: u32 = 65_534;
const KEY: &str = "matrix";
/// Exit codes of `livepatch-build` that come with a table.
const WITH_TABLE: [i32; 3] = [0, 8, 9];

/// Builds, proves and signs; only these kernels, or all.
pub(crate) fn matrix(only: &[String], jobs: Option<usize>) -> Result<(), Error> {
    setup::setup()?;
    let (workspace, started) = (testing::workspace(), Instant::now());
    let directory = workspace.join("target/matrix");
    make_directory(&directory)?;
    let series = Series::read(&workspace.join("series/debian-12"))?;
    let packages = testing::kernels_directory().join("packages");
    make_directory(&packages.join("partial"))?;
    for package in series.packages(only)? {
        fetch::download(&package, &packages)?;
    }
    let step = Step::begin("built the builder");
    let mut build = test::cargo(workspace);
    build.args(["build", "--package", "livepatch-build", "--target-dir"]).arg(workspace.join("target"));
    tool(&mut build, "cargo build", Exit::Failure, |line| step.note(line))?;
    step.done();

    let builder = Builder {
        program: workspace.join("target/debug/livepatch-build"),
        cache: test::cache(workspace),
        packages,
        out: directory.join("out"),
        only,
        jobs,
    };
    let first = series.write(&directory.join("first"), VERSIONS[0], 1)?;
    let second = series.write(&directory.join("second"), VERSIONS[1], 0)?;
    let built = [builder.run("build", &first)?, builder.run("build", &second)?];
    let proofs = builder.run("prove", &second)?;
    let signed = sign(&builder, &directory, &proofs)?;
    let report = json!({
        "schema": 1,
        "versions": VERSIONS,
        "before": built[0],
        "livepatches": built[1],
        "proofs": proofs,
        "signed": signed,
        "seconds": started.elapsed().as_secs(),
    });
    let text = serde_json::to_vec_pretty(&report).map_err(|e| Error::Config(e.to_string()))?;
    let path = directory.join("report.json");
    fs::write(&path, text).map_err(|e| Error::io(format!("write {}", path.display()), e))?;
    print!("{}", table(&report));
    let complete = list(&report["livepatches"]).iter().all(|kernel| {
        let name = &kernel["kernel"];
        word(&kernel["state"]) == "built"
            && list(&report["signed"]).iter().any(|done| done["kernel"] == *name)
    });
    if complete { Ok(()) } else { Err(Error::TestsFailed { what: "a part of the matrix".into() }) }
}

/// `series.toml` as a table: only the builder knows what it means.
struct Series {
    directory: PathBuf,
    table: toml::Table,
}

impl Series {
    fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("series.toml");
        let text = fs::read_to_string(&path).map_err(|e| Error::io(format!("read {}", path.display()), e))?;
        let table = text.parse().map_err(|e: toml::de::Error| Error::Config(e.to_string()))?;
        Ok(Self { directory: directory.to_owned(), table })
    }

    fn tables(&self, name: &str) -> impl Iterator<Item = &toml::Table> {
        self.table
            .get(name)
            .and_then(|all| all.as_array())
            .into_iter()
            .flatten()
            .filter_map(|one| one.as_table())
    }

    /// The packages of these kernels, and those that fixes are carved out of.
    fn packages(&self, only: &[String]) -> Result<Vec<Package>, Error> {
        let is_wanted = |kernel: &&toml::Table| {
            let name = kernel.get("name").and_then(|name| name.as_str()).unwrap_or_default();
            only.is_empty() || only.iter().any(|wanted| wanted == name)
        };
        let kernels: Vec<&toml::Table> = self.tables("kernel").filter(is_wanted).collect();
        let branches = self.table.get("branch").and_then(|all| all.as_table()).into_iter().flatten();
        let branches = branches.filter_map(|(_, branch)| branch.as_table());
        let files =
            (kernels.iter().flat_map(|kernel| ["image", "headers", "source"].map(|name| kernel.get(name))))
                .chain(branches.flat_map(|branch| ["carve-from", "carve-to"].map(|name| branch.get(name))));
        let mut names: Vec<&str> = files.flatten().filter_map(|file| file.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(package).collect()
    }

    /// Writes it with another version and without its last fixes.
    fn write(&self, to: &Path, version: &str, without: usize) -> Result<PathBuf, Error> {
        remove_directory(to)?;
        // Links lead elsewhere from there.
        output(command("cp").arg("-rL").arg(&self.directory).arg(to))?;
        let mut table = self.table.clone();
        table.insert("version".into(), version.into());
        if let Some(fixes) = table.get_mut("fix").and_then(|fixes| fixes.as_array_mut()) {
            fixes.truncate(fixes.len().saturating_sub(without));
        }
        let text = toml::to_string(&table).map_err(|e| Error::Config(e.to_string()))?;
        fs::write(to.join("series.toml"), text).map_err(|e| Error::io("write the series", e))?;
        Ok(to.to_owned())
    }
}

/// The package of a file name.
fn package(file: &str) -> Result<Package, Error> {
    let wrong = || Error::Config(format!("{file:?} in series.toml is not the file name of a package"));
    let mut parts = file.strip_suffix(".deb").ok_or_else(wrong)?.splitn(3, '_');
    let (Some(name), Some(version), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(wrong());
    };
    let word = |text: &str| Word::try_from(text.to_owned()).map_err(Error::Config);
    Ok(Package { package: word(name)?, version: word(version)? })
}

struct Builder<'b> {
    program: PathBuf,
    cache: PathBuf,
    packages: PathBuf,
    out: PathBuf,
    only: &'b [String],
    jobs: Option<usize>,
}

impl Builder<'_> {
    /// `livepatch-build series`; what it says meanwhile is shown, what it prints at the end is given.
    fn run(&self, action: &str, series: &Path) -> Result<Value, Error> {
        let mut program = command(&self.program.display().to_string());
        program.args(["series", action]).arg(series).arg("--out").arg(&self.out);
        program.arg("--packages").arg(&self.packages).arg("--cache").arg(&self.cache);
        match self.only {
            [] => _ = program.arg("--all"),
            only => _ = program.args(only.iter().flat_map(|name| ["--kernel", name])),
        }
        if let Some(jobs) = self.jobs.filter(|_| action == "build") {
            program.args(["--jobs", &jobs.to_string()]);
        }
        let done = program.args(["--format", "json"]).stderr(Stdio::inherit()).output();
        let done = done.map_err(|e| cannot_start("livepatch-build", e))?;
        // Others come with a table, too, when it is one kernel that failed.
        match serde_json::from_slice(&done.stdout) {
            Ok(value) => Ok(value),
            Err(_) => Err(Error::Tool {
                what: format!("series {action}"),
                message: format!(
                    "it ended with {:?}, where {WITH_TABLE:?} come with a table",
                    done.status.code()
                ),
                hint: None,
                exit: Exit::Build,
            }),
        }
    }
}

/// Hands what is proven to the signer, and takes it back. The key is the signer's alone.
fn sign(builder: &Builder<'_>, directory: &Path, proofs: &Value) -> Result<Vec<Value>, Error> {
    if !setup::is_root()? {
        return Err(Error::Tool {
            what: "signing as another user".into(),
            message: "only root can be another user".into(),
            hint: Some("run it as root, in a container for example".into()),
            exit: Exit::NeedsRoot,
        });
    }
    let home = directory.join("signer");
    remove_directory(&home)?;
    make_directory(&home)?;
    let program = directory.join("livepatch-build");
    let io = |what: &str| {
        let what = what.to_owned();
        move |e| Error::io(what, e)
    };
    fs::copy(&builder.program, &program).map_err(io("copy the builder"))?;
    chown(&home, Some(SIGNER), Some(SIGNER)).map_err(io("give the signer a directory"))?;
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755))
        .map_err(io("open the signer's directory"))?;
    let signer = |program: &Path| {
        let user = SIGNER.to_string();
        let mut command = command("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--no-new-privs", "--"]);
        command.arg(program).current_dir(&home);
        command
    };
    output(signer(&program).arg("keygen").arg(&home).args(["--name", KEY]))?;
    let mut done = Vec::new();
    for proof in list(proofs).iter().filter(|proof| word(&proof["state"]).starts_with("passed")) {
        let name = word(&proof["kernel"]);
        let module = format!("livepatch_{}.lpb", VERSIONS[1].replace('.', "_"));
        let from = builder.out.join(name).join(&module);
        let to = home.join(format!("{name}.lpb"));
        output(signer(Path::new("/bin/cp")).arg(&from).arg(&to))?;
        let mut sign = signer(&program);
        sign.arg("sign").arg(&to).arg("--key").arg(home.join(format!("{KEY}.key.pem")));
        output(sign.arg("--certificate").arg(home.join(format!("{KEY}.cert.pem"))))?;
        let inspected = output(
            command(&builder.program.display().to_string())
                .arg("inspect")
                .arg(&to)
                .args(["--format", "json"]),
        )?;
        let inspected: Value =
            serde_json::from_slice(&inspected).map_err(|e| Error::Config(e.to_string()))?;
        done.push(json!({
            "kernel": name,
            "bundle": to,
            "user": SIGNER,
            "signed": inspected["signed"],
            "module": inspected["module"],
            "cves": inspected["cves"],
        }));
    }
    Ok(done)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// One line a kernel, and below what is not plain.
fn table(report: &Value) -> String {
    let mut text = format!(
        "{:<18} {:>5} {:>7} {:>9} {:>10} {:>4} {:>7} {:>7}  {:<14} {:>6} {:>7}  {}\n",
        "kernel",
        "whole",
        "partial",
        "contained",
        "unaffected",
        "open",
        "kB",
        "build s",
        "upgrade proof",
        "steps",
        "proof s",
        "signed"
    );
    let of = |all: &'static str, name: &Value| {
        list(&report[all]).iter().find(|row| row["kernel"] == *name).cloned()
    };
    let mut below = String::new();
    for kernel in list(&report["livepatches"]) {
        let name = &kernel["kernel"];
        let proof = of("proofs", name).unwrap_or_default();
        let count = |verdicts: &[&str]| {
            list(&kernel["fixes"]).iter().filter(|fix| verdicts.contains(&word(&fix["verdict"]))).count()
        };
        let kilobytes = kernel["module"]["size_bytes"].as_u64().unwrap_or_default().div_ceil(1000);
        let upgrade = match (word(&proof["previous"]), word(&proof["state"])) {
            ("", state) => state.to_owned(),
            (before, state) => format!("{before} {state}"),
        };
        text.push_str(&format!(
            "{:<18} {:>5} {:>7} {:>9} {:>10} {:>4} {kilobytes:>7} {:>7.1}  {upgrade:<14} {:>6} {:>7.1}  {}\n",
            word(name),
            count(&["whole"]),
            count(&["partial"]),
            count(&["contained"]),
            count(&["not-affected"]),
            count(&["needs-person", "does-not-apply", "cannot"]),
            kernel["seconds"].as_f64().unwrap_or_default(),
            proof["steps"],
            proof["seconds"].as_f64().unwrap_or_default(),
            if of("signed", name).is_some() { "by another user" } else { "no" },
        ));
        for row in [kernel, &proof] {
            if let Some(why) = row["why"].as_str() {
                below.push_str(&format!("{}: {}\n", word(name), why.trim_end()));
            }
        }
        for fix in list(&kernel["fixes"]).iter().filter(|fix| word(&fix["verdict"]) != "whole") {
            let why = fix["why"].as_str().map(|why| format!(": {}", why.trim_end())).unwrap_or_default();
            below.push_str(&format!(
                "{}  {} {}{why}\n",
                word(name),
                word(&fix["cve"]),
                word(&fix["verdict"])
            ));
        }
    }
    format!("{text}\n{below}the report is target/matrix/report.json, after {} s\n", report["seconds"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_series_names_packages() {
        let series = Series::read(&testing::workspace().join("series/debian-12")).unwrap();
        let all = series.packages(&[]).unwrap();
        assert!(all.iter().any(|package| package.package.as_str() == "linux-source-6.12"));
        assert!(series.packages(&["6.12.107-rt".into()]).unwrap().len() < all.len());
        assert!(series.tables("kernel").count() >= 6 && series.tables("fix").count() >= 9);
    }

    #[test]
    fn the_table_shows_what_is_not_plain() {
        let report = json!({
            "livepatches": [
                { "kernel": "6.1-cloud", "state": "built", "seconds": 12.34, "module": { "size_bytes": 20_001 },
                  "fixes": [{ "cve": "CVE-2026-1111", "verdict": "whole" }, { "cve": "CVE-2026-2222", "verdict": "contained" }] },
                { "kernel": "6.12", "state": "failed", "seconds": 1.0, "fixes": [], "why": "no space" },
            ],
            "proofs": [{ "kernel": "6.1-cloud", "state": "passed", "previous": "1.1", "steps": 17, "seconds": 60.0 }],
            "signed": [{ "kernel": "6.1-cloud" }],
            "seconds": 99,
        });
        let text = table(&report);
        let lines: Vec<String> =
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(lines[1], "6.1-cloud 1 0 1 0 0 21 12.3 1.1 passed 17 60.0 by another user");
        assert!(lines[2].starts_with("6.12 0 0 0 0 0 0 1.0") && lines[2].ends_with("no"), "{}", lines[2]);
        assert!(text.contains("6.12: no space\n") && text.contains("6.1-cloud  CVE-2026-2222 contained\n"));
    }
}
