//! What the vendor says of a livepatch that the operator offers, as a pure function.

use jiff::Timestamp;
use livepatch_kernel::LoadedModule;
use livepatch_manifest::KernelDocument;
use livepatch_trust::{Candidate, FileMeta, Hashes, KernelAllowance, Refusal};
use livepatch_types::{KernelIdentity, PatchVersion};

use super::{Gate, problems};
use crate::Problem;

/// What the vendor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Everything that was ever withdrawn for the kernel. It must not run, nor come back after a boot.
    pub withdrawn: Vec<PatchVersion>,
    /// Whether what the document names may be installed. None: no root of the vendor's is pinned on this host.
    pub install: Result<Option<KernelAllowance>, Problem>,
}

impl Default for Verdict {
    /// Of a host where the vendor's certificate alone counts.
    fn default() -> Self {
        Self { withdrawn: vec![], install: Ok(None) }
    }
}

impl Verdict {
    /// The verdict on the target of a document; without one there is nothing to install.
    pub(crate) fn of(
        gate: &Gate,
        kernel: &KernelIdentity,
        document: Option<&KernelDocument>,
        now: Timestamp,
    ) -> Self {
        let withdrawn = gate.kept.as_ref().map(|kept| kept.withdrawn(kernel)).unwrap_or_default();
        Self { withdrawn, install: install(gate, kernel, document, now) }
    }

    /// Whether a module may be installed, once its bytes are sealed and its signer is known.
    pub(crate) fn check_module(
        &self,
        kernel: &KernelIdentity,
        version: PatchVersion,
        module: &[u8],
        signer: &str,
        loaded: Vec<LoadedModule>,
    ) -> Result<(), Problem> {
        let Some(allowance) = self.install.as_ref().map_err(Clone::clone)? else { return Ok(()) };
        let modules_here: Vec<_> =
            loaded.into_iter().filter_map(|module| Some((module.name, module.build_id?))).collect();
        let candidate = Candidate { kernel, version, module, signer, modules_here: &modules_here };
        allowance.install(&candidate).map(drop).map_err(Problem::from)
    }
}

fn install(
    gate: &Gate,
    kernel: &KernelIdentity,
    document: Option<&KernelDocument>,
    now: Timestamp,
) -> Result<Option<KernelAllowance>, Problem> {
    if let Some(problem) = &gate.problem {
        return Err(problem.clone());
    }
    let Some(kept) = &gate.kept else { return Ok(None) };
    if let Some(named) = document.and_then(|document| document.vendor.as_ref()) {
        let ours = kept.repository();
        if named.repository != ours.as_str() {
            let (expected, actual) = (ours.to_string(), named.repository.chars().take(80).collect());
            return Err(Refusal::WrongRepository { expected, actual }.into());
        }
        // Metadata that is held back may be a withdrawal.
        if kept.is_older_than(named) {
            return Err(problems::behind(ours));
        }
        // Whoever has the online key may show one timestamp to the operator and another one to hosts.
        kept.check_named(named)?;
    }
    let Some(of) = kept.newest(kernel) else {
        return Err(problems::unseen(kept.repository()));
    };
    kept.check_time(now)?;
    let unknown = || Refusal::UnknownKernel(Box::new(kernel.clone()));
    let allowance = of.allowance.as_ref().ok_or_else(unknown)?;
    if let Some(target) = document.and_then(|document| document.target.as_ref()) {
        let listed = &allowance.listed(kernel, target.version)?.module;
        let hashes = Hashes { sha256: target.module.sha256 };
        let offered = FileMeta { length: target.module.size_bytes, hashes };
        if offered != *listed {
            let (expected, actual) = (listed.hashes.sha256, target.module.sha256);
            return Err(Refusal::WrongHash { what: "the module".into(), expected, actual }.into());
        }
    }
    Ok(Some(allowance.clone()))
}
