use std::collections::BTreeMap;

use livepatch_types::{CveId, KernelIdentity, PatchVersion, Sha256Digest};
use serde::{Deserialize, Serialize};

/// The source patches that a livepatch was built from, in order: with them it can be built again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchSources {
    /// Version of this format: 1.
    pub schema: u32,
    /// The patches.
    pub patches: Vec<SourceEntry>,
    /// What a person said about places that are left out: place, reason.
    pub arguments: Vec<(String, String)>,
}

/// One source patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceEntry {
    /// The CVEs that it fixes; none: all that the livepatch is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cves: Vec<CveId>,
    /// The commit upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Why it is in, although the rating of its CVE is below high.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#override: Option<String>,
    /// Unified diff.
    pub text: String,
}

/// What happened when the livepatch was loaded into its kernel in a virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmProof {
    /// Version of this format: 1.
    pub schema: u32,
    /// SHA-256 of the module without signature.
    pub module: Sha256Digest,
    /// The kernel that was booted.
    pub kernel: KernelIdentity,
    /// The virtual machine: first line of QEMU's `--version`.
    pub machine: String,
    /// How it went.
    pub result: ProofResult,
    /// What was done, in order. After a failure nothing more is.
    pub steps: Vec<ProofStep>,
    /// What check programs said.
    pub checks: Vec<ProofCheck>,
    /// The livepatch before, if going from it and back was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PatchVersion>,
    /// The kernel's log, cut in the middle if it is long.
    pub log: String,
}

/// How a proof went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProofResult {
    /// All was as it must be.
    Passed,
    /// A step failed.
    Failed,
}

/// One step of a proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofStep {
    /// What was done.
    pub what: String,
    /// How long it took.
    pub milliseconds: u64,
    /// Why it failed; none: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// What one check program said in each state of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProofCheck {
    /// The CVE that it tells of.
    pub cve: CveId,
    /// SHA-256 of the program's file.
    pub program: Sha256Digest,
    /// Word by state of the kernel: `vulnerable` or `fixed`.
    pub said: BTreeMap<String, String>,
}

impl VmProof {
    /// Whether it is a passed proof of this module (its bytes without signature) on this kernel.
    pub fn is_of(&self, module: &[u8], kernel: &KernelIdentity) -> bool {
        self.result == ProofResult::Passed
            && self.steps.iter().all(|step| step.failure.is_none())
            && self.module == crate::sha256(module)
            && self.kernel == *kernel
    }
}
