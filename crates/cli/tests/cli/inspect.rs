//! `livepatch inspect`: all of a bundle, from whomever it comes.

use std::collections::BTreeMap;

use livepatch_manifest::*;
use livepatch_types::*;

use crate::support::*;

fn kernel() -> KernelIdentity {
    KernelIdentity {
        architecture: Architecture::Amd64,
        release: KernelRelease::parse("6.1.0-50-cloud-amd64").unwrap(),
        build_id: BuildId::from_bytes(&[1; 20]).unwrap(),
    }
}

fn bundle(module: Vec<u8>) -> Bundle {
    let object = |name: &str, byte| PatchedObject {
        name: ModuleName::parse(name).unwrap().into(),
        build_id: BuildId::from_bytes(&[byte; 20]).unwrap(),
        functions: vec![PatchedFunction { name: "f".into(), sympos: 0 }],
    };
    let cve = CveEntry {
        id: CveId::parse("CVE-2026-1001").unwrap(),
        coverage: CveCoverage::Partial,
        rating: Rating::High,
        title: "net: a use\u{1b}[31m after free".into(),
    };
    let manifest = PatchManifest {
        schema: 1,
        version: PatchVersion::parse("1.1").unwrap(),
        kernel: kernel(),
        module: ModuleObject { sha256: sha256(&module), size_bytes: module.len() as u64 },
        objects: vec![object("vmlinux", 1), object("cls_u32", 2)],
        cves: vec![cve],
        built: jiff::Timestamp::UNIX_EPOCH,
        compiler: "gcc-12".into(),
        sections: BTreeMap::new(),
    };
    Bundle::new(manifest, module, Some(br#"{"units":[],"toolchain":{"name":"host"}}"#.to_vec())).unwrap()
}

/// The same with sources and a proof.
fn full() -> Bundle {
    let entry = SourceEntry {
        cves: vec![CveId::parse("CVE-2026-1001").unwrap()],
        upstream: Some("0123456789ab".into()),
        r#override: Some("it is bad".into()),
        text: "--- a/x\n+++ b/x\n".into(),
    };
    let plain = SourceEntry { cves: vec![], upstream: None, r#override: None, text: "y".into() };
    let arguments = vec![("a place".into(), "a reason".into())];
    let sources = PatchSources { schema: 1, patches: vec![entry, plain], arguments };
    let step = |failure| ProofStep { what: "loaded".into(), milliseconds: 1500, failure };
    let check = ProofCheck {
        cve: CveId::parse("CVE-2026-1001").unwrap(),
        program: sha256(b"p"),
        said: [("loaded".to_owned(), "fixed".to_owned())].into(),
    };
    let proof = VmProof {
        schema: 1,
        module: sha256(b"m"),
        kernel: kernel(),
        machine: "QEMU 7".into(),
        result: ProofResult::Failed,
        steps: vec![step(None), step(Some("it is so".into()))],
        checks: vec![check],
        previous: Some(PatchVersion::parse("1.0").unwrap()),
        log: "log".into(),
    };
    let module = include_bytes!("../../../../fuzz/seeds/module_signature/unsigned").to_vec();
    bundle(module).with_sources(&sources).unwrap().with_proof(&proof).unwrap()
}

fn inspect(bytes: &[u8], arguments: &[&str]) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fix.lpb");
    std::fs::write(&file, bytes).unwrap();
    let output = livepatch(directory.path(), &[&["inspect", file.to_str().unwrap()], arguments].concat(), "");
    let said = text(&output.stderr).replace(directory.path().to_str().unwrap(), "DIRECTORY");
    (output.status.code(), text(&output.stdout).to_owned(), said)
}

#[test]
fn a_bundle_is_shown_whole() {
    let (code, shown, _) = inspect(&full().to_bytes(), &[]);
    assert_eq!(code, Some(0));
    insta::assert_snapshot!(shown, @"
    livepatch  1.1
    kernel     6.1.0-50-cloud-amd64 amd64
    build-id   0101010101010101010101010101010101010101
    module     1193b16c6dd9194d279247d0f21b8889f9e31b8cb476ce04a3a024c560bb9459 (464 bytes)
    signed     no
    licence    GPL
    built      1970-01-01T00:00:00Z
    carries    none
    logged     no
    bytes      2496 (manifest 1198, module 464, signature 0, report 40, sources 178, proof 520, vendor 0, logged 0)
    object     vmlinux build-id 0101010101010101010101010101010101010101
    function   vmlinux:f (place 0)
    object     cls_u32 build-id 0202020202020202020202020202020202020202
    function   cls_u32:f (place 0)
    cve        CVE-2026-1001 (partial) net: a use [31m after free
    source     922dd52a81ff1c3d456cb861de7ad959496295c809971e848d414d3cdfe3fb23 (16 bytes) upstream 0123456789ab CVE-2026-1001
    source     a1fce4363854ff888cff4b8e7875d600c2682390412a8cf79b37d0b11148b0fa (1 bytes)
    compiler   gcc-12
    toolchain  host, sandbox: ?
    fidelity   0 functions of 0 units are as shipped, 0 not compared
    proof      FAILED
    kernel     6.1.0-50-cloud-amd64 in QEMU 7
         1.5 s  loaded
         1.5 s  loaded  FAILED: it is so
      check CVE-2026-1001 loaded: fixed
    ");
}

#[test]
fn the_form_for_programs_is_that_of_its_schema() {
    let schema = include_str!("../../../../docs/schema/inspect.schema.json");
    let schema = jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap();
    for bundle in [full(), bundle(b"no module".to_vec())] {
        let (code, shown, _) = inspect(&bundle.to_bytes(), &["--format", "json"]);
        assert_eq!(code, Some(0));
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let fits = schema.validate(&shown).map_err(|error| error.to_string());
        assert_eq!(fits, Ok(()), "{shown}");
        for key in shown.as_object().unwrap().keys().filter(|key| *key != "sections") {
            let mut without = shown.clone();
            without.as_object_mut().unwrap().remove(key);
            assert!(!schema.is_valid(&without), "{key} can be left out");
        }
    }
}

#[test]
fn what_is_no_bundle() {
    let mut cut = full().to_bytes();
    cut.pop();
    for (bytes, why) in
        [(&b"PK"[..], "not a livepatch bundle: the magic bytes are missing"), (&cut, "the bundle has ")]
    {
        let (code, shown, said) = inspect(bytes, &[]);
        assert_eq!((code, shown.as_str()), (Some(1), ""));
        let expected = format!("error: cannot read the bundle DIRECTORY/fix.lpb: {why}");
        assert!(said.starts_with(&expected), "{said}");
    }
}
