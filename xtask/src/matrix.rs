//! `cargo xtask matrix`: the series of `series/debian-12` for all of its kernels, as a vendor would do it: the livepatch
//! without the last fix, the one with it, the proof of the upgrade, the signature of another user, a table.
//!
//! What an earlier run finished stays in `target/matrix/out`; a run that was killed goes on there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use livepatch_vm::testing;
use serde_json::{Value, json};

use crate::error::{Error, Exit};
use crate::fetch::{make_directory, remove_directory};
use crate::process::{cannot_start, command, output, tool};
use crate::progress::Step;
use crate::series::Series;
use crate::signer::Signer;
use crate::{setup, test};

/// The livepatch before, and the one after a fix was added.
const VERSIONS: [&str; 2] = ["1.1", "1.2"];
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
    series.download(only, &packages)?;
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

/// Hands what is proven to the signer, and keeps what comes back.
fn sign(builder: &Builder<'_>, directory: &Path, proofs: &Value) -> Result<Vec<Value>, Error> {
    let (host, signed) = (directory.join("signer"), directory.join("signed"));
    remove_directory(&host)?;
    make_directory(&signed)?;
    let signer = Signer::another_user(&builder.program, &host, KEY)?;
    let mut done = Vec::new();
    for proof in list(proofs).iter().filter(|proof| word(&proof["state"]).starts_with("passed")) {
        let name = word(&proof["kernel"]);
        let module = format!("livepatch_{}.lpb", VERSIONS[1].replace('.', "_"));
        let from = builder.out.join(name).join(&module);
        let to = signed.join(format!("{name}.lpb"));
        signer.sign(&from, &to)?;
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
            "user": signer.user(),
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
