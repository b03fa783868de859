//! The bill of materials: CycloneDX 1.5 in JSON, of what the shipped programs are linked from. From `cargo metadata`
//! and Cargo.lock; the C code in crates (aws-lc, SQLite, liblzma, zstd) goes with its crate.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::dist::packages::PACKAGES;
use crate::error::{Error, Exit};
use crate::process::{command, output};
use crate::test;

/// As much of `cargo metadata` as is needed.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Crate {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    /// None for crates of this workspace.
    source: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Debug, Deserialize)]
struct DependencyKind {
    /// None for what is linked; otherwise `dev` or `build`.
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Debug, Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The document. The same commit gives the same text.
pub(super) fn cyclonedx(workspace: &Path, version: &str, epoch: u64) -> Result<String, Error> {
    let mut ask = test::cargo(workspace);
    ask.args(["metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"]);
    let unreadable = |what: &str, detail: String| Error::Tool {
        what: format!("reading {what}"),
        message: detail,
        hint: None,
        exit: Exit::Failure,
    };
    let metadata: Metadata = serde_json::from_slice(&output(&mut ask)?)
        .map_err(|e| unreadable("cargo metadata", e.to_string()))?;
    let lock =
        fs::read_to_string(workspace.join("Cargo.lock")).map_err(|e| Error::io("read Cargo.lock", e))?;
    let lock: Lock = toml::from_str(&lock).map_err(|e| unreadable("Cargo.lock", e.to_string()))?;
    let time = output(
        command("date").args(["--utc", "--date"]).arg(format!("@{epoch}")).arg("+%Y-%m-%dT%H:%M:%SZ"),
    )?;
    let time = String::from_utf8_lossy(&time).trim().to_owned();
    Ok(format!("{:#}\n", document(&metadata, &lock, version, &time)))
}

fn document(metadata: &Metadata, lock: &Lock, version: &str, time: &str) -> Value {
    let crates: BTreeMap<&str, &Crate> = metadata.packages.iter().map(|c| (c.id.as_str(), c)).collect();
    let linked: BTreeMap<&str, Vec<&str>> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), needs(node))).collect();
    let shipped: Vec<&str> = PACKAGES.iter().flat_map(|p| p.programs).map(|program| program.cargo).collect();
    let roots = crates.values().filter(|c| c.source.is_none() && shipped.contains(&c.name.as_str()));
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> = roots.clone().map(|root| root.id.as_str()).collect();
    while let Some(id) = open.pop() {
        if reached.insert(id) {
            open.extend(linked.get(id).into_iter().flatten());
        }
    }
    let sums: BTreeMap<(&str, &str), &str> = lock
        .package
        .iter()
        .filter_map(|p| Some(((p.name.as_str(), p.version.as_str()), p.checksum.as_deref()?)))
        .collect();

    let mut parts: Vec<&Crate> = reached.iter().filter_map(|id| crates.get(id).copied()).collect();
    parts.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    let components: Vec<Value> = parts.iter().map(|part| component(part, &sums)).collect();
    let product = format!("pkg:generic/livepatch@{version}");
    let mut dependencies = vec![json!({ "ref": product, "dependsOn": sorted(roots.map(|root| purl(root))) })];
    dependencies.extend(parts.iter().map(|part| {
        let needs = linked.get(part.id.as_str()).into_iter().flatten();
        let needs = needs.filter_map(|id| crates.get(id)).map(|needed| purl(needed));
        json!({ "ref": purl(part), "dependsOn": sorted(needs) })
    }));
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": time,
            "component": {
                "type": "application", "bom-ref": product, "name": "livepatch", "version": version, "purl": product,
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
            },
        },
        "components": components,
        "dependencies": dependencies,
    })
}

/// What of a crate's dependencies ends up in a program, or in the code that makes it.
fn needs(node: &Node) -> Vec<&str> {
    let shipped = |kinds: &[DependencyKind]| kinds.iter().any(|k| k.kind.as_deref() != Some("dev"));
    node.deps.iter().filter(|d| shipped(&d.dep_kinds)).map(|d| d.pkg.as_str()).collect()
}

fn component(part: &Crate, sums: &BTreeMap<(&str, &str), &str>) -> Value {
    let mut component = json!({
        "type": "library", "bom-ref": purl(part), "name": part.name, "version": part.version, "purl": purl(part),
    });
    if let Some(license) = &part.license {
        // An older way to write it: MIT/Apache-2.0.
        component["licenses"] = json!([{ "expression": license.replace('/', " OR ") }]);
    }
    if let Some(sum) = sums.get(&(part.name.as_str(), part.version.as_str())) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
    }
    component
}

fn purl(part: &Crate) -> String {
    format!("pkg:cargo/{}@{}", part.name, part.version.replace('+', "%2B"))
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let texts: BTreeSet<String> = texts.collect();
    texts.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn krate(name: &str, source: Option<&str>) -> Value {
        json!({ "id": name, "name": name, "version": "1.0.0+x", "license": "MIT/Apache-2.0", "source": source })
    }

    #[test]
    fn what_is_linked_is_listed_and_what_only_tests_use_is_not() {
        let metadata = json!({
            "packages": [krate("livepatch-cli", None), krate("used", Some("r")), krate("tested", Some("r"))],
            "resolve": { "nodes": [
                { "id": "livepatch-cli", "deps": [
                    { "pkg": "used", "dep_kinds": [{ "kind": null }] },
                    { "pkg": "tested", "dep_kinds": [{ "kind": "dev" }] },
                ] },
                { "id": "used", "deps": [] },
                { "id": "tested", "deps": [] },
            ] },
        });
        let metadata: Metadata = serde_json::from_value(metadata).unwrap();
        let lock: Lock =
            toml::from_str("[[package]]\nname = \"used\"\nversion = \"1.0.0+x\"\nchecksum = \"ab\"\n")
                .unwrap();
        let document = document(&metadata, &lock, "2", "T");
        let names: Vec<&str> =
            document["components"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["livepatch-cli", "used"]);
        assert_eq!(document["components"][1]["hashes"][0]["content"], "ab");
        assert_eq!(document["components"][1]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(document["dependencies"][0]["dependsOn"][0], "pkg:cargo/livepatch-cli@1.0.0%2Bx");
        assert_eq!(document["dependencies"][1]["dependsOn"][0], "pkg:cargo/used@1.0.0%2Bx");
    }
}
