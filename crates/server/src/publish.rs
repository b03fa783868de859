use std::io::Read as _;
use std::path::Path;

use jiff::Timestamp;
use livepatch_manifest::bundle::MAX_BUNDLE_BYTES;
use livepatch_manifest::{Bundle, ProofResult};
use livepatch_store::{NewPatch, Published, Store as _, StoreError};
use livepatch_types::{Tier, plural};

use crate::document::MAX_TARGET_BYTES;
use crate::{DataDir, Exit, Failure, output, vendor};

/// Publishes a bundle in a tier; what to tell the operator.
pub(crate) async fn publish(
    data: &DataDir,
    path: &Path,
    tier: &Tier,
    unproven: Option<&str>,
    now: Timestamp,
) -> Result<String, Failure> {
    let bundle = read(path)?;
    let vendors = vendor::trusted(data)?;
    let signer = vendor::verify(&bundle, &vendors)?;
    let proof = proof(&bundle, unproven)?;
    let manifest = bundle.manifest.clone();
    let cves = serde_json::to_vec(&manifest.cves).map_or(usize::MAX, |json| json.len());
    if cves > MAX_TARGET_BYTES {
        return Err(Failure::refused(format!(
            "the patch names so many CVEs that the document for hosts would be too large: {}",
            plural(manifest.cves.len(), "CVE", "CVEs")
        ))
        .hint("split it into several patches"));
    }
    let manifest_text = String::from_utf8(bundle.manifest_bytes)
        .map_err(|_| Failure::refused("the bundle's manifest is not text"))?;

    let signature = bundle.signature.unwrap_or_default();
    let patch =
        NewPatch { manifest: manifest.clone(), manifest_text, signature, tier: tier.clone(), at: now };
    let (published, facts) = data
        .with_store(async |store| {
            let known = store.tiers().await?;
            if !known.contains(tier) {
                let known = known.iter().map(Tier::to_string).collect();
                return Err(StoreError::UnknownTier { tier: tier.clone(), known }.into());
            }
            // The module first: a row must never speak of a file that is not there. A file without a row is not served.
            data.objects().put(&bundle.module)?;
            let published = store.publish(&patch).await?;
            Ok((published, store.document_facts(&manifest.kernel.build_id, tier).await?))
        })
        .await?;

    let (version, kernel) = (manifest.version, &manifest.kernel);
    let headline = match published {
        Published::New => format!("published patch {version} in tier {tier}"),
        Published::AddedToTier => format!("added patch {version} to tier {tier}"),
        Published::Unchanged => format!("patch {version} is in tier {tier} already; nothing changed"),
    };
    let cves: Vec<_> = manifest.cves.iter().map(output::cve).collect();
    let target = facts.and_then(|facts| facts.target).map(|(manifest, _)| manifest.version);
    let effect = match target {
        Some(newer) if newer != version => {
            format!("hosts of this kernel in tier {tier} stay with {newer}, which is newer")
        }
        _ => format!("hosts of this kernel in tier {tier} apply it after their next check"),
    };
    Ok(format!(
        "{headline}\n  kernel  {} (build-id {})\n  module  {} ({} bytes)\n  vendor  {}\n  proof   {proof}\n  cves    {}\n{effect}\n",
        kernel.release,
        kernel.build_id,
        manifest.module.sha256,
        manifest.module.size_bytes,
        signer.subject(),
        if cves.is_empty() { "none".to_owned() } else { cves.join(", ") },
    ))
}

/// What is said of the bundle's proof. Without a passed one of exactly this module and kernel, somebody must say why it
/// is published all the same. The vendor's signature, which was verified, covers the proof.
fn proof(bundle: &Bundle, unproven: Option<&str>) -> Result<String, Failure> {
    let proof = bundle.parsed_proof().map_err(|error| Failure::new(Exit::Refused, error))?;
    let module =
        livepatch_modsig::split(&bundle.module).map_or(bundle.module.as_slice(), |signed| signed.content);
    let why = match &proof {
        Some(proof) if proof.is_of(module, &bundle.manifest.kernel) => {
            return Ok(format!(
                "passed, {} in {}",
                plural(proof.steps.len(), "step", "steps"),
                proof.machine.chars().filter(|c| !c.is_control()).take(80).collect::<String>()
            ));
        }
        Some(proof) if proof.result == ProofResult::Failed => "its proof in a virtual machine failed",
        Some(_) => "its proof is of another module or kernel",
        None => "no virtual machine has proven it",
    };
    match unproven.map(str::trim) {
        Some(reason) if !reason.is_empty() => {
            tracing::warn!(version = %bundle.manifest.version, why, reason, "published without proof");
            Ok(format!("none: {why}; published because: {reason}"))
        }
        _ => Err(Failure::refused(format!("the bundle is not published: {why}")).hint(
            "prove it with `livepatch-build prove` before it is signed, or say why it needs none: --unproven REASON",
        )),
    }
}

fn read(path: &Path) -> Result<Bundle, Failure> {
    let named = |failure: Failure| {
        failure
            .context(format!("cannot publish {}", path.display()))
            .hint("give the .lpb file that `livepatch-build` wrote; if it was copied, compare checksums")
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_BUNDLE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| named(Failure::new(Exit::Refused, error)))?;
    if bytes.len() as u64 > MAX_BUNDLE_BYTES {
        return Err(named(Failure::refused("it is larger than any bundle may be")));
    }
    Bundle::parse(&bytes).map_err(|error| named(Failure::new(Exit::Refused, error)))
}
