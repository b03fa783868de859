//! Building a bundle's livepatch again, from the source patches in it: whoever has the kernel's packages can tell that a
//! module is what its sources make.

use livepatch_manifest::{Bundle, PatchManifest, sha256};
use livepatch_types::{Clock, Sha256Digest};
use serde::Serialize;

use crate::error::BuildError;
use crate::pipeline::{KernelRequest, LivepatchRequest, Omissions, PatchRequest, Progress, Workbench};

/// What building again showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// SHA-256 of the bundle's module without its signature.
    pub bundle: Sha256Digest,
    /// SHA-256 of the module that was built now.
    pub rebuilt: Sha256Digest,
    /// What differs; nothing: they are the same.
    pub differences: Vec<String>,
}

/// Why nothing could be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It was built before bundles held their sources, or these were taken out.
    #[error("the bundle does not hold the source patches it was built from")]
    NoSources,
    /// Building failed.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Builds the livepatch again and compares.
pub fn verify(
    bundle: &Bundle,
    kernel: &KernelRequest,
    clock: &dyn Clock,
    progress: &Progress<'_>,
) -> Result<Verification, VerifyError> {
    let sources = bundle.parsed_sources().map_err(BuildError::from)?.ok_or(VerifyError::NoSources)?;
    let bench = Workbench::open(kernel, progress)?;
    let patches = PatchRequest {
        patches: sources.patches.into_iter().map(|entry| entry.text).collect(),
        arguments: sources.arguments,
    };
    let livepatch = LivepatchRequest {
        cves: bundle.manifest.cves.clone(),
        version: bundle.manifest.version,
        omissions: Omissions::AsStated,
        keep_debug: false,
    };
    let rebuilt = bench.build(&patches, &livepatch, clock, progress)?.bundle;
    Ok(compare(bundle, &rebuilt))
}

/// Signature, date, report and proof are of one build; everything else must be the same.
fn compare(bundle: &Bundle, rebuilt: &Bundle) -> Verification {
    let module = livepatch_modsig::split(&bundle.module).map_or(bundle.module.as_slice(), |s| s.content);
    let mut differences = Vec::new();
    if module != rebuilt.module {
        let at = module.iter().zip(&rebuilt.module).take_while(|(a, b)| a == b).count();
        let (had, has) = (module.len(), rebuilt.module.len());
        differences
            .push(format!("module: the first other byte is at {at}; {had} bytes, and {has} built again"));
    }
    let PatchManifest { kernel, objects, compiler, .. } = &bundle.manifest;
    for (name, same) in [
        ("kernel", *kernel == rebuilt.manifest.kernel),
        ("patched functions", *objects == rebuilt.manifest.objects),
        ("compiler", *compiler == rebuilt.manifest.compiler),
    ] {
        if !same {
            differences.push(format!("manifest: other {name}"));
        }
    }
    Verification { bundle: sha256(module), rebuilt: sha256(&rebuilt.module), differences }
}
