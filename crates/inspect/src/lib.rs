//! Floor 2: what a bundle holds, for people and programs; the same in `livepatch inspect` and `livepatch-build inspect`. Pure.
//!
//! Nothing is verified here but what [`Bundle::parse`] checks: whoever applies a bundle verifies it.

use livepatch_manifest::{
    Bundle, BundleError, PatchManifest, PatchSources, ProofResult, VendorFiles, VmProof, sha256,
};
use livepatch_modsig::module_info;
use livepatch_transparency::{Entry, LoggedProof};
use livepatch_types::{CveCoverage, Sha256Digest, plural};
use serde::Serialize;
use serde_json::Value;

/// The manifest, and what else is in the bundle.
#[derive(Debug, Serialize)]
pub struct Inspected<'b> {
    #[serde(flatten)]
    manifest: &'b PatchManifest,
    /// Whether it carries a signature; that is not verified here.
    signed: bool,
    /// The licence that the module states to the kernel (`MODULE_LICENSE`).
    license: Option<String>,
    /// Length of each part in bytes.
    sizes: Sizes,
    /// Each source patch: what it is for, and the digest of its text.
    source_patches: Vec<SourceReference>,
    sources: Option<PatchSources>,
    /// Functions of the units that were proven to be as shipped.
    fidelity: Fidelity,
    /// The build report: toolchain with its packages, findings, units.
    report: Option<Value>,
    proof: Option<VmProof>,
    /// Files of the vendor's repository that it carries, for hosts without a server.
    vendor: Vec<String>,
    /// That it is in a transparency log, as the proof says that it carries; not verified here.
    logged: Option<Logged>,
}

#[derive(Debug, Serialize)]
struct Logged {
    log: String,
    entry: u64,
    entries: u64,
    at: jiff::Timestamp,
}

#[derive(Debug, Serialize)]
struct Sizes {
    bundle_bytes: usize,
    manifest_bytes: usize,
    module_bytes: usize,
    signature_bytes: usize,
    report_bytes: usize,
    sources_bytes: usize,
    proof_bytes: usize,
    vendor_bytes: usize,
    logged_bytes: usize,
}

#[derive(Debug, Serialize)]
struct SourceReference {
    cves: Vec<String>,
    upstream: Option<String>,
    sha256: Sha256Digest,
    size_bytes: usize,
}

#[derive(Debug, Default, Serialize)]
struct Fidelity {
    units: usize,
    identical_functions: u64,
    not_compared: usize,
}

/// Reads all parts.
pub fn inspect(bundle: &Bundle) -> Result<Inspected<'_>, BundleError> {
    let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, Vec::len);
    let report: Option<Value> = match &bundle.report {
        Some(bytes) => {
            Some(serde_json::from_slice(bytes).map_err(|e| BundleError::Part("report", e.to_string()))?)
        }
        None => None,
    };
    let sources = bundle.parsed_sources()?;
    let vendor = bundle.parsed_vendor()?;
    let source_patches = sources.iter().flat_map(|sources| &sources.patches).map(|patch| SourceReference {
        cves: patch.cves.iter().map(ToString::to_string).collect(),
        upstream: patch.upstream.clone(),
        sha256: sha256(patch.text.as_bytes()),
        size_bytes: patch.text.len(),
    });
    let units = report.as_ref().and_then(|report| report["units"].as_array()).into_iter().flatten();
    let fidelity = units.fold(Fidelity::default(), |sum, unit| Fidelity {
        units: sum.units + 1,
        identical_functions: sum.identical_functions
            + unit["identical_functions"].as_u64().unwrap_or_default(),
        not_compared: sum.not_compared + unit["not_compared"].as_array().map_or(0, Vec::len),
    });
    Ok(Inspected {
        manifest: &bundle.manifest,
        signed: bundle.signature.is_some(),
        license: module_info(&bundle.module)
            .ok()
            .and_then(|info| info.get_unique("license").ok().map(str::to_owned)),
        sizes: Sizes {
            bundle_bytes: bundle.to_bytes().len(),
            manifest_bytes: bundle.manifest_bytes.len(),
            module_bytes: bundle.module.len(),
            signature_bytes: length(&bundle.signature),
            report_bytes: length(&bundle.report),
            sources_bytes: length(&bundle.sources),
            proof_bytes: length(&bundle.proof),
            vendor_bytes: length(&bundle.vendor),
            logged_bytes: length(&bundle.logged),
        },
        source_patches: source_patches.collect(),
        fidelity,
        report,
        proof: bundle.parsed_proof()?,
        vendor: vendor.iter().flat_map(VendorFiles::paths).map(str::to_owned).collect(),
        logged: bundle.logged.as_deref().map(logged).transpose()?,
        sources,
    })
}

fn logged(bytes: &[u8]) -> Result<Logged, BundleError> {
    let read = || {
        let proof = LoggedProof::parse(bytes)?;
        let head = proof.stated_head()?;
        let at = Entry::parse(&proof.entry)?.at;
        Ok(Logged { log: head.origin, entry: proof.index, entries: head.size, at })
    };
    read().map_err(|error: livepatch_transparency::Refusal| BundleError::Part("logged", error.to_string()))
}

impl Inspected<'_> {
    /// For people.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        self.what_it_is(&mut lines);
        self.what_it_does(&mut lines);
        self.what_it_was_made_of(&mut lines);
        let mut text = String::new();
        for (name, value) in lines {
            text.push_str(&format!("{name:<10} {}\n", plain(&value)));
        }
        text + &self.proof.as_ref().map_or("proof      none\n".to_owned(), proof_text)
    }

    fn what_it_is(&self, lines: &mut Vec<(&'static str, String)>) {
        let (manifest, sizes) = (self.manifest, &self.sizes);
        lines.push(("livepatch", manifest.version.to_string()));
        lines.push(("kernel", format!("{} {}", manifest.kernel.release, manifest.kernel.architecture)));
        lines.push(("build-id", manifest.kernel.build_id.to_string()));
        lines.push(("module", format!("{} ({} bytes)", manifest.module.sha256, manifest.module.size_bytes)));
        lines.push(("signed", if self.signed { "yes, not verified here" } else { "no" }.into()));
        lines.push(("licence", self.license.clone().unwrap_or_else(|| "not stated by the module".into())));
        lines.push(("built", manifest.built.to_string()));
        let parts = [
            ("manifest", sizes.manifest_bytes),
            ("module", sizes.module_bytes),
            ("signature", sizes.signature_bytes),
            ("report", sizes.report_bytes),
            ("sources", sizes.sources_bytes),
            ("proof", sizes.proof_bytes),
            ("vendor", sizes.vendor_bytes),
            ("logged", sizes.logged_bytes),
        ];
        let parts: Vec<String> = parts.iter().map(|(name, bytes)| format!("{name} {bytes}")).collect();
        let carried = if self.vendor.is_empty() { "none".to_owned() } else { self.vendor.join(" ") };
        lines.push(("carries", carried));
        let logged = self.logged.as_ref().map_or("no".to_owned(), |Logged { log, entry, entries, at }| {
            format!("entry {entry} of {entries} in {log}, at {at} (not verified here)")
        });
        lines.push(("logged", logged));
        lines.push(("bytes", format!("{} ({})", sizes.bundle_bytes, parts.join(", "))));
    }

    fn what_it_does(&self, lines: &mut Vec<(&'static str, String)>) {
        for object in &self.manifest.objects {
            lines.push(("object", format!("{} build-id {}", object.name, object.build_id)));
            for function in &object.functions {
                let place = format!("{}:{} (place {})", object.name, function.name, function.sympos);
                lines.push(("function", place));
            }
        }
        for cve in &self.manifest.cves {
            let partial = if cve.coverage == CveCoverage::Partial { " (partial)" } else { "" };
            lines.push(("cve", format!("{}{partial} {}", cve.id, cve.title)));
        }
    }

    fn what_it_was_made_of(&self, lines: &mut Vec<(&'static str, String)>) {
        for source in &self.source_patches {
            let cves = source.cves.join(" ");
            let upstream = source.upstream.as_ref().map(|id| format!(" upstream {id}")).unwrap_or_default();
            let size = source.size_bytes;
            let what = format!("{} ({size} bytes){upstream} {cves}", source.sha256);
            lines.push(("source", what.trim_end().to_owned()));
        }
        if self.source_patches.is_empty() {
            lines.push(("source", "none".into()));
        }
        lines.push(("compiler", self.manifest.compiler.clone()));
        if let Some(report) = &self.report {
            let toolchain = &report["toolchain"];
            let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
            lines.push((
                "toolchain",
                format!("{}, sandbox: {}", word(&toolchain["name"]), word(&toolchain["sandbox"])),
            ));
            for package in toolchain["packages"].as_array().into_iter().flatten() {
                lines.push(("package", format!("{} {}", word(&package["name"]), word(&package["version"]))));
            }
        }
        let Fidelity { units, identical_functions, not_compared } = self.fidelity;
        lines.push((
            "fidelity",
            format!(
                "{} functions of {} are as shipped, {not_compared} not compared",
                identical_functions,
                plural(units, "unit", "units")
            ),
        ));
    }
}

/// A proof, for people.
pub fn proof_text(proof: &VmProof) -> String {
    let passed = proof.result == ProofResult::Passed;
    let mut text = format!("proof      {}\n", if passed { "passed" } else { "FAILED" });
    text.push_str(&format!("kernel     {} in {}\n", proof.kernel.release, plain(&proof.machine)));
    for step in &proof.steps {
        let seconds = step.milliseconds as f64 / 1000.0;
        let failure = step.failure.as_ref().map(|why| format!("  FAILED: {why}")).unwrap_or_default();
        text.push_str(&format!("  {seconds:>6.1} s  {}\n", plain(&format!("{}{failure}", step.what))));
    }
    for check in &proof.checks {
        let said: Vec<String> = check.said.iter().map(|(state, word)| format!("{state}: {word}")).collect();
        text.push_str(&format!("  check {} {}\n", check.cve, plain(&said.join(", "))));
    }
    if proof.checks.is_empty() {
        text.push_str("no check program was given: that the fixes work was not tried\n");
    }
    text
}

/// A bundle may come from anybody: nothing in it controls the terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
