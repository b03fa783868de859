//! The floors of the house (ARCHITECTURE.md), checked against what the crates declare. A crate imports strictly lower
//! floors; some libraries have one home. To add a crate or move one, change the table here and say why in the commit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Our crates by floor. `agent` and `server` share one, so that they can meet in api and manifest only.
const FLOORS: &[(&str, u8)] = &[
    ("livepatch-types", 0),
    ("livepatch-api", 1),
    ("livepatch-archive", 1),
    ("livepatch-carve", 1),
    ("livepatch-kimage", 1),
    ("livepatch-klp", 1),
    ("livepatch-manifest", 1),
    ("livepatch-modsig", 1),
    ("livepatch-transparency", 1),
    ("livepatch-trust", 1),
    ("livepatch-confine", 2),
    ("livepatch-inspect", 2),
    ("livepatch-kbuild", 2),
    ("livepatch-kernel", 2),
    ("livepatch-loader-api", 2),
    ("livepatch-log", 2),
    ("livepatch-observer-api", 2),
    ("livepatch-settings", 2),
    ("livepatch-store", 2),
    ("livepatch-vm", 2),
    ("livepatch-agent", 3),
    ("livepatch-build", 3),
    ("livepatch-cli", 3),
    ("livepatch-loader", 3),
    ("livepatch-observer", 3),
    ("livepatch-server", 3),
    ("livepatch-manual", 4),
    ("livepatch-tests", 4),
    ("xtask", 4),
];

/// The top floor may import anything below it and the other crates of its own.
const TOP_FLOOR: u8 = 4;

/// What a crate without a right to a library may still do with it.
#[derive(Clone, Copy, PartialEq)]
enum Elsewhere {
    Never,
    InTests,
}

/// Libraries with one home.
const HOMES: &[(&str, &[&str], Elsewhere)] = &[
    ("sqlx", &["livepatch-store"], Elsewhere::Never),
    ("axum", &["livepatch-agent", "livepatch-server", "livepatch-tests"], Elsewhere::Never),
    ("axum-server", &["livepatch-agent", "livepatch-server", "livepatch-tests"], Elsewhere::Never),
    ("landlock", &["livepatch-confine"], Elsewhere::Never),
    ("libc", &["livepatch-confine"], Elsewhere::Never),
    ("seccompiler", &["livepatch-confine"], Elsewhere::Never),
    ("openssl", &["livepatch-build"], Elsewhere::InTests),
    ("openssl-sys", &[], Elsewhere::Never),
    ("rsa", &[], Elsewhere::Never),
];

/// What floors 0 and 1 (bytes and values) never use, not even in tests.
const NOT_ON_LOW_FLOORS: &[&str] = &["tokio", "reqwest"];

/// Where raw system calls live: the only crate that may say the word.
const HOME_OF_UNSAFE: &str = "livepatch-kernel";

/// `from` declares a dependency on `to`.
struct Edge<'a> {
    from: &'a str,
    to: &'a str,
    in_tests: bool,
}

fn floor(name: &str) -> Option<u8> {
    FLOORS.iter().find(|(known, _)| *known == name).map(|(_, floor)| *floor)
}

/// Why an edge must not be, if so.
fn objection(edge: &Edge<'_>) -> Option<String> {
    let Edge { from, to, in_tests } = *edge;
    let here = floor(from)?; // a crate without floor is reported by itself
    if let Some(there) = floor(to) {
        return (there >= here && here != TOP_FLOOR).then(|| {
            format!("{from} (floor {here}) imports {to} (floor {there}): only strictly lower floors may be imported")
        });
    }
    if here <= 1 && NOT_ON_LOW_FLOORS.contains(&to) {
        return Some(format!("{from} (floor {here}) imports {to}: floors 0 and 1 do no I/O"));
    }
    let (_, homes, elsewhere) = HOMES.iter().find(|(name, _, _)| *name == to)?;
    if homes.contains(&from) || (in_tests && *elsewhere == Elsewhere::InTests) {
        return None;
    }
    let homes = if homes.is_empty() { "no crate".to_owned() } else { homes.join(" and ") };
    Some(format!("{from} imports {to}: it is for {homes} only"))
}

/// The first line of a source that has one of the words that lift the ban on it. Line comments are cut off; the lint
/// `unsafe_code = "deny"` of the workspace does the exact work, this finds who lifts it.
fn line_with_unsafe(source: &str) -> Option<usize> {
    let words = [concat!("un", "safe"), concat!("un", "safe_code")];
    source.lines().position(|line| {
        let code = line.split_once("//").map_or(line, |(code, _)| code);
        code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| words.contains(&word))
    })
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn the_workspace_keeps_to_its_floors() -> TestResult {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let metadata = MetadataCommand::new().manifest_path(root).no_deps().exec()?;
    let mut objections = Vec::new();
    let mut seen = BTreeSet::new();
    for package in metadata.workspace_packages() {
        let from = package.name.as_str();
        seen.insert(from);
        if floor(from).is_none() {
            objections.push(format!("{from} has no floor: add it to FLOORS in crates/types/tests/floors.rs"));
        }
        for dependency in &package.dependencies {
            let in_tests = dependency.kind == DependencyKind::Development;
            objections.extend(objection(&Edge { from, to: &dependency.name, in_tests }));
        }
        let manifest = std::fs::read_to_string(&package.manifest_path)?;
        if !manifest.contains("[lints]\nworkspace = true") {
            objections.push(format!("{from} does not take the lints of the workspace"));
        }
        if from != HOME_OF_UNSAFE {
            let directory = package.manifest_path.parent().ok_or("a manifest without a directory")?;
            let mut files = Vec::new();
            rust_files(directory.as_std_path(), &mut files)?;
            for file in files {
                if let Some(line) = line_with_unsafe(&std::fs::read_to_string(&file)?) {
                    objections.push(format!(
                        "{}:{}: only {HOME_OF_UNSAFE} may be {}",
                        file.display(),
                        line + 1,
                        concat!("un", "safe")
                    ));
                }
            }
        }
    }
    assert!(seen.contains("livepatch-types") && seen.contains(HOME_OF_UNSAFE), "saw only {seen:?}");
    assert!(objections.is_empty(), "the house rules are broken:\n  {}", objections.join("\n  "));
    Ok(())
}

#[test]
fn what_is_forbidden_is_found() {
    let object = |from, to, in_tests| objection(&Edge { from, to, in_tests });
    for (from, to) in [
        ("livepatch-types", "livepatch-klp"),
        ("livepatch-manifest", "livepatch-modsig"),
        ("livepatch-agent", "livepatch-server"),
        ("livepatch-server", "livepatch-agent"),
        ("livepatch-agent", "livepatch-loader"),
        ("livepatch-loader", "livepatch-agent"),
        ("livepatch-build", "xtask"),
        ("livepatch-server", "sqlx"),
        ("livepatch-cli", "axum"),
        ("livepatch-api", "tokio"),
        ("livepatch-modsig", "reqwest"),
        ("livepatch-build", "rsa"),
    ] {
        assert!(object(from, to, false).is_some(), "{from} -> {to}");
        assert!(object(from, to, true).is_some(), "{from} -> {to} in tests");
    }
    assert!(object("livepatch-agent", "openssl", false).is_some());
    assert_eq!(object("livepatch-modsig", "openssl", true), None);
    assert_eq!(object("livepatch-build", "openssl", false), None);
    assert_eq!(object("livepatch-store", "sqlx", false), None);
    assert_eq!(object("livepatch-server", "livepatch-store", false), None);
    assert_eq!(object("xtask", "livepatch-agent", false), None);
    assert_eq!(
        object("livepatch-klp", "livepatch-vm", false).as_deref(),
        Some(
            "livepatch-klp (floor 1) imports livepatch-vm (floor 2): only strictly lower floors may be imported"
        )
    );
    let word = concat!("un", "safe");
    assert_eq!(line_with_unsafe(&format!("\nlet x = {word} {{ 1 }};")), Some(1));
    assert_eq!(line_with_unsafe(&format!("#![allow({word}_code)]")), Some(0));
    assert_eq!(line_with_unsafe(&format!("let x = 1; // not {word}\n//! {word}\nlet {word}ly = 2;")), None);
}
