//! Checking offline that a bundle is in a log.

use std::path::Path;

use livepatch_manifest::{Bundle, bundle::MAX_BUNDLE_BYTES, sha256};
use livepatch_transparency::{BundleEvent, LoggedProof, MAX_PROOF_BYTES, Refusal};
use serde_json::json;

use super::commands::read_key;
use crate::arguments::Format;
use crate::data_dir::read_capped;
use crate::output::print;
use crate::{Exit, Failure};

/// What the log must say about a bundle.
fn event(bundle: &Bundle) -> BundleEvent {
    let manifest = &bundle.manifest;
    BundleEvent {
        name: manifest.version.module_name().to_string(),
        version: manifest.version,
        kernel: manifest.kernel.clone(),
        manifest_sha256: sha256(&bundle.manifest_bytes),
        module_sha256: sha256(&bundle.module),
    }
}

/// Checks a bundle with its proof and the log's key.
pub(crate) fn check(bundle: &Path, proof: &Path, key: &Path, format: Format) -> Result<(), Failure> {
    let key = read_key(key)?;
    let bytes = read_capped(bundle, MAX_BUNDLE_BYTES)?;
    let parsed = Bundle::parse(&bytes).map_err(|error| {
        Failure::new(Exit::Refused, error).context(format!("cannot check {}", bundle.display()))
    })?;
    let refused = |refusal: Refusal| {
        let hint = refusal.hint();
        Failure::new(Exit::Refused, refusal)
            .context(format!("{} does not show that the bundle is in the log", proof.display()))
            .hint(hint)
    };
    let bytes = read_capped(proof, MAX_PROOF_BYTES as u64)?;
    let proven = LoggedProof::parse(&bytes).and_then(|proof| proof.verify(&key)).map_err(refused)?;
    proven.check_bundle(&event(&parsed)).map_err(refused)?;
    let (index, head) = (proven.index, proven.checkpoint);
    match format {
        Format::Text => print(&format!(
            "bundle {} for {} is entry {index} of the log {}\n  published  {}\n  head       {} entries, root {}\n",
            parsed.manifest.version,
            parsed.manifest.kernel.release,
            head.origin,
            proven.entry.at,
            head.size,
            head.root,
        )),
        Format::Json => {
            let object = json!({
                "log": head.origin, "index": index, "size": head.size, "root": head.root, "entry": proven.entry,
            });
            print(&format!("{object:#}\n"))
        }
    }
}
