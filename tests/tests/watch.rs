//! A new kernel of the distribution arrives in a directory of packages: what `livepatch-build watch` makes of it.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use livepatch_manifest::Bundle;
use livepatch_tests::{cache, carved_patch, cloud_kernel};
use livepatch_vm::testing::workspace;
use serde_json::Value;

type TestResult = Result<(), Box<dyn Error>>;

/// Exit codes of `livepatch-build` (docs/series.md).
const SUCCESS: i32 = 0;
const NEEDS_PERSON: i32 = 8;

const KERNEL: &str = "linux-image-6.1.0-50-cloud-amd64_6.1.176-1";
const IMAGE: &str = "linux-image-6.1.0-50-cloud-amd64_6.1.176-1_amd64.deb";
const FILES: [&str; 3] =
    [IMAGE, "linux-headers-6.1.0-50-cloud-amd64_6.1.176-1_amd64.deb", "linux-source-6.1_6.1.176-1_all.deb"];

/// The patch that undoes a patch: what it makes is what the kernel's source has, so the source contains it.
fn undone(patch: &str) -> String {
    let line = |line: &str| {
        if let Some(path) = line.strip_prefix("--- a/") {
            return format!("--- a/{path}");
        }
        if let Some(path) = line.strip_prefix("+++ b/") {
            return format!("+++ b/{path}");
        }
        match line.split_once("@@ -").and_then(|(_, rest)| rest.split_once(" @@")) {
            Some((ranges, after)) => match ranges.split_once(" +") {
                Some((old, new)) => format!("@@ -{new} +{old} @@{after}"),
                None => line.to_owned(),
            },
            None if line.starts_with('+') => line.replacen('+', "-", 1),
            None if line.starts_with('-') => line.replacen('-', "+", 1),
            None => line.to_owned(),
        }
    };
    patch.lines().map(|text| line(text) + "\n").collect()
}

fn words(value: &Value, name: &str) -> Vec<String> {
    value[name].as_array().into_iter().flatten().map(ToString::to_string).collect()
}

/// What a round prints, when it ends with this code.
fn look_with(mut command: Command, code: i32) -> Result<Value, Box<dyn Error>> {
    let output = command.args(["--format", "json"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{}{said}", String::from_utf8_lossy(&output.stdout));
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[test]
fn a_new_kernel_gets_what_it_lacks_and_a_person_the_rest() -> TestResult {
    let Some(kernel) = cloud_kernel() else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name);
    for name in ["series", "arrives"] {
        fs::create_dir(at(name))?;
    }
    let (namespace, u32) = ("CVE-2026-93146", "CVE-2026-74544");
    fs::write(at("series/namespace.patch"), carved_patch(&kernel, namespace))?;
    fs::write(at("series/u32.patch"), undone(&carved_patch(&kernel, u32)))?;
    let elsewhere = carved_patch(&kernel, namespace).replace("timespec64_add", "timespec64_elsewhere");
    fs::write(at("series/elsewhere.patch"), elsewhere)?;
    fs::copy(workspace().join("checks/CVE-2026-93146.c"), at("series/namespace.c"))?;
    let fix =
        |cve: &str, rest: &str| format!("[[fix]]\ncve = {cve:?}\nrating = \"high\"\ntitle = \"t\"\n{rest}\n");
    let series = [
        "version = \"1.1\"\n[[follow]]\nbranch = \"6.1\"\nimage = \"linux-image-6.1.0-*-cloud-amd64\"\n\
         headers = \"linux-headers-6.1.0-*-cloud-amd64\"\nsource = \"linux-source-6.1\"\n"
            .to_owned(),
        fix(namespace, "patch = [\"namespace.patch\"]\ncheck = \"namespace.c\""),
        fix(u32, "patch = [\"u32.patch\"]"),
        fix("CVE-2026-1001", "patch = [\"elsewhere.patch\"]"),
    ];
    fs::write(at("series/series.toml"), series.concat())?;

    let command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_livepatch-build-for-tests"));
        command.arg("watch").arg(at("series")).args(["--once", "--directory"]).arg(at("arrives"));
        command.arg("--out").arg(at("out")).arg("--stage").arg(at("stage")).env("LIVEPATCH_CACHE", cache());
        command
    };
    let look = |code| look_with(command(), code);
    assert_eq!(look(SUCCESS)?, Value::Array(Vec::new()), "nothing arrived yet");

    // The image is still being written.
    let package = |name: &str| kernel.directory.join("packages").join(name);
    for name in &FILES[1..] {
        symlink(package(name), at("arrives").join(name))?;
    }
    let bytes = fs::read(package(IMAGE))?;
    fs::write(at("arrives").join(IMAGE), &bytes[..bytes.len() / 2])?;
    let waits = look(SUCCESS)?;
    assert_eq!((waits[0]["kernel"].as_str(), waits[0]["state"].as_str()), (Some(KERNEL), Some("waiting")));
    assert_eq!(words(&waits[0], "why"), [format!("\"{IMAGE} is not all there, or no Debian package\"")]);
    let seen = waits[0]["seen"].clone();

    // With apt's index it must be what that says, and all of it.
    let list = Command::new("dpkg-scanpackages")
        .args(["--multiversion", "--hash", "sha256", "packages"])
        .current_dir(&kernel.directory)
        .output()?;
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
    fs::write(at("Packages"), list.stdout)?;
    assert!(Command::new("xz").arg(at("Packages")).status()?.success());
    let command = || {
        let mut command = command();
        command.arg("--index").arg(at("Packages.xz"));
        command
    };
    let look = |code| look_with(command(), code);
    let not_the_file = [format!("\"{IMAGE} is not the file that the index names, or not all of it\"")];
    let mut other = bytes.clone();
    if let Some(byte) = other.last_mut() {
        *byte ^= 1;
    }
    for wrong in [&bytes[..bytes.len() / 2], &other] {
        fs::write(at("arrives").join(IMAGE), wrong)?;
        let waits = look(SUCCESS)?;
        assert_eq!(waits[0]["kernel"], KERNEL, "{waits}");
        assert_eq!(words(&waits[0], "why"), not_the_file);
    }

    fs::write(at("arrives").join(IMAGE), bytes)?;
    let staged = look(NEEDS_PERSON)?;
    let row = &staged[0];
    assert_eq!(row["state"], "staged", "{row}");
    assert_eq!((&row["fixes"], &row["contained"]), (&serde_json::json!([1, 0]), &serde_json::json!(1)));
    assert_eq!(row["person"][0]["cve"], "CVE-2026-1001", "{row}");
    assert!(
        row["person"][0]["what"].as_str().is_some_and(|what| what.starts_with("does not apply: ")),
        "{row}"
    );
    assert_eq!(row["seen"], seen, "the time runs from the first sight");
    assert!(row["seconds_to_stage"].as_i64().is_some_and(|seconds| seconds > 0), "{row}");
    let path = at("stage").join(KERNEL).join("livepatch_1_1.lpb");
    assert_eq!(row["bundle"].as_str().map(Path::new), Some(path.as_path()));
    let bundle = Bundle::parse(&fs::read(&path)?)?;
    let cves: Vec<String> = bundle.manifest.cves.iter().map(|cve| cve.id.to_string()).collect();
    assert_eq!(cves, [namespace]);
    let proof = bundle.parsed_proof()?.ok_or("what is staged is proven")?;
    assert!(proof.is_of(&bundle.module, &bundle.manifest.kernel));

    // Whoever signs takes it away, and it does not come back.
    fs::remove_file(&path)?;
    let again = look(NEEDS_PERSON)?;
    assert_eq!(again[0]["state"], "staged-before", "{again}");
    assert_eq!(again[0]["seconds_to_stage"], row["seconds_to_stage"]);
    assert!(!path.exists());
    let table = String::from_utf8(command().output()?.stdout)?;
    assert!(table.contains(&format!("\n{KERNEL} CVE-2026-1001: does not apply: ")), "{table}");
    Ok(())
}
